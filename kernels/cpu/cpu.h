/* cpu.h - inside of the cpu device: the instruction-set table, packed weights, drivers.
 *
 * The idea (after BLIS and llama.cpp's repacking): all arithmetic is done by a few small tiles that
 * each instruction set implements (struct cpu_isa); drivers in matmul.c and attend.c cut work into
 * tiles. A tile computes `mr` rows times `ns` strips of 16 output columns.
 *
 * What must stay true: the bits of an output depend only on its own inputs. Each output is one
 * chain of fused multiply-adds in ascending k (integer formats: of exact sums of groups), whatever
 * tile, thread or instruction set computes it, so that a row gives the same bits alone, in a batch, in a chunk of a prompt, on AVX2 and
 * on AVX-512. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "kernels/cpu/pool.h"
#include "kernels/device.h"

enum {
    LANES = 16,                /* columns of a strip; positions of a KV tile */
    PANEL = 32,                /* columns of a packed weight panel: two strips */
    ACT_GROUP = 64,            /* int8 weights: inputs that share an activation scale */
    ATTEND_CHUNK = 128,        /* positions whose softmax is merged at once, from position 0 */
    QUERY_TILE = 16,           /* queries of a prefill tile */
    MR_MAX = 14, NS_MAX = 8
};

/* Elements of a float tile's operand b. Codes of fp8 are read as 2^-8 of their value, which a half can hold
 * exactly; FP8_POST makes up for it where scales are applied, so no bit is lost. bf16 lies in pairs: inputs k
 * (high half of 32 bits) and k + 1 (low half) of a column side by side. */
enum elem { EL_F32, EL_F16, EL_FP8, EL_INT8, EL_BF16, EL_N };
#define FP8_POST 256.0f
#define BF16_LEAST 0x1p-50f                /* bf16-a16: what is smaller becomes zero (tile_dp.h) */
static inline float elem_post(enum elem el) { return el == EL_FP8 ? FP8_POST : 1.0f; }

/* y[r][s*16 + lane] (+)= sum over k of x[r][k] * b[s][k*ldb + lane], in ascending k; then, where columns have
 * a scale, times (scale * post). */
struct ftile {
    uint32_t mr, ns, k;
    const void *x; size_t ldx;             /* floats; tile_dp: pairs of bf16 (even k high), ldx in pairs */
    const void *b[NS_MAX]; size_t ldb;     /* ldb in elements; bf16: in pairs */
    const uint16_t *scale[NS_MAX];         /* strip's 16 halves; scale[0] NULL: none */
    float post;
    float *y; size_t ldy;
    uint32_t n_col;                        /* columns to write, at most ns * 16 */
    bool add;                              /* start from y instead of 0 */
};

/* How integer weights lie in a panel: packed nibbles, nibbles widened to bytes, bytes q + 128;
 * Z: with a least value beside each scale. */
enum qkind { Q4, Q4W, Q4Z, Q4ZW, Q8, QK_N };

/* Integer tile: per group an exact dot of u8 weights and int8 activations, folded into F32. */
struct qtile {
    uint32_t mr, ns, k, group;
    const int8_t *x; size_t ldx;           /* [mr, ldx] quantised activations */
    const float *sx;                       /* [mr, ldg] their scales */
    /* [mr, ldg] -offset * sum of the group's activations; Z: their sum */
    const int32_t *fix; size_t ldg;
    const uint8_t *b[NS_MAX];              /* strip's weights, see pack.h */
    const void *sw[NS_MAX];                /* strip's scales: halves, or floats when widened */
    float *y; size_t ldy;
    uint32_t n_col;
};

struct cpu_isa {
    const char *name;                      /* "avx512" */
    uint32_t mr_f, mr_q, mr_few;           /* most rows of a float tile, of an integer tile, of one on packed nibbles */
    uint8_t ns_f[MR_MAX + 1], ns_q[MR_MAX + 1];   /* [mr] most strips with that many rows */
    uint8_t ns_min;                        /* strips that any rows can take; wide tiles use it */
    uint32_t packed_f, packed_q;           /* with more rows, widening a panel first pays */

    void (*tile[EL_N])(const struct ftile *t);
    void (*tile_dp)(const struct ftile *t);        /* bf16 times bf16; NULL: rounded to bf16, tile[EL_BF16] */
    void (*tile_q[QK_N])(const struct qtile *t);

    /* n: multiple of 16; bf16: [n/64, 32] pairs to [n/32, 32] floats. NULL for F32. */
    void (*widen[EL_N])(float *out, const void *in, size_t n);
    /* n_scale: 2 with least values, otherwise 1 */
    void (*widen_q4)(uint8_t *out /* [k/4, 32, 4] */, float *scale /* [groups, n_scale, 32] */,
                     const uint8_t *panel, uint32_t k, uint32_t group, uint32_t n_scale);
    /* Nearest bf16, below BF16_LEAST zero, Inf becomes NaN; n: multiple of 32. */
    void (*round_bf16)(float *out, const float *x, size_t n);
    void (*pairs_bf16)(uint32_t *out, const float *x, size_t n);      /* the same for tile_dp */
    /* A row of K or V of n values: what row_encode of format.h gives; n: multiple of 16 */
    void (*encode)(enum elem el, void *q, uint16_t *scale, const float *x, uint32_t n);
    void (*times_half)(float *x, const uint16_t *h, float post);      /* 16 values: x *= h * post */
    /* q = round(x / s), s = max|x| / 127 of each group; fix = -offset * sum(q) */
    void (*quantise)(int8_t *q, float *s, int32_t *fix, const float *x, uint32_t k, uint32_t group,
                     int32_t offset);
    void (*scale)(float *y, const float *x, float f, size_t n);
    void (*norm)(float *y, float *x, const float *delta, const float *gain, uint32_t dim,
                 float eps);
    void (*swiglu)(float *y, const float *gate, const float *up, uint32_t n);
    void (*rope)(float *x, const float *cs /* [half] cos, [half] sin */, uint32_t half);
    /* of s[0..n), n > 0; up to the next multiple of 16, s becomes -inf */
    float (*top)(float *s, uint32_t n);
    /* s = exp(s - top) over s[0..n), which went through top, then zeros up to n_fill (multiple of 16); their sum */
    float (*softmax)(float *s, uint32_t n, uint32_t n_fill, float top);
    /* folds a later chunk's part, pm, pl into acc, m, l, of `rows` rows of n values each */
    void (*merge)(float *acc, float *m, float *l, const float *part, const float *pm, const float *pl,
                  uint32_t rows, uint32_t n);
    uint32_t (*argmax)(const float *x, uint32_t n);

    /* measured roofs for the benchmark: they do nothing useful, fast */
    double (*roof_fma)(uint64_t rounds);           /* FLOP done */
    double (*roof_dot)(uint64_t rounds);           /* integer operations done */
    double (*roof_read)(const void *p, size_t n);  /* n: multiple of 1024; sums all of it */
};
extern const struct cpu_isa cpu_isa_scalar, cpu_isa_avx2, cpu_isa_avx512, cpu_isa_avx512bf16;
bool cpu_dp_is_chain(void);                /* isa_avx512.c; asks a CPU that has the instruction */
/* The best this machine has, or the one named; NULL and an err when it is not here. */
const struct cpu_isa *cpu_isa_find(const char *name, struct err *e);
bool cpu_isa_here(const struct cpu_isa *isa);

struct cpu {
    const struct cpu_isa *isa;
    int n_thread;
    struct cpu_pool *pool;
    uint64_t t0_ns, skipped_ns;
    struct err err;                        /* sticky */
    struct cpu_buf { void *p; size_t n; } shared, thread;   /* grow-only scratch */
    size_t thread_stride;                  /* bytes of each thread's part of `thread` */
    float *rope; uint32_t rope_n, rope_half;                /* [rope_n, 2, rope_half] cos, sin */
    double rope_freq[ROPE_MAX];            /* what they were made with */
};

/* Scratch for this operation; false and the sticky error when memory is out. Contents are lost. */
bool cpu_scratch(struct cpu *c, size_t shared, size_t each_thread);
static inline void *cpu_mine(struct cpu *c, int thread)
{
    return (char *)c->thread.p + (size_t)thread * c->thread_stride;
}
/* pool_run, or the same on this thread when there is little to do. Work units are independent
 * outputs, so who computes what never changes a bit. */
void cpu_for(struct cpu *c, uint32_t n, uint32_t step, bool parallel, cpu_work *fn, void *arg);

void *cpu_alloc(uint64_t bytes);           /* 64-byte aligned, huge pages when large; NULL: out */
/* The operations that have a file of their own. */
void cpu_matmul(struct cpu *c, float *y, const float *x, const struct weight *w, uint32_t m);
void cpu_attend(struct cpu *c, float *y, const float *qkv, const struct kv_pool *kv, uint32_t layer,
                const struct batch *b, uint32_t n_q, bool prefill);

/* KV pool (kv.c): [layer][head][slot / 16] tiles of K [hd][16] then V [16][hd]; with int8 and fp8 then a half
 * scale for each of 16 K and of 16 V. K is transposed so that one load is one dimension of 16 positions:
 * scores need no horizontal sums, and the scale of a position is that of a lane. */
struct kv_layout { enum elem el; uint32_t hd, size; size_t tile_bytes; };   /* size: of an element */
struct kv_layout kv_layout(const struct kv_pool *kv);
uint8_t *kv_tile(const struct kv_pool *kv, uint32_t layer, uint32_t head, uint32_t slot);
static inline const void *tile_v(const struct kv_layout *l, const uint8_t *tile)
{
    return tile + (size_t)KV_TILE * l->hd * l->size;
}
/* Scales of the 16 K, then of the 16 V; NULL: this format has none. */
static inline const uint16_t *tile_scales(const struct kv_layout *l, const uint8_t *tile)
{
    return l->size > 1 ? NULL : (const uint16_t *)(const void *)(tile + (size_t)2 * KV_TILE * l->hd);
}
/* One token's K and V from place `a` of a tile to place `b` of another. */
void kv_move(const struct kv_layout *l, const uint8_t *from, uint32_t a, uint8_t *to, uint32_t b);
/* Encodes k and v [hd] into place `in` of a tile; room: [4 * hd] bytes. */
void kv_store(const struct cpu_isa *isa, const struct kv_layout *l, uint8_t *tile, uint32_t in,
              const float *k, const float *v, void *room);
void kv_copy(const struct kv_pool *from, const struct kv_pool *to, uint32_t layer, uint32_t src,
             uint32_t dst, uint32_t n);

#endif
