/* static.c - request-level batching: a batch is closed until its last request is done.
 *
 * The idea: collect what waits, up to `batch` requests, run all prompts, then decode together. Requests
 * that end early leave holes that nobody fills: the waste that iteration-level scheduling removed (Orca,
 * OSDI'22, section 3). Finished rows are not computed as padding here: the cost shown is that of the
 * holes alone, which favours static. Memory of a finished request is free at once.
 * What must stay true: nobody is admitted while a request of the batch lives. */
#include "strategies/strategy.h"

struct state {
    struct queue waiting, running;
    enum yield yield;
    enum victim victim;
};

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "requests per batch at most" },
    { "budget", NULL, 2048, 1, 1 << 20, "prompt tokens per step at most" },
    { "preempt", YIELD_WORDS, YIELD_RECOMPUTE, 0, 0,
      "how a victim's KV is lost: computed again or swapped to host" },
    { "victim", VICTIM_WORDS, VICTIM_YOUNGEST, 0, 0, "who yields when memory is out" },
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

static void arrive(struct sched *s, struct request *r)
{
    struct state *y = s->self;

    queue_push(&y->waiting, r);
    s->n_waiting++;
}

static void move(struct sched *s, struct queue *from, struct queue *to, struct request *r, bool front)
{
    struct state *y = s->self;

    queue_remove(from, r);
    if (front)
        queue_push_front(to, r);
    else
        queue_push(to, r);
    s->n_waiting = y->waiting.n;
    s->n_running = y->running.n;
}

static void form_batch(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    enum why why = WHY_SEQ_CAP;

    while (y->waiting.n && y->running.n < p->max_seq) {
        struct request *r = y->waiting.head;

        if (kv_admit(kv, r, req_known(r))) {
            why = WHY_NO_KV;
            break;
        }
        move(s, &y->waiting, &y->running, r, false);
    }
    plan_why(p, why, y->waiting.n);
}

/* Prompts first, in order; true when any was planned. */
static bool plan_prompts(struct state *y, struct plan *p)
{
    for (struct request *r = y->running.head; r && plan_room(p); r = r->next)
        if (req_todo(r) > 1)
            plan_add(p, r, min_u32(req_todo(r), plan_room(p)));
    return p->n > 0;
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;

    (void)now_ns;
    if (y->running.n)
        plan_why(p, WHY_CLOSED, y->waiting.n);
    else
        form_batch(s, kv, p);
    if (plan_prompts(y, p))
        return;
    plan_decodes(p, kv, &y->running, &y->waiting, y->yield, y->victim);
    s->n_running = y->running.n;
    s->n_waiting = y->waiting.n;
    p->why[WHY_CLOSED] += p->n_preempt;        /* who yields waits for the next batch */
}

static void finish(struct sched *s, struct request *r)
{
    struct state *y = s->self;

    queue_remove(&y->running, r);
    s->n_running--;
}

const struct sched_ops sched_static = {
    .name = "static", .about = "request-level batches: closed until the last request is done",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = arrive, .plan = plan, .finish = finish,
};
