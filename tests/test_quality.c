/* test_quality.c - the quality figures on a tiny synthetic model: against a computation token by token, their order,
 * refusals. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "harness/quality.h"
#include "harness/roof.h"
#include "tests/lab.h"
#include "tests/test.h"

enum { N_TOK = 400, VOCAB = 256 };

static void text_of(uint32_t *tok)
{
    for (uint32_t i = 0; i < N_TOK; i++)
        tok[i] = (uint32_t)(hash64(7, i / 3) % VOCAB);
}

static uint32_t parse(struct strategy *st, const char *const *names, uint32_t n)
{
    struct err e = { 0 };
    char text[100];

    for (uint32_t i = 0; i < n; i++) {
        snprintf(text, sizeof text, "continuous+paged+%s", names[i]);
        CU_ASSERT_EQUAL_FATAL(strategy_parse(&st[i], text, &e), 0);
    }
    return n;
}

static void open_lab(struct lab *l)
{
    CU_ASSERT_EQUAL_FATAL(lab_open(l, "cpu", "tiny", 64, NULL, NULL, PACE_SKIP), 0);
}

/* What follows tok[from..at], one token a step: the logits, and the greedy token. */
static uint32_t follows(struct lab *l, struct model *m, const uint32_t *tok, uint32_t from, uint32_t at, float *x)
{
    struct kv_pool kv;
    uint32_t next = 0;

    CU_ASSERT_EQUAL_FATAL(dev_kv_open(&l->dev, &kv, l->shape.n_layer, l->shape.n_kv_head, l->shape.head_dim, FMT_F16,
                                      256, &l->e), 0);
    for (uint32_t i = from; i <= at; i++) {
        uint32_t pos = i - from, start[2] = { 0, 1 }, len = pos + 1, bt = 256, row = 0, table = 0;
        struct batch b = { .n_tok = 1, .n_seq = 1, .n_row = 1, .n_table = 1, .tok = tok + i, .pos = &pos, .slot = &pos,
                           .seq_start = start, .kv_len = &len, .block_tokens = &bt, .table_start = start,
                           .table = &table, .row = &row };

        CU_ASSERT_EQUAL_FATAL(model_step(m, &kv, &b, &next, &l->e), 0);
    }
    l->dev.ops->get(&l->dev, x, m->logits, VOCAB);
    dev_kv_close(&l->dev, &kv);
    return next;
}

static double log_of_sum(const float *x)
{
    double sum = 0;

    for (uint32_t i = 0; i < VOCAB; i++)
        sum += exp((double)x[i]);
    return log(sum);
}

/* -log p(tok[at + 1] | tok[from..at]) */
static double surprise(struct lab *l, struct model *m, const uint32_t *tok, uint32_t from, uint32_t at)
{
    static float x[VOCAB];

    follows(l, m, tok, from, at, x);
    return log_of_sum(x) - x[tok[at + 1]];
}

static void perplexity_by_hand(void)
{
    static const char *const names[] = { "f16" };
    struct quality_conf c = { .window = 24, .stride = 10, .n_window = 3, .n_prompt = 2, .prompt_len = 8, .n_new = 4 };
    uint32_t tok[N_TOK];
    struct strategy st[1];
    struct quality q;
    struct model *m;
    struct lab l;
    double sum = 0;

    text_of(tok);
    open_lab(&l);
    parse(st, names, 1);
    CU_ASSERT_EQUAL_FATAL(quality_measure(&l.models, st, 1, tok, N_TOK, &c, &q, &l.e), 0);
    CU_ASSERT_EQUAL(q.n_window, 3);
    CU_ASSERT_EQUAL(q.n_scored, 30);
    m = loaded_get(&l.models, st, &l.e);
    for (uint32_t w = 0; w < 3; w++)
        for (uint32_t i = 14; i < 24; i++)
            sum += surprise(&l, m, tok, w * 10, w * 10 + i);
    CU_ASSERT_DOUBLE_EQUAL(q.ppl.mean, exp(sum / 30), 1e-4 * q.ppl.mean);
    CU_ASSERT(q.ppl.lo < q.ppl.mean && q.ppl.mean < q.ppl.hi);
    CU_ASSERT(q.decode_tok_s > 0 && q.prefill_tok_s > 0);
    CU_ASSERT_EQUAL(q.weight_bytes, m->weight_bytes);
    lab_close(&l);
}

/* ---- a second precision against the first ---- */

enum { WINDOWS = 4, STRIDE = 10, WINDOW = 24, PROMPTS = 4, PROMPT = 8, NEW = 12 };

/* Means of one window: loss in nats, KL(first || second), share of equal best tokens. */
static void window_by_hand(struct lab *l, struct model *const m[2], const uint32_t *tok, uint32_t w, double out[3])
{
    static float q[VOCAB], x[VOCAB];

    out[0] = out[1] = out[2] = 0;
    for (uint32_t at = w * STRIDE + WINDOW - STRIDE; at < w * STRIDE + WINDOW; at++) {
        bool same = follows(l, m[0], tok, w * STRIDE, at, q) == follows(l, m[1], tok, w * STRIDE, at, x);
        double zq = log_of_sum(q), z = log_of_sum(x);

        out[0] += (z - x[tok[at + 1]] - zq + q[tok[at + 1]]) / STRIDE;
        for (uint32_t i = 0; i < VOCAB; i++)
            out[1] += exp(q[i] - zq) * (q[i] - zq - x[i] + z) / STRIDE;
        out[2] += same ? 1.0 / STRIDE : 0;
    }
}

/* How many tokens two models answer alike before they part. */
static uint32_t alike(struct lab *l, struct model *const m[2], const uint32_t *prompt)
{
    uint32_t seq[2][PROMPT + NEW], n = 0;
    float x[VOCAB];

    for (int k = 0; k < 2; k++)
        memcpy(seq[k], prompt, PROMPT * sizeof *prompt);
    for (uint32_t i = 0; i < NEW; i++) {
        for (int k = 0; k < 2; k++)
            seq[k][PROMPT + i] = follows(l, m[k], seq[k], 0, PROMPT + i - 1, x);
        if (seq[0][PROMPT + i] != seq[1][PROMPT + i])
            break;
        n++;
    }
    return n;
}

/* Student's t for 95 % at 3 degrees of freedom: 3.182; the figures' own formula is within 1 % of it. */
static double upper(const double *x, double *mean)
{
    double sq = 0;

    *mean = 0;
    for (int w = 0; w < WINDOWS; w++)
        *mean += x[w] / WINDOWS;
    for (int w = 0; w < WINDOWS; w++)
        sq += (x[w] - *mean) * (x[w] - *mean);
    return 3.182 * sqrt(sq / (WINDOWS - 1) / WINDOWS);
}

static void second_by_hand(void)
{
    static const char *const names[] = { "f16", "int4:group=128" };
    struct quality_conf c = { .window = WINDOW, .stride = STRIDE, .n_window = 99, .n_prompt = PROMPTS, .prompt_len = PROMPT,
                              .n_new = NEW };
    double loss[WINDOWS], kl[WINDOWS], top[WINDOWS], sum[3], mean, half, agree = 0;
    uint32_t tok[N_TOK], n_tok = (WINDOWS - 1) * STRIDE + WINDOW + 1, same = 0;
    struct strategy st[2];
    struct quality q[2];
    struct model *m[2];
    struct lab l;

    text_of(tok);
    open_lab(&l);
    parse(st, names, 2);
    CU_ASSERT_EQUAL_FATAL(quality_measure(&l.models, st, 2, tok, n_tok, &c, q, &l.e), 0);
    CU_ASSERT_EQUAL_FATAL(q[1].n_window, WINDOWS);         /* the text's last window ends with its last token but one */
    for (int k = 0; k < 2; k++)
        m[k] = loaded_get(&l.models, &st[k], &l.e);
    for (uint32_t w = 0; w < WINDOWS; w++) {
        window_by_hand(&l, m, tok, w, sum);
        loss[w] = sum[0], kl[w] = sum[1], top[w] = 100 * sum[2];
    }
    half = upper(loss, &mean);
    CU_ASSERT_DOUBLE_EQUAL(q[1].loss_pct.mean, 100 * expm1(mean), 2e-3);
    CU_ASSERT_DOUBLE_EQUAL(q[1].loss_pct.hi, 100 * expm1(mean + half), 100 * 0.01 * half);
    CU_ASSERT_DOUBLE_EQUAL(q[1].loss_pct.lo, 100 * expm1(mean - half), 100 * 0.01 * half);
    half = upper(kl, &mean);
    CU_ASSERT_DOUBLE_EQUAL(q[1].kl.mean, mean, 1e-5 * mean);       /* the other way round it differs by 2e-3 */
    CU_ASSERT_DOUBLE_EQUAL(q[1].kl.hi, mean + half, 0.01 * half + 1e-3 * mean);
    upper(top, &mean);
    CU_ASSERT_DOUBLE_EQUAL(q[1].top1_pct.mean, mean, 1e-6);
    for (uint32_t s = 0; s < PROMPTS; s++) {               /* prompts are spread over what was scored */
        uint32_t n = alike(&l, m, tok + (n_tok - 1 - PROMPT) * s / PROMPTS);

        agree += n / (double)PROMPTS;
        same += n == NEW;
    }
    test_note("loss %g %%, KL %g, top-1 %g %%, agree %g, same %u", q[1].loss_pct.mean, q[1].kl.mean, q[1].top1_pct.mean,
              q[1].agree_len.mean, q[1].n_same);
    CU_ASSERT_DOUBLE_EQUAL(q[1].agree_len.mean, agree, 1e-9);
    CU_ASSERT(agree > 0 && agree < NEW);
    CU_ASSERT_EQUAL(q[1].n_same, same);
    lab_close(&l);
}

/* Seconds that the rates claim fit into those that went by; a scale is two bytes, and a tied head has them once. */
static void rates_and_bytes(void)
{
    static const char *const names[] = { "int8" };
    struct quality_conf c = { .window = 96, .stride = 1, .n_window = 2, .n_prompt = 2, .prompt_len = 8, .n_new = 3 };

    for (int tied = 0; tied < 2; tied++) {
        uint32_t tok[N_TOK], rows;
        struct strategy st[1];
        struct quality q;
        double from, took;
        struct lab l;

        text_of(tok);
        open_lab(&l);
        loaded_close(&l.models);
        l.shape.tied = tied;
        CU_ASSERT_EQUAL_FATAL(loaded_open(&l.models, &l.dev, &l.shape, 1, &l.e), 0);
        parse(st, names, 1);
        from = bench_seconds();
        CU_ASSERT_EQUAL_FATAL(quality_measure(&l.models, st, 1, tok, N_TOK, &c, &q, &l.e), 0);
        took = bench_seconds() - from;
        CU_ASSERT(q.n_window * 96 / q.prefill_tok_s + 2 * 2 / q.decode_tok_s <= took);
        rows = (l.shape.n_head + 2 * l.shape.n_kv_head) * l.shape.head_dim + 2 * l.shape.dim + 2 * l.shape.ffn;
        CU_ASSERT_EQUAL(q.scale_bytes, 2 * (rows * l.shape.n_layer + (tied ? 1u : 2u) * l.shape.vocab));
        lab_close(&l);
    }
}

static void order_of_precisions(void)
{
    static const char *const names[] = { "f16", "f16", "int8", "int4:group=32", "int4:group=128", "f16:kv=int8" };
    struct quality_conf c = { .window = 32, .stride = 16, .n_window = 12, .n_prompt = 4, .prompt_len = 8, .n_new = 12 };
    uint32_t tok[N_TOK], n;
    struct strategy st[6];
    struct quality q[6];
    struct lab l;

    text_of(tok);
    open_lab(&l);
    n = parse(st, names, 6);
    CU_ASSERT_EQUAL_FATAL(quality_measure(&l.models, st, n, tok, N_TOK, &c, q, &l.e), 0);
    for (int i = 0; i < 2; i++) {              /* the reference against itself */
        CU_ASSERT_DOUBLE_EQUAL(q[i].loss_pct.mean, 0, 1e-12);
        CU_ASSERT_DOUBLE_EQUAL(q[i].kl.mean, 0, 1e-12);
        CU_ASSERT_DOUBLE_EQUAL(q[i].top1_pct.mean, 100, 1e-9);
        CU_ASSERT_EQUAL(q[i].n_same, 4);
        CU_ASSERT_DOUBLE_EQUAL(q[i].agree_len.mean, 12, 1e-9);
    }
    CU_ASSERT(q[2].kl.mean > 0 && q[2].kl.mean < q[3].kl.mean && q[3].kl.mean < q[4].kl.mean);
    CU_ASSERT(q[5].kl.mean > 0 && q[5].kl.mean < q[3].kl.mean);
    CU_ASSERT(q[3].weight_bytes < q[2].weight_bytes && q[2].weight_bytes < q[0].weight_bytes);
    CU_ASSERT(q[3].scale_bytes > q[4].scale_bytes && q[0].scale_bytes == 0);
    CU_ASSERT_EQUAL(q[5].kv_token_bytes, 2u * l.shape.n_layer * l.shape.n_kv_head * (l.shape.head_dim + 2));
    lab_close(&l);
}

static void too_short_a_text(void)
{
    static const char *const names[] = { "f16" };
    struct quality_conf c = { .window = 24, .stride = 10, .n_window = 3, .n_prompt = 2, .prompt_len = 8, .n_new = 4 };
    uint32_t tok[N_TOK];
    struct strategy st[1];
    struct quality q;
    struct lab l;

    text_of(tok);
    open_lab(&l);
    parse(st, names, 1);
    CU_ASSERT_EQUAL(quality_measure(&l.models, st, 1, tok, 24, &c, &q, &l.e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(l.e.text, "one window needs 25"));
    lab_close(&l);
}

/* A window may be shorter than a prompt of the answers. */
static void short_windows(void)
{
    static const char *const names[] = { "f16", "int4" };
    struct quality_conf c = { .window = 16, .stride = 4, .n_window = 2, .n_prompt = 4, .prompt_len = 32, .n_new = 4 };
    uint32_t tok[N_TOK];
    struct strategy st[2];
    struct quality q[2];
    struct lab l;

    text_of(tok);
    open_lab(&l);
    parse(st, names, 2);
    for (uint32_t n = 32; n < 40; n += 7) {
        CU_ASSERT_EQUAL_FATAL(quality_measure(&l.models, st, 2, tok, n, &c, q, &l.e), 0);
        CU_ASSERT_EQUAL(q[1].n_window, 2);
        CU_ASSERT(q[1].agree_len.lo >= 0 && q[1].agree_len.hi <= 4);
        CU_ASSERT(q[1].kl.lo >= 0 && q[1].top1_pct.hi <= 100);
    }
    CU_ASSERT_EQUAL(quality_measure(&l.models, st, 2, tok, 31, &c, q, &l.e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(l.e.text, "one prompt 32"));
    c.n_window = 1;                            /* one sample says nothing of its spread */
    CU_ASSERT_EQUAL_FATAL(quality_measure(&l.models, st, 2, tok, 32, &c, q, &l.e), 0);
    CU_ASSERT(isnan(q[1].kl.lo) && isnan(q[1].loss_pct.hi) && isnan(q[1].top1_pct.hi) && isfinite(q[1].kl.mean));
    lab_close(&l);
}

/* The share of intervals that hold the mean they were drawn around, of normal and of skew samples: 95 % for the former,
 * whatever their number. */
static void intervals_cover(void)
{
    enum { DRAWS = 40000, MOST = 32 };
    static const struct { uint32_t n; double skew_least; } row[] = {
        { 2, 0.88 }, { 3, 0.86 }, { 4, 0.86 }, { 8, 0.88 }, { 32, 0.92 }
    };
    struct rng r;

    rng_seed(&r, 5);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        uint32_t held = 0, skew = 0;

        for (int d = 0; d < DRAWS; d++) {
            double x[MOST], y[MOST];
            struct interval v, w;

            for (uint32_t k = 0; k < row[i].n; k++) {
                x[k] = 3 + 0.1 * rng_normal(&r);
                y[k] = -log(1 - rng_unit(&r));         /* mean 1 */
            }
            v = interval_of(x, row[i].n), w = interval_of(y, row[i].n);
            held += v.lo <= 3 && 3 <= v.hi;
            skew += w.lo <= 1 && 1 <= w.hi;
        }
        test_note("%u samples: %.4f of normal ones, %.4f of exponential ones", row[i].n, (double)held / DRAWS,
                  (double)skew / DRAWS);
        CU_ASSERT_DOUBLE_EQUAL((double)held / DRAWS, 0.95, 0.004);     /* 3.7 standard deviations */
        CU_ASSERT((double)skew / DRAWS > row[i].skew_least);
    }
}

static const struct test tests[] = {
    { "perplexity is that of steps token by token", perplexity_by_hand },
    { "a second precision against the first, by hand", second_by_hand },
    { "rates and bytes", rates_and_bytes },
    { "the reference equals itself; fewer bits lie further off", order_of_precisions },
    { "a text shorter than a window is refused", too_short_a_text },
    { "windows shorter than prompts; one window", short_windows },
    { "intervals hold the mean as often as they say", intervals_cover },
    { 0 },
};
const struct suite suite_quality = { "quality", tests, 120 };
