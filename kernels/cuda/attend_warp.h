/* attend_warp.h - what one warp of decode attention does with its tokens: 16 at a time through its
 * own pipeline of cp.async stages, scores and values on tensor cores, softmax kept online.
 * attend_decode.cu says how the parts come together; only it includes this.
 *
 * What must stay true: no lane reads a stage before cp_wait and warp_sync, none refills it
 * before the next warp_sync; each byte of K and V is copied once. */
#ifndef KERNELS_CUDA_ATTEND_WARP_H
#define KERNELS_CUDA_ATTEND_WARP_H

#include "kernels/cuda/attend_tile.h"

/* What one warp keeps of a softmax: rows g and g + 8 of the tile. */
template <int HD> struct warp_state {
    float o[HD / 8][4];
    float m[2], l[2];          /* greatest score so far; this lane's share of the sum */
};

template <int HD, enum fmt F> struct split {
    static constexpr int ROW = HD * elt<F>::size;          /* bytes of a row */
    static constexpr int CHUNKS = ROW / 16;
    static constexpr int STAGES = split_stages(ROW);
    static constexpr int TILE = 16 * ROW;                  /* 16 tokens of K, or of V */
    static constexpr int WARP = STAGES * 2 * TILE;
    static constexpr bool QUANT = F != FMT_F16;
    static constexpr float LIFT = QUANT ? 64.0f : 1.0f;
    static_assert(WARP >= 16 * HD * (int)sizeof(float), "a warp's O must fit into its stages");
};

/* Row number of the token that this lane looks after (lane % 16) of the warp's i-th tile; NO_ROW
 * beyond t1. */
PRIM uint32_t split_row(const struct attend_args &a, const struct part_of &w, uint32_t i)
{
    uint32_t p = w.t0 + (threadIdx.x / 32 + 4 * i) * 16 + lane_id() % 16;

    if (p >= w.t1)
        return NO_ROW;
    return key_row(a.b.table + a.b.table_start[w.seq], a.b.block_tokens[w.seq], p, w.kv_head,
                   a.kv.n_head);
}

/* Starts the copy of one tile of K and V into a stage; row: split_row of that tile. */
template <int HD, enum fmt F>
PRIM void split_issue(const struct attend_args &a, unsigned char *stage, uint32_t row)
{
    typedef split<HD, F> S;
    size_t v_after = (size_t)a.kv.n_head * KV_TILE * S::ROW;

#pragma unroll
    for (int i = 0; i < S::CHUNKS / 2; i++) {
        uint32_t at = lane_id() + 32 * (uint32_t)i, r = at / S::CHUNKS, c = at % S::CHUNKS;
        uint32_t from = warp_idx(row, (int)r);
        bool in = from != NO_ROW;
        const unsigned char *k = a.kv.data + (in ? (size_t)from * S::ROW + c * 16 : 0);
        unsigned char *to = stage + tile_at<S::CHUNKS>(r, c);

        cp_async16(to, k, in);
        cp_async16(to + S::TILE, k + (in ? v_after : 0), in);
    }
}

/* Scales of this lane's token: K's in the low half, V's in the high; 0 where there is none. */
PRIM uint32_t split_scales(const struct attend_args &a, uint32_t row)
{
    const uint16_t *scale = reinterpret_cast<const uint16_t *>(a.kv.scale);

    if (row == NO_ROW)
        return 0;
    return ld_global(scale + row) | (uint32_t)ld_global(scale + row + (size_t)a.kv.n_head * KV_TILE)
                                        << 16;
}

/* Q as A fragments, rows beyond w.rows zero; in quantised pools in the order that expanded bytes
 * have. */
template <int HD, enum fmt F>
PRIM void split_query(uint32_t (&q)[HD / 16][4], const struct attend_args &a,
                      const struct part_of &w)
{
    size_t wide = (size_t)(a.n_q + 2 * a.kv.n_head) * HD;
    const half *from = a.qkv + a.b.seq_start[w.seq] * wide + (size_t)w.head0 * HD;
    uint32_t g = lane_id() / 4, t = lane_id() % 4;

#pragma unroll
    for (int k = 0; k < HD / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t row = g + (i % 2 ? 8 : 0);
            uint32_t col = (uint32_t)k * 16 +
                           (split<HD, F>::QUANT ? 4 * t + (i / 2) * 2 : 2 * t + (i / 2) * 8);

            q[k][i] = row < w.rows
                          ? ld_global(reinterpret_cast<const uint32_t *>(from + row * HD + col))
                          : 0;
        }
}

/* S = Q K^T for 16 tokens: s[0] tokens 0..7, s[1] 8..15. */
template <int HD, enum fmt F>
PRIM void split_scores(float (&s)[2][4], const uint32_t (&q)[HD / 16][4], const unsigned char *tile)
{
    typedef split<HD, F> S;
    uint32_t lane = tile_lane<S::CHUNKS>();

#pragma unroll
    for (int c = 0; c < S::CHUNKS; c += 2) { /* ldmatrix: tokens 0-7, 8-15 of two chunks */
        uint32_t r[4];

        ldsm_x4(r, tile + (lane ^ (uint32_t)c * 16));
#pragma unroll
        for (int n = 0; n < 2; n++) {
            if constexpr (S::QUANT) {
#pragma unroll
                for (int k = 0; k < 2; k++) {              /* a chunk of bytes is 16 columns */
                    __half2 h[2];

                    expand<F>(r[2 * k + n], h);
                    const uint32_t b[2] = {h2_bits(h[0]), h2_bits(h[1])};

                    mma_f16(s[n], q[c + k], b);
                }
            } else {
                const uint32_t b[2] = {r[n], r[2 + n]};

                mma_f16(s[n], q[c / 2], b);
            }
        }
    }
}

/* O += P V for 16 tokens. */
template <int HD, enum fmt F>
PRIM void split_values(float (&o)[HD / 8][4], const uint32_t (&p)[4], const unsigned char *tile)
{
    typedef split<HD, F> S;
    uint32_t lane = tile_lane<S::CHUNKS>();

#pragma unroll
    for (int c = 0; c < S::CHUNKS; c += 2) {
        uint32_t r[4];

        ldsm_x4_trans(r, tile + (lane ^ (uint32_t)c * 16));
#pragma unroll
        for (int k = 0; k < 2; k++) {
            if constexpr (S::QUANT) {
                __half2 lo[2], hi[2]; /* tokens 2t, 2t + 1; the same + 8: even, odd columns */

                expand_even_odd<F>(r[2 * k], lo);
                expand_even_odd<F>(r[2 * k + 1], hi);
#pragma unroll
                for (int n = 0; n < 2; n++) {
                    const uint32_t b[2] = {h2_bits(lo[n]), h2_bits(hi[n])};

                    mma_f16(o[2 * (c + k) + n], p, b);
                }
            } else {
                const uint32_t b[2] = {r[2 * k], r[2 * k + 1]};

                mma_f16(o[c + k], p, b);
            }
        }
    }
}

/* Scales scores to powers of two and drops tokens from n on. This lane's tokens are t2, t2 + 1,
 * t2 + 8, t2 + 9; v: V's scales of these. scales: split_scales of the tile's tokens (quantised
 * pools). */
template <int HD, enum fmt F>
PRIM void split_scale(float (&s)[2][4], float (&v)[2][2], float scale, uint32_t n, uint32_t scales)
{
    typedef split<HD, F> S;
    uint32_t t2 = 2 * (lane_id() % 4);

#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t tok = t2 + (uint32_t)(i / 2) * 8 + (uint32_t)(i % 2);
        float k_scale = scale;

        v[i / 2][i % 2] = 1;
        if (S::QUANT) {
            float2 kv = h2_floats(bits_h2(warp_idx(scales, (int)tok)));

            k_scale = kv.x * scale;
            v[i / 2][i % 2] = kv.y * S::LIFT;
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float &x = s[i / 2][2 * h + i % 2];

            x = tok < n ? x * k_scale : -INFINITY;
        }
    }
}

/* Row h's scores to probabilities, packed as part of the A fragment of P V. Returns what O must
 * be multiplied by. */
template <int HD>
PRIM float split_row_softmax(struct warp_state<HD> &w, float (&s)[2][4], uint32_t (&p)[4],
                             const float (&v)[2][2], int h)
{
    float best = fmaxf(fmaxf(s[0][2 * h], s[0][2 * h + 1]), fmaxf(s[1][2 * h], s[1][2 * h + 1]));
    float m = fmaxf(w.m[h], lanes_max<4>(best)), f = fast_exp2(w.m[h] - m);

    w.m[h] = m;
#pragma unroll
    for (int i = 0; i < 4; i++)
        s[i / 2][2 * h + i % 2] = fast_exp2(s[i / 2][2 * h + i % 2] - m);
    w.l[h] = w.l[h] * f + ((s[0][2 * h] + s[0][2 * h + 1]) + (s[1][2 * h] + s[1][2 * h + 1]));
#pragma unroll
    for (int i = 0; i < 2; i++)
        p[2 * i + h] = h2_pack_bits(s[i][2 * h] * v[i][0], s[i][2 * h + 1] * v[i][1]);
    return f;
}

/* Scores of one tile to probabilities; O and l are brought to the new maximum, which stands in
 * most tiles. */
template <int HD, enum fmt F>
PRIM void split_softmax(struct warp_state<HD> &w, float (&s)[2][4], uint32_t (&p)[4], float scale,
                        uint32_t n, uint32_t scales)
{
    float v[2][2], f[2];

    split_scale<HD, F>(s, v, scale, n, scales);
    f[0] = split_row_softmax<HD>(w, s, p, v, 0);
    f[1] = split_row_softmax<HD>(w, s, p, v, 1);
    if (!warp_any(f[0] != 1 || f[1] != 1))
        return;
#pragma unroll
    for (int i = 0; i < HD / 8; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            w.o[i][j] *= f[j / 2];
}

/* All tiles of one warp in one part. */
template <int HD, enum fmt F>
PRIM void split_warp(struct warp_state<HD> &w, const struct attend_args &a,
                     const struct part_of &part, unsigned char *stages)
{
    typedef split<HD, F> S;
    uint32_t mine = part.t0 + threadIdx.x / 32 * 16;
    uint32_t n = part.t1 > mine ? (part.t1 - mine + 63) / 64 : 0;
    uint32_t row[S::STAGES], next = split_row(a, part, 0), q[HD / 16][4], scales = 0, coming = 0;

#pragma unroll
    for (int i = 0; i < S::STAGES - 1; i++) {
        row[i] = next;
        split_issue<HD, F>(a, stages + i * 2 * S::TILE, next);
        cp_commit();
        next = split_row(a, part, (uint32_t)i + 1);
    }
    split_query<HD, F>(q, a, part);
    if (S::QUANT)
        scales = split_scales(a, row[0]);
    for (uint32_t i = 0, at = 0; i < n; i++) {
        uint32_t to = at == 0 ? S::STAGES - 1 : at - 1, p[4]; /* the stage emptied one round ago */
        float s[2][4] = {};

        cp_wait<S::STAGES - 2>();
        warp_sync();
        row[S::STAGES - 1] = next;
        split_issue<HD, F>(a, stages + to * 2 * S::TILE, next);
        cp_commit();
        next = split_row(a, part, i + S::STAGES);
        if (S::QUANT)
            coming = split_scales(a, row[1]);
        split_scores<HD, F>(s, q, stages + at * 2 * S::TILE);
        split_softmax<HD, F>(w, s, p, a.scale, part.t1 - mine - i * 64, scales);
        split_values<HD, F>(w.o, p, stages + at * 2 * S::TILE + S::TILE);
        scales = coming;
#pragma unroll
        for (int j = 0; j + 1 < S::STAGES; j++)
            row[j] = row[j + 1];
        at = at + 1 == S::STAGES ? 0 : at + 1;
    }
    cp_wait<0>();
}

#endif
