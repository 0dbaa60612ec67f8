/* bench_strategies.c - what a scheduler's own thinking costs: nanoseconds of plan() per running request and
 * step, for every scheduler that is registered. A clock around plan() alone, in a run on the sim device, with
 * the seats full and requests waiting; the target is 2000 ns. */
#include <stdio.h>

#include "harness/roof.h"
#include "harness/sim_fixture.h"
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

/* Five priorities and four tenants in turn. */
static void mark(struct trace *t)
{
    static const struct trace_more more[5] = {
        { .tenant = "a" }, { .tenant = "b", .priority = 1 }, { .tenant = "c", .priority = 2 },
        { .tenant = "d", .priority = 3 }, { .tenant = "a", .priority = 4 },
    };

    for (uint32_t i = 0; i < t->n; i++)
        t->req[i].more = &more[i % 5];
}

static int one(struct sim_fixture *s, const char *name, const char *rest, uint32_t slots, double *worst,
               struct err *e)
{
    struct strategy st;
    struct replay_result r;
    struct replay_conf c;
    struct timed t = { 0 };
    char text[160];
    double ns;

    snprintf(text, sizeof text, "%s%s", name, rest);
    if (sim_fixture_conf(s, text, &st, &c, e))
        return -1;
    c.kv_slots = slots;
    c.max_len = 4096;
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

static int all(struct sim_fixture *s, struct err *e)
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
    /* faster than the device serves, so that a queue stands */
    struct sim_load load = { .gap_us = 2000, .mean_prompt = 200, .most_prompt = 2000, .mean_out = 100,
                             .most_out = 500 };
    struct sim_fixture s;
    int64_t n = 3000;
    bool done;
    int opt, rc;

    while ((opt = verb_option(&me, argc, argv, options, &done, e)) != -1)
        if (opt == '?' || parse_int(optarg, 1, 10000000, &n))
            return err_set(e, EXIT_USAGE, "--requests: expected a whole number from 1");
    if (done)
        return 0;
    load.n = (uint32_t)n;
    rc = sim_fixture_open(&s, 1 << 18, &load, e);
    mark(&s.trace);
    if (!rc)
        rc = all(&s, e);
    sim_fixture_close(&s);
    return rc;
}

const struct bench bench_strategies = {
    .name = "strategies", .about = "what a scheduler costs per running request and step", .run = run,
};
