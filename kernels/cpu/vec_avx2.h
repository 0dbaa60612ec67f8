/* vec_avx2.h - sixteen F32 or int32 lanes in two 256-bit registers; meaning: vec_scalar.h. */
#ifndef KERNELS_CPU_VEC_H
#define KERNELS_CPU_VEC_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef struct { __m256 a, b; } vf;        /* lanes 0..7, 8..15 */
typedef struct { __m256i a, b; } vi;

#define VEC static inline __attribute__((always_inline))

VEC vf vf_load(const float *p) { return (vf){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) }; }
VEC void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
VEC vf vf_load_part(const float *p, uint32_t n)
{
    float t[16] = { 0 };

    memcpy(t, p, n * sizeof *t);
    return vf_load(t);
}
VEC void vf_store_part(float *p, vf x, uint32_t n)
{
    float t[16];

    vf_store(t, x);
    memcpy(p, t, n * sizeof *t);
}
VEC vf vf_load_half(const uint16_t *p)
{
    const __m128i *h = (const __m128i *)(const void *)p;

    return (vf){ _mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1)) };
}
VEC void vf_store_half(uint16_t *p, vf x)
{
    __m128i *h = (__m128i *)(void *)p;

    _mm_storeu_si128(h, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(h + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
VEC vf vf_load_s8(const void *p)
{
    __m128i q = _mm_loadu_si128((const __m128i *)p);

    return (vf){ _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q, 8))) };
}
VEC vf vf_load_fp8(const void *p)
{
    __m256i h = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));

    h = _mm256_and_si256(_mm256_slli_epi16(h, 7), _mm256_set1_epi16((short)0xbfff));
    return (vf){ _mm256_cvtph_ps(_mm256_castsi256_si128(h)),
                 _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1)) };
}
VEC vf vf_set1(float x) { return (vf){ _mm256_set1_ps(x), _mm256_set1_ps(x) }; }
VEC vf vf_add(vf x, vf y) { return (vf){ _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b) }; }
VEC vf vf_sub(vf x, vf y) { return (vf){ _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b) }; }
VEC vf vf_mul(vf x, vf y) { return (vf){ _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b) }; }
VEC vf vf_div(vf x, vf y) { return (vf){ _mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b) }; }
VEC vf vf_fma(vf x, vf y, vf z)
{
    return (vf){ _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b) };
}
VEC vf vf_max(vf x, vf y) { return (vf){ _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b) }; }
VEC vf vf_min(vf x, vf y) { return (vf){ _mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b) }; }
VEC vf vf_abs(vf x)
{
    const __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));

    return (vf){ _mm256_and_ps(x.a, m), _mm256_and_ps(x.b, m) };
}
VEC __m256 pow2_half(__m256 t)
{
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(t), 23),
                                                _mm256_set1_epi32(0x3f800000)));
}
VEC vf vf_pow2(vf t) { return (vf){ pow2_half(t.a), pow2_half(t.b) }; }
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
VEC float vf_sum(vf x) { return sum_256(_mm256_add_ps(x.a, x.b)); }
VEC float vf_top(vf x) { return top_256(_mm256_max_ps(x.a, x.b)); }
VEC vi vi_round(vf x) { return (vi){ _mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b) }; }
VEC vf vf_of(vi x) { return (vf){ _mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b) }; }
VEC vi vi_set1(int32_t x) { return (vi){ _mm256_set1_epi32(x), _mm256_set1_epi32(x) }; }
VEC vi vi_add(vi x, vi y) { return (vi){ _mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b) }; }
VEC vi vi_max(vi x, vi y) { return (vi){ _mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b) }; }
VEC vi vi_load(const uint8_t *p)
{
    const __m256i *q = (const __m256i *)(const void *)p;

    return (vi){ _mm256_loadu_si256(q), _mm256_loadu_si256(q + 1) };
}
VEC void vi_store(uint8_t *p, vi x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, x.a);
    _mm256_storeu_si256((__m256i *)(void *)p + 1, x.b);
}
VEC vi vi_and(vi x, vi y) { return (vi){ _mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b) }; }
VEC vi vi_sll(vi x, int n) { return (vi){ _mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n) }; }
VEC vi vi_srl(vi x, int n) { return (vi){ _mm256_srli_epi32(x.a, n), _mm256_srli_epi32(x.b, n) }; }
VEC vi vi_sra(vi x, int n) { return (vi){ _mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n) }; }
VEC vi vi_bits(vf x) { return (vi){ _mm256_castps_si256(x.a), _mm256_castps_si256(x.b) }; }
VEC vf vf_bits(vi x) { return (vf){ _mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b) }; }
VEC __m256i less_half(__m256 a, __m256 b, __m256i x, __m256i y)
{
    return _mm256_blendv_epi8(y, x, _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ)));
}
VEC vi vi_less(vf a, vf b, vi x, vi y)
{
    return (vi){ less_half(a.a, b.a, x.a, y.a), less_half(a.b, b.b, x.b, y.b) };
}
VEC vi vi_opaque(vi x) { __asm__ volatile("" : "+x"(x.a), "+x"(x.b)); return x; }
VEC int32_t vi_sum(vi x)
{
    int32_t t[8], s = 0;

    _mm256_storeu_si256((__m256i *)(void *)t, _mm256_add_epi32(x.a, x.b));
    for (int i = 0; i < 8; i++)
        s += t[i];
    return s;
}
VEC int32_t vi_top(vi x)
{
    __m256i h = _mm256_max_epi32(x.a, x.b);
    __m128i q = _mm_max_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));

    q = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(q, _mm_shuffle_epi32(q, 0xb1)));
}
VEC void vi_store8(int8_t *p, vi x)
{
    /* packs work within 128-bit halves: the permutation restores lane order */
    __m256i h = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);

    _mm_storeu_si128((__m128i *)(void *)p, _mm_packs_epi16(_mm256_castsi256_si128(h),
                                                           _mm256_extracti128_si256(h, 1)));
}
VEC vi vi_low4(vi x)
{
    const __m256i m = _mm256_set1_epi8(15);

    return (vi){ _mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m) };
}
VEC vi vi_high4(vi x)
{
    return vi_low4((vi){ _mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4) });
}
typedef __m256i vx4;
VEC vx4 vx4_load(const int8_t *p)
{
    int32_t four;

    memcpy(&four, p, 4);
    return _mm256_set1_epi32(four);
}
enum { DOT8_SIGNED = 1 };
/* Weights up to 15: a pair of products is at most 2 * 15 * 128, far from int16 saturation. */
VEC __m256i dot15_half(__m256i acc, __m256i w, __m256i x)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x),
                                                   _mm256_set1_epi16(1)));
}
VEC vi vi_dot15(vi acc, vi w, vx4 x)
{
    return (vi){ dot15_half(acc.a, w.a, x), dot15_half(acc.b, w.b, x) };
}
/* Weights q + 128 up to 255 would saturate maddubs. With the sign of q moved to x, two products are at most
 * 2 * 128 * 127 and fit; the dot is then that of q. */
VEC __m256i dot8_half(__m256i acc, __m256i w, __m256i x)
{
    __m256i q = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(x, q));

    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
VEC vi vi_dot8(vi acc, vi w, vx4 x)
{
    return (vi){ dot8_half(acc.a, w.a, x), dot8_half(acc.b, w.b, x) };
}

#endif
