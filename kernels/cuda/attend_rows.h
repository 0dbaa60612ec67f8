/* attend_rows.h - what a block of prefill attention does with one tile of 64 keys: loads it (and
 * widens it, when it is quantised), scores, mask, softmax, values. attend_prefill.cu says in which
 * order and between which barriers; only it includes this.
 *
 * What must stay true: a row's arithmetic is the same in tiles of 64 and of 128 rows: no sum of
 * a product that a compiler may contract in one and not in the other (fmaf says which are). */
#ifndef KERNELS_CUDA_ATTEND_ROWS_H
#define KERNELS_CUDA_ATTEND_ROWS_H

#include "kernels/cuda/attend_tile.h"

constexpr int N8 = KEYS / 8, K16 = KEYS / 16; /* accumulators of S, fragments of P along the keys */

/* ptxas for Blackwell needs a few registers more than a third of an SM's: two blocks there
 * rather than spills. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr bool MORE_REGISTERS = true;
#else
constexpr bool MORE_REGISTERS = false;
#endif

/* Registers of one warp: MI groups of 16 rows; KEYS keys at a time. */
template <int HD, int MI> struct tile_state {
    float o[MI][HD / 8][4];
    float m[MI][2], l[MI][2];  /* greatest score so far, scaled; this lane's share of the sum */
};

template <int HD, int MI, bool QUANT> struct tiles {
    static constexpr int ROWS = 64 * MI, CHUNKS = HD / 8;
    static constexpr int COPIES =
        KEYS * HD * (QUANT ? 1 : 2) / 16 / ATTEND_THREADS; /* of a thread, per tile */
    static constexpr int Q = ROWS * HD * 2, KV = KEYS * HD * 2, RAW = QUANT ? KEYS * HD : 0;
    static constexpr int SCALES = QUANT ? COPIES * ATTEND_THREADS * 4 : 0;
    static constexpr int SMEM = Q + 2 * KV + RAW + SCALES + 2 * KEYS * 4 + 32;
    static constexpr int BLOCKS = MI == 2 || (HD == 128 && MORE_REGISTERS) ? 2 : 3; /* on an SM */
};

/* What one block does. */
struct tile_work {
    uint32_t seq, head, row0, rows, n_key,
        before; /* before: keys that the sequence had before this step */
};

/* First element of packed row r (0 .. rows - 1) among rows of `wide` elements, the KV head's
 * queries at `at`. */
PRIM size_t packed_at(const struct attend_args &a, const struct tile_work &w, uint32_t r,
                      uint32_t hd, uint32_t wide)
{
    uint32_t tok = (w.row0 + r) / a.group, head = w.head * a.group + (w.row0 + r - tok * a.group);

    return (size_t)(a.b.seq_start[w.seq] + tok) * wide + (size_t)head * hd;
}

template <int HD, int MI, bool QUANT>
PRIM void load_query(const struct attend_args &a, const struct tile_work &w, unsigned char *q)
{
    typedef tiles<HD, MI, QUANT> T;

    for (uint32_t i = threadIdx.x; i < (uint32_t)(T::ROWS * T::CHUNKS); i += ATTEND_THREADS) {
        uint32_t r = i / T::CHUNKS, c = i % T::CHUNKS;
        bool in = r < w.rows;
        size_t from = in ? packed_at(a, w, r, HD, (a.n_q + 2 * a.kv.n_head) * HD) + c * 8 : 0;

        cp_async16(q + tile_at<T::CHUNKS>(r, c), a.qkv + from, in);
    }
}

/* Row number of key j * KEYS + threadIdx.x, of threads below KEYS; NO_ROW beyond n_key. */
PRIM uint32_t tile_row(const struct attend_args &a, const struct tile_work &w, uint32_t j)
{
    uint32_t p = j * KEYS + threadIdx.x;

    if (threadIdx.x >= KEYS || p >= w.n_key)
        return NO_ROW;
    return key_row(a.b.table + a.b.table_start[w.seq], a.b.block_tokens[w.seq], p, w.head,
                   a.kv.n_head);
}

/* Starts the copy of one tile of K (which 0) or V (which 1) to `to`. Quantised: to this thread's
 * own place in `raw`, where K and V take turns, and behind it the scales: 4 bytes that hold the
 * row's and a neighbour's. */
template <int HD, int MI, bool QUANT>
PRIM void load_keys(const struct attend_args &a, unsigned char *to, unsigned char *raw,
                    uint32_t which, const uint32_t *row)
{
    typedef tiles<HD, MI, QUANT> T;
    constexpr uint32_t chunks = HD * (QUANT ? 1 : 2) / 16;
    size_t after = (size_t)which * a.kv.n_head * KV_TILE;

#pragma unroll
    for (int i = 0; i < T::COPIES; i++) {
        uint32_t at = threadIdx.x + (uint32_t)i * ATTEND_THREADS, r = at / chunks, c = at % chunks;
        bool in = row[r] != NO_ROW;
        size_t from = in ? row[r] + after : 0;
        const unsigned char *src = a.kv.data + (from * chunks + c) * 16;

        if constexpr (QUANT) {
            cp_async16(raw + at * 16, src, in);
            cp_async4(raw + T::RAW + at * 4, a.kv.scale + (from & ~(size_t)1), in);
        } else {
            cp_async16(to + tile_at<chunks>(r, c), src, in);
        }
    }
}

/* This thread's bytes of a tile to halves, scales applied. */
template <int HD, int MI>
PRIM void widen_keys(unsigned char *to, const unsigned char *raw, bool fp8, const uint32_t *row)
{
    typedef tiles<HD, MI, true> T;

#pragma unroll
    for (int i = 0; i < T::COPIES; i++) {
        uint32_t at = threadIdx.x + (uint32_t)i * ATTEND_THREADS, r = at / (HD / 16),
                 c = at % (HD / 16) * 2;
        uint4 q = *reinterpret_cast<const uint4 *>(raw + at * 16);
        uint32_t word[4] = {q.x, q.y, q.z, q.w}, out[8];
        uint32_t two = *reinterpret_cast<const uint32_t *>(raw + T::RAW + at * 4);
        __half2 s = bits_h2(prmt(two, 0, row[r] & 1 ? 0x3232u : 0x1010u)), h[2];

#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (fp8)
                expand<FMT_FP8>(word[j], h);
            else
                expand<FMT_INT8>(word[j], h);
            out[2 * j] = h2_bits(h2_mul(h[0], s));
            out[2 * j + 1] = h2_bits(h2_mul(h[1], s));
        }
        const uint4 lo = {out[0], out[1], out[2], out[3]}, hi = {out[4], out[5], out[6], out[7]};
        *reinterpret_cast<uint4 *>(to + tile_at<T::CHUNKS>(r, c)) = lo;
        *reinterpret_cast<uint4 *>(to + tile_at<T::CHUNKS>(r, c + 1)) = hi;
    }
}

/* S = Q K^T: s[mi][n] holds keys 8 n .. 8 n + 7. q: the warp's first row. */
template <int HD, int MI>
PRIM void tile_scores(float (&s)[MI][N8][4], const unsigned char *q, const unsigned char *k)
{
    uint32_t lane = tile_lane<HD / 8>();

    q += threadIdx.x / 32 * 16 * MI * HD * 2;
#pragma unroll
    for (int c = 0; c < HD / 8; c += 2) {
        uint32_t a[MI][4];

#pragma unroll
        for (int i = 0; i < MI; i++)
            ldsm_x4(a[i], q + i * 16 * HD * 2 + (lane ^ (uint32_t)c * 16));
#pragma unroll
        for (int n = 0; n < N8; n += 2) {
            uint32_t r[4];

            ldsm_x4(r, k + n * 8 * HD * 2 + (lane ^ (uint32_t)c * 16));
#pragma unroll
            for (int i = 0; i < MI; i++)
#pragma unroll
                for (int half_ = 0; half_ < 2; half_++) {
                    const uint32_t b[2] = {r[half_], r[2 + half_]};

                    mma_f16(s[i][n + half_], a[i], b);
                }
        }
    }
}

/* O += P V. p[mi][k]: A fragments of keys 16 k .. 16 k + 15. */
template <int HD, int MI>
PRIM void tile_values(float (&o)[MI][HD / 8][4], const uint32_t (&p)[MI][K16][4],
                      const unsigned char *v)
{
    uint32_t lane = tile_lane<HD / 8>();

#pragma unroll
    for (int k = 0; k < K16; k++)
#pragma unroll
        for (int c = 0; c < HD / 8; c += 2) {
            uint32_t r[4];

            ldsm_x4_trans(r, v + k * 16 * HD * 2 + (lane ^ (uint32_t)c * 16));
#pragma unroll
            for (int i = 0; i < MI; i++)
#pragma unroll
                for (int n = 0; n < 2; n++) {
                    const uint32_t b[2] = {r[2 * n], r[2 * n + 1]};

                    mma_f16(o[i][c + n], p[i][k], b);
                }
        }
}

/* Keys that row (mi, h) of this lane sees; rows beyond the tile see what its last row sees. */
template <int MI>
PRIM uint32_t row_keys(const struct attend_args &a, const struct tile_work &w, int mi, int h)
{
    uint32_t r = threadIdx.x / 32 * 16 * MI + (uint32_t)mi * 16 + lane_id() / 4 + 8 * (uint32_t)h;

    r = r < w.rows ? r : w.rows - 1;
    return w.before + (w.row0 + r) / a.group + 1;
}

/* Scores of keys that a row does not see become -inf. see[mi][h]: keys that the row sees from
 * this tile on. */
template <int MI> PRIM void tile_mask(float (&s)[MI][N8][4], const int (&see)[MI][2])
{
    int t2 = 2 * (int)(lane_id() % 4);

#pragma unroll
    for (int i = 0; i < MI; i++)
#pragma unroll
        for (int n = 0; n < N8; n++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                if (n * 8 + t2 + j % 2 >= see[i][j / 2])
                    s[i][n][j] = -INFINITY;
}

/* Probabilities of row (i, h) in place of its scores, packed as A fragments; returns what O must
 * be multiplied by: exactly 1 when the maximum stands. */
template <int HD, int MI>
PRIM float tile_row_softmax(struct tile_state<HD, MI> &w, float (&s)[MI][N8][4],
                            uint32_t (&p)[MI][K16][4], float scale, int i, int h)
{
    float best = s[i][0][2 * h], sum = 0, m, f;

#pragma unroll
    for (int n = 0; n < N8; n++)
        best = fmaxf(best, fmaxf(s[i][n][2 * h], s[i][n][2 * h + 1]));
    m = fmaxf(w.m[i][h], lanes_max<4>(best) * scale);
    f = fast_exp2(w.m[i][h] - m);
    w.m[i][h] = m;
#pragma unroll
    for (int n = 0; n < N8; n++) {
        float x = fast_exp2(fmaf(s[i][n][2 * h], scale, -m)),
              y = fast_exp2(fmaf(s[i][n][2 * h + 1], scale, -m));

        sum += x + y;
        p[i][n / 2][n % 2 * 2 + h] = h2_pack_bits(x, y);
    }
    w.l[i][h] = fmaf(w.l[i][h], f, sum);
    return f;
}

/* The same for all rows; O and l are brought to the new maximum. */
template <int HD, int MI>
PRIM void tile_softmax(struct tile_state<HD, MI> &w, float (&s)[MI][N8][4],
                       uint32_t (&p)[MI][K16][4], float scale)
{
    float f[MI][2];
    bool moved = false;

#pragma unroll
    for (int i = 0; i < MI; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            f[i][h] = tile_row_softmax<HD, MI>(w, s, p, scale, i, h);
            moved = moved || f[i][h] != 1;
        }
    if (!warp_any(moved))                                  /* times one: the same bits */
        return;
#pragma unroll
    for (int i = 0; i < MI; i++)
#pragma unroll
        for (int n = 0; n < HD / 8; n++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                w.o[i][n][j] *= f[i][j / 2];
}

#endif
