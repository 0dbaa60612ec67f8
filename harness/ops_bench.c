/* ops_bench.c - see ops_bench.h. Each row says what was reached and which share of a roof that is: bytes that must move
 * over the rate of a large copy, or FLOPs over the rate of a large F16 product of the vendor's library, whichever takes
 * longer. Operations whose floor is below 5 us are launch-bound and stand in us only. `must` is what the project asks
 * of itself for an H200-class GPU (docs/METRICS.md); elsewhere it is only a mark. */
#include "harness/ops_bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/measure.h"

struct job {
    const struct ops_bench_conf *c;
    struct device dev;
    double roof[DEV_ROOF_N];
    uint32_t n_row, n_below;
    struct err *e;
};

struct row {
    const char *group, *shape;
    char what[64];
    double ns, flops, bytes;
    double must;                           /* share of the roof, or (vs > 0) speed-up over vs; 0: none */
    double vs;                             /* ns of what it is compared with; 0: nothing */
    const char *vs_what;
};

/* ---- showing ---- */

static double floor_ns(const struct job *j, const struct row *r, const char **bound)
{
    double copy = j->roof[DEV_ROOF_COPY], product = j->roof[DEV_ROOF_MATMUL];
    double by_bytes = copy > 0 ? r->bytes / copy * 1e9 : 0, by_flops = product > 0 ? r->flops / product * 1e9 : 0;

    *bound = by_bytes >= by_flops ? "copy" : "F16 product";
    return by_bytes >= by_flops ? by_bytes : by_flops;
}

static void show(struct job *j, const struct row *r)
{
    const char *bound;
    double least = floor_ns(j, r, &bound), share = least / r->ns, gain = r->vs > 0 ? r->vs / r->ns : 0;
    bool launch_bound = least < 5000, below = r->must > 0 && (gain > 0 ? gain : share) < r->must;

    j->n_below += below;
    if (j->c->json) {
        printf("%s\n  {\"group\": \"%s\", \"shape\": \"%s\", \"case\": \"%s\", \"us\": %.3f, \"gb_s\": %.1f, "
               "\"tflop_s\": %.3f, \"bound\": \"%s\", \"roof_share\": %.4f", j->n_row ? "," : "", r->group,
               r->shape, r->what, r->ns * 1e-3, r->bytes / r->ns, r->flops / r->ns * 1e-3,
               launch_bound ? "launch" : bound, share);
        if (gain > 0)
            printf(", \"gain\": %.3f, \"over\": \"%s\"", gain, r->vs_what);
        if (r->must > 0)
            printf(", \"must\": %.3f", r->must);
        putchar('}');
    } else {
        printf("%-8s %-13s %-34s %10.1f us %8.0f GB/s %8.2f TFLOP/s", r->group, r->shape, r->what, r->ns * 1e-3,
               r->bytes / r->ns, r->flops / r->ns * 1e-3);
        if (launch_bound)
            printf("  %-20s", "launch-bound");
        else
            printf("  %3.0f %% of %-11s", 100 * share, bound);
        if (gain > 0)
            printf("  %5.2fx %s", gain, r->vs_what);
        if (r->must > 0)
            printf(gain > 0 ? "  (must %.2fx%s)" : "  (must %.2f%s)", r->must, below ? ", BELOW" : "");
        putchar('\n');
    }
    fflush(stdout);
    j->n_row++;
}

/* ---- products ---- */

struct kind { const char *name; struct wfmt f; bool exact; };
static const struct kind kinds[] = {
    { "f16", { FMT_F16, 0 }, false }, { "f16 exact", { FMT_F16, 0 }, true }, { "bf16", { FMT_BF16, 0 }, false },
    { "int8", { FMT_INT8, 0 }, false }, { "fp8", { FMT_FP8, 0 }, false }, { "int4 g128", { FMT_INT4, 128 }, false },
    { "int4 g64", { FMT_INT4, 64 }, false }, { "int4 g32", { FMT_INT4, 32 }, false },
    { "int4z g128", { FMT_INT4Z, 128 }, false }, { "int4 g128 exact", { FMT_INT4, 128 }, true },
};
enum { N_KIND = sizeof kinds / sizeof *kinds, N_MAT = 5 };
static const uint32_t row_counts[] = { 1, 4, 8, 16, 32, 64, 128, 512, 2048 };
enum { N_ROWS = sizeof row_counts / sizeof *row_counts };

/* What kernels.md asks of W4A16 and W8A16 over F16 of the vendor's library, by matrix (qkv, o, gate_up, down, head;
 * last: a whole layer) and rows. */
static double must_gain(const struct kind *k, uint32_t mat, uint32_t rows)
{
    static const double small[N_MAT + 1] = { 1.9, 1.9, 3.2, 2.8, 3.2, 2.7 };

    if (k->exact || k->f.fmt < FMT_FP8)
        return 0;
    if (k->f.fmt == FMT_INT4 && k->f.group == 128)
        return rows <= 16 ? small[mat] : mat < N_MAT ? rows >= 512 ? 0.7 : 0 : rows == 32 ? 2.2 : rows == 64 ? 1.4 : 0;
    return k->f.fmt == FMT_INT8 && rows <= 16 && (mat == 2 || mat == 4) ? 1.75 : 0;
}

static int set_exact(struct job *j, bool exact)
{
    struct exec x = { .fused = true, .exact = exact };

    return dev_exec(&j->dev, &x, j->e);
}

struct sums { double ns[N_ROWS], flops[N_ROWS], bytes[N_ROWS]; };

static int one_matrix(struct job *j, struct measure *m, const char *shape, const struct kind *k, uint32_t mat,
                      uint32_t n, uint32_t kk, double base[N_ROWS], struct sums *layer)
{
    static const char *const names[N_MAT] = { "qkv", "o", "gate_up", "down", "head" };
    uint32_t at = (uint32_t)m->d->ops->act_bytes;

    if (measure_weight(m, k->f, n, kk, j->e))
        return -1;
    for (size_t i = 0; i < N_ROWS && row_counts[i] <= m->max_tok && (mat < 4 || row_counts[i] <= 64); i++) {
        uint32_t rows = row_counts[i];
        struct row r = { .group = "matmul", .shape = shape, .flops = 2.0 * rows * n * kk, .vs_what = "f16",
                         .bytes = (double)wfmt_bytes(k->f, n, kk) + (double)rows * ((double)n + kk) * at };

        r.ns = measure_matmul(m, rows, j->e);
        if (r.ns < 0)
            return -1;
        if (k == kinds)
            base[i] = r.ns;
        else
            r.vs = base[i];
        r.must = must_gain(k, mat, rows);
        snprintf(r.what, sizeof r.what, "%s %s, %u rows", names[mat], k->name, rows);
        show(j, &r);
        if (mat < 4)
            layer->ns[i] += r.ns, layer->flops[i] += r.flops, layer->bytes[i] += r.bytes;
    }
    return 0;
}

static int matmuls(struct job *j, struct measure *m, const char *shape)
{
    const struct model_shape *s = &m->shape;
    uint32_t q = s->n_head * s->head_dim, kv = s->n_kv_head * s->head_dim;
    const uint32_t mats[N_MAT][2] = { { q + 2 * kv, s->dim }, { s->dim, q }, { 2 * s->ffn, s->dim },
                                      { s->dim, s->ffn }, { s->vocab, s->dim } };
    double base[N_MAT][N_ROWS] = { 0 }, base_layer[N_ROWS] = { 0 };

    for (size_t k = 0; k < N_KIND; k++) {
        struct sums layer = { 0 };

        if (!(m->d->ops->weight_fmts & FMT_BIT(kinds[k].f.fmt)))
            continue;
        if (set_exact(j, kinds[k].exact))
            return -1;
        for (uint32_t i = 0; i < N_MAT; i++)
            if (one_matrix(j, m, shape, &kinds[k], i, mats[i][0], mats[i][1], base[i], &layer))
                return -1;
        for (size_t i = 0; i < N_ROWS && layer.ns[i] > 0; i++) {
            struct row r = { .group = "matmul", .shape = shape, .ns = layer.ns[i], .flops = layer.flops[i],
                             .bytes = layer.bytes[i], .vs = base_layer[i], .vs_what = "f16",
                             .must = must_gain(&kinds[k], N_MAT, row_counts[i]) };

            if (!k)
                base_layer[i] = layer.ns[i];
            snprintf(r.what, sizeof r.what, "whole layer %s, %u rows", kinds[k].name, row_counts[i]);
            show(j, &r);
        }
    }
    return set_exact(j, false);
}

/* ---- attention ---- */

static double attend(struct job *j, struct measure *m, const char *group, const char *shape, const char *what,
                     struct measure_attend a, double must, double vs, const char *vs_what)
{
    struct row r = { .group = group, .shape = shape, .must = must, .vs = vs, .vs_what = vs_what };
    struct op_cost c;

    r.ns = measure_attend(m, a, &c, j->e);
    if (r.ns < 0)
        return -1;
    r.flops = c.flops;
    r.bytes = c.bytes;
    snprintf(r.what, sizeof r.what, "%s", what);
    show(j, &r);
    return r.ns;
}

static int decodes(struct job *j, struct measure *m, const char *shape, double must)
{
    static const enum fmt fmts[] = { FMT_F16, FMT_INT8, FMT_FP8 };
    uint32_t b = j->c->quick ? 4 : 32, ctx = j->c->quick ? 96 : 4096, far = j->c->quick ? 256 : 32768;
    uint32_t near = j->c->quick ? 16 : 1024, lens[64];
    double f16 = 0, uniform;
    char what[64];

    for (size_t i = 0; i < sizeof fmts / sizeof *fmts; i++) {
        struct measure_attend a = { .n_seq = b, .prefix = ctx - 1, .rows = 1, .block = 16 };
        double ns;

        if (!(m->d->ops->kv_fmts & FMT_BIT(fmts[i])))
            continue;
        if (measure_pool(m, fmts[i], b * ctx + 64, j->e))
            return -1;
        snprintf(what, sizeof what, "B %u x %u, page 16, %s", b, ctx, fmt_name(fmts[i]));
        ns = attend(j, m, "decode", shape, what, a, i ? i == 1 ? 1.7 : 0 : must, i ? f16 : 0, "f16");
        if (ns < 0)
            return -1;
        f16 = i ? f16 : ns;
        a.block = 0;
        snprintf(what, sizeof what, "B %u x %u, contiguous, %s", b, ctx, fmt_name(fmts[i]));
        if (attend(j, m, "decode", shape, what, a, 0, ns, "page 16") < 0)
            return -1;
    }
    if (measure_pool(m, FMT_F16, (b - 1) * near + far + b * 16, j->e))
        return -1;
    snprintf(what, sizeof what, "B 1 x %u, page 16, f16", far);
    if (attend(j, m, "decode", shape, what, (struct measure_attend){ 1, far - 1, 1, 16, NULL }, must > 0.8 ? 0.65 : 0,
               0, "") < 0)
        return -1;
    for (uint32_t i = 0; i < b; i++)
        lens[i] = (i ? near : far) - 1;
    snprintf(what, sizeof what, "B %u x %u, page 16, f16", b, ((b - 1) * near + far) / b);
    uniform = attend(j, m, "decode", shape, what,
                     (struct measure_attend){ b, ((b - 1) * near + far) / b - 1, 1, 16, NULL }, 0, 0, "");
    snprintf(what, sizeof what, "1 x %u + %u x %u, page 16, f16", far, b - 1, near);
    return uniform < 0 || attend(j, m, "decode", shape, what, (struct measure_attend){ b, 0, 1, 16, lens }, 1 / 1.15,
                                 uniform, "uniform") < 0 ? -1 : 0;
}

static int prefills(struct job *j, struct measure *m, const char *shape)
{
    uint32_t most = m->max_tok, hd = m->shape.head_dim, chunk = j->c->quick ? 16 : 512;
    double product = j->roof[DEV_ROOF_MATMUL];
    char what[64];

    if (measure_pool(m, FMT_F16, 4 * (most + chunk) + 64, j->e))
        return -1;
    for (uint32_t n = j->c->quick ? most / 2 : 1024; n <= most; n *= 2) {
        double tflops = n == 4096 ? hd == 128 ? 220 : 185 : n == 8192 ? hd == 128 ? 235 : 195 : 0, ns;

        snprintf(what, sizeof what, "S %u, contiguous", n);
        ns = attend(j, m, "prefill", shape, what, (struct measure_attend){ 1, 0, n, 0, NULL },
                    product > 0 ? tflops * 1e12 / product : 0, 0, "");
        snprintf(what, sizeof what, "S %u, page 16", n);
        if (ns < 0 || attend(j, m, "prefill", shape, what, (struct measure_attend){ 1, 0, n, 16, NULL }, 0.93, ns,
                             "contiguous") < 0)
            return -1;
    }
    if (4 * chunk > most)
        return 0;
    snprintf(what, sizeof what, "B 4, %u rows after %u, page 16", chunk, most);
    return attend(j, m, "prefill", shape, what, (struct measure_attend){ 4, most, chunk, 16, NULL },
                  product > 0 && hd == 128 ? 190e12 / product : 0, 0, "") < 0 ? -1 : 0;
}

/* ---- rows ---- */

static int rows(struct job *j, struct measure *m, const char *shape)
{
    static const enum op ops[] = { OP_NORM, OP_SWIGLU, OP_ROPE_STORE, OP_PICK, OP_EMBED, OP_GATHER };
    const struct model_shape *s = &m->shape;
    uint32_t ns_rows[] = { j->c->quick ? 4 : 32, j->c->quick ? 16 : 2048, j->c->quick ? 32 : 8192 };

    if (measure_pool(m, FMT_F16, m->max_tok + 16, j->e) ||
        measure_weight(m, (struct wfmt){ FMT_F16, 0 }, s->vocab, s->dim, j->e))
        return -1;
    for (size_t o = 0; o < sizeof ops / sizeof *ops; o++)
        for (size_t i = 0; i < 3 && ns_rows[i] <= m->max_tok && (ops[o] != OP_PICK || i == 0); i++) {
            struct op_total before = m->d->total[ops[o]], after;
            struct row r = { .group = "rows", .shape = shape };

            r.ns = ops[o] == OP_ROPE_STORE ? measure_rope(m, ns_rows[i], j->e)
                                           : measure_rows(m, ops[o], ns_rows[i], j->e);
            if (r.ns < 0)
                return -1;
            after = m->d->total[ops[o]];
            r.flops = (after.flops - before.flops) / (double)(after.calls - before.calls);
            r.bytes = (after.bytes - before.bytes) / (double)(after.calls - before.calls);
            r.must = i == 2 && ops[o] <= OP_SWIGLU ? ops[o] == OP_ROPE_STORE ? 0.8 : 0.85 : 0;
            snprintf(r.what, sizeof r.what, "%s, %u rows", op_name[ops[o]], ns_rows[i]);
            show(j, &r);
        }
    return 0;
}

/* ---- all of it ---- */

static bool wanted(const struct job *j, const char *group) { return !j->c->only || !strcmp(j->c->only, group); }

static int on_model(struct job *j, const char *name, bool is_main, double decode_must)
{
    uint32_t most = j->c->quick ? 64 : !strcmp(name, "smollm2-135m") ? 2048 : 8192;
    struct model_shape s;
    struct measure m;
    int rc = -1;

    if (shape_load(&s, name, j->e))
        return -1;
    s.n_layer = s.n_layer < 4 ? s.n_layer : 4;
    if (!measure_open(&m, &j->dev, &s, most, j->e)) {
        m.cold_bytes = j->c->quick ? 1 : (uint64_t)256 << 20;
        m.rounds = j->c->quick ? 1 : 15;
        rc = (wanted(j, "decode") && decodes(j, &m, name, decode_must)) ||
             (wanted(j, "prefill") && prefills(j, &m, name)) ||
             (is_main && wanted(j, "rows") && rows(j, &m, name)) ||
             (is_main && wanted(j, "matmul") && matmuls(j, &m, name)) ? -1 : 0;
    }
    measure_close(&m);
    return rc;
}

static int roofs(struct job *j)
{
    static const char *const unit[DEV_ROOF_N] = { "GB/s", "GB/s", "TFLOP/s", "TFLOP/s", "us" };
    static const double scale[DEV_ROOF_N] = { 1e-9, 1e-9, 1e-12, 1e-12, 1e-3 };

    if (!j->dev.ops->roof)
        return err_set(j->e, EXIT_USAGE,
                       "device %s measures no roofs; 'servelab bench kernels' without --device is for "
                       "the cpu", j->dev.ops->name);
    for (int i = 0; i < DEV_ROOF_N; i++) {
        j->roof[i] = j->dev.ops->roof(&j->dev, (enum dev_roof)i, j->e);
        if (j->e->code)
            return -1;
        if (j->c->json)
            printf("%s\"%s\": %.6g", i ? ", " : "", dev_roof_name[i], j->roof[i]);
        else
            printf("roof: %-20s %10.2f %s\n", dev_roof_name[i], j->roof[i] * scale[i], unit[i]);
    }
    return 0;
}

int ops_bench(const struct device_ops *ops, const struct ops_bench_conf *c, struct err *e)
{
    struct device_conf conf = { 0 };
    struct job j = { .c = c, .e = e };
    int rc;

    if (dev_open(&j.dev, ops, &conf, e))
        return -1;
    printf(c->json ? "{\"device\": \"%s\", \"roofs\": {"
                   : "%s; operands rotate, L2 flushed, medians of recorded calls\n", j.dev.label);
    rc = roofs(&j);
    if (c->json)
        printf("}, \"rows\": [");
    if (!rc)
        rc = c->quick ? on_model(&j, "tiny", true, 0)
           : on_model(&j, "llama-3.1-8b", true, 0.85) || on_model(&j, "llama-3.2-1b", false, 0.80) ||
             on_model(&j, "smollm2-135m", false, 0.65) ? -1 : 0;
    if (c->json)
        printf("]}\n");
    else if (!rc)
        printf("%u rows, %u below what is asked of them%s\n", j.n_row, j.n_below,
               c->quick ? " (quick: means nothing)" : "");
    dev_close(&j.dev);
    return rc;
}
