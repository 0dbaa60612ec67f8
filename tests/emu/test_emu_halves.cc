/* test_emu_halves.cc - arithmetic of halves and the number formats of kernels/cuda/prims.h and decode.h, bit for bit; under
 * emulation and, compiled by nvcc, on a GPU (as test_emu_prims.cc). */
#include "kernels/cuda/decode.h"
#include "kernels/cuda/prims.h"
#include "kernels/format.h"
#include "tests/emu/emu_test.h"

/* Halves: rounded once, also where a float in between would round to a tie (the last two). */
__global__ void k_halves(uint32_t *out)
{
    __half2 x = bits_h2(0x3c014248u), y = bits_h2(0x0ffe3555u), z = bits_h2(0x3c01c247u);

    out[0] = h2_bits(h2_fma(x, y, z));
    out[1] = h2_bits(h2_add(x, z));
    out[2] = h2_bits(h2_sub(x, z));
    out[3] = h2_bits(h2_mul(x, y));
    out[4] = h2_bits(h2_fma(bits_h2(0x3c013c01u), bits_h2(0x0ffe0ffeu), bits_h2(0x3c01bc01u)));
    out[5] = h2_bits(h2_fma(bits_h2(0x3c013c01u), bits_h2(0x8ffe0ffeu), bits_h2(0xbc013c01u)));
}
/* The half nearest to the double v, ties to even, v away from a half's ends. */
static uint32_t half_of(double v)
{
    int e;
    double unit;

    if (v == 0)
        return 0;
    frexp(v, &e);
    unit = ldexp(1.0, e - 11);
    return f16_from_f32((float)(nearbyint(v / unit) * unit));
}
static void halves(void)
{
    uint32_t *out = device_new<uint32_t>(6), h[6];
    static const uint16_t in[4][3] = { { 0x4248, 0x3555, 0xc247 }, { 0x3c01, 0x0ffe, 0x3c01 },
                                       { 0x3c01, 0x0ffe, 0xbc01 }, { 0x3c01, 0x8ffe, 0xbc01 } };
    double v[4][3];

    for (int i = 0; i < 12; i++)
        v[i / 3][i % 3] = f32_from_f16(in[i / 3][i % 3]);
    CU_ASSERT_EQUAL(LAUNCH(k_halves, 1, 1, 0, 0, out), cudaSuccess);
    get(h, out, 6);
    CU_ASSERT_EQUAL(h[0], half_of(v[0][0] * v[0][1] + v[0][2]) | half_of(v[1][0] * v[1][1] + v[1][2]) << 16);
    CU_ASSERT_EQUAL(h[1], half_of(v[0][0] + v[0][2]) | half_of(v[1][0] + v[1][2]) << 16);
    CU_ASSERT_EQUAL(h[2], half_of(v[0][0] - v[0][2]) | half_of(v[1][0] - v[1][2]) << 16);
    CU_ASSERT_EQUAL(h[3], half_of(v[0][0] * v[0][1]) | half_of(v[1][0] * v[1][1]) << 16);
    CU_ASSERT_EQUAL(h[4], half_of(v[2][0] * v[2][1] + v[2][2]) | half_of(v[1][0] * v[1][1] + v[1][2]) << 16);
    CU_ASSERT_EQUAL(h[5], half_of(v[1][0] * v[1][1] + v[1][2]) | half_of(v[3][0] * v[3][1] + v[3][2]) << 16);
    cudaFree(out);
}

/* --- The number formats: every byte, exactly. */
__global__ void k_bytes(float *out)
{
    __half2 h[2];
    uint32_t i = threadIdx.x, q = i * 0x01010101u;

    s8x4_to_h2(q, h);
    out[i] = h2_floats(h[0]).x + h2_floats(h[1]).y - h2_floats(h[0]).y;
    fp8x4_to_h2(q, h);
    out[256 + i] = h2_floats(h[1]).x;
    out[512 + i] = (float)(floats_to_fp8x2(h2_floats(h[0]).x, 1000) & 0xff);
    out[768 + i] = h2_floats(fp8x2_to_h2_by_hand((uint16_t)(i * 0x100u + 0x38u))).y;
    out[1024 + i] = h2_floats(fp8x2_to_h2_by_hand((uint16_t)(0x3800u + i))).x;
    out[1280 + i] = (float)(floats_to_fp8x2(-1000, ((float)i - 128) * 3.7f) ^ 0xfeu);
}
static void formats(void)
{
    enum { N = 6 * 256 };
    float *out = device_new<float>(N), h[N];

    CU_ASSERT_EQUAL(LAUNCH(k_bytes, 1, 256, 0, 0, out), cudaSuccess);
    get(h, out, N);
    for (unsigned i = 0; i < 256; i++) {
        float want = f32_from_fp8((uint8_t)i);

        CU_ASSERT(h[i] == (float)(int8_t)i);
        CU_ASSERT(h[256 + i] == want || (isnan(want) && isnan(h[256 + i])));
        CU_ASSERT(h[512 + i] == (float)i || isnan(want));
        for (int by_hand = 768; by_hand <= 1024; by_hand += 256)
            CU_ASSERT(h[by_hand + i] == want || (isnan(want) && isnan(h[by_hand + i])));
        CU_ASSERT(h[1280 + i] == (float)(fp8_from_f32(((float)i - 128) * 3.7f) << 8));
    }
    cudaFree(out);
}

/* --- decode.h: packed words to the halves of A's registers. */
__global__ void k_decode(uint32_t *out)
{
    uint32_t i = threadIdx.x, b = i & 255, r[4], s[4];
    uint32_t w = b | (b + 1) % 256 << 8 | (b + 2) % 256 << 16 | (b + 3) % 256 << 24, *o = out + i * 12;

    decode_nibbles<false>(r, w);
    decode_nibbles<true>(s, w);
    for (int j = 0; j < 4; j++)
        o[j] = r[j], o[4 + j] = s[j];
    decode_int8(o[8], o[9], w);
    decode_fp8(o[10], o[11], w);
}
static float half_value(uint32_t word, int high) { return f32_from_f16((uint16_t)(high ? word >> 16 : word)); }

static void decoding(void)
{
    uint32_t *out = device_new<uint32_t>(256 * 12), h[256 * 12];
    unsigned bad = 0;

    CU_ASSERT_EQUAL(LAUNCH(k_decode, 1, 256, 0, 0, out), cudaSuccess);
    get(h, out, 256 * 12);
    for (uint32_t i = 0; i < 256; i++)
        for (uint32_t half_row = 0; half_row < 2; half_row++)      /* rows g and g + 8 */
            for (int odd = 0; odd < 2; odd++) {                    /* the first column of a pair, the second */
                uint32_t byte = (i + half_row + 2 * (uint32_t)odd) % 256;
                const uint32_t *o = h + i * 12;
                float fp8 = f32_from_fp8((uint8_t)byte) / 256;

                for (uint32_t hi = 0; hi < 2; hi++) {              /* columns 0 to 7, 8 to 15 */
                    float u = (float)(byte >> 4 * hi & 15);

                    bad += half_value(o[half_row + 2 * hi], odd) != u - 8;
                    bad += half_value(o[4 + half_row + 2 * hi], odd) != u;
                }
                bad += half_value(o[8 + half_row], odd) != (float)byte - 128;
                bad += half_value(o[10 + half_row], odd) != fp8 && (byte & 127) != 127;
            }
    CU_ASSERT_EQUAL(bad, 0);
    cudaFree(out);
}

static const struct test tests[] = {
    { "halves are rounded once", halves },
    { "formats", formats },
    { "decoding of packed weights", decoding },
    { NULL, NULL }
};
extern "C" {
extern const struct suite suite_emu_halves;
const struct suite suite_emu_halves = { "emu_halves", tests, 120 };
}
