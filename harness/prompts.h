/* prompts.h - between the texts of a trace and the tokenizer of a model: workloads/ knows no
 * tokenizer, text/ no trace. */
#ifndef HARNESS_PROMPTS_H
#define HARNESS_PROMPTS_H

#include "text/tokenizer.h"
#include "workloads/trace.h"

struct prompts { struct tokenizer *t; struct token_ids ids; char name[64]; };
/* model: a name, a snapshot's folder, a tokenizer.json or a GGUF file. Fills what o needs for
 * counting; p must outlive the reading. Texts are counted as prompts_encode encodes them. */
int  prompts_open(struct prompts *p, const char *model, struct text_options *o, struct err *e);
void prompts_close(struct prompts *p);
/* The same for a tokenizer that is open already; it stays the caller's. */
void prompts_count_with(struct prompts *p, struct tokenizer *t, const char *name,
                        struct text_options *o);

/* What became of a trace's texts. */
struct prompts_report {
    uint32_t n_text;               /* rows with a text */
    uint32_t n_other;              /* of these: whose prompt_tokens were another number */
    uint64_t was, is;              /* prompt tokens of all rows with a text, before and after */
};
/* Gives every row with a text its token ids (prompt_ids) and their number (n_prompt), in the
 * trace's memory. Rows with ids or without a text stay as they are. A row whose ids do not fit
 * beside its output into max_context (0: no limit) is refused. */
int  prompts_encode(struct trace *t, struct tokenizer *tok, uint32_t max_context,
                    struct prompts_report *out, struct err *e);

#endif
