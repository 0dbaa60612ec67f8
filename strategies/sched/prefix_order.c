/* prefix_order.c - the waiting request with the longest cached prefix goes first.
 *
 * The idea (SGLang's schedule policy lpm): who shares most with what lies in the cache now is served
 * before the cache forgets it, so hits rise; matching everybody costs time, so with more than `most`
 * requests waiting (128 in SGLang) the order is first come, first served. Ties go by the queue. Steps are
 * those of chunked.c.
 * Sharing within a batch: of several that wait, that begin with the same `shared` tokens and find no more
 * than that in the cache, the first fills the cache, and the others go last in this step (schedule_policy.py,
 * IN_BATCH_PREFIX_CACHING_*, 32 tokens).
 * What must stay true: with a manager that has no cache this is chunked.c. A request that matches nothing
 * may wait as long as others match: lpm does not age. */
#include "base/hash.h"
#include "strategies/queues.h"

enum { MOST_SHARED = 256 };

struct state {
    struct queues q;
    uint32_t most, shared;
    uint64_t *begun;                   /* [most] beginnings of those looked at in this step */
};

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "sequences per step at most" },
    { "budget", NULL, 512, 1, 1 << 20, "tokens per step at most, decodes included" },
    { "most", NULL, 128, 0, 1 << 20, "with more waiting than this: first come, first served" },
    { "shared", NULL, 32, 0, MOST_SHARED, "of those that begin with as many equal tokens all but one go last; 0: no" },
    KNOB_PREEMPT, KNOB_VICTIM,
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    struct state *y = s->self;

    y->most = (uint32_t)params_int(&s->env.params, "most");
    y->shared = (uint32_t)params_int(&s->env.params, "shared");
    if (queues_open(s, a, e))
        return -1;
    y->begun = ARENA_NEW(a, uint64_t, min_u32(y->most, s->env.max_waiting));
    return y->begun || !y->most ? 0 : err_set(e, EXIT_RUN_FAILED, "prefix_order: out of memory");
}

/* What r's first tokens are, once and for all in rank2. 0: too short to matter. */
static uint64_t beginning(const struct state *y, const struct kv *kv, struct request *r)
{
    uint64_t id[MOST_SHARED], h = 0x626567696e;

    if (r->n_prompt < y->shared)
        return 0;
    if (!r->rank2) {
        kv->env.identities(kv->env.identities_self, r, 0, y->shared, id);
        for (uint32_t i = 0; i < y->shared; i++)
            h = hash64(h, id[i]);
        r->rank2 = h | 1;
    }
    return r->rank2;
}

/* Whether one of the n looked at before begins as r does; if not, r is the n + 1st. */
static bool begins_alike(struct state *y, const struct kv *kv, struct request *r, uint32_t *n)
{
    uint64_t h = beginning(y, kv, r);

    for (uint32_t i = 0; h && i < *n; i++)
        if (y->begun[i] == h)
            return true;
    if (h)
        y->begun[(*n)++] = h;
    return false;
}

/* rank: 1 + tokens that need not be run, or 0 for one that goes last. Looked up once per step: asking again
 * after each admission would cost more than the little that changes is worth. */
static void match(struct state *y, struct kv *kv)
{
    uint32_t n = 0;

    for (struct request *r = y->q.waiting.head; r; r = r->next) {
        uint32_t found = req_known(r) - kv_todo(kv, r);

        r->rank = found + 1;
        if (y->shared && found <= y->shared && begins_alike(y, kv, r, &n))
            r->rank = 0;
    }
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
    queues_decode(s, kv, p);
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
