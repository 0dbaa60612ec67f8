/* bench_sim.c - how fast the loop itself is: replay on the sim device, with and without rows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/roof.h"
#include "harness/scratch_store.h"
#include "harness/loaded.h"
#include "harness/replay.h"
#include "harness/verb.h"

extern const struct bench bench_sim;

struct setup {
    struct device dev;
    struct model_shape shape;
    struct loaded_set models;
    struct kv_pool kv;
    struct trace trace;
};

/* Poisson arrivals at `load` of what the device can do is not known beforehand: gaps are given. */
static int fill(struct trace *t, uint32_t n, uint32_t mean_prompt, uint32_t mean_out, double gap_us)
{
    struct rng r;
    double now = 0;

    rng_seed(&r, 1);
    snprintf(t->name, sizeof t->name, "bench");
    t->n = n;
    t->req = ARENA_NEW(&t->arena, struct trace_req, n);
    if (!t->req)
        return -1;
    for (uint32_t i = 0; i < n; i++) {
        now += -log(1 - rng_unit(&r)) * gap_us;
        t->req[i].arrive_us = (int64_t)now;
        t->req[i].n_prompt = 1 + (uint32_t)(-log(1 - rng_unit(&r)) * mean_prompt) % 4000;
        t->req[i].n_out = 1 + (uint32_t)(-log(1 - rng_unit(&r)) * mean_out) % 1000;
    }
    return 0;
}

static int one(struct setup *s, const char *strategy, struct recorder *rec, enum log_level log,
               const char *what, struct err *e)
{
    struct strategy st;
    struct replay_result r;
    struct replay_conf c = { .trace = &s->trace, .strategy = &st, .kv_pool = &s->kv,
                             .kv_slots = s->kv.n_slot, .max_len = 8192, .rate_scale = 1, .seed = 1,
                             .log = log, .recorder = rec };
    double t0, t;

    if (strategy_parse(&st, strategy, e) || !(c.model = loaded_get(&s->models, &st, e)))
        return -1;
    t0 = bench_seconds();
    if (replay_run(&c, &r, e))
        return -1;
    t = bench_seconds() - t0;
    printf("%-34s %-13s %8.2f s %9.0f req/s %10.0f steps/s %7.0f ns/step  mean batch %.1f\n", strategy,
           what, t, s->trace.n / t, (double)r.steps / t, t * 1e9 / (double)r.steps,
           (double)r.tokens_in / (double)r.steps);
    return 0;
}

static int rows(struct setup *s, const char *strategy, enum log_level log, const char *what,
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
    struct device_conf conf = { .profile = "h200" };
    struct setup s = { 0 };
    int64_t n = 100000;
    bool done;
    int opt, rc = 0;

    while ((opt = verb_option(&me, argc, argv, options, &done, e)) != -1)
        if (opt == '?' || parse_int(optarg, 1, 100000000, &n))
            return err_set(e, EXIT_USAGE, "--requests: expected a whole number from 1");
    if (done)
        return 0;
    if (shape_load(&s.shape, "llama-3.1-8b", e) ||
        dev_open(&s.dev, device_find("sim", e), &conf, e) ||
        loaded_open(&s.models, &s.dev, &s.shape, 1, e) ||
        dev_kv_open(&s.dev, &s.kv, s.shape.n_layer, s.shape.n_kv_head, s.shape.head_dim, FMT_F16, 1 << 19, e) ||
        fill(&s.trace, (uint32_t)n, 200, 40, 25000))
        return -1;
    printf("llama-3.1-8b on sim h200, %lld requests of about 200 + 40 tokens at 40 req/s\n", (long long)n);
    for (int i = 0; !rc && i < 3; i++)
        rc = one(&s, strategies[i], NULL, LOG_SUMMARY, "no rows", e);
    if (!rc)
        rc = rows(&s, strategies[1], LOG_REQUEST, "request rows", e) ||
             rows(&s, strategies[1], LOG_STEP, "+ step rows", e) ||
             rows(&s, strategies[1], LOG_TOKEN, "+ token times", e) ? -1 : 0;
    loaded_close(&s.models);
    dev_kv_close(&s.dev, &s.kv);
    dev_close(&s.dev);
    trace_free(&s.trace);
    return rc;
}

const struct bench bench_sim = {
    .name = "sim", .about = "replay speed of the loop, with and without rows", .run = run,
};
