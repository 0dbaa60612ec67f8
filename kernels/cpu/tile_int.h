/* tile_int.h - the integer tiles of one instruction set (W4A8, W8A8); included after tile_float.h.
 *
 * Weights are unsigned bytes (u4 + 8, or q + 128), activations signed: the form of vpdpbusd. The
 * offset of symmetric formats is taken back by starting each group's accumulator at -offset *
 * sum(x), so group sums are exact integers and every instruction set agrees. Groups are folded in
 * ascending order by one fused multiply-add:
 *   int4:  total = fma(dot * sx, sw, total)    int8: total = fma(dot, sx, total), y = total * sw
 *   int4z: as int4 with unsigned nibbles, then total = fma(sum(x) * sx, least, total) */
#ifndef KERNELS_CPU_TILE_INT_H
#define KERNELS_CPU_TILE_INT_H

#include "kernels/cpu/tile_float.h"

#define PACKED(kind) ((kind) == Q4 || (kind) == Q4Z)
#define LEAST(kind) ((kind) == Q4Z || (kind) == Q4ZW)
#define STARTS_AT_0(kind) (LEAST(kind) || ((kind) == Q8 && DOT8_SIGNED))     /* no offset in the weights */

/* Weights of strip s for inputs k..k+3 (half 0) or, of packed nibbles, k+4..k+7 (half 1). */
INLINE vi four_inputs(const uint8_t *b, uint32_t k, int half, const enum qkind kind)
{
    vi w = vi_load(b + (PACKED(kind) ? (size_t)k * 16 : (size_t)k * 32));

    return !PACKED(kind) ? w : half ? vi_high4(w) : vi_low4(w);
}

/* Only the weights of four inputs are held at a time: with mr 7 and ns 2, sums, totals, weights and x fill all
 * 32 registers. */
INLINE void four_dots(const struct qtile *t, vi *acc, const uint8_t *const *b, const int8_t *x, uint32_t k,
                      int half, const int mr, const int ns, const enum qkind kind)
{
    const size_t ldx = t->ldx;
    vi w[NS_MAX];

    UNROLL for (int s = 0; s < ns; s++)
        w[s] = four_inputs(b[s], k, half, kind);
    UNROLL for (int r = 0; r < mr; r++) {
        vx4 xr = vx4_load(x + (size_t)r * ldx + k + 4 * half);

        UNROLL for (int s = 0; s < ns; s++)
            acc[r * ns + s] = kind == Q8 ? vi_dot8(acc[r * ns + s], w[s], xr)
                                         : vi_dot15(acc[r * ns + s], w[s], xr);
    }
}

/* Integer dots of inputs [0, n) of one group; b points at the group's weights of each strip. */
INLINE void group_dot(const struct qtile *t, vi *acc, const uint8_t *const *b, const int8_t *x,
                      uint32_t n, const int mr, const int ns, const enum qkind kind)
{
    for (uint32_t k = 0; k < n; k += PACKED(kind) ? 8 : 4) {
        if (FETCHES(mr) && PACKED(kind))          /* int8: 3 to 5 % slower with it */
            UNROLL for (int s = 0; s < ns; s++)
                fetch_early(b[s] + (size_t)k * 16);
        four_dots(t, acc, b, x, k, 0, mr, ns, kind);
        if (PACKED(kind))
            four_dots(t, acc, b, x, k, 1, mr, ns, kind);
    }
}

/* Scales (at 0) or least values (at 1) of a strip's group. */
INLINE vf group_scale(const char *p, int at, const enum qkind kind)
{
    p += (size_t)at * PANEL * (PACKED(kind) ? sizeof(uint16_t) : sizeof(float));
    return PACKED(kind) ? vf_load_half((const uint16_t *)(const void *)p)
                        : vf_load((const float *)(const void *)p);
}

/* Totals stay in registers beside the sums, or in `held` where rows are too many for both. */
#define HELD(mr) ((mr) > MR_TOTALS)

/* Folds the sums of group g into the totals; `step` bytes lie between the scales of groups. */
INLINE void fold(const struct qtile *t, vf *total, float *held, const vi *acc, uint32_t g, size_t step,
                 const int mr, const int ns, const enum qkind kind)
{
    vf sw[NS_MAX], least[NS_MAX];

    UNROLL for (int s = 0; s < ns && kind != Q8; s++) {
        sw[s] = group_scale((const char *)t->sw[s] + g * step, 0, kind);
        if (LEAST(kind))
            least[s] = group_scale((const char *)t->sw[s] + g * step, 1, kind);
    }
    UNROLL for (int r = 0; r < mr; r++) {
        float one = t->sx[(size_t)r * t->ldg + g];
        vf sx = vf_set1(one), sum = vf_set1(LEAST(kind) ? (float)t->fix[(size_t)r * t->ldg + g] * one : 0);

        UNROLL for (int s = 0; s < ns; s++) {
            const int i = r * ns + s;
            vf d = vf_of(acc[i]), y = HELD(mr) ? vf_load(held + i * LANES) : total[i];

            y = kind == Q8 ? vf_fma(d, sx, y) : vf_fma(vf_mul(d, sx), sw[s], y);
            if (LEAST(kind))
                y = vf_fma(sum, least[s], y);
            if (HELD(mr))
                vf_store(held + i * LANES, y);
            else
                total[i] = y;
        }
    }
}

INLINE void tile_int(const struct qtile *t, const int mr, const int ns, const enum qkind kind)
{
    /* bytes from a group to the next, in weights and in scales (pack.h) */
    const size_t scales = (LEAST(kind) ? 2u : 1u) * PANEL * (PACKED(kind) ? sizeof(uint16_t) : sizeof(float));
    const size_t step_b = PACKED(kind) ? scales + (size_t)t->group * 16 : (size_t)t->group * 32;
    const size_t step_s = PACKED(kind) ? step_b : kind == Q8 ? 0 : scales;
    vf total[MR_MAX * 2];
    _Alignas(64) float held[HELD(mr) ? MR_MAX * 2 * LANES : 1];
    const uint8_t *b[NS_MAX];

    for (int s = 0; s < ns; s++)
        b[s] = t->b[s];
    UNROLL for (int i = 0; i < mr * ns; i++)
        total[i] = vf_set1(0);
    if (HELD(mr))
        memset(held, 0, sizeof held);
    if (mr > 2)                                   /* rows of y lie far apart and are stored at the end */
        UNROLL for (int i = 0; i < mr * ns; i++)
            __builtin_prefetch(t->y + (size_t)(i / ns) * t->ldy + (i % ns) * LANES, 1, 3);
    for (uint32_t k = 0, g = 0; k < t->k; k += t->group, g++) {
        uint32_t n = t->k - k < t->group ? t->k - k : t->group;
        vi acc[MR_MAX * 2];

        UNROLL for (int r = 0; r < mr; r++)
            UNROLL for (int s = 0; s < ns; s++)
                acc[r * ns + s] = vi_set1(STARTS_AT_0(kind) ? 0 : t->fix[(size_t)r * t->ldg + g]);
        group_dot(t, acc, b, t->x + k, n, mr, ns, kind);
        in_memory(held);
        fold(t, total, held, acc, g, step_s, mr, ns, kind);
        UNROLL for (int s = 0; s < ns; s++)
            b[s] += step_b;
    }
    UNROLL for (int s = 0; s < ns; s++) {
        UNROLL for (int r = 0; r < mr; r++) {
            vf y = HELD(mr) ? vf_load(held + (r * ns + s) * LANES) : total[r * ns + s];

            if (kind == Q8)
                y = vf_mul(y, vf_load_half(t->sw[s]));
            put_strip(t->y + (size_t)r * t->ldy, y, t->n_col, (uint32_t)s * LANES);
        }
    }
}

#endif
