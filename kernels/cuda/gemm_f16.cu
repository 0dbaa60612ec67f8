/* gemm_f16.cu - products with f16 and bf16 weights that lie row by row (gemm.h has the algorithm).
 *
 * A stage is 128 rows x 64 inputs, 128 bytes a row, 16-byte chunk c of row r at c ^ (r % 8), read
 * by ldmatrix. bf16 weights are multiplied as bf16: tokens are rounded to bf16 in registers, as a
 * model run in bf16 does. */
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
    using pieces = struct gemm_piece;
    struct places { uint32_t row; };             /* of tile 0; 16 rows further tile 1 */

    PRIM static pieces first(const struct gemm_args &a, uint32_t col0, uint32_t k0, uint32_t end)
    {
        return gemm_rows<BK, GEMM_N>(a.w, a.n, a.k, col0, k0, end);
    }
    PRIM static places place(const struct gemm_args &, uint32_t warp_n, uint32_t warp_k)
    {
        return { gemm_keep(
            gemm_at<BK>(warp_n * 32 + lane_id() % 16, warp_k * (BK / 16) + lane_id() / 16)) };
    }
    template <bool ONCE> PRIM static void load(unsigned char *stage, pieces &p, uint32_t it)
    {
        gemm_load_rows<BK, GEMM_N, ONCE>(stage, p, it);
    }
    PRIM static void unit(uint32_t (&r)[2][2][4], const places &p, const unsigned char *stage,
                          uint32_t)
    {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            ldsm_x4(r[i / 2][i % 2], stage + (p.row ^ i / 2 * 32u) + i % 2 * 16 * BK * 2);
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
