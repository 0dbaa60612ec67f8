/* replay.c - see replay.h. One function per stage of the loop, in the order in which they happen. */
#include "harness/choice.h"
#include "harness/replay.h"

#include <math.h>
#include <string.h>

#include "harness/check.h"
#include "harness/flatten.h"
#include "harness/flight.h"
#include "harness/moves.h"
#include "harness/step.h"

struct loop {
    const struct replay_conf *c;
    struct replay_result *res;
    struct device *dev;
    struct arena arena;                /* the run's: strategies' state and block tables */
    struct sched sched;
    struct kv kv;
    struct plan plan;
    struct flat flat;
    struct live_pool pool;
    struct flight flight;
    uint32_t next;                     /* row of the trace that arrives next */
    uint64_t start_ns, now_ns;         /* now: since start */
    bool was_idle, computes;
    uint32_t *yield;                   /* [max_seq] tokens that came back */
    struct checker checker;
    bool check;
    uint32_t poison;                   /* what a scheduler reads as output length that is no oracle */
    struct mover mover;
    struct kv_count counted;           /* at the last step: hits and evictions are logged as differences */
    struct err *e;
};

static uint64_t arrival(const struct loop *p, uint32_t row)
{
    return (uint64_t)llround((double)p->c->trace->req[row].arrive_us * 1000.0 / p->c->rate_scale);
}

static uint64_t read_clock(struct loop *p)
{
    return p->now_ns = dev_now(p->dev) - p->start_ns;
}

/* ---- ending ---- */

static int record_end(struct loop *p, struct live *l, const char *status, const char *reason)
{
    struct replay_done done = {
        .r = &l->r, .status = status, .reason = reason, .tokens = l->out, .hash = l->hash,
        .arrive_ns = l->arrive_ns, .admitted_ns = l->admitted_ns, .first_ns = l->first_ns,
        .last_ns = l->last_ns,
    };

    if (p->c->on_done)
        p->c->on_done(p->c->on_done_self, &done);
    if (!p->c->recorder || p->c->log < LOG_REQUEST)
        return 0;
    return live_record(l, p->c->trace, p->c->recorder, status, reason, p->computes, p->e);
}

static int leave(struct loop *p, struct live *l, const char *status, const char *reason)
{
    int rc;

    kv_drop(&p->kv, &l->r);
    p->sched.ops->finish(&p->sched, &l->r);
    flight_leave(&p->flight, l);
    rc = record_end(p, l, status, reason);
    live_put(&p->pool, l);
    return rc;
}

/* ---- arrivals ---- */

static const char *refusal(struct loop *p, const struct request *r)
{
    uint64_t len = (uint64_t)r->n_prompt + ((struct live *)r->replay)->in->n_out;

    if (len > p->c->max_len)
        return "longer than the server's maximum length (--max-len)";
    return p->kv.ops->refuse(&p->kv, r, (uint32_t)len - 1);
}

/* The next row of the trace as a request; NULL: out of memory. */
static struct live *meet(struct loop *p)
{
    const struct trace_req *in = &p->c->trace->req[p->next];
    struct live *l = live_get(&p->pool, p->computes, p->c->log >= LOG_GAPS && p->c->recorder, in->n_out);

    if (!l)
        return NULL;
    l->in = in;
    l->fresh = true;
    l->r.more = in->more;
    l->r.id = p->next;
    l->r.n_prompt = in->n_prompt;
    l->r.max_new = max_u32(p->c->max_new, in->n_out);
    l->r.oracle_n_out = p->sched.ops->oracle ? in->n_out : p->poison;
    l->r.priority = in->more ? in->more->priority : 0;
    l->r.tenant = flight_tenant(&p->flight, in->more ? in->more->tenant : NULL);
    l->arrive_ns = l->r.arrive_ns = arrival(p, p->next);
    l->injected_ns = p->now_ns;
    return l;
}

static int let_in(struct loop *p, struct live *l)
{
    if (flight_add(&p->flight, l, p->e))
        return -1;
    p->sched.ops->arrive(&p->sched, &l->r);
    return 0;
}

static int turn_away(struct loop *p, struct live *l, const char *why)
{
    p->res->n_rejected++;
    if (record_end(p, l, "rejected", why))
        return -1;
    live_put(&p->pool, l);
    return 0;
}

static int inject(struct loop *p)
{
    for (; p->next < p->c->trace->n && arrival(p, p->next) <= p->now_ns; p->next++) {
        struct live *l = meet(p);
        const char *why;

        if (!l)
            return err_set(p->e, EXIT_RUN_FAILED, "out of memory for request %u", p->next);
        if (p->was_idle && p->now_ns - l->arrive_ns > p->res->late_max_ns)
            p->res->late_max_ns = p->now_ns - l->arrive_ns;
        if (l->arrive_ns > p->res->window_end_ns)
            p->res->window_end_ns = l->arrive_ns;      /* it counts, also when it never finishes */
        why = refusal(p, &l->r);
        if (why ? turn_away(p, l, why) : let_in(p, l))
            return -1;
    }
    p->was_idle = false;
    return 0;
}

/* ---- planning ---- */

/* r lost its KV: its clock of being preempted starts, its batch slot is free. */
static void on_preempt(void *self, struct request *r)
{
    struct loop *p = self;
    struct live *l = r->replay;

    live_preempted(l, p->now_ns);
    flight_unseat(&p->flight, l);
    p->res->preemptions++;
}

static int note_planned(struct loop *p)
{
    for (uint32_t i = 0; i < p->plan.n; i++) {
        struct live *l = p->plan.slice[i].r->replay;

        if (l->stamp == p->res->steps + 1)
            return err_set(p->e, EXIT_RUN_FAILED, "scheduler %s: request %u stands twice in a plan",
                           p->sched.ops->name, l->r.id);
        l->stamp = p->res->steps + 1;
        if (l->slot == NO_SLOT)
            flight_seat(&p->flight, l);
        live_planned(l, p->now_ns);
    }
    return 0;
}

static int make_plan(struct loop *p)
{
    struct plan *plan = &p->plan;

    plan->n = plan->n_tok = plan->n_preempt = 0;
    plan->wake_ns = 0;
    memset(plan->why, 0, sizeof plan->why);
    p->sched.ops->plan(&p->sched, p->now_ns, &p->kv, plan);
    return check_plan(&p->sched, plan, p->e) || note_planned(p) ? -1 : 0;
}

/* ---- nothing to run ---- */

static int wait_for_work(struct loop *p)
{
    uint64_t until = p->next < p->c->trace->n ? arrival(p, p->next) : NEVER, from = p->now_ns;

    if (p->flight.n && p->plan.wake_ns > p->now_ns && p->plan.wake_ns < until)
        until = p->plan.wake_ns;
    if (until == NEVER)
        return err_set(p->e, EXIT_RUN_FAILED, "scheduler %s is stuck: %u requests wait, none is "
                       "planned, and nothing will arrive (%u of %u KV blocks used)",
                       p->sched.ops->name, p->sched.n_waiting, p->kv.ops->count(&p->kv).blocks_used,
                       p->kv.ops->count(&p->kv).blocks_total);
    dev_idle(p->dev, until + p->start_ns);
    p->res->idle_ns += read_clock(p) - from;
    p->was_idle = true;
    return 0;
}

/* ---- a step's results ---- */

static int hand_out(struct loop *p, struct live *l, uint32_t token)
{
    if (p->computes && token == PICK_BAD_ROW) {
        p->res->n_failed++;
        return leave(p, l, "failed", "numeric: NaN or Inf in the logits");
    }
    live_token(l, p->now_ns, token);
    p->res->tokens_out++;
    if (l->r.n_out < l->in->n_out)
        return 0;
    p->res->n_finished++;
    p->res->window_end_ns = p->now_ns;
    return leave(p, l, "finished", "length");
}

static int settle(struct loop *p)
{
    for (uint32_t i = 0; i < p->plan.n; i++) {
        struct request *r = p->plan.slice[i].r;

        p->res->recomputed_tokens += live_ran(r->replay, p->plan.slice[i].n);
        p->res->tokens_in += p->plan.slice[i].n;
        if (p->kv.ops->seal)
            p->kv.ops->seal(&p->kv, r);
    }
    for (uint32_t i = 0; i < p->flat.batch.n_row; i++)
        if (hand_out(p, p->flat.yields[i]->replay, p->yield[i]))
            return -1;
    return 0;
}

static void show_progress(struct loop *p)
{
    struct replay_progress *g = p->c->progress;

    if (!g)
        return;
    atomic_store_explicit(&g->requests_done, p->res->n_finished + p->res->n_rejected +
                          p->res->n_failed, memory_order_relaxed);
    atomic_store_explicit(&g->tokens_out, p->res->tokens_out, memory_order_relaxed);
    atomic_store_explicit(&g->preemptions, p->res->preemptions, memory_order_relaxed);
    atomic_store_explicit(&g->tokens_run, p->res->tokens_in - p->res->recomputed_tokens,
                          memory_order_relaxed);
    atomic_store_explicit(&g->running, p->sched.n_running, memory_order_relaxed);
    atomic_store_explicit(&g->waiting, p->sched.n_waiting, memory_order_relaxed);
}

static const uint32_t *out_of(const struct request *r)
{
    return ((const struct live *)r->replay)->out;
}

static int log_step(struct loop *p, struct step_row *row, uint64_t from, uint64_t launched)
{
    row->step_index = (int64_t)p->res->steps;
    row->start_ns = (int64_t)from;
    row->host_ns = (int64_t)(launched - from);
    row->end_ns = (int64_t)p->now_ns;
    row->device_ns = (int64_t)(p->dev->step_device_ns ? p->dev->step_device_ns : p->now_ns - launched);
    row->pad_rows = p->dev->step_pad_rows;
    return recorder_step(p->c->recorder, row, p->e);
}

static int run_step(struct loop *p, uint64_t from)
{
    bool log = p->c->recorder && p->c->log >= LOG_STEP;
    struct step_row row;
    uint64_t launched, held;

    if (flatten(&p->flat, &p->plan, out_of, p->e))
        return -1;
    dev_charge_host(p->dev, p->plan.n);
    launched = read_clock(p);
    held = p->kv.ops->count(&p->kv).slots_held;
    if (held > p->res->peak_slots_held)
        p->res->peak_slots_held = held;
    if (log)
        step_describe(&row, &p->sched, &p->kv, &p->plan, &p->counted);
    if (p->check && check_writes(&p->checker, &p->kv, &p->plan, p->e))
        return -1;
    if (mover_run(&p->mover, &p->kv, p->e))
        return -1;
    if (model_step(p->c->model, p->c->kv_pool, &p->flat.batch, p->yield, p->e))
        return -1;
    read_clock(p);
    p->res->host_ns += launched - from;
    p->res->device_ns += p->now_ns - launched;
    if (log && log_step(p, &row, from, launched))
        return -1;
    p->res->steps++;
    if (settle(p))
        return -1;
    show_progress(p);
    return 0;
}

/* ---- the loop ---- */

static int one_turn(struct loop *p, bool *over)
{
    uint64_t from = read_clock(p);

    if (inject(p))
        return -1;
    *over = p->next == p->c->trace->n && !p->flight.n;
    if ((p->c->stop && *p->c->stop) || (p->c->max_ns && from > p->c->max_ns)) {
        p->res->was_stopped = !*over;
        *over = true;
    }
    if (*over)
        return 0;
    if (!p->flight.n)
        return wait_for_work(p);
    if (make_plan(p))
        return -1;
    if (!p->plan.n && p->check && check_idle(&p->sched, &p->plan, p->now_ns, p->e))
        return -1;
    if (!p->plan.n)                            /* what the plan moved all the same is moved now */
        return mover_run(&p->mover, &p->kv, p->e) ? -1 : wait_for_work(p);
    if (run_step(p, from))
        return -1;
    return p->check ? check_step(&p->checker, &p->sched, &p->kv, p->flight.active, p->flight.n,
                                 p->res->tokens_in - p->res->recomputed_tokens, p->e) : 0;
}

/* Every request of the trace leaves a row, also one that a cut run never met. */
static int record_unmet(struct loop *p)
{
    int rc = 0;

    for (; !rc && p->c->recorder && p->c->log >= LOG_REQUEST && p->next < p->c->trace->n; p->next++) {
        struct live *l = meet(p);

        if (!l)
            return err_set(p->e, EXIT_RUN_FAILED, "out of memory for request %u", p->next);
        l->injected_ns = NEVER;
        rc = live_record(l, p->c->trace, p->c->recorder, "censored", "yet to arrive when the run was cut", false, p->e);
        live_put(&p->pool, l);
    }
    return rc;
}

static int censor(struct loop *p)
{
    p->res->n_censored = p->flight.n + (p->c->trace->n - p->next);
    for (uint32_t i = 0; i < p->flight.n; i++)
        if (record_end(p, p->flight.active[i]->replay, "censored", "in flight when the run was cut"))
            return -1;
    return record_unmet(p);
}

/* Prompts as the trace says; what a request produced is its own. */
static void identities(void *self, const struct request *r, uint32_t from, uint32_t n, uint64_t *out)
{
    struct loop *p = self;
    uint32_t prompt = from < r->n_prompt ? min_u32(n, r->n_prompt - from) : 0;

    if (prompt)
        trace_identities(p->c->trace, r->id, p->c->seed, from, prompt, out);
    for (uint32_t i = prompt; i < n; i++)
        out[i] = hash64(hash64(0x6f7574, r->id), from + i);
}

/* For memory managers that declare it: schedulers do not get to see it. */
static uint32_t true_length(void *self, const struct request *r)
{
    (void)self;
    return ((const struct live *)r->replay)->in->n_out;
}

static int open_loop(struct loop *p)
{
    const struct replay_conf *c = p->c;
    const struct strategy *s = c->strategy;
    struct kv_env env = {
        .params = s->kv_params, .n_slot = c->kv_slots, .max_len = c->max_len,
        .identities = identities, .identities_self = p, .length = s->kv->oracle ? true_length : NULL,
    };
    struct exec exec = choice_exec(s);

    p->poison = c->poison ? c->poison : ORACLE_POISON;
    if (dev_exec(p->dev, &exec, p->e))
        return -1;
    if (mover_open(&p->mover, p->dev, c->kv_pool, c->host_slots, p->e))
        return -1;
    env.n_host_slot = p->mover.host.n_slot;    /* what was obtained: whole tiles */
    if (sched_open(&p->sched, s->sched, &s->sched_params, c->trace->n, &p->arena, p->e) ||
        kv_open(&p->kv, s->kv, &env, &p->arena, p->e) ||
        model_room(c->model, p->sched.max_tok, p->sched.max_seq, p->e) ||
        flat_open(&p->flat, p->sched.max_tok, p->sched.max_seq, p->computes, c->trace, c->seed,
                  c->model->shape.vocab, p->e))
        return -1;
    p->plan.max_seq = p->sched.max_seq;
    p->plan.max_tok = p->sched.max_tok;
    p->plan.on_preempt = on_preempt;
    p->plan.loop = p;
    p->plan.slice = ARENA_NEW(&p->arena, struct slice, p->sched.max_seq);
    p->yield = ARENA_NEW(&p->arena, uint32_t, p->sched.max_seq);
    if (!p->plan.slice || !p->yield || !flight_open(&p->flight, p->sched.max_seq, &p->arena) ||
        (p->check && !checker_room(&p->checker, c->kv_slots, c->max_len, p->poison, &p->arena)))
        return err_set(p->e, EXIT_RUN_FAILED, "out of memory for plans of %u sequences",
                       p->sched.max_seq);
    p->res->kv_blocks_total = p->kv.ops->count(&p->kv).blocks_total;
    p->res->first_arrival_ns = p->res->window_end_ns = c->trace->n ? arrival(p, 0) : 0;
    return 0;
}

static void close_loop(struct loop *p)
{
    flat_close(&p->flat);
    kv_close(&p->kv);
    mover_close(&p->mover);
    live_pool_free(&p->pool);
    flight_close(&p->flight);
    arena_free(&p->arena);
}

int replay_run(const struct replay_conf *c, struct replay_result *res, struct err *e)
{
    struct loop p = { .c = c, .res = res, .dev = c->model->dev, .e = e };
    bool over = false;
    int rc;

    memset(res, 0, sizeof *res);
    p.computes = p.dev->ops->computes;
    p.check = c->check || CHECK_ALWAYS;
    rc = open_loop(&p);
    p.start_ns = res->start_ns = dev_now(p.dev);
    while (!rc && !over)
        rc = one_turn(&p, &over);
    res->end_ns = dev_now(p.dev);
    if (!rc)
        rc = censor(&p);
    if (!rc && !p.flight.n && (p.kv.ops->count(&p.kv).blocks_used || p.kv.holder))
        rc = err_set(e, EXIT_RUN_FAILED, "memory manager %s: %u blocks are still used after the last "
                     "request left", p.kv.ops->name, p.kv.ops->count(&p.kv).blocks_used);
    if (!rc && !p.flight.n && p.check)
        rc = check_drained(&p.kv, &p.arena, e);
    close_loop(&p);
    return rc;
}
