/* cpu.h - inside of the cpu device: the instruction-set table, packed weights, drivers.
 *
 * The idea (after BLIS and llama.cpp's repacking): all arithmetic is done by a few small tiles that
 * each instruction set implements (struct cpu_isa); drivers in matmul.c and attend.c cut work into
 * tiles. A tile computes `mr` rows times `ns` strips of 16 output columns.
 *
 * What must stay true: the bits of an output depend only on its own inputs. Each output is one
 * chain of fused multiply-adds in ascending k, whatever tile, thread or instruction set computes
 * it, so that a row gives the same bits alone, in a batch, in a chunk of a prompt, on AVX2 and
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

/* y[r][s*16 + lane] (+)= sum over k of x[r][k] * b[s][k*ldb + lane], in ascending k. */
struct ftile {
    uint32_t mr, ns, k;
    const float *x; size_t ldx;
    const void *b[NS_MAX]; size_t ldb;     /* halves or floats; ldb in elements */
    float *y; size_t ldy;
    uint32_t n_col;                        /* columns to write, at most ns * 16 */
    bool add;                              /* start from y instead of 0 */
};

/* Integer tile: per group an exact dot of u8 weights and int8 activations, folded into F32. */
struct qtile {
    uint32_t mr, ns, k, group;
    const int8_t *x; size_t ldx;           /* [mr, ldx] quantised activations */
    const float *sx;                       /* [mr, ldg] their scales */
    const int32_t *fix; size_t ldg;        /* [mr, ldg] -offset * sum of the group's activations */
    const uint8_t *b[NS_MAX];              /* strip's weights, see pack.h */
    const void *sw[NS_MAX];                /* strip's scales: halves, or floats when widened */
    float *y; size_t ldy;
    uint32_t n_col;
};

struct cpu_isa {
    const char *name;                      /* "avx512" */
    uint32_t mr_f, mr_q;                   /* most rows of a float / integer tile */
    uint8_t ns_f[MR_MAX + 1], ns_q[MR_MAX + 1];   /* [mr] most strips with that many rows */
    uint8_t ns_min;                        /* strips that any rows can take; wide tiles use it */

    void (*tile_f16)(const struct ftile *t);
    void (*tile_f32)(const struct ftile *t);
    void (*tile_q4)(const struct qtile *t);        /* packed nibbles, half scales */
    void (*tile_q4w)(const struct qtile *t);       /* widened by widen_q4 */
    void (*tile_q8)(const struct qtile *t);        /* q + 128, half scales */

    void (*widen_f16)(float *out, const uint16_t *in, size_t n);      /* n: multiple of 16 */
    void (*widen_q4)(uint8_t *out /* [k/4, 32, 4] */, float *scale /* [groups, 32] */,
                     const uint8_t *panel, uint32_t k, uint32_t group);
    /* q = round(x / s), s = max|x| / 127 of each group; fix = -offset * sum(q) */
    void (*quantise)(int8_t *q, float *s, int32_t *fix, const float *x, uint32_t k, uint32_t group,
                     int32_t offset);
    void (*narrow)(uint16_t *out, const float *x, size_t n);          /* to halves; any n */
    void (*scale)(float *y, const float *x, float f, size_t n);
    void (*norm)(float *y, float *x, const float *delta, const float *gain, uint32_t dim,
                 float eps);
    void (*swiglu)(float *y, const float *gate, const float *up, uint32_t n);
    void (*rope)(float *x, const float *cs /* [half] cos, [half] sin */, uint32_t half);
    /* p = exp(s - max) over s[0..n), zeros up to n_fill (multiple of 16); *max and *sum of p */
    void (*softmax)(float *s, uint32_t n, uint32_t n_fill, float *max, float *sum);
    /* folds a later chunk's (part, pm, pl) into (acc, *m, *l) */
    void (*merge)(float *acc, float *m, float *l, const float *part, float pm, float pl,
                  uint32_t n);
    uint32_t (*argmax)(const float *x, uint32_t n);

    /* measured roofs for the benchmark: they do nothing useful, fast */
    double (*roof_fma)(uint64_t rounds);           /* FLOP done */
    double (*roof_dot)(uint64_t rounds);           /* integer operations done */
    double (*roof_read)(const void *p, size_t n);  /* n: multiple of 1024; sums all of it */
};
extern const struct cpu_isa cpu_isa_scalar, cpu_isa_avx2, cpu_isa_avx512;
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

/* KV pool: [layer][head][slot / 16] tiles of K [hd][16] then V [16][hd], halves. K is transposed
 * so that one load is one dimension of 16 positions: scores need no horizontal sums. */
static inline uint16_t *kv_tile(const struct kv_pool *kv, uint32_t layer, uint32_t head,
                                uint32_t slot)
{
    size_t tile = ((size_t)layer * kv->n_head + head) * (kv->n_slot / KV_TILE) + slot / KV_TILE;

    return (uint16_t *)kv->data + tile * 2 * KV_TILE * kv->head_dim;
}

#endif
