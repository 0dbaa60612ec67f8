/* tile_float.h - the float tiles of one instruction set; included after its vec_*.h.
 *
 * Outer-product form (BLIS): per k one broadcast of each row and one load of each strip feed mr
 * * ns fused multiply-adds into register accumulators. mr and ns are constants in every
 * instance, so the loops below unroll and `acc` never touches memory. The order over k is the
 * only order there is. */
#ifndef KERNELS_CPU_TILE_FLOAT_H
#define KERNELS_CPU_TILE_FLOAT_H

#include "kernels/cpu/cpu.h"

/* clang: "full", not plain "unroll", which comes too late for accumulators to become registers */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#define INLINE static inline __attribute__((always_inline))

INLINE void put_strip(float *y, vf a, uint32_t n_col, uint32_t col)
{
    if (col + LANES <= n_col)
        vf_store(y + col, a);
    else if (col < n_col)
        vf_store_part(y + col, a, n_col - col);
}

INLINE vf load_elem(const void *p, size_t at, const enum elem el)
{
    switch (el) {
    case EL_F16: return vf_load_half((const uint16_t *)p + at);
    case EL_FP8: return vf_load_fp8((const uint8_t *)p + at);
    case EL_INT8: return vf_load_s8((const uint8_t *)p + at);
    default: return vf_load((const float *)p + at);
    }
}

/* With many rows a tile computes more than it loads, and memory idles unless what follows is asked for early;
 * with few it loads as fast as memory can, and more requests are in the way. */
#define FETCHES(mr) ((mr) > 4)
#define AHEAD 2048                         /* bytes; 1024 to 4096 did equally well */

/* Keeps compilers from taking an array into registers, which others need. */
INLINE void in_memory(void *p) { __asm__ volatile("" :: "r"(p) : "memory"); }

INLINE void fetch_early(const void *p)
{
    __builtin_prefetch((const char *)p + AHEAD, 0, 3);
}

/* The two inputs of a pair of bf16, as floats: k stands in the high half, k + 1 in the low one. */
INLINE vf pair_high(vi w) { return vf_bits(vi_and(w, vi_set1((int32_t)0xffff0000u))); }
INLINE vf pair_low(vi w) { return vf_bits(vi_sll(w, 16)); }

INLINE void ftile_start(const struct ftile *t, vf *acc, const int mr, const int ns)
{
    UNROLL for (int r = 0; r < mr; r++)
        UNROLL for (int s = 0; s < ns; s++)
            acc[r * ns + s] = t->add ? vf_load(t->y + (size_t)r * t->ldy + s * LANES) : vf_set1(0);
}

INLINE void ftile_end(const struct ftile *t, vf *acc, const int mr, const int ns)
{
    if (t->scale[0]) {
        UNROLL for (int s = 0; s < ns; s++) {
            vf f = vf_mul(vf_load_half(t->scale[s]), vf_set1(t->post));

            UNROLL for (int r = 0; r < mr; r++)
                acc[r * ns + s] = vf_mul(acc[r * ns + s], f);
        }
    }
    UNROLL for (int r = 0; r < mr; r++)
        UNROLL for (int s = 0; s < ns; s++)
            put_strip(t->y + (size_t)r * t->ldy, acc[r * ns + s], t->n_col, (uint32_t)s * LANES);
}

INLINE void tile_float(const struct ftile *t, const int mr, const int ns, const enum elem el)
{
    const size_t ldx = t->ldx, ldb = t->ldb;
    const float *x = t->x;
    vf acc[MR_MAX * 2];                    /* [mr, ns] */

    ftile_start(t, acc, mr, ns);
    for (uint32_t k = 0; k < t->k; k++, x++) {
        vf w[NS_MAX];

        UNROLL for (int s = 0; s < ns; s++)
            w[s] = load_elem(t->b[s], k * ldb, el);
        if (FETCHES(mr) && (el == EL_F16 || el == EL_FP8) && ldb == PANEL)
            fetch_early((const uint8_t *)t->b[0] + (size_t)k * PANEL * (el == EL_F16 ? 2 : 1));
        UNROLL for (int r = 0; r < mr; r++) {
            vf one = vf_set1(x[(size_t)r * ldx]);

            UNROLL for (int s = 0; s < ns; s++)
                acc[r * ns + s] = vf_fma(one, w[s], acc[r * ns + s]);
        }
    }
    ftile_end(t, acc, mr, ns);
}

/* The same chain over pairs of bf16; k is even. */
INLINE void tile_pairs(const struct ftile *t, const int mr, const int ns)
{
    const size_t ldx = t->ldx, ldb = t->ldb * 4;
    const float *x = t->x;
    vf acc[MR_MAX * 2];

    ftile_start(t, acc, mr, ns);
    for (uint32_t k = 0; k < t->k; k += 2, x += 2) {
        vi w[NS_MAX];

        UNROLL for (int s = 0; s < ns; s++)
            w[s] = vi_load((const uint8_t *)t->b[s] + k / 2 * ldb);
        if (FETCHES(mr))
            UNROLL for (int s = 0; s < ns; s++)
                fetch_early((const uint8_t *)t->b[s] + k / 2 * ldb);
        for (int half = 0; half < 2; half++) {
            UNROLL for (int r = 0; r < mr; r++) {
                vf one = vf_set1(x[(size_t)r * ldx + (size_t)half]);

                UNROLL for (int s = 0; s < ns; s++)
                    acc[r * ns + s] = vf_fma(one, half ? pair_low(w[s]) : pair_high(w[s]), acc[r * ns + s]);
            }
        }
    }
    ftile_end(t, acc, mr, ns);
}

#endif
