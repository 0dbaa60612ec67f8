/* weights.c - puts a model's weights on a device, each matrix in the format that the precision picked. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/model.h"

struct cursor { const struct weight_source *src; enum role role; uint32_t layer, k; bool is_f16; };

/* A weight that f16 cannot hold would become infinite without a word. */
static int fits_f16(const struct cursor *c, uint32_t row, const float *x, struct err *e)
{
    for (uint32_t i = 0; i < c->k; i++)
        if (fabsf(x[i]) >= 65520)
            return err_set(e, EXIT_USAGE, "%s: layer %u, %s, row %u, column %u: %g; f16 ends at 65504, choose a "
                           "precision such as bf16 or int8", c->src->about, c->layer, role_name[c->role], row, i,
                           (double)x[i]);
    return 0;
}

static int next_row(void *self, uint32_t row, float *out, struct err *e)
{
    const struct cursor *c = self;

    if (c->src->row(c->src->self, c->role, c->layer, row, out, e))
        return -1;
    return c->is_f16 ? fits_f16(c, row, out, e) : 0;
}

static int put_weight(struct model *m, struct weight *w, const struct weight_source *src,
                      struct wfmt fmt, enum role role, uint32_t layer, uint32_t n, uint32_t k,
                      struct err *e)
{
    struct cursor c = { src, role, layer, k, fmt_stored(fmt.fmt) == FMT_F16 };

    if (dev_weight(m->dev, w, fmt, n, k, (struct row_source){ next_row, &c }, e))
        return -1;
    m->weight_bytes += w->bytes;
    return 0;
}

static uint64_t gain_bytes(const struct model *m, enum gain which)
{
    return (uint64_t)gain_length(&m->shape, which) * m->dev->ops->act_bytes;
}

static int put_gain(struct model *m, void **act, const struct weight_source *src, uint32_t layer,
                    enum gain which, struct err *e)
{
    uint32_t n = gain_length(&m->shape, which);
    float *x;
    int rc = -1;

    *act = dev_alloc(m->dev, gain_bytes(m, which), "norm gains", e);
    if (!*act)
        return -1;
    m->weight_bytes += gain_bytes(m, which);
    if (!m->dev->ops->put)
        return 0;
    x = malloc(n * sizeof *x);
    if (!x)
        err_set(e, EXIT_RUN_FAILED, "out of memory");
    else
        rc = src->gain(src->self, layer, which, x, e);
    if (!rc)
        m->dev->ops->put(m->dev, *act, x, n);
    free(x);
    return rc;
}

static bool has_gain(const struct model_shape *s, enum gain which)
{
    return which == GAIN_ATTENTION || which == GAIN_FFN || (which == GAIN_QKV_BIAS && s->qkv_bias) ||
           ((which == GAIN_Q || which == GAIN_K) && s->qk_norm);
}

static int put_layer(struct model *m, uint32_t l, const struct wfmt *fmt,
                     const struct weight_source *src, struct err *e)
{
    const struct model_shape *s = &m->shape;
    struct layer *y = &m->layer[l];
    uint32_t q = s->n_head * s->head_dim, kv = s->n_kv_head * s->head_dim;

    if (put_weight(m, &y->qkv, src, fmt[ROLE_QKV], ROLE_QKV, l, q + 2 * kv, s->dim, e) ||
        put_weight(m, &y->o, src, fmt[ROLE_O], ROLE_O, l, s->dim, q, e) ||
        put_weight(m, &y->gate_up, src, fmt[ROLE_GATE_UP], ROLE_GATE_UP, l, 2 * s->ffn, s->dim, e) ||
        put_weight(m, &y->down, src, fmt[ROLE_DOWN], ROLE_DOWN, l, s->dim, s->ffn, e))
        return -1;
    for (int g = 0; g < GAIN_N; g++)
        if (has_gain(s, (enum gain)g) && put_gain(m, &y->gain[g], src, l, (enum gain)g, e))
            return -1;
    y->rope = (struct rope){ .n_q = s->n_head, .half = s->head_dim / 2, .bias = y->gain[GAIN_QKV_BIAS],
                             .q_gain = y->gain[GAIN_Q], .k_gain = y->gain[GAIN_K], .eps = s->norm_eps };
    shape_frequencies(s, y->rope.freq);
    return 0;
}

uint64_t model_weight_bytes(const struct model_shape *s, const struct wfmt *fmt, uint32_t act_bytes)
{
    uint32_t q = s->n_head * s->head_dim, kv = s->n_kv_head * s->head_dim;
    uint64_t sum = wfmt_bytes(fmt[ROLE_HEAD], s->vocab, s->dim) +
                   (s->tied ? 0 : wfmt_bytes(fmt[ROLE_EMBED], s->vocab, s->dim)) +
                   (uint64_t)gain_length(s, GAIN_FINAL) * act_bytes;

    for (uint32_t l = 0; l < s->n_layer; l++, fmt += ROLE_N) {
        sum += wfmt_bytes(fmt[ROLE_QKV], q + 2 * kv, s->dim) + wfmt_bytes(fmt[ROLE_O], s->dim, q) +
               wfmt_bytes(fmt[ROLE_GATE_UP], 2 * s->ffn, s->dim) + wfmt_bytes(fmt[ROLE_DOWN], s->dim, s->ffn);
        for (int g = 0; g < GAIN_N; g++)
            sum += has_gain(s, (enum gain)g) ? (uint64_t)gain_length(s, (enum gain)g) * act_bytes : 0;
    }
    return sum;
}

/* n_same: runs of layers with equal formats, which a device that only charges time visits once. */
static void mark_same(struct model *m, const struct wfmt *fmt)
{
    for (uint32_t l = m->shape.n_layer; l-- > 0;) {
        bool same = l + 1 < m->shape.n_layer;

        for (int r = 0; same && r < ROLE_N; r++)
            same = fmt[l * ROLE_N + (uint32_t)r].fmt == fmt[(l + 1) * ROLE_N + (uint32_t)r].fmt &&
                   fmt[l * ROLE_N + (uint32_t)r].group == fmt[(l + 1) * ROLE_N + (uint32_t)r].group;
        m->layer[l].n_same = same ? m->layer[l + 1].n_same + 1 : 1;
    }
}

int model_open(struct model *m, struct device *d, const struct model_shape *s,
               const struct wfmt *fmt, const struct weight_source *src, struct err *e)
{
    memset(m, 0, sizeof *m);
    m->shape = *s;
    m->dev = d;
    m->is_synthetic = src->is_synthetic;
    memcpy(m->about, src->about, sizeof m->about);
    m->layer = ARENA_NEW(&m->arena, struct layer, s->n_layer);
    if (!m->layer)
        return err_set(e, EXIT_RUN_FAILED, "out of memory for %u layers", s->n_layer);
    if (put_weight(m, &m->head, src, fmt[ROLE_HEAD], ROLE_HEAD, 0, s->vocab, s->dim, e))
        goto fail;
    if (!s->tied && put_weight(m, &m->embed, src, fmt[ROLE_EMBED], ROLE_EMBED, 0, s->vocab, s->dim, e))
        goto fail;
    for (uint32_t l = 0; l < s->n_layer; l++)
        if (put_layer(m, l, fmt + (size_t)l * ROLE_N, src, e))
            goto fail;
    if (put_gain(m, &m->norm_final, src, 0, GAIN_FINAL, e))
        goto fail;
    mark_same(m, fmt);
    return 0;
fail:
    model_close(m);
    return -1;
}

static void free_rooms(struct model *m);

int model_room(struct model *m, uint32_t max_tok, uint32_t max_row, struct err *e)
{
    const struct model_shape *s = &m->shape;
    uint64_t qkv = (uint64_t)(s->n_head + 2 * s->n_kv_head) * s->head_dim;
    uint64_t at = m->dev->ops->act_bytes;

    if (max_tok <= m->max_tok && max_row <= m->max_row)
        return 0;
    free_rooms(m);
    m->max_tok = max_tok;
    m->max_row = max_row;
    m->x = dev_alloc(m->dev, at * max_tok * s->dim, "activations", e);
    m->y = dev_alloc(m->dev, at * max_tok * s->dim, "activations", e);
    m->qkv = dev_alloc(m->dev, at * max_tok * qkv, "activations", e);
    m->att = dev_alloc(m->dev, at * max_tok * s->n_head * s->head_dim, "activations", e);
    m->gate_up = dev_alloc(m->dev, at * max_tok * 2 * s->ffn, "activations", e);
    m->ffn = dev_alloc(m->dev, at * max_tok * s->ffn, "activations", e);
    m->picked = dev_alloc(m->dev, at * max_row * s->dim, "activations", e);
    m->logits = dev_alloc(m->dev, at * max_row * s->vocab, "logits", e);
    if (!m->x || !m->y || !m->qkv || !m->att || !m->gate_up || !m->ffn || !m->picked || !m->logits) {
        free_rooms(m);
        return -1;
    }
    return 0;
}

static void free_rooms(struct model *m)
{
    const struct model_shape *s = &m->shape;
    uint64_t qkv = (uint64_t)(s->n_head + 2 * s->n_kv_head) * s->head_dim;
    uint64_t at = m->dev->ops->act_bytes, t = m->max_tok, r = m->max_row;

    dev_release(m->dev, m->x, at * t * s->dim);
    dev_release(m->dev, m->y, at * t * s->dim);
    dev_release(m->dev, m->qkv, at * t * qkv);
    dev_release(m->dev, m->att, at * t * s->n_head * s->head_dim);
    dev_release(m->dev, m->gate_up, at * t * 2 * s->ffn);
    dev_release(m->dev, m->ffn, at * t * s->ffn);
    dev_release(m->dev, m->picked, at * r * s->dim);
    dev_release(m->dev, m->logits, at * r * s->vocab);
    m->x = m->y = m->qkv = m->att = m->gate_up = m->ffn = m->picked = m->logits = NULL;
    m->max_tok = m->max_row = 0;
}

void model_close(struct model *m)
{
    if (!m->dev)
        return;
    free_rooms(m);
    for (uint32_t l = 0; m->layer && l < m->shape.n_layer; l++) {
        struct layer *y = &m->layer[l];

        dev_weight_free(m->dev, &y->qkv);
        dev_weight_free(m->dev, &y->o);
        dev_weight_free(m->dev, &y->gate_up);
        dev_weight_free(m->dev, &y->down);
        for (int g = 0; g < GAIN_N; g++)
            dev_release(m->dev, y->gain[g], gain_bytes(m, (enum gain)g));
    }
    dev_weight_free(m->dev, &m->head);
    dev_weight_free(m->dev, &m->embed);
    dev_release(m->dev, m->norm_final, gain_bytes(m, GAIN_FINAL));
    arena_free(&m->arena);
    memset(m, 0, sizeof *m);
}
