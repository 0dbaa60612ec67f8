/* vec_scalar.h - sixteen F32 or int32 lanes in plain C: the meaning of vec_avx2.h and vec_avx512.h.
 *
 * Every operation is IEEE-exact per lane and gives the same bits in all three files: max and min
 * return their second operand when one is NaN (as MAXPS does), rounding is to nearest even, fma
 * is fused. */
#ifndef KERNELS_CPU_VEC_H
#define KERNELS_CPU_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/format.h"

typedef struct { float l[16]; } vf;
typedef struct { int32_t l[16]; } vi;      /* also: 64 bytes, four to a lane */

#define VEC static inline
#define EACH for (int i = 0; i < 16; i++)

VEC vf vf_load(const float *p) { vf r; memcpy(&r, p, sizeof r); return r; }
VEC void vf_store(float *p, vf a) { memcpy(p, &a, sizeof a); }
VEC vf vf_load_part(const float *p, uint32_t n)        /* lanes n.. are 0; n < 16 */
{
    vf r = { { 0 } };

    memcpy(&r, p, n * sizeof *p);
    return r;
}
VEC void vf_store_part(float *p, vf a, uint32_t n) { memcpy(p, &a, n * sizeof *p); }
VEC vf vf_load_half(const uint16_t *p) { vf r; EACH r.l[i] = f32_from_f16(p[i]); return r; }
VEC void vf_store_half(uint16_t *p, vf a) { EACH p[i] = f16_from_f32(a.l[i]); }
VEC vf vf_load_s8(const void *p) { const int8_t *q = p; vf r; EACH r.l[i] = q[i]; return r; }
/* Codes of fp8 as halves of the same bits, one place down: 2^-8 of their value, exactly. */
VEC vf vf_load_fp8(const void *p)
{
    const int8_t *q = p;
    vf r;

    EACH r.l[i] = f32_from_f16((uint16_t)((uint32_t)q[i] << 7 & 0xbfff));
    return r;
}
VEC vf vf_set1(float x) { vf r; EACH r.l[i] = x; return r; }
VEC vf vf_add(vf a, vf b) { EACH a.l[i] += b.l[i]; return a; }
VEC vf vf_sub(vf a, vf b) { EACH a.l[i] -= b.l[i]; return a; }
VEC vf vf_mul(vf a, vf b) { EACH a.l[i] *= b.l[i]; return a; }
VEC vf vf_div(vf a, vf b) { EACH a.l[i] /= b.l[i]; return a; }
VEC vf vf_fma(vf a, vf b, vf c) { EACH a.l[i] = fmaf(a.l[i], b.l[i], c.l[i]); return a; }
VEC vf vf_max(vf a, vf b) { EACH a.l[i] = a.l[i] > b.l[i] ? a.l[i] : b.l[i]; return a; }
VEC vf vf_min(vf a, vf b) { EACH a.l[i] = a.l[i] < b.l[i] ? a.l[i] : b.l[i]; return a; }
VEC vf vf_abs(vf a) { EACH a.l[i] = fabsf(a.l[i]); return a; }
/* 2^n for t = n + 1.5 * 2^23: n sits in the low mantissa bits of t */
VEC vf vf_pow2(vf t)
{
    uint32_t u[16];

    memcpy(u, &t, sizeof u);
    EACH u[i] = (u[i] << 23) + 0x3f800000u;
    memcpy(&t, u, sizeof t);
    return t;
}
/* Lanes as a tree: i + (i + 8), then + 4, + 2, + 1. */
VEC float vf_sum(vf a)
{
    for (int n = 8; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            a.l[i] += a.l[i + n];
    return a.l[0];
}
VEC float vf_top(vf a)                     /* order is free: a maximum has no rounding */
{
    for (int i = 1; i < 16; i++)
        a.l[0] = a.l[0] > a.l[i] ? a.l[0] : a.l[i];
    return a.l[0];
}
VEC vi vi_round(vf a) { vi r; EACH r.l[i] = (int32_t)rintf(a.l[i]); return r; }
VEC vf vf_of(vi a) { vf r; EACH r.l[i] = (float)a.l[i]; return r; }
VEC vi vi_set1(int32_t x) { vi r; EACH r.l[i] = x; return r; }
VEC vi vi_add(vi a, vi b) { EACH a.l[i] += b.l[i]; return a; }
VEC vi vi_max(vi a, vi b) { EACH a.l[i] = a.l[i] > b.l[i] ? a.l[i] : b.l[i]; return a; }
VEC vi vi_and(vi a, vi b) { EACH a.l[i] &= b.l[i]; return a; }
VEC vi vi_sll(vi a, int n) { EACH a.l[i] = (int32_t)((uint32_t)a.l[i] << n); return a; }
VEC vi vi_srl(vi a, int n) { EACH a.l[i] = (int32_t)((uint32_t)a.l[i] >> n); return a; }
VEC vi vi_sra(vi a, int n) { EACH a.l[i] = a.l[i] >> n; return a; }
VEC vi vi_bits(vf a) { vi r; memcpy(&r, &a, sizeof r); return r; }      /* the same bits */
VEC vf vf_bits(vi a) { vf r; memcpy(&r, &a, sizeof r); return r; }
/* a < b ? x : y; NaN is not less */
VEC vi vi_less(vf a, vf b, vi x, vi y) { EACH x.l[i] = a.l[i] < b.l[i] ? x.l[i] : y.l[i]; return x; }
VEC vi vi_opaque(vi a) { return a; } /* the compiler knows nothing of it: loops keep their work */
VEC int32_t vi_sum(vi a) { int32_t s = 0; EACH s += a.l[i]; return s; }
VEC int32_t vi_top(vi a) { EACH a.l[0] = a.l[0] > a.l[i] ? a.l[0] : a.l[i]; return a.l[0]; }
VEC void vi_store8(int8_t *p, vi a) { EACH p[i] = (int8_t)a.l[i]; }
VEC vi vi_load(const uint8_t *p) { vi r; memcpy(&r, p, sizeof r); return r; }
VEC void vi_store(uint8_t *p, vi a) { memcpy(p, &a, sizeof a); }
VEC vi vi_low4(vi a) { EACH a.l[i] &= 0x0f0f0f0f; return a; }
VEC vi vi_high4(vi a) { EACH a.l[i] = a.l[i] >> 4 & 0x0f0f0f0f; return a; }
/* Four activations, the same for all lanes; a dot adds their products with a lane's four weights: 0..15, or
 * bytes q + 128, of which q is the weight where DOT8_SIGNED, q + 128 elsewhere. */
enum { DOT8_SIGNED = 0 };
typedef struct { int8_t x[4]; } vx4;
VEC vx4 vx4_load(const int8_t *p) { vx4 r; memcpy(&r, p, 4); return r; }
VEC vi vi_dot8(vi acc, vi w, vx4 x)
{
    uint8_t b[64];

    memcpy(b, &w, sizeof b);
    EACH for (int j = 0; j < 4; j++)
        acc.l[i] += b[i * 4 + j] * x.x[j];
    return acc;
}
VEC vi vi_dot15(vi acc, vi w, vx4 x) { return vi_dot8(acc, w, x); }

#endif
