/* static.c - request-level batching: a batch is closed until its last request is done.
 *
 * The idea: collect what waits, up to `batch` requests, run all prompts, then decode together. Requests
 * that end early leave holes that nobody fills: the waste that iteration-level scheduling removed (Orca,
 * OSDI'22, section 3). Finished rows are not computed as padding here: the cost shown is that of the
 * holes alone, which favours static. Memory of a finished request is free at once.
 * What must stay true: nobody is admitted while a request of the batch lives. */
#include "strategies/queues.h"

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "requests per batch at most" },
    { "budget", NULL, 2048, 1, 1 << 20, "prompt tokens per step at most" },
    KNOB_PREEMPT, KNOB_VICTIM,
    { 0 },
};

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct queues *q = s->self;
    enum why why = WHY_CLOSED;

    (void)now_ns;
    if (!q->running.n)
        why = queues_form_batch(s, kv, p);
    plan_prompts_in_order(p, &q->running);
    if (!p->n)
        queues_decode(s, kv, p);
    plan_why(p, p->n_preempt ? WHY_CLOSED : why, q->waiting.n);  /* who yields waits for the next batch */
}

const struct sched_ops sched_static = {
    .name = "static", .about = "request-level batches: closed until the last request is done",
    .knobs = knobs, .state_bytes = sizeof(struct queues),
    .open = queues_open_apart, .arrive = queues_arrive, .plan = plan, .finish = queues_finish,
};
