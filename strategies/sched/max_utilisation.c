/* max_utilisation.c - memory is handed out until it is full; then the end of the list is paused.
 *
 * The idea (TensorRT-LLM, capacity policy MAX_UTILIZATION): walk all requests in order of arrival. Each
 * takes what its next step needs: its known tokens when it starts, one more when it generates. When one
 * does not fit, the last in the list that has started, back to and including that one itself, is paused:
 * its KV is given up, it is recomputed later, the list ends there, and the walk tries again. If none has
 * started, the walk stops. A paused request keeps its place in the list, so on its return it may pause
 * younger ones. The second stage runs the selected in list order within the token budget: one token for
 * each that generates, prompts whole or (chunked=on) in multiples of `unit`. defer=on: with a cache, a
 * prompt whose first missing block is being computed is passed over in this step (reuse.h); when it is
 * let in afterwards and every seat is taken, it pauses a younger one for its seat, as there.
 *
 * Differs from the engine: who would get no token is not admitted (there it is selected and waits);
 * prompts longer than the budget are cut.
 * What must stay true: nobody is paused while somebody behind it in the list has started; the first of the
 * list moves in every step. Who loses by it, and when: results/06-eviction. */
#include "strategies/micro_batch.h"
#include "strategies/reuse.h"

struct state {
    struct queues q;                   /* both by place in the list: r->rank */
    struct micro_batch micro;
    struct reuse reuse;
    uint64_t arrived;
};

static const struct knob knobs[] = {
    KNOBS_MICRO_BATCH,
    { "defer", "on|off", 0, 0, 0, "a prompt waits a step for a block that another computes" },
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    struct state *y = s->self;

    y->micro = micro_batch_open(s);
    return params_int(&s->env.params, "defer") == 0 ? reuse_open(&y->reuse, s->max_seq, a, e) : 0;
}

static void arrive(struct sched *s, struct request *r)
{
    r->rank = ((struct state *)s->self)->arrived++;
    queues_arrive(s, r);
}

/* Into a queue at its place. Newly admitted ones belong near the end, paused ones near the front. */
static void place(struct queue *q, struct request *r, bool from_end)
{
    struct request *next = from_end ? NULL : q->head;

    if (from_end)
        for (struct request *o = q->tail; o && o->rank > r->rank; o = o->prev)
            next = o;
    else
        while (next && next->rank < r->rank)
            next = next->next;
    if (!next) {
        queue_push(q, r);
    } else if (next == q->head) {
        queue_push_front(q, r);
    } else {
        r->next = next;
        r->prev = next->prev;
        next->prev->next = r;
        next->prev = r;
        q->n++;
    }
}

static void put_back(struct sched *s, struct plan *p, struct kv *kv, struct request *r)
{
    struct state *y = s->self;

    plan_preempt(p, kv, r, YIELD_RECOMPUTE);
    queue_remove(&y->q.running, r);
    place(&y->q.waiting, r, false);
    queues_count(s);
}

/* A running request takes what its next step needs. */
static bool keeps(struct kv *kv, struct request *r)
{
    return req_todo(r) > 1 || !kv_grow(kv, r, r->n_kv + 1);
}

/* ---- first stage: who may hold memory ---- */

struct walk {
    uint32_t n, left;                  /* selected so far; tokens that the second stage will have left */
    uint64_t end;                      /* the list ends before this place */
    enum why why;                      /* why those that wait do; WHY_ORDER: nothing stopped the walk */
};

/* A waiting request whose place has come. False: it does not get in, w->why says why. */
static bool start(struct sched *s, struct kv *kv, struct walk *w, struct request *r)
{
    struct state *y = s->self;
    uint32_t n = micro_batch_ask(&y->micro, s, kv_todo(kv, r), w->left);

    w->why = !n ? WHY_BUDGET : w->n == s->max_seq ? WHY_SEQ_CAP : WHY_NO_KV;
    if (w->why != WHY_NO_KV || kv_admit(kv, r, req_known(r)))
        return false;
    queue_remove(&y->q.waiting, r);
    place(&y->q.running, r, true);
    queues_count(s);
    w->why = WHY_ORDER;
    w->left -= n;
    return true;
}

/* The last that has started, at r's place or behind it, is paused. False: there is none. */
static bool pause_last(struct sched *s, struct plan *p, struct kv *kv, struct walk *w,
                       const struct request *r)
{
    struct request *v = ((struct state *)s->self)->q.running.tail;

    if (!v || v->rank < r->rank)
        return false;
    w->end = v->rank;
    put_back(s, p, kv, v);
    return true;
}

/* Tokens that the second stage will give to r, which runs. */
static void set_aside(const struct state *y, const struct sched *s, struct walk *w,
                      const struct request *r)
{
    uint32_t n = req_todo(r) == 1 && y->micro.chunked ? 0 : micro_batch_ask(&y->micro, s, req_todo(r), w->left);

    if (!n && !y->micro.chunked)
        w->left = 0;                   /* the second stage stops here */
    w->left -= n;
}

/* One place in the list. False: r has not got what it needs. */
static bool visit(struct sched *s, struct plan *p, struct kv *kv, struct walk *w, struct request *r,
                  bool has_started)
{
    while (r->rank < w->end) {
        if (has_started ? w->n < s->max_seq && keeps(kv, r) : start(s, kv, w, r)) {
            w->n++;
            if (has_started)
                set_aside(s->self, s, w, r);
            return true;
        }
        if ((!has_started && w->why == WHY_BUDGET) || !pause_last(s, p, kv, w, r))
            return false;
    }
    return false;
}

static uint32_t n_generating(const struct state *y)
{
    uint32_t n = 0;

    for (const struct request *r = y->q.running.head; r; r = r->next)
        n += req_todo(r) == 1;
    return n;
}

/* The list is both queues, merged by place. Whoever is paused is behind w.end, so that a pointer to the
 * next of a queue is either still right or out of bounds. */
static enum why capacity(struct sched *s, struct plan *p, struct kv *kv)
{
    struct state *y = s->self;
    struct walk w = { .end = UINT64_MAX, .why = WHY_ORDER };
    struct request *run = y->q.running.head, *wait = y->q.waiting.head;

    reuse_begin(&y->reuse, kv, &y->q.running);
    w.left = s->max_tok - (y->micro.chunked ? n_generating(y) : 0);
    for (;;) {
        if (run && run->rank >= w.end)
            run = NULL;
        if (wait && wait->rank >= w.end)
            wait = NULL;
        if (run && (!wait || run->rank < wait->rank)) {
            visit(s, p, kv, &w, run, true);
            run = run->rank < w.end ? run->next : NULL;
        } else if (wait) {
            struct request *next = wait->next;

            if (reuse_skip(&y->reuse, kv, wait)) {
                wait = next;
                continue;
            }
            wait = visit(s, p, kv, &w, wait, false) ? next : NULL;     /* in order: nobody overtakes */
        } else {
            return p->n_preempt ? WHY_NO_KV : w.why;
        }
    }
}

/* ---- second stage: who runs ---- */

static void micro_batch(struct state *y, const struct sched *s, struct plan *p)
{
    struct request *r = y->q.running.head;

    if (y->micro.chunked) {            /* generation is counted before chunks are dealt */
        for (; r; r = r->next)
            if (req_todo(r) == 1)
                plan_add(p, r, 1);
        share_prompts(&y->micro.share, p, &y->q.running);
        return;
    }
    for (; r; r = r->next) {
        uint32_t n = micro_batch_ask(&y->micro, s, req_todo(r), plan_room(p));

        if (!n)
            break;
        plan_add(p, r, n);
    }
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    enum why why = capacity(s, p, kv);

    (void)now_ns;
    micro_batch(y, s, p);
    plan_why(p, why, y->q.waiting.n);
}

const struct sched_ops sched_max_utilisation = {
    .name = "max_utilisation",
    .about = "memory handed out until full, then the end of the list is paused (TensorRT-LLM)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = arrive, .plan = plan, .finish = queues_finish,
};
