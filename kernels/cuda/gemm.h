/* gemm.h - one tensor-core product for all weight formats: y [m, n] = x [m, k] W^T.
 *
 * A block computes 128 channels x 8 MT tokens over one range of k. Its 8 warps are 4 along channels
 * (32 each) times 2 along k: of every stage of BK inputs the first half belongs to warps 0..3, the
 * second to 4..7, and their sums meet in shared memory at the end. Weights are operand A (16
 * channels x 16 inputs), tokens B (8 tokens), so few tokens cost little. Weights and tokens come
 * through a ring of stages of cp.async; weights of few tokens are read once and leave L2 first.
 *
 * Where there are too few tiles to fill the GPU, k is cut into n_split ranges (matmul.cu; in exact
 * mode never by m). Each block of a tile writes F32 partial sums, the last one to arrive adds them
 * in the order of k: nobody waits, the result does not depend on who was last.
 *
 * What must stay true: the chain of operations of one element of y (which products meet in which
 * order) is the same for every MT, every place of its row in the tile and every batch;
 * test_emu_matmul compares bits.
 *
 * A format (struct W) says how a stage of weights is loaded and how 32 inputs of a warp's 32
 * channels become A registers, and up to which MT three and two blocks share an SM without spilling
 * registers on any chip (THREE, TWO); gemm_f16.cu, gemm_w4.cu and gemm_w8.cu define them. */
#ifndef KERNELS_CUDA_GEMM_H
#define KERNELS_CUDA_GEMM_H

#include "kernels/cuda/pack.h"

enum { GEMM_N = 128, GEMM_THREADS = 256, GEMM_OUT_PITCH = GEMM_N + 8 };

struct gemm_args {
    half *y;                       /* [m, n] */
    const half *x;                 /* [m, k] */
    const unsigned char *w;
    const half *scale;
    float *part;                   /* [tile][n_split][MT][GEMM_THREADS] float4, when n_split > 1 */
    uint32_t *counter;             /* [tile] */
    uint32_t m, n, k;
    uint32_t group_log2, n_group;  /* nibbles: inputs of a group (2^5, 2^6, 2^7), groups of a row */
    uint32_t n_split, split_k;     /* ranges of k, and inputs of each: a multiple of BK */
    uint32_t n_row_tile;
};

/* A thread's 16-byte pieces of the stages, taken in ascending order: piece j from src + j * step,
 * src moving on; `times` stages hold it. What lies past the matrix is not loaded and its place in
 * shared memory keeps whatever is there: rows past n and tokens past m only reach results that are
 * not stored, and units of inputs past k are not multiplied. */
struct gemm_piece { const unsigned char *src; size_t step; uint32_t dst, times, n_row; };
/* Stages of bk inputs whose input at `col` (in the first) lies before `end`. */
PRIM uint32_t gemm_times(uint32_t end, uint32_t col, uint32_t bk)
{
    return col < end ? (end - col + bk - 1) / bk : 0;
}

/* Rows of halves in shared memory, BK wide: 16-byte chunk c of row r at c ^ (r % 8), so that
 * ldmatrix meets 8 banks. */
template <int BK> PRIM uint32_t gemm_at(uint32_t row, uint32_t chunk)
{
    return row * (BK * 2) + (chunk ^ row % 8) * 16;
}

/* A value of the thread that the loop needs all the time. Compilers rather compute such values
 * again in every turn than give them a register; what comes out of a shuffle they must keep.
 * WARP. */
template <class T> PRIM T gemm_keep(T v) { return warp_idx(v, (int)lane_id()); }

/* Pieces of ROWS rows of halves of [n_row, k], from row0 and k0 to `end`. WARP. */
template <int BK, int ROWS>
PRIM struct gemm_piece gemm_rows(const void *from, uint32_t n_row, uint32_t k, uint32_t row0,
                                 uint32_t k0, uint32_t end)
{
    uint32_t chunk = threadIdx.x % (BK / 8), row = threadIdx.x / (BK / 8), col = k0 + chunk * 8;
    uint32_t left = row < ROWS && row0 + row < n_row ? n_row - row0 - row : 0;

    return { static_cast<const unsigned char *>(from) + ((size_t)(row0 + row) * k + col) * 2,
             gemm_keep((size_t)(GEMM_THREADS / (BK / 8)) * k * 2),
             gemm_keep(gemm_at<BK>(row, chunk)), gemm_keep(left ? gemm_times(end, col, BK) : 0),
             left };
}

/* Weights: read once when there is one tile of tokens; where there may be more, the next finds them
 * in L2. */
template <bool ONCE> PRIM void gemm_copy(unsigned char *dst, const unsigned char *src)
{
    if constexpr (ONCE)
        cp_async16_once(dst, src);
    else
        cp_async16(dst, src);
}

/* The next stage's rows of halves, ROWS of them, into dst. */
template <int BK, int ROWS, bool ONCE>
PRIM void gemm_load_rows(unsigned char *dst, struct gemm_piece &p, uint32_t it)
{
    constexpr uint32_t AT_ONCE = GEMM_THREADS / (BK / 8);

    static_assert(ROWS <= AT_ONCE || ROWS % AT_ONCE == 0,
                  "each thread loads one row, or all load the same number");
    dst += p.dst;
#pragma unroll
    for (uint32_t j = 0; j * AT_ONCE < ROWS; j++)
        if (it < p.times && (j == 0 || j * AT_ONCE < p.n_row))
            gemm_copy<ONCE>(dst + j * AT_ONCE * BK * 2, p.src + j * p.step);
    p.src += BK * 2;
}

/* Where a lane reads B: x_at in the tokens of a stage for the warp's first 16 inputs, x_at ^ 32 i
 * for the i-th. Two tiles of 8 tokens by one ldmatrix: b[0], b[1] of the first, b[2], b[3] of the
 * second. One tile: b[0], b[1] of 16 inputs, b[2], b[3] of the next. */
template <int BK, int MT> PRIM uint32_t gemm_x_at(uint32_t warp_k)
{
    uint32_t l = lane_id(), chunk = warp_k * (BK / 16);

    return MT == 1 ? gemm_at<BK>(l % 8, chunk + l / 8)
                   : gemm_at<BK>(l / 16 * 8 + l % 8, chunk + l / 8 % 2);
}

template <class W>
PRIM void gemm_mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    uint32_t b[2] = { b0, b1 };

    W::mma(d, a, b);
}

/* 32 inputs: d += W's channels x tokens. a[s][t]: step of 16 s, tile of 16 channels t; x: where the
 * lane reads B, without x_at. sum (nibbles with least values) += the sum of x, by a tile of
 * ones. */
template <class W, int MT>
PRIM void gemm_unit(float (&d)[2][MT][4], float (&sum)[W::LEAST ? MT : 1][4],
                    const uint32_t (&a)[2][2][4], const unsigned char *x, uint32_t x_at)
{
    const uint32_t ones[4] = { 0x3c003c00u, 0x3c003c00u, 0x3c003c00u, 0x3c003c00u };
    uint32_t b[4];

#pragma unroll
    for (int s = 0; s < 2; s++) {
#pragma unroll
        for (int mt = 0; mt < MT; mt++) {
            int at = MT == 1 ? 2 * s : 2 * (mt % 2);

            if (MT == 1 ? s == 0 : mt % 2 == 0)
                ldsm_x4(b, x + (x_at ^ s * 32u) + mt * 8 * W::BK * 2);
            gemm_mma<W>(d[0][mt], a[s][0], b[at], b[at + 1]);
            gemm_mma<W>(d[1][mt], a[s][1], b[at], b[at + 1]);
            if constexpr (W::LEAST)
                gemm_mma<W>(sum[mt], ones, b[at], b[at + 1]);
        }
    }
}

/* One warp's half of a stage; cut: only the first 32 inputs of it are of the matrix. */
template <class W, int MT>
PRIM void gemm_stage(float (&acc)[2][MT][4], const typename W::places &at,
                     const unsigned char *stage, uint32_t x_at, bool cut)
{
    constexpr int UNITS = W::BK / 64;                     /* of 32 inputs in half a stage */
    const unsigned char *x = stage + W::STAGE_WEIGHTS;
    float sum[W::LEAST ? MT : 1][4] = {};
    uint32_t r[2][2][4];

    if constexpr (!W::GROUPED) {
        static_assert(UNITS == 1, "half a stage is one unit");
        W::unit(r, at, stage, 0);
        gemm_unit<W, MT>(acc, sum, r, x, x_at);
    } else {
        float part[2][MT][4] = {};

        static_assert(UNITS == 2, "half a stage is two units");
        W::unit(r, at, stage, 0);
        gemm_unit<W, MT>(part, sum, r, x, x_at);
        if (cut || at.scale != at.scale_next)
            W::template fold<MT>(acc, part, sum, stage + at.scale);
        if (cut)
            return;
        W::unit(r, at, stage, 1);
        gemm_unit<W, MT>(part, sum, r, x, x_at ^ 64u);
        W::template fold<MT>(acc, part, sum, stage + at.scale_next);
    }
}

/* Adds what the two warps along k have: afterwards a warp holds the sum of channel tile warp_k, own
 * + other: two numbers, so the order does not matter. */
template <int MT>
PRIM void gemm_meet(float (&mine)[MT][4], const float (&acc)[2][MT][4], float4 *room,
                    uint32_t warp_k)
{
    block_sync();                                         /* the ring is no longer read */
#pragma unroll
    for (int mt = 0; mt < MT; mt++) {
        float4 send;

#pragma unroll
        for (int e = 0; e < 4; e++) {
            mine[mt][e] = warp_k ? acc[1][mt][e] : acc[0][mt][e];
            (&send.x)[e] = warp_k ? acc[0][mt][e] : acc[1][mt][e];
        }
        room[mt * GEMM_THREADS + threadIdx.x] = send;
    }
    block_sync();
#pragma unroll
    for (int mt = 0; mt < MT; mt++) {
        float4 got = room[mt * GEMM_THREADS + (threadIdx.x ^ 128u)];

        mine[mt][0] += got.x, mine[mt][1] += got.y, mine[mt][2] += got.z, mine[mt][3] += got.w;
    }
}

/* Split k: hands in this block's sums; true in the block that arrives last, which then has the sum
 * of all ranges. */
template <int MT>
PRIM bool gemm_gather(float (&mine)[MT][4], const struct gemm_args &a, uint32_t tile,
                      uint32_t split)
{
    float4 *part = reinterpret_cast<float4 *>(a.part) +
                   (size_t)tile * a.n_split * MT * GEMM_THREADS + threadIdx.x;

#pragma unroll
    for (int mt = 0; mt < MT; mt++)
        st_global(part + ((size_t)split * MT + mt) * GEMM_THREADS,
                  make_float4(mine[mt][0], mine[mt][1], mine[mt][2], mine[mt][3]));
    if (!last_arriver(a.counter + tile, a.n_split))
        return false;
#pragma unroll
    for (int mt = 0; mt < MT; mt++) {
        float4 s = ld_global(part + (size_t)mt * GEMM_THREADS);

        for (uint32_t i = 1; i < a.n_split; i++) {
            float4 v = ld_global(part + ((size_t)i * MT + mt) * GEMM_THREADS);

            s.x += v.x, s.y += v.y, s.z += v.z, s.w += v.w;
        }
        mine[mt][0] = s.x, mine[mt][1] = s.y, mine[mt][2] = s.z, mine[mt][3] = s.w;
    }
    return true;
}

/* Rounds to half and turns the tile: fragments hold columns of y, rows of y are stored. */
template <class W, int MT>
PRIM void gemm_store(const float (&mine)[MT][4], const struct gemm_args &a, half *room,
                     uint32_t row0, uint32_t col0, uint32_t channel)
{
    uint32_t l = lane_id(), c = channel + l / 4;
    float s0 = W::row_scale(a, col0 + c), s1 = W::row_scale(a, col0 + c + 8);

    block_sync();                                         /* gemm_meet's room is no longer read */
#pragma unroll
    for (int mt = 0; mt < MT; mt++) {
        half *out = room + (mt * 8 + l % 4 * 2) * GEMM_OUT_PITCH + c;

        out[0] = __float2half_rn(mine[mt][0] * s0);
        out[GEMM_OUT_PITCH] = __float2half_rn(mine[mt][1] * s0);
        out[8] = __float2half_rn(mine[mt][2] * s1);
        out[GEMM_OUT_PITCH + 8] = __float2half_rn(mine[mt][3] * s1);
    }
    block_sync();
    for (uint32_t i = threadIdx.x; i < 8 * MT * (GEMM_N / 8); i += GEMM_THREADS) {
        uint32_t row = i / (GEMM_N / 8), col = i % (GEMM_N / 8) * 8;
        const half *from = room + row * GEMM_OUT_PITCH + col;
        half *to = a.y + (size_t)(row0 + row) * a.n + col0 + col;

        if (row0 + row >= a.m || col0 + col >= a.n)
            continue;
        if (a.n % 8 == 0)
            st_16(to, *reinterpret_cast<const uint4 *>(from));
        else
            for (uint32_t j = 0; j < 8 && col0 + col + j < a.n; j++)
                to[j] = from[j];
    }
}

/* A stage, how many of them a ring has (deeper where they are small; at most 96 KB, which every
 * chip has), and what a block asks for: the ring, later the room of the meeting and of the turned
 * tile. */
template <class W, int MT> struct gemm_ring {
    static constexpr int STAGE = W::STAGE_WEIGHTS + 8 * MT * W::BK * 2,
                         ROOM = MT * GEMM_THREADS * 16;
    static constexpr int WANT = STAGE > 12 * 1024 ? 4 : 6, FIT = 96 * 1024 / STAGE,
                         N = WANT < FIT ? WANT : FIT;
    static constexpr int BLOCKS = MT <= W::THREE ? 3 : MT <= W::TWO ? 2 : 1;    /* on an SM */
    static constexpr int BYTES = N * STAGE > ROOM ? N * STAGE : ROOM;
};

/* Loads stage `it`, the stages being taken in order; one group of copies, empty past the end. */
template <class W, int MT>
PRIM void gemm_fetch(unsigned char *stage, typename W::pieces &pw, struct gemm_piece &px,
                     uint32_t it)
{
    W::template load<MT <= 4>(stage, pw, it);
    gemm_load_rows<W::BK, 8 * MT, false>(stage + W::STAGE_WEIGHTS, px, it);
    cp_commit();
}

template <class W, int MT>
__global__ void __launch_bounds__(GEMM_THREADS, gemm_ring<W, MT>::BLOCKS)
    gemm(const struct gemm_args a)
{
    using R = gemm_ring<W, MT>;
    DYN_SHARED(unsigned char, ring);
    /* Blocks of the same weights follow each other, so that the second finds them in L2. */
    uint32_t row_tile = blockIdx.x % a.n_row_tile, split = blockIdx.x / a.n_row_tile % a.n_split;
    uint32_t col_tile = blockIdx.x / a.n_row_tile / a.n_split;
    uint32_t row0 = row_tile * 8 * MT, col0 = col_tile * GEMM_N, k0 = split * a.split_k;
    uint32_t range = min(a.split_k, a.k - k0), n_it = (range + W::BK - 1) / W::BK;
    uint32_t warp = threadIdx.x / 32, warp_n = warp % 4, warp_k = warp / 4,
             half_at = warp_k * (W::BK / 2);
    /* Stages that this warp has a part of (0 also when its channels are past n: the same in all
     * lanes), and which it shares. */
    uint32_t mine_n = gemm_keep(col0 + warp_n * 32 < a.n ? gemm_times(range, half_at, W::BK) : 0);
    uint32_t cut_at = gemm_keep((range - half_at) % W::BK == 32 ? mine_n - 1 : ~0u);
    typename W::pieces pw = W::first(a, col0, k0, k0 + range);
    const typename W::places at = W::place(a, warp_n, warp_k);
    struct gemm_piece px = gemm_rows<W::BK, 8 * MT>(a.x, a.m, a.k, row0, k0, k0 + range);
    uint32_t x_at = gemm_keep(gemm_x_at<W::BK, MT>(warp_k));
    unsigned char *from = ring, *to = ring + (R::N - 1) * R::STAGE, *const last = to;
    float acc[2][MT][4] = {}, mine[MT][4];

#pragma unroll
    for (uint32_t i = 0; i < R::N - 1; i++)
        gemm_fetch<W, MT>(ring + i * R::STAGE, pw, px, i);
    for (uint32_t it = 0; it < n_it; it++) {
        cp_wait<R::N - 2>();
        block_sync(); /* all see stage it; nobody reads stage it - 1 */
        gemm_fetch<W, MT>(to, pw, px, it + R::N - 1);
        if (it < mine_n)
            gemm_stage<W, MT>(acc, at, from, x_at, it == cut_at);
        to = from;
        from = from == last ? ring : from + R::STAGE;
    }
    gemm_meet<MT>(mine, acc, reinterpret_cast<float4 *>(ring), warp_k);
    if (a.n_split > 1 && !gemm_gather<MT>(mine, a, col_tile * a.n_row_tile + row_tile, split))
        return;
    gemm_store<W, MT>(mine, a, reinterpret_cast<half *>(ring), row0, col0,
                      warp_n * 32 + warp_k * 16);
}

#endif
