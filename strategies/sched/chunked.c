/* chunked.c - decodes and prompt chunks in one step, under one token budget.
 *
 * The idea: every running decode gets its token, what is left of the budget goes to chunks of prompts, so
 * a long prompt never stalls others ("stall-free batching", Sarathi-Serve, OSDI'24; its default chunk is
 * 512). Order: decodes, then prompts already begun, then new ones while KV for the whole prompt fits and
 * leaves `watermark` of the blocks free (Sarathi: 10, for 1 %). Out of KV room, the youngest yields.
 *
 * `share` divides the rest between prompts: all that the first can use, then the next (Sarathi); a `unit`
 * each in rounds (TensorRT-LLM's EQUAL_PROGRESS); or `cap` tokens each at most, in order.
 * What must stay true: no step exceeds the budget; a step that preempts admits nobody. */
#include "strategies/queues.h"

struct state {
    struct queues q;
    struct share_rule share;
    uint32_t watermark;
};

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "sequences per step at most" },
    { "budget", NULL, 512, 1, 1 << 20, "tokens per step at most, decodes included" },
    { "share", SHARE_WORDS, SHARE_FCFS, 0, 0, "how prompts divide what decodes leave" },
    { "unit", NULL, 32, 1, 65536, "share=equal: tokens per round" },
    { "cap", NULL, 128, 1, 1 << 20, "share=cap: tokens of a prompt per step at most" },
    { "watermark", NULL, 0, 0, 999, "1/1000 of the blocks that admission leaves free while others run" },
    KNOB_PREEMPT, KNOB_VICTIM,
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    struct state *y = s->self;
    const struct params *k = &s->env.params;

    if (queues_open(s, a, e))
        return -1;
    y->watermark = (uint32_t)params_int(k, "watermark");
    y->share = (struct share_rule){ (enum share)params_int(k, "share"), 1,
                                    (uint32_t)params_int(k, "cap") };
    if (y->share.how == SHARE_EQUAL)
        y->share.unit = min_u32((uint32_t)params_int(k, "unit"), s->max_tok);
    return 0;
}

static enum why admit(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    uint32_t left = share_left(&y->share, p, &y->q.running), n;

    while (y->q.waiting.n) {
        struct request *r = y->q.waiting.head;

        if (p->n_preempt)
            return WHY_NO_KV;
        if (y->q.running.n == p->max_seq)
            return WHY_SEQ_CAP;
        if (!left || !(n = share_ask(&y->share, kv_todo(kv, r), left)))
            return WHY_BUDGET;
        if (!kv_leaves(kv, r, y->watermark, &y->q.running) || kv_admit(kv, r, req_known(r)))
            return WHY_NO_KV;
        queues_admit(s, r);
        if (req_todo(r) == 1)          /* the decodes of this step are planned already */
            plan_add(p, r, 1);
        left -= n;
    }
    return WHY_ORDER;
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    enum why why;

    (void)now_ns;
    queues_decode(s, kv, p);
    why = admit(s, kv, p);
    share_prompts(&y->share, p, &y->q.running);
    plan_why(p, why, y->q.waiting.n);
}

const struct sched_ops sched_chunked = {
    .name = "chunked",
    .about = "decodes and prompt chunks under one token budget (Sarathi-Serve)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = queues_arrive, .plan = plan, .finish = queues_finish,
};
