/* tile_dp.h - bf16 times bf16 by vdpbf16ps (avx512_bf16), for isa_avx512.c.
 *
 * What must stay true: the same bits as tile_pairs over activations rounded to bf16. The instruction adds
 * the product of the high halves, then that of the low halves, each by one fused multiply-add (Intel SDM,
 * VDPBF16PS), so pairs hold k in the high half and the chain ascends in k. It takes subnormals as zero,
 * inputs and results; pack.c and round_bf16 leave no value below 2^-50, so products are multiples of
 * 2^-114 and no sum of them can be subnormal. cpu_dp_is_chain asks the CPU itself whether this holds. */
#ifndef KERNELS_CPU_TILE_DP_H
#define KERNELS_CPU_TILE_DP_H

#include "kernels/cpu/tile_table.h"

#define DP __attribute__((target("avx512bf16")))

static inline DP __attribute__((always_inline)) void tile_dp_of(const struct ftile *t, const int mr,
                                                                const int ns)
{
    const size_t ldx = t->ldx, ldb = t->ldb * 4;
    const uint32_t *x = t->x;
    vf acc[MR_MAX * 2];

    ftile_start(t, acc, mr, ns);
    for (uint32_t k = 0; k < t->k; k += 2, x++) {
        vi w[NS_MAX];

        UNROLL for (int s = 0; s < ns; s++)
            w[s] = vi_load((const uint8_t *)t->b[s] + k / 2 * ldb);
        if (FETCHES(mr))
            UNROLL for (int s = 0; s < ns; s++)
                fetch_early((const uint8_t *)t->b[s] + k / 2 * ldb);
        UNROLL for (int r = 0; r < mr; r++) {
            vi one = vi_set1((int32_t)x[(size_t)r * ldx]);

            UNROLL for (int s = 0; s < ns; s++)
                acc[r * ns + s] = _mm512_dpbf16_ps(acc[r * ns + s], (__m512bh)one, (__m512bh)w[s]);
        }
    }
    ftile_end(t, acc, mr, ns);
}

#define CASE_DP(mr, ns) case (mr) * 16 + (ns): tile_dp_of(t, mr, ns); return;
DP FTILE(tile_dp, CASE_DP)

static void pairs_bf16(uint32_t *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        __m512i q = vi_bits(nearest_bf16(vf_load(x + i)));       /* 8 of two floats: k below, k + 1 above */

        q = _mm512_or_si512(_mm512_and_si512(q, _mm512_set1_epi64(0xffff0000)), _mm512_srli_epi64(q, 48));
        _mm256_storeu_si256((__m256i *)(void *)(out + i / 2), _mm512_cvtepi64_epi32(q));
    }
}

/* Sixteen chains of 256 products of all sizes and signs, zeros and cancellations among them. */
bool cpu_dp_is_chain(void)
{
    enum { K = 256 };
    uint32_t w[K / 2 * LANES], xp[K / 2], u = 1;
    float x[K], chain[K], dp[LANES * 2];
    struct ftile t = { .mr = 1, .ns = 2, .k = K, .x = xp, .ldx = K / 2, .b = { w, w }, .ldb = LANES, .y = dp,
                       .ldy = LANES * 2, .n_col = LANES * 2 };

    for (int i = 0; i < K; i++, u = u * 1664525u + 1013904223u)
        x[i] = i % 16 == 7 ? 0 : ldexpf((float)(int32_t)u, (int)(u >> 9 & 31) - 46);
    for (int i = 0; i < K / 2 * LANES; i++, u = u * 1664525u + 1013904223u)
        w[i] = i / LANES % 8 == 5 ? w[i - LANES] ^ 0x80008000u : (u & 0x8fff8fffu) | 0x30003000u;
    round_bf16(chain, x, K);
    pairs_bf16(xp, x, K);
    tile_dp(&t);
    t.x = chain;
    t.ldx = K;
    t.y = x;
    tile_bf16(&t);
    return memcmp(dp, x, sizeof dp) == 0;
}

#endif
