/* test_attend.c - RoPE, the KV pool and attention of the cpu device.
 *
 * The output for a token depends on the tokens before it and on nothing else: not on block size
 * or the order of blocks in the pool, not on how the prompt was cut into steps, who shared the
 * batch, how many threads or which instruction set. All of these are compared bit for bit with
 * one run, and that one with the reference device. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/num.h"
#include "kernels/cpu/cpu.h"
#include "tests/kernels.h"

extern const struct device_ops device_cpu, device_ref;

enum { N_SLOT = 2048, LAYERS = 2, LAYER = 1 };

/* A token's attention inputs before RoPE, and where it is kept. */
struct world {
    uint32_t n_q, n_kv, hd, len;
    enum fmt kv;                           /* how K and V are cached */
    float *qkv;                            /* [len, (n_q + 2 n_kv) * hd] */
};
/* One sequence in the pool: a table of blocks in shuffled order. */
struct place { uint32_t block_tokens, n, first[N_SLOT]; };

static size_t ld(const struct world *w) { return (size_t)(w->n_q + 2 * w->n_kv) * w->hd; }
static size_t ld_y(const struct world *w) { return (size_t)w->n_q * w->hd; }

static void world_fill(struct world *w, uint64_t seed)
{
    struct rng r;

    rng_seed(&r, seed);
    w->qkv = malloc(w->len * ld(w) * sizeof *w->qkv);
    for (size_t i = 0; i < w->len * ld(w); i++)
        w->qkv[i] = (float)rng_normal(&r);
}

/* Blocks for len tokens between slots lo and hi, shuffled; block size 0: one block of
 * everything. */
static struct place place_of(uint32_t bt, uint32_t len, uint32_t lo, uint32_t hi, uint64_t seed)
{
    struct place p = { .block_tokens = bt ? bt : hi - lo };
    struct rng r;

    rng_seed(&r, seed);
    for (uint32_t s = lo; s + p.block_tokens <= hi; s += p.block_tokens)
        p.first[p.n++] = s;
    for (uint32_t i = p.n; i > 1; i--) {
        uint32_t j = (uint32_t)rng_below(&r, i), t = p.first[i - 1];

        p.first[i - 1] = p.first[j];
        p.first[j] = t;
    }
    CU_ASSERT_FATAL((uint64_t)p.n * p.block_tokens >= len);
    p.n = ceil_div_u32(len, p.block_tokens);
    return p;
}

/* One step: each of n sequences advances from at[i] by n_new[i] tokens; y[i] receives their
 * rows. */
static void step(struct device *d, struct kv_pool *kv, const struct world *const *w,
                 const struct place *const *p, const uint32_t *at, const uint32_t *n_new,
                 uint32_t n, float *const *y)
{
    uint32_t seq_start[9] = { 0 }, table_start[9] = { 0 }, kv_len[8], bt[8], *pos, *slot, *table;
    uint32_t rows = 0, blocks = 0;
    struct batch b = { .n_seq = n, .seq_start = seq_start, .kv_len = kv_len, .block_tokens = bt,
                       .table_start = table_start };
    struct rope rope;
    float *qkv, *out;

    for (uint32_t i = 0; i < n; i++) {
        seq_start[i + 1] = rows += n_new[i];
        table_start[i + 1] = blocks += p[i]->n;
        kv_len[i] = at[i] + n_new[i];
        bt[i] = p[i]->block_tokens;
    }
    pos = malloc(rows * sizeof *pos), slot = malloc(rows * sizeof *slot);
    table = malloc(blocks * sizeof *table);
    qkv = malloc(rows * ld(w[0]) * sizeof *qkv), out = malloc(rows * ld_y(w[0]) * sizeof *out);
    b.n_tok = rows, b.pos = pos, b.slot = slot, b.table = table, b.n_table = blocks;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(table + table_start[i], p[i]->first, p[i]->n * sizeof *table);
        memcpy(qkv + seq_start[i] * ld(w[0]), w[i]->qkv + at[i] * ld(w[0]),
               n_new[i] * ld(w[0]) * sizeof *qkv);
        for (uint32_t j = 0; j < n_new[i]; j++) {
            pos[seq_start[i] + j] = at[i] + j;
            slot[seq_start[i] + j] = batch_slot(&b, i, at[i] + j);
        }
    }
    rope = plain_rope(w[0]->n_q, w[0]->hd);
    dev_begin(d, &b);
    dev_rope_store(d, qkv, kv, LAYER, &b, &rope);
    dev_attend(d, out, qkv, kv, LAYER, &b, w[0]->n_q);
    CU_ASSERT_EQUAL(dev_end(d, NULL), 0);
    for (uint32_t i = 0; i < n; i++)
        memcpy(y[i] + at[i] * ld_y(w[0]), out + seq_start[i] * ld_y(w[0]),
               n_new[i] * ld_y(w[0]) * sizeof *out);
    free(pos), free(slot), free(table), free(qkv), free(out);
}

struct run_conf { const char *isa; int n_thread; uint32_t chunk, block, lo; };

/* The whole sequence in steps of `chunk` tokens (0: all at once). Returns y [len, n_q * hd]. */
static float *run(const struct device_ops *ops, struct run_conf c, const struct world *w)
{
    struct device_conf conf = { .isa = c.isa, .n_thread = c.n_thread };
    struct place p = place_of(c.block, w->len, c.lo, N_SLOT, 5), *pp = &p;
    float *y = malloc(w->len * ld_y(w) * sizeof *y);
    struct kv_pool kv;
    struct device d;
    struct err e = { 0 };

    CU_ASSERT_EQUAL_FATAL(dev_open(&d, ops, &conf, &e), 0);
    CU_ASSERT_EQUAL_FATAL(dev_kv_open(&d, &kv, LAYERS, w->n_kv, w->hd, w->kv, N_SLOT, &e), 0);
    memset(kv.data, 0xff, kv.bytes); /* NaN everywhere: what was not stored must not be used */
    for (uint32_t at = 0, n; at < w->len; at += n) {
        n = min_u32(c.chunk ? c.chunk : w->len, w->len - at);
        step(&d, &kv, &w, (const struct place *const *)&pp, &at, &n, 1, &y);
    }
    dev_kv_close(&d, &kv);
    dev_close(&d);
    return y;
}

static const struct run_conf runs[] = {
    { "scalar", 1, 0, 16, 0 }, { "avx2", 1, 0, 16, 0 }, { "avx512", 1, 0, 16, 0 },
    { "avx512bf16", 1, 0, 16, 0 },
    { NULL, 1, 1, 16, 0 },                 /* token by token, whole units */
    { NULL, 3, 1, 16, 0 },                 /* token by token, chunks shared among threads */
    { NULL, 2, 13, 0, 5 },                 /* one block that starts off a tile border */
    { NULL, 2, 0, 64, 16 }, { NULL, 2, 7, 1, 0 }, { NULL, 2, 64, 7, 3 }, { NULL, 2, 0, 0, 0 },
    { NULL, 3, 130, 48, 0 }, { NULL, 2, 1, 24, 8 }, { "avx2", 2, 1, 7, 1 }, { "avx2", 2, 33, 64, 0 }
};

/* Against the reference: typical errors are those of F32 (1e-7); a single output may be off by
 * more where a K or V lay so near the middle of two codes that F32 and double angles round it
 * differently, which is a small step in halves and a large one in bytes. */
static void check_format(struct world w, enum fmt kv)
{
    const double most_ok = kv == FMT_F16 ? 5e-4 : kv == FMT_INT8 ? 5e-3 : 2e-2;
    const double rms_ok = kv == FMT_F16 ? 2e-6 : 5e-5;
    float *want, *first;
    double most = 0, square = 0, rms;

    w.kv = kv;
    world_fill(&w, w.hd + w.n_q);
    want = run(&device_ref, (struct run_conf){ NULL, 0, 0, 16, 0 }, &w);
    first = run(&device_cpu, (struct run_conf){ NULL, 2, 0, 16, 0 }, &w);
    for (size_t i = 0; i < w.len * ld_y(&w); i++) {
        double d = fabs((double)want[i] - first[i]);

        most = d > most || isnan(d) ? d : most;
        square += d * d;
    }
    rms = sqrt(square / (double)(w.len * ld_y(&w)));
    if (!(most < most_ok && rms < rms_ok))
        test_note("%s, %u/%u heads of %u, %u tokens: off by %.3g, typically %.3g", fmt_name(kv), w.n_q,
                  w.n_kv, w.hd, w.len, most, rms);
    CU_ASSERT(most < most_ok && rms < rms_ok);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct run_conf c = runs[i];
        const struct cpu_isa *isa = cpu_isa_find(c.isa, NULL);
        float *y;

        if (!isa)
            continue;
        y = run(&device_cpu, c, &w);
        if (!same(y, first, w.len * ld_y(&w)))
            test_note("%s, %u/%u heads of %u: isa %s, %d threads, steps of %u, blocks of %u differ",
                      fmt_name(kv), w.n_q, w.n_kv, w.hd, isa->name, c.n_thread, c.chunk, c.block);
        CU_ASSERT(same(y, first, w.len * ld_y(&w)));
        free(y);
    }
    free(want), free(first), free(w.qkv);
}

static const enum fmt kv_formats[] = { FMT_F16, FMT_INT8, FMT_FP8 };

static void check_shape(struct world w)
{
    for (size_t i = 0; i < sizeof kv_formats / sizeof *kv_formats; i++)
        check_format(w, kv_formats[i]);
}

static void grouped_heads_3(void)
{
    check_shape((struct world){ .n_q = 9, .n_kv = 3, .hd = 64, .len = 150 });
}
static void grouped_heads_4(void)
{
    check_shape((struct world){ .n_q = 4, .n_kv = 1, .hd = 128, .len = 140 });
}
static void single_heads(void)
{
    check_shape((struct world){ .n_q = 2, .n_kv = 2, .hd = 64, .len = 273 });
}
static void odd_head_size(void)
{
    check_shape((struct world){ .n_q = 2, .n_kv = 1, .hd = 80, .len = 35 });
}
static void many_query_heads(void)
{
    check_shape((struct world){ .n_q = 17, .n_kv = 1, .hd = 32, .len = 20 });
}

/* Sequences of different length and block size in one batch, one of them a prompt: as if alone. */
static void batch_in(enum fmt fmt)
{
    enum { N = 4 };
    static const uint32_t len[N] = { 150, 40, 129, 17 }, block[N] = { 16, 7, 64, 1 };
    static const uint32_t n_new[N] = { 1, 40, 1, 9 };
    struct world w[N];
    struct place p[N];
    const struct world *wp[N];
    const struct place *pp[N];
    float *y[N], *alone[N];
    uint32_t at[N];
    struct device_conf conf = { .n_thread = 2 };
    struct kv_pool kv;
    struct device d;

    CU_ASSERT_EQUAL_FATAL(dev_open(&d, &device_cpu, &conf, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(dev_kv_open(&d, &kv, LAYERS, 3, 64, fmt, N_SLOT, NULL), 0);
    memset(kv.data, 0xff, kv.bytes);
    for (uint32_t i = 0; i < N; i++) {
        w[i] = (struct world){ .n_q = 9, .n_kv = 3, .hd = 64, .len = len[i], .kv = fmt };
        world_fill(w + i, i);
        alone[i] = run(&device_cpu, (struct run_conf){ NULL, 1, 0, 16, 0 }, w + i);
        y[i] = malloc(len[i] * ld_y(w + i) * sizeof *y[i]);
        p[i] = place_of(block[i], len[i], i * 512, (i + 1) * 512, i);
        wp[i] = w + i, pp[i] = p + i;
        at[i] = 0;
        if (n_new[i] < len[i]) {           /* bring it to its last step */
            uint32_t n = len[i] - n_new[i];

            step(&d, &kv, wp + i, pp + i, at + i, &n, 1, y + i);
            at[i] = n;
        }
    }
    step(&d, &kv, wp, pp, at, n_new, N, y);
    for (uint32_t i = 0; i < N; i++) {
        CU_ASSERT(same(y[i], alone[i], len[i] * ld_y(w + i)));
        free(y[i]), free(alone[i]), free(w[i].qkv);
    }
    dev_kv_close(&d, &kv);
    dev_close(&d);
}

static void batches_do_not_mix(void)
{
    for (size_t i = 0; i < sizeof kv_formats / sizeof *kv_formats; i++)
        batch_in(kv_formats[i]);
}

/* A sequence moved to other slots, in whole tiles or not, by way of host memory or not, goes on as before. */
static void move_in(const struct device_ops *ops, enum fmt fmt, uint32_t block, bool by_host)
{
    struct world w = { .n_q = 6, .n_kv = 2, .hd = 64, .len = 101, .kv = fmt }, *wp = &w;
    struct run_conf c = { NULL, 1, 0, 16, 0 };
    struct place p = place_of(block, w.len, 0, 1024, 1), q = place_of(block, w.len, 1030, 2048, 2);
    struct place *pp = &p, *qp = &q;
    float *want, *y = malloc(w.len * ld_y(&w) * sizeof *y);
    uint32_t at = 0, n = 100, sizes[N_SLOT], away[N_SLOT];
    struct device_conf conf = { .n_thread = 1 };
    struct kv_pool kv, host;
    struct device d;

    world_fill(&w, 1);
    want = run(ops, c, &w);
    CU_ASSERT_EQUAL_FATAL(dev_open(&d, ops, &conf, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(dev_kv_open(&d, &kv, LAYERS, w.n_kv, w.hd, fmt, N_SLOT, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(dev_host_open(&d, &host, &kv, 1024, NULL), 0);
    memset(kv.data, 0xff, kv.bytes);
    step(&d, &kv, (const struct world *const *)&wp, (const struct place *const *)&pp, &at, &n, 1, &y);
    for (uint32_t i = 0; i < p.n; i++) {
        sizes[i] = p.block_tokens;
        away[i] = 3 + i * p.block_tokens;              /* off the borders of tiles */
    }
    if (by_host) {
        dev_swap(&d, &kv, &host, p.first, away, sizes, p.n);
        memset(kv.data, 0xff, kv.bytes);
        dev_swap(&d, &host, &kv, away, q.first, sizes, p.n);
    } else {
        dev_copy(&d, &kv, p.first, q.first, sizes, p.n);
    }
    at = 100, n = 1;
    step(&d, &kv, (const struct world *const *)&wp, (const struct place *const *)&qp, &at, &n, 1, &y);
    if (!same(y, want, w.len * ld_y(&w)))
        test_note("%s, %s, blocks of %u differ", d.label, fmt_name(fmt), block);
    CU_ASSERT(same(y, want, w.len * ld_y(&w)));
    dev_host_close(&d, &host);
    dev_kv_close(&d, &kv);
    dev_close(&d);
    free(want), free(y), free(w.qkv);
}

static void copied_blocks_are_the_same(void)
{
    static const uint32_t block[] = { 16, 7, 64 };

    for (size_t f = 0; f < sizeof kv_formats / sizeof *kv_formats; f++)
        for (uint32_t k = 0; k < 3 * 4; k++)
            move_in(k % 2 ? &device_ref : &device_cpu, kv_formats[f], block[k / 4], k / 2 % 2);
}

/* What lies in the pool is what format.h says of a row, on every instruction set, for values of all sizes,
 * rows of zeros and bad ones among them. */
static void cached_rows_are_encoded_as_rows(void)
{
    enum { HD = 96, ROWS = 200 };
    struct rng r;
    float x[HD];

    rng_seed(&r, 3);
    for (int n = 0; n < ROWS; n++) {
        int size = n % 7 == 6 ? (int)rng_below(&r, 60) - 40 : 0;

        for (int j = 0; j < HD; j++)
            x[j] = ldexpf((float)rng_normal(&r), size - (n % 3 == 1 ? (int)rng_below(&r, 12) : 0));
        for (int j = 0; j < HD && n >= 60 && n < 63; j++) {     /* scale 1, the middles of two codes */
            float low = f32_from_fp8((uint8_t)((n - 60) * 63 + j % 63));

            x[j] = n == 62 ? (float)j - 47.5f : (low + f32_from_fp8((uint8_t)((n - 60) * 63 + j % 63 + 1))) / 2;
            x[j] = j == 0 ? (n == 62 ? 127 : 448) : j % 2 ? -x[j] : x[j];
        }
        if (n == 50 || n == 51)
            memset(x, 0, sizeof x);
        if (n == 51 || n == 52)
            x[HD - 1] = n == 51 ? NAN : -INFINITY;
        for (int i = 0; i < N_ISA; i++)
            for (int f = 1; f < 3; f++) {
                uint8_t q[HD], want[HD];
                uint16_t scale, want_scale;
                bool equal;

                if (!cpu_isa_here(isas[i]))
                    continue;
                row_encode((struct wfmt){ kv_formats[f], 0 }, x, HD, want, &want_scale);
                isas[i]->encode(f == 1 ? EL_INT8 : EL_FP8, q, &scale, x, HD);
                equal = scale == want_scale;
                for (int j = 0; j < HD && equal; j++)
                    equal = q[j] == want[j] || (!(q[j] & 0x7f) && !(want[j] & 0x7f));  /* +-0 */
                if (!equal)
                    test_note("row %d, %s, %s", n, isas[i]->name, fmt_name(kv_formats[f]));
                CU_ASSERT(equal);
            }
    }
}

/* A pool holds as many bytes as its tokens are said to; there is none in a format without a layout. */
static void pools_have_their_exact_size(void)
{
    static const uint32_t per_head[] = { 2 * 128, 2 * 66, 2 * 66 };
    struct device_conf conf = { .n_thread = 1 };
    struct kv_pool kv;
    struct device d;
    struct err e = { 0 };

    CU_ASSERT_EQUAL_FATAL(dev_open(&d, &device_cpu, &conf, NULL), 0);
    for (size_t i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL_FATAL(dev_kv_open(&d, &kv, 2, 3, 64, kv_formats[i], 64, NULL), 0);
        CU_ASSERT_EQUAL(kv.bytes, 64u * 2 * 3 * per_head[i]);
        CU_ASSERT_EQUAL((size_t)(kv_tile(&kv, 1, 2, 63) - (uint8_t *)kv.data) + kv_layout(&kv).tile_bytes,
                        kv.bytes);
        dev_kv_close(&d, &kv);
    }
    CU_ASSERT_EQUAL(dev_kv_open(&d, &kv, 2, 3, 64, FMT_F32, 64, &e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "f32"));
    dev_close(&d);
}

static void bad_heads_are_refused(void)
{
    struct device_conf conf = { .n_thread = 1 };
    struct kv_pool kv;
    struct device d;
    struct err e = { 0 };
    float qkv[3 * 40] = { 0 };
    struct batch b = { 0 };
    struct rope rope = plain_rope(1, 40);

    CU_ASSERT_EQUAL_FATAL(dev_open(&d, &device_cpu, &conf, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(dev_kv_open(&d, &kv, 1, 1, 40, FMT_F16, 16, NULL), 0);
    dev_rope_store(&d, qkv, &kv, 0, &b, &rope);
    CU_ASSERT_EQUAL(dev_end(&d, &e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "multiple of 16"));
    dev_kv_close(&d, &kv);
    dev_close(&d);
}

static const struct test tests[] = {
    { "grouped_heads_3", grouped_heads_3 },
    { "grouped_heads_4", grouped_heads_4 },
    { "single_heads", single_heads },
    { "odd_head_size", odd_head_size },
    { "many_query_heads", many_query_heads },
    { "batches_do_not_mix", batches_do_not_mix },
    { "copied_blocks_are_the_same", copied_blocks_are_the_same },
    { "cached_rows_are_encoded_as_rows", cached_rows_are_encoded_as_rows },
    { "pools_have_their_exact_size", pools_have_their_exact_size },
    { "bad_heads_are_refused", bad_heads_are_refused },
    { NULL, NULL }
};
const struct suite suite_attend = { "attend", tests, 120 };
