/* prompts.h - between the texts of a trace and the tokenizer of a model: workloads/ knows no
 * tokenizer, text/ no trace. */
#ifndef HARNESS_PROMPTS_H
#define HARNESS_PROMPTS_H

#include "text/tokenizer.h"
#include "workloads/trace.h"

/* How a text is put to a model: as it stands, with these flags of tokenizer_encode, or as a user's turn in the
 * model's chat form (text/chat.c), after `system` (NULL: what the form says itself). */
struct prompt_form { bool chat; const char *system; unsigned flags; };
/* The ids are appended. Every verb that asks a model something comes here. */
int  prompt_ids(struct tokenizer *t, const struct prompt_form *f, const char *text, struct token_ids *out,
                struct err *e);

struct prompts { struct tokenizer *t; struct token_ids ids; bool chat; char name[64]; };
/* model: a name, a snapshot's folder, a tokenizer.json or a GGUF file. Fills what o needs for
 * counting; p must outlive the reading. Texts are counted as prompts_encode encodes them. */
int  prompts_open(struct prompts *p, const char *model, struct text_options *o, struct err *e);
void prompts_close(struct prompts *p);
/* The same for a tokenizer that is open already; it stays the caller's. chat: prompts are counted in chat form. */
void prompts_count_with(struct prompts *p, struct tokenizer *t, const char *name, bool chat, struct text_options *o);

/* What became of a trace's texts. */
struct prompts_report {
    uint32_t n_text;               /* rows with a text */
    uint32_t n_other;              /* of these: whose prompt_tokens were another number */
    uint64_t was, is;              /* prompt tokens of all rows with a text, before and after */
};
/* Gives every row with a text its token ids (prompt_ids) and their number (n_prompt), in the
 * trace's memory; chat: as a user's turn. Rows with ids or without a text stay as they are. A row whose ids do not fit
 * beside its output into max_context (0: no limit) is refused. */
int  prompts_encode(struct trace *t, struct tokenizer *tok, bool chat, uint32_t max_context,
                    struct prompts_report *out, struct err *e);

#endif
