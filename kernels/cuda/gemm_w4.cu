/* gemm_w4.cu - products with int4 and int4z weights (gemm.h has the algorithm, pack.h the layout).
 *
 * A stage is 128 rows x 128 inputs: 8 KB of nibbles and the scales of its groups. Weights enter the tensor cores as the
 * integers they are. The sums of at most 64 inputs of one group are then multiplied by the group's scale in F32 and
 * added: scales stay exact, and it costs less than scaling weights (kernels after Marlin do the latter). Asymmetric groups
 * add least value * sum of x, where the sum of x is one more tile of the same product, whose weights are ones. */
#include "kernels/cuda/decode.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_kinds.h"

template <bool LEAST_> struct nibble_rows {
    static constexpr int BK = 128, UNITS = BK / 32, BODY = GEMM_N * BK / 2;
    static constexpr bool GROUPED = true, LEAST = LEAST_;
    static constexpr int THREE = LEAST ? 1 : 2, TWO = LEAST ? 2 : 4;
    static constexpr int BLOCK = PANEL_ROWS * 2 * (LEAST ? 2 : 1);           /* bytes of a panel's scales of one group */
    static constexpr int STAGE_WEIGHTS = BODY + 4 * UNITS * BLOCK;           /* room for groups of 32 */
    static constexpr int RUN = UNITS * UNIT_BYTES;                           /* a panel's bytes in a stage, side by side */
    static constexpr uint32_t PANELS = GEMM_THREADS / (RUN / 16);           /* that all threads load at once */
    struct pieces {
        const unsigned char *src, *scale;
        size_t step;
        uint32_t left, n_panel, n_group;         /* n_group: from the piece's group on; 0: this thread loads no scales */
    };

    PRIM static pieces place(const struct gemm_args &a, uint32_t col0, uint32_t k0)
    {
        uint32_t panel0 = col0 / PANEL_ROWS, n = pack_panels(a.n) - panel0, r = threadIdx.x % (RUN / 16);
        uint32_t own = threadIdx.x / (RUN / 16), many = (BK >> a.group_log2) * (BLOCK / 16);   /* pieces of a panel's scales */
        uint32_t s = threadIdx.x % many, scale_own = threadIdx.x / many, g0 = k0 >> a.group_log2;
        pieces p;

        p.src = a.w + ((size_t)(panel0 + own) * (a.k / 32) + k0 / 32) * UNIT_BYTES + r * 16;
        p.step = (size_t)PANELS * (a.k / 32) * UNIT_BYTES;
        p.left = gemm_left(a.k, k0 + r / 32 * 32);
        p.n_panel = own < n ? n - own : 0;
        p.n_group = scale_own < min(4u, n) ? gemm_left(a.n_group, g0 + s / (BLOCK / 16)) : 0;
        p.scale = reinterpret_cast<const unsigned char *>(a.scale) +
                  ((size_t)(panel0 + scale_own) * a.n_group + g0) * BLOCK + s * 16;
        return p;
    }
    template <bool ONCE>
    PRIM static void load(unsigned char *stage, const struct gemm_args &a, const pieces &p, uint32_t it)
    {
        const unsigned char *src = p.src + (size_t)it * RUN;
        uint32_t group = it * BK >> a.group_log2;        /* groups before this stage */

#pragma unroll
        for (uint32_t j = 0; j < 4 / PANELS; j++)
            if (it * BK < p.left && j * PANELS < p.n_panel)
                gemm_copy<ONCE>(stage + threadIdx.x * 16 + j * GEMM_THREADS * 16, src + j * p.step);
        if (group < p.n_group)
            gemm_copy<ONCE>(stage + BODY + threadIdx.x * 16, p.scale + (size_t)group * BLOCK);
    }
    PRIM static void unit(uint32_t (&r)[2][2][4], const unsigned char *stage, uint32_t warp_n, uint32_t u)
    {
        uint4 v = reinterpret_cast<const uint4 *>(stage + warp_n * RUN + u * UNIT_BYTES)[lane_id()];

        decode_nibbles<LEAST>(r[0][0], v.x);
        decode_nibbles<LEAST>(r[0][1], v.y);
        decode_nibbles<LEAST>(r[1][0], v.z);
        decode_nibbles<LEAST>(r[1][1], v.w);
    }
    PRIM static void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mma_f16(d, a, b); }

    /* Four scales of this lane's rows: tile t, half h at 2 t + h. */
    PRIM static void four(float (&s)[4], const unsigned char *at)
    {
        uint2 v = *reinterpret_cast<const uint2 *>(at + lane_id() / 4 * 8);
        float2 lo = h2_floats(bits_h2(v.x)), hi = h2_floats(bits_h2(v.y));

        s[0] = lo.x, s[1] = lo.y, s[2] = hi.x, s[3] = hi.y;
    }
    template <int MT>
    PRIM static void fold(float (&acc)[2][MT][4], float (&part)[2][MT][4], float (&sum)[LEAST ? MT : 1][4],
                          const unsigned char *stage, uint32_t group_log2, uint32_t warp_n, uint32_t u)
    {
        const unsigned char *at = stage + BODY + (warp_n * (BK >> group_log2) + (u * 32 >> group_log2)) * BLOCK;
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
