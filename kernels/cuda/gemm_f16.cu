/* gemm_f16.cu - products with f16 and bf16 weights that lie row by row (gemm.h has the algorithm).
 *
 * A stage is 128 rows x 64 inputs, 128 bytes a row, 16-byte chunk c of row r at c ^ (r % 8), read by ldmatrix. bf16
 * weights are multiplied as bf16: tokens are rounded to bf16 in registers, as a model run in bf16 does. */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_kinds.h"

PRIM uint32_t bf16_of(uint32_t half_pair)
{
    float2 f = h2_floats(bits_h2(half_pair));
    __nv_bfloat162 v = __floats2bfloat162_rn(f.x, f.y);
    uint32_t u;

    memcpy(&u, &v, sizeof u);
    return u;
}

template <bool BF16> struct half_rows {
    static constexpr int BK = 64, STAGE_WEIGHTS = GEMM_N * BK * 2;
    static constexpr bool GROUPED = false, LEAST = false;
    static constexpr int THREE = 2, TWO = BF16 ? 4 : 8;
    static constexpr uint32_t AT_ONCE = GEMM_THREADS / (BK / 8);                  /* rows that all threads load at once */
    struct pieces { const unsigned char *src; size_t step; uint32_t dst, left, n_row; };

    PRIM static pieces place(const struct gemm_args &a, uint32_t col0, uint32_t k0)
    {
        uint32_t chunk = threadIdx.x % (BK / 8), r = threadIdx.x / (BK / 8), row = col0 + r;

        return { a.w + ((size_t)row * a.k + k0 + chunk * 8) * 2, (size_t)AT_ONCE * a.k * 2, gemm_x_at<BK>(r, chunk),
                 gemm_left(a.k, k0 + chunk * 8), row < a.n ? a.n - row : 0 };
    }
    template <bool ONCE>
    PRIM static void load(unsigned char *stage, const struct gemm_args &, const pieces &p, uint32_t it)
    {
        const unsigned char *src = p.src + (size_t)it * (BK * 2);

#pragma unroll
        for (uint32_t j = 0; j < GEMM_N / AT_ONCE; j++)
            if (it * BK < p.left && j * AT_ONCE < p.n_row)
                gemm_copy<ONCE>(stage + p.dst + j * AT_ONCE * BK * 2, src + j * p.step);
    }
    PRIM static void unit(uint32_t (&r)[2][2][4], const unsigned char *stage, uint32_t warp_n, uint32_t u)
    {
        uint32_t l = lane_id();

#pragma unroll
        for (int s = 0; s < 2; s++)
#pragma unroll
            for (int t = 0; t < 2; t++)
                ldsm_x4(r[s][t], stage + gemm_x_at<BK>(warp_n * 32 + t * 16 + l % 16, (u * 2 + s) * 2 + l / 16));
    }
    PRIM static void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
    {
        if constexpr (BF16) {
            uint32_t c[2] = { bf16_of(b[0]), bf16_of(b[1]) };

            mma_bf16(d, a, c);
        } else {
            mma_f16(d, a, b);
        }
    }
    PRIM static float row_scale(const struct gemm_args &, uint32_t) { return 1; }
};

GEMM_KIND(gemm_f16, (half_rows<false>), true)
GEMM_KIND(gemm_bf16, (half_rows<true>), true)
