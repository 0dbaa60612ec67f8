/* expected.c - prompts first, admitted by what the running ones are expected to produce yet.
 *
 * The idea (SGLang, schedule_policy.py PrefillAdder, schedule_batch.py retract_decode): between no_evict,
 * which reserves all that a request may produce, and continuous, which reserves nothing, a share of it is
 * reserved: `ratio` of min(max_new - produced, clip) for each that decodes. The share falls a little with
 * every decode step, to `floor` of where it began after `steps` of them; when memory runs out all the
 * same, the one with the fewest tokens produced (ties: the longest prompt) is retracted to the end of the
 * queue, and the share becomes what the others produced, 20 tokens more each, over what they may produce.
 * An idle server begins anew. A prompt needs room for itself, all it may produce and a page; who does not
 * fit closes admission until somebody leaves. One prompt at a time is cut, at `chunk` tokens of a step.
 * mixed=on: decodes join the prompts' step (enable_mixed_chunk).
 *
 * Differs from the engine: a cut prompt gets all its memory at admission; a request whose estimate exceeds
 * the pool runs alone. For the order lpm and sharing within a batch see prefix_order.c.
 * What must stay true: waiting requests never preempt; a step that retracts admits nobody. */
#include "strategies/queues.h"

enum { ONE = 1000000, RETRACT_STEPS = 20 };    /* the ratio is counted in millionths */

struct state {
    struct queues q;
    uint32_t budget, chunk, clip;
    uint32_t ratio, first, least, decay;
    bool mixed, full;                  /* full: closed until somebody leaves */
};

static const struct knob knobs[] = {
    { "batch", NULL, 256, 1, 65536, "running requests at most (max_running_requests)" },
    { "budget", NULL, 16384, 1, 1 << 20, "prompt tokens per step at most (max_prefill_tokens)" },
    { "chunk", NULL, 8192, 0, 1 << 20, "tokens at which a prompt is cut (chunked_prefill_size); 0: at the budget" },
    { "ratio", NULL, 70, 0, 100, "percent of the output still possible that is reserved at first (new_token_ratio)" },
    { "floor", NULL, 14, 0, 100, "percent of that which is always reserved" },
    { "steps", NULL, 600, 1, 1 << 20, "decode steps in which it falls to the floor" },
    { "clip", NULL, 4096, 1, 1 << 20, "output tokens of a request that count at most" },
    { "mixed", "off|on", 0, 0, 0, "decodes join a step with prompts (enable_mixed_chunk)" },
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    const struct params *k = &s->env.params;
    struct state *y = s->self;

    (void)a;
    (void)e;
    y->budget = (uint32_t)params_int(k, "budget");
    y->chunk = (uint32_t)params_int(k, "chunk");
    y->clip = (uint32_t)params_int(k, "clip");
    y->mixed = params_int(k, "mixed") != 0;
    y->ratio = y->first = (uint32_t)params_int(k, "ratio") * (ONE / 100);
    y->least = (uint32_t)((uint64_t)y->first * (uint64_t)params_int(k, "floor") / 100);
    y->decay = (y->first - y->least) / (uint32_t)params_int(k, "steps");
    s->max_seq = (uint32_t)params_int(k, "batch");
    s->max_tok = max_u32(y->budget, s->max_seq);
    return 0;
}

static void arrive(struct sched *s, struct request *r)
{
    struct state *y = s->self;

    if (!s->n_waiting && !s->n_running)
        y->ratio = y->first;
    queues_arrive(s, r);
}

static void finish(struct sched *s, struct request *r)
{
    ((struct state *)s->self)->full = false;
    queues_finish(s, r);
}

/* Tokens that r may still produce, as far as they count. */
static uint32_t ahead(const struct state *y, const struct request *r)
{
    return min_u32(r->max_new > r->n_out ? r->max_new - r->n_out : 0, y->clip);
}

/* ---- prompts ---- */

struct room { uint64_t kv; uint32_t tok, chunk; };     /* left: KV tokens, prompt tokens, before a cut */

static void take(struct room *m, uint32_t n)
{
    m->tok -= min_u32(m->tok, n);
    m->chunk -= min_u32(m->chunk, n);
}

/* What a step's prompts may use: memory less what is reserved, and the budgets less mixed-in decodes. */
static struct room room_for(const struct state *y, const struct kv *kv)
{
    uint64_t has = (uint64_t)kv_free_blocks(kv) * kv_block_tokens(kv), kept = 0;
    struct room m = { .tok = y->budget, .chunk = y->chunk ? y->chunk : UINT32_MAX };
    uint32_t decodes = 0;

    for (const struct request *r = y->q.running.head; r; r = r->next)
        if (req_todo(r) == 1) {
            kept += (uint64_t)ahead(y, r) * y->ratio / ONE;
            decodes++;
        }
    m.kv = has > kept ? has - kept : 0;
    if (y->mixed)
        take(&m, decodes);
    return m;
}

/* Tokens of a prompt with `todo` to run; 0: it waits. Only what passes the chunk is cut, to whole pages. */
static uint32_t piece(const struct kv *kv, const struct room *m, uint32_t todo, bool first)
{
    uint32_t page = kv_block_tokens(kv), n = todo;

    if (todo > m->chunk)
        n = m->chunk / page ? m->chunk / page * page : first ? m->chunk : 0;
    if (n <= m->tok)
        return n;
    return first ? m->tok : 0;
}

/* The next in line. WHY_N: it got in. */
static enum why admit(struct sched *s, struct kv *kv, struct plan *p, struct room *m, bool alone)
{
    struct state *y = s->self;
    struct request *r = y->q.waiting.head;
    uint32_t todo = kv_todo(kv, r), n = piece(kv, m, todo, !p->n);

    if (y->q.running.n == p->max_seq)
        return WHY_SEQ_CAP;
    if (!n)
        return WHY_BUDGET;
    if ((uint64_t)todo + ahead(y, r) + kv_block_tokens(kv) >= m->kv && !alone)
        return WHY_NO_KV;
    if (kv_admit(kv, r, req_known(r)))
        return WHY_NO_KV;
    queues_admit(s, r);
    n = min_u32(n, req_todo(r));
    plan_add(p, r, n);
    take(m, n);
    todo = todo + (n < req_todo(r) ? 0 : ahead(y, r));
    m->kv -= todo < m->kv ? todo : m->kv;
    return WHY_N;
}

static enum why plan_prompts(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    struct room m = room_for(y, kv);
    enum why why = WHY_N;
    bool cut = false;

    for (struct request *r = y->q.running.head; r; r = r->next)
        if (req_todo(r) > 1) {         /* cut before: goes on first */
            uint32_t n = piece(kv, &m, req_todo(r), !p->n);

            cut |= n < req_todo(r);
            if (n)
                plan_add(p, r, n);
            take(&m, n);
            m.kv -= n == req_todo(r) && ahead(y, r) < m.kv ? ahead(y, r) : 0;
        }
    while (why == WHY_N && y->q.waiting.n && !cut && !y->full) {
        why = admit(s, kv, p, &m, !y->q.running.n);
        cut = p->n && p->slice[p->n - 1].n < req_todo(p->slice[p->n - 1].r);
    }
    y->full |= (why == WHY_NO_KV || why == WHY_SEQ_CAP) && y->q.running.n;
    return why != WHY_N ? why : cut ? WHY_BUDGET : y->full ? WHY_NO_KV : WHY_ORDER;
}

/* ---- decodes ---- */

static struct request *least_done(const struct queue *running)
{
    struct request *best = NULL;

    for (struct request *r = running->head; r; r = r->next)
        if (!best || r->n_out < best->n_out || (r->n_out == best->n_out && r->n_prompt >= best->n_prompt))
            best = r;
    return best;
}

/* To the end of the queue, and the share is what the others turned out to need. */
static void retract(struct sched *s, struct plan *p, struct kv *kv, struct request *v)
{
    struct state *y = s->self;
    uint64_t done = 0, most = 0;

    queues_preempt(s, p, kv, v, YIELD_RECOMPUTE);
    queue_remove(&y->q.waiting, v);
    queue_push(&y->q.waiting, v);
    y->full = false;
    for (const struct request *r = y->q.running.head; r; r = r->next) {
        done += r->n_out + RETRACT_STEPS;
        most += r->max_new;
    }
    y->ratio = most && done < most ? (uint32_t)(done * ONE / most) : ONE;
}

static uint64_t blocks_short(const struct state *y, const struct kv *kv)
{
    uint64_t need = 0, has = kv_free_blocks(kv);

    for (const struct request *r = y->q.running.head; r; r = r->next)
        need += req_todo(r) == 1 ? kv_blocks_more(kv, r, r->n_kv + 1) : 0;
    return need > has ? need - has : 0;
}

static void plan_all_decodes(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;

    while (y->q.running.n > 1 && blocks_short(y, kv))
        retract(s, p, kv, least_done(&y->q.running));
    for (struct request *r = y->q.running.head, *next; r; r = next) {
        next = r->next;
        if (req_todo(r) != 1)
            continue;
        if (!kv_grow(kv, r, r->n_kv + 1))
            plan_add(p, r, 1);
        else                           /* a manager that needs more than it said */
            retract(s, p, kv, r);
    }
    if (!p->n_preempt)
        y->ratio = y->ratio > y->least + y->decay ? y->ratio - y->decay : y->least;
}

/* mixed: those that decode and fit. */
static void join_decodes(struct state *y, struct kv *kv, struct plan *p)
{
    uint32_t planned = p->n;

    for (struct request *r = y->q.running.head; r && plan_room(p) && p->n < p->max_seq; r = r->next) {
        bool new = false;

        for (uint32_t i = 0; i < planned && !new; i++)
            new = p->slice[i].r == r;
        if (!new && req_todo(r) == 1 && !kv_grow(kv, r, r->n_kv + 1))
            plan_add(p, r, 1);
    }
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    enum why why = plan_prompts(s, kv, p);

    (void)now_ns;
    if (!p->n)
        plan_all_decodes(s, kv, p);
    else if (y->mixed)
        join_decodes(y, kv, p);
    plan_why(p, p->n_preempt ? WHY_NO_KV : why, y->q.waiting.n);
}

const struct sched_ops sched_expected = {
    .name = "expected",
    .about = "prompts first, a falling share of the possible output reserved, fewest done yields (SGLang)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = arrive, .plan = plan, .finish = finish,
};
