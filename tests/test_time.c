/* test_time.c - idle time skipped or slept through: the same run, within noise. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/lab.h"
#include "tests/test.h"

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t median(const uint64_t *x, uint32_t n)
{
    uint64_t s[64];

    memcpy(s, x, n * sizeof *s);
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t j = i; j && s[j - 1] > s[j]; j--) {
            uint64_t t = s[j];

            s[j] = s[j - 1];
            s[j - 1] = t;
        }
    return s[n / 2];
}

/* One replay of each pace; true when they agree. What must hold on any machine is asserted here. */
static bool paces_agree(struct lab *skip, struct lab *wall, const struct lab_run_conf *c, uint32_t n)
{
    struct replay_result a, b;
    struct lab_out x, y;
    double t0, t_skip, t_wall, e2e_skip, e2e_wall, spans;

    t0 = seconds();
    CU_ASSERT_EQUAL_FATAL(lab_run(skip, c, &a, &x), 0);
    t_skip = seconds() - t0;
    t0 = seconds();
    CU_ASSERT_EQUAL_FATAL(lab_run(wall, c, &b, &y), 0);
    t_wall = seconds() - t0;
    CU_ASSERT(t_wall >= (double)c->trace->req[n - 1].arrive_us * 1e-6);
    CU_ASSERT(a.idle_ns > 0 && b.idle_ns > 0);
    CU_ASSERT_EQUAL(memcmp(x.hash, y.hash, n * sizeof *x.hash), 0);
    spans = (double)(a.end_ns - a.start_ns) / (double)(b.end_ns - b.start_ns);
    e2e_skip = (double)median(x.e2e_ns, n) * 1e-6;
    e2e_wall = (double)median(y.e2e_ns, n) * 1e-6;
    lab_out_free(&x);
    lab_out_free(&y);
    if (t_skip < t_wall && fabs(spans - 1) < 0.1 && fabs(e2e_wall - e2e_skip) <= 2 + 0.5 * e2e_skip)
        return true;
    test_note("skip took %.2f s, wall %.2f s; spans %.3f; median E2E: skip %.2f ms, wall %.2f ms",
              t_skip, t_wall, spans, e2e_skip, e2e_wall);
    return false;
}

/* A busy neighbour makes two replays differ; a fault of the clock would make every pair differ. */
static void skip_equals_wall(void)
{
    enum { N = 24, TRIES = 12 };
    struct lab skip, wall;
    struct trace t;
    struct lab_run_conf c = { .strategy = "continuous+paged+f16", .trace = &t, .max_len = 128 };
    int left = TRIES;

    lab_trace(&t, N, 60, 12, 60000, 12);       /* 1.4 s of arrivals, far less work */
    CU_ASSERT_EQUAL_FATAL(lab_open(&skip, "cpu", "tiny", 2048, NULL, NULL, PACE_SKIP), 0);
    CU_ASSERT_EQUAL_FATAL(lab_open(&wall, "cpu", "tiny", 2048, NULL, NULL, PACE_WALL), 0);
    while (left && !paces_agree(&skip, &wall, &c, N))
        left--;
    CU_ASSERT(left > 0);
    lab_close(&skip);
    lab_close(&wall);
    trace_free(&t);
}

/* A clock never falls, and an arrival is never handed over early. */
static void clocks_rise(void)
{
    static const char *const devices[] = { "cpu", "sim", "ref" };

    for (int i = 0; i < 3; i++) {
        struct lab l;
        uint64_t last = 0;

        CU_ASSERT_EQUAL_FATAL(lab_open(&l, devices[i], "tiny", 64, NULL, NULL, PACE_SKIP), 0);
        for (int k = 0; k < 1000; k++) {
            uint64_t now = dev_now(&l.dev), until = now + (uint64_t)k * 1000;

            CU_ASSERT_FATAL(now >= last);
            dev_idle(&l.dev, until);
            last = dev_now(&l.dev);
            CU_ASSERT_FATAL(last >= until);
        }
        lab_close(&l);
    }
}

static const struct test tests[] = {
    { "skip and wall agree on cpu", skip_equals_wall },
    { "clocks rise; idle ends no earlier than asked", clocks_rise },
    { 0 },
};
const struct suite suite_time = { "time", tests, 120 };
