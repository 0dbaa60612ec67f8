/* dynamic.c - request-level batches that wait to be full, but not for ever.
 *
 * The idea: a batch starts as soon as `batch` requests are there or the oldest has waited `wait_ms`, and
 * is closed until its last request is done (the dynamic batchers of model servers: TensorFlow Serving's
 * batch_timeout_micros, Triton's max_queue_delay_microseconds). With wait_ms=0 it is static.c.
 * What must stay true: nobody is admitted while a request of the batch lives; nobody waits for company
 * longer than wait_ms once the device is free. */
#include "strategies/queues.h"

struct state {
    struct queues q;
    uint64_t wait_ns;
};

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "requests per batch at most; a batch that is full starts at once" },
    { "wait_ms", NULL, 100, 0, 3600000, "the oldest request waits this long for company, ms" },
    { "budget", NULL, 2048, 1, 1 << 20, "prompt tokens per step at most" },
    KNOB_PREEMPT, KNOB_VICTIM,
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    struct state *y = s->self;

    y->wait_ns = (uint64_t)params_int(&s->env.params, "wait_ms") * 1000000u;
    return queues_open_apart(s, a, e);
}

/* True when a batch may start; else the plan says when to ask again. */
static bool is_due(struct state *y, uint64_t now_ns, struct plan *p)
{
    uint64_t due;

    if (y->q.waiting.n >= p->max_seq || !y->q.waiting.n)
        return true;
    due = y->q.waiting.head->arrive_ns + y->wait_ns;
    if (due <= now_ns)
        return true;
    p->wake_ns = due;
    return false;
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    enum why why = WHY_CLOSED;

    if (!y->q.running.n && is_due(y, now_ns, p))
        why = queues_form_batch(s, kv, p);
    plan_prompts_in_order(p, &y->q.running);
    if (!p->n)
        queues_decode(s, kv, p);
    plan_why(p, p->n_preempt ? WHY_CLOSED : why, y->q.waiting.n);
}

const struct sched_ops sched_dynamic = {
    .name = "dynamic",
    .about = "request-level batches that wait to be full or wait_ms (TensorFlow Serving, Triton)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = queues_arrive, .plan = plan, .finish = queues_finish,
};
