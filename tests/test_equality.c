/* test_equality.c - the central test: at one precision, every request's greedy tokens are the same bits
 * whatever the scheduler, memory manager, chunk, block size, batch cap or shortage of memory, and equal to
 * running it alone. Everything registered takes part; knobs are drawn from the parts' own tables. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lab.h"
#include "tests/test.h"

enum { N_REQUEST = 14, MAX_PROMPT = 90, MAX_OUT = 24, MAX_LEN = 128 };

static uint64_t compare(struct lab *l, const struct trace *t, const char *name, uint32_t slots,
                        const uint64_t *want)
{
    struct lab_run_conf c = { .strategy = name, .trace = t, .kv_slots = slots, .max_len = MAX_LEN };
    uint64_t preempted = 0;

    CU_ASSERT_EQUAL(lab_differing(l, &c, want, &preempted), 0);
    return preempted;
}

/* Slots so scarce that few requests fit, and the longest one does in blocks of up to 64. */
enum { TIGHT = 192 };

static void everything(const char *prec, int draws)
{
    struct lab l;
    struct trace t;
    struct rng r;
    uint64_t want[N_REQUEST], preempted = 0;

    lab_trace(&t, N_REQUEST, MAX_PROMPT, MAX_OUT, 300, 7);
    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "cpu", "tiny", 4096, NULL, NULL, PACE_SKIP), 0);
    lab_alone(&l, &t, prec, MAX_LEN, want);
    rng_seed(&r, 11);
    for (size_t i = 0; sched_registry[i]; i++)
        for (size_t j = 0; kv_registry[j]; j++)
            for (int d = 0; d < draws; d++) {
                char name[160], a[64] = "", b[64] = "";

                if (d) {
                    draw_knobs(sched_registry[i]->knobs, &r, 64, a, sizeof a);
                    draw_knobs(kv_registry[j]->knobs, &r, 64, b, sizeof b);
                }
                snprintf(name, sizeof name, "%s%s+%s%s+%s", sched_registry[i]->name, a,
                         kv_registry[j]->name, b, prec);
                compare(&l, &t, name, 0, want);
                preempted += compare(&l, &t, name, TIGHT, want);
            }
    CU_ASSERT(preempted > 0);          /* shortage of memory was really reached */
    lab_close(&l);
    trace_free(&t);
}

static void f16(void) { everything("f16", 3); }
static void int8(void) { everything("int8", 1); }
static void int4(void) { everything("int4:group=32", 2); }

static void block_sizes(void)
{
    static const int sizes[] = { 1, 2, 3, 7, 15, 16, 17, 32, 48, 64, 100, 256 };
    struct lab l;
    struct trace t;
    uint64_t want[N_REQUEST];

    lab_trace(&t, N_REQUEST, MAX_PROMPT, MAX_OUT, 300, 8);
    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "cpu", "tiny", 8192, NULL, NULL, PACE_SKIP), 0);
    lab_alone(&l, &t, "f16", MAX_LEN, want);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char name[80];

        snprintf(name, sizeof name, "chunked:budget=%d+paged:block=%d+f16", 5 + sizes[i], sizes[i]);
        compare(&l, &t, name, 0, want);
    }
    lab_close(&l);
    trace_free(&t);
}

/* Tokens must depend on what stands in the cache, or equality would prove nothing. */
static void outputs_differ(void)
{
    struct lab l;
    struct trace t, other;
    uint64_t a[N_REQUEST], b[N_REQUEST];
    uint32_t same = 0, equal_pairs = 0;
    uint64_t *block;

    lab_trace(&t, N_REQUEST, MAX_PROMPT, MAX_OUT, 300, 9);
    lab_trace(&other, N_REQUEST, MAX_PROMPT, MAX_OUT, 300, 9);
    for (uint32_t i = 0; i < other.n; i++) {   /* one earlier block of each prompt has other tokens */
        block = (uint64_t *)(uintptr_t)other.req[i].block;
        block[0] ^= 1u << 30;
    }
    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "cpu", "tiny", 4096, NULL, NULL, PACE_SKIP), 0);
    lab_alone(&l, &t, "f16", MAX_LEN, a);
    lab_alone(&l, &other, "f16", MAX_LEN, b);
    for (uint32_t i = 0; i < t.n; i++) {
        same += a[i] == b[i];
        for (uint32_t j = i + 1; j < t.n; j++)
            equal_pairs += a[i] == a[j];
    }
    CU_ASSERT(same <= 2);
    CU_ASSERT(equal_pairs <= 2);
    lab_close(&l);
    trace_free(&t);
    trace_free(&other);
}

static void every_isa(void)
{
    static const char *const isas[] = { "scalar", "avx2", "avx512" };
    struct trace t;
    uint64_t want[N_REQUEST], got[N_REQUEST];
    int ran = 0;

    lab_trace(&t, 6, 40, 8, 300, 10);
    for (size_t i = 0; i < 3; i++) {
        struct lab l;

        if (lab_open(&l, "cpu", "tiny", 2048, isas[i], NULL, PACE_SKIP)) {
            lab_close(&l);
            continue;
        }
        lab_alone(&l, &t, "int4:group=32", MAX_LEN, ran ? got : want);
        if (ran++)
            CU_ASSERT_EQUAL(memcmp(want, got, t.n * sizeof *want), 0);
        lab_close(&l);
    }
    CU_ASSERT(ran >= 1);
    trace_free(&t);
}

static const struct test tests[] = {
    { "f16: all schedulers x managers x drawn knobs, ample and tight memory", f16 },
    { "int8: the same", int8 },
    { "int4: the same", int4 },
    { "block sizes 1..256 with ragged chunks", block_sizes },
    { "outputs depend on every cached block", outputs_differ },
    { "the same tokens at every instruction set", every_isa },
    { 0 },
};
const struct suite suite_equality = { "equality", tests, 600 };
