/* attend_prefill.cu - attention of many rows over the cache, on tensor cores: prompts, chunks against a prefix, mixed
 * batches; in exact mode decode rows too.
 *
 * Idea: FlashAttention-2 (Dao 2023), with the query heads of one KV head packed as rows (GQA). 4 warps own 16 or 32 rows each
 * and see all keys, so a softmax never leaves a warp; S becomes the A fragment of P V without moving. K of the next
 * tile is loaded while P V runs, V while Q K^T runs. int8 and fp8 tiles arrive as bytes and each thread
 * widens those that it has copied itself, scale applied, before the barrier that there is anyway.
 *
 * What must stay true: a row's bits depend on its own sequence only. Key tiles lie at fixed absolute positions and are taken in
 * ascending order; what a row does not see adds exact zeros; the same arithmetic for tiles of 64 and of 128 rows (no
 * sum of a product that a compiler may contract in one and not in the other). */
#include "kernels/cuda/attend_tile.h"

constexpr int N8 = KEYS / 8, K16 = KEYS / 16;      /* accumulators of S, fragments of P along the keys */

/* ptxas for Blackwell needs a few registers more than a third of an SM's: two blocks there rather than spills. */
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
    static constexpr int COPIES = KEYS * HD * (QUANT ? 1 : 2) / 16 / ATTEND_THREADS;   /* of a thread, per tile */
    static constexpr int Q = ROWS * HD * 2, KV = KEYS * HD * 2, RAW = QUANT ? KEYS * HD : 0;
    static constexpr int SCALES = QUANT ? COPIES * ATTEND_THREADS * 4 : 0;
    static constexpr int SMEM = Q + 2 * KV + RAW + SCALES + 2 * KEYS * 4 + 32;
    static constexpr int BLOCKS = MI == 2 || (HD == 128 && MORE_REGISTERS) ? 2 : 3;    /* on an SM */
};

/* What one block does. */
struct tile_work {
    uint32_t seq, head, row0, rows, n_key, before;     /* before: keys that the sequence had before this step */
};

/* First element of packed row r (0 .. rows - 1) among rows of `wide` elements, the KV head's queries at `at`. */
PRIM size_t packed_at(const struct attend_args &a, const struct tile_work &w, uint32_t r, uint32_t hd,
                      uint32_t wide)
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
    return key_row(a.b.table + a.b.table_start[w.seq], a.b.block_tokens[w.seq], p, w.head, a.kv.n_head);
}

/* Starts the copy of one tile of K (which 0) or V (which 1) to `to`. Quantised: to this thread's own place in `raw`, where K
 * and V take turns, and behind it the scales: 4 bytes that hold the row's and a neighbour's. */
template <int HD, int MI, bool QUANT>
PRIM void load_keys(const struct attend_args &a, unsigned char *to, unsigned char *raw, uint32_t which,
                    const uint32_t *row)
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
        uint32_t at = threadIdx.x + (uint32_t)i * ATTEND_THREADS, r = at / (HD / 16), c = at % (HD / 16) * 2;
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
        *reinterpret_cast<uint4 *>(to + tile_at<T::CHUNKS>(r, c)) = {out[0], out[1], out[2], out[3]};
        *reinterpret_cast<uint4 *>(to + tile_at<T::CHUNKS>(r, c + 1)) = {out[4], out[5], out[6], out[7]};
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
PRIM void tile_values(float (&o)[MI][HD / 8][4], const uint32_t (&p)[MI][K16][4], const unsigned char *v)
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
template <int MI> PRIM uint32_t row_keys(const struct attend_args &a, const struct tile_work &w, int mi, int h)
{
    uint32_t r = threadIdx.x / 32 * 16 * MI + (uint32_t)mi * 16 + lane_id() / 4 + 8 * (uint32_t)h;

    r = r < w.rows ? r : w.rows - 1;
    return w.before + (w.row0 + r) / a.group + 1;
}

/* Scores of keys that a row does not see become -inf. see[mi][h]: keys that the row sees from this tile on. */
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

/* Probabilities in place of scores, packed as A fragments; O and l are brought to the new maximum. */
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
            float best = s[i][0][2 * h], sum = 0, m;

#pragma unroll
            for (int n = 0; n < N8; n++)
                best = fmaxf(best, fmaxf(s[i][n][2 * h], s[i][n][2 * h + 1]));
            m = fmaxf(w.m[i][h], lanes_max<4>(best) * scale);
            f[i][h] = fast_exp2(w.m[i][h] - m);            /* exactly 1 when the maximum stands */
            moved = moved || f[i][h] != 1;
            w.m[i][h] = m;
#pragma unroll
            for (int n = 0; n < N8; n++) {
                float x = fast_exp2(fmaf(s[i][n][2 * h], scale, -m));
                float y = fast_exp2(fmaf(s[i][n][2 * h + 1], scale, -m));

                sum += x + y;
                p[i][n / 2][n % 2 * 2 + h] = h2_pack_bits(x, y);
            }
            w.l[i][h] = fmaf(w.l[i][h], f[i][h], sum);
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

/* O / l to y, through the warp's own rows of Q's place so that 16 bytes are stored at once. */
template <int HD, int MI>
PRIM void tile_store(const struct attend_args &a, const struct tile_work &w, const struct tile_state<HD, MI> &st,
                     unsigned char *q)
{
    constexpr uint32_t chunks = HD / 8;
    uint32_t l = lane_id(), warp = threadIdx.x / 32 * 16 * MI;

    warp_sync();                                           /* all lanes have read their last Q */
#pragma unroll
    for (int i = 0; i < MI; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float sum = lanes_sum<4>(st.l[i][h]);
            uint32_t r = warp + (uint32_t)i * 16 + l / 4 + 8 * (uint32_t)h;

#pragma unroll
            for (int n = 0; n < HD / 8; n++)
                *reinterpret_cast<uint32_t *>(q + tile_at<chunks>(r, (uint32_t)n) + l % 4 * 4) =
                    h2_pack_bits(st.o[i][n][2 * h] / sum, st.o[i][n][2 * h + 1] / sum);
        }
    warp_sync();
    for (uint32_t i = l; i < 16 * MI * chunks; i += 32) {
        uint32_t r = warp + i / chunks, c = i % chunks;

        if (r < w.rows)
            st_16(a.y + packed_at(a, w, r, HD, a.n_q * HD) + c * 8,
                  *reinterpret_cast<const uint4 *>(q + tile_at<chunks>(r, c)));
    }
}

/* Row tile of this block; rows 0: nothing to do. items < 0: sequences of one row, in 64-row tiles. */
PRIM struct tile_work find_work(const struct attend_args &a, int items, uint32_t most)
{
    struct tile_work w = {};
    uint32_t n_head = a.kv.n_head, i = blockIdx.x / n_head, tile = 0, total;

    w.head = blockIdx.x % n_head;
    if (items < 0) {
        uint32_t each = (a.group + most - 1) / most;

        tile = i % each;
        i /= each;
    }
    struct attend_item item = {i, tile * most, 0, 0};
    if (items >= 0)
        item = plan_items(a.plan, items)[i];
    w.seq = item.seq;
    w.row0 = item.row0;
    total = a.b.seq_start[w.seq + 1] - a.b.seq_start[w.seq];
    if (items < 0 && total != 1)
        return w;
    w.before = a.b.kv_len[w.seq] - total;
    total *= a.group;
    w.rows = total - w.row0 < most ? total - w.row0 : most;
    w.n_key = a.b.kv_len[w.seq] ? w.before + (w.row0 + w.rows - 1) / a.group + 1 : 0;
    return w;
}

/* A padding sequence: zeros. */
PRIM void zero_rows(const struct attend_args &a, const struct tile_work &w, uint32_t hd)
{
    const uint4 zero = {0, 0, 0, 0};

    for (uint32_t i = threadIdx.x; i < w.rows * hd / 8; i += ATTEND_THREADS)
        st_16(a.y + packed_at(a, w, i / (hd / 8), hd, a.n_q * hd) + i % (hd / 8) * 8, zero);
}

template <int HD, int MI, bool QUANT>
__global__ void __launch_bounds__(ATTEND_THREADS, tiles<HD, MI, QUANT>::BLOCKS)
attend_tiles_kernel(const struct attend_args a, int items, bool fp8)
{
    typedef tiles<HD, MI, QUANT> T;
    DYN_SHARED(unsigned char, smem);
    unsigned char *q = smem, *k = q + T::Q, *v = k + T::KV, *raw = v + T::KV;
    uint32_t *const row = reinterpret_cast<uint32_t *>(raw + T::RAW + T::SCALES);
    struct tile_work &w = *reinterpret_cast<struct tile_work *>(row + 2 * KEYS);   /* not in registers */
    struct tile_state<HD, MI> st = {};

    if (threadIdx.x == 0)
        w = find_work(a, items, T::ROWS);
    block_sync();
    if (!w.rows || !w.n_key) {
        zero_rows(a, w, HD);
        return;
    }
#pragma unroll
    for (int i = 0; i < MI; i++)
        st.m[i][0] = st.m[i][1] = -INFINITY;
    if (threadIdx.x < KEYS)
        row[threadIdx.x] = tile_row(a, w, 0);
    block_sync();
    load_query<HD, MI, QUANT>(a, w, q);
    load_keys<HD, MI, QUANT>(a, k, raw, 0, row);
    cp_commit();
    for (uint32_t j = 0; j * KEYS < w.n_key; j++) {
        uint32_t *here = row + (j & 1) * KEYS, *there = row + (~j & 1) * KEYS;
        uint32_t coming = tile_row(a, w, j + 1), p[MI][K16][4];
        float s[MI][N8][4] = {};

        cp_wait<0>();
        if constexpr (QUANT)
            widen_keys<HD, MI>(k, raw, fp8, here);
        block_sync();                                      /* K is there; V has been read by all */
        load_keys<HD, MI, QUANT>(a, v, raw, 1, here);
        cp_commit();
        if (threadIdx.x / 32 * 16 * MI < w.rows)           /* whether this warp has any row */
            tile_scores<HD, MI>(s, q, k);
        if (threadIdx.x < KEYS)
            there[threadIdx.x] = coming;
        cp_wait<0>();
        if constexpr (QUANT)
            widen_keys<HD, MI>(v, raw, fp8, here);
        block_sync();                                      /* V is there; K has been read by all */
        load_keys<HD, MI, QUANT>(a, k, raw, 0, there);
        cp_commit();
        if (threadIdx.x / 32 * 16 * MI >= w.rows)
            continue;
        if ((j + 1) * KEYS > w.before) {                   /* the diagonal: from the first row's keys on */
            int see[MI][2];

            for (int i = 0; i < MI; i++)
                for (int h = 0; h < 2; h++)
                    see[i][h] = (int)(row_keys<MI>(a, w, i, h) - j * KEYS);
            tile_mask<MI>(s, see);
        }
        tile_softmax<HD, MI>(st, s, p, a.scale);
        tile_values<HD, MI>(st.o, p, v);
    }
    cp_wait<0>();
    if (threadIdx.x / 32 * 16 * MI < w.rows)
        tile_store<HD, MI>(a, w, st, q);
}

template <int HD, int MI, bool QUANT>
static cudaError_t tiles_launch(struct gpu *g, const struct attend_args *a, int items, uint32_t n_item, bool fp8)
{
    return LAUNCH((attend_tiles_kernel<HD, MI, QUANT>), n_item * a->kv.n_head, ATTEND_THREADS,
                  (tiles<HD, MI, QUANT>::SMEM), g->stream, *a, items, fp8);
}

template <int HD> static cudaError_t tiles_of(struct gpu *g, const struct attend_args *a, enum fmt f, int items,
                                              uint32_t n_item)
{
    if (items == 0)
        return (f == FMT_F16 ? tiles_launch<HD, 2, false> : tiles_launch<HD, 2, true>)(g, a, items, n_item,
                                                                                     f == FMT_FP8);
    return (f == FMT_F16 ? tiles_launch<HD, 1, false> : tiles_launch<HD, 1, true>)(g, a, items, n_item, f == FMT_FP8);
}

cudaError_t attend_tiles(struct gpu *g, const struct attend_args *a, enum fmt f, int items, uint32_t n_item)
{
    switch (a->kv.hd) {
    case 32: return tiles_of<32>(g, a, f, items, n_item);
    case 64: return tiles_of<64>(g, a, f, items, n_item);
    default: return tiles_of<128>(g, a, f, items, n_item);
    }
}

template <int HD, int MI, bool QUANT> static void tiles_allow(cudaError_t *rc)
{
    if (*rc == cudaSuccess)
        *rc = kernel_smem(attend_tiles_kernel<HD, MI, QUANT>, tiles<HD, MI, QUANT>::SMEM);
}
template <int HD> static void tiles_allow_all(cudaError_t *rc)
{
    tiles_allow<HD, 1, false>(rc);
    tiles_allow<HD, 1, true>(rc);
    tiles_allow<HD, 2, false>(rc);
    tiles_allow<HD, 2, true>(rc);
}

cudaError_t attend_tiles_open()
{
    cudaError_t rc = cudaSuccess;

    tiles_allow_all<32>(&rc);
    tiles_allow_all<64>(&rc);
    tiles_allow_all<128>(&rc);
    return rc;
}
