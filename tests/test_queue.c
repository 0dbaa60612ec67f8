/* test_queue.c - what schedulers share: queues, who yields, what a plan takes back, why others
 * wait. */
#include <string.h>

#include "strategies/strategy.h"
#include "tests/test.h"

enum { N = 4 };

static void fill(struct queue *q, struct request *r)
{
    static const uint32_t out[N] = { 7, 3, 3, 5 }, kv[N] = { 20, 40, 30, 20 };

    memset(q, 0, sizeof *q);
    memset(r, 0, N * sizeof *r);
    for (uint32_t i = 0; i < N; i++) {
        r[i] = (struct request){ .id = i, .n_prompt = 50, .n_out = out[i], .n_kv = kv[i] };
        queue_push(q, &r[i]);
    }
}

static void links_hold(const struct queue *q, const uint32_t *ids, uint32_t n)
{
    const struct request *r = q->head, *last = NULL;

    CU_ASSERT_EQUAL(q->n, n);
    for (uint32_t i = 0; i < n; i++, last = r, r = r->next) {
        CU_ASSERT_PTR_NOT_NULL_FATAL(r);
        CU_ASSERT_EQUAL(r->id, ids[i]);
        CU_ASSERT_PTR_EQUAL(r->prev, last);
    }
    CU_ASSERT_PTR_NULL(r);
    CU_ASSERT_PTR_EQUAL(q->tail, last);
}

static void queues(void)
{
    struct queue q;
    struct request r[N];

    fill(&q, r);
    links_hold(&q, (const uint32_t[]){ 0, 1, 2, 3 }, 4);
    queue_remove(&q, &r[1]);
    links_hold(&q, (const uint32_t[]){ 0, 2, 3 }, 3);
    queue_remove(&q, &r[3]);
    queue_remove(&q, &r[0]);
    links_hold(&q, (const uint32_t[]){ 2 }, 1);
    queue_push_front(&q, &r[3]);
    queue_push(&q, &r[0]);
    links_hold(&q, (const uint32_t[]){ 3, 2, 0 }, 3);
    for (int i = 0; i < 3; i++)
        queue_remove(&q, q.head);
    queue_push_front(&q, &r[1]);
    links_hold(&q, (const uint32_t[]){ 1 }, 1);
}

static void victims(void)
{
    struct queue q, none = { 0 };
    struct request r[N];

    fill(&q, r);
    CU_ASSERT_EQUAL(queue_victim(&q, VICTIM_YOUNGEST)->id, 3);
    CU_ASSERT_EQUAL(queue_victim(&q, VICTIM_FEWEST)->id, 2);       /* of 1 and 2 the younger */
    CU_ASSERT_EQUAL(queue_victim(&q, VICTIM_CHEAPEST)->id, 3);     /* of 0 and 3 the younger */
    CU_ASSERT_PTR_NULL(queue_victim(&none, VICTIM_FEWEST));
}

static void plans(void)
{
    struct slice slice[3];
    struct plan p = { .slice = slice, .max_seq = 3, .max_tok = 40 };
    struct request r[N];
    struct queue q;

    fill(&q, r);
    for (uint32_t i = 0; i < N; i++) {
        r[i].n_block = 8;
        r[i].block_tokens = 8;
    }
    CU_ASSERT_EQUAL(plan_add(&p, &r[0], 0), -1);
    CU_ASSERT_EQUAL(plan_add(&p, &r[0], 38), -1);                  /* 57 known, 20 resident */
    CU_ASSERT_EQUAL(plan_add(&p, &r[0], 37), 0);
    CU_ASSERT_EQUAL(plan_add(&p, &r[1], 4), -1);                   /* 3 are left */
    CU_ASSERT_EQUAL(plan_add(&p, &r[1], 1), 0);
    r[2].n_block = 3;
    CU_ASSERT_EQUAL(plan_add(&p, &r[2], 1), -1);                   /* no KV room */
    CU_ASSERT_EQUAL(plan_add(&p, &r[3], 1), 0);
    CU_ASSERT(p.n == 3 && p.n_tok == 39 && plan_room(&p) == 1);
    CU_ASSERT_EQUAL(plan_add(&p, &r[3], 1), -1);                   /* no more sequences */
}

static void reasons(void)
{
    struct plan p = { 0 };

    plan_why(&p, WHY_NO_KV, 5);
    plan_why(&p, WHY_SEQ_CAP, 2);
    plan_why(&p, WHY_BUDGET, 0);
    CU_ASSERT_EQUAL(p.why[WHY_NO_KV], 1); /* the head; the others wait behind it */
    CU_ASSERT_EQUAL(p.why[WHY_ORDER], 4);
    CU_ASSERT_EQUAL(p.why[WHY_SEQ_CAP], 2);
    CU_ASSERT_EQUAL(p.why[WHY_BUDGET], 0);
}

/* Moves become one where both ends go on, and only there. */
static void moves(void)
{
    struct kv_moves m = { 0 };
    struct kv kv = { 0 };

    CU_ASSERT_EQUAL(kv_move_add(&m, 0, 16, 4) | kv_move_add(&m, 4, 20, 2), 0);
    CU_ASSERT(m.n == 1 && m.move[0].n == 6);
    CU_ASSERT_EQUAL(kv_move_add(&m, 6, 40, 1) | kv_move_add(&m, 12, 41, 1), 0);
    CU_ASSERT_EQUAL(m.n, 3);
    for (uint32_t i = 0; i < 200; i++)
        CU_ASSERT_EQUAL(kv_move_add(&m, 100 + 2 * i, i, 1), 0);
    CU_ASSERT_EQUAL(m.n, 203);
    CU_ASSERT(m.move[202].from == 498 && m.move[202].to == 199);
    kv.out = m;
    kv_close(&kv);
}

static const struct test tests[] = {
    { "queues keep their links", queues },
    { "victims: youngest, fewest, cheapest, ties to the younger", victims },
    { "a plan keeps its limits", plans },
    { "reasons: behind a head without room the others wait in order", reasons },
    { "moves are joined where both ends go on", moves },
    { 0 },
};
const struct suite suite_queue = { "queue", tests, 60 };
