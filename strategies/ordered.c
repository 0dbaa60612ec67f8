/* ordered.c - see ordered.h. */
#include "strategies/ordered.h"

/* ---- heap ---- */

static bool before(const struct request *a, const struct request *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->id < b->id;
}

static int heap_open(struct heap *h, uint32_t most, struct arena *a, struct err *e)
{
    h->n = 0;
    h->at = ARENA_NEW(a, struct request *, most);
    return h->at ? 0 : err_set(e, EXIT_RUN_FAILED, "out of memory for %u waiting requests", most);
}

static void heap_push(struct heap *h, struct request *r)
{
    uint32_t i = h->n++;

    for (; i && before(r, h->at[(i - 1) / 2]); i = (i - 1) / 2)
        h->at[i] = h->at[(i - 1) / 2];
    h->at[i] = r;
}

static struct request *heap_pop(struct heap *h)
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
    limits_together(s);
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
