#include "harness/choice.h"
#include "tests/lab.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/test.h"

int lab_open(struct lab *l, const char *device, const char *model, uint32_t n_slot, const char *isa,
             const char *profile, enum pace pace)
{
    struct device_conf c = { .isa = isa, .profile = profile, .pace = pace };
    const struct device_ops *ops;

    memset(l, 0, sizeof *l);
    ops = device_find(device, &l->e);
    if (!ops || shape_load(&l->shape, model, &l->e) || dev_open(&l->dev, ops, &c, &l->e) ||
        loaded_open(&l->models, &l->dev, &l->shape, 1, &l->e) ||
        dev_kv_open(&l->dev, &l->kv, l->shape.n_layer, l->shape.n_kv_head, l->shape.head_dim, FMT_F16, n_slot,
                    &l->e))
        return -1;
    return 0;
}

void lab_close(struct lab *l)
{
    if (!l->dev.ops)
        return;
    loaded_close(&l->models);
    dev_kv_close(&l->dev, &l->kv);
    dev_close(&l->dev);
}

static void note(void *self, const struct replay_done *d)
{
    struct lab_out *o = self;
    uint32_t i = d->r->id;

    o->n_out[i] = d->r->n_out;
    o->hash[i] = d->hash;
    if (d->first_ns == UINT64_MAX)
        return;
    o->wait_ns[i] = d->admitted_ns - d->arrive_ns;
    o->ttft_ns[i] = d->first_ns - d->arrive_ns;
    o->e2e_ns[i] = d->last_ns - d->arrive_ns;
}

/* The pool in the format that the strategy asks for, with as many slots. */
static int pool_for(struct lab *l, const struct strategy *st)
{
    enum fmt fmt = choice_kv(st);
    uint32_t n_slot = l->kv.n_slot;

    if (l->kv.fmt == fmt)
        return 0;
    dev_kv_close(&l->dev, &l->kv);
    return dev_kv_open(&l->dev, &l->kv, l->shape.n_layer, l->shape.n_kv_head, l->shape.head_dim, fmt, n_slot,
                       &l->e);
}

int lab_run(struct lab *l, const struct lab_run_conf *c, struct replay_result *res,
            struct lab_out *out)
{
    struct strategy st;
    struct replay_conf rc = {
        .trace = c->trace, .strategy = &st, .kv_pool = &l->kv,
        .max_len = c->max_len ? c->max_len : 1024, .host_slots = 512, .rate_scale = 1, .seed = 1, .log = c->log,
        .recorder = c->recorder,
    };

    l->e.code = 0;
    if (out) {
        out->n = c->trace->n;
        out->hash = calloc(out->n + 1, sizeof *out->hash);
        out->n_out = calloc(out->n + 1, sizeof *out->n_out);
        out->wait_ns = calloc(out->n + 1, sizeof *out->wait_ns);
        out->ttft_ns = calloc(out->n + 1, sizeof *out->ttft_ns);
        out->e2e_ns = calloc(out->n + 1, sizeof *out->e2e_ns);
        rc.on_done = note;
        rc.on_done_self = out;
    }
    if (strategy_parse(&st, c->strategy, &l->e) || pool_for(l, &st))
        return -1;
    rc.kv_slots = c->kv_slots ? c->kv_slots : l->kv.n_slot;
    rc.model = loaded_get(&l->models, &st, &l->e);
    if (!rc.model || replay_run(&rc, res, &l->e)) {
        test_note("%s: %s", c->strategy, l->e.text);
        return -1;
    }
    return 0;
}

void lab_out_free(struct lab_out *o)
{
    free(o->hash);
    free(o->n_out);
    free(o->wait_ns);
    free(o->ttft_ns);
    free(o->e2e_ns);
    memset(o, 0, sizeof *o);
}

void lab_trace(struct trace *t, uint32_t n, uint32_t max_prompt, uint32_t max_out, double gap_us,
               uint64_t seed)
{
    enum { BLOCK = 8 };
    struct rng r;
    double now = 0;

    memset(t, 0, sizeof *t);
    rng_seed(&r, seed);
    snprintf(t->name, sizeof t->name, "lab");
    t->block_tokens = BLOCK;
    t->block_tail_partial = true;
    t->n = n;
    t->req = ARENA_NEW(&t->arena, struct trace_req, n);
    for (uint32_t i = 0; i < n; i++) {
        struct trace_req *q = &t->req[i];
        uint64_t *block;

        q->arrive_us = (int64_t)now;
        now += -log(1 - rng_unit(&r)) * gap_us;
        q->n_prompt = 1 + (uint32_t)rng_below(&r, max_prompt);
        q->n_out = 1 + (uint32_t)rng_below(&r, max_out);
        q->n_block = ceil_div_u32(q->n_prompt, BLOCK);
        block = ARENA_NEW(&t->arena, uint64_t, q->n_block);
        for (uint32_t b = 0; b < q->n_block; b++)
            block[b] = i % 2 && b < 2 ? b : 1000 + (uint64_t)i * 1000 + b;
        q->block = block;
    }
}

struct trace lab_solo(const struct trace *t, uint32_t i)
{
    struct trace one = *t;

    one.req = t->req + i;
    one.n = 1;
    memset(&one.arena, 0, sizeof one.arena);
    return one;
}

void lab_alone(struct lab *l, const struct trace *t, const char *prec, uint32_t max_len, uint64_t *want)
{
    for (uint32_t i = 0; i < t->n; i++) {
        struct trace one = lab_solo(t, i);
        struct replay_result res;
        struct lab_out out;
        char name[128];
        struct lab_run_conf c = { .strategy = name, .trace = &one, .max_len = max_len };

        snprintf(name, sizeof name, "static:batch=1+contiguous+%s", prec);
        CU_ASSERT_EQUAL_FATAL(lab_run(l, &c, &res, &out), 0);
        CU_ASSERT_EQUAL(out.n_out[0], t->req[i].n_out);
        want[i] = out.hash[0];
        lab_out_free(&out);
    }
}

uint32_t lab_differing(struct lab *l, const struct lab_run_conf *c, const uint64_t *want, uint64_t *preempted)
{
    const struct trace *t = c->trace;
    struct replay_result res;
    struct lab_out out;
    uint32_t wrong = 0;

    if (lab_run(l, c, &res, &out)) {
        test_note("%s with %u slots: %s", c->strategy, c->kv_slots, l->e.text);
        CU_FAIL("the run failed");
        lab_out_free(&out);
        return t->n;
    }
    for (uint32_t i = 0; i < t->n; i++)
        wrong += out.hash[i] != want[i] || out.n_out[i] != t->req[i].n_out;
    if (wrong)
        test_note("%s with %u slots: %u of %u requests differ from running alone", c->strategy, c->kv_slots, wrong,
                  t->n);
    if (preempted)
        *preempted += res.preemptions;
    lab_out_free(&out);
    return wrong;
}
