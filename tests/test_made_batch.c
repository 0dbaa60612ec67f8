/* test_made_batch.c - batches that no plan stands behind: every row has a slot of its own inside the pool, blocks lie
 * where the layout says, the last rows yield, and what does not fit is refused. */
#include <string.h>

#include "harness/made_batch.h"
#include "tests/test.h"

enum { POOL = 512 };

/* Slots are nobody else's; tables, positions and rows agree with the sizes. */
static void check(const struct made_conf *c, const struct batch *b)
{
    bool taken[POOL] = { 0 };

    CU_ASSERT_EQUAL(b->n_tok, c->n_seq * c->rows);
    CU_ASSERT_EQUAL(b->n_row, c->n_seq * c->n_yield);
    CU_ASSERT_EQUAL(b->n_table, b->table_start[c->n_seq]);
    for (uint32_t s = 0; s < c->n_seq; s++) {
        CU_ASSERT_EQUAL(b->kv_len[s], (c->lens ? c->lens[s] : c->prefix) + c->rows);
        for (uint32_t p = 0; p < b->kv_len[s]; p++) {
            uint32_t slot = batch_slot(b, s, p);

            CU_ASSERT_FATAL(slot < POOL && !taken[slot]);
            taken[slot] = true;
        }
        for (uint32_t i = 0; i < c->rows; i++) {
            uint32_t t = b->seq_start[s] + i;

            CU_ASSERT_EQUAL(b->pos[t], b->kv_len[s] - c->rows + i);
            CU_ASSERT_EQUAL(b->slot[t], batch_slot(b, s, b->pos[t]));
            CU_ASSERT(c->tok || b->tok[t] < c->vocab);
        }
        for (uint32_t i = 0; i < c->n_yield; i++)
            CU_ASSERT_EQUAL(b->row[s * c->n_yield + i], b->seq_start[s + 1] - c->n_yield + i);
    }
}

static void layouts(void)
{
    static const uint32_t lens[] = { 0, 100, 17 }, tok[6] = { 5, 4, 3, 2, 1, 0 };
    static const struct made_conf c[] = {
        { .n_seq = 3, .prefix = 40, .rows = 5, .block = 16, .n_yield = 1, .vocab = 50 },
        { .n_seq = 3, .lens = lens, .rows = 1, .block = 16, .n_yield = 1, .vocab = 50 },
        { .n_seq = 4, .prefix = 0, .rows = 128, .block = 128, .own = 128, .n_yield = 7, .vocab = 50 },
        { .n_seq = 2, .prefix = 60, .rows = 3, .block = 16, .own = 96, .first = 3, .n_yield = 1, .tok = tok },
    };

    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct made_batch x;
        struct err e = { 0 };

        CU_ASSERT_EQUAL_FATAL(made_batch(&x, &c[i], POOL, &e), 0);
        check(&c[i], &x.b);
        if (c[i].own)
            CU_ASSERT_EQUAL(batch_slot(&x.b, 1, 0), (c[i].first + 1) * c[i].own);
        if (c[i].tok)
            CU_ASSERT_PTR_EQUAL(x.b.tok, tok);
        if (!c[i].own)
            CU_ASSERT(x.b.table[1] != x.b.table[0] + 16);      /* scattered */
        made_batch_free(&x);
    }
}

static void what_does_not_fit(void)
{
    static const struct made_conf c[] = {
        { .n_seq = 33, .prefix = 0, .rows = 1, .block = 16, .n_yield = 1, .vocab = 50 },
        { .n_seq = 4, .prefix = 0, .rows = 1, .block = 16, .own = 128, .first = 1, .n_yield = 1, .vocab = 50 },
        { .n_seq = 1, .prefix = 64, .rows = 1, .block = 16, .own = 64, .n_yield = 1, .vocab = 50 },
        { .n_seq = 1, .prefix = UINT32_MAX - 40, .rows = 1, .block = 16, .n_yield = 1, .vocab = 50 },
    };

    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct made_batch x;
        struct err e = { 0 };

        CU_ASSERT_EQUAL(made_batch(&x, &c[i], POOL, &e), -1);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "more than the 512 tokens of the pool"));
        made_batch_free(&x);
    }
}

static const struct test tests[] = {
    { "every row has a slot of its own, where the layout says", layouts },
    { "what does not fit the pool is refused", what_does_not_fit },
    { 0 },
};
const struct suite suite_made_batch = { "made_batch", tests, 30 };
