/* bench_strategies.c - what a scheduler's own thinking costs: nanoseconds of plan() per running request and
 * step, for every scheduler that is registered. A clock around plan() alone, in a run on the sim device, with
 * the seats full and requests waiting; the target is 2000 ns. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/loaded.h"
#include "harness/replay.h"
#include "harness/roof.h"
#include "harness/verb.h"

extern const struct bench bench_strategies;

enum { LIMIT_NS = 2000 };

/* Stands between the loop and the scheduler: the loop sees ops, which is the first member. */
struct timed {
    struct sched_ops ops;
    const struct sched_ops *real;
    double seconds;
    uint64_t running, waiting, plans;
};

static struct timed *timed_of(const struct sched *s)
{
    return (struct timed *)(uintptr_t)s->ops;
}

static int timed_open(struct sched *s, struct arena *a, struct err *e)
{
    return timed_of(s)->real->open(s, a, e);
}

static void timed_arrive(struct sched *s, struct request *r)
{
    timed_of(s)->real->arrive(s, r);
}

static void timed_plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct timed *t = timed_of(s);
    double t0 = bench_seconds();

    t->real->plan(s, now_ns, kv, p);
    t->seconds += bench_seconds() - t0;
    t->running += s->n_running;
    t->waiting += s->n_waiting;
    t->plans++;
}

static void timed_finish(struct sched *s, struct request *r)
{
    timed_of(s)->real->finish(s, r);
}

struct setup {
    struct device dev;
    struct model_shape shape;
    struct loaded_set models;
    struct kv_pool kv;
    struct trace trace;
};

/* Poisson arrivals faster than the device serves, so that a queue stands; four tenants, five priorities. */
static int fill(struct trace *t, uint32_t n)
{
    static const struct trace_more more[5] = {
        { .tenant = "a" }, { .tenant = "b", .priority = 1 }, { .tenant = "c", .priority = 2 },
        { .tenant = "d", .priority = 3 }, { .tenant = "a", .priority = 4 },
    };
    struct rng r;
    double now = 0;

    rng_seed(&r, 1);
    snprintf(t->name, sizeof t->name, "bench");
    t->n = n;
    t->req = ARENA_NEW(&t->arena, struct trace_req, n);
    if (!t->req)
        return -1;
    for (uint32_t i = 0; i < n; i++) {
        now += -log(1 - rng_unit(&r)) * 2000;
        t->req[i].arrive_us = (int64_t)now;
        t->req[i].n_prompt = 1 + (uint32_t)(-log(1 - rng_unit(&r)) * 200) % 2000;
        t->req[i].n_out = 1 + (uint32_t)(-log(1 - rng_unit(&r)) * 100) % 500;
        t->req[i].more = &more[i % 5];
    }
    return 0;
}

static int one(struct setup *s, const char *name, const char *rest, uint32_t slots, double *worst,
               struct err *e)
{
    struct strategy st;
    struct replay_result r;
    struct replay_conf c = { .trace = &s->trace, .strategy = &st, .kv_pool = &s->kv, .kv_slots = slots,
                             .max_len = 4096, .rate_scale = 1, .seed = 1 };
    struct timed t = { 0 };
    char text[160];
    double ns;

    snprintf(text, sizeof text, "%s%s", name, rest);
    if (strategy_parse(&st, text, e) || !(c.model = loaded_get(&s->models, &st, e)))
        return -1;
    t.real = st.sched;
    t.ops = *st.sched;
    t.ops.open = timed_open;
    t.ops.arrive = timed_arrive;
    t.ops.plan = timed_plan;
    t.ops.finish = timed_finish;
    st.sched = &t.ops;
    if (replay_run(&c, &r, e))
        return -1;
    ns = t.seconds * 1e9 / (double)(t.running ? t.running : 1);
    *worst = ns > *worst ? ns : *worst;
    printf("%-52s %8.1f ns per running request %9.0f ns/plan %8.1f running %8.0f waiting %7llu "
           "preempted\n", text, ns, t.seconds * 1e9 / (double)t.plans,
           (double)t.running / (double)t.plans, (double)t.waiting / (double)t.plans,
           (unsigned long long)r.preemptions);
    return 0;
}

static const char help[] =
    "usage: servelab bench strategies [--requests N]\n\nReplays N Poisson requests (default 3000) on the "
    "sim device with each scheduler, with ample and\nwith scarce KV memory, and prints what plan() costs "
    "per running request and step (target: 2000 ns).\n";
static const struct option options[] = { { "requests", 1, NULL, 'n' }, { 0 } };

static int all(struct setup *s, struct err *e)
{
    static const uint32_t slots[] = { 1 << 18, 1 << 14 };
    static const char *const more[] = {    /* what does most work */
        "shortest:batch=256:preemptive=on+paged+f16", "chunked:batch=256:share=equal+paged+f16",
        "no_evict:batch=256:chunked=on:share=equal+paged+f16", "prefix_order:batch=256+prefix+f16",
    };
    double worst = 0;

    for (size_t k = 0; k < 2; k++) {
        printf("%s KV memory: %u tokens\n", k ? "scarce" : "ample", slots[k]);
        for (size_t i = 0; sched_registry[i]; i++)
            if (one(s, sched_registry[i]->name, ":batch=256+paged+f16", slots[k], &worst, e))
                return -1;
        for (size_t i = 0; i < sizeof more / sizeof *more; i++)
            if (one(s, more[i], "", slots[k], &worst, e))
                return -1;
    }
    printf("worst: %.0f ns of the %d allowed\n", worst, LIMIT_NS);
    return worst <= LIMIT_NS ? 0 : err_set(e, EXIT_RUN_FAILED, "a scheduler takes %.0f ns per running "
                                           "request and step; at most %d are allowed", worst, LIMIT_NS);
}

static int run(int argc, char **argv, struct err *e)
{
    const struct verb me = { .name = "bench strategies", .help = help };
    struct device_conf conf = { .profile = "h200" };
    struct setup s = { 0 };
    int64_t n = 3000;
    bool done;
    int opt, rc;

    while ((opt = verb_option(&me, argc, argv, options, &done, e)) != -1)
        if (opt == '?' || parse_int(optarg, 1, 10000000, &n))
            return err_set(e, EXIT_USAGE, "--requests: expected a whole number from 1");
    if (done)
        return 0;
    if (shape_load(&s.shape, "llama-3.1-8b", e) ||
        dev_open(&s.dev, device_find("sim", e), &conf, e) ||
        loaded_open(&s.models, &s.dev, &s.shape, 1, e) ||
        dev_kv_open(&s.dev, &s.kv, s.shape.n_layer, s.shape.n_kv_head, s.shape.head_dim, FMT_F16, 1 << 18, e) ||
        fill(&s.trace, (uint32_t)n))
        return -1;
    rc = all(&s, e);
    loaded_close(&s.models);
    dev_kv_close(&s.dev, &s.kv);
    dev_close(&s.dev);
    trace_free(&s.trace);
    return rc;
}

const struct bench bench_strategies = {
    .name = "strategies", .about = "what a scheduler costs per running request and step", .run = run,
};
