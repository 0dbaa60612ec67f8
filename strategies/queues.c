/* queues.c - see queues.h. */
#include "strategies/queues.h"

void queues_count(struct sched *s)
{
    const struct queues *q = s->self;

    s->n_waiting = q->waiting.n;
    s->n_running = q->running.n;
}

void queues_arrive(struct sched *s, struct request *r)
{
    queue_push(&((struct queues *)s->self)->waiting, r);
    queues_count(s);
}

void queues_finish(struct sched *s, struct request *r)
{
    queue_remove(&((struct queues *)s->self)->running, r);
    queues_count(s);
}

void queues_admit(struct sched *s, struct request *r)
{
    struct queues *q = s->self;

    queue_remove(&q->waiting, r);
    queue_push(&q->running, r);
    queues_count(s);
}

void queues_preempt(struct sched *s, struct plan *p, struct kv *kv, struct request *r, enum yield how)
{
    struct queues *q = s->self;

    plan_preempt(p, kv, r, how);
    queue_remove(&q->running, r);
    queue_push_front(&q->waiting, r);
    queues_count(s);
}

/* ---- memory ---- */

/* Managers say how many slots their used blocks hold; an empty one leaves only the pool to divide. */
uint32_t kv_block_tokens(const struct kv *kv)
{
    struct kv_count c = kv->ops->count(kv);
    uint64_t n = c.blocks_used ? c.slots_held / c.blocks_used
                 : c.blocks_total ? kv->env.n_slot / c.blocks_total : 1;

    return n ? (uint32_t)n : 1;
}

uint32_t kv_free_blocks(const struct kv *kv)
{
    struct kv_count c = kv->ops->count(kv);

    return c.blocks_total - c.blocks_used;
}

uint32_t kv_blocks_more(const struct kv *kv, const struct request *r, uint64_t n_tok)
{
    uint64_t room = req_room(r), block = kv_block_tokens(kv);

    return n_tok <= room ? 0 : (uint32_t)((n_tok - room + block - 1) / block);
}

uint32_t kv_permille(const struct kv *kv, uint32_t permille)
{
    return (uint32_t)((uint64_t)kv->ops->count(kv).blocks_total * permille / 1000);
}

bool kv_leaves(struct kv *kv, const struct request *r, uint32_t permille, const struct queue *running)
{
    if (!permille || !running->n)
        return true;
    return kv_blocks_more(kv, r, kv_todo(kv, r)) + kv_permille(kv, permille) <= kv_free_blocks(kv);
}

/* ---- sharing ---- */

uint32_t share_ask(const struct share_rule *rule, uint32_t todo, uint32_t left)
{
    uint32_t want = rule->how == SHARE_CAP ? min_u32(todo, rule->cap)
                    : rule->how == SHARE_EQUAL ? min_u32(todo, rule->unit) : todo;

    if (want <= left)
        return want;
    return rule->how == SHARE_EQUAL ? 0 : left / rule->unit * rule->unit;
}

uint32_t share_left(const struct share_rule *rule, const struct plan *p, const struct queue *running)
{
    uint32_t left = plan_room(p);

    for (const struct request *r = running->head; r && left; r = r->next)
        if (req_todo(r) > 1)
            left -= share_ask(rule, req_todo(r), left);
    return left;
}

/* One pass over the running prompts: each gets up to `per` more tokens. Returns who could use more. */
static uint32_t share_round(const struct share_rule *rule, const struct queue *running, uint32_t per,
                            uint32_t *left)
{
    uint32_t hungry = 0;

    for (struct request *r = running->head; r; r = r->next) {
        uint32_t more, give;

        if (req_todo(r) <= 1)
            continue;
        more = req_todo(r) - (uint32_t)r->rank2;
        give = min_u32(more, per);
        if (give > *left)
            give = *left / rule->unit * rule->unit;
        r->rank2 += give;
        *left -= give;
        hungry += give < more;
    }
    return hungry;
}

/* A unit each until nothing is left; whole laps are dealt at once. */
static void share_equally(const struct share_rule *rule, struct plan *p, const struct queue *running)
{
    uint32_t left = plan_room(p), before = 0, hungry = 0;

    for (struct request *r = running->head; r; r = r->next) {
        r->rank2 = 0;
        hungry += req_todo(r) > 1;
    }
    while (hungry && left && left != before) {
        before = left;
        hungry = share_round(rule, running, max_u32(left / hungry / rule->unit, 1) * rule->unit, &left);
    }
    for (struct request *r = running->head; r; r = r->next)
        if (r->rank2)
            plan_add(p, r, (uint32_t)r->rank2);
}

void share_prompts(const struct share_rule *rule, struct plan *p, const struct queue *running)
{
    if (rule->how == SHARE_EQUAL) {
        share_equally(rule, p, running);
        return;
    }
    for (struct request *r = running->head; r && plan_room(p); r = r->next)
        if (req_todo(r) > 1)
            plan_add(p, r, share_ask(rule, req_todo(r), plan_room(p)));
}

void plan_prompts_in_order(struct plan *p, const struct queue *running)
{
    for (struct request *r = running->head; r && plan_room(p); r = r->next)
        if (req_todo(r) > 1 || !r->n_out)
            plan_add(p, r, min_u32(req_todo(r), plan_room(p)));
}

/* ---- heap ---- */

static bool before(const struct request *a, const struct request *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->id < b->id;
}

int heap_open(struct heap *h, uint32_t most, struct arena *a, struct err *e)
{
    h->n = 0;
    h->at = ARENA_NEW(a, struct request *, most);
    return h->at ? 0 : err_set(e, EXIT_RUN_FAILED, "out of memory for %u waiting requests", most);
}

void heap_push(struct heap *h, struct request *r)
{
    uint32_t i = h->n++;

    for (; i && before(r, h->at[(i - 1) / 2]); i = (i - 1) / 2)
        h->at[i] = h->at[(i - 1) / 2];
    h->at[i] = r;
}

struct request *heap_pop(struct heap *h)
{
    struct request *top = h->at[0], *last = h->at[--h->n];
    uint32_t i = 0, child;

    while ((child = 2 * i + 1) < h->n) {
        if (child + 1 < h->n && before(h->at[child + 1], h->at[child]))
            child++;
        if (!before(h->at[child], last))
            break;
        h->at[i] = h->at[child];
        i = child;
    }
    h->at[i] = last;
    return top;
}

/* ---- order by key ---- */

int ordered_open(struct sched *s, uint64_t (*key)(const struct request *r), struct arena *a, struct err *e)
{
    struct ordered *y = s->self;

    y->key = key;
    y->yield = (enum yield)params_int(&s->env.params, "preempt");
    y->preemptive = params_int(&s->env.params, "preemptive") != 0;
    s->max_tok = (uint32_t)params_int(&s->env.params, "budget");
    s->max_seq = min_u32((uint32_t)params_int(&s->env.params, "batch"), s->max_tok);
    return heap_open(&y->waiting, s->env.max_waiting, a, e);
}

static void wait_by_key(struct sched *s, struct request *r)
{
    struct ordered *y = s->self;

    r->rank = y->key(r);
    heap_push(&y->waiting, r);
    s->n_waiting = y->waiting.n;
    s->n_running = y->running.n;
}

void ordered_arrive(struct sched *s, struct request *r)
{
    wait_by_key(s, r);
}

void ordered_finish(struct sched *s, struct request *r)
{
    struct ordered *y = s->self;

    queue_remove(&y->running, r);
    s->n_running = y->running.n;
}

/* Into running, before the first from the end whose key is not larger. */
static void run_by_key(struct sched *s, struct request *r)
{
    struct ordered *y = s->self;
    struct queue *q = &y->running;
    struct request *after = q->tail;

    while (after && y->key(after) > r->rank)
        after = after->prev;
    if (!after) {
        queue_push_front(q, r);
    } else if (after == q->tail) {
        queue_push(q, r);
    } else {
        r->prev = after;
        r->next = after->next;
        after->next->prev = r;
        after->next = r;
        q->n++;
    }
    s->n_waiting = y->waiting.n;
    s->n_running = q->n;
}

/* Budget left for r when running prompts that go before it have taken theirs. */
static uint32_t left_for(const struct ordered *y, const struct plan *p, const struct request *r)
{
    uint32_t left = plan_room(p);

    for (const struct request *o = y->running.head; o && left && y->key(o) <= r->rank; o = o->next)
        if (req_todo(o) > 1)
            left -= min_u32(left, req_todo(o));
    return left;
}

/* Whether r would fit once those behind it in the order have yielded: nobody yields in vain. */
static bool worth_it(const struct ordered *y, const struct kv *kv, const struct request *r)
{
    uint64_t room = (uint64_t)kv_free_blocks(kv) * kv_block_tokens(kv);
    const struct request *v = y->running.tail;

    if (!v || y->key(v) <= r->rank)
        return false;
    for (; v && y->key(v) > r->rank; v = v->prev)
        room += req_room(v);
    return room >= req_known(r);
}

static bool last_yields(struct sched *s, struct kv *kv, struct plan *p, const struct request *r)
{
    struct ordered *y = s->self;
    struct request *v = y->running.tail;

    if (!y->preemptive || !v || y->key(v) <= r->rank || !worth_it(y, kv, r))
        return false;
    plan_preempt(p, kv, v, y->yield);
    queue_remove(&y->running, v);
    wait_by_key(s, v);
    return true;
}

static enum why admit_by_key(struct sched *s, struct kv *kv, struct plan *p)
{
    struct ordered *y = s->self;

    while (y->waiting.n) {
        struct request *r = y->waiting.at[0];

        if (!left_for(y, p, r))
            return WHY_BUDGET;
        if (y->running.n == p->max_seq && !last_yields(s, kv, p, r))
            return WHY_SEQ_CAP;
        while (kv_admit(kv, r, req_known(r)))
            if (!last_yields(s, kv, p, r))
                return WHY_NO_KV;
        run_by_key(s, heap_pop(&y->waiting));
        if (req_todo(r) == 1)          /* the decodes of this step are planned already */
            plan_add(p, r, 1);
    }
    return WHY_ORDER;
}

void ordered_plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    static const struct share_rule rule = { SHARE_FCFS, 1, 0 };
    struct ordered *y = s->self;
    enum why why = WHY_NO_KV;

    (void)now_ns;
    plan_decodes(p, kv, &y->running, &y->yielded, y->yield, VICTIM_YOUNGEST);
    while (y->yielded.n) {
        struct request *r = y->yielded.head;

        queue_remove(&y->yielded, r);
        wait_by_key(s, r);
    }
    if (!p->n_preempt)
        why = admit_by_key(s, kv, p);
    share_prompts(&rule, p, &y->running);
    plan_why(p, why, y->waiting.n);
}
