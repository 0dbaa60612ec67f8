/* step_bench.c - `servelab bench step`: whole decode steps of a model on a device, eager and as graphs, against the
 * time that their weights and cached K and V need at the rate of a large copy. What the host adds is what the clock saw
 * beyond the device's own time. Weights are random numbers: steps cost the same with any. */
#include "harness/choice.h"
#include "harness/step_bench.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "harness/made_batch.h"
#include "harness/roof.h"
#include "models/model.h"
#include "strategies/strategy.h"

struct job {
    struct device dev;
    struct model_shape shape;
    double copy;                           /* bytes per second, read and written both counted; 0: not known */
    const struct step_bench_conf *c;
    uint32_t n_shown;
    struct err *e;
};
struct point { uint32_t n_seq, ctx; };

static int cheap_row(void *self, enum role role, uint32_t layer, uint32_t row, float *out, struct err *e)
{
    const struct model_shape *s = self;
    uint32_t k = role == ROLE_O ? s->n_head * s->head_dim : role == ROLE_DOWN ? s->ffn : s->dim;
    uint64_t u = ((uint64_t)layer * ROLE_N + role) * 1000003 + row;

    (void)e;
    for (uint32_t i = 0; i < k; i++) {
        u = u * 6364136223846793005u + 1442695040888963407u;
        out[i] = ((float)(u >> 40) * 0x1p-24f - 0.5f) / 16;
    }
    return 0;
}

static int unit_gain(void *self, uint32_t layer, enum gain which, float *out, struct err *e)
{
    const struct model_shape *s = self;

    (void)layer;
    (void)e;
    for (uint32_t i = 0; i < gain_length(s, which); i++)
        out[i] = which == GAIN_QKV_BIAS ? 0.0f : 1.0f;
    return 0;
}

struct times { double step_ns, device_ns; uint32_t pad; };

/* Medians over the rounds; the first step makes room, chooses kernels and records. */
static int run_steps(struct job *j, struct model *m, struct kv_pool *kv, struct point p, struct times *t)
{
    enum { MOST = 64 };
    struct made_conf c = { .n_seq = p.n_seq, .prefix = p.ctx - 1, .rows = 1, .block = 16, .n_yield = 1,
                           .vocab = m->shape.vocab };
    uint32_t *next = malloc(p.n_seq * sizeof *next);
    uint32_t rounds = min_u32(j->c->rounds, MOST);
    double step[MOST], device[MOST];
    struct made_batch x;
    int rc = made_batch(&x, &c, kv->n_slot, j->e);

    for (uint32_t r = 0; !rc && next && r < rounds + 2; r++) {
        uint64_t from = dev_now(&j->dev);

        rc = model_step(m, kv, &x.b, next, j->e);
        if (r >= 2) {
            step[r - 2] = (double)(dev_now(&j->dev) - from);
            device[r - 2] = (double)j->dev.step_device_ns;
        }
    }
    t->pad = j->dev.step_pad_rows;
    if (!rc && next) {
        t->step_ns = bench_median(step, (int)rounds);
        t->device_ns = bench_median(device, (int)rounds);
    }
    made_batch_free(&x);
    free(next);
    return next ? rc : err_set(j->e, EXIT_RUN_FAILED, "out of memory");
}

static void show(struct job *j, const char *what, const struct model *m, const struct kv_pool *kv, struct point p,
                 const struct times *t)
{
    double embed = m->shape.tied ? 0 : (double)m->embed.bytes;
    double weights = (double)m->weight_bytes - embed;  /* a step reads a few rows of an embedding of its own */
    double cached = (double)p.n_seq * p.ctx * (double)model_kv_token_bytes(&m->shape, kv->fmt);
    double least = j->copy > 0 ? (weights + cached) / j->copy * 1e9 : 0;
    double gap = t->device_ns > 0 ? t->step_ns - t->device_ns : 0;

    if (j->c->json)
        printf("%s\n  {\"case\": \"%s\", \"seqs\": %u, \"context\": %u, \"step_us\": %.2f, \"device_us\": %.2f, "
               "\"host_gap\": %.4f, \"weight_bytes\": %.0f, \"kv_bytes\": %.0f, \"copy_share\": %.4f, \"tok_s\": %.1f, "
               "\"pad_rows\": %u}", j->n_shown ? "," : "", what, p.n_seq, p.ctx, t->step_ns * 1e-3, t->device_ns * 1e-3,
               gap / t->step_ns, weights, cached, least / t->step_ns, p.n_seq / t->step_ns * 1e9, t->pad);
    else
        printf("%-34s B %-3u x %-6u %10.1f us/step %9.0f tok/s  weights+KV %8.2f GB  %s%5.1f %% of copy  "
               "host %4.1f %%\n",
               what, p.n_seq, p.ctx, t->step_ns * 1e-3, p.n_seq / t->step_ns * 1e9, (weights + cached) * 1e-9,
               j->copy > 0 ? "" : "(no roof) ", 100 * least / t->step_ns, 100 * gap / t->step_ns);
    j->n_shown++;
    fflush(stdout);
}

static int with_pool(struct job *j, struct model *m, const struct strategy *st, const char *text, const struct point *p,
                     uint32_t n, double base[])
{
    static const char *const launch[] = { "eager", "graph" };
    struct kv_pool kv;
    uint32_t slots = 64, most = 0;
    char what[96];
    int rc;

    for (uint32_t i = 0; i < n; i++) {
        slots = max_u32(slots, p[i].n_seq * (ceil_div_u32(p[i].ctx, 16) * 16) + 64);
        most = max_u32(most, p[i].n_seq);
    }
    rc = model_room(m, max_u32(most, 64), max_u32(most, 64), j->e) ||
         dev_kv_open(&j->dev, &kv, m->shape.n_layer, m->shape.n_kv_head, m->shape.head_dim,
                     choice_kv(st), slots, j->e) ? -1 : 0;
    if (rc)
        return rc;
    for (int g = 0; !rc && g < 2; g++) {
        struct exec x = { .fused = true, .graph = g == 1 };
        struct err ignored = { 0 };

        if (dev_exec(&j->dev, &x, g ? &ignored : j->e))
            break;                              /* no graphs on this device: said by their absence */
        for (uint32_t i = 0; !rc && i < n; i++) {
            struct times t = { 0 };

            rc = run_steps(j, m, &kv, p[i], &t);
            snprintf(what, sizeof what, "%s, %s", text, launch[g]);
            if (!rc)
                show(j, what, m, &kv, p[i], &t);
            base[i] = t.step_ns;
        }
    }
    dev_kv_close(&j->dev, &kv);
    return rc;
}

static int one_precision(struct job *j, const char *text, const struct point *p, uint32_t n, double base[])
{
    struct weight_source src = { cheap_row, unit_gain, &j->shape, true, "random numbers" };
    struct strategy st;
    struct model m;
    struct wfmt *fmt;
    char name[160];
    int rc;

    snprintf(name, sizeof name, "continuous+paged+%.100s", text);
    if (strategy_parse(&st, name, j->e))
        return -1;
    fmt = choice_formats(&st, j->shape.n_layer, j->e);
    if (!fmt)
        return -1;
    rc = model_open(&m, &j->dev, &j->shape, fmt, &src, j->e);
    free(fmt);
    if (rc)
        return -1;
    rc = with_pool(j, &m, &st, text, p, n, base);
    model_close(&m);
    return rc;
}

int step_bench(const struct device_ops *ops, const struct step_bench_conf *c, struct err *e)
{
    struct point points[2] = { { 1, c->ctx }, { c->n_seq, c->ctx } };
    struct job j = { .c = c, .e = e };
    double base[3][2] = { { 0 } };
    uint32_t n = 0;
    int rc;

    if (shape_load(&j.shape, c->model, e) || dev_open(&j.dev, ops, &(struct device_conf){ 0 }, e))
        return -1;
    if (j.dev.ops->roof)
        j.copy = j.dev.ops->roof(&j.dev, DEV_ROOF_COPY, e);
    rc = e->code ? -1 : 0;
    if (c->json)
        printf("{\"device\": \"%s\", \"model\": \"%s\", \"copy_bytes_s\": %.4g, \"rows\": [", j.dev.label, c->model,
               j.copy);
    else
        printf("%s; %s, random weights; roof: copy %.0f GB/s\n", j.dev.label, c->model, j.copy * 1e-9);
    for (; !rc && n < 3 && c->precision[n]; n++)
        rc = one_precision(&j, c->precision[n], points, 2, base[n]);
    if (c->json)
        printf("]}\n");
    for (uint32_t i = 1; !rc && !c->json && i < n; i++)
        for (uint32_t k = 0; k < 2; k++)
            printf("%s over %s at B %u: %.2fx\n", c->precision[i], c->precision[0], points[k].n_seq,
                   base[0][k] / base[i][k]);
    dev_close(&j.dev);
    return rc;
}
