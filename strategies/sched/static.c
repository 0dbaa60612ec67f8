/* static.c - request-level batching: a batch is closed until its last request is done.
 *
 * The idea: collect what waits, up to `batch` requests, run all prompts, then decode together. Requests
 * that end early leave holes that nobody fills: the waste that iteration-level scheduling removed (Orca,
 * OSDI'22, section 3). Finished rows are not computed as padding here: the cost shown is that of the
 * holes alone, which favours static. Memory of a finished request is free at once.
 * What must stay true: nobody is admitted while a request of the batch lives. */
#include "strategies/queues.h"

struct state {
    struct queues q;
    enum yield yield;
    enum victim victim;
};

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "requests per batch at most" },
    { "budget", NULL, 2048, 1, 1 << 20, "prompt tokens per step at most" },
    KNOB_PREEMPT, KNOB_VICTIM,
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    struct state *y = s->self;

    (void)a;
    (void)e;
    y->yield = (enum yield)params_int(&s->env.params, "preempt");
    y->victim = (enum victim)params_int(&s->env.params, "victim");
    s->max_seq = (uint32_t)params_int(&s->env.params, "batch");
    s->max_tok = max_u32((uint32_t)params_int(&s->env.params, "budget"), s->max_seq);
    return 0;
}

static enum why form_batch(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;

    while (y->q.waiting.n && y->q.running.n < p->max_seq) {
        struct request *r = y->q.waiting.head;

        if (kv_admit(kv, r, req_known(r)))
            return WHY_NO_KV;
        queues_admit(s, r);
    }
    return WHY_SEQ_CAP;
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    enum why why = WHY_CLOSED;

    (void)now_ns;
    if (!y->q.running.n)
        why = form_batch(s, kv, p);
    plan_prompts_in_order(p, &y->q.running);
    if (!p->n)
        plan_decodes(p, kv, &y->q.running, &y->q.waiting, y->yield, y->victim);
    queues_count(s);
    plan_why(p, p->n_preempt ? WHY_CLOSED : why, y->q.waiting.n);  /* who yields waits for the next batch */
}

const struct sched_ops sched_static = {
    .name = "static", .about = "request-level batches: closed until the last request is done",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = queues_arrive, .plan = plan, .finish = queues_finish,
};
