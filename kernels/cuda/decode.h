/* decode.h - packed weights to the A registers of a product, exactly: integers and FP8 as halves.
 *
 * 0x6400 | u is the half 1024 + u for u < 1024, so one AND-OR and one subtraction give two halves
 * (Kim et al. 2022, "Who says elephants can't run"); nibbles under 0x00f0 come out times 16, which
 * a multiply-add undoes. FP8 needs only its exponent and mantissa moved: the half is then the value
 * / 256, and the row's scale is multiplied by 256 instead. */
#ifndef KERNELS_CUDA_DECODE_H
#define KERNELS_CUDA_DECODE_H

#include "kernels/cuda/prims.h"

/* One word of nibbles: r[0], r[1] the first 8 columns of rows g and g + 8, r[2], r[3] the next 8.
 * LEAST: u, otherwise u - 8. */
template <bool LEAST> PRIM void decode_nibbles(uint32_t (&r)[4], uint32_t w)
{
    const __half2 sixteenth = bits_h2(0x2c002c00u);
    const __half2 bias = bits_h2(LEAST ? 0x64006400u : 0x64086408u);         /* 1024, or 1024 + 8 */
    const __half2 bias16 = bits_h2(LEAST ? 0xd400d400u : 0xd480d480u);       /* -64, or -64 - 8 */

#pragma unroll
    for (int h = 0; h < 2; h++) {
        r[h] = h2_bits(h2_sub(bits_h2(lop3_and_or(w, 0x000f000fu, 0x64006400u)), bias));
        r[h + 2] =
            h2_bits(h2_fma(bits_h2(lop3_and_or(w, 0x00f000f0u, 0x64006400u)), sixteenth, bias16));
        w >>= 8;
    }
}

/* One word of int8 (stored + 128): two registers, rows g and g + 8. */
PRIM void decode_int8(uint32_t &r0, uint32_t &r1, uint32_t w)
{
    const __half2 bias = bits_h2(0x64806480u);                               /* 1024 + 128 */

    r0 = h2_bits(h2_sub(bits_h2(lop3_and_or(w, 0x00ff00ffu, 0x64006400u)), bias));
    r1 = h2_bits(h2_sub(bits_h2(lop3_and_or(w >> 8, 0x00ff00ffu, 0x64006400u)), bias));
}

/* One word of FP8: the same, values / 256. */
PRIM void decode_fp8(uint32_t &r0, uint32_t &r1, uint32_t w)
{
    r1 = lop3_and_or(w, 0x80008000u, w >> 1 & 0x3f803f80u);
    w <<= 8;
    r0 = lop3_and_or(w, 0x80008000u, w >> 1 & 0x3f803f80u);
}

#endif
