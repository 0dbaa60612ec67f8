/* test_emu_device.c - each operation of the cuda device against the reference device, through the seam, alone and
 * inside a step; fused and unfused bit for bit. Products and attention have suites of their own: here they are
 * held against the reference in a few shapes, as the device calls them. */
#include "tests/emu/device.h"
#include "tests/emu/hooks.h"

static const struct exec plain = { .fused = true, .exact = true }, unfused = { .exact = true };

static void set_exec(struct device *d, const struct exec *x)
{
    struct err e = { 0 };

    CU_ASSERT_EQUAL_FATAL(dev_exec(d, x, &e), 0);
}

/* One rounding to half: 2^-11; a norm rounds x, then y. */
static void norms(void)
{
    static const uint32_t dims[] = { 32, 64, 104, 576, 2048, 4096, 8320 };
    struct device cuda = open_device(&device_cuda), ref = open_device(&device_ref);

    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (int with = 0; with < 2; with++) {
            uint32_t n = dims[i] > 1000 ? 2 : 5, dim = dims[i];
            size_t all = (size_t)n * dim;
            float *x = halves(all, i, 1), *delta = halves(all, i + 50, 1), *gain = halves(dim, i + 90, 1);
            void *cx = up(&cuda, x, all), *cd = up(&cuda, delta, all), *cg = up(&cuda, gain, dim);
            void *cy = up(&cuda, x, all), *rx = up(&ref, x, all), *rd = up(&ref, delta, all);
            void *rg = up(&ref, gain, dim), *ry = up(&ref, x, all), *ux = up(&cuda, x, all);
            float *got, *want, *other;

            set_exec(&cuda, &plain);
            dev_norm(&ref, ry, rx, with ? rd : NULL, rg, n, dim, 1e-5f);
            dev_norm(&cuda, cy, cx, with ? cd : NULL, cg, n, dim, 1e-5f);
            got = down(&cuda, cy, all), want = down(&ref, ry, all);
            CU_ASSERT(near("norm y", got, want, all, 0x1p-9, 2e-3));
            free(want);
            other = down(&cuda, cx, all), want = down(&ref, rx, all);
            CU_ASSERT(near("norm x", other, want, all, 0x1p-11, 1e-7));
            set_exec(&cuda, &unfused);                 /* y may be delta */
            dev_norm(&cuda, with ? cd : cy, ux, with ? cd : NULL, cg, n, dim, 1e-5f);
            free(want), want = down(&cuda, with ? cd : cy, all);
            CU_ASSERT(same_bits(got, want, all));
            free(want), want = down(&cuda, ux, all);
            CU_ASSERT(same_bits(other, want, all));
            free(x), free(delta), free(gain), free(got), free(want), free(other);
            drop(&cuda, cx, all), drop(&cuda, cd, all), drop(&cuda, cg, dim), drop(&cuda, cy, all);
            drop(&ref, rx, all), drop(&ref, rd, all), drop(&ref, rg, dim), drop(&ref, ry, all);
            drop(&cuda, ux, all);
        }
    CU_ASSERT(finished(&cuda));
    dev_close(&ref);
    dev_close(&cuda);
}

static void swiglus(void)
{
    static const uint32_t widths[] = { 32, 96, 1536, 4224 };
    struct device cuda = open_device(&device_cuda), ref = open_device(&device_ref);

    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        uint32_t n = 3, f = widths[i];
        size_t all = (size_t)n * f;
        float *x = halves(2 * all, i, 4), *got, *want, *other;
        void *cx, *rx, *cy = up(&cuda, x, all), *ry = up(&ref, x, all);

        x[0] = -1e4f, x[f] = 1, x[1] = 200, x[f + 1] = 0.5f, x[2] = 0, x[f + 2] = 3;
        cx = up(&cuda, x, 2 * all), rx = up(&ref, x, 2 * all);
        set_exec(&cuda, &plain);
        dev_swiglu(&ref, ry, rx, n, f);
        dev_swiglu(&cuda, cy, cx, n, f);
        got = down(&cuda, cy, all), want = down(&ref, ry, all);
        CU_ASSERT(near("swiglu", got, want, all, 0x1p-9, 1e-6));
        set_exec(&cuda, &unfused);
        dev_swiglu(&cuda, cy, cx, n, f);
        other = down(&cuda, cy, all);
        CU_ASSERT(same_bits(got, other, all));
        free(x), free(got), free(want), free(other);
        drop(&cuda, cx, 2 * all), drop(&ref, rx, 2 * all), drop(&cuda, cy, all), drop(&ref, ry, all);
    }
    CU_ASSERT(finished(&cuda));
    dev_close(&ref);
    dev_close(&cuda);
}

static void gathers(void)
{
    static const uint32_t row[] = { 0, 3, 4, 9 };
    enum { N = 10, DIM = 2072, ROWS = 4 };
    struct device cuda = open_device(&device_cuda);
    float *x = halves(N * DIM, 1, 1), *got;
    void *cx = up(&cuda, x, N * DIM), *cy = up(&cuda, x, ROWS * DIM);

    dev_gather(&cuda, cy, cx, row, ROWS, DIM);
    got = down(&cuda, cy, ROWS * DIM);
    for (uint32_t i = 0; i < ROWS; i++)
        CU_ASSERT(same_bits(got + i * DIM, x + (size_t)row[i] * DIM, DIM));
    CU_ASSERT(finished(&cuda));
    free(x), free(got);
    drop(&cuda, cx, N * DIM), drop(&cuda, cy, ROWS * DIM);
    dev_close(&cuda);
}

/* Ties, NaN, both infinities, equal rows, minus zero; few and many parts of a row; any order of blocks. */
static void picks_of(struct device *d, uint32_t n, uint64_t seed)
{
    enum { ROWS = 7 };
    uint32_t tok[ROWS], at = n * 2 / 3, later = n - 1;
    float *x = halves((size_t)ROWS * n, seed, 1);
    void *act;

    for (uint32_t r = 0; r < 4; r++)
        x[r * n + at] = x[r * n + later] = 50;
    x[n + later] = -NAN;
    x[2 * n] = -INFINITY;
    x[3 * n + n / 2] = INFINITY;
    for (uint32_t j = 0; j < n; j++) {
        x[4 * n + j] = -60000;
        x[5 * n + j] = j % 2 ? 0.0f : -0.0f;
        x[6 * n + j] = j == later ? 0x1p-24f : 0;
    }
    act = up(d, x, (size_t)ROWS * n);
    dev_pick(d, tok, act, ROWS, n);
    CU_ASSERT_EQUAL(tok[0], at);
    CU_ASSERT_EQUAL(tok[1], PICK_BAD_ROW);
    CU_ASSERT_EQUAL(tok[2], PICK_BAD_ROW);
    CU_ASSERT_EQUAL(tok[3], PICK_BAD_ROW);
    CU_ASSERT_EQUAL(tok[4], 0);
    CU_ASSERT_EQUAL(tok[5], 0);
    CU_ASSERT_EQUAL(tok[6], later);
    dev_pick(d, tok, act, 1, n);                       /* one row: more parts, the same answer */
    CU_ASSERT_EQUAL(tok[0], at);
    drop(d, act, (size_t)ROWS * n);
    free(x);
}

static void picks(void)
{
    static const uint32_t sizes[] = { 1, 7, 16, 17, 352, 4096, 4104, 8191, 49152 };
    struct device d = open_device(&device_cuda);

    for (int order = 0; order < (emulated() ? 3 : 1); order++) {
        if (emulated())
            hook_order(order, 3);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            picks_of(&d, sizes[i], i);
    }
    if (emulated())
        hook_order(0, 0);
    CU_ASSERT(finished(&d));
    dev_close(&d);
}

static const struct wfmt weights[] = {
    { FMT_F16, 0 }, { FMT_BF16, 0 }, { FMT_FP8, 0 }, { FMT_INT8, 0 }, { FMT_INT4, 32 }, { FMT_INT4, 128 },
    { FMT_INT4Z, 64 }
};
enum { N_WEIGHT = sizeof weights / sizeof *weights };

/* Embedded rows are the decoded rows rounded to half; a product is off by half's rounding of the sum, and with bf16
 * weights by the tokens' rounding to bf16. */
static void weights_are_used(void)
{
    static const uint32_t tok[] = { 95, 0, 31, 32, 64 };
    enum { N = 96, K = 128, M = 5 };
    struct device cuda = open_device(&device_cuda), ref = open_device(&device_ref);
    float *w = halves(N * K, 3, 0.1), *x = halves(M * K, 4, 1);
    void *cx = up(&cuda, x, M * K), *rx = up(&ref, x, M * K), *cy = up(&cuda, x, M * K), *ry = up(&ref, x, M * K);

    for (int f = 0; f < N_WEIGHT; f++) {
        struct weight a = load_rows(&cuda, weights[f], N, K, w), b = load_rows(&ref, weights[f], N, K, w);
        float *got, *want;

        CU_ASSERT_EQUAL(a.bytes, wfmt_bytes(weights[f], N, K));
        dev_embed(&cuda, cy, &a, tok, M);
        dev_embed(&ref, ry, &b, tok, M);
        got = down(&cuda, cy, M * K), want = down(&ref, ry, M * K);
        CU_ASSERT(near("embed", got, want, M * K, 0x1p-10, 1e-6));
        free(got), free(want);
        dev_matmul(&cuda, cy, cx, &a, M);
        dev_matmul(&ref, ry, rx, &b, M);
        got = down(&cuda, cy, M * N), want = down(&ref, ry, M * N);
        CU_ASSERT(near(fmt_name(weights[f].fmt), got, want, M * N, 0x1p-9,
                       weights[f].fmt == FMT_BF16 ? 0.02 : 2e-3));
        free(got), free(want);
        dev_weight_free(&cuda, &a);
        dev_weight_free(&ref, &b);
    }
    CU_ASSERT(finished(&cuda));
    free(w), free(x);
    drop(&cuda, cx, M * K), drop(&ref, rx, M * K), drop(&cuda, cy, M * K), drop(&ref, ry, M * K);
    dev_close(&ref);
    dev_close(&cuda);
}

/* ---- the cache ---- */

struct pools { struct device *dev[2]; struct kv_pool kv[2]; };

/* Stores and attends a batch on both devices; y must be near. Inside a step or call by call. */
static void attend_both(struct pools *p, const struct made *m, uint32_t n_q, bool step, uint64_t seed, double tol)
{
    const struct kv_pool *kv = &p->kv[0];
    size_t width = (size_t)(n_q + 2 * kv->n_head) * kv->head_dim, y = (size_t)n_q * kv->head_dim;
    float *qkv = halves(m->b.n_tok * width, seed, 1), *out[2];
    struct rope r = { .n_q = n_q, .half = kv->head_dim / 2, .eps = 1e-5f };

    for (uint32_t i = 0; i < r.half; i++)
        r.freq[i] = pow(10000, -(double)i / r.half);
    for (int i = 0; i < 2; i++) {
        void *a[2], *o = up(p->dev[i], qkv, m->b.n_tok * y);

        for (int l = 0; l < 2; l++)
            a[l] = up(p->dev[i], qkv, m->b.n_tok * width);
        if (step)
            dev_begin(p->dev[i], &m->b);
        for (uint32_t layer = 0; layer < 2; layer++) {
            dev_rope_store(p->dev[i], a[layer], &p->kv[i], layer, &m->b, &r);
            dev_attend(p->dev[i], o, a[layer], &p->kv[i], layer, &m->b, n_q);
        }
        CU_ASSERT(finished(p->dev[i]));
        out[i] = down(p->dev[i], o, m->b.n_tok * y);
        for (int l = 0; l < 2; l++)
            drop(p->dev[i], a[l], m->b.n_tok * width);
        drop(p->dev[i], o, m->b.n_tok * y);
    }
    CU_ASSERT(near(fmt_name(kv->fmt), out[0], out[1], m->b.n_tok * y, tol, tol));
    free(qkv), free(out[0]), free(out[1]);
}

/* Prefill, a chunk beside decodes, decodes only; blocks of 1, 7, 16 and 40 slots; every KV format. */
static void caches(void)
{
    static const uint32_t block[] = { 16, 7, 40, 1 }, n_new[4][5] = {
        { 20, 33, 0, 5, 1 }, { 1, 17, 9, 1, 1 }, { 1, 1, 1, 1, 1 }, { 0, 1, 40, 1, 0 }
    };
    static const enum fmt fmts[] = { FMT_F16, FMT_INT8, FMT_FP8 };
    struct device cuda = open_device(&device_cuda), ref = open_device(&device_ref);
    static struct world w;
    static struct made m;

    for (int f = 0; f < 3; f++)
        for (int step = 0; step < 2; step++) {
            struct pools p = { .dev = { &cuda, &ref } };
            struct err e = { 0 };

            world_fill(&w, 5, block, 4, 80, 512, 100, 7);
            for (int i = 0; i < 2; i++)
                CU_ASSERT_EQUAL_FATAL(dev_kv_open(p.dev[i], &p.kv[i], 2, 2, 64, fmts[f], 512, &e), 0);
            for (uint64_t i = 0; i < 4; i++) {
                batch_make(&m, &w, n_new[i], true);
                attend_both(&p, &m, 4, step != 0, i, fmts[f] == FMT_F16 ? 4e-3 : 0.05);
                world_advance(&w, n_new[i]);
            }
            for (int i = 0; i < 2; i++)
                dev_kv_close(p.dev[i], &p.kv[i]);
        }
    dev_close(&ref);
    dev_close(&cuda);
}

/* What a later step attends to is the same after the cache was copied away, swapped out, overwritten and
 * swapped in elsewhere. */
static void moves(void)
{
    static const uint32_t block[] = { 16 }, first[] = { 48 }, one[] = { 1 };
    static const uint32_t src[] = { 0, 16, 32 }, dst[] = { 64, 105, 131 }, n[] = { 16, 16, 16 };
    static const uint32_t host[] = { 3, 19, 35 }, back[] = { 7, 23, 39 };
    struct device d = open_device(&device_cuda);
    size_t width = 8 * 64, y = 4 * 64;
    float *qkv = halves(48 * width, 5, 1), *got[3];
    static struct world w;
    static struct made m;

    for (int f = 0; f < 3; f++) {
        static const enum fmt fmts[] = { FMT_F16, FMT_INT8, FMT_FP8 };
        void *a = up(&d, qkv, 48 * width), *o = up(&d, qkv, 48 * y), *junk = up(&d, qkv + width, 47 * width);
        struct rope r = { .n_q = 4, .half = 32 };
        struct kv_pool kv, away;
        struct err e = { 0 };

        CU_ASSERT_EQUAL_FATAL(dev_kv_open(&d, &kv, 2, 2, 64, fmts[f], 256, &e), 0);
        CU_ASSERT_EQUAL_FATAL(dev_host_open(&d, &away, &kv, 64, &e), 0);
        for (int pass = 0; pass < 3; pass++) {         /* as it was; copied; swapped out and in */
            world_fill(&w, 1, block, 1, 64, 256, 100, 7);
            for (uint32_t i = 0; i < 4; i++)
                w.seq[0].first[i] = 16 * i;
            batch_make(&m, &w, first, true);
            for (uint32_t layer = 0; layer < 2; layer++)
                dev_rope_store(&d, a, &kv, layer, &m.b, &r);
            if (pass == 1)
                dev_copy(&d, &kv, src, dst, n, 3);
            if (pass == 2)
                dev_swap(&d, &kv, &away, src, host, n, 3);
            if (pass)                                  /* other tokens where they were */
                for (uint32_t layer = 0; layer < 2; layer++) {
                    batch_make(&m, &w, (const uint32_t[]){ 47 }, true);
                    dev_rope_store(&d, junk, &kv, layer, &m.b, &r);
                }
            if (pass == 2)
                dev_swap(&d, &away, &kv, host, back, n, 3);
            if (pass)
                memcpy(w.seq[0].first, pass == 1 ? dst : back, sizeof dst);
            w.seq[0].len = 48;
            w.seq[0].first[3] = 200;
            batch_make(&m, &w, one, true);
            dev_rope_store(&d, a, &kv, 1, &m.b, &r);
            dev_attend(&d, o, a, &kv, 1, &m.b, 4);
            CU_ASSERT(finished(&d));
            got[pass] = down(&d, o, y);
        }
        CU_ASSERT(same_bits(got[0], got[1], y));
        CU_ASSERT(same_bits(got[0], got[2], y));
        free(got[0]), free(got[1]), free(got[2]);
        dev_host_close(&d, &away);
        dev_kv_close(&d, &kv);
        drop(&d, a, 48 * width), drop(&d, o, 48 * y), drop(&d, junk, 47 * width);
    }
    free(qkv);
    dev_close(&d);
}

static void time_is_skipped(void)
{
    const uint64_t hour_ns = 3600u * (uint64_t)1000000000;
    struct device d = open_device(&device_cuda);
    uint64_t now = dev_now(&d);

    dev_idle(&d, now + hour_ns);
    CU_ASSERT(dev_now(&d) >= now + hour_ns && dev_now(&d) < now + 2 * hour_ns);
    dev_idle(&d, 5);
    CU_ASSERT(dev_now(&d) >= now + hour_ns);
    dev_close(&d);
}

static void says_what_it_is(void)
{
    struct device d = open_device(&device_cuda);
    char line[300] = "";

    CU_ASSERT_EQUAL(device_cuda.probe(line, sizeof line), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(line, "sm_"));
    CU_ASSERT_PTR_NOT_NULL(strstr(d.label, "cuda "));
    CU_ASSERT_EQUAL(device_cuda.act_bytes, 2);
    dev_close(&d);
}

static const struct test tests[] = {
    { "norm with and without residual, fused and not", norms },
    { "swiglu, fused and not", swiglus },
    { "gather", gathers },
    { "pick: first of the largest, bad rows", picks },
    { "embed and products in every weight format", weights_are_used },
    { "store and attend in every KV format, call by call and in steps", caches },
    { "copies and swaps keep what is attended to", moves },
    { "idle time is skipped", time_is_skipped },
    { "the device says what it is", says_what_it_is },
    { 0 },
};
const struct suite suite_emu_device = { "emu_device", tests, 300 };
