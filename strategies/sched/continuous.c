/* continuous.c - iteration-level batching, prompts first, the newest yields by recompute.
 *
 * The idea: a step runs whole new prompts whenever one can be admitted, otherwise one token for everybody
 * (Orca, OSDI'22; the order of vLLM v0 and nano-vLLM). First come, first served: the first request that
 * does not fit stops admission. Out of KV room while decoding, the youngest request loses its blocks and
 * goes back to the front of the queue. Only the first prompt of a step may be cut by the budget.
 * What must stay true: a step that preempts admits nobody; waiting requests never preempt. */
#include "strategies/strategy.h"

struct state {
    struct queue waiting, running;     /* running: order of (re)admission, youngest last */
    enum yield yield;
    enum victim victim;
};

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "sequences per step at most" },
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

static void admit(struct sched *s, struct request *r)
{
    struct state *y = s->self;

    queue_remove(&y->waiting, r);
    queue_push(&y->running, r);
    s->n_waiting--;
    s->n_running++;
}

/* Prompts that an earlier step cut go on; then new ones are admitted. Returns why the others wait. */
static enum why plan_prompts(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;

    for (struct request *r = y->running.tail; r && plan_room(p); r = r->prev)
        if (req_todo(r) > 1)
            plan_add(p, r, min_u32(req_todo(r), plan_room(p)));
    while (y->waiting.n) {
        struct request *r = y->waiting.head;

        if (y->running.n == p->max_seq)
            return WHY_SEQ_CAP;
        if (!plan_room(p) || (p->n && kv_todo(kv, r) > plan_room(p)))
            return WHY_BUDGET;
        if (kv_admit(kv, r, req_known(r)))
            return WHY_NO_KV;
        admit(s, r);
        plan_add(p, r, min_u32(req_todo(r), plan_room(p)));
    }
    return WHY_ORDER;
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    enum why why = plan_prompts(s, kv, p);

    (void)now_ns;
    if (!p->n) {
        plan_decodes(p, kv, &y->running, &y->waiting, y->yield, y->victim);
        s->n_running = y->running.n;
        s->n_waiting = y->waiting.n;
        if (p->n_preempt)
            why = WHY_NO_KV;
    }
    plan_why(p, why, y->waiting.n);
}

static void finish(struct sched *s, struct request *r)
{
    struct state *y = s->self;

    queue_remove(&y->running, r);
    s->n_running--;
}

const struct sched_ops sched_continuous = {
    .name = "continuous",
    .about = "iteration-level, prompts first, newest yields by recompute (Orca; vLLM v0 order)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = arrive, .plan = plan, .finish = finish,
};
