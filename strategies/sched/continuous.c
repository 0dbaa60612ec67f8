/* continuous.c - iteration-level batching, prompts first, the newest yields by recompute.
 *
 * The idea: a step runs whole new prompts whenever one can be admitted, otherwise one token for everybody
 * (Orca, OSDI'22; the order of vLLM v0 and nano-vLLM). First come, first served: the first request that
 * does not fit stops admission. Out of KV room while decoding, the youngest request loses its blocks and
 * goes back to the front of the queue. Only the first prompt of a step may be cut by the budget.
 * What must stay true: a step that preempts admits nobody; waiting requests never preempt. */
#include "strategies/queues.h"

struct state {
    struct queues q;
    uint32_t watermark;
};

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "sequences per step at most" },
    { "budget", NULL, 2048, 1, 1 << 20, "prompt tokens per step at most" },
    { "watermark", NULL, 0, 0, 999, "1/1000 of the blocks that admission leaves free while others run" },
    KNOB_PREEMPT, KNOB_VICTIM,
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    struct state *y = s->self;

    y->watermark = (uint32_t)params_int(&s->env.params, "watermark");
    return queues_open_apart(s, a, e);
}

/* Prompts that an earlier step cut go on; then new ones are admitted. Returns why the others wait. */
static enum why plan_prompts(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;

    for (struct request *r = y->q.running.tail; r && plan_room(p); r = r->prev)
        if (req_todo(r) > 1)
            plan_add(p, r, min_u32(req_todo(r), plan_room(p)));
    while (y->q.waiting.n) {
        struct request *r = y->q.waiting.head;

        if (y->q.running.n == p->max_seq)
            return WHY_SEQ_CAP;
        if (!plan_room(p) || (p->n && kv_todo(kv, r) > plan_room(p)))
            return WHY_BUDGET;
        if (!kv_leaves(kv, r, y->watermark, &y->q.running) || kv_admit(kv, r, req_known(r)))
            return WHY_NO_KV;
        queues_admit(s, r);
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
        queues_decode(s, kv, p);
        if (p->n_preempt)
            why = WHY_NO_KV;
    }
    plan_why(p, why, y->q.waiting.n);
}

const struct sched_ops sched_continuous = {
    .name = "continuous",
    .about = "iteration-level, prompts first, newest yields by recompute (Orca; vLLM v0 order)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = queues_arrive, .plan = plan, .finish = queues_finish,
};
