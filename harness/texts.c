#include "harness/texts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "models/tokenizer_gguf.h"

/* A Hugging Face folder with weights alone: enough for requests that are given as lengths. */
static bool is_without(const struct model_files *f)
{
    char path[4200];

    snprintf(path, sizeof path, "%s/tokenizer.json", f->path);
    return f->kind == MODEL_HF && access(path, F_OK) && errno == ENOENT;
}

int texts_open(struct texts *x, const struct model_files *f, bool show, bool chat, struct text_options *o,
               struct err *e)
{
    memset(x, 0, sizeof *x);
    if (is_without(f)) {
        x->folder = f->path;
        if (!show && !chat)
            return 0;
        return err_set(e, EXIT_USAGE, "--%s: %.300s: no tokenizer.json in this folder; put the one of the model there",
                       chat ? "chat" : "show-text", f->path);
    }
    if (f->kind != MODEL_SHAPE) {
        if (tokenizer_open(&x->t, f->path, e) || (chat && chat_check(x->t, e)))
            return -1;
        x->chat = chat ? tokenizer_chat_form(x->t) : NULL;
        prompts_count_with(&x->counter, x->t, f->shape.name, chat, o);
        return 0;
    }
    if (show || chat)
        return err_set(e, EXIT_USAGE, "--%s: %s is a shape with synthetic weights and has no tokenizer; 'make model "
                       "MODEL=smollm2-135m' fetches a real one", chat ? "chat" : "show-text", f->shape.name);
    return 0;
}

int texts_encode(struct texts *x, struct trace *t, uint32_t max_context, struct err *e)
{
    struct prompts_report r;
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->n; i++)
        n += t->req[i].more && t->req[i].more->prompt && !t->req[i].more->prompt_ids;
    if (x->folder && n)
        return err_set(e, EXIT_USAGE, "%.300s: no tokenizer.json in this folder, and %u prompts of %.100s are texts; "
                       "put the model's there, or replay a trace of lengths", x->folder, n, t->name);
    if (x->folder)
        snprintf(x->note, sizeof x->note, "the model's folder has no tokenizer.json: token ids are made up to the "
                 "lengths of the trace");
    if (!n)
        return !x->chat ? 0 : err_set(e, EXIT_USAGE, "--chat: no request of %s has its prompt as a text; leave --chat "
                                      "out, or give a trace of texts ('servelab trace convert')", t->name);
    if (!x->t) {
        snprintf(x->note, sizeof x->note, "the texts of %u prompts were not used, only their lengths: this model has "
                 "no tokenizer", n);
        return 0;
    }
    if (prompts_encode(t, x->t, x->chat, max_context, &r, e))
        return -1;
    snprintf(x->note, sizeof x->note, "%u prompts tokenised%s%s: %llu tokens (the trace said %llu; %u rows differ)",
             r.n_text, x->chat ? " in chat form " : "", x->chat ? x->chat : "", (unsigned long long)r.is,
             (unsigned long long)r.was, r.n_other);
    return 0;
}

void texts_printable(struct text_out *out)
{
    for (size_t i = 0; i < out->n; i++)
        if (((unsigned char)out->p[i] < 32 && out->p[i] != '\n' && out->p[i] != '\t') || out->p[i] == 127)
            out->p[i] = '.';
}

void texts_show(void *self, const struct replay_done *d)
{
    struct texts *x = self;
    struct err e = { 0 };

    printf("--- request %u, %s, %u tokens (%s)\n", d->r->id, d->status, d->r->n_out, x->strategy);
    x->out.n = 0;
    if (d->tokens && d->r->n_out) {
        if (tokenizer_decode(x->t, d->tokens, d->r->n_out, 0, &x->out, &e))
            printf("(%s)", e.text);
        else {
            texts_printable(&x->out);
            fwrite(x->out.p, 1, x->out.n, stdout);
        }
    }
    putchar('\n');
}

void texts_close(struct texts *x)
{
    token_ids_free(&x->counter.ids);
    tokenizer_free(x->t);
    text_out_free(&x->out);
    memset(x, 0, sizeof *x);
}
