/* served_ratio.c - new prompts stop those who are served only when enough of them wait, or for long.
 *
 * The idea (Text Generation Inference, backends/v3): a batch decodes; after each decode step the server
 * asks whether to take in a new one. chunking=off: a new batch needs at least `ratio` times as many
 * requests as are served, unless `wait` steps went by; its prompts run in a step of their own, then both
 * are one batch (tgi-2023: ratio=1200). chunking=on: new prompts join the decodes in one step, ratio and
 * wait mean nothing; a prompt that is cut goes on with what the others leave, at least one token.
 *
 * Memory is taken whole at admission: prompt + min(what may come, `leg`) - 1 tokens, so nobody is ever
 * evicted. Who produced `leg` tokens and wants more goes to the end of the queue as a new request with its
 * text as prompt. That shows as a preemption in our counts, since its KV is lost.
 *
 * Differs from the engine: `prefill` is a number (there it is derived from FLOP/s); no 128 permits at the
 * door: what exceeds `batch` waits; prompts above the prefill budget run in pieces with chunking=off (there
 * they are refused); a reservation larger than the pool is served alone and grows (there it is refused).
 * What must stay true: a reservation does not change during a leg; prompt tokens of a step and what the
 * batch feeds stay within the budget, rounded up to a block; a step that takes in is followed by one that
 * does not. */
#include "strategies/queues.h"

enum { MAX_BLOCK = 256 };
struct state {
    struct queues q;
    uint32_t prefill, ratio, wait, leg;
    bool chunking;
    uint32_t steps;                    /* decode steps since a batch was taken in */
    bool settle;                       /* the last step took in: this one does not */
    bool alone;                        /* the one that runs has no reservation: nobody joins */
};

static const struct knob knobs[] = {
    { "batch", NULL, 128, 1, 65536, "requests served at once at most" },
    { "prefill", NULL, 4096, 1, 1 << 20, "prompt tokens per step at most (max_batch_prefill_tokens)" },
    { "chunking", "on|off", 0, 0, 0, "new prompts run with the decodes, cut to the budget" },
    { "ratio", NULL, 300, 0, 100000, "chunking=off: waiting_served_ratio in 1/1000" },
    { "wait", NULL, 20, 0, 1 << 20, "chunking=off: decode steps after which the ratio is waived" },
    { "leg", NULL, 1024, 1, 1 << 20, "output tokens reserved; then the request queues again" },
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    struct state *y = s->self;

    (void)a;
    (void)e;
    y->prefill = (uint32_t)params_int(&s->env.params, "prefill");
    y->chunking = params_int(&s->env.params, "chunking") == 0;
    y->ratio = (uint32_t)params_int(&s->env.params, "ratio");
    y->wait = (uint32_t)params_int(&s->env.params, "wait");
    y->leg = (uint32_t)params_int(&s->env.params, "leg");
    s->max_seq = (uint32_t)params_int(&s->env.params, "batch");
    s->max_tok = max_u32(y->prefill + MAX_BLOCK - 1, s->max_seq);
    return 0;
}

/* rank: n_out when the leg began. */
static void end_legs(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;

    for (struct request *r = y->q.running.head, *next; r; r = next) {
        next = r->next;
        if (r->n_out - r->rank < y->leg)
            continue;
        plan_preempt(p, kv, r, YIELD_RECOMPUTE);
        queue_remove(&y->q.running, r);
        queue_push(&y->q.waiting, r);
    }
    queues_count(s);
}

/* ---- taking in ---- */

static bool reserve(struct state *y, struct kv *kv, struct request *r)
{
    uint64_t n = (uint64_t)req_known(r) + min_u32(r->max_new - r->n_out, y->leg) - 1;

    if (n > kv->env.max_len)
        n = max_u32(kv->env.max_len, req_known(r));
    if (!kv_admit(kv, r, (uint32_t)n))
        return true;
    y->alone = !y->q.running.n && !kv_admit(kv, r, req_known(r));
    return y->alone;
}

/* One request: 0 when it may not come, else the tokens that it runs in this step. */
static uint32_t take_one(struct sched *s, struct kv *kv, uint32_t left, bool first, enum why *why)
{
    struct state *y = s->self;
    struct request *r = y->q.waiting.head;
    bool cut = y->chunking || (first && kv_todo(kv, r) > y->prefill);

    *why = WHY_BUDGET;
    if (!left || (!cut && kv_todo(kv, r) > left))
        return 0;
    *why = WHY_NO_KV;
    if (y->alone || !reserve(y, kv, r))
        return 0;
    queues_admit(s, r);
    r->rank = r->n_out;
    r->rank2 = min_u32(req_todo(r), left);
    return (uint32_t)r->rank2;
}

static void give_back(struct sched *s, struct kv *kv, uint32_t n)
{
    struct state *y = s->self;

    while (n--) {
        struct request *r = y->q.running.tail;

        kv_drop(kv, r);
        r->n_kv = 0;
        queue_remove(&y->q.running, r);
        queue_push_front(&y->q.waiting, r);
    }
    queues_count(s);
}

/* Takes in at least `least` requests with at most `left` tokens to run, or none. Returns how many. */
static uint32_t take_in(struct sched *s, struct kv *kv, struct plan *p, uint32_t least, uint32_t left,
                        enum why *why)
{
    struct state *y = s->self;
    uint32_t n = 0, tokens;
    struct request *r;

    *why = WHY_CLOSED;
    if (y->q.waiting.n < least)
        return 0;
    *why = WHY_SEQ_CAP;
    while (y->q.waiting.n && y->q.running.n < p->max_seq) {
        *why = WHY_SEQ_CAP;
        if (!(tokens = take_one(s, kv, left, !n, why)))
            break;
        left -= tokens;
        n++;
    }
    if (n < least) {
        give_back(s, kv, n);
        return 0;
    }
    r = y->q.running.tail;
    for (uint32_t i = 1; i < n; i++)
        r = r->prev;
    for (uint32_t i = 0; i < n; i++, r = r->next)
        plan_add(p, r, (uint32_t)r->rank2);
    return n;
}

/* ---- steps ---- */

/* Decodes, and the next piece of prompts that were cut. The fallback inside plan_decodes is for managers
 * whose reservation turns out to be too small, and for the one that is alone. */
static void carry_on(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    uint32_t n = y->q.running.n, left = y->prefill > n - 1 ? y->prefill - (n - 1) : 1;

    plan_decodes(p, kv, &y->q.running, &y->q.waiting, YIELD_RECOMPUTE, VICTIM_YOUNGEST);
    queues_count(s);
    for (struct request *r = y->q.running.head; r; r = r->next) {
        uint32_t piece = min_u32(min_u32(req_todo(r), max_u32(left, 1)), plan_room(p));

        if (req_todo(r) > 1 && !plan_add(p, r, piece))
            left -= min_u32(left, piece);
    }
}

static enum why step_chunking(struct sched *s, struct kv *kv, struct plan *p, uint32_t budget)
{
    struct state *y = s->self;
    enum why why = WHY_CLOSED;

    carry_on(s, kv, p);
    if (y->settle)
        y->settle = false;
    else
        y->settle = take_in(s, kv, p, 0, budget - min_u32(budget, p->n_tok), &why) > 0;
    return why;
}

static bool has_pieces(const struct state *y)
{
    for (const struct request *r = y->q.running.head; r; r = r->next)
        if (req_todo(r) > 1)
            return true;
    return false;
}

static enum why step_apart(struct sched *s, struct kv *kv, struct plan *p, uint32_t budget)
{
    static const struct share_rule rule = { SHARE_FCFS, 1, 0 };
    struct state *y = s->self;
    enum why why = WHY_CLOSED;
    uint64_t least = y->steps >= y->wait ? 0 : (uint64_t)y->q.running.n * y->ratio / 1000;

    if (has_pieces(y)) {
        share_prompts(&rule, p, &y->q.running);
        return WHY_CLOSED;
    }
    if (!y->settle && take_in(s, kv, p, (uint32_t)least, budget, &why)) {
        y->settle = true;
        y->steps = 1;
        return why;
    }
    carry_on(s, kv, p);
    y->settle = false;
    y->steps++;
    return why;
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    uint32_t block = kv_block_tokens(kv), budget;
    enum why why = WHY_ORDER;

    (void)now_ns;
    budget = min_u32(ceil_div_u32(y->prefill, block) * block, p->max_tok);
    end_legs(s, kv, p);
    if (!y->q.running.n) {             /* nobody is served: whoever waits may come */
        y->alone = y->settle = false;
        y->steps = 1;
        take_in(s, kv, p, 0, budget, &why);
    } else {
        why = y->chunking ? step_chunking(s, kv, p, budget) : step_apart(s, kv, p, budget);
    }
    plan_why(p, why, y->q.waiting.n);
}

const struct sched_ops sched_served_ratio = {
    .name = "served_ratio",
    .about = "new prompts wait for a ratio to those served; memory reserved in legs (TGI)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = queues_arrive, .plan = plan, .finish = queues_finish,
};
