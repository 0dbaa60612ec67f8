/* vec_avx512.h - sixteen F32 or int32 lanes in one 512-bit register; meaning: vec_scalar.h. */
#ifndef KERNELS_CPU_VEC_H
#define KERNELS_CPU_VEC_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef __m512 vf;
typedef __m512i vi;

#define VEC static inline __attribute__((always_inline))

VEC vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
VEC void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
VEC vf vf_load_part(const float *p, uint32_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
VEC void vf_store_part(float *p, vf a, uint32_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}
VEC vf vf_load_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
VEC void vf_store_half(uint16_t *p, vf a)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
VEC vf vf_load_s8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
VEC vf vf_load_fp8(const void *p)
{
    __m256i h = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));

    return _mm512_cvtph_ps(_mm256_and_si256(_mm256_slli_epi16(h, 7), _mm256_set1_epi16((short)0xbfff)));
}
VEC vf vf_set1(float x) { return _mm512_set1_ps(x); }
VEC vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
VEC vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
VEC vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VEC vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
VEC vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
VEC vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
VEC vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
VEC vf vf_abs(vf a) { return _mm512_abs_ps(a); }
/* 2^n for t = n + 1.5 * 2^23 */
VEC vf vf_pow2(vf t)
{
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(t), 23),
                                                _mm512_set1_epi32(0x3f800000)));
}
/* Lanes as a tree: i + (i + 8), then + 4, + 2, + 1. */
VEC float sum_256(__m256 h)
{
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));

    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
VEC float top_256(__m256 h)
{
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));

    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
VEC float vf_sum(vf a)
{
    return sum_256(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)));
}
VEC float vf_top(vf a)
{
    return top_256(_mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)));
}
VEC vi vi_round(vf a) { return _mm512_cvtps_epi32(a); }
VEC vf vf_of(vi a) { return _mm512_cvtepi32_ps(a); }
VEC vi vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
VEC vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
VEC vi vi_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
VEC vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
VEC vi vi_sll(vi a, int n) { return _mm512_slli_epi32(a, (unsigned)n); }
VEC vi vi_srl(vi a, int n) { return _mm512_srli_epi32(a, (unsigned)n); }
VEC vi vi_sra(vi a, int n) { return _mm512_srai_epi32(a, (unsigned)n); }
VEC vi vi_bits(vf a) { return _mm512_castps_si512(a); }
VEC vf vf_bits(vi a) { return _mm512_castsi512_ps(a); }
VEC vi vi_less(vf a, vf b, vi x, vi y)
{
    return _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
VEC vi vi_opaque(vi a) { __asm__ volatile("" : "+v"(a)); return a; }
VEC int32_t vi_sum(vi a) { return _mm512_reduce_add_epi32(a); }
VEC int32_t vi_top(vi a) { return _mm512_reduce_max_epi32(a); }
VEC void vi_store8(int8_t *p, vi a)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(a));
}
VEC vi vi_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
VEC void vi_store(uint8_t *p, vi a) { _mm512_storeu_si512(p, a); }
VEC vi vi_low4(vi a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
VEC vi vi_high4(vi a) { return vi_low4(_mm512_srli_epi16(a, 4)); }
/* x: four int8 in each lane, the same four; kept ready for dots (here: as they are) */
typedef __m512i vx4;
VEC vx4 vx4_load(const int8_t *p)
{
    int32_t four;

    memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
}
/* Not the intrinsic: in loops gcc 12 copies the accumulator before and after each one, which makes
 * half of all instructions of a 7 x 2 tile copies and lets its totals spill. */
VEC vi vi_dot15(vi acc, vi w, vx4 x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
    return acc;
}
VEC vi vi_dot8(vi acc, vi w, vx4 x) { return vi_dot15(acc, w, x); }
enum { DOT8_SIGNED = 0 };

#endif
