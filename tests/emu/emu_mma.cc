/* emu_mma.cc - mma m16n8k16 of a warp, from the fragment tables of the PTX ISA ("Matrix Fragments
 * for mma.m16n8k16 with floating point type"): products exact, summed in f32 with k ascending. */
#include "tests/emu/emu_run.h"
#ifdef __F16C__
#include <immintrin.h>
#endif

static float f16_value(uint16_t h)
{
#ifdef __F16C__
    return _cvtsh_ss(h);
#else
    __half_raw raw;

    raw.x = h;
    return __half2float(__half(raw));
#endif
}
static float bf16_value(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;

    __builtin_memcpy(&f, &u, sizeof f);
    return f;
}

template <float (*value)(uint16_t)> static void mma(unsigned char (*slot)[48])
{
    float a[16][16], b[16][8], d[16][8];

    for (unsigned lane = 0; lane < 32; lane++) {
        unsigned g = lane / 4, t = lane % 4;
        uint16_t h[12];

        __builtin_memcpy(h, slot[lane], sizeof h);
        for (unsigned i = 0; i < 8; i++)           /* register i / 2, half i % 2 */
            a[g + i / 2 % 2 * 8][2 * t + i % 2 + i / 4 * 8] = value(h[i]);
        for (unsigned i = 0; i < 4; i++)
            b[2 * t + i % 2 + i / 2 * 8][g] = value(h[8 + i]);
        for (unsigned i = 0; i < 4; i++)
            __builtin_memcpy(&d[g + i / 2 * 8][2 * t + i % 2], &slot[lane][24 + 4 * i], 4);
    }
    for (unsigned m = 0; m < 16; m++)
        for (unsigned k = 0; k < 16; k++)
            for (unsigned n = 0; n < 8; n++)
                d[m][n] += a[m][k] * b[k][n];
    for (unsigned lane = 0; lane < 32; lane++)
        for (unsigned i = 0; i < 4; i++)
            __builtin_memcpy(&slot[lane][24 + 4 * i],
                             &d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2], 4);
}
void emu_mma_f16(unsigned char (*slot)[48]) { mma<f16_value>(slot); }
void emu_mma_bf16(unsigned char (*slot)[48]) { mma<bf16_value>(slot); }
