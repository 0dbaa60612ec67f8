/* test_sched_rules.c - what must hold in every plan of a scheduler (the sources' own invariants), watched by a
 * spy through drawn runs on the sim device: ample and scarce memory, declared limits above the true output. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sched_drive.h"
#include "tests/test.h"

enum { MAX_LEN = 256, POOL = 4096 };
typedef void (*look)(struct spy *y, const struct sched *s, const struct plan *p, struct kv *kv);

/* Runs strategy through `rounds` drawn traces. Returns how many preemptions there were in all. */
static uint64_t watch(const char *strategy, look after, uint32_t rounds)
{
    struct lab l;
    uint64_t preemptions = 0, broken = 0;

    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "sim", "tiny", POOL, NULL, "cpu", PACE_SKIP), 0);
    for (uint32_t i = 0; i < rounds; i++) {
        struct trace t;
        struct spy *y;

        lab_trace(&t, 60, 120, 100, i % 3 * 2000.0, 40 + i);
        y = spy_run(&l, &(struct spy_conf){ .strategy = strategy, .trace = &t, .max_len = MAX_LEN,
                                            .kv_slots = i % 2 ? POOL : 512, .max_new = i % 4 / 2 * 120,
                                            .after = after });
        preemptions += y->res.preemptions;
        broken += y->broken;
        CU_ASSERT_EQUAL(y->res.n_finished, t.n);
        free(y);
        trace_free(&t);
    }
    if (broken)
        test_note("%s: %llu times", strategy, (unsigned long long)broken);
    CU_ASSERT_EQUAL(broken, 0);
    lab_close(&l);
    return preemptions;
}

static void admits_nobody_while_preempting(struct spy *y, const struct sched *s, const struct plan *p,
                                           struct kv *kv)
{
    (void)s;
    (void)kv;
    y->broken += p->n_preempt && y->now_admitted;
}

static void preempting_steps_admit_nobody(void)
{
    static const char *const names[] = {
        "list_order:gate=first+paged+f16", "list_order+paged+f16", "chunked+paged+f16",
        "continuous+paged+f16", "decodes_first+paged+f16", "fair+paged+f16", "prefix_order+paged+f16",
        "shortest+paged+f16", "priority:preemptive=off+paged+f16", "static+paged+f16", "dynamic+paged+f16",
        "expected+paged+f16",
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CU_ASSERT(watch(names[i], admits_nobody_while_preempting, 6) > 0);
}

/* Whoever lost its blocks was admitted after everybody who kept them. */
static void last_admitted_yields(struct spy *y, const struct sched *s, const struct plan *p, struct kv *kv)
{
    uint64_t youngest_kept = 0;
    uint32_t kept = 0, held = 0;

    (void)s;
    for (const struct request *r = kv->holder; r; r = r->hold_next)
        if (y->held[r->id]) {
            kept++;
            y->held[r->id] = false;    /* what stays marked has yielded */
            if (y->admitted[r->id] > youngest_kept)
                youngest_kept = y->admitted[r->id];
        }
    for (uint32_t i = 0; i < SPY_REQ; i++)
        if (y->held[i]) {
            held++;
            y->broken += y->admitted[i] < youngest_kept;
        }
    y->broken += held != p->n_preempt && kept + held > 0 && !y->now_admitted;
}

static void the_last_admitted_yields(void)
{
    CU_ASSERT(watch("list_order:gate=first+paged+f16", last_admitted_yields, 6) > 0);
    CU_ASSERT(watch("chunked+paged+f16", last_admitted_yields, 6) > 0);
}

/* Blocks that the running ones may still take are free; one whose worst case exceeds the pool is alone. */
static void worst_case_is_free(struct spy *y, const struct sched *s, const struct plan *p, struct kv *kv)
{
    struct kv_count c = kv->ops->count(kv);
    uint64_t block = c.blocks_used ? c.slots_held / c.blocks_used : 1, may_take = 0;
    uint32_t n = 0;

    (void)s;
    (void)p;
    for (const struct request *r = kv->holder; r; r = r->hold_next, n++)
        may_take += ((uint64_t)r->n_prompt + r->max_new + block - 1) / block - r->n_block;
    y->broken += n > 1 && may_take > c.blocks_total - c.blocks_used;
}

static void nothing_is_ever_evicted(void)
{
    static const char *const names[] = {
        "no_evict+paged+f16", "no_evict+paged:block=7+f16", "no_evict+paged:block=32+f16",
        "no_evict:chunked=on:unit=16:budget=64+paged+f16",
        "no_evict:chunked=on:share=equal:unit=8:budget=64+paged+f16", "no_evict:refill=off+paged+f16",
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CU_ASSERT_EQUAL(watch(names[i], worst_case_is_free, 8), 0);
    for (size_t i = 0; kv_registry[i]; i++) {
        char name[80];

        snprintf(name, sizeof name, "no_evict+%s+f16", kv_registry[i]->name);
        CU_ASSERT_EQUAL(watch(name, NULL, 8), 0);
    }
}

/* A lone request waits for company exactly as long as it was told to, though nothing else happens. */
static void the_timer_fires(void)
{
    struct trace_req in = { .n_prompt = 9, .n_out = 3 };
    struct trace t = { .name = "one", .req = &in, .n = 1 };
    uint64_t ttft[2];
    struct lab l;

    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "sim", "tiny", POOL, NULL, "cpu", PACE_SKIP), 0);
    for (int i = 0; i < 2; i++) {
        struct spy *y = spy_run(&l, &(struct spy_conf){
            .strategy = i ? "dynamic:wait_ms=70+paged+f16" : "static+paged+f16", .trace = &t,
            .max_len = MAX_LEN });

        ttft[i] = y->ttft_ns[0];
        free(y);
    }
    CU_ASSERT_EQUAL(ttft[1] - ttft[0], 70000000);
    lab_close(&l);
}

static void joins_nobody_alive(struct spy *y, const struct sched *s, const struct plan *p, struct kv *kv)
{
    bool lives = false;

    (void)s;
    (void)p;
    (void)kv;
    for (uint32_t i = 0; i < SPY_REQ && !lives; i++)
        lives = y->held[i];
    y->broken += lives && y->now_admitted;
}

static void static_batches_are_closed(void)
{
    watch("no_evict:refill=off+paged+f16", joins_nobody_alive, 6);
    watch("static+paged+f16", joins_nobody_alive, 6);
    watch("dynamic:wait_ms=3+paged+f16", joins_nobody_alive, 6);
}

/* Reserved blocks stay as they are from admission to the end of the leg; what a step runs stays within the
 * prefill budget, rounded up to a block. */
static void leg_is_reserved(struct spy *y, const struct sched *s, const struct plan *p, struct kv *kv)
{
    static uint32_t blocks[SPY_REQ], leg[SPY_REQ];

    for (const struct request *r = kv->holder; r; r = r->hold_next) {
        y->broken += y->held[r->id] && r->n_preempt == leg[r->id] && r->n_block != blocks[r->id];
        blocks[r->id] = r->n_block;
        leg[r->id] = r->n_preempt;     /* one that is back at once has begun another */
    }
    y->broken += p->n_tok > 112 && p->n_tok > s->n_running;        /* 100 rounded up to 16s */
}

static void legs_are_reserved(void)
{
    CU_ASSERT(watch("served_ratio:prefill=100:leg=30+paged+f16", leg_is_reserved, 8) > 0);
    CU_ASSERT(watch("served_ratio:prefill=100:leg=30:chunking=off+paged+f16", leg_is_reserved, 8) > 0);
    CU_ASSERT_EQUAL(watch("served_ratio:prefill=100+paged+f16", leg_is_reserved, 8), 0);
}

/* Nobody is paused while one behind it in the list keeps its memory; the first of the list always moves. */
static void end_is_paused(struct spy *y, const struct sched *s, const struct plan *p, struct kv *kv)
{
    uint32_t last_kept = 0, first = UINT32_MAX, moves = UINT32_MAX;

    (void)s;
    for (const struct request *r = kv->holder; r; r = r->hold_next) {
        if (y->held[r->id] && r->id > last_kept)
            last_kept = r->id;
        if (r->id < first)
            first = r->id;
        y->held[r->id] = false;
    }
    for (uint32_t i = 0; i < last_kept; i++)
        y->broken += y->held[i];
    for (uint32_t i = 0; i < p->n; i++)
        if (p->slice[i].r->id < moves)
            moves = p->slice[i].r->id;
    y->broken += moves != first;
}

static void pauses_come_from_the_end(void)
{
    CU_ASSERT(watch("max_utilisation+paged+f16", end_is_paused, 8) > 0);
    CU_ASSERT(watch("max_utilisation:chunked=on:unit=8:budget=64+paged+f16", end_is_paused, 8) > 0);
    CU_ASSERT(watch("max_utilisation:chunked=on:share=equal:unit=8:budget=64+paged+f16", end_is_paused,
                    8) > 0);
}

/* The loop poisons the output length for all others. */
static void only_oracles_are_told(void)
{
    for (size_t i = 0; sched_registry[i]; i++)
        CU_ASSERT_EQUAL(sched_registry[i]->oracle, !strcmp(sched_registry[i]->name, "shortest"));
}

/* What a scheduler reads as output length: poison, though the memory manager is told. */
static void poisoned(struct spy *y, const struct sched *s, const struct plan *p, struct kv *kv)
{
    (void)p;
    for (const struct request *r = kv->holder; r; r = r->hold_next) {
        y->broken += (r->oracle_n_out == ORACLE_POISON) == s->ops->oracle;
        y->broken += !kv->env.length != !kv->ops->oracle;
    }
}

static void memory_keeps_the_secret(void)
{
    watch("continuous+contiguous:fit=exact+f16", poisoned, 2);
    watch("chunked+contiguous:fit=pow2+f16", poisoned, 2);
    watch("shortest+contiguous:fit=exact+f16", poisoned, 2);
    watch("chunked+paged+f16", poisoned, 2);
}

static const struct test tests[] = {
    { "a step that preempts admits nobody", preempting_steps_admit_nobody },
    { "the last admitted yields", the_last_admitted_yields },
    { "no_evict: what may be taken is free, nobody is ever preempted", nothing_is_ever_evicted },
    { "closed batches: nobody joins while one lives", static_batches_are_closed },
    { "dynamic: the timer fires in the loop", the_timer_fires },
    { "served_ratio: a reservation holds for its leg; steps stay within the budget", legs_are_reserved },
    { "max_utilisation: pauses from the end of the list, the first always moves", pauses_come_from_the_end },
    { "what an oracle memory manager is told, its scheduler does not see", memory_keeps_the_secret },
    { "only shortest declares that it reads output lengths", only_oracles_are_told },
    { 0 },
};
const struct suite suite_sched_rules = { "sched_rules", tests, 120 };
