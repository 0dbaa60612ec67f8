/* decodes_first.c - every running request decodes in every step; whole new prompts fill what is left.
 *
 * The idea: prompts and decodes share one forward pass, decodes go first, and a prompt is never cut, so
 * one long prompt makes everybody's step long (iteration-level scheduling, Orca, OSDI'22; as "orca" in
 * Sarathi-Serve's schedulers, but with memory taken as it is needed). Only a prompt that has the step for
 * itself may be cut: else one longer than the budget would wait for ever.
 * What must stay true: no decode waits for a prompt; a step that preempts admits nobody. */
#include "strategies/queues.h"

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "sequences per step at most" },
    { "budget", NULL, 2048, 1, 1 << 20, "tokens per step at most, decodes included" },
    KNOB_PREEMPT, KNOB_VICTIM,
    { 0 },
};

static enum why admit(struct sched *s, struct kv *kv, struct plan *p)
{
    struct queues *q = s->self;

    while (q->waiting.n) {
        struct request *r = q->waiting.head;

        if (q->running.n == p->max_seq)
            return WHY_SEQ_CAP;
        if (!plan_room(p) || (p->n && kv_todo(kv, r) > plan_room(p)))
            return WHY_BUDGET;
        if (kv_admit(kv, r, req_known(r)))
            return WHY_NO_KV;
        queues_admit(s, r);
        plan_add(p, r, min_u32(req_todo(r), plan_room(p)));
    }
    return WHY_ORDER;
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct queues *q = s->self;
    enum why why = WHY_NO_KV;

    (void)now_ns;
    queues_decode(s, kv, p);
    for (struct request *r = q->running.head; r && plan_room(p); r = r->next)
        if (req_todo(r) > 1)
            plan_add(p, r, min_u32(req_todo(r), plan_room(p)));
    if (!p->n_preempt)
        why = admit(s, kv, p);
    plan_why(p, why, q->waiting.n);
}

const struct sched_ops sched_decodes_first = {
    .name = "decodes_first",
    .about = "every decode in every step, whole prompts fill the rest (Orca's iteration-level order)",
    .knobs = knobs, .state_bytes = sizeof(struct queues),
    .open = queues_open, .arrive = queues_arrive, .plan = plan, .finish = queues_finish,
};
