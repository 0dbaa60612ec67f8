/* shortest.c - the request with the fewest predicted tokens left goes first.
 *
 * The idea: shortest job first minimises the mean wait; the length of an answer is not known, so it is
 * predicted. sigma=0 is the oracle; else the prediction is the truth times exp(sigma/100 * z), z normal
 * and drawn from the request's id, as a learned ranker errs (Fu et al., "Efficient LLM scheduling by
 * learning to rank", 2024; FastServe, NSDI'26). preemptive=on lets a shorter newcomer take the seat and
 * the KV of the longest (shortest remaining first). Steps are those of chunked.c: only the order differs.
 * What must stay true: a request is preempted for order only by one that is predicted strictly shorter,
 * so two never push each other out in turn. Long requests starve under overload: that is the price. */
#include <math.h>

#include "strategies/ordered.h"

struct state {
    struct ordered o;
    double sigma;
};

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "sequences per step at most" },
    { "budget", NULL, 512, 1, 1 << 20, "tokens per step at most, decodes included" },
    { "sigma", NULL, 0, 0, 1000, "error of the predictor: sd of the log of its factor, 1/100; 0: oracle" },
    { "preemptive", "off|on", 0, 0, 0, "a shorter newcomer takes the place of the longest" },
    KNOB_PREEMPT,
    { 0 },
};

/* Output tokens still to come, as predicted. rank2 is the prediction for the whole output. */
static uint64_t left(const struct request *r)
{
    return r->rank2 > r->n_out ? r->rank2 - r->n_out : 1;
}

static int open(struct sched *s, struct arena *a, struct err *e)
{
    struct state *y = s->self;

    y->sigma = (double)params_int(&s->env.params, "sigma") / 100;
    return ordered_open(s, left, a, e);
}

static uint64_t predict(const struct state *y, const struct request *r)
{
    struct rng g;
    double n = r->oracle_n_out;

    if (y->sigma > 0) {
        rng_seed(&g, hash64(0x6c656e677468, r->id));
        n *= exp(y->sigma * rng_normal(&g));
    }
    return n < 1 ? 1 : n > 1e15 ? (uint64_t)1e15 : (uint64_t)(n + 0.5);
}

static void arrive(struct sched *s, struct request *r)
{
    r->rank2 = predict(s->self, r);
    ordered_arrive(s, r);
}

const struct sched_ops sched_shortest = {
    .name = "shortest",
    .about = "fewest predicted tokens left first; oracle or noisy predictor (learning to rank, FastServe)",
    .knobs = knobs, .state_bytes = sizeof(struct state), .oracle = true,
    .open = open, .arrive = arrive, .plan = ordered_plan, .finish = ordered_finish,
};
