/* texts.h - the words of a run: prompts into token ids, answers back into text. */
#ifndef HARNESS_TEXTS_H
#define HARNESS_TEXTS_H

#include "harness/prompts.h"
#include "harness/replay.h"
#include "models/load.h"

struct texts {
    struct tokenizer *t;           /* NULL: the model is a shape, which has none, or its folder has none */
    const char *folder;            /* that folder, else NULL */
    struct prompts counter;
    struct text_out out;
    const char *strategy;          /* of the run that is shown */
    const char *chat;              /* the chat form that prompts are put into; NULL: they stay as they are */
    char note[200];                /* "" or what became of the trace's texts */
};
/* Before the trace is read: opens the model's tokenizer, and lets o count tokens with it. show: answers will be
 * shown; chat: prompts become turns of a chat; both need a tokenizer, chat one with a known template. */
int  texts_open(struct texts *x, const struct model_files *f, bool show, bool chat, struct text_options *o,
                struct err *e);
/* After: gives each row with a text its token ids. A shape has no tokenizer: the note says that texts were not used;
 * for a real model without one they are refused.
 * A trace without any text is refused where chat was asked for. */
int  texts_encode(struct texts *x, struct trace *t, uint32_t max_context, struct err *e);
/* A model may write anything: what a terminal would obey becomes a dot. */
void texts_printable(struct text_out *out);
/* For replay_conf.on_done: prints what one request was answered. */
void texts_show(void *self, const struct replay_done *d);
void texts_close(struct texts *x);

#endif
