/* test_prec.c - precisions: what they pick, that bytes are exact, that every word of every knob runs, and the
 * central test (test_equality.c) for the formats of weights and of cached K and V that are not in it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lab.h"
#include "tests/test.h"

enum { N_REQUEST = 10, MAX_PROMPT = 60, MAX_OUT = 16, MAX_LEN = 96, TIGHT = 128 };

/* ---- what is picked ---- */

static struct wfmt picked(const char *prec, enum role role, uint32_t layer, uint32_t n_layer)
{
    struct strategy st;
    struct prec p;
    struct err e = { 0 };
    char name[128];

    snprintf(name, sizeof name, "continuous+paged+%s", prec);
    if (strategy_parse(&st, name, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("strategy not parsed");
    }
    p = (struct prec){ st.prec, st.prec_params };
    return st.prec->pick(&p, role, layer, n_layer);
}

static void knobs_pick_formats(void)
{
    static const struct { const char *prec; struct wfmt want; } row[] = {
        { "f16", { FMT_F16, 0 } }, { "bf16", { FMT_BF16, 0 } }, { "bf16:act=bf16", { FMT_BF16_A16, 0 } },
        { "fp8", { FMT_FP8, 0 } }, { "int8", { FMT_INT8, 0 } }, { "int8:act=f32", { FMT_INT8_A32, 0 } },
        { "int4", { FMT_INT4, 64 } }, { "int4:group=32", { FMT_INT4, 32 } },
        { "int4:group=row", { FMT_INT4, GROUP_ROW } }, { "int4:zero=on", { FMT_INT4Z, 64 } },
        { "int4:group=128:zero=on:act=f32", { FMT_INT4Z_A32, 128 } }, { "int4:act=f32", { FMT_INT4_A32, 64 } },
    };

    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        for (int role = 0; role < ROLE_N; role++) {
            struct wfmt f = picked(row[i].prec, (enum role)role, 3, 8);

            CU_ASSERT(f.fmt == row[i].want.fmt && f.group == row[i].want.group);
        }
}

/* head=: the head and the embedding only; everything else as without it. */
static void head_alone_is_kept(void)
{
    static const struct { const char *prec; struct wfmt head; } row[] = {
        { "fp8:head=f16", { FMT_F16, 0 } }, { "fp8:head=int8", { FMT_INT8, 0 } }, { "fp8:head=same", { FMT_FP8, 0 } },
        { "int8:head=f16", { FMT_F16, 0 } }, { "int8:act=f32:head=f16", { FMT_F16, 0 } },
        { "int4:head=f16", { FMT_F16, 0 } }, { "int4:zero=on:group=row:head=int8", { FMT_INT8, 0 } },
        { "int4:group=128:act=f32:head=f16", { FMT_F16, 0 } }, { "int4:head=same", { FMT_INT4, 64 } },
    };

    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        for (int role = 0; role < ROLE_N; role++) {
            bool outside = role == ROLE_HEAD || role == ROLE_EMBED;
            char plain[64];
            struct wfmt f = picked(row[i].prec, (enum role)role, 3, 8), want;

            snprintf(plain, sizeof plain, "%.*s", (int)(strstr(row[i].prec, ":head") - row[i].prec), row[i].prec);
            want = outside ? row[i].head : picked(plain, (enum role)role, 3, 8);
            CU_ASSERT(f.fmt == want.fmt && f.group == want.group);
        }
}

static void mixed_keeps_the_ends_high(void)
{
    for (uint32_t l = 0; l < 8; l++)
        for (int role = 0; role < ROLE_N; role++) {
            bool outside = role == ROLE_HEAD || role == ROLE_EMBED;
            struct wfmt a = picked("mixed", (enum role)role, l, 8);
            struct wfmt b = picked("mixed:high=int8:low=fp8:layers=2", (enum role)role, l, 8);
            struct wfmt c = picked("mixed:layers=0:group=row:high=bf16", (enum role)role, l, 8);

            CU_ASSERT_EQUAL(a.fmt, outside || l == 0 || l == 7 ? FMT_F16 : FMT_INT4);
            CU_ASSERT_EQUAL(a.group, a.fmt == FMT_INT4 ? 64 : 0);
            CU_ASSERT_EQUAL(b.fmt, outside || l < 2 || l > 5 ? FMT_INT8 : FMT_FP8);
            CU_ASSERT_EQUAL(b.group, 0);
            CU_ASSERT_EQUAL(c.fmt, outside ? FMT_BF16 : FMT_INT4);
            CU_ASSERT(outside || c.group == GROUP_ROW);
        }
    CU_ASSERT_EQUAL(picked("mixed:layers=1000", ROLE_O, 3, 8).fmt, FMT_F16);
}

/* ---- bytes ---- */

/* tiny: 2 layers of (256 + 128 + 256 + 128) rows and a head of 256 rows, all of 128 inputs: 1792 rows, 229376
 * weights; 640 gains. */
static void weight_bytes_are_exact(void)
{
    static const struct { const char *prec; uint64_t bytes; } row[] = {
        { "f16", 458752 }, { "bf16", 458752 }, { "bf16:act=bf16", 458752 },
        { "int8", 229376 + 1792 * 2 }, { "int8:act=f32", 229376 + 1792 * 2 }, { "fp8", 229376 + 1792 * 2 },
        { "int4", 114688 + 1792 * 2 * 2 }, { "int4:group=32", 114688 + 1792 * 4 * 2 },
        { "int4:group=row", 114688 + 1792 * 2 }, { "int4:group=32:zero=on", 114688 + 1792 * 4 * 4 },
        { "int4:group=row:zero=on:act=f32", 114688 + 1792 * 4 },
        { "mixed:layers=0", 65536 + 98304 + 1536 * 2 * 2 }, { "mixed", 458752 },
        { "mixed:layers=0:high=int8:low=fp8", 229376 + 1792 * 2 },
        { "fp8:head=f16", 65536 + 196608 + 1536 * 2 }, { "int8:head=f16", 65536 + 196608 + 1536 * 2 },
        { "int4:head=f16", 65536 + 98304 + 1536 * 2 * 2 }, { "int4:head=int8", 32768 + 256 * 2 + 98304 + 1536 * 2 * 2 },
        { "int4:zero=on:group=32:head=f16", 65536 + 98304 + 1536 * 4 * 4 },
    };
    static const char *const device[] = { "cpu", "ref", "sim" };

    for (size_t d = 0; d < 3; d++) {
        struct lab l;

        CU_ASSERT_EQUAL_FATAL(lab_open(&l, device[d], "tiny", 512, NULL, d == 2 ? "cpu" : NULL, PACE_SKIP), 0);
        for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
            uint64_t before = l.dev.now_bytes, gains = (uint64_t)640 * l.dev.ops->act_bytes;
            struct strategy st;
            const struct model *m;
            char name[128];

            snprintf(name, sizeof name, "continuous+paged+%s", row[i].prec);
            CU_ASSERT_EQUAL_FATAL(strategy_parse(&st, name, &l.e), 0);
            m = loaded_get(&l.models, &st, &l.e);
            CU_ASSERT_PTR_NOT_NULL_FATAL(m);
            if (m->weight_bytes != row[i].bytes + gains)
                test_note("%s on %s: %llu bytes, expected %llu", row[i].prec, device[d],
                          (unsigned long long)m->weight_bytes, (unsigned long long)(row[i].bytes + gains));
            CU_ASSERT_EQUAL(m->weight_bytes, row[i].bytes + gains);
            if (d < 2)                                 /* sim gives the model before back */
                CU_ASSERT_EQUAL(l.dev.now_bytes - before, m->weight_bytes);
        }
        lab_close(&l);
    }
}

static void kv_bytes_are_exact(void)
{
    static const struct { enum fmt fmt; uint32_t bytes; } row[] = {
        { FMT_F16, 2 * 2 * 2 * 64 }, { FMT_INT8, 2 * 2 * 2 * 34 }, { FMT_FP8, 2 * 2 * 2 * 34 }
    };
    struct lab l;

    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "cpu", "tiny", 512, NULL, NULL, PACE_SKIP), 0);
    for (size_t i = 0; i < 3; i++) {
        uint64_t before;

        dev_kv_close(&l.dev, &l.kv);
        before = l.dev.now_bytes;
        CU_ASSERT_EQUAL(model_kv_token_bytes(&l.shape, row[i].fmt), row[i].bytes);
        CU_ASSERT_EQUAL_FATAL(dev_kv_open(&l.dev, &l.kv, 2, 2, 32, row[i].fmt, 512, &l.e), 0);
        CU_ASSERT_EQUAL(l.dev.now_bytes - before, 512 * row[i].bytes);
    }
    lab_close(&l);
}

/* ---- accuracy: what groups and least values gain, before any model is asked ---- */

static double lost(struct wfmt f, const float *w, uint32_t n, uint32_t k)
{
    uint8_t q[1024];
    uint16_t scale[64];
    float back[1024];
    double error = 0, all = 0;

    for (uint32_t i = 0; i < n; i++) {
        row_encode(f, w + i * k, k, q, scale);
        row_decode(f, q, scale, k, back);
        for (uint32_t j = 0; j < k; j++) {
            error += pow((double)w[i * k + j] - back[j], 2);
            all += pow(w[i * k + j], 2);
        }
    }
    return error / all;
}

static void smaller_groups_lose_less(void)
{
    enum { N = 16, K = 1024 };
    static const uint32_t group[] = { 32, 64, 128, GROUP_ROW };
    float *w = malloc(sizeof *w * N * K), *skew = malloc(sizeof *w * N * K);
    double before, int8;
    struct rng r;

    rng_seed(&r, 1);
    for (uint32_t i = 0; i < N * K; i++) {
        w[i] = (float)rng_normal(&r);
        skew[i] = w[i] + 2;                            /* all on one side: what least values are for */
    }
    int8 = lost((struct wfmt){ FMT_INT8, 0 }, w, N, K);
    before = int8 * 20;
    for (size_t g = 0; g < 4; g++) {
        double sym = lost((struct wfmt){ FMT_INT4, group[g] }, w, N, K);

        CU_ASSERT(sym > before);
        CU_ASSERT(lost((struct wfmt){ FMT_INT4Z, group[g] }, skew, N, K) <
                  0.7 * lost((struct wfmt){ FMT_INT4, group[g] }, skew, N, K));
        before = sym * 1.1;                            /* each step towards a whole row costs */
    }
    CU_ASSERT(lost((struct wfmt){ FMT_FP8, 0 }, w, N, K) > 2 * int8);
    free(w), free(skew);
}

/* ---- tokens ---- */

static uint32_t differing(struct lab *l, const struct trace *t, const char *name, uint32_t slots,
                          const uint64_t *want)
{
    struct lab_run_conf c = { .strategy = name, .trace = t, .kv_slots = slots, .max_len = MAX_LEN };

    return lab_differing(l, &c, want, NULL);
}

static void open_with(struct lab *l, enum fmt kv, const char *isa)
{
    CU_ASSERT_EQUAL_FATAL(lab_open(l, "cpu", "tiny", 4096, isa, NULL, PACE_SKIP), 0);
    dev_kv_close(&l->dev, &l->kv);
    CU_ASSERT_EQUAL_FATAL(dev_kv_open(&l->dev, &l->kv, l->shape.n_layer, l->shape.n_kv_head, l->shape.head_dim,
                                      kv, 4096, &l->e), 0);
}

static const char *const precs[] = {
    "bf16", "bf16:act=bf16", "fp8", "int8:act=f32", "int4:group=32:zero=on", "int4:group=row",
    "int4:group=row:zero=on", "int4:act=f32", "int4:zero=on:act=f32", "mixed:layers=0",
    "mixed:layers=0:high=int8:low=fp8", "mixed:layers=0:high=bf16:low=int8", "int4:group=32:head=int8", "fp8:head=f16",
    "int8:head=f16"
};
enum { N_PREC = sizeof precs / sizeof *precs };

/* Prompts in chunks of odd sizes, batches that grow and shrink, preemption: as if alone, in every format; and
 * no two formats do the same. */
static void tokens_are_as_if_alone(void)
{
    static const char *const serve[] = { "chunked:budget=13+paged:block=7", "continuous+paged:block=16" };
    uint64_t want[N_PREC][N_REQUEST];
    struct trace t;
    struct lab l;

    lab_trace(&t, N_REQUEST, MAX_PROMPT, MAX_OUT, 300, 7);
    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "cpu", "tiny", 4096, NULL, NULL, PACE_SKIP), 0);
    for (size_t p = 0; p < N_PREC; p++) {
        lab_alone(&l, &t, precs[p], MAX_LEN, want[p]);
        for (size_t s = 0; s < 2; s++) {
            char name[128];

            snprintf(name, sizeof name, "%s+%s", serve[s], precs[p]);
            CU_ASSERT_EQUAL(differing(&l, &t, name, 0, want[p]), 0);
            CU_ASSERT_EQUAL(differing(&l, &t, name, TIGHT, want[p]), 0);
        }
        for (size_t o = 0; o < p; o++)
            CU_ASSERT(memcmp(want[o], want[p], sizeof want[p]) != 0);
    }
    lab_close(&l);
    trace_free(&t);
}

/* Every scheduler and manager, ample and tight memory, over caches in bytes: what is stored, copied, swapped
 * and shared keeps its codes and scales. */
static void everything_over(enum fmt kv, const char *prec)
{
    uint64_t want[N_REQUEST], f16[N_REQUEST];
    struct trace t;
    struct rng r;
    struct lab l;

    lab_trace(&t, N_REQUEST, MAX_PROMPT, MAX_OUT, 300, 7);
    open_with(&l, FMT_F16, NULL);
    lab_alone(&l, &t, "f16", MAX_LEN, f16);
    lab_close(&l);
    open_with(&l, kv, NULL);
    lab_alone(&l, &t, prec, MAX_LEN, want);
    CU_ASSERT(memcmp(want, f16, sizeof want) != 0);    /* the format is really used */
    rng_seed(&r, 12);
    for (size_t i = 0; sched_registry[i]; i++)
        for (size_t j = 0; kv_registry[j]; j++) {
            char name[160], a[64], b[64];

            draw_knobs(sched_registry[i]->knobs, &r, 64, a, sizeof a);
            draw_knobs(kv_registry[j]->knobs, &r, 64, b, sizeof b);
            snprintf(name, sizeof name, "%s%s+%s%s+%s", sched_registry[i]->name, a,
                     kv_registry[j]->name, b, prec);
            CU_ASSERT_EQUAL(differing(&l, &t, name, (i + j) % 2 ? TIGHT : 0, want), 0);
        }
    lab_close(&l);
    trace_free(&t);
}

static void kv_int8(void) { everything_over(FMT_INT8, "f16:kv=int8"); }
static void kv_fp8(void) { everything_over(FMT_FP8, "f16:kv=fp8"); }

static void every_isa(void)
{
    static const char *const isas[] = { "scalar", "avx2", "avx512", "avx512bf16" };
    uint64_t want[2 * N_PREC][N_REQUEST], got[N_REQUEST];
    struct trace t;
    int ran = 0;

    lab_trace(&t, 4, 40, 6, 300, 10);
    for (size_t i = 0; i < 4; i++) {
        struct lab l;
        bool here = lab_open(&l, "cpu", "tiny", 512, isas[i], NULL, PACE_SKIP) == 0;

        lab_close(&l);
        if (!here)
            continue;
        for (size_t p = 0; p < N_PREC; p++) {
            open_with(&l, p % 2 ? FMT_INT8 : FMT_FP8, isas[i]);
            lab_alone(&l, &t, precs[p], MAX_LEN, ran ? got : want[p]);
            if (ran && memcmp(want[p], got, t.n * sizeof *got))
                test_note("%s differs on %s", precs[p], isas[i]);
            CU_ASSERT(!ran || memcmp(want[p], got, t.n * sizeof *got) == 0);
            lab_close(&l);
        }
        ran++;
    }
    CU_ASSERT(ran >= 1);
    trace_free(&t);
}

static const struct test tests[] = {
    { "knobs pick formats", knobs_pick_formats },
    { "head= keeps the head alone", head_alone_is_kept },
    { "mixed keeps the ends high", mixed_keeps_the_ends_high },
    { "weight bytes are exact on every device", weight_bytes_are_exact },
    { "KV bytes are exact", kv_bytes_are_exact },
    { "smaller groups lose less", smaller_groups_lose_less },
    { "tokens are as if alone in every format", tokens_are_as_if_alone },
    { "KV in int8: all schedulers x managers", kv_int8 },
    { "KV in fp8: all schedulers x managers", kv_fp8 },
    { "the same tokens at every instruction set", every_isa },
    { 0 },
};
const struct suite suite_prec = { "prec", tests, 600 };
