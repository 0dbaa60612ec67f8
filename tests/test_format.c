/* test_format.c - number formats: halves against the hardware, round trips, error bounds, bytes. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include <immintrin.h>

#include "base/hash.h"
#include "kernels/format.h"
#include "tests/test.h"

static uint32_t bits_of(float x)
{
    uint32_t u;

    memcpy(&u, &x, 4);
    return u;
}

static float of_bits(uint32_t u)
{
    float x;

    memcpy(&x, &u, 4);
    return x;
}

static void half_known_values(void)
{
    static const struct { float x; uint16_t h; } row[] = {
        { 0.0f, 0x0000 }, { -0.0f, 0x8000 }, { 1.0f, 0x3c00 }, { -2.0f, 0xc000 },
        { 65504.0f, 0x7bff }, { 65519.996f, 0x7bff }, { 65520.0f, 0x7c00 }, { 1e30f, 0x7c00 },
        { INFINITY, 0x7c00 }, { -INFINITY, 0xfc00 }, { 0x1p-14f, 0x0400 }, { 0x1p-24f, 0x0001 },
        { 0x1p-25f, 0x0000 }, { 0x1.000002p-25f, 0x0001 }, { 0x1.8p-24f, 0x0002 },
        { 0x1.ff8p-15f, 0x03ff }, { 0x1.ffcp-15f, 0x0400 }, { 1.0f + 0x1p-11f, 0x3c00 },
        { 1.0f + 0x3p-11f, 0x3c02 }, { 0x1p-149f, 0x0000 }
    };

    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        if (f16_from_f32(row[i].x) != row[i].h)
            test_note("%a gave %04x, expected %04x", (double)row[i].x, f16_from_f32(row[i].x),
                      row[i].h);
        CU_ASSERT_EQUAL(f16_from_f32(row[i].x), row[i].h);
    }
    CU_ASSERT(isnan(f32_from_f16(f16_from_f32(NAN))));
    CU_ASSERT(isinf(f32_from_f16(0x7c00)));
}

static void half_round_trips(void)
{
    unsigned bad = 0;

    for (uint32_t h = 0; h < 0x10000; h++) {
        bool is_nan = (h & 0x7fff) > 0x7c00;
        uint16_t back = f16_from_f32(f32_from_f16((uint16_t)h));

        bad += back != (is_nan ? h | 0x200 : h);       /* a signalling NaN becomes quiet */
    }
    CU_ASSERT_EQUAL(bad, 0);
}

__attribute__((target("avx,f16c"))) static uint16_t hard_half(float x)
{
    return (uint16_t)_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT), 0);
}

__attribute__((target("avx,f16c"))) static float hard_float(uint16_t h)
{
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}

/* Every half; every float next to a half or to the middle of two; and a million random ones. */
static void half_is_what_the_hardware_does(void)
{
    unsigned bad = 0;
    struct rng r;

    if (!__builtin_cpu_supports("avx2")) {
        test_skip("this CPU has no F16C to compare with");
        return;
    }
    for (uint32_t h = 0; h < 0x10000; h++) {
        uint32_t u = bits_of(f32_from_f16((uint16_t)h));

        bad += u != bits_of(hard_float((uint16_t)h));
        for (uint32_t d = 0; d < 3; d++) {
            bad += f16_from_f32(of_bits(u + d - 1)) != hard_half(of_bits(u + d - 1));
            bad += f16_from_f32(of_bits(u + 0xfff + d)) != hard_half(of_bits(u + 0xfff + d));
        }
    }
    rng_seed(&r, 1);
    for (int i = 0; i < 1000000; i++) {
        float x = of_bits((uint32_t)rng_next(&r));

        bad += f16_from_f32(x) != hard_half(x);
    }
    CU_ASSERT_EQUAL(bad, 0);
}

enum { K = 1536 };

static void fill(float *x, uint32_t k, uint64_t seed, double size)
{
    struct rng r;

    rng_seed(&r, seed);
    for (uint32_t i = 0; i < k; i++)
        x[i] = (float)(rng_normal(&r) * size);
}

/* Largest error of encode and decode in units of the stored scale of its group. */
static double worst_steps(struct wfmt f, const float *x, uint32_t k)
{
    static _Thread_local uint8_t q[K * 4];
    static _Thread_local uint16_t scale[K / 16];
    float back[K];
    double worst = 0;

    row_encode(f, x, k, q, scale);
    row_decode(f, q, scale, k, back);
    for (uint32_t i = 0; i < k; i++) {
        float s = f.fmt == FMT_INT8 || f.fmt == FMT_FP8 ? f32_from_f16(scale[0])
                : f.fmt == FMT_INT4 ? f32_from_f16(scale[i / f.group])
                : f.fmt == FMT_INT4Z ? f32_from_f16(scale[2 * (i / f.group)]) : 1;

        worst = fmax(worst, fabs((double)x[i] - back[i]) / fabs((double)s));
    }
    return worst;
}

static void errors_are_bounded(void)
{
    static const uint32_t ks[] = { 32, 96, 576, K };
    float x[K];

    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++) {
        fill(x, ks[i], i, 0.05);
        CU_ASSERT(worst_steps((struct wfmt){ FMT_F32, 0 }, x, ks[i]) == 0);
        CU_ASSERT(worst_steps((struct wfmt){ FMT_F16, 0 }, x, ks[i]) < 0.5 * 0.5 * 0x1p-10);
        /* half a step, plus the end of the range moving when the scale rounds to f16 */
        CU_ASSERT(worst_steps((struct wfmt){ FMT_INT8, 0 }, x, ks[i]) < 0.5 + 127 * 0x1p-11);
        for (uint32_t g = 32; g <= 128; g *= 2) {
            double w = worst_steps((struct wfmt){ FMT_INT4, g }, x, ks[i]);

            /* the end opposite to the extreme has only 7 steps: up to one step is cut there */
            CU_ASSERT(w > 0.4 && w < 1 + 8 * 0x1p-11);
            /* half a step, and both ends move when the least value and the scale round */
            w = worst_steps((struct wfmt){ FMT_INT4Z, g }, x, ks[i]);
            CU_ASSERT(w > 0.4 && w < 0.5 + 2 * 15 * 0x1p-11);
        }
        /* steps of 32 between 256 and 448, half of that, and the scale's rounding of the end */
        CU_ASSERT(worst_steps((struct wfmt){ FMT_FP8, 0 }, x, ks[i]) < 16 + 448 * 0x1p-11);
        CU_ASSERT(worst_steps((struct wfmt){ FMT_BF16, 0 }, x, ks[i]) < 0.5 * 0.5 * 0x1p-7);
    }
}

/* What lies on the grid must come back exactly: this is what a wrong nibble or scale breaks. */
static void grids_are_exact(void)
{
    float x[K], back[K];
    uint8_t q[K * 4];
    uint16_t scale[K / 32];

    for (uint32_t i = 0; i < K; i++)
        x[i] = (float)((int)(i * 7 % 16) - 8) * (i / 32 % 2 ? 0.5f : -0.25f);
    row_encode((struct wfmt){ FMT_INT4, 32 }, x, K, q, scale);
    row_decode((struct wfmt){ FMT_INT4, 32 }, q, scale, K, back);
    CU_ASSERT(memcmp(x, back, sizeof x) == 0 || scale[0] == 0);
    for (uint32_t i = 0; i < K; i++)
        CU_ASSERT(!(x[i] < back[i]) && !(x[i] > back[i]));
    CU_ASSERT_EQUAL(q[0] & 15, 0);                     /* low nibble is the even input: -8 + 8 */
    CU_ASSERT_EQUAL(q[0] >> 4, 7);
    for (uint32_t i = 0; i < K; i++)
        x[i] = (float)((int)(i * 11 % 255) - 127) * 0.125f;
    row_encode((struct wfmt){ FMT_INT8, 0 }, x, K, q, scale);
    row_decode((struct wfmt){ FMT_INT8, 0 }, q, scale, K, back);
    for (uint32_t i = 0; i < K; i++)
        CU_ASSERT(!(x[i] < back[i]) && !(x[i] > back[i]));
}

/* E4M3 by its definition: every code, its neighbours' middles (ties to even) and what saturates. */
/* Scales are halves: a weight goes to the nearest point of the grid that the half makes, not of the one that was asked for. */
static void nearest_of_what_is_stored(void)
{
    enum { N = 8192 };
    static const struct wfmt f[] = { { FMT_INT4, 32 }, { FMT_INT4, 128 }, { FMT_INT8, 0 } };
    static float x[N], back[N];
    static uint8_t q[N * 4];
    static uint16_t scale[N];
    struct rng r;

    rng_seed(&r, 11);
    for (uint32_t i = 0; i < N; i++)
        x[i] = (float)rng_normal(&r);
    for (size_t k = 0; k < sizeof f / sizeof *f; k++) {
        uint32_t off = 0, group = f[k].group ? f[k].group : N;

        row_encode(f[k], x, N, q, scale);
        row_decode(f[k], q, scale, N, back);
        for (uint32_t i = 0; i < N; i++) {
            float s = fabsf(f32_from_f16(scale[i / group])), far = fabsf(back[i] - x[i]);
            bool is_end = f[k].fmt == FMT_INT4 && (back[i] >= 7 * s || back[i] <= -7 * s);

            off += !is_end && far > 0.5001f * s;
        }
        if (off)
            test_note("format %zu: %u of %u are not at the nearest point", k, off, N);
        CU_ASSERT_EQUAL(off, 0);
    }
}

static void fp8_is_e4m3(void)
{
    for (int q = 0; q < 0x7e; q++) {
        float a = f32_from_fp8((uint8_t)q), b = f32_from_fp8((uint8_t)(q + 1)), mid = (a + b) / 2;

        CU_ASSERT(b > a);
        CU_ASSERT_EQUAL(fp8_from_f32(a), q);
        CU_ASSERT_EQUAL(fp8_from_f32(-a), q | 0x80);
        CU_ASSERT_EQUAL(fp8_from_f32(mid), q + q % 2);
        CU_ASSERT_EQUAL(fp8_from_f32(nextafterf(mid, 0)), q);
        CU_ASSERT_EQUAL(fp8_from_f32(nextafterf(mid, 1000)), q + 1);
    }
    CU_ASSERT(f32_from_fp8(0x7e) == 448 && f32_from_fp8(0x38) == 1 && f32_from_fp8(1) == 0x1p-9f);
    CU_ASSERT_EQUAL(fp8_from_f32(1e9f), 0x7e);
    CU_ASSERT_EQUAL(fp8_from_f32(-INFINITY), 0xfe);
    CU_ASSERT(isnan(f32_from_fp8(fp8_from_f32(NAN))));
}

static void bf16_rounds_to_even(void)
{
    for (uint32_t h = 0; h < 0x7f80; h++) {
        float a = f32_from_bf16((uint16_t)h), mid;

        CU_ASSERT_EQUAL(bf16_from_f32(a), h);
        mid = of_bits(bits_of(a) + 0x8000);
        CU_ASSERT_EQUAL(bf16_from_f32(mid), h + h % 2);
        CU_ASSERT_EQUAL(bf16_from_f32(of_bits(bits_of(mid) + 1)), h + 1);
    }
    CU_ASSERT(isnan(f32_from_bf16(bf16_from_f32(of_bits(0x7f800001)))));
}

static void odd_rows_stay_sane(void)
{
    float x[64] = { 0 }, back[64];
    uint8_t q[256];
    uint16_t scale[4];

    for (int f = FMT_FP8; f <= FMT_INT4Z; f++) {
        struct wfmt w = { (enum fmt)f, f >= FMT_INT4 ? 32 : 0 };

        memset(x, 0, sizeof x);
        row_encode(w, x, 64, q, scale);
        row_decode(w, q, scale, 64, back);
        CU_ASSERT(memcmp(back, x, sizeof x) == 0 || back[0] + 0 == 0);
        x[5] = 3e38f; /* the scale saturates, nothing is infinite */
        row_encode(w, x, 64, q, scale);
        row_decode(w, q, scale, 64, back);
        CU_ASSERT(isfinite(back[5]) && back[5] > 5e5f);
        x[5] = NAN;                                    /* bad weights must not vanish */
        row_encode(w, x, 64, q, scale);
        row_decode(w, q, scale, 64, back);
        CU_ASSERT(isnan(back[5]));
        CU_ASSERT(f < FMT_INT4 || isfinite(back[40]));
    }
}

static void bytes_are_exact(void)
{
    static const struct { struct wfmt f; uint32_t n, k; uint64_t bytes; } row[] = {
        { { FMT_F32, 0 }, 3, 64, 768 },
        { { FMT_F16, 0 }, 960, 576, 1105920 },
        { { FMT_INT8, 0 }, 960, 576, 552960 + 1920 },
        { { FMT_INT4, 64 }, 960, 576, 276480 + 960 * 9 * 2 },
        { { FMT_INT4, 128 }, 2, 160, 160 + 2 * 2 * 2 },     /* the last group is short */
        { { FMT_INT4Z, 64 }, 960, 576, 276480 + 960 * 9 * 4 },
        { { FMT_FP8, 0 }, 960, 576, 552960 + 1920 },
        { { FMT_BF16, 0 }, 960, 576, 1105920 },
        { { FMT_F16, 0 }, 10, 33, 0 },
        { { FMT_INT4, 0 }, 10, 64, 0 },
        { { FMT_F32, 0 }, UINT32_MAX, UINT32_MAX - 31, 0 },  /* overflows */
    };
    char name[32];

    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        CU_ASSERT_EQUAL(wfmt_bytes(row[i].f, row[i].n, row[i].k), row[i].bytes);
    CU_ASSERT_EQUAL(wfmt_name((struct wfmt){ FMT_INT4, 64 }, name, sizeof name), 8);
    CU_ASSERT_STRING_EQUAL(name, "int4 g64");
    CU_ASSERT_STRING_EQUAL(fmt_name(FMT_F16), "f16");
}

static const struct test tests[] = {
    { "half_known_values", half_known_values },
    { "half_round_trips", half_round_trips },
    { "half_is_what_the_hardware_does", half_is_what_the_hardware_does },
    { "errors_are_bounded", errors_are_bounded },
    { "grids_are_exact", grids_are_exact },
    { "nearest_of_what_is_stored", nearest_of_what_is_stored },
    { "fp8_is_e4m3", fp8_is_e4m3 },
    { "bf16_rounds_to_even", bf16_rounds_to_even },
    { "odd_rows_stay_sane", odd_rows_stay_sane },
    { "bytes_are_exact", bytes_are_exact },
    { NULL, NULL }
};
const struct suite suite_format = { "format", tests, 0 };
