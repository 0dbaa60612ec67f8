/* device.h - what the suites of the cuda device share: halves in its memory, paged sequences, batches of them.
 *
 * The suites speak to the device through the seam only, so they mean the same on a GPU (build the device as a
 * plug-in) and under emulation; what they ask of the emulator itself stands in hooks.h. */
#ifndef EMU_DEVICE_H
#define EMU_DEVICE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/num.h"
#include "models/model.h"
#include "tests/test.h"

extern const struct device_ops device_cuda, device_ref, device_cpu;

static inline struct device open_device(const struct device_ops *ops)
{
    struct device_conf conf = { .pace = PACE_SKIP };
    struct device d;
    struct err e = { 0 };

    if (dev_open(&d, ops, &conf, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("the device did not open");
    }
    return d;
}

static inline bool finished(struct device *d)
{
    struct err e = { 0 };

    if (!dev_end(d, &e))
        return true;
    test_note("%s", e.text);
    return false;
}

/* ---- numbers ---- */

/* n normal values that halves hold exactly, so that both devices start from the same. */
static inline float *halves(size_t n, uint64_t seed, double size)
{
    float *x = malloc((n ? n : 1) * sizeof *x);
    struct rng r;

    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = f32_from_f16(f16_from_f32((float)(rng_normal(&r) * size)));
    return x;
}

static inline void *up(struct device *d, const float *x, size_t n)
{
    struct err e = { 0 };
    void *act = dev_alloc(d, (uint64_t)n * d->ops->act_bytes, "test", &e);

    CU_ASSERT_PTR_NOT_NULL_FATAL(act);
    d->ops->put(d, act, x, n);
    return act;
}

/* Copies n values out. */
static inline float *down(struct device *d, const void *act, size_t n)
{
    float *x = malloc((n ? n : 1) * sizeof *x);

    d->ops->get(d, x, act, n);
    return x;
}

static inline void drop(struct device *d, void *act, size_t n)
{
    dev_release(d, act, (uint64_t)n * d->ops->act_bytes);
}

/* Largest |got - want| where want + abs * size is the unit of what a half may be off. */
static inline double worst_of(const float *got, const float *want, size_t n, double rel, double abs)
{
    double most = 0;

    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)got[i] - want[i]) / (rel * fabs((double)want[i]) + abs);

        if (!(off <= most))
            most = off;
    }
    return most;
}

static inline bool near(const char *what, const float *got, const float *want, size_t n, double rel,
                        double abs)
{
    double most = worst_of(got, want, n, rel, abs);

    if (!(most <= 1))
        test_note("%s: off by %.3g of what is allowed", what, most);
    return most <= 1;
}

static inline bool same_bits(const float *a, const float *b, size_t n)
{
    return !memcmp(a, b, n * sizeof *a);
}

struct rows { const float *w; uint32_t k; };

static inline int rows_get(void *self, uint32_t row, float *out, struct err *e)
{
    const struct rows *m = self;

    (void)e;
    memcpy(out, m->w + (size_t)row * m->k, m->k * sizeof *out);
    return 0;
}

static inline struct weight load_rows(struct device *d, struct wfmt f, uint32_t n, uint32_t k,
                                      const float *w)
{
    struct rows m = { w, k };
    struct weight out;
    struct err e = { 0 };

    if (dev_weight(d, &out, f, n, k, (struct row_source){ rows_get, &m }, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("weight not loaded");
    }
    return out;
}

/* ---- sequences in a paged pool ---- */

enum { SEQ_MAX = 48, SEQ_LEN = 160, SEQ_BLOCKS = 160 };
struct seq { uint32_t len, block, n_first, first[SEQ_BLOCKS], tok[SEQ_LEN]; };
struct world { uint32_t n; struct seq seq[SEQ_MAX]; };

/* n sequences of up to SEQ_LEN tokens below vocab, blocks of the given sizes in turn, in shuffled order in
 * a pool of n_slot slots. */
static inline void world_fill(struct world *w, uint32_t n, const uint32_t *block, uint32_t n_size,
                              uint32_t len, uint32_t n_slot, uint32_t vocab, uint64_t seed)
{
    uint32_t at = 0;
    struct rng r;

    rng_seed(&r, seed);
    w->n = n;
    for (uint32_t s = 0; s < n; s++) {
        struct seq *q = &w->seq[s];

        q->len = 0;
        q->block = block[s % n_size];
        q->n_first = ceil_div_u32(len, q->block);
        CU_ASSERT_FATAL(len <= SEQ_LEN && q->n_first <= SEQ_BLOCKS);
        for (uint32_t i = 0; i < q->n_first; i++, at += q->block)
            q->first[i] = at;
        CU_ASSERT_FATAL(at <= n_slot);
        for (uint32_t i = q->n_first; i > 1; i--) {
            uint32_t j = (uint32_t)rng_below(&r, i), t = q->first[i - 1];

            q->first[i - 1] = q->first[j];
            q->first[j] = t;
        }
        for (uint32_t i = 0; i < SEQ_LEN; i++)
            q->tok[i] = (uint32_t)rng_below(&r, vocab);
    }
}

/* A batch that advances each sequence of w by n_new[s] tokens (0: not in the batch); every sequence in it
 * yields a token when `yield`. The arrays belong to the caller's struct. */
struct made {
    struct batch b;
    uint32_t tok[1024], pos[1024], slot[1024], seq_start[SEQ_MAX + 1], kv_len[SEQ_MAX], block[SEQ_MAX];
    uint32_t table_start[SEQ_MAX + 1], table[8192], row[SEQ_MAX], seq[SEQ_MAX];
};

static inline void batch_make(struct made *m, const struct world *w, const uint32_t *n_new, bool yield)
{
    uint32_t n_tok = 0, n_seq = 0, n_table = 0;

    m->b = (struct batch){ .tok = m->tok, .pos = m->pos, .slot = m->slot, .seq_start = m->seq_start,
                           .kv_len = m->kv_len, .block_tokens = m->block,
                           .table_start = m->table_start, .table = m->table, .row = m->row };
    for (uint32_t s = 0; s < w->n; s++) {
        const struct seq *q = &w->seq[s];

        if (!n_new[s])
            continue;
        m->seq[n_seq] = s;
        m->seq_start[n_seq] = n_tok;
        m->table_start[n_seq] = n_table;
        m->kv_len[n_seq] = q->len + n_new[s];
        m->block[n_seq] = q->block;
        for (uint32_t i = 0; i < ceil_div_u32(q->len + n_new[s], q->block); i++)
            m->table[n_table++] = q->first[i];
        for (uint32_t i = 0; i < n_new[s]; i++, n_tok++) {
            uint32_t p = q->len + i;

            m->tok[n_tok] = q->tok[p];
            m->pos[n_tok] = p;
            m->slot[n_tok] = q->first[p / q->block] + p % q->block;
        }
        if (yield)
            m->row[m->b.n_row++] = n_tok - 1;
        n_seq++;
    }
    m->seq_start[n_seq] = n_tok;
    m->table_start[n_seq] = n_table;
    m->b.n_tok = n_tok, m->b.n_seq = n_seq, m->b.n_table = n_table;
}

/* The batch is run: the sequences are longer. */
static inline void world_advance(struct world *w, const uint32_t *n_new)
{
    for (uint32_t s = 0; s < w->n; s++)
        w->seq[s].len += n_new[s];
}

/* ---- models ---- */

/* Two layers, head_dim 64, groups of two query heads; `rich`: with bias, per-head norm and a tied head. */
static inline void small_shape(struct model_shape *s, bool rich)
{
    *s = (struct model_shape){ .n_layer = 2, .dim = 128, .n_head = 4, .n_kv_head = 2, .head_dim = 64,
                               .ffn = 160, .vocab = 352, .max_context = 512, .rope_theta = 10000,
                               .norm_eps = 1e-5f, .tied = rich, .qkv_bias = rich, .qk_norm = rich };
    strcpy(s->name, rich ? "small-rich" : "small");
}

#endif
