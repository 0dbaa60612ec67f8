/* gemm_w8.cu - products with int8 and FP8 (E4M3) weights, one scale a row (gemm.h has the
 * algorithm, pack.h the layout).
 *
 * A stage is 128 rows x 64 inputs: 8 KB. Bytes become halves exactly; the row's scale is applied
 * once, to the sum. FP8 takes the same road on every chip: tokens stay f16, so FP8 tensor cores
 * could not be used. */
#include "kernels/cuda/decode.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_kinds.h"

template <bool FP8> struct byte_rows {
    static constexpr int BK = 64, STAGE_WEIGHTS = GEMM_N * BK;
    static constexpr bool GROUPED = false, LEAST = false;
    static constexpr int THREE = 2, TWO = 8;
    static constexpr int RUN = BK / 16 * UNIT_BYTES; /* a panel's bytes in a stage, side by side */
    static constexpr uint32_t PANELS =
        GEMM_THREADS / (RUN / 16); /* that all threads load at once: half */
    struct pieces { const unsigned char *src; size_t step; uint32_t dst, times[2]; };
    struct places { uint32_t unit; };

    PRIM static pieces first(const struct gemm_args &a, uint32_t col0, uint32_t k0, uint32_t end)
    {
        uint32_t r = threadIdx.x % (RUN / 16), panel = col0 / PANEL_ROWS + threadIdx.x / (RUN / 16);
        uint32_t n = pack_panels(a.n), times = gemm_times(end, k0 + r / 32 * 16, BK);

        return { a.w + ((size_t)panel * (a.k / 16) + k0 / 16) * UNIT_BYTES + r * 16,
                 gemm_keep((size_t)PANELS * (a.k / 16) * UNIT_BYTES), gemm_keep(threadIdx.x * 16),
                 { gemm_keep(panel < n ? times : 0), gemm_keep(panel + PANELS < n ? times : 0) } };
    }
    PRIM static places place(const struct gemm_args &, uint32_t warp_n, uint32_t warp_k)
    {
        return { gemm_keep(warp_n * RUN + warp_k * (RUN / 2) + lane_id() * 16) };
    }
    template <bool ONCE> PRIM static void load(unsigned char *stage, pieces &p, uint32_t it)
    {
#pragma unroll
        for (uint32_t j = 0; j < 2; j++)
            if (it < p.times[j])
                gemm_copy<ONCE>(stage + p.dst + j * GEMM_THREADS * 16, p.src + j * p.step);
        p.src += RUN;
    }
    PRIM static void two(uint32_t &r0, uint32_t &r1, uint32_t w)
    {
        if constexpr (FP8)
            decode_fp8(r0, r1, w);
        else
            decode_int8(r0, r1, w);
    }
    PRIM static void unit(uint32_t (&r)[2][2][4], const places &p, const unsigned char *stage,
                          uint32_t)
    {
#pragma unroll
        for (int s = 0; s < 2; s++) {
            uint4 v = *reinterpret_cast<const uint4 *>(stage + p.unit + s * UNIT_BYTES);

            two(r[s][0][0], r[s][0][1], v.x);
            two(r[s][0][2], r[s][0][3], v.y);
            two(r[s][1][0], r[s][1][1], v.z);
            two(r[s][1][2], r[s][1][3], v.w);
        }
    }
    PRIM static void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
    {
        mma_f16(d, a, b);
    }
    PRIM static float row_scale(const struct gemm_args &a, uint32_t row)
    {
        return row < a.n ? __half2float(ld_global(a.scale + row)) * (FP8 ? 256.0f : 1.0f) : 0;
    }
};

GEMM_KIND(gemm_int8, (byte_rows<false>), false)
GEMM_KIND(gemm_fp8, (byte_rows<true>), false)
