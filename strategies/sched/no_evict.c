/* no_evict.c - a request is admitted only when all that it may ever need is sure to be there.
 *
 * The idea (TensorRT-LLM, capacity policy GUARANTEED_NO_EVICT): before each step, what the running ones
 * may still take, ceil((prompt + max_new) / block) less what they hold, is subtracted from the free
 * blocks; the next in line is admitted when its own worst case fits into the rest (what a cache has is not
 * discounted). Only counted, not taken: blocks come as tokens do. The second stage picks who runs: one
 * token for each that generates, then prompts, whole or (chunked=on) in multiples of `unit`, first come
 * first served or a unit each in rounds. refill=off is STATIC_BATCH: nobody joins until all have left.
 * defer=on: with a cache, a prompt whose first missing block is being computed skips the step (reuse.h).
 *
 * Differs from the engine: prompts longer than the budget are cut (the engine refuses them without
 * chunking); a request whose worst case exceeds the pool runs alone.
 * What must stay true: the sum of what may be taken is at most what is free, at every step; nobody is ever
 * preempted with a manager that hands out plain blocks. Where a manager needs more than it said (a copied
 * shared block), the youngest yields. */
#include "strategies/micro_batch.h"
#include "strategies/reuse.h"

struct state {
    struct queues q;
    struct micro_batch micro;
    struct reuse reuse;
    bool refill;
};

static const struct knob knobs[] = {
    KNOBS_MICRO_BATCH,
    { "refill", "on|off", 0, 0, 0, "off: nobody joins while a request of the batch lives (STATIC_BATCH)" },
    { "defer", "on|off", 0, 0, 0, "a prompt waits a step for a block that another computes (not with refill=off)" },
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    struct state *y = s->self;

    y->refill = params_int(&s->env.params, "refill") == 0;
    y->micro = micro_batch_open(s);
    return y->refill && params_int(&s->env.params, "defer") == 0 ? reuse_open(&y->reuse, s->max_seq, a, e) : 0;
}

/* Blocks that r may still take. */
static uint64_t remain(const struct kv *kv, const struct request *r)
{
    return kv_blocks_more(kv, r, (uint64_t)r->n_prompt + r->max_new);
}

/* Free blocks that nobody who runs may still take. */
static uint64_t available(const struct state *y, const struct kv *kv)
{
    uint64_t avail = kv_free_blocks(kv), taken = 0;

    for (const struct request *r = y->q.running.head; r; r = r->next)
        taken += remain(kv, r);
    return avail > taken ? avail - taken : 0;
}

static enum why admit(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    uint64_t avail = available(y, kv);
    uint32_t left = share_left(&y->micro.share, p, &y->q.running);

    reuse_begin(&y->reuse, kv, &y->q.running);
    for (struct request *r = y->q.waiting.head, *next; r; r = next) {
        uint64_t need = remain(kv, r);
        uint32_t n;

        next = r->next;
        if (reuse_skip(&y->reuse, kv, r))
            continue;
        if (y->q.running.n == p->max_seq)
            return WHY_SEQ_CAP;
        if (need > avail && y->q.running.n)
            return WHY_NO_KV;
        if (!(n = micro_batch_ask(&y->micro, s, kv_todo(kv, r), left)))
            return WHY_BUDGET;
        if (kv_admit(kv, r, req_known(r)))
            return WHY_NO_KV;
        queues_admit(s, r);
        if (req_todo(r) == 1)          /* the decodes of this step are planned already */
            plan_add(p, r, 1);
        avail -= need < avail ? need : avail;
        left -= n;
    }
    return WHY_ORDER;
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    enum why why = WHY_CLOSED;

    (void)now_ns;
    plan_decodes(p, kv, &y->q.running, &y->q.waiting, YIELD_RECOMPUTE, VICTIM_YOUNGEST);
    queues_count(s);
    if (p->n_preempt)
        why = WHY_NO_KV;
    else if (y->refill || !y->q.running.n)
        why = admit(s, kv, p);
    share_prompts(&y->micro.share, p, &y->q.running);
    plan_why(p, why, y->q.waiting.n);
}

const struct sched_ops sched_no_evict = {
    .name = "no_evict",
    .about = "admitted only when the worst case is sure to fit (TensorRT-LLM GUARANTEED_NO_EVICT)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = queues_arrive, .plan = plan, .finish = queues_finish,
};
