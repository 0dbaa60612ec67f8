/* test_conformance.c - what every registered scheduler and memory manager must do, with no table to edit.
 * The loop itself checks conservation after each step (SERVELAB_CHECK builds); here it is driven through
 * drawn strategies, traces and pool sizes on the sim device. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lab.h"
#include "tests/test.h"

static void draw_run(struct lab *l, const struct sched_ops *s, const struct kv_ops *k, struct rng *r)
{
    char name[160], a[64], b[64];
    struct trace t;
    struct replay_result res;
    uint32_t max_len = 32u << rng_below(r, 4);
    uint32_t slots = 16 * (1 + (uint32_t)rng_below(r, 64));
    struct lab_run_conf c = { .strategy = name, .trace = &t, .kv_slots = slots, .max_len = max_len };

    draw_knobs(s->knobs, r, 300, a, sizeof a);
    draw_knobs(k->knobs, r, 256, b, sizeof b);
    snprintf(name, sizeof name, "%s%s+%s%s+f16", s->name, a, k->name, b);
    lab_trace(&t, 1 + (uint32_t)rng_below(r, 60), max_len, max_len, (double)rng_below(r, 40000),
              rng_next(r));
    if (lab_run(l, &c, &res, NULL)) {
        test_note("%s, %u slots, max_len %u: %s", name, slots, max_len, l->e.text);
        CU_FAIL("the run failed");
    } else {
        CU_ASSERT_EQUAL(res.n_finished + res.n_rejected, t.n);
        CU_ASSERT_EQUAL(res.n_failed + res.n_censored, 0);
        CU_ASSERT(res.steps <= res.tokens_in);
        CU_ASSERT(res.peak_slots_held <= slots);
    }
    trace_free(&t);
}

static void drawn_runs(void)
{
    struct lab l;
    struct rng r;

    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "sim", "tiny", 1040, NULL, "cpu", PACE_SKIP), 0);
    for (size_t i = 0; sched_registry[i]; i++)
        for (size_t j = 0; kv_registry[j]; j++) {
            rng_seed(&r, 100 + i * 37 + j);
            for (int d = 0; d < 60; d++)
                draw_run(&l, sched_registry[i], kv_registry[j], &r);
        }
    lab_close(&l);
}

/* ---- memory managers on their own ---- */

enum { SLOTS = 256, MAX_LEN = 64, N_REQ = 40 };
struct bench_kv { struct arena arena; struct kv kv; struct trace_req in[N_REQ]; struct request r[N_REQ]; };

static void ids(void *self, const struct request *r, uint32_t from, uint32_t n, uint64_t *out)
{
    (void)self;
    for (uint32_t i = 0; i < n; i++)
        out[i] = hash64(r->id, from + i);      /* nothing is shared here */
}

static void kv_start(struct bench_kv *b, const struct kv_ops *ops, struct rng *rng)
{
    char knobs[64];
    struct params p;
    struct err e = { 0 };

    memset(b, 0, sizeof *b);
    draw_knobs(ops->knobs, rng, 32, knobs, sizeof knobs);
    CU_ASSERT_EQUAL_FATAL(params_parse(&p, ops->knobs, ops->name, knobs[0] ? knobs + 1 : "", &e), 0);
    CU_ASSERT_EQUAL_FATAL(kv_open(&b->kv, ops, &(struct kv_env){ .params = p, .n_slot = SLOTS,
                          .n_host_slot = SLOTS, .max_len = MAX_LEN, .identities = ids }, &b->arena, &e), 0);
    for (uint32_t i = 0; i < N_REQ; i++) {
        b->in[i].n_prompt = 1 + (uint32_t)rng_below(rng, MAX_LEN / 2);
        b->in[i].n_out = 1 + (uint32_t)rng_below(rng, MAX_LEN / 2);
        b->r[i].oracle_n_out = b->in[i].n_out;
        b->r[i].id = i;
        b->r[i].n_prompt = b->in[i].n_prompt;
    }
}

static void owners_agree(struct bench_kv *b)
{
    uint8_t owned[SLOTS] = { 0 };
    uint64_t held = 0;

    for (int i = 0; i < N_REQ; i++)
        for (uint32_t k = 0; k < b->r[i].n_block; k++)
            for (uint32_t s = 0; s < b->r[i].block_tokens; s++) {
                uint32_t slot = b->r[i].block[k] + s;

                CU_ASSERT_FATAL(slot < SLOTS);
                CU_ASSERT_EQUAL_FATAL(owned[slot], 0);
                owned[slot] = 1;
                held++;
            }
    CU_ASSERT_EQUAL(held, b->kv.ops->count(&b->kv).slots_held);
}

static void refused_grow_changes_nothing(void)
{
    for (size_t j = 0; kv_registry[j]; j++) {
        struct rng rng;
        int refused = 0;

        rng_seed(&rng, 5 + j);
        for (int round = 0; round < 20; round++) {
            struct bench_kv b;

            kv_start(&b, kv_registry[j], &rng);
            for (int op = 0; op < 400; op++) {
                struct request *r = &b.r[rng_below(&rng, N_REQ)];
                uint32_t final = r->n_prompt + b.in[r->id].n_out - 1;
                uint32_t want = r->n_kv + 1 + (uint32_t)rng_below(&rng, 8);
                struct kv_count before = b.kv.ops->count(&b.kv), after;
                struct request was = *r;

                if (want > final || rng_below(&rng, 8) == 0) {
                    kv_drop(&b.kv, r);
                    r->n_kv = 0;
                    CU_ASSERT_EQUAL(r->n_block, 0);
                } else if (kv_grow(&b.kv, r, want)) {
                    after = b.kv.ops->count(&b.kv);
                    refused++;
                    CU_ASSERT_EQUAL(memcmp(&before, &after, sizeof before), 0);
                    CU_ASSERT_EQUAL(r->n_block, was.n_block);
                    CU_ASSERT_EQUAL(req_room(r), req_room(&was));
                } else {
                    CU_ASSERT(req_room(r) >= want);
                    r->n_kv = want;
                }
                owners_agree(&b);
            }
            for (int i = 0; i < N_REQ; i++)
                kv_drop(&b.kv, &b.r[i]);
            CU_ASSERT_EQUAL(b.kv.ops->count(&b.kv).blocks_used, 0);
            CU_ASSERT_EQUAL(b.kv.ops->count(&b.kv).slots_held, 0);
            CU_ASSERT_PTR_NULL(b.kv.holder);
            kv_close(&b.kv);
            arena_free(&b.arena);
        }
        CU_ASSERT(refused > 0);
    }
}

/* After everything is given back, the largest legal sequence fits again: nothing is lost to fragments. */
static void freed_memory_is_whole(void)
{
    for (size_t j = 0; kv_registry[j]; j++) {
        struct rng rng;

        rng_seed(&rng, 50 + j);
        for (int round = 0; round < 20; round++) {
            struct bench_kv b;

            kv_start(&b, kv_registry[j], &rng);
            for (int op = 0; op < 100; op++) {
                struct request *r = &b.r[rng_below(&rng, N_REQ)];

                if (r->n_block)
                    kv_drop(&b.kv, r);
                else
                    kv_grow(&b.kv, r, r->n_prompt);
            }
            for (int i = 0; i < N_REQ; i++)
                kv_drop(&b.kv, &b.r[i]);
            b.in[0].n_prompt = b.r[0].n_prompt = MAX_LEN - 1;
            b.in[0].n_out = b.r[0].oracle_n_out = 1;
            CU_ASSERT_EQUAL(kv_grow(&b.kv, &b.r[0], MAX_LEN - 1), 0);
            kv_close(&b.kv);
            arena_free(&b.arena);
        }
    }
}

/* ---- schedulers that break a rule are caught by the loop and named ---- */

struct rogue { struct queue waiting, running; };

static int rogue_open(struct sched *s, struct arena *a, struct err *e)
{
    (void)a;
    (void)e;
    s->max_seq = 4;
    s->max_tok = 64;
    return 0;
}

static void rogue_arrive(struct sched *s, struct request *r)
{
    queue_push(&((struct rogue *)s->self)->waiting, r);
    s->n_waiting++;
}

static void plan_nothing(struct sched *s, uint64_t now, struct kv *kv, struct plan *p)
{
    (void)now;
    (void)kv;
    plan_why(p, WHY_ORDER, s->n_waiting);
}

static void plan_no_reason(struct sched *s, uint64_t now, struct kv *kv, struct plan *p)
{
    (void)s;
    (void)now;
    (void)kv;
    (void)p;
}

static void plan_twice(struct sched *s, uint64_t now, struct kv *kv, struct plan *p)
{
    struct rogue *y = s->self;
    struct request *r = y->waiting.head;

    (void)now;
    plan_why(p, WHY_ORDER, s->n_waiting);
    if (r && !kv_grow(kv, r, r->n_prompt)) {
        plan_add(p, r, 1);
        plan_add(p, r, 1);
    }
}

static void rogue_finish(struct sched *s, struct request *r)
{
    (void)s;
    (void)r;
}

static void rogues_are_named(void)
{
    static const struct { void (*plan)(struct sched *, uint64_t, struct kv *, struct plan *);
                          const char *says; } cases[] = {
        { plan_nothing, "stuck" }, { plan_no_reason, "reasons" }, { plan_twice, "twice" },
    };
    struct lab l;
    struct trace t;

    lab_trace(&t, 3, 20, 4, 10, 3);
    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "sim", "tiny", 1024, NULL, "cpu", PACE_SKIP), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sched_ops ops = { .name = "rogue", .state_bytes = sizeof(struct rogue),
                                 .open = rogue_open, .arrive = rogue_arrive, .plan = cases[i].plan,
                                 .finish = rogue_finish };
        struct strategy st;
        struct replay_result res;
        struct err e = { 0 };
        struct replay_conf c = { .trace = &t, .strategy = &st, .kv_pool = &l.kv, .kv_slots = 1024,
                                 .max_len = 64, .rate_scale = 1 };

        CU_ASSERT_EQUAL_FATAL(strategy_parse(&st, "static+paged+f16", &e), 0);
        c.model = loaded_get(&l.models, &st, &e);
        st.sched = &ops;
        CU_ASSERT_EQUAL(replay_run(&c, &res, &e), -1);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "rogue"));
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, cases[i].says));
    }
    lab_close(&l);
    trace_free(&t);
}

static const struct test tests[] = {
    { "drawn strategies, traces and pools: all end, nothing leaks", drawn_runs },
    { "a refused grow changes nothing; each slot has one owner", refused_grow_changes_nothing },
    { "memory given back is whole again", freed_memory_is_whole },
    { "schedulers that break a rule are caught and named", rogues_are_named },
    { 0 },
};
const struct suite suite_conformance = { "conformance", tests, 300 };
