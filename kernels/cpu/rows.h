/* rows.h - everything that is not a matrix product, for one instruction set: exp, softmax, norm,
 * RoPE, SwiGLU, encoding of activations, K and V, widening of weights. Included after its vec_*.h.
 *
 * What must stay true: sums go by lane (index mod 16), then lanes are added as a fixed tree; no
 * step depends on the width of a register. So all instruction sets give the same bits. */
#ifndef KERNELS_CPU_ROWS_H
#define KERNELS_CPU_ROWS_H

#include <math.h>

#include "kernels/cpu/tile_float.h"

/* e^x for x below 88.3, relative error below 2e-7 (polynomial of Cephes expf). From -87.3 down it is e^-87.3: no
 * subnormals. NaN stays NaN, because max and min return their second operand then. */
INLINE vf exp_below(vf x)
{
    const vf magic = vf_set1(12582912.0f);             /* 1.5 * 2^23: adding it rounds to integer */
    vf t, n, r, p;

    x = vf_max(vf_set1(-87.3f), x);
    t = vf_fma(x, vf_set1(1.44269504f), magic);
    n = vf_sub(t, magic);
    r = vf_fma(n, vf_set1(-0.693359375f), x);          /* ln 2 in two parts */
    r = vf_fma(n, vf_set1(2.12194440e-4f), r);
    p = vf_set1(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
    p = vf_fma(p, vf_mul(r, r), r);
    return vf_mul(vf_add(p, vf_set1(1)), vf_pow2(t));
}
/* From 88.3 up it is e^88.3: no overflow to infinity. */
INLINE vf vf_exp(vf x) { return exp_below(vf_min(vf_set1(88.3f), x)); }

static float top(float *s, uint32_t n)
{
    vf most = vf_set1(-INFINITY);

    for (uint32_t i = n; i % LANES; i++)               /* unused lanes of the last tile */
        s[i] = -INFINITY;
    for (uint32_t i = 0; i < n; i += LANES)
        most = vf_max(most, vf_load(s + i));
    return vf_top(most);
}

static float softmax(float *s, uint32_t n, uint32_t n_fill, float most)
{
    vf all = vf_set1(0), m = vf_set1(most), p;
    uint32_t i;

    for (i = 0; i < n; i += LANES) {
        p = exp_below(vf_sub(vf_load(s + i), m));
        if (i + LANES > n)
            p = (vf_store(s + i, p), vf_load_part(s + i, n - i));
        vf_store(s + i, p);
        all = vf_add(all, p);
    }
    for (; i < n_fill; i += LANES)
        vf_store(s + i, vf_set1(0));
    return vf_sum(all);
}

INLINE vf load_upto(const float *p, uint32_t n)
{
    return n < LANES ? vf_load_part(p, n) : vf_load(p);
}
INLINE void store_upto(float *p, vf a, uint32_t n)
{
    if (n < LANES)
        vf_store_part(p, a, n);
    else
        vf_store(p, a);
}

/* Sixteen rows share an exp: with one row to each, merging was a tenth of a prompt's attention. */
static void merge(float *acc, float *m, float *l, const float *part, const float *pm, const float *pl,
                  uint32_t rows, uint32_t n)
{
    for (uint32_t r0 = 0; r0 < rows; r0 += LANES) {
        uint32_t left = rows - r0;
        vf was = load_upto(m + r0, left), is = load_upto(pm + r0, left), most = vf_max(was, is);
        vf keep = exp_below(vf_sub(was, most)), take = exp_below(vf_sub(is, most));
        float a[LANES], b[LANES];

        vf_store(a, keep);
        vf_store(b, take);
        store_upto(m + r0, most, left);
        store_upto(l + r0, vf_fma(load_upto(pl + r0, left), take, vf_mul(load_upto(l + r0, left), keep)), left);
        for (size_t r = 0; r < LANES && r < left; r++)
            for (size_t i = (r0 + r) * n; i < (r0 + r + 1) * n; i += LANES)
                vf_store(acc + i, vf_fma(vf_load(part + i), vf_set1(b[r]), vf_mul(vf_load(acc + i), vf_set1(a[r]))));
    }
}

static void scale(float *y, const float *x, float f, size_t n)
{
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        vf_store(y + i, vf_mul(vf_load(x + i), vf_set1(f)));
    for (; i < n; i++)
        y[i] = x[i] * f;
}

static void norm(float *y, float *x, const float *delta, const float *gain, uint32_t dim, float eps)
{
    vf sum = vf_set1(0), inv;

    for (uint32_t i = 0; i < dim; i += LANES) {
        vf a = load_upto(x + i, dim - i);

        if (delta) {
            a = vf_add(a, load_upto(delta + i, dim - i));
            store_upto(x + i, a, dim - i);
        }
        sum = vf_fma(a, a, sum);
    }
    inv = vf_set1(1.0f / sqrtf(vf_sum(sum) / (float)dim + eps));
    for (uint32_t i = 0; i < dim; i += LANES)
        store_upto(y + i,
                   vf_mul(vf_mul(load_upto(x + i, dim - i), inv), load_upto(gain + i, dim - i)),
                   dim - i);
}

static void swiglu(float *y, const float *gate, const float *up, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += LANES) {
        vf g = load_upto(gate + i, n - i), u = load_upto(up + i, n - i);
        vf e = vf_exp(vf_sub(vf_set1(0), g));

        store_upto(y + i, vf_mul(vf_div(g, vf_add(vf_set1(1), e)), u), n - i);
    }
}

static void rope(float *x, const float *cs, uint32_t half)
{
    for (uint32_t i = 0; i < half; i += LANES) {
        uint32_t n = half - i;
        vf a = load_upto(x + i, n), b = load_upto(x + half + i, n);
        vf c = load_upto(cs + i, n), s = load_upto(cs + half + i, n);
        vf down = vf_sub(vf_set1(0), vf_mul(b, s));

        store_upto(x + i, vf_fma(a, c, down), n);
        store_upto(x + half + i, vf_fma(b, c, vf_mul(a, s)), n);
    }
}

static void times_half(float *x, const uint16_t *h, float post)
{
    vf_store(x, vf_mul(vf_load(x), vf_mul(vf_load_half(h), vf_set1(post))));
}

static void widen_f16(float *out, const void *in, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        vf_store(out + i, load_elem(in, i, EL_F16));
}
static void widen_fp8(float *out, const void *in, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        vf_store(out + i, load_elem(in, i, EL_FP8));
}
static void widen_int8(float *out, const void *in, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        vf_store(out + i, load_elem(in, i, EL_INT8));
}
static void widen_bf16(float *out, const void *in, size_t n)
{
    const uint8_t *p = in;

    for (size_t i = 0; i < n; i += 2 * PANEL, p += 4 * PANEL)
        UNROLL for (int s = 0; s < 2; s++) {
            vi w = vi_load(p + s * 64);

            vf_store(out + i + (size_t)s * LANES, pair_high(w));
            vf_store(out + i + PANEL + (size_t)s * LANES, pair_low(w));
        }
}

static void widen_q4(uint8_t *out, float *scale_out, const uint8_t *panel, uint32_t k,
                     uint32_t group, uint32_t n_scale)
{
    for (uint32_t k0 = 0; k0 < k; k0 += 8) {
        if (k0 % group == 0) {
            widen_f16(scale_out, panel, (size_t)n_scale * PANEL);
            scale_out += n_scale * PANEL;
            panel += (size_t)n_scale * PANEL * 2;
        }
        for (int s = 0; s < 2; s++) {
            vi w = vi_load(panel + s * 64);

            vi_store(out + s * 64, vi_low4(w));
            vi_store(out + 128 + s * 64, vi_high4(w));
        }
        panel += 128;
        out += 256;
    }
}

/* Nearest bf16 with ties to even, as a float. Inf becomes NaN as NaN stays one: both are bad values. */
INLINE vf nearest_bf16(vf x)
{
    vi u = vi_bits(x), odd = vi_and(vi_srl(u, 16), vi_set1(1));
    vi r = vi_and(vi_add(u, vi_add(odd, vi_set1(0x7fff))), vi_set1((int32_t)0xffff0000u));

    r = vi_less(vf_abs(x), vf_set1(BF16_LEAST), vi_set1(0), r);
    return vf_fma(x, vf_set1(0), vf_bits(r));
}

static void round_bf16(float *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        vf_store(out + i, nearest_bf16(vf_load(x + i)));
}

/* Code of E4M3 for |x| <= 448, sign in front: fp8_from_f32 in integers. Below 2^-6, adding 2^14 rounds to
 * steps of 2^-9; above, half a step is added to the bits and the exponents' difference of 120 taken off. */
INLINE vi fp8_code(vf x)
{
    vf a = vf_min(vf_abs(x), vf_set1(448));
    vi u = vi_bits(a), odd = vi_and(vi_srl(u, 20), vi_set1(1));
    vi high = vi_add(vi_srl(vi_add(u, vi_add(odd, vi_set1(0x7ffff))), 20), vi_set1(-120 * 8));
    vi low = vi_add(vi_bits(vf_add(a, vf_set1(0x1p14f))), vi_set1(-0x46800000));
    vi sign = vi_and(vi_sra(vi_bits(x), 31), vi_set1(-128));

    return vi_add(vi_less(a, vf_set1(0x1p-6f), low, high), sign);
}

INLINE vi int8_code(vf x) { return vi_round(vf_max(vf_min(x, vf_set1(127)), vf_set1(-127))); }

/* Largest |x|; NaN when one of them is NaN or Inf. n: multiple of 16. Without their signs floats are ordered as
 * integers, NaN and Inf above all others: one reduction tells both. */
INLINE float largest(const float *x, uint32_t n)
{
    const int32_t inf = 0x7f800000;
    vi top = vi_set1(0);
    int32_t bits;
    float most;

    for (uint32_t i = 0; i < n; i += LANES)
        top = vi_max(top, vi_bits(vf_abs(vf_load(x + i))));
    bits = vi_top(top);
    memcpy(&most, &bits, sizeof most);
    return bits < inf ? most : NAN;
}

static void encode(enum elem el, void *out, uint16_t *scale_out, const float *x, uint32_t n)
{
    int8_t *q = out;
    float most, s;

    if (el == EL_F16) {
        for (uint32_t i = 0; i < n; i += LANES)
            vf_store_half((uint16_t *)out + i, vf_load(x + i));
        return;
    }
    most = largest(x, n) / (el == EL_FP8 ? 448.0f : 127.0f);
    *scale_out = most != most ? 0x7e00 : f16_from_f32(most > 65504 ? 65504 : most);
    s = f32_from_f16(*scale_out);
    if (!(s > 0)) {                                    /* all zero or so small, or bad: the scale says which */
        memset(q, 0, n);
        return;
    }
    for (uint32_t i = 0; i < n; i += LANES) {
        vf a = vf_div(vf_load(x + i), vf_set1(s));

        vi_store8(q + i, el == EL_FP8 ? fp8_code(a) : int8_code(a));
    }
}

/* One group; n is a multiple of 16. A group with NaN or Inf gets scale NaN: its outputs become
 * NaN. */
static void quantise_group(int8_t *q, float *s, int32_t *fix, const float *x, uint32_t n,
                           int32_t offset)
{
    vi sum = vi_set1(0);
    float most = largest(x, n);
    vf inv;

    *fix = 0;
    if (!(most >= 1e-30f)) {                           /* 127 / most would overflow */
        memset(q, 0, n);
        *s = most != most ? NAN : 0;
        return;
    }
    *s = most / 127.0f;
    inv = vf_set1(127.0f / most);
    for (uint32_t i = 0; i < n; i += LANES) {
        vi r = vi_round(vf_mul(vf_load(x + i), inv));

        vi_store8(q + i, r);
        sum = vi_add(sum, r);
    }
    *fix = -offset * vi_sum(sum);
}

static void quantise(int8_t *q, float *s, int32_t *fix, const float *x, uint32_t k, uint32_t group,
                     int32_t offset)
{
    for (uint32_t i = 0; i < k; i += group)
        quantise_group(q + i, s++, fix++, x + i, k - i < group ? k - i : group, offset);
}

/* Blocks keep their own tops, so that the first place of the largest is looked for in one of them only. */
static uint32_t argmax(const float *x, uint32_t n)
{
    enum { BLOCK = 64 * LANES };
    float best = -INFINITY;
    uint32_t at = 0;

    for (uint32_t b = 0; b < n; b += BLOCK) {
        uint32_t end = n - b < BLOCK ? n : b + BLOCK, i = b;
        vf top = vf_set1(-INFINITY), bad = vf_set1(0);
        float most;

        for (; i + LANES <= end; i += LANES) {
            vf a = vf_load(x + i);

            top = vf_max(top, a);
            bad = vf_fma(a, vf_set1(0), bad);          /* NaN once any input is NaN or Inf */
        }
        most = vf_top(top);
        for (; i < end; i++) {
            if (!isfinite(x[i]))
                return PICK_BAD_ROW;
            most = most > x[i] ? most : x[i];
        }
        if (vf_sum(bad) != 0)
            return PICK_BAD_ROW;
        if (most > best || b == 0) {
            best = most;
            at = b;
        }
    }
    while (x[at] != best)
        at++;
    return at;
}

/* Roofs: independent chains, enough to hide the latency of an FMA (4) on two ports. */
static double roof_fma(uint64_t rounds)
{
    vf a[ROOF_CHAINS], m = vf_set1(0.999f), c = vf_set1(0.001f);
    float first[LANES];

    for (int i = 0; i < LANES; i++)        /* all lanes differ, or equal halves would be merged */
        first[i] = (float)i;
    UNROLL for (int i = 0; i < ROOF_CHAINS; i++)
        a[i] = vf_add(vf_load(first), vf_set1((float)i / 64));
    for (uint64_t n = 0; n < rounds; n++)
        UNROLL for (int i = 0; i < ROOF_CHAINS; i++)
            a[i] = vf_fma(a[i], m, c);
    UNROLL for (int i = 1; i < ROOF_CHAINS; i++)
        a[0] = vf_add(a[0], a[i]);
    return vf_sum(a[0]) == -1 ? 0 : (double)rounds * ROOF_CHAINS * LANES * 2;
}

static double roof_dot(uint64_t rounds)
{
    static const int8_t four[4] = { 1, -2, 3, -4 };
    vi a[ROOF_CHAINS], w = vi_set1(0x01020304);
    vx4 x = vx4_load(four);

    UNROLL for (int i = 0; i < ROOF_CHAINS; i++)
        a[i] = vi_set1(i);
    for (uint64_t n = 0; n < rounds; n++)
        UNROLL for (int i = 0; i < ROOF_CHAINS; i++)
            a[i] = vi_dot15(a[i], vi_opaque(w), x);
    UNROLL for (int i = 1; i < ROOF_CHAINS; i++)
        a[0] = vi_add(a[0], a[i]);
    return vi_sum(a[0]) == 1 ? 0 : (double)rounds * ROOF_CHAINS * LANES * 8;
}

static double roof_read(const void *p, size_t n)
{
    const uint8_t *b = p;
    vi a[4] = { vi_set1(0), vi_set1(0), vi_set1(0), vi_set1(0) };

    for (size_t i = 0; i < n; i += 1024)
        UNROLL for (int j = 0; j < 16; j++)
            a[j % 4] = vi_add(a[j % 4], vi_load(b + i + (size_t)j * 64));
    return vi_sum(vi_add(vi_add(a[0], a[1]), vi_add(a[2], a[3])));
}

#define ROWS_TABLE                                                                        \
    .widen = { [EL_F16] = widen_f16, [EL_FP8] = widen_fp8, [EL_INT8] = widen_int8,        \
               [EL_BF16] = widen_bf16 },                                                  \
    .widen_q4 = widen_q4, .quantise = quantise, .encode = encode,                         \
    .round_bf16 = round_bf16, .times_half = times_half, .scale = scale,                   \
    .norm = norm, .swiglu = swiglu, .rope = rope, .top = top,             \
    .softmax = softmax, .merge = merge, .argmax = argmax, .roof_fma = roof_fma, .roof_dot = roof_dot,         \
    .roof_read = roof_read

#endif
