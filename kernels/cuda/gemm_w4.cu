/* gemm_w4.cu - products with int4 and int4z weights (gemm.h has the algorithm, pack.h the layout).
 *
 * A stage is 128 rows x 128 inputs: 8 KB of nibbles and the scales of its groups. Weights enter the
 * tensor cores as the integers they are. The sums of at most 64 inputs of one group are then
 * multiplied by the group's scale in F32 and added: scales stay exact, and it costs less than
 * scaling weights (kernels after Marlin do the latter). Asymmetric groups add least value * sum of
 * x, where the sum of x is one more tile of the same product, whose weights are ones. */
#include "kernels/cuda/decode.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_kinds.h"

template <bool LEAST_> struct nibble_rows {
    static constexpr int BK = 128, UNITS = BK / 32, BODY = GEMM_N * BK / 2;
    static constexpr bool GROUPED = true, LEAST = LEAST_;
    static constexpr int THREE = 1, TWO = LEAST ? 2 : 4;
    static constexpr int BLOCK =
        PANEL_ROWS * 2 * (LEAST ? 2 : 1); /* bytes of a panel's scales of one group */
    static constexpr int STAGE_WEIGHTS = BODY + 4 * UNITS * BLOCK; /* room for groups of 32 */
    static constexpr int RUN = UNITS * UNIT_BYTES; /* a panel's bytes in a stage, side by side */
    static constexpr uint32_t PANELS =
        GEMM_THREADS / (RUN / 16); /* that all threads load at once: half */
    struct pieces {
        const unsigned char *src, *scale;
        size_t step;
        uint32_t dst, times[2], scale_times, scale_step;
    };
    /* In a stage: the warp's first unit, its scales and those of the second, the same unless groups
     * are of 32. */
    struct places { uint32_t unit, scale, scale_next; };

    PRIM static pieces first(const struct gemm_args &a, uint32_t col0, uint32_t k0, uint32_t end)
    {
        uint32_t panel0 = col0 / PANEL_ROWS, n = pack_panels(a.n) - panel0,
                 r = threadIdx.x % (RUN / 16);
        uint32_t own = threadIdx.x / (RUN / 16), groups = BK >> a.group_log2,
                 many = groups * (BLOCK / 16);
        uint32_t times = gemm_times(end, k0 + r / 32 * 32, BK), s = threadIdx.x % many,
                 scale_own = threadIdx.x / many, g0 = k0 >> a.group_log2;
        pieces p;

        p.dst = gemm_keep(threadIdx.x * 16);
        p.src = a.w + ((size_t)(panel0 + own) * (a.k / 32) + k0 / 32) * UNIT_BYTES + r * 16;
        p.step = gemm_keep((size_t)PANELS * (a.k / 32) * UNIT_BYTES);
        p.times[0] = gemm_keep(own < n ? times : 0);
        p.times[1] = gemm_keep(own + PANELS < n ? times : 0);
        p.scale = reinterpret_cast<const unsigned char *>(a.scale) +
                  ((size_t)(panel0 + scale_own) * a.n_group + g0) * BLOCK + s * 16;
        p.scale_step = gemm_keep(groups * BLOCK);
        times = gemm_times(end, k0 + (s / (BLOCK / 16) << a.group_log2), BK);
        p.scale_times = gemm_keep(scale_own < min(4u, n) ? times : 0);
        return p;
    }
    PRIM static places place(const struct gemm_args &a, uint32_t warp_n, uint32_t warp_k)
    {
        uint32_t block = (warp_n * BK + warp_k * (BK / 2)) >> a.group_log2,
                 next = (warp_n * BK + warp_k * (BK / 2) + 32) >> a.group_log2;
        uint32_t at = BODY + lane_id() / 4 * 8;

        return { gemm_keep(warp_n * RUN + warp_k * (RUN / 2) + lane_id() * 16),
                 gemm_keep(at + block * BLOCK), gemm_keep(at + next * BLOCK) };
    }
    template <bool ONCE> PRIM static void load(unsigned char *stage, pieces &p, uint32_t it)
    {
        stage += p.dst;
#pragma unroll
        for (uint32_t j = 0; j < 2; j++)
            if (it < p.times[j])
                gemm_copy<ONCE>(stage + j * GEMM_THREADS * 16, p.src + j * p.step);
        if (it < p.scale_times)
            gemm_copy<ONCE>(stage + BODY, p.scale);
        p.src += RUN;
        p.scale += p.scale_step;
    }
    PRIM static void unit(uint32_t (&r)[2][2][4], const places &p, const unsigned char *stage,
                          uint32_t u)
    {
        uint4 v = *reinterpret_cast<const uint4 *>(stage + p.unit + u * UNIT_BYTES);

        decode_nibbles<LEAST>(r[0][0], v.x);
        decode_nibbles<LEAST>(r[0][1], v.y);
        decode_nibbles<LEAST>(r[1][0], v.z);
        decode_nibbles<LEAST>(r[1][1], v.w);
    }
    PRIM static void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
    {
        mma_f16(d, a, b);
    }

    /* Four scales of this lane's rows: tile t, half h at 2 t + h. */
    PRIM static void four(float (&s)[4], const unsigned char *at)
    {
        uint2 v = *reinterpret_cast<const uint2 *>(at);
        float2 lo = h2_floats(bits_h2(v.x)), hi = h2_floats(bits_h2(v.y));

        s[0] = lo.x, s[1] = lo.y, s[2] = hi.x, s[3] = hi.y;
    }
    template <int MT>
    PRIM static void fold(float (&acc)[2][MT][4], float (&part)[2][MT][4],
                          float (&sum)[LEAST ? MT : 1][4], const unsigned char *at)
    {
        float s[4], least[4] = {};

        four(s, at);
        if constexpr (LEAST)
            four(least, at + PANEL_ROWS * 2);
#pragma unroll
        for (int i = 0; i < 2 * MT * 4; i++) {
            int t = i / (MT * 4), mt = i / 4 % MT, e = i % 4;

            if constexpr (LEAST)
                acc[t][mt][e] = fmaf(least[t * 2 + e / 2], sum[mt][e], acc[t][mt][e]);
            acc[t][mt][e] = fmaf(s[t * 2 + e / 2], part[t][mt][e], acc[t][mt][e]);
            part[t][mt][e] = 0;
        }
        if constexpr (LEAST)
#pragma unroll
            for (int i = 0; i < MT * 4; i++)
                sum[i / 4][i % 4] = 0;
    }
    PRIM static float row_scale(const struct gemm_args &, uint32_t) { return 1; }
};

GEMM_KIND(gemm_int4, (nibble_rows<false>), false)
GEMM_KIND(gemm_int4z, (nibble_rows<true>), false)
