/* device.h - the seam: every device is this table of operations, and owns time.
 *
 * cpu computes with fast kernels, ref computes the same in plain F32 for tests, sim only charges time,
 * cuda (a plug-in) comes later. The forward pass calls dev_* below; device.c derives FLOPs and bytes of
 * each call from its shapes, adds them up, lets the device charge them to its clock, and calls the
 * device's operation if it has one.
 *
 * Activations (`act`) are opaque device memory of elements that the device chooses: F32 on cpu and ref.
 * Errors are sticky: an operation that fails records it, later ones do nothing, dev_end reports it.
 * Shapes in comments are row-major. Nothing here knows a request. */
#ifndef KERNELS_DEVICE_H
#define KERNELS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/format.h"

enum { DEVICE_ABI = 1, KV_TILE = 16 };   /* KV_TILE: devices are fastest when blocks are multiples of it */

enum op {
    OP_EMBED, OP_NORM, OP_MATMUL, OP_ROPE_STORE, OP_ATTEND_PREFILL, OP_ATTEND_DECODE, OP_SWIGLU,
    OP_GATHER, OP_PICK, OP_COPY, OP_SWAP, OP_ALL_REDUCE, OP_N
};
extern const char *const op_name[OP_N];

enum pace { PACE_SKIP, PACE_WALL, PACE_VIRTUAL };   /* idle time: gained, slept through, simulated */
extern const char *const pace_name[3];

/* A weight matrix on a device: W[n, k]. data is private to the device. */
struct weight {
    struct wfmt fmt;
    uint32_t n, k;
    uint64_t bytes;        /* exact size in its format, scales included */
    void *data;
};
/* Gives row `row` of the matrix as k floats. Called with rows in ascending order, each at most once. */
struct row_source {
    int (*get)(void *self, uint32_t row, float *out /* [k] */, struct err *e);
    void *self;
};

/* The KV pool: n_slot token slots for each layer. Slots are what block tables point at. */
struct kv_pool {
    uint32_t n_layer, n_head, head_dim;    /* n_head: KV heads */
    uint32_t n_slot;                       /* capacity in tokens, a multiple of KV_TILE */
    uint64_t bytes;                        /* n_slot * kv_token_bytes */
    void *data;                            /* private; elements are f16 */
};

/* One step's work, flat and ragged. Only this crosses from serving to compute.
 * Sequence s owns rows seq_start[s] .. seq_start[s+1]-1 of the batch; its token at position p lives in
 * KV slot table[table_start[s] + p / block_tokens[s]] + p % block_tokens[s]. */
struct batch {
    uint32_t n_tok, n_seq, n_row, n_table;
    const uint32_t *tok;           /* [n_tok] token ids; NULL on a device that does not compute */
    const uint32_t *pos;           /* [n_tok] position in its sequence; NULL likewise */
    const uint32_t *slot;          /* [n_tok] KV slot this token's K and V go to; NULL likewise */
    const uint32_t *seq_start;     /* [n_seq + 1] */
    const uint32_t *kv_len;        /* [n_seq] tokens in the cache after this step */
    const uint32_t *block_tokens;  /* [n_seq] */
    const uint32_t *table_start;   /* [n_seq + 1] */
    const uint32_t *table;         /* [n_table] first slot of each block */
    const uint32_t *row;           /* [n_row] batch rows that yield a token, ascending */
};

struct op_total { uint64_t calls; double flops, bytes; };

struct device_conf {
    enum pace pace;
    int n_thread;                  /* cpu: 0 = all cores this process may use */
    const char *isa;               /* cpu: NULL = best; "scalar" "avx2" "avx512" */
    const char *profile;           /* sim: name under kernels/sim/profiles or a path */
};

struct device;
struct device_ops {
    uint32_t abi;
    const char *name, *about;
    bool computes;                 /* false: no arithmetic, batches carry no tokens, no output */
    uint32_t act_bytes;            /* bytes of one activation element, for byte accounting */
    int  (*open)(struct device *d, const struct device_conf *c, struct err *e);
    void (*close)(struct device *d);
    uint64_t (*now)(struct device *d);                       /* ns since open, never falls */
    void (*idle)(struct device *d, uint64_t until_ns);       /* nothing to do before until_ns */
    /* fmt: of the weights that the operation multiplies by; FMT_F16 where there are none */
    void (*charge)(struct device *d, enum op op, enum fmt fmt, double flops, double bytes,
                   uint32_t times);
    void (*charge_host)(struct device *d, uint32_t n_seq);   /* scheduling time of one step */

    void *(*alloc)(struct device *d, uint64_t bytes);        /* NULL: out of memory */
    void (*release)(struct device *d, void *p);
    int  (*weight)(struct device *d, struct weight *w, struct row_source src, struct err *e);
    void (*weight_free)(struct device *d, struct weight *w);
    void (*put)(struct device *d, void *act, const float *x, size_t n);     /* floats to act */
    void (*get)(struct device *d, float *x, const void *act, size_t n);     /* act to floats */

    void (*begin)(struct device *d, const struct batch *b);  /* may be NULL */
    int  (*end)(struct device *d, struct err *e);            /* waits, reports the sticky error */

    void (*embed)(struct device *d, void *x /* [n, k] */, const struct weight *w, const uint32_t *tok,
                  uint32_t n);
    /* x += delta if delta, then y = x / rms(x) * gain; x, y, delta [n, dim], gain [dim]; y may be delta */
    void (*norm)(struct device *d, void *y, void *x, const void *delta, const void *gain, uint32_t n,
                 uint32_t dim, float eps);
    void (*matmul)(struct device *d, void *y /* [m, n] */, const void *x /* [m, k] */,
                   const struct weight *w, uint32_t m);
    /* qkv [n_tok, (n_q + 2 n_kv) * hd]: q rotated in place; k rotated and stored, v stored, at slot */
    void (*rope_store)(struct device *d, void *qkv, struct kv_pool *kv, uint32_t layer,
                       const struct batch *b, uint32_t n_q, float theta);
    /* y [n_tok, n_q * hd]; only sequences with more than one row (prefill) or exactly one (decode) */
    void (*attend)(struct device *d, void *y, const void *qkv, const struct kv_pool *kv,
                   uint32_t layer, const struct batch *b, uint32_t n_q, bool prefill);
    void (*swiglu)(struct device *d, void *y /* [n, f] */, const void *gate_up /* [n, 2f] */,
                   uint32_t n, uint32_t f);
    void (*gather)(struct device *d, void *y /* [n_row, dim] */, const void *x, const uint32_t *row,
                   uint32_t n_row, uint32_t dim);
    /* greedy: tok[i] = first index of the largest logit; PICK_BAD_ROW when the row has NaN or Inf */
    void (*pick)(struct device *d, uint32_t *tok, const void *logits, uint32_t n_row, uint32_t vocab);
    /* n copies of n_tok[i] consecutive slots, all layers, from src[i] to dst[i]; must not overlap */
    void (*copy)(struct device *d, struct kv_pool *kv, const uint32_t *src, const uint32_t *dst,
                 const uint32_t *n_tok, uint32_t n);
    /* the same between two pools of one shape, of which one lies in host memory; NULL: cannot */
    void (*swap)(struct device *d, const struct kv_pool *from, struct kv_pool *to, const uint32_t *src,
                 const uint32_t *dst, const uint32_t *n_tok, uint32_t n);
    /* what stands in `doctor`: 0 and one line, or -1 and the reason it cannot run here */
    int  (*probe)(char *line, size_t n);
};

#define PICK_BAD_ROW UINT32_MAX

struct device {
    const struct device_ops *ops;
    void *self;                    /* private state */
    uint32_t times;                /* how many identical layers the next operations stand for */
    struct op_total total[OP_N];   /* since open or dev_reset_totals */
    uint64_t peak_bytes, now_bytes;/* device memory obtained through this seam */
    char label[160];               /* set by open: "cpu avx512 2 threads", "sim h200 (virtual ...)" */
    bool is_virtual;               /* its clock is simulated */
    enum pace pace;
};

/* Registry: every device compiled in, NULL at the end. */
extern const struct device_ops *const device_registry[];
const struct device_ops *device_find(const char *name, struct err *e);

int  dev_open(struct device *d, const struct device_ops *ops, const struct device_conf *c,
              struct err *e);
void dev_close(struct device *d);
uint64_t dev_now(struct device *d);
void dev_idle(struct device *d, uint64_t until_ns);
void dev_charge_host(struct device *d, uint32_t n_seq);
/* The operations that follow stand for `times` identical layers (sim only; others always pass 1). */
void dev_times(struct device *d, uint32_t times);

void *dev_alloc(struct device *d, uint64_t bytes, const char *what, struct err *e);
void dev_release(struct device *d, void *p, uint64_t bytes);
int  dev_weight(struct device *d, struct weight *w, struct wfmt fmt, uint32_t n, uint32_t k,
                struct row_source src, struct err *e);
void dev_weight_free(struct device *d, struct weight *w);
/* Asks for n_slot tokens; takes fewer (halving) when memory is short, never fewer than KV_TILE. */
int  dev_kv_open(struct device *d, struct kv_pool *kv, uint32_t n_layer, uint32_t n_head,
                 uint32_t head_dim, uint32_t n_slot, struct err *e);
void dev_kv_close(struct device *d, struct kv_pool *kv);
/* A pool of `like`'s shape in host memory (a computing device without swap has none: refused). */
int  dev_host_open(struct device *d, struct kv_pool *host, const struct kv_pool *like, uint32_t n_slot,
                   struct err *e);
void dev_host_close(struct device *d, struct kv_pool *host);
uint64_t kv_token_bytes(uint32_t n_layer, uint32_t n_head, uint32_t head_dim);   /* K and V, f16 */

void dev_begin(struct device *d, const struct batch *b);
int  dev_end(struct device *d, struct err *e);
void dev_embed(struct device *d, void *x, const struct weight *w, const uint32_t *tok, uint32_t n);
void dev_norm(struct device *d, void *y, void *x, const void *delta, const void *gain, uint32_t n,
              uint32_t dim, float eps);
void dev_matmul(struct device *d, void *y, const void *x, const struct weight *w, uint32_t m);
void dev_rope_store(struct device *d, void *qkv, struct kv_pool *kv, uint32_t layer,
                    const struct batch *b, uint32_t n_q, float theta);
void dev_attend(struct device *d, void *y, const void *qkv, const struct kv_pool *kv, uint32_t layer,
                const struct batch *b, uint32_t n_q);
void dev_swiglu(struct device *d, void *y, const void *gate_up, uint32_t n, uint32_t f);
void dev_gather(struct device *d, void *y, const void *x, const uint32_t *row, uint32_t n_row,
                uint32_t dim);
void dev_pick(struct device *d, uint32_t *tok, const void *logits, uint32_t n_row, uint32_t vocab);
void dev_copy(struct device *d, struct kv_pool *kv, const uint32_t *src, const uint32_t *dst,
              const uint32_t *n_tok, uint32_t n);
void dev_swap(struct device *d, const struct kv_pool *from, struct kv_pool *to, const uint32_t *src,
              const uint32_t *dst, const uint32_t *n_tok, uint32_t n);

/* KV slot of position p of sequence s. */
static inline uint32_t batch_slot(const struct batch *b, uint32_t s, uint32_t p)
{
    uint32_t bt = b->block_tokens[s];

    return b->table[b->table_start[s] + p / bt] + p % bt;
}

#endif
