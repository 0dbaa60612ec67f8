/* replay.c - see replay.h. One function per stage of the loop, in the order in which they happen. */
#include "harness/choice.h"
#include "harness/replay.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check.h"
#include "harness/flatten.h"
#include "harness/live.h"
#include "harness/moves.h"
#include "harness/step.h"

enum { MAX_TENANT = 1024 };            /* further ones share the last number */

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
    struct request **active;
    uint32_t n_active, cap_active;
    uint32_t next;                     /* row of the trace that arrives next */
    uint64_t start_ns, now_ns;         /* now: since start */
    bool was_idle, computes;
    uint64_t *slot_used;               /* bitmap of batch slots */
    uint32_t *yield;                   /* [max_seq] tokens that came back */
    struct checker checker;
    bool check;
    const char *tenant[MAX_TENANT];
    uint32_t n_tenant;
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

static void slot_free(struct loop *p, struct live *l)
{
    if (l->slot != NO_SLOT)
        p->slot_used[l->slot / 64] &= ~(UINT64_C(1) << (l->slot % 64));
}

static int leave(struct loop *p, struct live *l, const char *status, const char *reason)
{
    int rc;

    kv_drop(&p->kv, &l->r);
    p->sched.ops->finish(&p->sched, &l->r);
    slot_free(p, l);
    p->n_active--;
    p->active[l->active_index] = p->active[p->n_active];
    ((struct live *)p->active[l->active_index]->replay)->active_index = l->active_index;
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

static int make_active(struct loop *p, struct live *l)
{
    if (p->n_active == p->cap_active) {
        uint32_t cap = p->cap_active ? p->cap_active * 2 : 256;
        struct request **active = realloc(p->active, cap * sizeof *active);

        if (!active)
            return err_set(p->e, EXIT_RUN_FAILED, "out of memory for %u requests in flight", cap);
        p->active = active;
        p->cap_active = cap;
    }
    l->active_index = p->n_active;
    p->active[p->n_active++] = &l->r;
    p->sched.ops->arrive(&p->sched, &l->r);
    return 0;
}

/* Tenants are numbered as they appear; requests without one are tenant 0 of their own. */
static uint32_t tenant_of(struct loop *p, const struct trace_req *in)
{
    const char *name = in->more && in->more->tenant ? in->more->tenant : "";

    for (uint32_t i = 0; i < p->n_tenant; i++)
        if (!strcmp(p->tenant[i], name))
            return i;
    if (p->n_tenant == MAX_TENANT)
        return MAX_TENANT - 1;
    p->tenant[p->n_tenant] = name;
    return p->n_tenant++;
}

static int inject(struct loop *p)
{
    for (; p->next < p->c->trace->n && arrival(p, p->next) <= p->now_ns; p->next++) {
        const struct trace_req *in = &p->c->trace->req[p->next];
        struct live *l = live_get(&p->pool, p->computes, p->c->log >= LOG_GAPS && p->c->recorder,
                                  in->n_out);
        const char *why;

        if (!l)
            return err_set(p->e, EXIT_RUN_FAILED, "out of memory for request %u", p->next);
        l->in = in;
        l->fresh = true;
        l->r.more = in->more;
        l->r.id = p->next;
        l->r.n_prompt = in->n_prompt;
        l->r.max_new = p->c->max_new ? p->c->max_new : in->n_out;
        if (l->r.max_new < in->n_out)
            l->r.max_new = in->n_out;
        l->r.oracle_n_out = p->sched.ops->oracle ? in->n_out : p->poison;
        l->r.priority = in->more ? in->more->priority : 0;
        l->r.tenant = tenant_of(p, in);
        l->arrive_ns = l->r.arrive_ns = arrival(p, p->next);
        l->injected_ns = p->now_ns;
        if (p->was_idle && p->now_ns - l->arrive_ns > p->res->late_max_ns)
            p->res->late_max_ns = p->now_ns - l->arrive_ns;
        why = refusal(p, &l->r);
        if (why) {
            p->res->n_rejected++;
            if (record_end(p, l, "rejected", why))
                return -1;
            live_put(&p->pool, l);
        } else if (make_active(p, l)) {
            return -1;
        }
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
    slot_free(p, l);
    l->slot = NO_SLOT;
    p->res->preemptions++;
}

static uint32_t slot_take(struct loop *p)
{
    for (uint32_t w = 0; w <= p->sched.max_seq / 64; w++)
        if (~p->slot_used[w]) {
            uint32_t bit = (uint32_t)__builtin_ctzll(~p->slot_used[w]);

            p->slot_used[w] |= UINT64_C(1) << bit;
            return w * 64 + bit;
        }
    return NO_SLOT;
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
            l->slot = slot_take(p);
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

    if (p->n_active && p->plan.wake_ns > p->now_ns && p->plan.wake_ns < until)
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
    if (p->now_ns > p->res->last_finish_ns)
        p->res->last_finish_ns = p->now_ns;
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
    if (log) {
        row.step_index = (int64_t)p->res->steps;
        row.start_ns = (int64_t)from;
        row.host_ns = (int64_t)(launched - from);
        row.end_ns = (int64_t)p->now_ns;
        row.device_ns = (int64_t)(p->dev->step_device_ns ? p->dev->step_device_ns : p->now_ns - launched);
        row.pad_rows = p->dev->step_pad_rows;
        if (recorder_step(p->c->recorder, &row, p->e))
            return -1;
    }
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
    *over = p->next == p->c->trace->n && !p->n_active;
    if ((p->c->stop && *p->c->stop) || (p->c->max_ns && from > p->c->max_ns)) {
        p->res->was_stopped = !*over;
        *over = true;
    }
    if (*over)
        return 0;
    if (!p->n_active)
        return wait_for_work(p);
    if (make_plan(p))
        return -1;
    if (!p->plan.n && p->check && check_idle(&p->sched, &p->plan, p->now_ns, p->e))
        return -1;
    if (!p->plan.n)                            /* what the plan moved all the same is moved now */
        return mover_run(&p->mover, &p->kv, p->e) ? -1 : wait_for_work(p);
    if (run_step(p, from))
        return -1;
    return p->check ? check_step(&p->checker, &p->sched, &p->kv, p->active, p->n_active,
                                 p->res->tokens_in - p->res->recomputed_tokens, p->e) : 0;
}

static int censor(struct loop *p)
{
    p->res->n_censored = p->n_active + (p->c->trace->n - p->next);
    for (uint32_t i = 0; i < p->n_active; i++)
        if (record_end(p, p->active[i]->replay, "censored", "in flight when the run was cut"))
            return -1;
    return 0;
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
    p->slot_used = ARENA_NEW(&p->arena, uint64_t, p->sched.max_seq / 64 + 1);
    if (!p->plan.slice || !p->yield || !p->slot_used ||
        (p->check && !checker_room(&p->checker, c->kv_slots, c->max_len, p->poison, &p->arena)))
        return err_set(p->e, EXIT_RUN_FAILED, "out of memory for plans of %u sequences",
                       p->sched.max_seq);
    p->res->kv_blocks_total = p->kv.ops->count(&p->kv).blocks_total;
    p->res->first_arrival_ns = c->trace->n ? arrival(p, 0) : 0;
    return 0;
}

static void close_loop(struct loop *p)
{
    flat_close(&p->flat);
    kv_close(&p->kv);
    mover_close(&p->mover);
    live_pool_free(&p->pool);
    free(p->active);
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
    if (!rc && !p.n_active && (p.kv.ops->count(&p.kv).blocks_used || p.kv.holder))
        rc = err_set(e, EXIT_RUN_FAILED, "memory manager %s: %u blocks are still used after the last "
                     "request left", p.kv.ops->name, p.kv.ops->count(&p.kv).blocks_used);
    if (!rc && !p.n_active && p.check)
        rc = check_drained(&p.kv, &p.arena, e);
    close_loop(&p);
    return rc;
}
