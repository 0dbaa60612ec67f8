/* device.c - the seam: counts FLOPs and bytes of each operation from its shapes, then computes.
 *
 * The count is the least that the operation must do: each weight, activation and cached K, V read or
 * written once. sim turns it into time; other devices get roofline figures from it for free. */
#include "kernels/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/params.h"

const char *const op_name[OP_N] = {
    "embed", "norm", "matmul", "rope_store", "attend_prefill", "attend_decode", "swiglu", "gather",
    "pick", "copy", "swap", "all_reduce"
};
const char *const dev_roof_name[DEV_ROOF_N] = {
    "copy", "read", "large F16 product", "instruction loop", "launch"
};
const char *const pace_name[3] = { "skip", "wall", "virtual" };

const struct device_ops *device_find(const char *name, struct err *e)
{
    const char *names[32];
    size_t n = 0;

    for (; device_registry[n] && n < 32; n++) {
        names[n] = device_registry[n]->name;
        if (!strcmp(names[n], name))
            return device_registry[n];
    }
    const char *near = nearest_name(name, names, n);

    err_set(e, EXIT_USAGE, "unknown device '%s'; %s%s%s'servelab list devices' shows all", name,
            near ? "did you mean '" : "", near ? near : "", near ? "'? " : "");
    return NULL;
}

int dev_open(struct device *d, const struct device_ops *ops, const struct device_conf *c,
             struct err *e)
{
    memset(d, 0, sizeof *d);
    if (ops->abi != DEVICE_ABI)
        return err_set(e, EXIT_RUN_FAILED, "device '%s' was built for seam version %u, this is %d: "
                       "rebuild it", ops->name, ops->abi, DEVICE_ABI);
    d->ops = ops;
    d->times = 1;
    d->pace = c->pace;
    d->exec.fused = true;
    return ops->open(d, c, e);
}

void dev_close(struct device *d)
{
    if (d->ops)
        d->ops->close(d);
    memset(d, 0, sizeof *d);
}

uint64_t dev_now(struct device *d) { return d->ops->now(d); }
void dev_idle(struct device *d, uint64_t until_ns) { d->ops->idle(d, until_ns); }

int dev_exec(struct device *d, const struct exec *x, struct err *e)
{
    if (d->ops->exec ? d->ops->exec(d, x, e) : x->graph || !x->fused)
        return err_set(e, EXIT_USAGE, "device %s cannot run steps %s; leave the strategy's fourth part away, or "
                       "give a device that can (cuda)", d->ops->name,
                       x->graph ? "as graphs" : "with unfused operations");
    d->exec = *x;
    return 0;
}

void dev_times(struct device *d, uint32_t times) { d->times = times; }

void dev_charge_host(struct device *d, uint32_t n_seq)
{
    if (d->ops->charge_host)
        d->ops->charge_host(d, n_seq);
}

static void charge(struct device *d, enum op op, struct op_cost c)
{
    struct op_total *t = &d->total[op];

    t->calls += d->times;
    t->flops += c.flops * d->times;
    t->bytes += c.bytes * d->times;
    if (d->ops->charge)
        d->ops->charge(d, op, &c, d->times);
}

static void obtained(struct device *d, uint64_t bytes)
{
    d->now_bytes += bytes;
    if (d->now_bytes > d->peak_bytes)
        d->peak_bytes = d->now_bytes;
}

void *dev_alloc(struct device *d, uint64_t bytes, const char *what, struct err *e)
{
    void *p = d->ops->alloc(d, bytes ? bytes : 1);

    if (!p)
        err_set(e, EXIT_RUN_FAILED, "device %s: no memory for %s (%.1f MiB); give less KV "
                "(--kv), a smaller model or a smaller batch", d->ops->name, what,
                (double)bytes / 0x1p20);
    else
        obtained(d, bytes);
    return p;
}

void dev_release(struct device *d, void *p, uint64_t bytes)
{
    if (p) {
        d->ops->release(d, p);
        d->now_bytes -= bytes;
    }
}

int dev_weight(struct device *d, struct weight *w, struct wfmt fmt, uint32_t n, uint32_t k,
               struct row_source src, struct err *e)
{
    memset(w, 0, sizeof *w);
    w->fmt = fmt;
    w->n = n;
    w->k = k;
    w->bytes = wfmt_bytes(fmt, n, k);
    if (!(d->ops->weight_fmts & FMT_BIT(fmt.fmt)))
        return err_set(e, EXIT_USAGE, "device %s cannot hold weights as %s", d->ops->name, fmt_name(fmt.fmt));
    if (!w->bytes)
        return err_set(e, EXIT_USAGE, "a weight matrix of %u x %u cannot be held as %s: inputs must "
                       "be a multiple of 32 and sizes must fit 64 bits", n, k, fmt_name(fmt.fmt));
    if (d->ops->weight(d, w, src, e))
        return -1;
    obtained(d, w->bytes);
    return 0;
}

void dev_weight_free(struct device *d, struct weight *w)
{
    if (w->bytes && d->ops->weight_free)
        d->ops->weight_free(d, w);
    d->now_bytes -= w->bytes;
    memset(w, 0, sizeof *w);
}

uint64_t kv_token_bytes(uint32_t n_layer, uint32_t n_head, uint32_t head_dim, enum fmt fmt)
{
    return (uint64_t)2 * n_layer * n_head * kv_row_bytes(fmt, head_dim);
}

int dev_kv_open(struct device *d, struct kv_pool *kv, uint32_t n_layer, uint32_t n_head,
                uint32_t head_dim, enum fmt fmt, uint32_t n_slot, struct err *e)
{
    uint64_t per = kv_token_bytes(n_layer, n_head, head_dim, fmt);

    memset(kv, 0, sizeof *kv);
    if (!(d->ops->kv_fmts & FMT_BIT(fmt)))
        return err_set(e, EXIT_USAGE, "device %s cannot cache K and V as %s", d->ops->name, fmt_name(fmt));
    kv->fmt = fmt;
    kv->n_layer = n_layer;
    kv->n_head = n_head;
    kv->head_dim = head_dim;
    for (n_slot = n_slot / KV_TILE * KV_TILE; n_slot >= KV_TILE;
         n_slot = n_slot / 2 / KV_TILE * KV_TILE) {
        if (!mul_u64(per, n_slot, &kv->bytes))
            continue;
        kv->data = d->ops->alloc(d, kv->bytes);
        if (kv->data) {
            kv->n_slot = n_slot;
            obtained(d, kv->bytes);
            return 0;
        }
    }
    return err_set(e, EXIT_RUN_FAILED, "device %s: no memory for a KV pool of even %d tokens; "
                   "--kv needs at least that many", d->ops->name, KV_TILE);
}

void dev_kv_close(struct device *d, struct kv_pool *kv)
{
    if (kv->data)
        dev_release(d, kv->data, kv->bytes);
    memset(kv, 0, sizeof *kv);
}

int dev_host_open(struct device *d, struct kv_pool *host, const struct kv_pool *like, uint32_t n_slot,
                  struct err *e)
{
    *host = *like;
    host->n_slot = n_slot / KV_TILE * KV_TILE;
    host->data = NULL;
    if (!mul_u64(kv_token_bytes(like->n_layer, like->n_head, like->head_dim, like->fmt),
                 host->n_slot, &host->bytes))
        return err_set(e, EXIT_USAGE, "host memory for %u tokens overflows", n_slot);
    if (!d->ops->computes || !host->n_slot)
        return 0;                               /* sim: only the moves cost */
    if (!d->ops->swap)
        return err_set(e, EXIT_USAGE, "device %s cannot swap K and V to host memory", d->ops->name);
    host->data = d->ops->host_alloc ? d->ops->host_alloc(d, host->bytes)
                                    : d->ops->alloc(d, host->bytes);
    return host->data ? 0 : err_set(e, EXIT_RUN_FAILED, "no host memory for %u swapped tokens", n_slot);
}

void dev_host_close(struct device *d, struct kv_pool *host)
{
    if (host->data && d->ops->host_release)
        d->ops->host_release(d, host->data);
    else if (host->data)
        d->ops->release(d, host->data);
    memset(host, 0, sizeof *host);
}

void dev_begin(struct device *d, const struct batch *b)
{
    if (d->ops->begin)
        d->ops->begin(d, b);
}

int dev_end(struct device *d, struct err *e)
{
    return d->ops->end ? d->ops->end(d, e) : 0;
}

void dev_embed(struct device *d, void *x, const struct weight *w, const uint32_t *tok, uint32_t n)
{
    double row = (double)w->bytes / w->n;

    charge(d, OP_EMBED, (struct op_cost){ .fmt = w->fmt.fmt, .m = n, .n = w->k,
                                          .bytes = n * (row + (double)w->k * d->ops->act_bytes) });
    if (d->ops->embed)
        d->ops->embed(d, x, w, tok, n);
}

void dev_norm(struct device *d, void *y, void *x, const void *delta, const void *gain, uint32_t n,
              uint32_t dim, float eps)
{
    double el = (double)n * dim;

    charge(d, OP_NORM, (struct op_cost){ .fmt = FMT_F16, .m = n, .n = dim, .flops = 4 * el,
                                         .bytes = el * d->ops->act_bytes * (delta ? 4 : 2) });
    if (d->ops->norm)
        d->ops->norm(d, y, x, delta, gain, n, dim, eps);
}

void dev_matmul(struct device *d, void *y, const void *x, const struct weight *w, uint32_t m)
{
    if (!m)
        return;
    charge(d, OP_MATMUL,
           (struct op_cost){ w->fmt.fmt, m, w->n, w->k, 2.0 * m * w->n * w->k,
                             (double)w->bytes + (double)m * ((double)w->n + w->k) * d->ops->act_bytes });
    if (d->ops->matmul)
        d->ops->matmul(d, y, x, w, m);
}

void dev_rope_store(struct device *d, void *qkv, struct kv_pool *kv, uint32_t layer,
                    const struct batch *b, const struct rope *r)
{
    double q = (double)r->n_q * kv->head_dim, k = (double)kv->n_head * kv->head_dim;
    double stored = 2.0 * kv->n_head * kv_row_bytes(kv->fmt, kv->head_dim);

    charge(d, OP_ROPE_STORE,
           (struct op_cost){ kv->fmt, b->n_tok, r->n_q * kv->head_dim, kv->n_head * kv->head_dim,
                             b->n_tok * 3 * (q + k),
                             b->n_tok * ((2 * q + 2 * k) * d->ops->act_bytes + stored) });
    if (d->ops->rope_store)
        d->ops->rope_store(d, qkv, kv, layer, b, r);
}

/* FLOPs: q.k and p.v over every visible token. Bytes: each cached token of a sequence once, q and y. */
static bool attend_cost(const struct batch *b, bool prefill, double *tokens_seen, double *kv_read,
                        double *rows)
{
    bool any = false;

    *tokens_seen = *kv_read = *rows = 0;
    for (uint32_t s = 0; s < b->n_seq; s++) {
        uint32_t n = b->seq_start[s + 1] - b->seq_start[s];
        double len = b->kv_len[s];

        if ((n > 1) != prefill)
            continue;
        any = true;
        *tokens_seen += n * (len - n) + 0.5 * n * (n + 1.0);
        *kv_read += len;
        *rows += n;
    }
    return any;
}

void dev_attend(struct device *d, void *y, const void *qkv, const struct kv_pool *kv, uint32_t layer,
                const struct batch *b, uint32_t n_q)
{
    for (int prefill = 0; prefill < 2; prefill++) {
        double seen, read, rows;

        if (!attend_cost(b, prefill != 0, &seen, &read, &rows))
            continue;
        charge(d, prefill ? OP_ATTEND_PREFILL : OP_ATTEND_DECODE,
               (struct op_cost){ kv->fmt, (uint32_t)rows, n_q * kv->head_dim,
                                 kv->n_head * kv->head_dim, 4.0 * n_q * kv->head_dim * seen,
                                 2.0 * kv->n_head * kv_row_bytes(kv->fmt, kv->head_dim) * read +
                                 2.0 * rows * n_q * kv->head_dim * d->ops->act_bytes });
        if (d->ops->attend)
            d->ops->attend(d, y, qkv, kv, layer, b, n_q, prefill != 0);
    }
}

void dev_swiglu(struct device *d, void *y, const void *gate_up, uint32_t n, uint32_t f)
{
    double el = (double)n * f;

    charge(d, OP_SWIGLU, (struct op_cost){ .fmt = FMT_F16, .m = n, .n = f, .flops = 5 * el,
                                           .bytes = 3 * el * d->ops->act_bytes });
    if (d->ops->swiglu)
        d->ops->swiglu(d, y, gate_up, n, f);
}

void dev_gather(struct device *d, void *y, const void *x, const uint32_t *row, uint32_t n_row,
                uint32_t dim)
{
    if (!n_row)
        return;
    charge(d, OP_GATHER, (struct op_cost){ .fmt = FMT_F16, .m = n_row, .n = dim,
                                           .bytes = 2.0 * n_row * dim * d->ops->act_bytes });
    if (d->ops->gather)
        d->ops->gather(d, y, x, row, n_row, dim);
}

void dev_pick(struct device *d, uint32_t *tok, const void *logits, uint32_t n_row, uint32_t vocab)
{
    if (!n_row)
        return;
    charge(d, OP_PICK, (struct op_cost){ .fmt = FMT_F16, .m = n_row, .n = vocab,
                                         .flops = (double)n_row * vocab,
                                         .bytes = (double)n_row * vocab * d->ops->act_bytes });
    if (d->ops->pick)
        d->ops->pick(d, tok, logits, n_row, vocab);
}

void dev_copy(struct device *d, struct kv_pool *kv, const uint32_t *src, const uint32_t *dst,
              const uint32_t *n_tok, uint32_t n)
{
    double tokens = 0;

    for (uint32_t i = 0; i < n; i++)
        tokens += n_tok[i];
    if (!n)
        return;
    charge(d, OP_COPY, (struct op_cost){ .fmt = kv->fmt, .bytes = 2 * tokens *
           (double)kv_token_bytes(kv->n_layer, kv->n_head, kv->head_dim, kv->fmt) });
    if (d->ops->copy)
        d->ops->copy(d, kv, src, dst, n_tok, n);
}

void dev_swap(struct device *d, const struct kv_pool *from, struct kv_pool *to, const uint32_t *src,
              const uint32_t *dst, const uint32_t *n_tok, uint32_t n)
{
    double tokens = 0;

    for (uint32_t i = 0; i < n; i++)
        tokens += n_tok[i];
    if (!n)
        return;
    charge(d, OP_SWAP, (struct op_cost){ .fmt = to->fmt, .bytes = tokens *
           (double)kv_token_bytes(to->n_layer, to->n_head, to->head_dim, to->fmt) });
    if (d->ops->swap)
        d->ops->swap(d, from, to, src, dst, n_tok, n);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static int timed_by_clock(struct device *d, void (*work)(void *arg, uint32_t i), void *arg, uint32_t repeat,
                          uint32_t rounds, double *out, struct err *e)
{
    for (uint32_t r = 0; r < rounds; r++) {
        uint64_t from = dev_now(d);

        for (uint32_t i = 0; i < repeat; i++)
            work(arg, i);
        if (dev_end(d, e))
            return -1;
        out[r] = (double)(dev_now(d) - from) / repeat;
    }
    return 0;
}

double dev_timed(struct device *d, void (*work)(void *arg, uint32_t i), void *arg, uint32_t repeat,
                 uint32_t rounds, struct err *e)
{
    double ns[64];

    rounds = min_u32(max_u32(rounds, 1), 64);
    if ((d->ops->timed ? d->ops->timed : timed_by_clock)(d, work, arg, repeat, rounds, ns, e))
        return -1;
    qsort(ns, rounds, sizeof *ns, by_value);
    return rounds % 2 ? ns[rounds / 2] : (ns[rounds / 2 - 1] + ns[rounds / 2]) / 2;
}
