/* fair.c - the tenant that got least service so far goes first: the virtual token counter.
 *
 * The idea (VTC, "Fairness in serving large language models", OSDI'24): a counter per tenant adds up the
 * service it got, input tokens times `input` at admission and output tokens times `output` as they come;
 * the head of the line of the tenant with the smallest counter is admitted first. A tenant that comes
 * back is lifted to the smallest counter of those that wait (or to that of the last one that left), so
 * that idling earns no credit. Steps are those of chunked.c.
 * What must stay true: work is conserved (whoever is first is admitted if it fits), and between two
 * tenants that both always wait the service differs by at most 2 max(input x longest prompt, output x
 * KV pool), however long it goes on. Service repeated after preemption is not charged. */
#include "strategies/queues.h"

enum { MAX_TENANT = 1024 };            /* the loop numbers no more; further ones share the last */

struct tenant { struct queue waiting; uint64_t served; };
struct state {
    struct queue running, yielded;
    struct tenant *tenant;             /* [cap], n of them seen */
    uint32_t n, cap, n_waiting;
    uint64_t left_at;                  /* counter of the tenant whose line emptied last */
    uint64_t input, output;
    enum yield yield;
    enum victim victim;
};

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "sequences per step at most" },
    { "budget", NULL, 512, 1, 1 << 20, "tokens per step at most, decodes included" },
    { "input", NULL, 1, 0, 1000, "service of an input token" },
    { "output", NULL, 2, 0, 1000, "service of an output token" },
    KNOB_PREEMPT, KNOB_VICTIM,
    { 0 },
};

static int open(struct sched *s, struct arena *a, struct err *e)
{
    struct state *y = s->self;

    y->input = (uint64_t)params_int(&s->env.params, "input");
    y->output = (uint64_t)params_int(&s->env.params, "output");
    y->yield = (enum yield)params_int(&s->env.params, "preempt");
    y->victim = (enum victim)params_int(&s->env.params, "victim");
    limits_together(s);
    y->cap = max_u32(min_u32(s->env.max_waiting, MAX_TENANT), 1);
    y->tenant = ARENA_NEW(a, struct tenant, y->cap);
    return y->tenant ? 0 : err_set(e, EXIT_RUN_FAILED, "fair: out of memory for tenants");
}

static struct tenant *of(struct state *y, const struct request *r)
{
    return &y->tenant[min_u32(r->tenant, y->cap - 1)];
}

static void count(struct sched *s)
{
    struct state *y = s->self;

    s->n_waiting = y->n_waiting;
    s->n_running = y->running.n;
}

/* The tenant with least service of those that wait, or NULL. */
static struct tenant *least_served(struct state *y)
{
    struct tenant *best = NULL;

    for (struct tenant *t = y->tenant; t < y->tenant + y->n; t++)
        if (t->waiting.n && (!best || t->served < best->served))
            best = t;
    return best;
}

static void lift(struct state *y, struct tenant *t)
{
    const struct tenant *least = least_served(y);
    uint64_t floor = least ? least->served : y->left_at;

    if (t->served < floor)
        t->served = floor;
}

static void arrive(struct sched *s, struct request *r)
{
    struct state *y = s->self;
    struct tenant *t = of(y, r);

    y->n = max_u32(y->n, (uint32_t)(t - y->tenant) + 1);
    if (!t->waiting.n)
        lift(y, t);
    queue_push(&t->waiting, r);
    y->n_waiting++;
    count(s);
}

/* rank: output tokens that are charged already. */
static void charge(struct state *y, struct request *r)
{
    of(y, r)->served += (r->n_out - r->rank) * y->output;
    r->rank = r->n_out;
}

static void admit(struct sched *s, struct tenant *t, struct request *r)
{
    struct state *y = s->self;

    queue_remove(&t->waiting, r);
    queue_push(&y->running, r);
    y->n_waiting--;
    if (!r->n_preempt)
        t->served += r->n_prompt * y->input;
    if (!t->waiting.n)
        y->left_at = t->served;
    count(s);
}

/* Who yielded goes to the front of its tenant's line. plan_decodes leaves the last one in front. */
static void take_back(struct sched *s)
{
    struct state *y = s->self;

    while (y->yielded.n) {
        struct request *r = y->yielded.tail;

        queue_remove(&y->yielded, r);
        queue_push_front(&of(y, r)->waiting, r);
        y->n_waiting++;
    }
    count(s);
}

static enum why admit_fairly(struct sched *s, struct kv *kv, struct plan *p)
{
    struct state *y = s->self;
    struct tenant *t;

    while (y->n_waiting) {
        struct request *r;

        if (y->running.n == p->max_seq)
            return WHY_SEQ_CAP;
        if (!plan_room(p))
            return WHY_BUDGET;
        t = least_served(y);
        r = t->waiting.head;
        if (kv_admit(kv, r, req_known(r)))
            return WHY_NO_KV;
        admit(s, t, r);
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
    for (struct request *r = y->running.head; r; r = r->next)
        charge(y, r);
    plan_decodes(p, kv, &y->running, &y->yielded, y->yield, y->victim);
    take_back(s);
    share_prompts(&rule, p, &y->running);
    if (!p->n_preempt)
        why = admit_fairly(s, kv, p);
    plan_why(p, why, y->n_waiting);
}

static void finish(struct sched *s, struct request *r)
{
    struct state *y = s->self;

    charge(y, r);
    queue_remove(&y->running, r);
    count(s);
}

const struct sched_ops sched_fair = {
    .name = "fair", .about = "the tenant with least service first (virtual token counter, OSDI'24)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .arrive = arrive, .plan = plan, .finish = finish,
};
