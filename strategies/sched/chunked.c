/* chunked.c - decodes and prompt chunks in one step, under one token budget.
 *
 * The idea: every running decode gets its token, what is left of the budget goes to chunks of prompts, so
 * a long prompt never stalls others ("stall-free batching", Sarathi-Serve, OSDI'24; its default chunk is
 * 512). Order: decodes, then prompts already begun, then new ones while KV for the whole prompt fits.
 * Out of KV room, the youngest request yields by recompute.
 * What must stay true: no step exceeds the budget; a step that preempts admits nobody. */
#include "strategies/strategy.h"

struct state {
    struct queue waiting, running;     /* running: order of (re)admission, youngest last */
    enum yield yield;
    enum victim victim;
};

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "sequences per step at most" },
    { "budget", NULL, 512, 1, 1 << 20, "tokens per step at most, decodes included" },
    { "preempt", YIELD_WORDS, YIELD_RECOMPUTE, 0, 0, "how a victim's KV is lost: computed again or swapped to host" },
    { "victim", VICTIM_WORDS, VICTIM_YOUNGEST, 0, 0, "who yields when memory is out" },
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    struct state *y = s->self;

    (void)a;
    (void)e;
    y->yield = (enum yield)params_int(&s->env.params, "preempt");
    y->victim = (enum victim)params_int(&s->env.params, "victim");
    s->max_tok = (uint32_t)params_int(&s->env.params, "budget");
    s->max_seq = min_u32((uint32_t)params_int(&s->env.params, "batch"), s->max_tok);
    return 0;
}

static void arrive(struct sched *s, struct request *r)
{
    struct state *y = s->self;

    queue_push(&y->waiting, r);
    s->n_waiting++;
}

static enum why admit(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;

    while (y->waiting.n) {
        struct request *r = y->waiting.head;

        if (p->n_preempt)
            return WHY_NO_KV;
        if (y->running.n == p->max_seq)
            return WHY_SEQ_CAP;
        if (!plan_room(p))
            return WHY_BUDGET;
        if (kv_admit(kv, r, req_known(r)))
            return WHY_NO_KV;
        queue_remove(&y->waiting, r);
        queue_push(&y->running, r);
        s->n_waiting--;
        s->n_running++;
        plan_add(p, r, min_u32(req_todo(r), plan_room(p)));
    }
    return WHY_ORDER;
}

static void plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    enum why why;

    (void)now_ns;
    plan_decodes(p, kv, &y->running, &y->waiting, y->yield, y->victim);
    s->n_running = y->running.n;
    s->n_waiting = y->waiting.n;
    for (struct request *r = y->running.head; r && plan_room(p); r = r->next)
        if (req_todo(r) > 1)
            plan_add(p, r, min_u32(req_todo(r), plan_room(p)));
    why = admit(s, kv, p);
    plan_why(p, why, y->waiting.n);
}

static void finish(struct sched *s, struct request *r)
{
    struct state *y = s->self;

    queue_remove(&y->running, r);
    s->n_running--;
}

const struct sched_ops sched_chunked = {
    .name = "chunked",
    .about = "decodes and prompt chunks under one token budget (Sarathi-Serve)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = arrive, .plan = plan, .finish = finish,
};
