#include "harness/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

enum { N_ALPHA = 11 };
static const double LEAST_SHARE = 1e-4;    /* of the largest mean |x|: dead channels are not blown up beyond it */

struct job {
    struct loaded_set *models;
    struct model *m;
    struct prec prec;
    const struct calibrate_conf *c;
    double *abs[SCALED_N], *sq[SCALED_N];  /* [n_layer, inputs] sums over tokens */
    float *x;                              /* the input of one product */
    uint64_t n_seen;                       /* tokens of layer 0 */
    struct scales *out;
    struct calibrate_report *report;
    struct err *e;
};

/* ---- what products are given ---- */

static void look(void *self, enum role role, uint32_t layer, const void *act, uint32_t n_tok)
{
    struct job *j = self;
    int which = scaled_of(role);
    uint32_t k;

    if (which == SCALED_N)
        return;
    k = scales_width(j->out, which);
    j->m->dev->ops->get(j->m->dev, j->x, act, (size_t)n_tok * k);
    for (uint32_t t = 0; t < n_tok; t++)
        for (uint32_t i = 0; i < k; i++) {
            double x = j->x[(size_t)t * k + i];

            j->abs[which][(size_t)layer * k + i] += fabs(x);
            j->sq[which][(size_t)layer * k + i] += x * x;
        }
    j->n_seen += layer || which ? 0 : n_tok;
}

/* One sequence in one block. */
static int read_window(struct job *j, struct kv_pool *kv, const uint32_t *tok, uint32_t *pos, uint32_t n)
{
    uint32_t start[2] = { 0, n }, table_start[2] = { 0, 1 }, bt = kv->n_slot, table = 0, last = n - 1, next;
    struct batch b = { .n_tok = n, .n_seq = 1, .n_row = 1, .n_table = 1, .tok = tok, .pos = pos, .slot = pos,
                       .seq_start = start, .kv_len = &n, .block_tokens = &bt, .table_start = table_start,
                       .table = &table, .row = &last };

    return model_step(j->m, kv, &b, &next, j->e);
}

static void tell(const struct job *j, uint32_t done)
{
    if (j->c->progress)
        j->c->progress(j->c->self, done, j->c->n_window + j->models->shape.n_layer);
}

static int read_text(struct job *j, const uint32_t *tok, size_t n_tok)
{
    const struct model_shape *s = &j->models->shape;
    uint32_t n = j->c->window, slots = ceil_div_u32(n, KV_TILE) * KV_TILE, n_window = j->c->n_window;
    uint32_t *pos = malloc(n * sizeof *pos);
    struct kv_pool kv;
    int rc = 0;

    if (!pos)
        return err_set(j->e, EXIT_RUN_FAILED, "out of memory");
    for (uint32_t i = 0; i < n; i++)
        pos[i] = i;
    if (dev_kv_open(j->models->dev, &kv, s->n_layer, s->n_kv_head, s->head_dim, FMT_F16, slots, j->e)) {
        free(pos);
        return -1;
    }
    if (kv.n_slot < slots)
        rc = err_set(j->e, EXIT_RUN_FAILED, "no memory for %u cached tokens", slots);
    if (n_tok / n < n_window)
        n_window = (uint32_t)(n_tok / n);
    for (uint32_t w = 0; !rc && w < n_window; w++) {
        rc = read_window(j, &kv, tok + (n_tok / n_window) * w, pos, n);
        tell(j, w + 1);
    }
    dev_kv_close(j->models->dev, &kv);
    free(pos);
    return rc;
}

/* ---- the exponent of one product ---- */

static void scale_of(const double *abs, uint32_t k, double alpha, float *s)
{
    double most = 0, lo = INFINITY, hi = 0;

    for (uint32_t i = 0; i < k; i++)
        most = fmax(most, abs[i]);
    for (uint32_t i = 0; i < k; i++) {
        double v = most > 0 ? pow(fmax(abs[i] / most, LEAST_SHARE), alpha) : 1;

        lo = fmin(lo, v);
        hi = fmax(hi, v);
        s[i] = (float)v;
    }
    for (uint32_t i = 0; i < k; i++)
        s[i] = (float)(s[i] / sqrt(lo * hi));
}

struct trial { float *row, *back, *s; void *q; uint16_t *scale; };     /* s [N_ALPHA, k] */

static double row_error(const struct trial *t, struct wfmt f, uint32_t k, const float *s, const double *sq)
{
    double sum = 0;

    for (uint32_t i = 0; i < k; i++)
        t->back[i] = t->row[i] * s[i];
    row_encode(f, t->back, k, t->q, t->scale);
    row_decode(f, t->q, t->scale, k, t->back);
    for (uint32_t i = 0; i < k; i++) {
        double d = (double)t->row[i] - (double)t->back[i] / s[i];

        sum += sq[i] * d * d;
    }
    return sum;
}

static uint32_t role_rows(const struct model_shape *s, enum role role)
{
    return role == ROLE_QKV ? (s->n_head + 2 * s->n_kv_head) * s->head_dim : role == ROLE_GATE_UP ? 2 * s->ffn : s->dim;
}

static int try_all(struct job *j, const struct trial *t, struct wfmt f, int which, uint32_t layer,
                   double error[N_ALPHA])
{
    enum role role = scaled_role(which);
    uint32_t n = role_rows(&j->models->shape, role), k = scales_width(j->out, which);
    uint32_t step = j->c->max_row ? ceil_div_u32(n, j->c->max_row) : 1;
    const struct weight_source *src = &j->models->source;

    for (int a = 0; a < N_ALPHA; a++)
        scale_of(j->abs[which] + (size_t)layer * k, k, a / (N_ALPHA - 1.0), t->s + (size_t)a * k);
    for (uint32_t r = 0; r < n; r += step) {
        if (src->row(src->self, role, layer, r, t->row, j->e))
            return -1;
        for (int a = 0; a < N_ALPHA; a++)
            error[a] += row_error(t, f, k, t->s + (size_t)a * k, j->sq[which] + (size_t)layer * k) * step;
    }
    return 0;
}

static int fit(struct job *j, const struct trial *t, int which, uint32_t layer, bool *rounds)
{
    struct wfmt f = j->prec.ops->pick(&j->prec, scaled_role(which), layer, j->models->shape.n_layer);
    uint32_t k = scales_width(j->out, which);
    double error[N_ALPHA] = { 0 };
    int best = 0;

    f.fmt = fmt_stored(f.fmt);
    if (f.fmt == FMT_F32 || f.fmt == FMT_F16 || f.fmt == FMT_BF16)
        return 0;                              /* rounds each weight by its own size: scales change nothing */
    *rounds = true;
    if (try_all(j, t, f, which, layer, error))
        return -1;
    for (int a = 1; a < N_ALPHA; a++)
        best = error[a] < error[best] ? a : best;
    if (!isfinite(error[0]))
        return err_set(j->e, EXIT_RUN_FAILED, "layer %u: %s meets activations or weights that are not finite", layer,
                       role_name[scaled_role(which)]);
    if (best)
        memcpy(scales_at(j->out, which, layer), t->s + (size_t)best * k, k * sizeof *t->s);
    j->out->alpha[layer * SCALED_N + (uint32_t)which] = (float)best / (N_ALPHA - 1);
    j->report->before[which] += error[0] / (double)j->n_seen;
    j->report->after[which] += error[best] / (double)j->n_seen;
    j->report->alpha[which] += best / (N_ALPHA - 1.0) / j->out->n_layer;
    return 0;
}

static int fit_all(struct job *j)
{
    size_t k = max_u32(j->out->dim, j->out->ffn);
    struct arena a = { 0 };
    struct trial t = { ARENA_NEW(&a, float, k), ARENA_NEW(&a, float, k), ARENA_NEW(&a, float, k * N_ALPHA),
                       ARENA_NEW(&a, float, k), ARENA_NEW(&a, uint16_t, k) };
    bool rounds = false;
    int rc = t.row && t.back && t.s && t.q && t.scale ? 0 : err_set(j->e, EXIT_RUN_FAILED, "out of memory");

    for (uint32_t l = 0; !rc && l < j->out->n_layer; l++) {
        for (int w = 0; !rc && w < SCALED_N; w++)
            rc = fit(j, &t, w, l, &rounds);
        tell(j, j->c->n_window + l + 1);
    }
    arena_free(&a);
    if (!rc && !rounds)
        rc = err_set(j->e, EXIT_USAGE, "%s rounds no weights to few bits: there is nothing to scale; try int4",
                     j->prec.ops->name);
    return rc;
}

/* ---- together ---- */

static int room(struct job *j, struct arena *a)
{
    struct strategy st;
    uint32_t n_layer = j->out->n_layer;

    if (strategy_parse(&st, "continuous+paged+f16", j->e) || !(j->m = loaded_get(j->models, &st, j->e)) ||
        model_room(j->m, j->c->window, 1, j->e))
        return -1;
    j->x = ARENA_NEW(a, float, (size_t)j->c->window * max_u32(j->out->dim, j->out->ffn));
    for (int w = 0; w < SCALED_N; w++) {
        j->abs[w] = ARENA_NEW(a, double, (size_t)n_layer * scales_width(j->out, w));
        j->sq[w] = ARENA_NEW(a, double, (size_t)n_layer * scales_width(j->out, w));
        if (!j->abs[w] || !j->sq[w] || !j->x)
            return err_set(j->e, EXIT_RUN_FAILED, "out of memory for activations of %u tokens", j->c->window);
    }
    return 0;
}

int calibrate(struct loaded_set *models, const struct strategy *st, const uint32_t *tok, size_t n_tok,
              const struct calibrate_conf *c, struct scales *out, struct calibrate_report *report, struct err *e)
{
    struct job j = { .models = models, .prec = { st->prec, st->prec_params }, .c = c, .out = out, .report = report,
                     .e = e };
    struct arena a = { 0 };
    int rc;

    memset(report, 0, sizeof *report);
    if (!models->dev->ops->get)
        return err_set(e, EXIT_USAGE, "device %s computes no activations; use cpu or cuda", models->dev->ops->name);
    if (n_tok < c->window)
        return err_set(e, EXIT_USAGE, "the text has %zu tokens; one window needs %u", n_tok, c->window);
    if (scales_init(out, &models->shape, e))
        return -1;
    rc = room(&j, &a);
    if (!rc) {
        j.m->watch = look;
        j.m->watch_self = &j;
        rc = read_text(&j, tok, n_tok);
        j.m->watch = NULL;
    }
    if (!rc)
        rc = fit_all(&j);
    report->n_tok = out->n_tok = (uint32_t)j.n_seen;
    arena_free(&a);
    if (rc)
        scales_free(out);
    return rc;
}
