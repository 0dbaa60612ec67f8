/* attend_prefill.cu - attention of many rows over the cache, on tensor cores: prompts, chunks
 * against a prefix, mixed batches; in exact mode decode rows too.
 *
 * Idea: FlashAttention-2 (Dao 2023), with the query heads of one KV head packed as rows (GQA). 4
 * warps own 16 or 32 rows each and see all keys, so a softmax never leaves a warp; S becomes the A
 * fragment of P V without moving. K of the next tile is loaded while P V runs, V while Q K^T runs.
 * int8 and fp8 tiles arrive as bytes and each thread widens those that it has copied itself, scale
 * applied, before the barrier that there is anyway.
 *
 * What must stay true: a row's bits depend on its own sequence only. Key tiles lie at fixed
 * absolute positions and are taken in ascending order; what a row does not see adds exact zeros;
 * the same arithmetic for tiles of 64 and of 128 rows (no sum of a product that a compiler may
 * contract in one and not in the other). */
#include "kernels/cuda/attend_rows.h"

/* O / l to y, through the warp's own rows of Q's place so that 16 bytes are stored at once. */
template <int HD, int MI>
PRIM void tile_store(const struct attend_args &a, const struct tile_work &w,
                     const struct tile_state<HD, MI> &st, unsigned char *q)
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

/* Row tile of this block; rows 0: nothing to do. items < 0: sequences of one row, in 64-row
 * tiles. */
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
    struct tile_work &w =
        *reinterpret_cast<struct tile_work *>(row + 2 * KEYS); /* not in registers */
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
        if ((j + 1) * KEYS > w.before) { /* the diagonal: from the first row's keys on */
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
static cudaError_t tiles_launch(struct gpu *g, const struct attend_args *a, int items,
                                uint32_t n_item, bool fp8)
{
    return LAUNCH((attend_tiles_kernel<HD, MI, QUANT>), n_item * a->kv.n_head, ATTEND_THREADS,
                  (tiles<HD, MI, QUANT>::SMEM), g->stream, *a, items, fp8);
}

template <int HD>
static cudaError_t tiles_of(struct gpu *g, const struct attend_args *a, enum fmt f, int items,
                            uint32_t n_item)
{
    if (items == 0)
        return (f == FMT_F16 ? tiles_launch<HD, 2, false>
                             : tiles_launch<HD, 2, true>)(g, a, items, n_item, f == FMT_FP8);
    return (f == FMT_F16 ? tiles_launch<HD, 1, false>
                         : tiles_launch<HD, 1, true>)(g, a, items, n_item, f == FMT_FP8);
}

cudaError_t attend_tiles(struct gpu *g, const struct attend_args *a, enum fmt f, int items,
                         uint32_t n_item)
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
