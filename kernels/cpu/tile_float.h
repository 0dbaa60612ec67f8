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

INLINE vf strip_at(const struct ftile *t, int s, size_t at, bool half)
{
    return half ? vf_load_half((const uint16_t *)t->b[s] + at)
                : vf_load((const float *)t->b[s] + at);
}

INLINE void tile_float(const struct ftile *t, const int mr, const int ns, const bool half)
{
    const size_t ldx = t->ldx, ldb = t->ldb;
    const float *x = t->x;
    vf acc[MR_MAX * 2];                    /* [mr, ns] */

    UNROLL for (int r = 0; r < mr; r++)
        UNROLL for (int s = 0; s < ns; s++)
            acc[r * ns + s] = t->add ? vf_load(t->y + (size_t)r * t->ldy + s * LANES) : vf_set1(0);
    for (uint32_t k = 0; k < t->k; k++, x++) {
        vf w[NS_MAX];

        UNROLL for (int s = 0; s < ns; s++)
            w[s] = strip_at(t, s, k * ldb, half);
        UNROLL for (int r = 0; r < mr; r++) {
            vf one = vf_set1(x[(size_t)r * ldx]);

            UNROLL for (int s = 0; s < ns; s++)
                acc[r * ns + s] = vf_fma(one, w[s], acc[r * ns + s]);
        }
    }
    UNROLL for (int r = 0; r < mr; r++)
        UNROLL for (int s = 0; s < ns; s++)
            put_strip(t->y + (size_t)r * t->ldy, acc[r * ns + s], t->n_col, (uint32_t)s * LANES);
}

/* The instances: `CASE(mr, ns)` for each pair that the instruction set's table offers. */
#define FTILE_CASE(mr, ns) case (mr) * 16 + (ns): tile_float(t, mr, ns, HALF); return;

#endif
