#include "tests/sched_drive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/test.h"

static void ids(void *self, const struct request *r, uint32_t from, uint32_t n, uint64_t *out)
{
    (void)self;
    for (uint32_t i = 0; i < n; i++)
        out[i] = r->tenant && from + i < r->n_prompt ? hash64(1000 + r->tenant, from + i)
                                                     : hash64(r->id, from + i);
}

void drive_open_on(struct drive *d, const char *text, const char *kv, uint32_t n_block,
                   uint32_t block_tokens)
{
    struct strategy st;
    struct kv_env env = { .n_slot = n_block * block_tokens, .max_len = n_block * block_tokens,
                          .identities = ids };
    struct err e = { 0 };
    char name[200];

    memset(d, 0, sizeof *d);
    snprintf(name, sizeof name, "%s+%s:block=%u+f16", text, kv, block_tokens);
    CU_ASSERT_EQUAL_FATAL(strategy_parse(&st, name, &e), 0);
    env.params = st.kv_params;
    CU_ASSERT_EQUAL_FATAL(kv_open(&d->kv, st.kv, &env, &d->arena, &e), 0);
    CU_ASSERT_EQUAL_FATAL(sched_open(&d->sched, st.sched, &st.sched_params, DRIVE_REQ, &d->arena, &e), 0);
    CU_ASSERT_FATAL(d->sched.max_seq <= 256);
    d->plan.slice = d->slice;
    d->plan.max_seq = d->sched.max_seq;
    d->plan.max_tok = d->sched.max_tok;
}

uint32_t drive_arrive(struct drive *d, uint32_t n_prompt, uint32_t n_out)
{
    struct request *r = &d->r[d->n_req];

    CU_ASSERT_FATAL(d->n_req < DRIVE_REQ);
    r->id = d->n_req++;
    r->n_prompt = n_prompt;
    r->oracle_n_out = n_out;
    r->max_new = max_u32(r->max_new, n_out);
    d->sched.ops->arrive(&d->sched, r);
    return r->id;
}

void drive_plan(struct drive *d, uint64_t now_ns)
{
    struct plan *p = &d->plan;
    uint32_t why = 0, n_tok = 0;

    p->n = p->n_tok = p->n_preempt = 0;
    p->wake_ns = 0;
    memset(p->why, 0, sizeof p->why);
    d->sched.ops->plan(&d->sched, now_ns, &d->kv, p);
    for (int i = 0; i < WHY_N; i++)
        why += p->why[i];
    for (uint32_t i = 0; i < p->n; i++)
        n_tok += p->slice[i].n;
    CU_ASSERT_EQUAL(why, d->sched.n_waiting);
    CU_ASSERT_EQUAL(n_tok, p->n_tok);
    CU_ASSERT_EQUAL(d->sched.n_waiting + d->sched.n_running, d->n_req - d->n_finished);
}

void drive_settle(struct drive *d)
{
    for (uint32_t i = 0; i < d->plan.n; i++) {
        struct request *r = d->slice[i].r;

        r->n_kv += d->slice[i].n;
        if (d->kv.ops->seal)
            d->kv.ops->seal(&d->kv, r);
        if (r->n_kv < req_known(r) || ++r->n_out < r->oracle_n_out)
            continue;
        kv_drop(&d->kv, r);
        d->sched.ops->finish(&d->sched, r);
        d->finished[d->n_finished++] = r->id;
    }
}

uint32_t drive_slice(const struct drive *d, uint32_t id)
{
    for (uint32_t i = 0; i < d->plan.n; i++)
        if (d->slice[i].r->id == id)
            return d->slice[i].n;
    return 0;
}

void drive_close(struct drive *d)
{
    kv_close(&d->kv);
    arena_free(&d->arena);
}

/* ---- spy ---- */

static struct spy *spy_of(const struct sched *s)
{
    return (struct spy *)(uintptr_t)s->ops;
}

static int spy_open(struct sched *s, struct arena *a, struct err *e)
{
    return spy_of(s)->real->open(s, a, e);
}

static void spy_arrive(struct sched *s, struct request *r)
{
    spy_of(s)->real->arrive(s, r);
}

static void spy_plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p)
{
    struct spy *y = spy_of(s);

    memset(y->held, 0, sizeof y->held);
    for (const struct request *r = kv->holder; r; r = r->hold_next)
        y->held[r->id] = true;
    y->real->plan(s, now_ns, kv, p);
    y->now_admitted = 0;
    for (uint32_t i = 0; i < p->n; i++)
        if (!y->held[p->slice[i].r->id]) {
            y->admitted[p->slice[i].r->id] = ++y->n_admitted;
            y->now_admitted++;
        }
    for (uint32_t i = 0; i < p->n; i++)
        y->served[p->slice[i].r->tenant % 16] += p->slice[i].n;
    if (y->after)
        y->after(y, s, p, kv);
}

static void spy_finish(struct sched *s, struct request *r)
{
    spy_of(s)->real->finish(s, r);
}

static void spy_done(void *self, const struct replay_done *d)
{
    struct spy *y = self;
    uint32_t i = d->r->id;

    y->n_preempt[i] = d->r->n_preempt;
    if (d->first_ns == UINT64_MAX)
        return;
    y->finished[y->n_finished++] = i;
    y->ttft_ns[i] = d->first_ns - d->arrive_ns;
    y->e2e_ns[i] = d->last_ns - d->arrive_ns;
}

struct spy *spy_run(struct lab *l, const struct spy_conf *c)
{
    struct spy *y = calloc(1, sizeof *y);
    struct strategy st;
    struct replay_conf rc = {
        .trace = c->trace, .strategy = &st, .kv_pool = &l->kv,
        .kv_slots = c->kv_slots ? c->kv_slots : l->kv.n_slot, .max_len = c->max_len,
        .max_new = c->max_new, .host_slots = 512, .rate_scale = 1, .seed = 1, .on_done = spy_done,
    };

    CU_ASSERT_PTR_NOT_NULL_FATAL(y);
    CU_ASSERT_FATAL(c->trace->n <= SPY_REQ);
    l->e.code = 0;
    CU_ASSERT_EQUAL_FATAL(strategy_parse(&st, c->strategy, &l->e), 0);
    rc.model = loaded_get(&l->models, &st, &l->e);
    rc.on_done_self = y;
    y->real = st.sched;
    y->ops = *st.sched;
    y->ops.open = spy_open;
    y->ops.arrive = spy_arrive;
    y->ops.plan = spy_plan;
    y->ops.finish = spy_finish;
    y->after = c->after;
    y->self = c->self;
    st.sched = &y->ops;
    if (replay_run(&rc, &y->res, &l->e)) {
        test_note("%s: %s", c->strategy, l->e.text);
        CU_FAIL("the run failed");
    }
    return y;
}
