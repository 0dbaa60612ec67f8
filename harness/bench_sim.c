/* bench_sim.c - how fast the loop itself is: replay on the sim device, with and without rows. */
#include <stdio.h>

#include "harness/roof.h"
#include "harness/scratch_store.h"
#include "harness/sim_fixture.h"
#include "harness/verb.h"

extern const struct bench bench_sim;

static int one(struct sim_fixture *s, const char *strategy, struct recorder *rec, enum log_level log,
               const char *what, struct err *e)
{
    struct strategy st;
    struct replay_result r;
    struct replay_conf c;
    double t0, t;

    if (sim_fixture_conf(s, strategy, &st, &c, e))
        return -1;
    c.log = log;
    c.recorder = rec;
    t0 = bench_seconds();
    if (replay_run(&c, &r, e))
        return -1;
    t = bench_seconds() - t0;
    printf("%-34s %-13s %8.2f s %9.0f req/s %10.0f steps/s %7.0f ns/step  mean batch %.1f\n", strategy,
           what, t, s->trace.n / t, (double)r.steps / t, t * 1e9 / (double)r.steps,
           (double)r.tokens_in / (double)r.steps);
    return 0;
}

static int rows(struct sim_fixture *s, const char *strategy, enum log_level log, const char *what,
                struct err *e)
{
    struct scratch_store store;
    int rc = -1;

    if (!scratch_store_open(&store, false, e))
        rc = one(s, strategy, store.rec, log, what, e);
    scratch_store_close(&store);
    return rc;
}

static const char help[] =
    "usage: servelab bench sim [--requests N]\n\nReplays N Poisson requests (default 100000) on the sim "
    "device and prints requests and steps per second.\n";
static const struct option options[] = { { "requests", 1, NULL, 'n' }, { 0 } };

static int run(int argc, char **argv, struct err *e)
{
    static const char *const strategies[] = { "static+contiguous+f16", "continuous+paged+f16",
                                              "chunked+paged+f16" };
    const struct verb me = { .name = "bench sim", .help = help };
    struct sim_load load = { .gap_us = 25000, .mean_prompt = 200, .most_prompt = 4000, .mean_out = 40,
                             .most_out = 1000 };
    struct sim_fixture s;
    int64_t n = 100000;
    bool done;
    int opt, rc;

    while ((opt = verb_option(&me, argc, argv, options, &done, e)) != -1)
        if (opt == '?' || parse_int(optarg, 1, 100000000, &n))
            return err_set(e, EXIT_USAGE, "--requests: expected a whole number from 1");
    if (done)
        return 0;
    load.n = (uint32_t)n;
    rc = sim_fixture_open(&s, 1 << 19, &load, e);
    if (!rc)
        printf("llama-3.1-8b on sim h200, %lld requests of about 200 + 40 tokens at 40 req/s\n", (long long)n);
    for (int i = 0; !rc && i < 3; i++)
        rc = one(&s, strategies[i], NULL, LOG_SUMMARY, "no rows", e);
    if (!rc)
        rc = rows(&s, strategies[1], LOG_REQUEST, "request rows", e) ||
             rows(&s, strategies[1], LOG_STEP, "+ step rows", e) ||
             rows(&s, strategies[1], LOG_TOKEN, "+ token times", e) ? -1 : 0;
    sim_fixture_close(&s);
    return rc;
}

const struct bench bench_sim = {
    .name = "sim", .about = "replay speed of the loop, with and without rows", .run = run,
};
