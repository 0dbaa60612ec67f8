/* device_ref.c - the reference device: every operation as its definition, in plain loops.
 *
 * Slow on purpose. Weights are decoded to F32 once, so a format shows only through its rounding
 * of weights; sums are double; K and V are rounded as the pool's format says (F32 too, for parity
 * with other programs). KV pool: [layer][slot][K, V][head] rows of kv_row_bytes, a scale last. tests/test_kernels.c holds the
 * fast kernels against this. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/device.h"

struct ref { uint64_t t0_ns, skipped_ns; struct err err; /* sticky */ };

static uint64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int ref_open(struct device *d, const struct device_conf *c, struct err *e)
{
    struct ref *r = calloc(1, sizeof *r);

    (void)c;
    if (!r)
        return err_set(e, EXIT_RUN_FAILED, "ref: no memory");
    r->t0_ns = clock_ns();
    d->self = r;
    strcpy(d->label, "ref (plain F32 loops, 1 thread)");
    return 0;
}

static void ref_close(struct device *d) { free(d->self); }

static uint64_t ref_now(struct device *d)
{
    const struct ref *r = d->self;

    return clock_ns() - r->t0_ns + r->skipped_ns;
}

static void ref_idle(struct device *d, uint64_t until_ns)
{
    struct ref *r = d->self;
    uint64_t now = ref_now(d), gap = until_ns > now ? until_ns - now : 0;
    struct timespec t = { (time_t)(gap / 1000000000u), (long)(gap % 1000000000u) };

    if (d->pace == PACE_WALL)
        nanosleep(&t, NULL);
    else
        r->skipped_ns += gap;
}

static void *ref_alloc(struct device *d, uint64_t bytes)
{
    (void)d;
    return bytes < SIZE_MAX / 2 ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
}

static void ref_release(struct device *d, void *p)
{
    (void)d;
    free(p);
}

static int ref_weight(struct device *d, struct weight *w, struct row_source src, struct err *e)
{
    size_t row = (size_t)w->k * sizeof(float);
    float *all = calloc(w->n, row), *x = malloc(row);
    void *q = malloc(row);
    uint16_t *scale = malloc(row);
    int rc = all && x && q && scale ? 0 : err_set(e, EXIT_RUN_FAILED, "ref: no memory for weights");

    (void)d;
    for (uint32_t i = 0; i < w->n && !rc; i++) {
        rc = src.get(src.self, i, x, e);
        if (!rc) {
            row_encode(w->fmt, x, w->k, q, scale);
            row_decode(w->fmt, q, scale, w->k, all + (size_t)i * w->k);
        }
    }
    free(x);
    free(q);
    free(scale);
    if (rc)
        free(all);
    else
        w->data = all;
    return rc;
}

static void ref_weight_free(struct device *d, struct weight *w)
{
    (void)d;
    free(w->data);
}

static void ref_put(struct device *d, void *act, const float *x, size_t n)
{
    (void)d;
    memcpy(act, x, n * sizeof *x);
}

static void ref_get(struct device *d, float *x, const void *act, size_t n)
{
    (void)d;
    memcpy(x, act, n * sizeof *x);
}

static int ref_end(struct device *d, struct err *e)
{
    const struct ref *r = d->self;

    return r->err.code ? err_set(e, r->err.code, "%s", r->err.text) : 0;
}

static void ref_embed(struct device *d, void *x, const struct weight *w, const uint32_t *tok,
                      uint32_t n)
{
    (void)d;
    for (uint32_t i = 0; i < n; i++)
        memcpy((float *)x + (size_t)i * w->k, (float *)w->data + (size_t)tok[i] * w->k,
               w->k * sizeof(float));
}

static void ref_norm(struct device *d, void *y_, void *x_, const void *delta_, const void *gain_,
                     uint32_t n, uint32_t dim, float eps)
{
    const float *delta = delta_, *gain = gain_;

    (void)d;
    for (uint32_t r = 0; r < n; r++) {
        float *x = (float *)x_ + (size_t)r * dim, *y = (float *)y_ + (size_t)r * dim;
        double sum = 0, inv;

        for (uint32_t i = 0; i < dim; i++) {
            if (delta)
                x[i] += delta[(size_t)r * dim + i];
            sum += (double)x[i] * x[i];
        }
        inv = 1 / sqrt(sum / dim + (double)eps);
        for (uint32_t i = 0; i < dim; i++)
            y[i] = (float)(x[i] * inv * gain[i]);
    }
}

static void ref_matmul(struct device *d, void *y, const void *x, const struct weight *w, uint32_t m)
{
    (void)d;
    for (uint32_t r = 0; r < m; r++) {
        for (uint32_t c = 0; c < w->n; c++) {
            const float *a = (const float *)x + (size_t)r * w->k;
            const float *b = (const float *)w->data + (size_t)c * w->k;
            double sum = 0;

            for (uint32_t i = 0; i < w->k; i++)
                sum += (double)a[i] * b[i];
            ((float *)y)[(size_t)r * w->n + c] = (float)sum;
        }
    }
}

/* The row of K (which 0) or V (which 1) of a slot and head. */
static void *kv_at(const struct kv_pool *kv, uint32_t layer, uint32_t slot, uint32_t which,
                   uint32_t head)
{
    size_t i = (((size_t)layer * kv->n_slot + slot) * 2 + which) * kv->n_head + head;

    return (char *)kv->data + i * kv_row_bytes(kv->fmt, kv->head_dim);
}

enum { HD_MAX = 2 * ROPE_MAX };

static void kv_put(const struct kv_pool *kv, void *at, const float *x)
{
    uint32_t hd = kv->head_dim;
    uint8_t q[HD_MAX * 4];
    uint16_t scale = 0;
    size_t n = kv_row_bytes(kv->fmt, hd), with_scale = kv->fmt == FMT_INT8 || kv->fmt == FMT_FP8;

    row_encode((struct wfmt){ .fmt = kv->fmt }, x, hd, q, &scale);
    memcpy(at, q, n - 2 * with_scale);
    if (with_scale)
        memcpy((char *)at + hd, &scale, 2);
}

static void kv_get(const struct kv_pool *kv, const void *at, float *x)
{
    uint16_t scale = 0;
    float row[HD_MAX];                          /* aligned for any format */

    memcpy(row, at, kv_row_bytes(kv->fmt, kv->head_dim));
    memcpy(&scale, (const char *)at + kv->head_dim, 2);
    row_decode((struct wfmt){ .fmt = kv->fmt }, row, &scale, kv->head_dim, x);
}

static void rotate(float *x, const struct rope *r, uint32_t pos)
{
    for (uint32_t i = 0; i < r->half; i++) {
        double angle = pos * r->freq[i], c = cos(angle), s = sin(angle);
        double a = x[i], b = x[i + r->half];

        x[i] = (float)(a * c - b * s);
        x[i + r->half] = (float)(b * c + a * s);
    }
}

static void head_norm(float *x, const float *gain, uint32_t hd, float eps)
{
    double sum = 0;

    for (uint32_t i = 0; i < hd; i++)
        sum += (double)x[i] * x[i];
    for (uint32_t i = 0; i < hd; i++)
        x[i] = (float)(x[i] / sqrt(sum / hd + (double)eps) * gain[i]);
}

static void ref_rope_store(struct device *d, void *qkv, struct kv_pool *kv, uint32_t layer,
                           const struct batch *b, const struct rope *r)
{
    uint32_t hd = kv->head_dim, width = (r->n_q + 2 * kv->n_head) * hd;
    const float *bias = r->bias;

    (void)d;
    for (uint32_t t = 0; t < b->n_tok; t++) {
        float *row = (float *)qkv + (size_t)t * width, *k = row + (size_t)r->n_q * hd;

        for (uint32_t i = 0; bias && i < width; i++)
            row[i] += bias[i];
        for (uint32_t h = 0; h < r->n_q + kv->n_head; h++) {
            if (r->q_gain)
                head_norm(row + (size_t)h * hd, h < r->n_q ? r->q_gain : r->k_gain, hd, r->eps);
            rotate(row + (size_t)h * hd, r, b->pos[t]);
        }
        for (uint32_t h = 0; h < kv->n_head; h++) {
            kv_put(kv, kv_at(kv, layer, b->slot[t], 0, h), k + (size_t)h * hd);
            kv_put(kv, kv_at(kv, layer, b->slot[t], 1, h), k + (size_t)(kv->n_head + h) * hd);
        }
    }
}

/* y = softmax(q k^T / sqrt(hd)) v over positions 0..last of sequence s. p: scratch [last + 1]. */
static void attend_one(float *y, const float *q, const struct kv_pool *kv, uint32_t layer,
                       uint32_t head, const struct batch *b, uint32_t s, uint32_t last, double *p)
{
    uint32_t hd = kv->head_dim;
    double max = -INFINITY, sum = 0, acc[HD_MAX] = { 0 };
    float row[HD_MAX];

    for (uint32_t j = 0; j <= last; j++) {
        kv_get(kv, kv_at(kv, layer, batch_slot(b, s, j), 0, head), row);
        p[j] = 0;
        for (uint32_t i = 0; i < hd; i++)
            p[j] += (double)q[i] * row[i];
        p[j] /= sqrt(hd);
        max = fmax(max, p[j]);
    }
    for (uint32_t j = 0; j <= last; j++)
        sum += p[j] = exp(p[j] - max);
    for (uint32_t j = 0; j <= last; j++) {
        kv_get(kv, kv_at(kv, layer, batch_slot(b, s, j), 1, head), row);
        for (uint32_t i = 0; i < hd; i++)
            acc[i] += p[j] * row[i];
    }
    for (uint32_t i = 0; i < hd; i++)
        y[i] = (float)(acc[i] / sum);
}

static void ref_attend(struct device *d, void *y, const void *qkv, const struct kv_pool *kv,
                       uint32_t layer, const struct batch *b, uint32_t n_q, bool prefill)
{
    uint32_t hd = kv->head_dim, n_rep = n_q / kv->n_head;
    double *p = malloc(((size_t)kv->n_slot + 1) * sizeof *p);
    struct ref *r = d->self;

    if (!p)
        err_set(&r->err, EXIT_RUN_FAILED, "ref: no memory for scores");
    for (uint32_t s = 0; s < b->n_seq && p; s++) {
        if ((b->seq_start[s + 1] - b->seq_start[s] > 1) != prefill)
            continue;
        for (uint32_t t = b->seq_start[s]; t < b->seq_start[s + 1]; t++)
            for (uint32_t h = 0; h < n_q; h++)
                attend_one((float *)y + ((size_t)t * n_q + h) * hd,
                           (const float *)qkv + ((size_t)t * (n_q + 2 * kv->n_head) + h) * hd, kv,
                           layer, h / n_rep, b, s, b->pos[t], p);
    }
    free(p);
}

static void ref_swiglu(struct device *d, void *y, const void *gate_up, uint32_t n, uint32_t f)
{
    (void)d;
    for (uint32_t r = 0; r < n; r++) {
        const float *g = (const float *)gate_up + (size_t)r * 2 * f, *u = g + f;

        for (uint32_t i = 0; i < f; i++)
            ((float *)y)[(size_t)r * f + i] = (float)(g[i] / (1 + exp(-(double)g[i])) * u[i]);
    }
}

static void ref_gather(struct device *d, void *y, const void *x, const uint32_t *row,
                       uint32_t n_row, uint32_t dim)
{
    (void)d;
    for (uint32_t i = 0; i < n_row; i++)
        memcpy((float *)y + (size_t)i * dim, (const float *)x + (size_t)row[i] * dim,
               dim * sizeof(float));
}

static void ref_pick(struct device *d, uint32_t *tok, const void *logits, uint32_t n_row,
                     uint32_t vocab)
{
    (void)d;
    for (uint32_t r = 0; r < n_row; r++) {
        const float *x = (const float *)logits + (size_t)r * vocab;

        tok[r] = 0;
        for (uint32_t i = 0; i < vocab && tok[r] != PICK_BAD_ROW; i++)
            tok[r] = !isfinite(x[i]) ? PICK_BAD_ROW : x[i] > x[tok[r]] ? i : tok[r];
    }
}

static void ref_copy(struct device *d, struct kv_pool *kv, const uint32_t *src, const uint32_t *dst,
                     const uint32_t *n_tok, uint32_t n)
{
    size_t token = (size_t)2 * kv->n_head * kv_row_bytes(kv->fmt, kv->head_dim);

    (void)d;
    for (uint32_t layer = 0; layer < kv->n_layer; layer++)
        for (uint32_t i = 0; i < n; i++)
            memcpy(kv_at(kv, layer, dst[i], 0, 0), kv_at(kv, layer, src[i], 0, 0),
                   n_tok[i] * token);
}

static void ref_swap(struct device *d, const struct kv_pool *from, struct kv_pool *to,
                     const uint32_t *src, const uint32_t *dst, const uint32_t *n_tok, uint32_t n)
{
    size_t token = (size_t)2 * from->n_head * kv_row_bytes(from->fmt, from->head_dim);

    (void)d;
    for (uint32_t layer = 0; layer < from->n_layer; layer++)
        for (uint32_t i = 0; i < n; i++)
            memcpy(kv_at(to, layer, dst[i], 0, 0), kv_at(from, layer, src[i], 0, 0),
                   n_tok[i] * token);
}

const struct device_ops device_ref = {
    .abi = DEVICE_ABI, .name = "ref", .about = "plain F32 loops: the definition, for tests",
    .computes = true, .act_bytes = sizeof(float), .weight_fmts = FMT_BIT(FMT_N) - 1,
    .kv_fmts = FMT_BIT(FMT_F32) | FMT_BIT(FMT_F16) | FMT_BIT(FMT_FP8) | FMT_BIT(FMT_INT8),
    .open = ref_open, .close = ref_close, .now = ref_now, .idle = ref_idle, .alloc = ref_alloc,
    .release = ref_release, .weight = ref_weight, .weight_free = ref_weight_free, .put = ref_put,
    .get = ref_get, .end = ref_end, .embed = ref_embed, .norm = ref_norm, .matmul = ref_matmul,
    .rope_store = ref_rope_store, .attend = ref_attend, .swiglu = ref_swiglu, .gather = ref_gather,
    .pick = ref_pick, .copy = ref_copy, .swap = ref_swap
};
