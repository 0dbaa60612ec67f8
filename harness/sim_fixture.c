#include "harness/sim_fixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static uint32_t draw(struct rng *r, uint32_t mean, uint32_t most)
{
    return 1 + (uint32_t)(-log(1 - rng_unit(r)) * mean) % most;
}

static int make_trace(struct trace *t, const struct sim_load *load, struct err *e)
{
    struct rng r;
    double now = 0;

    rng_seed(&r, 1);
    snprintf(t->name, sizeof t->name, "bench");
    t->req = ARENA_NEW(&t->arena, struct trace_req, load->n);
    if (!t->req)
        return err_set(e, EXIT_RUN_FAILED, "out of memory for %u requests", load->n);
    t->n = load->n;
    for (uint32_t i = 0; i < load->n; i++) {
        now += -log(1 - rng_unit(&r)) * load->gap_us;
        t->req[i].arrive_us = (int64_t)now;
        t->req[i].n_prompt = draw(&r, load->mean_prompt, load->most_prompt);
        t->req[i].n_out = draw(&r, load->mean_out, load->most_out);
    }
    return 0;
}

int sim_fixture_open(struct sim_fixture *f, uint32_t n_slot, const struct sim_load *load, struct err *e)
{
    struct device_conf conf = { .profile = "h200" };
    const struct device_ops *sim = device_find("sim", e);

    memset(f, 0, sizeof *f);
    if (!sim || shape_load(&f->shape, "llama-3.1-8b", e) || dev_open(&f->dev, sim, &conf, e) ||
        loaded_open(&f->models, &f->dev, &f->shape, 1, e) ||
        dev_kv_open(&f->dev, &f->kv, f->shape.n_layer, f->shape.n_kv_head, f->shape.head_dim, FMT_F16, n_slot, e))
        return -1;
    return make_trace(&f->trace, load, e);
}

void sim_fixture_close(struct sim_fixture *f)
{
    if (f->dev.self) {
        loaded_close(&f->models);
        dev_kv_close(&f->dev, &f->kv);
        dev_close(&f->dev);
    }
    trace_free(&f->trace);
}

int sim_fixture_conf(struct sim_fixture *f, const char *text, struct strategy *st, struct replay_conf *c, struct err *e)
{
    *c = (struct replay_conf){ .trace = &f->trace, .strategy = st, .kv_pool = &f->kv, .kv_slots = f->kv.n_slot,
                               .max_len = 8192, .rate_scale = 1, .seed = 1 };
    return strategy_parse(st, text, e) || !(c->model = loaded_get(&f->models, st, e)) ? -1 : 0;
}
