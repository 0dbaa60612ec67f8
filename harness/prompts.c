/* prompts.c - token ids for the requests of a trace that have text. */
#include "harness/prompts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/load.h"
#include "models/tokenizer_gguf.h"

int prompt_ids(struct tokenizer *t, const struct prompt_form *f, const char *text, struct token_ids *out,
               struct err *e)
{
    struct chat_turn turn[2] = { { "system", f->system }, { "user", text } };
    size_t skip = !f->system;

    return f->chat ? chat_encode(t, turn + skip, 2 - skip, out, e)
                   : tokenizer_encode(t, text, strlen(text), f->flags, out, e);
}

/* A trace's prompt: special tokens that it spells are text. */
static struct prompt_form of_trace(bool chat)
{
    return (struct prompt_form){ .chat = chat, .flags = ENCODE_ENDS };
}

/* What stands for a text in a trace ends at its first NUL, here as in prompts_encode. */
static int64_t count(void *self, const char *text, size_t n, bool is_prompt)
{
    struct prompt_form form = { 0 };
    struct prompts *p = self;
    struct err e = { 0 };
    (void)n;

    if (is_prompt)
        form = of_trace(p->chat);
    p->ids.n = 0;
    return prompt_ids(p->t, &form, text, &p->ids, &e) ? -1 : (int64_t)p->ids.n;
}

void prompts_count_with(struct prompts *p, struct tokenizer *t, const char *name, bool chat, struct text_options *o)
{
    p->t = t;
    p->chat = chat;
    snprintf(p->name, sizeof p->name, "%s", name);
    o->count = count;
    o->self = p;
    o->tokenizer = p->name;
}

/* The last part of a path says which model it is; a snapshot's folder may end in '/'. */
static const char *name_of(const char *path, char buf[64])
{
    size_t n = strlen(path), from;

    while (n > 1 && path[n - 1] == '/')
        n--;
    for (from = n; from && path[from - 1] != '/'; from--)
        ;
    snprintf(buf, 64, "%.*s", (int)(n - from < 63 ? n - from : 63), path + from);
    return buf;
}

/* A folder or file that is a tokenizer on its own (tokenizer.json), or that of a model. */
static int locate(const char *model, char *path, size_t n, struct err *e)
{
    enum model_kind kind = MODEL_HF;
    struct stat st;

    if ((size_t)snprintf(path, n, "%s/tokenizer.json", model) < n && !access(path, R_OK))
        return 0;
    if (!stat(model, &st) && S_ISREG(st.st_mode))
        return (size_t)snprintf(path, n, "%s", model) < n
                   ? 0
                   : err_set(e, EXIT_USAGE, "the path is too long");
    if (model_locate(model, &kind, path, n, e))
        return -1;
    return kind != MODEL_SHAPE
               ? 0
               : err_set(e, EXIT_USAGE,
                         "%.100s: only its shape is here (%.300s), and a shape has no tokenizer; "
                         "make model MODEL=%.100s fetches the model",
                         model, path, model);
}

int prompts_open(struct prompts *p, const char *model, struct text_options *o, struct err *e)
{
    struct tokenizer *t;
    char path[4096], name[64];

    *p = (struct prompts){ 0 };
    if (locate(model, path, sizeof path, e) || tokenizer_open(&t, path, e))
        return -1;
    prompts_count_with(p, t, name_of(model, name), false, o);
    return 0;
}

void prompts_close(struct prompts *p)
{
    token_ids_free(&p->ids);
    tokenizer_free(p->t);
    p->t = NULL;
}

static int take(struct trace *t, uint32_t row, const struct token_ids *ids)
{
    struct trace_more *m = ARENA_NEW(&t->arena, struct trace_more, 1);
    uint32_t *id = ARENA_NEW(&t->arena, uint32_t, ids->n);

    if (!m || !id)
        return -1;
    memcpy(id, ids->id, ids->n * sizeof *id);
    *m = *t->req[row].more;
    m->prompt_ids = id;
    t->req[row].more = m;
    t->req[row].n_prompt = (uint32_t)ids->n;
    return 0;
}

static int check(const struct trace *t, uint32_t row, size_t n, uint32_t max_context, struct err *e)
{
    uint32_t n_out = t->req[row].n_out;
    char id[24];

    if (!n)
        return err_set(e, EXIT_USAGE, "%s: request %.40s: its prompt has no tokens", t->name,
                       trace_id(t, row, id));
    if (n <= TRACE_MAX_PROMPT && (!max_context || n + n_out <= max_context))
        return 0;
    return err_set(e, EXIT_USAGE,
                   "%s: request %.40s: its prompt has %zu tokens, with %" PRIu32 " to produce more "
                   "than the context of %" PRIu32 "; use --overlong=skip",
                   t->name, trace_id(t, row, id), n, n_out, max_context);
}

int prompts_encode(struct trace *t, struct tokenizer *tok, bool chat, uint32_t max_context,
                   struct prompts_report *out, struct err *e)
{
    struct prompt_form form = of_trace(chat);
    struct token_ids ids = { 0 };
    int rc = 0;

    *out = (struct prompts_report){ 0 };
    for (uint32_t i = 0; i < t->n && !rc; i++) {
        const struct trace_more *m = t->req[i].more;

        if (!m || !m->prompt || m->prompt_ids)
            continue;
        ids.n = 0;
        rc = prompt_ids(tok, &form, m->prompt, &ids, e) || check(t, i, ids.n, max_context, e) ? -1 : 0;
        if (rc)
            break;
        out->n_text++;
        out->n_other += ids.n != t->req[i].n_prompt;
        out->was += t->req[i].n_prompt;
        out->is += ids.n;
        if (take(t, i, &ids))
            rc = err_set(e, EXIT_RUN_FAILED, "%s: out of memory for token ids", t->name);
    }
    token_ids_free(&ids);
    return rc;
}
