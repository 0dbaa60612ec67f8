/* prefix_order.c - the waiting request with the longest cached prefix goes first.
 *
 * The idea (SGLang's schedule policy lpm): who shares most with what lies in the cache now is served
 * before the cache forgets it, so hits rise; matching everybody costs time, so with more than `most`
 * requests waiting (128 in SGLang) the order is first come, first served. Ties go by the queue. Steps are
 * those of chunked.c. Not here: SGLang holds back a request that shares more with another waiting one than
 * with the cache; a scheduler of this house does not see whose tokens are equal.
 * What must stay true: with a manager that has no cache this is chunked.c. A request that matches nothing
 * may wait as long as others match: lpm does not age. */
#include "strategies/queues.h"

struct state {
    struct queues q;
    uint32_t most;
    enum yield yield;
    enum victim victim;
};

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "sequences per step at most" },
    { "budget", NULL, 512, 1, 1 << 20, "tokens per step at most, decodes included" },
    { "most", NULL, 128, 0, 1 << 20, "with more waiting than this: first come, first served" },
    KNOB_PREEMPT, KNOB_VICTIM,
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    struct state *y = s->self;

    (void)a;
    (void)e;
    y->most = (uint32_t)params_int(&s->env.params, "most");
    y->yield = (enum yield)params_int(&s->env.params, "preempt");
    y->victim = (enum victim)params_int(&s->env.params, "victim");
    s->max_tok = (uint32_t)params_int(&s->env.params, "budget");
    s->max_seq = min_u32((uint32_t)params_int(&s->env.params, "batch"), s->max_tok);
    return 0;
}

/* rank: tokens that need not be run. Looked up once per step: asking again after each admission would cost
 * more than the little that changes is worth. */
static void match(struct state *y, struct kv *kv)
{
    for (struct request *r = y->q.waiting.head; r; r = r->next)
        r->rank = req_known(r) - kv_todo(kv, r);
}

static struct request *best(const struct state *y)
{
    struct request *b = y->q.waiting.head;

    for (struct request *r = b; r; r = r->next)
        if (r->rank > b->rank)
            b = r;
    return b;
}

static enum why admit(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    bool matches = kv->ops->peek && y->q.waiting.n <= y->most, matched = false;

    while (y->q.waiting.n) {
        struct request *r = y->q.waiting.head;

        if (y->q.running.n == p->max_seq)
            return WHY_SEQ_CAP;
        if (!plan_room(p))
            return WHY_BUDGET;
        if (matches && !matched)
            match(y, kv);
        matched = matches;
        if (matches)
            r = best(y);
        if (kv_admit(kv, r, req_known(r)))
            return WHY_NO_KV;
        queues_admit(s, r);
        plan_add(p, r, min_u32(req_todo(r), plan_room(p)));
    }
    return WHY_ORDER;
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    static const struct share_rule rule = { SHARE_FCFS, 1, 0 };
    struct state *y = s->self;
    enum why why = WHY_NO_KV;

    (void)now_ns;
    plan_decodes(p, kv, &y->q.running, &y->q.waiting, y->yield, y->victim);
    queues_count(s);
    share_prompts(&rule, p, &y->q.running);
    if (!p->n_preempt)
        why = admit(s, kv, p);
    plan_why(p, why, y->q.waiting.n);
}

const struct sched_ops sched_prefix_order = {
    .name = "prefix_order",
    .about = "longest cached prefix first, first come first served when many wait (SGLang lpm)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = queues_arrive, .plan = plan, .finish = queues_finish,
};
