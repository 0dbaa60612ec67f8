/* test_sched_share.c - estimates, sharing within a step and feedback queues, by hand: expected (SGLang),
 * deferral for reuse (TensorRT-LLM), sharing within a batch (SGLang lpm), feedback (FastServe). */
#include "tests/sched_drive.h"
#include "tests/test.h"

/* One that may produce n_out and does. */
static uint32_t arrive(struct drive *d, uint32_t tenant, uint32_t n_prompt, uint32_t n_out)
{
    d->r[d->n_req].tenant = tenant;
    return drive_arrive(d, n_prompt, n_out);
}

/* ---- expected ---- */

/* 40 slots in blocks of 4; prompt 4, 16 to come. r0 in: 36 are free and it may produce 15 more. r1 asks for
 * 4 + 16 + a page: 24. ratio 1: 36 - 15 = 21, no. 0.5: 36 - 7 = 29, yes; then r2 finds 32 - 14 = 18, no.
 * 0: r2 finds 32, yes. */
static void a_share_is_reserved(void)
{
    static const struct { const char *text; uint32_t n_in; } cases[] = {
        { "expected:ratio=100", 1 }, { "expected:ratio=50", 2 }, { "expected:ratio=0", 3 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct drive d;

        drive_open(&d, cases[i].text, 10, 4);
        for (uint32_t k = 0; k < 3; k++) {
            arrive(&d, 0, 4, 16);
            drive_plan(&d, 0);
            CU_ASSERT_EQUAL(drive_slice(&d, k), k < cases[i].n_in ? 4 : 0);
            CU_ASSERT_EQUAL(d.plan.n, 1 + (k >= cases[i].n_in) * (cases[i].n_in - 1));
            drive_settle(&d);
        }
        CU_ASSERT_EQUAL(d.sched.n_running, cases[i].n_in);
        drive_close(&d);
    }
}

/* ratio 1, in 4 steps to nothing. After two decodes it is 0.5: r0 holds 2 blocks and may produce 13 more, 32 - 6
 * are enough. Who asked before was told no, and nobody asks again until one leaves. */
static void the_share_falls(void)
{
    for (int late = 0; late <= 1; late++) {
        struct drive d;

        drive_open(&d, "expected:ratio=100:floor=0:steps=4", 10, 4);
        arrive(&d, 0, 4, 16);
        drive_step(&d);
        if (!late)
            arrive(&d, 0, 4, 16);
        drive_step(&d);
        drive_step(&d);
        CU_ASSERT_EQUAL(d.sched.n_waiting, !late);
        if (late)
            arrive(&d, 0, 4, 16);
        drive_plan(&d, 0);
        CU_ASSERT_EQUAL(drive_slice(&d, 1), late ? 4 : 0);
        CU_ASSERT_EQUAL(drive_slice(&d, 0), !late);        /* prompts stop the decodes */
        drive_settle(&d);
        while (d.n_finished < 2)
            drive_step(&d);
        drive_close(&d);
    }
}

/* 24 slots. r0 (prompt 4), r1, r2 (prompt 3) get 2 blocks each; at r0's ninth token none is free. All have
 * produced 5: the longest prompt goes, behind r3, who came later but was never in. */
static void fewest_then_longest_is_retracted(void)
{
    static const uint32_t prompt[] = { 4, 3, 3, 7 };
    struct drive d;

    drive_open(&d, "expected:ratio=0:clip=1", 6, 4);
    for (uint32_t i = 0; i < 4; i++)
        arrive(&d, 0, prompt[i], 12);
    drive_step(&d);
    CU_ASSERT_EQUAL(d.sched.n_running, 3);
    for (int i = 0; i < 4; i++)
        drive_step(&d);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(d.plan.n_preempt, 1);
    CU_ASSERT_EQUAL(d.r[0].n_preempt, 1);
    CU_ASSERT_EQUAL(d.plan.n, 2);
    drive_settle(&d);
    while (!drive_slice(&d, 3))
        drive_step(&d);
    CU_ASSERT(!drive_slice(&d, 0) || d.slice[0].r->id == 3);
    while (d.n_finished < 4)
        drive_step(&d);
    drive_close(&d);
}

static void one_prompt_is_cut(void)
{
    struct drive d;

    drive_open(&d, "expected:chunk=8", 32, 4);
    arrive(&d, 0, 10, 3);
    arrive(&d, 0, 6, 3);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 8);
    CU_ASSERT_EQUAL(d.plan.n, 1);
    CU_ASSERT_EQUAL(d.plan.why[WHY_BUDGET], 1);
    drive_settle(&d);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 2);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 6);
    drive_close(&d);

    drive_open(&d, "expected:mixed=on", 32, 4);
    arrive(&d, 0, 4, 3);
    drive_step(&d);
    arrive(&d, 0, 6, 3);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 1);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 6);
    drive_close(&d);
}

/* ---- deferral ---- */

/* Three prompts of 12, the first two equal, blocks of 4: the second waits one step, the third does not wait
 * for it; then 8 of its tokens are there. */
static void equal_prompts_wait_a_step(void)
{
    static const struct { const char *text, *kv; bool waits; } cases[] = {
        { "no_evict:batch=8", "prefix", true }, { "no_evict:batch=8:defer=off", "prefix", false },
        { "no_evict:batch=8:refill=off", "prefix", false }, { "no_evict:batch=8", "paged", false },
        { "max_utilisation:batch=8", "prefix", true },
        { "max_utilisation:batch=8:defer=off", "prefix", false }, { "no_evict:batch=8", "tree", true },
        { "max_utilisation:batch=8:chunked=on", "tree", true },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct drive d;

        drive_open_on(&d, cases[i].text, cases[i].kv, 64, 4);
        arrive(&d, 1, 12, 3);
        arrive(&d, 1, 12, 3);
        arrive(&d, 2, 12, 3);
        drive_plan(&d, 0);
        CU_ASSERT_EQUAL(drive_slice(&d, 0), 12);
        CU_ASSERT_EQUAL(drive_slice(&d, 1), cases[i].waits ? 0 : 12);
        CU_ASSERT_EQUAL(drive_slice(&d, 2), 12);
        CU_ASSERT_EQUAL(d.plan.why[WHY_ORDER], cases[i].waits);
        drive_settle(&d);
        drive_plan(&d, 0);
        if (cases[i].waits) {
            CU_ASSERT(d.r[1].n_kv >= 8);
            CU_ASSERT_EQUAL(drive_slice(&d, 1), 12 - d.r[1].n_kv);
        }
        drive_close(&d);
    }
}

/* A prompt of 20 in pieces of 12 and 8: an equal one waits until all that it can share is there. */
static void waits_for_a_prompt_under_way(void)
{
    struct drive d;

    drive_open_on(&d, "no_evict:chunked=on:budget=12:unit=4", "prefix", 64, 4);
    arrive(&d, 1, 20, 3);
    drive_step(&d);
    arrive(&d, 1, 20, 3);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 8);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 0);            /* though 4 tokens of the budget are left */
    drive_settle(&d);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(d.r[1].n_kv, 16);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 4);
    drive_close(&d);
}

/* ---- sharing within a batch ---- */

static void one_of_equals_goes_first(void)
{
    static const struct { const char *text; uint32_t second; } cases[] = {
        { "prefix_order:budget=32:shared=8", 2 }, { "prefix_order:budget=32:shared=0", 1 },
        { "prefix_order:budget=32:shared=17", 1 },         /* longer than the prompts */
        { "prefix_order:budget=32:shared=8:most=2", 1 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct drive d;

        drive_open_on(&d, cases[i].text, "prefix", 64, 4);
        arrive(&d, 1, 16, 2);
        arrive(&d, 1, 16, 2);
        arrive(&d, 2, 16, 2);
        drive_plan(&d, 0);
        CU_ASSERT_EQUAL(drive_slice(&d, 0), 16);
        CU_ASSERT_EQUAL(drive_slice(&d, cases[i].second), 16);
        CU_ASSERT_EQUAL(d.plan.n, 2);
        drive_close(&d);
    }
}

/* ---- feedback ---- */

/* One seat, 2 iterations in the first queue. r0 sinks after two tokens; r1 gets its two before it goes on. */
static void much_served_waits(void)
{
    struct drive d;

    drive_open(&d, "feedback:batch=1:quantum=2:prompt=4", 64, 4);
    arrive(&d, 0, 4, 20);
    for (int i = 0; i < 3; i++)
        drive_step(&d);
    arrive(&d, 0, 4, 20);
    for (int i = 0; i < 2; i++) {
        drive_plan(&d, 0);
        CU_ASSERT_EQUAL(drive_slice(&d, 1), i ? 1 : 4);
        CU_ASSERT_EQUAL(drive_slice(&d, 0), 0);
        drive_settle(&d);
    }
    drive_plan(&d, 0);                 /* both in the second queue now, r0 was there first */
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 1);
    CU_ASSERT_EQUAL(d.sched.n_running, 2);             /* r1 keeps its memory */
    drive_settle(&d);
    while (d.n_finished < 2)
        drive_step(&d);
    drive_close(&d);
}

/* 20 tokens count for 5 iterations: past queues of 2 and 4, into that of 8. */
static void long_prompts_start_lower(void)
{
    struct drive d;

    drive_open(&d, "feedback:batch=1:quantum=2:prompt=4:age_ms=1", 64, 4);
    arrive(&d, 0, 20, 2);
    arrive(&d, 0, 4, 50);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 4);
    drive_settle(&d);
    drive_plan(&d, 500000);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 1);
    drive_settle(&d);
    drive_plan(&d, 900000);            /* r1 is in the second queue, still above */
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 1);
    drive_settle(&d);
    drive_plan(&d, 1000000);           /* and now r0 has waited long enough */
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 20);
    drive_close(&d);
}

/* 16 slots: r0 holds 12 of them in the second queue; r1 needs 8. */
static void low_queues_make_room(void)
{
    struct drive d;

    drive_open(&d, "feedback:quantum=2:prompt=8:preempt=recompute", 4, 4);
    arrive(&d, 0, 8, 6);
    for (int i = 0; i < 3; i++)
        drive_step(&d);
    CU_ASSERT_EQUAL(d.r[0].n_block, 3);
    arrive(&d, 0, 8, 2);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 8);
    CU_ASSERT_EQUAL(d.r[0].n_preempt, 1);
    drive_settle(&d);
    while (d.n_finished < 2)
        drive_step(&d);
    CU_ASSERT_EQUAL(d.finished[0], 1);
    drive_close(&d);
}

static const struct test tests[] = {
    { "expected: a share of what may come is reserved", a_share_is_reserved },
    { "expected: the share falls as decodes go by; a refusal closes the door", the_share_falls },
    { "expected: the fewest tokens, then the longest prompt, goes to the end", fewest_then_longest_is_retracted },
    { "expected: one prompt at a time is cut; mixed steps", one_prompt_is_cut },
    { "deferral: an equal prompt waits a step and shares, others do not wait", equal_prompts_wait_a_step },
    { "deferral: for a prompt under way, until all of it is there", waits_for_a_prompt_under_way },
    { "prefix_order: of several that begin alike, one goes first", one_of_equals_goes_first },
    { "feedback: who has had much waits, and keeps its memory", much_served_waits },
    { "feedback: long prompts start lower, and rise with age", long_prompts_start_lower },
    { "feedback: low queues make room", low_queues_make_room },
    { 0 },
};
const struct suite suite_sched_share = { "sched_share", tests, 60 };
