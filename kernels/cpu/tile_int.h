/* tile_int.h - the integer tiles of one instruction set (W4A8, W8A8); included after tile_float.h.
 *
 * Weights are unsigned bytes (u4 + 8, or q + 128), activations signed: the form of vpdpbusd. The
 * offset is taken back by starting each group's accumulator at -offset * sum(x), so group sums are
 * exact integers and every instruction set agrees. Groups are folded in ascending order by one
 * fused multiply-add:
 *   int4: total = fma(dot * sx, sw, total)    int8: total = fma(dot, sx, total), y = total * sw */
#ifndef KERNELS_CPU_TILE_INT_H
#define KERNELS_CPU_TILE_INT_H

#include "kernels/cpu/tile_float.h"

enum qkind { Q4, Q4W, Q8 };

/* Integer dots of inputs [0, n) of one group; b points at the group's weights of each strip. */
INLINE void group_dot(const struct qtile *t, vi *acc, const uint8_t *const *b, const int8_t *x,
                      uint32_t n, const int mr, const int ns, const enum qkind kind)
{
    const size_t ldx = t->ldx;

    for (uint32_t k = 0; k < n; k += kind == Q4 ? 8 : 4) {
        const size_t at = kind == Q4 ? (size_t)k * 16 : (size_t)k * 32;

        UNROLL for (int s = 0; s < ns; s++) {
            vi w = vi_load(b[s] + at);
            vi lo = kind == Q4 ? vi_low4(w) : w, hi = vi_high4(w);

            UNROLL for (int r = 0; r < mr; r++) {
                const int8_t *xr = x + (size_t)r * ldx + k;

                if (kind == Q8) {
                    acc[r * ns + s] = vi_dot255(acc[r * ns + s], lo, vx4_load(xr));
                } else {
                    acc[r * ns + s] = vi_dot15(acc[r * ns + s], lo, vx4_load(xr));
                    if (kind == Q4)
                        acc[r * ns + s] = vi_dot15(acc[r * ns + s], hi, vx4_load(xr + 4));
                }
            }
        }
    }
}

INLINE void tile_int(const struct qtile *t, const int mr, const int ns, const enum qkind kind)
{
    /* bytes from a group to the next, in weights and in scales (pack.h) */
    const size_t step_b = kind == Q4 ? 64 + (size_t)t->group * 16 : (size_t)t->group * 32;
    const size_t step_s = kind == Q4 ? step_b : kind == Q4W ? PANEL * sizeof(float) : 0;
    vf total[MR_MAX * 2];
    const uint8_t *b[NS_MAX];

    for (int s = 0; s < ns; s++)
        b[s] = t->b[s];
    UNROLL for (int i = 0; i < mr * ns; i++)
        total[i] = vf_set1(0);
    for (uint32_t k = 0, g = 0; k < t->k; k += t->group, g++) {
        uint32_t n = t->k - k < t->group ? t->k - k : t->group;
        vi acc[MR_MAX * 2];

        UNROLL for (int r = 0; r < mr; r++)
            UNROLL for (int s = 0; s < ns; s++)
                acc[r * ns + s] = vi_set1(t->fix[(size_t)r * t->ldg + g]);
        group_dot(t, acc, b, t->x + k, n, mr, ns, kind);
        UNROLL for (int s = 0; s < ns; s++) {
            const char *p = (const char *)t->sw[s] + g * step_s;
            vf sw = kind == Q4W ? vf_load((const float *)(const void *)p)
                                : vf_load_half((const uint16_t *)(const void *)p);

            UNROLL for (int r = 0; r < mr; r++) {
                vf sx = vf_set1(t->sx[(size_t)r * t->ldg + g]), d = vf_of(acc[r * ns + s]);

                total[r * ns + s] = kind == Q8 ? vf_fma(d, sx, total[r * ns + s])
                                               : vf_fma(vf_mul(d, sx), sw, total[r * ns + s]);
            }
            b[s] += step_b;
        }
    }
    UNROLL for (int s = 0; s < ns; s++) {
        UNROLL for (int r = 0; r < mr; r++) {
            vf y = total[r * ns + s];

            if (kind == Q8)
                y = vf_mul(y, vf_load_half(t->sw[s]));
            put_strip(t->y + (size_t)r * t->ldy, y, t->n_col, (uint32_t)s * LANES);
        }
    }
}

#define QTILE_CASE(mr, ns) case (mr) * 16 + (ns): tile_int(t, mr, ns, KIND); return;

#endif
