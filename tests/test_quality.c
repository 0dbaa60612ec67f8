/* test_quality.c - the quality figures on a tiny synthetic model: against a computation token by token, their order,
 * refusals. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "harness/quality.h"
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

/* -log p(tok[at + 1] | tok[from..at]), one token a step. */
static double surprise(struct lab *l, struct model *m, const uint32_t *tok, uint32_t from, uint32_t at)
{
    static float x[VOCAB];
    struct kv_pool kv;
    double sum = 0;
    uint32_t next;

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
    for (uint32_t i = 0; i < VOCAB; i++)
        sum += exp((double)x[i]);
    dev_kv_close(&l->dev, &kv);
    return log(sum) - x[tok[at + 1]];
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

static const struct test tests[] = {
    { "perplexity is that of steps token by token", perplexity_by_hand },
    { "the reference equals itself; fewer bits lie further off", order_of_precisions },
    { "a text shorter than a window is refused", too_short_a_text },
    { 0 },
};
const struct suite suite_quality = { "quality", tests, 120 };
