#include "harness/choice.h"
#include "harness/quality.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "harness/made_batch.h"
#include "harness/roof.h"

struct sample { double nll, kl, top1; };               /* means of one window */

struct job {
    struct loaded_set *models;
    const struct strategy *st;
    const uint32_t *tok;
    const struct quality_conf *c;
    uint32_t n, n_window, vocab;
    struct sample *sample;                 /* [n][n_window] */
    float *logits, *reference;             /* [stride, vocab] */
    uint32_t *answer;                      /* [n][n_prompt][n_new] */
    struct quality *out;
    struct err *e;
};

/* Adds the step's seconds; making the batch is not counted. */
static int timed_step(struct model *m, struct kv_pool *kv, const struct made_conf *c, uint32_t *next, double *seconds,
                      struct err *e)
{
    struct made_batch x;
    double t0;
    int rc = made_batch(&x, c, kv->n_slot, e);

    t0 = bench_seconds();
    if (!rc)
        rc = model_step(m, kv, &x.b, next, e);
    *seconds += bench_seconds() - t0;
    made_batch_free(&x);
    return rc;
}

/* ---- windows ---- */

/* log of the sum of exp, and where the largest is. */
static double log_sum(const float *x, uint32_t n, uint32_t *top)
{
    double sum = 0;

    *top = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[*top])
            *top = i;
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)x[i] - x[*top]);
    return x[*top] + log(sum);
}

static int score(struct job *j, uint32_t k, uint32_t w)
{
    struct sample *s = j->sample + (size_t)k * j->n_window + w;
    const uint32_t *next = j->tok + (size_t)w * j->c->stride + j->c->window - j->c->stride + 1;

    *s = (struct sample){ 0 };
    for (uint32_t r = 0; r < j->c->stride; r++) {
        const float *x = j->logits + (size_t)r * j->vocab, *q = j->reference + (size_t)r * j->vocab;
        uint32_t top, ref_top;
        double z = log_sum(x, j->vocab, &top), zq = log_sum(q, j->vocab, &ref_top), kl = 0;

        if (!isfinite(z))
            return err_set(j->e, EXIT_RUN_FAILED, "%s: logits are not finite in window %u", j->st[k].name, w);
        for (uint32_t i = 0; k && i < j->vocab; i++) {
            double lq = q[i] - zq;

            kl += lq > -40 ? exp(lq) * (lq - (x[i] - z)) : 0;
        }
        s->nll += (z - x[next[r]]) / j->c->stride;
        s->kl += kl / j->c->stride;
        s->top1 += (double)(top == ref_top) / j->c->stride;
    }
    return 0;
}

static int window(struct job *j, uint32_t k, struct model *m, struct kv_pool *kv, uint32_t w)
{
    struct made_conf one = { .n_seq = 1, .rows = j->c->window, .block = kv->n_slot, .own = kv->n_slot,
                             .n_yield = j->c->stride, .tok = j->tok + (size_t)w * j->c->stride };
    size_t n = (size_t)j->c->stride * j->vocab;
    uint32_t *next = malloc(j->c->stride * sizeof *next);
    int rc = next ? timed_step(m, kv, &one, next, &j->out[k].prefill_tok_s, j->e)  /* seconds, until the end */
                  : err_set(j->e, EXIT_RUN_FAILED, "out of memory");

    if (!rc) {
        m->dev->ops->get(m->dev, j->logits, m->logits, n);
        if (!k)
            memcpy(j->reference, j->logits, n * sizeof *j->logits);
        rc = score(j, k, w);
    }
    free(next);
    return rc;
}

/* ---- greedy answers, all prompts at once ---- */

static int answers(struct job *j, uint32_t k, struct model *m, struct kv_pool *kv)
{
    const struct quality_conf *c = j->c;
    uint32_t room = ceil_div_u32(c->prompt_len + c->n_new, KV_TILE) * KV_TILE, n = c->n_prompt;
    size_t read = (size_t)(j->n_window - 1) * c->stride + c->window;      /* what the windows cover */
    size_t apart = read > c->prompt_len ? read - c->prompt_len : 0;
    uint32_t *tok = malloc((size_t)n * c->prompt_len * sizeof *tok), *next = malloc(n * sizeof *next);
    uint32_t *to = j->answer + (size_t)k * n * c->n_new;
    double seconds = 0, prompts = 0;
    int rc = tok && next ? 0 : err_set(j->e, EXIT_RUN_FAILED, "out of memory");

    for (uint32_t s = 0; !rc && s < n; s++)
        memcpy(tok + (size_t)s * c->prompt_len, j->tok + apart * s / n, c->prompt_len * sizeof *tok);
    for (uint32_t i = 0; !rc && i < c->n_new; i++) {
        struct made_conf step = { .n_seq = n, .prefix = i ? c->prompt_len + i - 1 : 0, .rows = i ? 1 : c->prompt_len,
                                  .block = room, .own = room, .n_yield = 1, .tok = i ? next : tok };

        rc = timed_step(m, kv, &step, next, i ? &seconds : &prompts, j->e);
        for (uint32_t s = 0; !rc && s < n; s++) {
            to[(size_t)s * c->n_new + i] = next[s];
            if (next[s] >= j->vocab)
                rc = err_set(j->e, EXIT_RUN_FAILED, "%s: logits are not finite in an answer", j->st[k].name);
        }
    }
    j->out[k].decode_tok_s = seconds > 0 ? n * (c->n_new - 1.0) / seconds : 0;
    free(tok);
    free(next);
    return rc;
}

/* ---- statistics ---- */

/* The 97.5 % quantile of Student's t by the expansion in 1/df (Fisher and Cornish 1960), from 3 on within 0.2 %; below
 * that it is no use. */
static double t_quantile(uint32_t df)
{
    double d = df;

    return df == 1 ? 12.7062 : df == 2 ? 4.3027 : 1.95996 + (2.3723 + (2.8225 + (2.5556 + 1.5895 / d) / d) / d) / d;
}

struct interval interval_of(const double *x, uint32_t n)
{
    double sum = 0, sq = 0, half = NAN;
    struct interval v;

    for (uint32_t i = 0; i < n; i++)
        sum += x[i];
    v.mean = sum / n;
    for (uint32_t i = 0; i < n; i++)
        sq += (x[i] - v.mean) * (x[i] - v.mean);
    if (n > 1)
        half = t_quantile(n - 1) * sqrt(sq / (n - 1.0) / n);
    v.lo = v.mean - half;
    v.hi = v.mean + half;
    return v;
}

/* The mean of what lies in [lo, hi] lies there as well; NaN stays. */
static struct interval within(struct interval v, double lo, double hi)
{
    return (struct interval){ v.mean, v.lo < lo ? lo : v.lo, v.hi > hi ? hi : v.hi };
}

static struct interval through(struct interval v, double (*f)(double))
{
    return (struct interval){ f(v.mean), f(v.lo), f(v.hi) };
}

static double percent_over(double d) { return 100 * expm1(d); }

static void summarise(struct job *j, uint32_t k, double *x)
{
    const struct sample *s = j->sample + (size_t)k * j->n_window, *ref = j->sample;
    const struct quality_conf *c = j->c;
    struct quality *q = j->out + k;

    q->n_window = j->n_window;
    q->n_scored = j->n_window * c->stride;
    for (uint32_t w = 0; w < j->n_window; w++)
        x[w] = s[w].nll;
    q->ppl = through(interval_of(x, j->n_window), exp);
    for (uint32_t w = 0; w < j->n_window; w++)
        x[w] = s[w].nll - ref[w].nll;
    q->loss_pct = through(interval_of(x, j->n_window), percent_over);
    for (uint32_t w = 0; w < j->n_window; w++)
        x[w] = s[w].kl;
    q->kl = within(interval_of(x, j->n_window), 0, INFINITY);
    for (uint32_t w = 0; w < j->n_window; w++)
        x[w] = 100 * s[w].top1;
    q->top1_pct = within(interval_of(x, j->n_window), 0, 100);
    q->n_same = 0;
    for (uint32_t p = 0; p < c->n_prompt; p++) {
        const uint32_t *a = j->answer + ((size_t)k * c->n_prompt + p) * c->n_new, *b = j->answer + (size_t)p * c->n_new;
        uint32_t same = 0;

        while (same < c->n_new && a[same] == b[same])
            same++;
        x[p] = same;
        q->n_same += same == c->n_new;
    }
    q->agree_len = within(interval_of(x, c->n_prompt), 0, c->n_new);
    q->prefill_tok_s = j->n_window * (double)c->window / q->prefill_tok_s;
}

/* ---- a precision after another, window by window ---- */

static uint64_t scales_of(const struct model *m)
{
    const struct weight *w[4];
    uint64_t sum = wfmt_scale_bytes(m->head.fmt, m->head.n, m->head.k);

    if (!m->shape.tied)
        sum += wfmt_scale_bytes(m->embed.fmt, m->embed.n, m->embed.k);
    for (uint32_t l = 0; l < m->shape.n_layer; l++) {
        w[0] = &m->layer[l].qkv, w[1] = &m->layer[l].o, w[2] = &m->layer[l].gate_up, w[3] = &m->layer[l].down;
        for (int i = 0; i < 4; i++)
            sum += wfmt_scale_bytes(w[i]->fmt, w[i]->n, w[i]->k);
    }
    return sum;
}

static int one_precision(struct job *j, uint32_t k, uint32_t from, uint32_t until)
{
    const struct quality_conf *c = j->c;
    const struct model_shape *s = &j->models->shape;
    enum fmt fmt = choice_kv(&j->st[k]);
    uint32_t room = ceil_div_u32(c->prompt_len + c->n_new, KV_TILE) * KV_TILE * c->n_prompt;
    uint32_t slots = max_u32(room, ceil_div_u32(c->window, KV_TILE) * KV_TILE);
    struct model *m = loaded_get(j->models, &j->st[k], j->e);
    struct kv_pool kv;
    int rc;

    if (!m || model_room(m, max_u32(c->window, c->n_prompt * c->prompt_len), max_u32(c->stride, c->n_prompt), j->e) ||
        dev_kv_open(j->models->dev, &kv, s->n_layer, s->n_kv_head, s->head_dim, fmt, slots, j->e))
        return -1;
    rc = kv.n_slot < slots ? err_set(j->e, EXIT_RUN_FAILED, "no memory for %u cached tokens", slots) : 0;
    for (uint32_t w = from; !rc && w < until; w++)
        rc = window(j, k, m, &kv, w);
    if (!rc && from == 0)
        rc = answers(j, k, m, &kv);
    j->out[k].weight_bytes = m->weight_bytes;
    j->out[k].scale_bytes = scales_of(m);
    j->out[k].kv_token_bytes = model_kv_token_bytes(s, fmt);
    dev_kv_close(j->models->dev, &kv);
    return rc;
}

/* Window by window over all precisions, since the reference's logits of one window are what is kept. */
static int run(struct job *j)
{
    const struct quality_conf *c = j->c;
    double *x = malloc(max_u32(j->n_window, c->n_prompt) * sizeof *x);
    int rc = x ? 0 : err_set(j->e, EXIT_RUN_FAILED, "out of memory");

    for (uint32_t w = 0; !rc && w < j->n_window; w++)
        for (uint32_t k = 0; !rc && k < j->n; k++) {
            rc = one_precision(j, k, w, w + 1);
            if (c->progress)
                c->progress(c->self, w * j->n + k + 1, j->n_window * j->n);
        }
    for (uint32_t k = 0; !rc && k < j->n; k++)
        summarise(j, k, x);
    free(x);
    return rc;
}

int quality_measure(struct loaded_set *models, const struct strategy *st, uint32_t n, const uint32_t *tok, size_t n_tok,
                    const struct quality_conf *c, struct quality *out, struct err *e)
{
    struct job j = { .models = models, .st = st, .tok = tok, .c = c, .n = n, .vocab = models->shape.vocab, .out = out,
                     .e = e };
    size_t logits = (size_t)c->stride * j.vocab;
    int rc;

    if (!models->dev->ops->get)
        return err_set(e, EXIT_USAGE, "device %s computes no logits; use cpu or cuda", models->dev->ops->name);
    if (n_tok < (size_t)c->window + 1 || n_tok < c->prompt_len)
        return err_set(e, EXIT_USAGE, "the text has %zu tokens; one window needs %u, one prompt %u", n_tok,
                       c->window + 1, c->prompt_len);
    j.n_window = (uint32_t)((n_tok - c->window - 1) / c->stride) + 1;
    j.n_window = min_u32(j.n_window, c->n_window);
    memset(out, 0, n * sizeof *out);
    j.sample = calloc((size_t)n * j.n_window, sizeof *j.sample);
    j.logits = malloc(logits * sizeof *j.logits);
    j.reference = malloc(logits * sizeof *j.reference);
    j.answer = malloc((size_t)n * c->n_prompt * c->n_new * sizeof *j.answer);
    rc = j.sample && j.logits && j.reference && j.answer ? run(&j) : err_set(e, EXIT_RUN_FAILED, "out of memory");
    free(j.sample);
    free(j.logits);
    free(j.reference);
    free(j.answer);
    return rc;
}
