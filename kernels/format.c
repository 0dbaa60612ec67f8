/* format.c - encode and decode of weight formats; half floats in portable integer arithmetic.
 *
 * f16 conversion rounds to nearest even and is exact for subnormals, infinities and NaN: it
 * gives the bits that F16C gives (tests/test_format.c compares all halves and a sweep of
 * floats). int4 follows ggml's Q4_0: the extreme of largest magnitude, signed, maps to -8, so
 * one end of the range is always hit; int8 is the plain symmetric 127 grid. Quantisation uses
 * the scale *after* its rounding to f16, so decode(encode(w)) is the nearest point of the grid
 * that is really stored. A group that holds NaN or Inf gets a NaN scale: bad weights poison
 * outputs, they never vanish. */
#include "kernels/format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"

const char *const role_name[ROLE_N] = { "qkv", "o", "gate_up", "down", "head", "embed" };

enum { F16_NAN = 0x7e00, F16_MAX_INT = 65504 };

const char *fmt_name(enum fmt f)
{
    static const char *const name[FMT_N] = {
        "f32", "f16", "bf16", "fp8", "int8", "int4", "int4z", "bf16-a16", "int8-a32", "int4-a32", "int4z-a32"
    };

    return (unsigned)f < FMT_N ? name[f] : "?";
}

enum fmt fmt_stored(enum fmt f)
{
    switch (f) {
    case FMT_BF16_A16: return FMT_BF16;
    case FMT_INT8_A32: return FMT_INT8;
    case FMT_INT4_A32: return FMT_INT4;
    case FMT_INT4Z_A32: return FMT_INT4Z;
    default: return f;
    }
}

static bool is_grouped(enum fmt f) { return fmt_stored(f) == FMT_INT4 || fmt_stored(f) == FMT_INT4Z; }

size_t wfmt_name(struct wfmt f, char *out, size_t n)
{
    int len = f.group == GROUP_ROW ? snprintf(out, n, "%s row", fmt_name(f.fmt))
            : f.group ? snprintf(out, n, "%s g%u", fmt_name(f.fmt), (unsigned)f.group)
                      : snprintf(out, n, "%s", fmt_name(f.fmt));

    return len < 0 ? 0 : (size_t)len;
}

uint64_t wfmt_scale_bytes(struct wfmt f, uint32_t n, uint32_t k)
{
    switch (fmt_stored(f.fmt)) {
    case FMT_FP8:
    case FMT_INT8: return 2 * (uint64_t)n;
    case FMT_INT4: return f.group ? 2 * (uint64_t)n * ceil_div_u32(k, f.group) : 0;
    case FMT_INT4Z: return f.group ? 4 * (uint64_t)n * ceil_div_u32(k, f.group) : 0;
    default: return 0;
    }
}

uint64_t wfmt_bytes(struct wfmt f, uint32_t n, uint32_t k)
{
    static const uint32_t bits[] = { 32, 16, 16, 8, 8, 4, 4 };       /* of the stored formats */
    uint64_t row, body, all;

    if ((unsigned)f.fmt >= FMT_N || k % 32 || (is_grouped(f.fmt) && !f.group))
        return 0;
    row = (uint64_t)k * bits[fmt_stored(f.fmt)] / 8;
    if (!mul_u64(row, n, &body) || !add_u64(body, wfmt_scale_bytes(f, n, k), &all))
        return 0;
    return all;
}

uint16_t f16_from_f32(float x)
{
    uint32_t u, sign, h;
    float small;

    memcpy(&u, &x, 4);
    sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000)                         /* NaN: quiet, upper payload bits kept, as F16C */
        h = 0x7e00 | (u >> 13 & 0x3ff);
    else if (u >= 0x477ff000)                   /* from 65520 up everything rounds to infinity */
        h = 0x7c00;
    else if (u >= 0x38800000)                   /* normal: add half an ulp, ties to even */
        h = ((u + 0xfff + (u >> 13 & 1)) >> 13) - (112 << 10);
    else {                                      /* below 2^-14: the adder of 0.5f rounds at 2^-24 */
        memcpy(&small, &u, 4);
        small += 0.5f;
        memcpy(&h, &small, 4);
        h -= 0x3f000000;
    }
    return (uint16_t)(sign | h);
}

float f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3ff, u;
    float x;

    if (e == 0) {                               /* zero and subnormals: m * 2^-24 is exact */
        x = (float)m * 0x1p-24f;
        memcpy(&u, &x, 4);
    } else if (e == 31) {
        u = 0x7f800000 | m << 13 | (m ? 0x400000u : 0);
    } else {
        u = (e + 112) << 23 | m << 13;
    }
    u |= sign;
    memcpy(&x, &u, 4);
    return x;
}

uint16_t bf16_from_f32(float x)
{
    uint32_t u;

    memcpy(&u, &x, 4);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float f32_from_bf16(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float x;

    memcpy(&x, &u, 4);
    return x;
}

/* E4M3: bias 7, no infinities, 0x7f is NaN, largest 448; below 2^-6 steps of 2^-9. */
uint8_t fp8_from_f32(float x)
{
    uint8_t sign = signbit(x) ? 0x80 : 0;
    float a = fabsf(x);
    uint32_t u;

    if (a != a)
        return 0x7f;
    if (a >= 464)                               /* the middle of 448 and what would be 480 */
        return sign | 0x7e;
    if (a < 0x1p-6f)
        return (uint8_t)(sign | (int)rintf(a * 0x1p9f));        /* 8 is the least normal number */
    memcpy(&u, &a, 4);
    return (uint8_t)(sign | (((u + 0x7ffff + (u >> 20 & 1)) >> 20) - (120 << 3)));     /* ties to even */
}

float f32_from_fp8(uint8_t q)
{
    int e = q >> 3 & 15, m = q & 7;
    float x = e ? ldexpf((float)(8 + m), e - 10) : (float)m * 0x1p-9f;

    if ((q & 0x7f) == 0x7f)
        x = NAN;
    return q & 0x80 ? -x : x;
}

/* The stored scale of a group, and in *s its value; NaN when the group is not finite. */
static uint16_t scale_of(float want, bool finite, float *s)
{
    uint16_t h = F16_NAN;

    if (finite) {
        want = fminf(fmaxf(want, -F16_MAX_INT), F16_MAX_INT);
        h = f16_from_f32(want);
    }
    *s = f32_from_f16(h);
    return h;
}

/* Nearest integer to x / s within [lo, hi]; 0 when the scale is no use. */
static int grid(float x, float s, int lo, int hi)
{
    float q;

    if (s == 0 || s != s)
        return 0;
    q = rintf(x / s);
    return q < (float)lo ? lo : q > (float)hi ? hi : (int)q;
}

/* The element of largest magnitude, with its sign; *finite tells whether all are finite. */
static float extreme(const float *x, uint32_t n, bool *finite)
{
    float best = 0;

    *finite = true;
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            *finite = false;
        else if (fabsf(x[i]) > fabsf(best))
            best = x[i];
    }
    return best;
}

static void encode_int8(const float *row, uint32_t k, int8_t *q, uint16_t *scale)
{
    bool finite;
    float s, most = fabsf(extreme(row, k, &finite));

    *scale = scale_of(most / 127, finite, &s);
    for (uint32_t i = 0; i < k; i++)
        q[i] = (int8_t)grid(row[i], s, -127, 127);
}

/* Loops over groups end with GROUP_ROW as well: k is below UINT32_MAX. */
static void encode_int4(const float *row, uint32_t k, uint32_t group, uint8_t *q, uint16_t *scale)
{
    for (uint32_t k0 = 0; k0 < k; k0 += group) {
        uint32_t n = min_u32(group, k - k0);
        bool finite;
        float s, most = extreme(row + k0, n, &finite);

        *scale++ = scale_of(most / -8, finite, &s);
        for (uint32_t i = k0; i < k0 + n; i += 2) {
            int lo = grid(row[i], s, -8, 7) + 8, hi = grid(row[i + 1], s, -8, 7) + 8;

            q[i / 2] = (uint8_t)(lo | hi << 4);
        }
    }
}

static void encode_fp8(const float *row, uint32_t k, uint8_t *q, uint16_t *scale)
{
    bool finite;
    float s, most = fabsf(extreme(row, k, &finite));

    *scale = scale_of(most / 448, finite, &s);
    for (uint32_t i = 0; i < k; i++)
        q[i] = s > 0 ? fp8_from_f32(row[i] / s) : 0;
}

/* Scale and least value of a group, side by side. */
static void encode_int4z(const float *row, uint32_t k, uint32_t group, uint8_t *q, uint16_t *scale)
{
    for (uint32_t k0 = 0; k0 < k; k0 += group, scale += 2) {
        uint32_t n = min_u32(group, k - k0);
        float lo = row[k0], hi = lo, s, m;
        bool finite = true;

        for (uint32_t i = k0; i < k0 + n; i++) {
            finite = finite && isfinite(row[i]);
            lo = fminf(lo, row[i]);
            hi = fmaxf(hi, row[i]);
        }
        scale[1] = scale_of(lo, finite, &m);
        scale[0] = scale_of((hi - m) / 15, finite, &s);
        for (uint32_t i = k0; i < k0 + n; i += 2)
            q[i / 2] = (uint8_t)(grid(row[i] - m, s, 0, 15) | grid(row[i + 1] - m, s, 0, 15) << 4);
    }
}

void row_encode(struct wfmt f, const float *row, uint32_t k, void *q, uint16_t *scale)
{
    uint16_t *h = q;

    switch (fmt_stored(f.fmt)) {
    case FMT_F16:
        for (uint32_t i = 0; i < k; i++)
            h[i] = f16_from_f32(row[i]);
        break;
    case FMT_BF16:
        for (uint32_t i = 0; i < k; i++)
            h[i] = bf16_from_f32(row[i]);
        break;
    case FMT_FP8: encode_fp8(row, k, q, scale); break;
    case FMT_INT8: encode_int8(row, k, q, scale); break;
    case FMT_INT4: encode_int4(row, k, f.group, q, scale); break;
    case FMT_INT4Z: encode_int4z(row, k, f.group, q, scale); break;
    default: memcpy(q, row, (size_t)k * sizeof *row);
    }
}

static void decode_int4(const uint8_t *q, const uint16_t *scale, uint32_t group, uint32_t k,
                        float *row)
{
    for (uint32_t i = 0; i < k; i++) {
        int u = i % 2 ? q[i / 2] >> 4 : q[i / 2] & 15;

        row[i] = (float)(u - 8) * f32_from_f16(scale[i / group]);
    }
}

static void decode_int4z(const uint8_t *q, const uint16_t *scale, uint32_t group, uint32_t k,
                         float *row)
{
    for (uint32_t i = 0; i < k; i++) {
        int u = i % 2 ? q[i / 2] >> 4 : q[i / 2] & 15;
        const uint16_t *g = scale + (size_t)2 * (i / group);

        row[i] = fmaf((float)u, f32_from_f16(g[0]), f32_from_f16(g[1]));
    }
}

void row_decode(struct wfmt f, const void *q, const uint16_t *scale, uint32_t k, float *row)
{
    const uint16_t *h = q;
    const int8_t *b = q;
    const uint8_t *u = q;

    switch (fmt_stored(f.fmt)) {
    case FMT_F16:
        for (uint32_t i = 0; i < k; i++)
            row[i] = f32_from_f16(h[i]);
        break;
    case FMT_BF16:
        for (uint32_t i = 0; i < k; i++)
            row[i] = f32_from_bf16(h[i]);
        break;
    case FMT_FP8:
        for (uint32_t i = 0; i < k; i++)
            row[i] = f32_from_fp8(u[i]) * f32_from_f16(*scale);
        break;
    case FMT_INT8:
        for (uint32_t i = 0; i < k; i++)
            row[i] = (float)b[i] * f32_from_f16(*scale);
        break;
    case FMT_INT4: decode_int4(q, scale, f.group, k, row); break;
    case FMT_INT4Z: decode_int4z(q, scale, f.group, k, row); break;
    default: memcpy(row, q, (size_t)k * sizeof *row);
    }
}

uint32_t kv_row_bytes(enum fmt f, uint32_t head_dim)
{
    switch (f) {
    case FMT_F32: return head_dim * 4;          /* reference only */
    case FMT_F16: return head_dim * 2;
    case FMT_FP8:
    case FMT_INT8: return head_dim + 2;
    default: return 0;
    }
}
