#include "harness/measure.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/num.h"
#include "harness/made_batch.h"

enum { COPIES_MAX = 64, PUT_CHUNK = 1 << 16, PICK_MAX = 64 };

static uint32_t max_width(const struct model_shape *s)
{
    uint32_t qkv = (s->n_head + 2 * s->n_kv_head) * s->head_dim;

    return max_u32(max_u32(s->dim, 2 * s->ffn), qkv);
}

/* Normal numbers of size one, as activations are. */
static int fill(struct measure *m, void *act, uint64_t n, struct err *e)
{
    float *x = malloc(PUT_CHUNK * sizeof *x);
    struct rng r;

    if (!x)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    rng_seed(&r, m->rng++);
    for (uint32_t i = 0; i < PUT_CHUNK; i++)
        x[i] = (float)rng_normal(&r);
    for (uint64_t at = 0; at < n; at += PUT_CHUNK)
        m->d->ops->put(m->d, (char *)act + at * m->d->ops->act_bytes, x,
                       n - at < PUT_CHUNK ? (size_t)(n - at) : PUT_CHUNK);
    free(x);
    return 0;
}

int measure_open(struct measure *m, struct device *d, const struct model_shape *s, uint32_t max_tok,
                 struct err *e)
{
    /* pick reads rows of logits: they are fewer, but wider */
    uint64_t n = (uint64_t)max_tok * max_width(s), logits = (uint64_t)min_u32(max_tok, 64) * s->vocab;

    memset(m, 0, sizeof *m);
    if (!d->ops->put)
        return err_set(e, EXIT_USAGE, "device %s does not compute: there is nothing to measure", d->ops->name);
    n = n > logits ? n : logits;
    m->d = d;
    m->shape = *s;
    m->exec = d->exec;
    m->max_tok = max_tok;
    m->rounds = 7;
    m->cold_bytes = (uint64_t)64 << 20;
    m->act_bytes = n * d->ops->act_bytes;
    m->x = dev_alloc(d, m->act_bytes, "operands", e);
    m->y = dev_alloc(d, m->act_bytes, "results", e);
    m->delta = dev_alloc(d, m->act_bytes, "operands", e);
    m->gain = dev_alloc(d, (uint64_t)max_width(s) * d->ops->act_bytes, "gains", e);
    m->tok = malloc(max_tok * sizeof *m->tok);
    m->count = malloc((max_tok + 1) * sizeof *m->count);
    m->zero = calloc(max_tok + 1, sizeof *m->zero);
    if (!m->x || !m->y || !m->delta || !m->gain || !m->tok || !m->count || !m->zero)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    for (uint32_t i = 0; i <= max_tok; i++)
        m->count[i] = i;
    for (uint32_t i = 0; i < max_tok; i++)
        m->tok[i] = (uint32_t)(hash64(1, i) % s->vocab);
    m->rope = (struct rope){ .n_q = s->n_head, .half = s->head_dim / 2, .eps = s->norm_eps };
    shape_frequencies(s, m->rope.freq);
    return fill(m, m->x, n, e) || fill(m, m->delta, n, e) || fill(m, m->gain, max_width(s), e) ? -1 : 0;
}

static void free_weights(struct measure *m)
{
    while (m->n_weight)
        dev_weight_free(m->d, &m->weight[--m->n_weight]);
    free(m->weight);
    m->weight = NULL;
}

void measure_close(struct measure *m)
{
    if (!m->d)
        return;
    free_weights(m);
    dev_kv_close(m->d, &m->kv);
    dev_release(m->d, m->x, m->act_bytes);
    dev_release(m->d, m->y, m->act_bytes);
    dev_release(m->d, m->delta, m->act_bytes);
    dev_release(m->d, m->gain, (uint64_t)max_width(&m->shape) * m->d->ops->act_bytes);
    free(m->tok);
    free(m->count);
    free(m->zero);
    memset(m, 0, sizeof *m);
}

static int any_row(void *self, uint32_t row, float *out, struct err *e)
{
    const uint32_t *k = self;
    uint64_t u = mix64(row + 1);

    (void)e;
    for (uint32_t i = 0; i < *k; i++) {
        u = u * 6364136223846793005u + 1442695040888963407u;
        out[i] = ((float)(u >> 40) * 0x1p-24f - 0.5f) / 8;
    }
    return 0;
}

int measure_weight(struct measure *m, struct wfmt f, uint32_t n, uint32_t k, struct err *e)
{
    uint64_t bytes = wfmt_bytes(f, n, k), copies = bytes ? m->cold_bytes / bytes + 1 : 1;
    struct row_source src = { any_row, &k };

    free_weights(m);
    copies = copies > COPIES_MAX ? COPIES_MAX : copies;
    m->weight = calloc(copies, sizeof *m->weight);
    if (!m->weight)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    for (; m->n_weight < copies; m->n_weight++)
        if (dev_weight(m->d, m->weight + m->n_weight, f, n, k, src, e))
            return -1;
    return 0;
}

int measure_pool(struct measure *m, enum fmt fmt, uint32_t n_slot, struct err *e)
{
    uint32_t layers = min_u32(m->shape.n_layer, 4);     /* layers rotate as matrices do */

    dev_kv_close(m->d, &m->kv);
    m->pool_full = false;
    if (dev_kv_open(m->d, &m->kv, layers, m->shape.n_kv_head, m->shape.head_dim, fmt, n_slot, e))
        return -1;
    if (m->kv.n_slot < n_slot / KV_TILE * KV_TILE)
        return err_set(e, EXIT_RUN_FAILED, "device %s holds %u cached tokens here, %u are needed", m->d->ops->name,
                       m->kv.n_slot, n_slot);
    return 0;
}

/* ---- one operation, again and again ---- */

struct call {
    struct measure *m;
    enum op op;
    uint32_t rows;
    const struct batch *b;
};

static void one_call(void *arg, uint32_t i)
{
    struct call *c = arg;
    struct measure *m = c->m;
    const struct model_shape *s = &m->shape;
    const struct weight *w = m->n_weight ? m->weight + i % m->n_weight : NULL;

    switch (c->op) {
    case OP_MATMUL: dev_matmul(m->d, m->y, m->x, w, c->rows); break;
    case OP_EMBED: dev_embed(m->d, m->y, w, m->tok, c->rows); break;
    case OP_NORM: dev_norm(m->d, m->y, m->x, m->delta, m->gain, c->rows, s->dim, s->norm_eps); break;
    case OP_SWIGLU: dev_swiglu(m->d, m->y, m->x, c->rows, s->ffn); break;
    case OP_GATHER: dev_gather(m->d, m->y, m->x, m->count, c->rows, s->dim); break;
    case OP_PICK: dev_pick(m->d, m->picked, m->x, c->rows, s->vocab); break;
    case OP_ROPE_STORE: dev_rope_store(m->d, m->x, &m->kv, i % m->kv.n_layer, c->b, &m->rope); break;
    default: dev_attend(m->d, m->y, m->x, &m->kv, i % m->kv.n_layer, c->b, s->n_head); break;
    }
}

/* Calls in one recording: enough for a readable time, and one for every copy of what rotates. */
static uint32_t repeats(const struct measure *m, double ns)
{
    double n = 1e6 / (ns > 1 ? ns : 1);

    return max_u32(m->n_weight, n > 200 ? 200 : n < 1 ? 1 : (uint32_t)n);
}

static double timed(struct call *c, struct err *e)
{
    double first = dev_timed(c->m->d, one_call, c, 1, 2, e);

    return first < 0 ? -1 : dev_timed(c->m->d, one_call, c, repeats(c->m, first), c->m->rounds, e);
}

double measure_matmul(struct measure *m, uint32_t rows, struct err *e)
{
    struct call c = { m, OP_MATMUL, rows, NULL };

    return timed(&c, e);
}

/* Inside a step, so that tokens and row numbers lie on the device already. */
double measure_rows(struct measure *m, enum op op, uint32_t rows, struct err *e)
{
    struct batch b = { .n_tok = rows, .n_seq = rows, .n_row = rows, .tok = m->tok, .pos = m->zero, .slot = m->zero,
                       .seq_start = m->count, .kv_len = m->zero, .block_tokens = m->zero, .table_start = m->zero,
                       .table = m->zero, .row = m->count };
    struct call c = { m, op, rows, &b };
    double ns;

    if (op == OP_PICK && rows > PICK_MAX)
        return err_set(e, EXIT_RUN_FAILED, "measure: pick of %u rows, at most %d", rows, PICK_MAX);
    dev_begin(m->d, &b);
    ns = timed(&c, e);
    return dev_end(m->d, e) ? -1 : ns;
}

/* ---- batches ---- */

/* Blocks lie scattered; block 0: one piece for each sequence, as long as the longest needs. */
static int batch_for(struct made_batch *x, struct measure_attend a, const struct measure *m, struct err *e)
{
    struct made_conf c = { .n_seq = a.n_seq, .prefix = a.prefix, .rows = a.rows, .lens = a.lens, .block = a.block,
                           .n_yield = 1, .vocab = m->shape.vocab };
    uint32_t longest = a.prefix;

    for (uint32_t s = 0; a.lens && s < a.n_seq; s++)
        longest = max_u32(longest, a.lens[s]);
    if (!a.block)
        c.block = c.own = ceil_div_u32(longest + a.rows, KV_TILE) * KV_TILE;
    return made_batch(x, &c, m->kv.n_slot, e);
}

/* Random K and V everywhere: as many rows as fit are stored at a time; each time the same numbers, rotated on. */
static int fill_pool(struct measure *m, struct err *e)
{
    for (uint32_t at = 0; at < m->kv.n_slot; at += m->max_tok) {
        struct measure_attend a = { .n_seq = 1, .prefix = at, .rows = min_u32(m->max_tok, m->kv.n_slot - at) };
        struct made_batch x;
        int rc = batch_for(&x, a, m, e);

        if (!rc) {
            dev_begin(m->d, &x.b);
            for (uint32_t l = 0; l < m->kv.n_layer; l++)
                dev_rope_store(m->d, m->x, &m->kv, l, &x.b, &m->rope);
            rc = dev_end(m->d, e);
        }
        made_batch_free(&x);
        if (rc)
            return -1;
    }
    return fill(m, m->x, (uint64_t)m->max_tok * max_width(&m->shape), e);
}

static double over_batch(struct measure *m, enum op op, struct measure_attend a, struct op_cost *cost,
                         struct err *e)
{
    struct call c = { m, op, a.n_seq * a.rows, NULL };
    enum op is = a.rows > 1 ? OP_ATTEND_PREFILL : OP_ATTEND_DECODE;
    struct op_total before, after;
    double ns = -1;
    struct made_batch x;

    if (!batch_for(&x, a, m, e)) {
        c.b = &x.b;
        dev_begin(m->d, &x.b);
        before = m->d->total[is];
        one_call(&c, 0);
        after = m->d->total[is];
        if (!dev_end(m->d, e)) {
            dev_begin(m->d, &x.b);
            ns = timed(&c, e);
            if (dev_end(m->d, e))
                ns = -1;
        }
        if (cost)
            *cost = (struct op_cost){ .fmt = m->kv.fmt, .m = a.n_seq * a.rows,
                                      .n = m->shape.n_head * m->shape.head_dim,
                                      .k = m->shape.n_kv_head * m->shape.head_dim,
                                      .flops = after.flops - before.flops, .bytes = after.bytes - before.bytes };
    }
    made_batch_free(&x);
    return ns;
}

double measure_rope(struct measure *m, uint32_t rows, struct err *e)
{
    /* x is rotated in place, again and again: its size stays */
    return over_batch(m, OP_ROPE_STORE, (struct measure_attend){ .n_seq = 1, .rows = rows }, NULL, e);
}

double measure_attend(struct measure *m, struct measure_attend a, struct op_cost *cost, struct err *e)
{
    uint64_t rows = (uint64_t)a.n_seq * a.rows;

    if (!m->kv.data || rows > m->max_tok)
        return err_set(e, EXIT_RUN_FAILED, "measure: a batch of %llu rows, room for %u", (unsigned long long)rows,
                       m->max_tok);
    if (!m->pool_full && fill_pool(m, e))
        return -1;
    m->pool_full = true;
    return over_batch(m, OP_ATTEND_DECODE, a, cost, e);
}

double measure_launch(struct measure *m, struct err *e)
{
    enum { N = 500 };
    struct call c = { m, OP_NORM, 1, NULL };
    double own = timed(&c, e), best = 0;

    for (int round = 0; round < 5 && own >= 0; round++) {
        uint64_t from = dev_now(m->d);
        double ns;

        for (uint32_t i = 0; i < N; i++)
            one_call(&c, i);
        if (dev_end(m->d, e))
            return -1;
        ns = (double)(dev_now(m->d) - from) / N;
        best = round && best < ns ? best : ns;
    }
    return own < 0 ? -1 : best > own ? best - own : 0;
}
