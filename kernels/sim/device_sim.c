/* device_sim.c - a clock and a cost model, no arithmetic.
 *
 * The idea: one operation takes max(FLOPs / peak, bytes / bandwidth) + a fixed launch cost (roofline,
 * Williams et al. 2009), at stated efficiencies; or what a table of measured times says, where the profile has one. FLOPs and bytes come from device.c, so the cost follows
 * the very forward pass that other devices run. Scheduling is charged as a fixed amount per step.
 *
 * What must stay true: time moves only in charge, charge_host and idle, in whole nanoseconds, so that
 * equal runs give equal rows, byte for byte, on any machine and compiler (-ffp-contract=off). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/device.h"
#include "kernels/sim/profile.h"

struct sim {
    struct sim_profile profile;
    uint64_t now_ns;
    uint64_t mem_used;
    bool as_graph;                         /* this step is replayed */
    /* operations per ns and bytes per ns as the model uses them: peak times efficiency */
    double flop_rate, int_rate, byte_rate;
};

static int sim_open(struct device *d, const struct device_conf *c, struct err *e)
{
    struct sim *s = calloc(1, sizeof *s);

    if (!s)
        return err_set(e, EXIT_RUN_FAILED, "sim: out of memory");
    if (profile_load(&s->profile, c->profile ? c->profile : "cpu", e)) {
        free(s);
        return -1;
    }
    s->flop_rate = s->profile.flops * s->profile.flop_efficiency * 1e-9;
    s->int_rate = s->profile.int_ops * s->profile.int_efficiency * 1e-9;
    s->byte_rate = s->profile.bandwidth * s->profile.byte_efficiency * 1e-9;
    d->self = s;
    d->is_virtual = true;
    d->pace = PACE_VIRTUAL;
    d->mem_bytes = s->profile.mem_bytes;
    d->profile = s->profile.text;
    memcpy(d->profile_sha256, s->profile.sha256, sizeof d->profile_sha256);
    /* A name stands for one machine only among ours: others carry their sum where the name is shown. */
    snprintf(d->label, sizeof d->label, "sim %s%s%.*s (profile %.8s; virtual clock, %s, not measured)",
             s->profile.name, s->profile.is_own ? ":" : "", s->profile.is_own ? 8 : 0, s->profile.sha256,
             s->profile.sha256, s->profile.n_table ? "tables of measured operations" : "roofline model");
    return 0;
}

static void sim_close(struct device *d)
{
    profile_free(&((struct sim *)d->self)->profile);
    free(d->self);
}

static uint64_t sim_now(struct device *d) { return ((struct sim *)d->self)->now_ns; }

static void sim_idle(struct device *d, uint64_t until_ns)
{
    struct sim *s = d->self;

    if (until_ns > s->now_ns)
        s->now_ns = until_ns;
}

static double roofline(const struct sim *s, enum op op, const struct op_cost *c)
{
    double rate = fmt_takes_a8(c->fmt) && s->int_rate > 0 ? s->int_rate : s->flop_rate;
    double link = s->profile.link_bandwidth * 1e-9;
    double t_flop = c->flops / rate, t_byte = c->bytes / (op == OP_SWAP ? link : s->byte_rate);

    return t_flop > t_byte ? t_flop : t_byte;
}

static void sim_charge(struct device *d, enum op op, const struct op_cost *c, uint32_t times)
{
    struct sim *s = d->self;
    double ns = s->profile.n_table ? profile_lookup(&s->profile, op, c) : -1;
    bool by_model = ns < 0;

    if (by_model)
        ns = roofline(s, op, c);
    ns += s->as_graph ? s->profile.graph_launch_ns : s->profile.launch_ns;
    d->charged.ns += ns * times;
    if (by_model && s->profile.n_table) {
        d->charged.model_ns += ns * times;
        d->charged.model[op] |= FMT_BIT(c->fmt);
    }
    s->now_ns += (uint64_t)(ns + 0.5) * times;
}

/* Steps in which every sequence decodes are replayed as graphs, as on a GPU; padding is not simulated. */
static void sim_begin(struct device *d, const struct batch *b)
{
    ((struct sim *)d->self)->as_graph = d->exec.graph && b->n_tok == b->n_seq;
}

static int sim_exec(struct device *d, const struct exec *x, struct err *e)
{
    const struct sim *s = d->self;

    (void)e;
    return !x->fused || (x->graph && !(s->profile.graph_launch_ns > 0)) ? -1 : 0;
}

static void sim_charge_host(struct device *d, uint32_t n_seq)
{
    struct sim *s = d->self;

    s->now_ns += s->profile.host_step_ns + (uint64_t)n_seq * s->profile.host_seq_ns;
}

/* Memory is counted and refused when the described device would be full; nothing is allocated. */
static void *sim_alloc(struct device *d, uint64_t bytes)
{
    struct sim *s = d->self;
    uint64_t *p;

    if (bytes > s->profile.mem_bytes || s->mem_used > s->profile.mem_bytes - bytes)
        return NULL;
    p = malloc(sizeof *p);
    if (p) {
        *p = bytes;
        s->mem_used += bytes;
    }
    return p;
}

static void sim_release(struct device *d, void *p)
{
    ((struct sim *)d->self)->mem_used -= *(uint64_t *)p;
    free(p);
}

static int sim_weight(struct device *d, struct weight *w, struct row_source src, struct err *e)
{
    (void)src;                                  /* no arithmetic, no numbers needed */
    w->data = sim_alloc(d, w->bytes);
    if (!w->data)
        return err_set(e, EXIT_RUN_FAILED, "sim %s: weights do not fit its %.0f GiB of memory",
                       ((struct sim *)d->self)->profile.name,
                       (double)((struct sim *)d->self)->profile.mem_bytes / 0x1p30);
    return 0;
}

static void sim_weight_free(struct device *d, struct weight *w)
{
    if (w->data)
        sim_release(d, w->data);
}

static int sim_probe(char *line, size_t n)
{
    snprintf(line, n, "roofline model; profiles in kernels/sim/profiles");
    return 0;
}

const struct device_ops device_sim = {
    .abi = DEVICE_ABI, .name = "sim",
    .about = "virtual clock and roofline cost model, no arithmetic (profiles: h200, a100, l4, cpu)",
    .computes = false, .act_bytes = 2, .weight_fmts = FMT_BIT(FMT_N) - 1,
    .kv_fmts = FMT_BIT(FMT_F16) | FMT_BIT(FMT_FP8) | FMT_BIT(FMT_INT8),
    .open = sim_open, .close = sim_close, .now = sim_now, .idle = sim_idle, .exec = sim_exec,
    .begin = sim_begin,
    .charge = sim_charge, .charge_host = sim_charge_host,
    .alloc = sim_alloc, .release = sim_release,
    .weight = sim_weight, .weight_free = sim_weight_free, .probe = sim_probe,
};
