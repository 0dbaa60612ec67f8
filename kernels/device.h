/* device.h - the seam: every device is this table of operations, and owns time.
 *
 * cpu computes with fast kernels, ref computes the same in plain F32 for tests, sim only charges time,
 * cuda is a plug-in opened at run time (kernels/cuda). The forward pass calls dev_* below; device.c derives FLOPs and bytes of
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

#ifdef __cplusplus
extern "C" {
#endif

enum { DEVICE_ABI = 3, KV_TILE = 16 };   /* KV_TILE: devices are fastest when blocks are multiples of it */

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
    enum fmt fmt;                          /* FMT_F16, FMT_INT8 or FMT_FP8 (format.h) */
    uint64_t bytes;                        /* n_slot * kv_token_bytes */
    void *data;                            /* private to the device */
};

/* What happens to queries and keys of a model between the QKV product and the cache: bias (Qwen2), then
 * RMSNorm over each head (Qwen3), then rotation by position * freq[i] of the pair (i, i + head_dim / 2). */
enum { ROPE_MAX = 256 };
struct rope {
    uint32_t n_q;                          /* query heads */
    uint32_t half;                         /* head_dim / 2 <= ROPE_MAX */
    double freq[ROPE_MAX];                 /* [half] radians per position, scaling included */
    const void *bias;                      /* act [(n_q + 2 n_kv) * head_dim] or NULL */
    const void *q_gain, *k_gain;           /* act [head_dim], both or neither */
    float eps;                             /* of that norm */
};

/* How steps are launched: a technique, not a result. fused: neighbouring small operations are one kernel;
 * graph: a decode step is replayed as one recorded graph at a padded size; exact: fixed tiles and splits, so
 * that a row's bits do not depend on its batch. */
struct exec { bool fused, graph, exact; };

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

/* What an operation does at least, and the sizes by which measured times are looked up: m rows; matmul: n x k;
 * attention: n = n_q * head_dim, k = n_kv * head_dim; others: n = width. fmt: of the weights or of cached K and V;
 * FMT_F16 where there are none. */
struct op_cost { enum fmt fmt; uint32_t m, n, k; double flops, bytes; };
/* What a device can do at most, measured when asked: bytes/s of a large copy (read and written both counted) and of
 * reading, FLOP/s of a large F16 product by the vendor's library and of a bare loop of the instruction that our kernels use,
 * and ns from one small operation to the next in a recorded graph. */
enum dev_roof { DEV_ROOF_COPY, DEV_ROOF_READ, DEV_ROOF_MATMUL, DEV_ROOF_LOOP, DEV_ROOF_LAUNCH, DEV_ROOF_N };
extern const char *const dev_roof_name[DEV_ROOF_N];

struct op_total { uint64_t calls; double flops, bytes; };
/* sim with measured tables: time charged, and the part of it that a cost model had to say because the tables lack
 * the operation, format or shape; model[op]: FMT_BITs of those. */
struct charged { double ns, model_ns; uint32_t model[OP_N]; };

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
    uint32_t weight_fmts, kv_fmts; /* sets of FMT_BIT that it can hold */
    int  (*open)(struct device *d, const struct device_conf *c, struct err *e);
    void (*close)(struct device *d);
    uint64_t (*now)(struct device *d);                       /* ns since open, never falls */
    void (*idle)(struct device *d, uint64_t until_ns);       /* nothing to do before until_ns */
    void (*charge)(struct device *d, enum op op, const struct op_cost *c, uint32_t times);
    void (*charge_host)(struct device *d, uint32_t n_seq);   /* scheduling time of one step */

    /* Sets how the following steps are launched; -1 with a reason when it cannot. NULL: only the default,
     * fused, no graph, exact or not alike. */
    int  (*exec)(struct device *d, const struct exec *x, struct err *e);

    void *(*alloc)(struct device *d, uint64_t bytes);        /* NULL: out of memory */
    void (*release)(struct device *d, void *p);
    void *(*host_alloc)(struct device *d, uint64_t bytes);   /* for swapped-out K and V; NULL: as alloc */
    void (*host_release)(struct device *d, void *p);
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
    /* qkv [n_tok, (n_q + 2 n_kv) * hd]: q prepared in place; k prepared and stored, v stored, at slot */
    void (*rope_store)(struct device *d, void *qkv, struct kv_pool *kv, uint32_t layer,
                       const struct batch *b, const struct rope *r);
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
    /* For benchmarks: ns of one call of work(arg, i), i < repeat, as the device sees it: the calls are recorded
     * together and replayed `rounds` times; out [rounds]. NULL: dev_timed reads the clock around them. */
    int  (*timed)(struct device *d, void (*work)(void *arg, uint32_t i), void *arg, uint32_t repeat,
                  uint32_t rounds, double *out, struct err *e);
    double (*roof)(struct device *d, enum dev_roof which, struct err *e);    /* 0: e says why not */
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
    struct exec exec;              /* as dev_exec last set it */
    uint32_t step_pad_rows;        /* rows that the last step computed beyond those asked (graph padding) */
    uint64_t step_device_ns;       /* time the device was busy with the last step; 0: not known */
    uint64_t mem_bytes;            /* the device's own memory, set by open; 0: the host's */
    char label[160];               /* set by open: "cpu avx512 2 threads", "sim h200 (virtual ...)" */
    bool is_virtual;               /* its clock is simulated */
    enum pace pace;
    const char *profile;           /* sim: the JSON text that describes the machine; NULL: none. The device's */
    char profile_sha256[65];       /* of that file */
    struct charged charged;        /* since open, or since the caller zeroed it */
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
/* How the following steps are launched; refuses what the device cannot do, with the reason. */
int  dev_exec(struct device *d, const struct exec *x, struct err *e);
/* The operations that follow stand for `times` identical layers (sim only; others always pass 1). */
void dev_times(struct device *d, uint32_t times);

void *dev_alloc(struct device *d, uint64_t bytes, const char *what, struct err *e);
void dev_release(struct device *d, void *p, uint64_t bytes);
int  dev_weight(struct device *d, struct weight *w, struct wfmt fmt, uint32_t n, uint32_t k,
                struct row_source src, struct err *e);
void dev_weight_free(struct device *d, struct weight *w);
/* Asks for n_slot tokens; takes fewer (halving) when memory is short, never fewer than KV_TILE. */
int  dev_kv_open(struct device *d, struct kv_pool *kv, uint32_t n_layer, uint32_t n_head,
                 uint32_t head_dim, enum fmt fmt, uint32_t n_slot, struct err *e);
void dev_kv_close(struct device *d, struct kv_pool *kv);
/* A pool of `like`'s shape in host memory (a computing device without swap has none: refused). */
int  dev_host_open(struct device *d, struct kv_pool *host, const struct kv_pool *like, uint32_t n_slot,
                   struct err *e);
void dev_host_close(struct device *d, struct kv_pool *host);
/* K and V of one token, all layers, scales included. */
uint64_t kv_token_bytes(uint32_t n_layer, uint32_t n_head, uint32_t head_dim, enum fmt fmt);

void dev_begin(struct device *d, const struct batch *b);
int  dev_end(struct device *d, struct err *e);
void dev_embed(struct device *d, void *x, const struct weight *w, const uint32_t *tok, uint32_t n);
void dev_norm(struct device *d, void *y, void *x, const void *delta, const void *gain, uint32_t n,
              uint32_t dim, float eps);
void dev_matmul(struct device *d, void *y, const void *x, const struct weight *w, uint32_t m);
void dev_rope_store(struct device *d, void *qkv, struct kv_pool *kv, uint32_t layer,
                    const struct batch *b, const struct rope *r);
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

/* See timed above; the median over rounds (at most 64). Negative: e says why. */
double dev_timed(struct device *d, void (*work)(void *arg, uint32_t i), void *arg, uint32_t repeat,
                 uint32_t rounds, struct err *e);

/* KV slot of position p of sequence s. */
static inline uint32_t batch_slot(const struct batch *b, uint32_t s, uint32_t p)
{
    uint32_t bt = b->block_tokens[s];

    return b->table[b->table_start[s] + p / bt] + p % bt;
}

#ifdef __cplusplus
}
#endif

#endif
