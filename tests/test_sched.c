/* test_sched.c - each scheduler's behaviour in small hand-made situations, driven step by step. */
#include "tests/sched_drive.h"
#include "tests/test.h"

extern const struct kv_ops kv_paged;

static void decodes_go_first(void)
{
    struct drive d;

    drive_open(&d, "decodes_first:budget=10", 64, 4);
    drive_arrive(&d, 6, 9);
    drive_step(&d);                    /* the first one decodes from now on */
    drive_arrive(&d, 8, 2);
    drive_arrive(&d, 3, 2);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 1);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 8);            /* whole, and the next would have to be cut */
    CU_ASSERT_EQUAL(drive_slice(&d, 2), 0);
    CU_ASSERT_EQUAL(d.plan.why[WHY_BUDGET], 1);
    drive_settle(&d);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 2), 3);
    drive_close(&d);

    drive_open(&d, "decodes_first:budget=10", 64, 4);  /* longer than any step: cut, when it is alone */
    drive_arrive(&d, 5, 3);
    drive_arrive(&d, 25, 1);
    drive_step(&d);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 0);
    drive_settle(&d);
    drive_step(&d);
    for (int i = 0; i < 3; i++)
        drive_step(&d);
    CU_ASSERT_EQUAL(d.n_finished, 2);
    drive_close(&d);
}

static void dynamic_waits_for_company(void)
{
    struct drive d;

    drive_open(&d, "dynamic:batch=3:wait_ms=5", 64, 4);
    d.r[0].arrive_ns = 1000000;
    drive_arrive(&d, 4, 2);
    drive_plan(&d, 1000000);
    CU_ASSERT_EQUAL(d.plan.n, 0);
    CU_ASSERT_EQUAL(d.plan.wake_ns, 6000000);
    CU_ASSERT_EQUAL(d.plan.why[WHY_CLOSED], 1);
    d.r[1].arrive_ns = 2000000;
    drive_arrive(&d, 4, 3);
    drive_plan(&d, 5999999);
    CU_ASSERT_EQUAL(d.plan.n, 0);
    drive_plan(&d, 6000000);           /* the oldest has waited long enough: both go */
    CU_ASSERT_EQUAL(d.plan.n, 2);
    drive_settle(&d);
    for (uint32_t i = 2; i < 6; i++) {
        d.r[i].arrive_ns = 7000000;
        drive_arrive(&d, 4, 2);
    }
    drive_plan(&d, 7000000);           /* closed while the batch lives */
    CU_ASSERT_EQUAL(d.plan.n, 2);
    CU_ASSERT_EQUAL(d.plan.why[WHY_CLOSED], 4);
    drive_settle(&d);
    drive_step(&d);
    CU_ASSERT_EQUAL(d.n_finished, 2);
    drive_plan(&d, 7000000);           /* full: starts at once, the fourth stays out */
    CU_ASSERT_EQUAL(d.plan.n, 3);
    CU_ASSERT_EQUAL(d.plan.why[WHY_SEQ_CAP], 1);
    drive_close(&d);
}

/* List order, not decodes first: a prompt that was cut goes on before decodes that came later. */
static void list_order_is_the_list(void)
{
    struct drive d;

    drive_open(&d, "list_order:budget=8", 64, 4);
    drive_arrive(&d, 20, 2);
    drive_arrive(&d, 2, 4);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 8);
    CU_ASSERT_EQUAL(d.plan.why[WHY_BUDGET], 1);
    drive_settle(&d);
    drive_step(&d);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 4);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 2);            /* one budget for all */
    drive_close(&d);

    drive_open(&d, "list_order:budget=8:long=3", 64, 4);
    drive_arrive(&d, 20, 2);
    drive_arrive(&d, 20, 2);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 3);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 3);
    drive_close(&d);
}

static void list_order_takes_from_the_last(void)
{
    struct drive d;

    drive_open(&d, "list_order:budget=64", 6, 4);
    drive_arrive(&d, 8, 9);
    drive_arrive(&d, 8, 9);
    drive_arrive(&d, 7, 9);
    drive_step(&d);
    drive_arrive(&d, 1, 1);
    drive_plan(&d, 0);                 /* six blocks are full: the third yields, the first two grow */
    CU_ASSERT_EQUAL(d.r[2].n_preempt, 1);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 1);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 1);
    CU_ASSERT_EQUAL(drive_slice(&d, 3), 0);            /* a step that preempts admits nobody */
    CU_ASSERT_EQUAL(d.sched.n_waiting, 2);
    drive_settle(&d);
    for (int i = 0; i < 60 && d.n_finished < 4; i++)
        drive_step(&d);
    CU_ASSERT_EQUAL(d.n_finished, 4);
    CU_ASSERT_EQUAL(d.r[0].n_preempt, 0);
    drive_close(&d);
}

/* What a prompt must find: its first chunk, or all of it; and what must stay free besides. */
static void list_order_gates(void)
{
    static const struct { const char *text; bool enters; } cases[] = {
        { "list_order:budget=8:gate=first", true },
        { "list_order:budget=8:gate=full", false },
        { "list_order:budget=8:gate=first:watermark=200", true },
        { "list_order:budget=8:gate=first:watermark=300", false },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct drive d;

        drive_open(&d, cases[i].text, 10, 4);
        drive_arrive(&d, 20, 9);       /* 5 of 10 blocks, then a sixth for its first token */
        for (int k = 0; k < 3; k++)
            drive_step(&d);
        CU_ASSERT_EQUAL(kv_paged.count(&d.kv).blocks_used, 5);
        drive_arrive(&d, 24, 1);
        drive_plan(&d, 0);
        CU_ASSERT_EQUAL(drive_slice(&d, 1) > 0, cases[i].enters);
        CU_ASSERT_EQUAL(d.plan.why[WHY_NO_KV], cases[i].enters ? 0 : 1);
        drive_close(&d);
    }
}

static void chunks_are_shared(void)
{
    static const struct { const char *text; uint32_t want[4]; } cases[] = {
        { "chunked:budget=20", { 12, 8, 0, 0 } },
        { "chunked:budget=20:share=cap:cap=5", { 5, 5, 3, 5 } },
        { "chunked:budget=20:share=cap:cap=9", { 9, 9, 2, 0 } },
        { "chunked:budget=20:share=equal:unit=4", { 8, 4, 3, 4 } },
        { "chunked:budget=20:share=equal:unit=10", { 10, 10, 0, 0 } },
        { "chunked:budget=20:share=equal:unit=1", { 6, 6, 3, 5 } },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct drive d;

        drive_open(&d, cases[i].text, 64, 4);
        drive_arrive(&d, 12, 1);
        drive_arrive(&d, 14, 1);
        drive_arrive(&d, 3, 1);
        drive_arrive(&d, 30, 1);
        drive_plan(&d, 0);
        for (uint32_t k = 0; k < 4; k++)
            if (drive_slice(&d, k) != cases[i].want[k]) {
                test_note("%s: prompt %u got %u tokens, not %u", cases[i].text, k, drive_slice(&d, k),
                          cases[i].want[k]);
                CU_FAIL("shares differ");
            }
        drive_close(&d);
    }
}

static void watermark_keeps_blocks_free(void)
{
    struct drive d;

    drive_open(&d, "chunked:watermark=200", 10, 4);
    drive_arrive(&d, 39, 1);           /* alone, it needs no watermark */
    drive_step(&d);
    CU_ASSERT_EQUAL(d.n_finished, 1);
    drive_arrive(&d, 16, 3);
    drive_arrive(&d, 20, 3);           /* would leave one block of ten */
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 16);
    CU_ASSERT_EQUAL(drive_slice(&d, 2), 0);
    CU_ASSERT_EQUAL(d.plan.why[WHY_NO_KV], 1);
    drive_close(&d);
}

static void no_evict_counts_the_worst_case(void)
{
    struct drive d;

    drive_open(&d, "no_evict:batch=64", 10, 4);
    d.r[0].max_new = 16;
    drive_arrive(&d, 8, 4);            /* worst case: 6 blocks of 10, though it takes 3 */
    d.r[1].max_new = 8;
    drive_arrive(&d, 12, 2);           /* 5 */
    d.r[2].max_new = 1;
    drive_arrive(&d, 1, 1);            /* 1, but nobody overtakes */
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(d.plan.n, 1);
    CU_ASSERT_EQUAL(d.plan.why[WHY_NO_KV], 1);
    CU_ASSERT_EQUAL(d.plan.why[WHY_ORDER], 1);
    CU_ASSERT_EQUAL(kv_paged.count(&d.kv).blocks_used, 2);
    for (int i = 0; i < 4; i++, drive_plan(&d, 0))
        drive_settle(&d);
    CU_ASSERT_EQUAL(d.n_finished, 1);
    CU_ASSERT_EQUAL(d.plan.n, 2);      /* it ended early: both fit now */
    drive_close(&d);

    drive_open(&d, "no_evict:batch=64", 4, 4);
    d.r[0].max_new = 1000;             /* more than there is: served, but alone */
    drive_arrive(&d, 4, 5);
    drive_arrive(&d, 4, 1);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(d.plan.n, 1);
    drive_close(&d);
}

static void no_evict_picks_whole_prompts_or_units(void)
{
    struct drive d;

    drive_open(&d, "no_evict:batch=64:budget=10", 64, 4);
    drive_arrive(&d, 8, 2);
    drive_arrive(&d, 4, 2);
    drive_arrive(&d, 25, 2);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 8);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 0);
    CU_ASSERT_EQUAL(d.plan.why[WHY_BUDGET], 2);
    drive_close(&d);

    drive_open(&d, "no_evict:batch=64:budget=30:chunked=on:unit=4", 64, 4);
    drive_arrive(&d, 20, 2);
    drive_arrive(&d, 30, 2);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 20);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 8);            /* 10 are left: whole units */
    drive_close(&d);
}

/* STATIC_BATCH: nobody joins while one that was chosen lives. */
static void no_refill_is_a_static_batch(void)
{
    struct drive d;

    drive_open(&d, "no_evict:batch=64:refill=off", 64, 4);
    drive_arrive(&d, 4, 3);
    drive_step(&d);
    drive_arrive(&d, 4, 1);
    for (int i = 0; i < 2; i++) {
        drive_plan(&d, 0);
        CU_ASSERT_EQUAL(drive_slice(&d, 1), 0);
        CU_ASSERT_EQUAL(d.plan.why[WHY_CLOSED], 1);
        drive_settle(&d);
    }
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 4);
    drive_close(&d);
}

/* The end of the list is paused; who is paused keeps its place, so it goes before those that came later. */
static void max_utilisation_pauses_the_end(void)
{
    struct drive d;

    drive_open(&d, "max_utilisation:batch=64", 6, 4);
    drive_arrive(&d, 8, 9);
    drive_arrive(&d, 8, 9);
    drive_arrive(&d, 8, 5);
    drive_step(&d);                    /* all six blocks are full */
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(d.r[2].n_preempt, 1);
    CU_ASSERT_EQUAL(d.r[1].n_preempt, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 1);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 1);
    drive_settle(&d);
    drive_arrive(&d, 4, 1);            /* later in the list than the paused one */
    for (int i = 0; i < 60 && d.n_finished < 4; i++) {
        drive_step(&d);
        CU_ASSERT(drive_slice(&d, d.n_finished ? drive_slice(&d, 1) ? 1 : 2 : 0) || d.n_finished);
    }
    CU_ASSERT_EQUAL(d.n_finished, 4);
    CU_ASSERT_EQUAL(d.finished[0], 0);
    CU_ASSERT_EQUAL(d.r[0].n_preempt, 0);
    drive_close(&d);

    drive_open(&d, "max_utilisation:batch=2", 20, 4);  /* seats are scarce too: the older one gets its own */
    drive_arrive(&d, 8, 9);
    drive_arrive(&d, 8, 9);
    drive_arrive(&d, 8, 9);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(d.plan.n, 2);
    CU_ASSERT_EQUAL(d.plan.why[WHY_SEQ_CAP], 1);
    CU_ASSERT_EQUAL(d.plan.n_preempt, 0);
    drive_close(&d);
}

static void served_ratio_waits_for_enough(void)
{
    struct drive d;
    int i;

    drive_open(&d, "served_ratio:chunking=off:ratio=500:wait=6", 64, 4);
    for (i = 0; i < 4; i++)
        drive_arrive(&d, 4, 30);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(d.plan.n, 4);
    drive_settle(&d);
    drive_arrive(&d, 4, 30);
    drive_plan(&d, 0);                 /* one waits, two are needed */
    CU_ASSERT_EQUAL(drive_slice(&d, 4), 0);
    CU_ASSERT_EQUAL(d.plan.why[WHY_CLOSED], 1);
    drive_settle(&d);
    drive_arrive(&d, 4, 30);
    drive_plan(&d, 0);                 /* two: a step of their own, the others stall */
    CU_ASSERT_EQUAL(d.plan.n, 2);
    CU_ASSERT_EQUAL(drive_slice(&d, 4), 4);
    CU_ASSERT_EQUAL(drive_slice(&d, 5), 4);
    drive_settle(&d);
    drive_arrive(&d, 4, 30);
    for (i = 0; i < 20 && !drive_slice(&d, 6); i++)
        drive_step(&d);
    CU_ASSERT_EQUAL(i, 6);             /* five decode steps count from 1 to 6, then the ratio is waived */
    drive_close(&d);
}

static void served_ratio_mixes_chunks(void)
{
    struct drive d;

    drive_open(&d, "served_ratio:prefill=16", 64, 4);
    drive_arrive(&d, 4, 30);
    drive_step(&d);
    drive_arrive(&d, 40, 30);
    drive_arrive(&d, 4, 30);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 1);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 15);
    drive_settle(&d);
    drive_plan(&d, 0);                 /* a step that took in is followed by one that does not */
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 15);
    CU_ASSERT_EQUAL(drive_slice(&d, 2), 0);
    CU_ASSERT_EQUAL(d.plan.why[WHY_CLOSED], 1);
    drive_settle(&d);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(drive_slice(&d, 1), 10);
    CU_ASSERT_EQUAL(drive_slice(&d, 2), 4);
    drive_close(&d);
}

static void served_ratio_runs_in_legs(void)
{
    struct drive d;

    drive_open(&d, "served_ratio:leg=4", 64, 4);
    d.r[0].max_new = 100;
    drive_arrive(&d, 5, 10);
    d.r[1].max_new = 3;
    drive_arrive(&d, 5, 3);
    drive_plan(&d, 0);
    CU_ASSERT_EQUAL(d.r[0].n_block, 2);                /* 5 + 4 - 1 tokens */
    CU_ASSERT_EQUAL(d.r[1].n_block, 2);
    drive_settle(&d);
    for (int i = 0; i < 3; i++)
        drive_step(&d);
    CU_ASSERT_EQUAL(d.r[0].n_out, 4);
    drive_plan(&d, 0);                 /* the first leg is over: nobody else waits, so it is back at once */
    CU_ASSERT_EQUAL(d.r[0].n_preempt, 1);
    CU_ASSERT_EQUAL(drive_slice(&d, 0), 9);            /* its text is prompt now */
    CU_ASSERT_EQUAL(d.r[0].n_block, 3);                /* 9 + 4 - 1 */
    drive_settle(&d);
    for (int i = 0; i < 9; i++)
        drive_step(&d);
    CU_ASSERT_EQUAL(d.n_finished, 2);
    CU_ASSERT_EQUAL(d.r[0].n_preempt, 2);
    drive_close(&d);
}

static const struct test tests[] = {
    { "decodes_first: decodes, then whole prompts; cut only when alone", decodes_go_first },
    { "dynamic: full or waited long enough, then closed", dynamic_waits_for_company },
    { "list_order: one budget, in list order, long prompts capped", list_order_is_the_list },
    { "list_order: the last of the list yields; a step that preempts admits nobody",
      list_order_takes_from_the_last },
    { "list_order: gates and watermark", list_order_gates },
    { "chunked: fcfs, equal and capped shares", chunks_are_shared },
    { "chunked: the watermark stays free", watermark_keeps_blocks_free },
    { "no_evict: the worst case is counted, not taken", no_evict_counts_the_worst_case },
    { "no_evict: whole prompts, or chunks of whole units", no_evict_picks_whole_prompts_or_units },
    { "no_evict: refill=off is a static batch", no_refill_is_a_static_batch },
    { "max_utilisation: the end of the list is paused", max_utilisation_pauses_the_end },
    { "served_ratio: enough must wait, or for long", served_ratio_waits_for_enough },
    { "served_ratio: chunks join decodes under the budget", served_ratio_mixes_chunks },
    { "served_ratio: reservation and re-queueing in legs", served_ratio_runs_in_legs },
    { 0 },
};
const struct suite suite_sched = { "sched", tests, 60 };
