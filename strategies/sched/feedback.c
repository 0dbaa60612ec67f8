/* feedback.c - several queues: who has had much service waits behind who has had little.
 *
 * The idea (FastServe, NSDI'26: skip-join multi-level feedback queue): a request starts in a queue that
 * its known part, the prompt, allows: the first whose quantum holds it ("skip-join"; `prompt` tokens
 * count as one iteration). When it has used a queue's quantum it sinks to the next one, whose quantum is
 * twice as long. Each step serves the highest queues first, in the order in which their members joined,
 * up to `batch`; who is not served keeps its K and V until somebody above needs the room, then the last of
 * the lowest queue yields, to host memory where there is some. Who was not served for `age_ms` rises to
 * the top, so that nobody starves. Output lengths are not needed.
 *
 * Differs from the paper: service is counted in iterations, not in profiled time; K and V leave when room
 * is needed, not ahead of that; quanta, levels and the age are ours, the paper's are not known to us.
 * What must stay true: the first of the highest queue that holds K and V moves in every step; nobody
 * yields to a waiting request before it has got a token for its own admission. */
#include "strategies/queues.h"

enum { N_LEVEL = 12 };

/* Of a request: rank = level << 32 | service when it came there; rank2: when it was last served, ns. */
struct level { struct queue running, waiting; };
struct state {
    struct level level[N_LEVEL];
    uint64_t age_ns;
    uint32_t quantum, prompt;
    enum yield yield;
};

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "sequences per step at most" },
    { "budget", NULL, 2048, 1, 1 << 20, "tokens per step at most" },
    { "quantum", NULL, 4, 1, 1 << 20, "iterations in the first queue; doubles from one to the next" },
    { "prompt", NULL, 256, 1, 1 << 20, "prompt tokens that count as one iteration" },
    { "age_ms", NULL, 10000, 1, 1 << 30, "who was not served for so long rises to the first queue" },
    { "preempt", YIELD_WORDS, YIELD_SWAP, 0, 0, "how a victim's KV is lost: computed again or swapped to host" },
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    const struct params *k = &s->env.params;
    struct state *y = s->self;

    (void)a;
    (void)e;
    y->quantum = (uint32_t)params_int(k, "quantum");
    y->prompt = (uint32_t)params_int(k, "prompt");
    y->age_ns = (uint64_t)params_int(k, "age_ms") * 1000000;
    y->yield = (enum yield)params_int(k, "preempt");
    limits_together(s);
    return 0;
}

/* ---- levels ---- */

static uint32_t level_of(const struct request *r) { return (uint32_t)(r->rank >> 32); }

static uint64_t quantum_of(const struct state *y, uint32_t level) { return (uint64_t)y->quantum << level; }

/* Iterations: what the prompt counts for, then one for each token. */
static uint32_t first_service(const struct state *y, const struct request *r)
{
    return (r->n_prompt + y->prompt - 1) / y->prompt;
}

static uint32_t service(const struct state *y, const struct request *r)
{
    return r->n_out ? first_service(y, r) + r->n_out - 1 : 0;
}

static void join(struct sched *s, struct request *r, uint32_t level, uint32_t had, bool runs)
{
    struct level *l = &((struct state *)s->self)->level[level];

    r->rank = (uint64_t)level << 32 | had;
    queue_push(runs ? &l->running : &l->waiting, r);
    s->n_running += runs;
    s->n_waiting += !runs;
}

static void part(struct sched *s, struct request *r, bool runs)
{
    struct level *l = &((struct state *)s->self)->level[level_of(r)];

    queue_remove(runs ? &l->running : &l->waiting, r);
    s->n_running -= runs;
    s->n_waiting -= !runs;
}

static void arrive(struct sched *s, struct request *r)
{
    const struct state *y = s->self;
    uint32_t level = 0;

    while (level + 1 < N_LEVEL && quantum_of(y, level) < first_service(y, r))
        level++;
    r->rank2 = r->arrive_ns;
    join(s, r, level, 0, false);
}

static void finish(struct sched *s, struct request *r) { part(s, r, true); }

static bool is_old(const struct state *y, const struct request *r, uint64_t now_ns)
{
    return now_ns > r->rank2 && now_ns - r->rank2 >= y->age_ns;
}

static void move(struct sched *s, struct request *r, uint32_t level, bool runs)
{
    part(s, r, runs);
    join(s, r, level, service(s->self, r), runs);
}

/* Who has used its quantum sinks; who was not served for long rises. Those that wait stand about in the
 * order in which they were served, so that the heads tell. */
static void move_levels(struct sched *s, uint64_t now_ns)
{
    struct state *y = s->self;
    struct request *r, *next;

    for (uint32_t i = N_LEVEL; i-- > 0;) {
        for (r = y->level[i].running.head; r; r = next) {
            next = r->next;
            if (i && is_old(y, r, now_ns))
                move(s, r, 0, true);
            else if (i + 1 < N_LEVEL && service(y, r) - (uint32_t)r->rank >= quantum_of(y, i))
                move(s, r, i + 1, true);
        }
        while (i && (r = y->level[i].waiting.head) && is_old(y, r, now_ns)) {
            r->rank2 = now_ns;
            move(s, r, 0, false);
        }
    }
}

/* ---- memory ---- */

/* The last of the lowest queue that is below r, or in r's queue behind it. NULL: none. `calm`: one that
 * has had a token since it was admitted. */
static struct request *victim(const struct state *y, const struct request *r, bool calm)
{
    for (uint32_t i = N_LEVEL; i-- > level_of(r);)
        for (struct request *v = y->level[i].running.tail; v && v != r; v = v->prev)
            if (!calm || (req_todo(v) == 1 && i > level_of(r)))
                return v;
    return NULL;
}

static void take_away(struct sched *s, struct plan *p, struct kv *kv, struct request *v)
{
    uint32_t had = (uint32_t)v->rank;

    plan_preempt(p, kv, v, ((struct state *)s->self)->yield);
    part(s, v, true);
    join(s, v, level_of(v), had, false);
}

/* Whether r would fit once those below it have yielded: nobody yields in vain. */
static bool worth_it(const struct state *y, const struct kv *kv, const struct request *r)
{
    uint64_t room = (uint64_t)kv_free_blocks(kv) * kv_block_tokens(kv);

    for (uint32_t i = N_LEVEL; i-- > level_of(r) + 1;)
        for (const struct request *v = y->level[i].running.head; v; v = v->next)
            room += req_todo(v) == 1 ? req_room(v) : 0;
    return room >= req_known(r);
}

/* ---- a step ---- */

static void serve(struct plan *p, struct request *r, uint64_t now_ns)
{
    if (!plan_add(p, r, min_u32(req_todo(r), plan_room(p))))
        r->rank2 = now_ns;
}

static void serve_running(struct sched *s, struct kv *kv, struct plan *p, struct level *l, uint64_t now_ns)
{
    for (struct request *r = l->running.head, *next; r && p->n < p->max_seq && plan_room(p); r = next) {
        struct request *v = r;

        next = r->next;
        while (v && kv_grow(kv, r, r->n_kv + min_u32(req_todo(r), plan_room(p)))) {
            v = victim(s->self, r, false);
            if (v && v == next)
                next = NULL;           /* it was the tail */
            take_away(s, p, kv, v ? v : r);
        }
        if (v)
            serve(p, r, now_ns);
    }
}

/* The next in line of a queue; its place among the running is its place in the queue: at the end. */
static enum why admit(struct sched *s, struct kv *kv, struct plan *p, struct request *r, uint64_t now_ns)
{
    struct request *v;

    if (p->n == p->max_seq)
        return WHY_SEQ_CAP;
    if (!plan_room(p))
        return WHY_BUDGET;
    while (kv_admit(kv, r, req_known(r))) {
        v = worth_it(s->self, kv, r) ? victim(s->self, r, true) : NULL;
        if (!v)
            return WHY_NO_KV;
        take_away(s, p, kv, v);
    }
    part(s, r, false);
    join(s, r, level_of(r), (uint32_t)r->rank, true);
    serve(p, r, now_ns);
    return WHY_N;
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    enum why why = WHY_N;

    move_levels(s, now_ns);
    for (struct level *l = y->level; l < y->level + N_LEVEL; l++) {
        uint32_t n = l->waiting.n;

        serve_running(s, kv, p, l, now_ns);
        while (why == WHY_N && n-- && l->waiting.n)
            why = admit(s, kv, p, l->waiting.head, now_ns);
    }
    plan_why(p, why == WHY_N ? WHY_ORDER : why, s->n_waiting);
}

const struct sched_ops sched_feedback = {
    .name = "feedback",
    .about = "multi-level feedback queue, joined by prompt length, token-level preemption (FastServe)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = arrive, .plan = plan, .finish = finish,
};
