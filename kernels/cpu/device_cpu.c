/* device_cpu.c - the cpu device: real arithmetic, as fast as this machine's vector units allow.
 *
 * Time is CLOCK_MONOTONIC since open, plus what idle() skipped. Activations are F32. Small
 * operations stay on one thread: what they compute is worth less than handing it over. */
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/num.h"
#include "kernels/cpu/pack.h"

enum { SMALL = 1 << 14 };          /* elements below which an operation stays on one thread */

static uint64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int cores(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

static const char *unit_of(const struct cpu_isa *isa)
{
    return isa == &cpu_isa_avx512bf16 ? "avx512 (vnni, bf16)" : isa == &cpu_isa_avx512 ? "avx512 (vnni)"
                                                                                      : isa->name;
}

static int cpu_open(struct device *d, const struct device_conf *conf, struct err *e)
{
    const char *want = conf->isa ? conf->isa : getenv("SERVELAB_ISA");
    const struct cpu_isa *isa = cpu_isa_find(want && *want ? want : NULL, e);
    struct cpu *c;

    if (!isa)
        return -1;
    if (conf->n_thread < 0 || conf->n_thread > THREAD_MAX)
        return err_set(e, EXIT_USAGE, "cpu: %d threads; use 1 to %d, or 0 for all cores",
                       conf->n_thread, THREAD_MAX);
    if (!(c = calloc(1, sizeof *c)))
        return err_set(e, EXIT_RUN_FAILED, "cpu: no memory");
    c->isa = isa;
    c->n_thread = conf->n_thread ? conf->n_thread : cores() < THREAD_MAX ? cores() : THREAD_MAX;
    if (!(c->pool = pool_open(c->n_thread))) {
        free(c);
        return err_set(e, EXIT_RUN_FAILED, "cpu: no memory for threads");
    }
    c->t0_ns = clock_ns();
    d->self = c;
    snprintf(d->label, sizeof d->label, "cpu %s, %d thread%s", unit_of(isa), c->n_thread,
             c->n_thread == 1 ? "" : "s");
    return 0;
}

static void cpu_close(struct device *d)
{
    struct cpu *c = d->self;

    if (c) {
        pool_close(c->pool);
        free(c->shared.p);
        free(c->thread.p);
        free(c->rope);
        free(c);
    }
    d->self = NULL;
}

static uint64_t cpu_now(struct device *d)
{
    const struct cpu *c = d->self;

    return clock_ns() - c->t0_ns + c->skipped_ns;
}

static void cpu_idle(struct device *d, uint64_t until_ns)
{
    struct cpu *c = d->self;
    uint64_t now = cpu_now(d), at = until_ns + c->t0_ns - c->skipped_ns;
    struct timespec t = { (time_t)(at / 1000000000u), (long)(at % 1000000000u) };

    if (until_ns <= now)
        return;
    if (d->pace != PACE_WALL)
        c->skipped_ns += until_ns - now;
    else
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL)) {
        }
}

static void *cpu_get_memory(struct device *d, uint64_t bytes)
{
    (void)d;
    return cpu_alloc(bytes);
}

static void cpu_release(struct device *d, void *p)
{
    (void)d;
    free(p);
}

static int cpu_weight(struct device *d, struct weight *w, struct row_source src, struct err *e)
{
    return pack_weight(d->self, w, src, e);
}

static void cpu_weight_free(struct device *d, struct weight *w)
{
    (void)d;
    free(w->data);
    w->data = NULL;
}

static void cpu_put(struct device *d, void *act, const float *x, size_t n)
{
    (void)d;
    memcpy(act, x, n * sizeof *x);
}

static void cpu_get(struct device *d, float *x, const void *act, size_t n)
{
    (void)d;
    memcpy(x, act, n * sizeof *x);
}

static int cpu_end(struct device *d, struct err *e)
{
    struct cpu *c = d->self;

    return c->err.code ? err_set(e, c->err.code, "%s", c->err.text) : 0;
}

/* Operations over rows carry their arguments through cpu_for in one struct. */
struct rows {
    struct cpu *c;
    float *y, *x; const float *delta, *gain;
    const struct weight *w;
    const uint32_t *row; uint32_t *tok;
    struct kv_pool *kv; const struct batch *b; const struct rope *rope;
    uint32_t dim, layer;
    float eps;
};

static void over_rows(struct rows *r, uint32_t n, uint64_t elements, cpu_work *fn)
{
    if (!r->c->err.code)
        cpu_for(r->c, n, max_u32(n / (uint32_t)r->c->n_thread / 4, 1), elements > SMALL, fn, r);
}

static void embed_rows(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct rows *r = arg;

    (void)thread;
    for (uint32_t i = i0; i < i1; i++)
        unpack_row(r->w, r->row[i], r->y + (size_t)i * r->w->k);
}

static void cpu_embed(struct device *d, void *x, const struct weight *w, const uint32_t *tok,
                      uint32_t n)
{
    struct rows r = { .c = d->self, .y = x, .w = w, .row = tok };

    for (uint32_t i = 0; i < n; i++)
        if (tok[i] >= w->n) {
            err_set(&r.c->err, EXIT_RUN_FAILED, "cpu: token %u, but the vocabulary has %u",
                    (unsigned)tok[i], (unsigned)w->n);
            return;
        }
    over_rows(&r, n, (uint64_t)n * w->k, embed_rows);
}

static void norm_rows(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct rows *r = arg;

    (void)thread;
    for (uint32_t i = i0; i < i1; i++) {
        size_t at = (size_t)i * r->dim;

        r->c->isa->norm(r->y + at, r->x + at, r->delta ? r->delta + at : NULL, r->gain, r->dim,
                        r->eps);
    }
}

static void cpu_norm(struct device *d, void *y, void *x, const void *delta, const void *gain,
                     uint32_t n, uint32_t dim, float eps)
{
    struct rows r = { .c = d->self, .y = y, .x = x, .delta = delta, .gain = gain, .dim = dim,
                      .eps = eps };

    over_rows(&r, n, (uint64_t)n * dim, norm_rows);
}

static void cpu_matmul_op(struct device *d, void *y, const void *x, const struct weight *w,
                          uint32_t m)
{
    struct cpu *c = d->self;

    if (!c->err.code)
        cpu_matmul(c, y, x, w, m);
}

/* Angles position * freq[i], in double once, kept as floats: [position][2][half]. */
static bool rope_table(struct cpu *c, uint32_t n, const struct rope *r)
{
    uint32_t half = r->half;
    size_t bytes = half * sizeof *r->freq;
    uint32_t have = c->rope_half == half && !memcmp(c->rope_freq, r->freq, bytes) ? c->rope_n : 0;
    float *t;

    if (n <= have)
        return true;
    n = max_u32(256, n + n / 2);
    if (!(t = realloc(c->rope, (size_t)n * 2 * half * sizeof *t))) {
        err_set(&c->err, EXIT_RUN_FAILED, "cpu: no memory for %u positions of RoPE", (unsigned)n);
        return false;
    }
    c->rope = t;
    c->rope_n = n;
    c->rope_half = half;
    memcpy(c->rope_freq, r->freq, bytes);
    for (uint32_t p = have; p < n; p++) {
        for (uint32_t i = 0; i < half; i++) {
            double angle = p * r->freq[i];

            t[(size_t)p * 2 * half + i] = (float)cos(angle);
            t[(size_t)p * 2 * half + half + i] = (float)sin(angle);
        }
    }
    return true;
}

/* Bias and per-head norm, where a model has them, then rotation. */
static void prepare_row(const struct rows *r, float *row, const float *cs)
{
    const struct cpu_isa *isa = r->c->isa;
    const struct rope *p = r->rope;
    const float *bias = p->bias;
    uint32_t hd = r->kv->head_dim, n_kv = r->kv->n_head;

    for (uint32_t i = 0; bias && i < (p->n_q + 2 * n_kv) * hd; i++)
        row[i] += bias[i];
    for (uint32_t h = 0; h < p->n_q + n_kv; h++) {
        float *x = row + (size_t)h * hd;

        if (p->q_gain)
            isa->norm(x, x, NULL, h < p->n_q ? p->q_gain : p->k_gain, hd, p->eps);
        isa->rope(x, cs, hd / 2);
    }
}

static void rope_rows(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct rows *r = arg;
    const struct kv_layout l = kv_layout(r->kv);
    uint32_t hd = r->kv->head_dim, n_kv = r->kv->n_head, n_q = r->rope->n_q;

    for (uint32_t i = i0; i < i1; i++) {
        float *row = r->x + (size_t)i * (n_q + 2 * n_kv) * hd, *k = row + (size_t)n_q * hd;
        uint32_t slot = r->b->slot[i];

        prepare_row(r, row, r->c->rope + (size_t)r->b->pos[i] * hd);
        for (uint32_t h = 0; h < n_kv; h++)
            kv_store(r->c->isa, &l, kv_tile(r->kv, r->layer, h, slot), slot % KV_TILE, k + (size_t)h * hd,
                     k + (size_t)(n_kv + h) * hd, cpu_mine(r->c, thread));
    }
}

static bool pool_ok(struct cpu *c, const struct kv_pool *kv, uint32_t n_q)
{
    if (!c->err.code && (kv->head_dim < 32 || kv->head_dim % 16 || n_q % kv->n_head))
        err_set(&c->err, EXIT_USAGE,
                "cpu: %u query heads over %u KV heads of %u dimensions; dimensions "
                "must be a multiple of 16, at least 32, and heads must divide",
                (unsigned)n_q, (unsigned)kv->n_head, (unsigned)kv->head_dim);
    return !c->err.code;
}

static void cpu_rope_store(struct device *d, void *qkv, struct kv_pool *kv, uint32_t layer,
                           const struct batch *b, const struct rope *rope)
{
    struct rows r = { .c = d->self, .x = qkv, .kv = kv, .layer = layer, .b = b, .rope = rope };
    uint32_t n_q = rope->n_q;
    uint32_t last = 0;

    for (uint32_t i = 0; i < b->n_tok; i++)
        last = max_u32(last, b->pos[i]);
    if (pool_ok(r.c, kv, n_q) && rope_table(r.c, last + 1, rope) &&
        cpu_scratch(r.c, 0, (size_t)kv->head_dim * 4))
        over_rows(&r, b->n_tok, (uint64_t)b->n_tok * (n_q + kv->n_head) * kv->head_dim, rope_rows);
}

static void cpu_attend_op(struct device *d, void *y, const void *qkv, const struct kv_pool *kv,
                          uint32_t layer, const struct batch *b, uint32_t n_q, bool prefill)
{
    if (pool_ok(d->self, kv, n_q))
        cpu_attend(d->self, y, qkv, kv, layer, b, n_q, prefill);
}

static void swiglu_rows(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct rows *r = arg;

    (void)thread;
    for (uint32_t i = i0; i < i1; i++) {
        const float *gate = r->x + (size_t)i * 2 * r->dim;

        r->c->isa->swiglu(r->y + (size_t)i * r->dim, gate, gate + r->dim, r->dim);
    }
}

static void cpu_swiglu(struct device *d, void *y, const void *gate_up, uint32_t n, uint32_t f)
{
    struct rows r = { .c = d->self, .y = y, .dim = f };

    memcpy(&r.x, &gate_up, sizeof r.x);                /* read only; the struct's x is not const */
    over_rows(&r, n, (uint64_t)n * f, swiglu_rows);
}

static void cpu_gather(struct device *d, void *y, const void *x, const uint32_t *row,
                       uint32_t n_row, uint32_t dim)
{
    (void)d;
    for (uint32_t i = 0; i < n_row; i++)
        memcpy((float *)y + (size_t)i * dim, (const float *)x + (size_t)row[i] * dim,
               dim * sizeof(float));
}

static void pick_rows(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct rows *r = arg;

    (void)thread;
    for (uint32_t i = i0; i < i1; i++)
        r->tok[i] = r->c->isa->argmax(r->delta + (size_t)i * r->dim, r->dim);
}

static void cpu_pick(struct device *d, uint32_t *tok, const void *logits, uint32_t n_row,
                     uint32_t vocab)
{
    struct rows r = { .c = d->self, .delta = logits, .tok = tok, .dim = vocab };

    over_rows(&r, n_row, (uint64_t)n_row * vocab, pick_rows);
}

static void cpu_copy(struct device *d, struct kv_pool *kv, const uint32_t *src, const uint32_t *dst,
                     const uint32_t *n_tok, uint32_t n)
{
    (void)d;
    for (uint32_t layer = 0; layer < kv->n_layer; layer++)
        for (uint32_t i = 0; i < n; i++)
            kv_copy(kv, kv, layer, src[i], dst[i], n_tok[i]);
}

static void cpu_swap(struct device *d, const struct kv_pool *from, struct kv_pool *to,
                     const uint32_t *src, const uint32_t *dst, const uint32_t *n_tok, uint32_t n)
{
    (void)d;
    for (uint32_t layer = 0; layer < from->n_layer; layer++)
        for (uint32_t i = 0; i < n; i++)
            kv_copy(from, to, layer, src[i], dst[i], n_tok[i]);
}

static int cpu_probe(char *line, size_t n)
{
    const struct cpu_isa *isa = cpu_isa_find(NULL, NULL);

    snprintf(line, n, "%s, %d thread%s", unit_of(isa), cores(), cores() == 1 ? "" : "s");
    return 0;
}

const struct device_ops device_cpu = {
    .abi = DEVICE_ABI, .name = "cpu",
    .about = "real arithmetic in AVX2 or AVX-512, same bits in both",
    .computes = true, .act_bytes = sizeof(float),
    .weight_fmts = FMT_BIT(FMT_N) - 1,
    .kv_fmts = FMT_BIT(FMT_F16) | FMT_BIT(FMT_FP8) | FMT_BIT(FMT_INT8),
    .open = cpu_open, .close = cpu_close, .now = cpu_now, .idle = cpu_idle,
    .alloc = cpu_get_memory, .release = cpu_release, .weight = cpu_weight,
    .weight_free = cpu_weight_free, .put = cpu_put, .get = cpu_get, .end = cpu_end,
    .embed = cpu_embed, .norm = cpu_norm, .matmul = cpu_matmul_op, .rope_store = cpu_rope_store,
    .attend = cpu_attend_op, .swiglu = cpu_swiglu, .gather = cpu_gather, .pick = cpu_pick,
    .copy = cpu_copy, .swap = cpu_swap, .probe = cpu_probe
};
