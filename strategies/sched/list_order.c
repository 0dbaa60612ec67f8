/* list_order.c - one list, one token budget, no phases: the order of vLLM v1.
 *
 * The idea (vllm/v1/core/sched/scheduler.py): every running request, in order of admission, moves on by
 * all the tokens it lacks, as far as the step's budget goes; a decode is the case where it lacks one.
 * What is left admits waiting requests, cut to what fits. Who cannot grow takes the blocks of the last
 * admitted, which goes to the front of the queue and is recomputed.
 *
 * `gate` says what memory a request must find to be admitted: its first chunk (vLLM until 2025; prompts
 * then push each other out again and again) or all it knows (since PR #37307, 2026). `watermark` keeps
 * blocks free at admission while others run (PR #44594, 2026). Defaults: server on less than 70 GiB.
 * Not here: speculation, and the prefix cache's own gate, which is the memory manager's.
 * What must stay true: no step exceeds the budget; a step that preempts admits nobody; waiting requests
 * never preempt; the victim is always the last of the list. */
#include "strategies/queues.h"

enum gate { GATE_FIRST, GATE_FULL };
struct state {
    struct queues q;
    uint32_t threshold, watermark;
    enum gate gate;
};

static const struct knob knobs[] = {
    { "batch", NULL, 256, 1, 65536, "running requests at most (max_num_seqs)" },
    { "budget", NULL, 2048, 1, 1 << 20, "tokens per step at most (max_num_batched_tokens)" },
    { "long", NULL, 0, 0, 1 << 20,
      "tokens of one request per step at most (long_prefill_token_threshold); 0: no limit" },
    { "gate", "first|full", GATE_FULL, 0, 0, "KV needed at admission: the first chunk, or all known tokens" },
    { "watermark", NULL, 0, 0, 999, "1/1000 of the blocks that admission leaves free while others run" },
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    struct state *y = s->self;

    (void)a;
    (void)e;
    y->threshold = (uint32_t)params_int(&s->env.params, "long");
    y->watermark = (uint32_t)params_int(&s->env.params, "watermark");
    y->gate = (enum gate)params_int(&s->env.params, "gate");
    limits_together(s);
    return 0;
}

static uint32_t cut(const struct state *y, const struct plan *p, uint32_t todo)
{
    return min_u32(y->threshold ? min_u32(todo, y->threshold) : todo, plan_room(p));
}

/* The running ones in order. The last of the list yields until r fits; when that is r itself, everybody
 * behind it has yielded already. */
static void run(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;

    for (struct request *r = y->q.running.head; r && plan_room(p); r = r->next) {
        uint32_t n = cut(y, p, req_todo(r));

        while (kv_grow(kv, r, r->n_kv + n)) {
            struct request *v = y->q.running.tail;

            queues_preempt(s, p, kv, v, YIELD_RECOMPUTE);
            if (v == r)
                return;
        }
        plan_add(p, r, n);
    }
}

/* Admits r for its first n tokens where the gate and the watermark allow it. What a cache shares leaves
 * the free blocks only when it is attached, so the exact test comes after; a failed one is undone. */
static int pass_gate(const struct state *y, struct kv *kv, struct request *r, uint32_t n)
{
    uint32_t todo = kv_todo(kv, r), all = req_known(r), keep;
    uint32_t want = y->gate == GATE_FULL ? all : all - todo + n;

    keep = y->q.running.n ? kv_permille(kv, y->watermark) : 0;
    if (y->q.running.n && kv_blocks_more(kv, r, want - (all - todo)) + keep > kv_free_blocks(kv))
        return -1;
    if (kv_admit(kv, r, all - todo + n))
        return -1;
    if (!y->q.running.n || kv_blocks_more(kv, r, want) + keep <= kv_free_blocks(kv))
        return 0;
    kv_drop(kv, r);
    r->n_kv = 0;
    return -1;
}

static enum why admit(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;

    while (y->q.waiting.n) {
        struct request *r = y->q.waiting.head;
        uint32_t n;

        if (!plan_room(p))
            return WHY_BUDGET;
        if (y->q.running.n == p->max_seq)
            return WHY_SEQ_CAP;
        n = cut(y, p, kv_todo(kv, r));
        if (pass_gate(y, kv, r, n))
            return WHY_NO_KV;
        queues_admit(s, r);
        plan_add(p, r, min_u32(n, req_todo(r)));
    }
    return WHY_ORDER;
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    enum why why = WHY_NO_KV;

    (void)now_ns;
    run(s, kv, p);
    if (!p->n_preempt)
        why = admit(s, kv, p);
    plan_why(p, why, y->q.waiting.n);
}

const struct sched_ops sched_list_order = {
    .name = "list_order",
    .about = "all running in list order under one token budget, chunked, last yields (vLLM v1)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = queues_arrive, .plan = plan, .finish = queues_finish,
};
