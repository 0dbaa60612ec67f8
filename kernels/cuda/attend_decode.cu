/* attend_decode.cu - decode attention split over the cache, on tensor cores.
 *
 * Idea: flash-decoding (Dao et al. 2023) over a stream-K line of units (attend_plan.cu). The query
 * heads of one KV head are the rows of a 16-row tile (GQA packing), so each byte of K and V is read
 * once. Of a unit's tokens each of 4 warps owns 16 at a time and runs its own pipeline of cp.async
 * stages: no block barrier until the end of a sequence, where the warps' (max, sum, O) are merged
 * in shared memory, and the parts of a sequence that several blocks share by the last of them to
 * arrive, in the order of the line.
 *
 * One kernel for every group size: with one query head of 16 rows the tile is mostly padding, but
 * at 4.3 TB/s an SM gets 9 halves a cycle, 150 padded multiplications of the thousand that it can
 * do, so the memory is the limit still (computed, not measured).
 *
 * int8 and fp8: bytes go to shared memory as they are; ldmatrix moves byte pairs, which are widened
 * in registers. The order in which that leaves the columns is undone where Q is loaded and O is
 * written. K's scale multiplies the score, V's the probability (times 64, so that small scales stay
 * clear of half's subnormals).
 *
 * What must stay true: a block's share depends on the plan alone, the grid on neither; merges
 * run in a fixed order. */
#include "kernels/cuda/attend_warp.h"

/* Column of a head where O's accumulator o[i][2h + j] belongs. */
template <enum fmt F> PRIM uint32_t split_column(int i, int j)
{
    uint32_t t = lane_id() % 4;

    return F == FMT_F16 ? (uint32_t)i * 8 + 2 * t + (uint32_t)j
                        : (uint32_t)(i / 2) * 16 + 4 * t + 2 * (uint32_t)j + (uint32_t)(i % 2);
}

/* Writes a warp's state to shared memory: O [16][HD] over its own stages, (m, l) [16] beside. */
template <int HD, enum fmt F>
PRIM void split_publish(const struct warp_state<HD> &w, unsigned char *stages, float2 *ml,
                        uint32_t rows)
{
    float *o = reinterpret_cast<float *>(stages);
    uint32_t g = lane_id() / 4;

#pragma unroll
    for (int h = 0; h < 2; h++) {
        float l = lanes_sum<4>(w.l[h]);
        uint32_t row = g + 8 * (uint32_t)h;

        if (row >= rows)
            continue;
        if (lane_id() % 4 == 0)
            ml[row] = make_float2(w.m[h], l);
#pragma unroll
        for (int i = 0; i < HD / 8; i++)
#pragma unroll
            for (int j = 0; j < 2; j++)
                o[row * HD + split_column<F>(i, j)] = w.o[i][2 * h + j];
    }
}

/* Scratch of one part: O [16][HD], then (m, l) [16]. Block c's part is its first unless the
 * sequence begins in c. */
template <int HD>
PRIM float *part_at(const struct attend_args &a, const struct part_of &w, uint32_t c)
{
    uint32_t slot = 2 * c + (w.begin > c * a.plan->share ? 1 : 0);

    return a.part + (size_t)slot * SPLIT_ROWS * (HD + 2);
}

PRIM half *split_out(const struct attend_args &a, const struct part_of &w, uint32_t hd,
                     uint32_t row)
{
    return a.y + ((size_t)a.b.seq_start[w.seq] * a.n_q + w.head0 + row) * hd;
}

/* Merges the four warps; the result goes to y, or to scratch if other blocks share the sequence. */
template <int HD, enum fmt F>
PRIM void split_merge(const struct attend_args &a, const struct part_of &w,
                      const unsigned char *smem, const float2 *ml)
{
    typedef split<HD, F> S;
    float *part = part_at<HD>(a, w, blockIdx.x);

    for (uint32_t e = threadIdx.x; e < w.rows * HD / 2; e += ATTEND_THREADS) {
        uint32_t row = e / (HD / 2), col = e % (HD / 2) * 2;
        float m = -INFINITY, l = 0, x = 0, y = 0;

        for (int i = 0; i < 4; i++)
            m = fmaxf(m, ml[i * 16 + row].x);
        for (int i = 0; i < 4; i++) {
            const float *o = reinterpret_cast<const float *>(smem + i * S::WARP) + row * HD + col;
            float f = ml[i * 16 + row].x == -INFINITY ? 0 : fast_exp2(ml[i * 16 + row].x - m);

            l += ml[i * 16 + row].y * f;
            x += o[0] * f;
            y += o[1] * f;
        }
        x *= 1 / S::LIFT;
        y *= 1 / S::LIFT;
        if (w.first == w.last) {
            *reinterpret_cast<__half2 *>(split_out(a, w, HD, row) + col) = h2_pack(x / l, y / l);
            continue;
        }
        *reinterpret_cast<float2 *>(part + row * HD + col) = make_float2(x, y);
        if (col == 0)
            *reinterpret_cast<float2 *>(part + SPLIT_ROWS * HD + row * 2) = make_float2(m, l);
    }
}

/* All parts of a sequence to y, in the order of the line: the last block of it to arrive does
 * this. */
template <int HD> PRIM void split_finish(const struct attend_args &a, const struct part_of &w)
{
    for (uint32_t e = threadIdx.x; e < w.rows * HD / 2; e += ATTEND_THREADS) {
        uint32_t row = e / (HD / 2), col = e % (HD / 2) * 2;
        float m = -INFINITY, l = 0, x = 0, y = 0;

        for (uint32_t c = w.first; c <= w.last; c++)
            m = fmaxf(m, part_at<HD>(a, w, c)[SPLIT_ROWS * HD + row * 2]);
        for (uint32_t c = w.first; c <= w.last; c++) {
            const float *part = part_at<HD>(a, w, c);
            float2 ml = *reinterpret_cast<const float2 *>(part + SPLIT_ROWS * HD + row * 2);
            float2 o = *reinterpret_cast<const float2 *>(part + row * HD + col);
            float f = fast_exp2(ml.x - m);

            l += ml.y * f;
            x += o.x * f;
            y += o.y * f;
        }
        *reinterpret_cast<__half2 *>(split_out(a, w, HD, row) + col) = h2_pack(x / l, y / l);
    }
}

/* *kept is w in shared memory: what only the merge needs takes no registers from the loop. Ends
 * with a barrier. */
template <int HD, enum fmt F>
PRIM void split_part(const struct attend_args &a, struct part_of w, unsigned char *smem,
                     const struct part_of *kept)
{
    typedef split<HD, F> S;
    unsigned char *stages = smem + threadIdx.x / 32 * S::WARP;
    float2 *ml = reinterpret_cast<float2 *>(smem + 4 * S::WARP);
    struct warp_state<HD> state = {};

    state.m[0] = state.m[1] = -INFINITY;
    split_warp<HD, F>(state, a, w, stages);
    warp_sync(); /* all lanes have read the stages that O replaces */
    split_publish<HD, F>(state, stages, ml + threadIdx.x / 32 * 16, w.rows);
    block_sync();
    w = *kept;
    split_merge<HD, F>(a, w, smem, ml);
    if (w.first == w.last)
        block_sync(); /* before the next part fills stages and *kept */
    else if (last_arriver(a.counter + w.first, w.last - w.first + 1))
        split_finish<HD>(a, w);
}

/* The part that begins at unit w->at of the line, not before sequence w->seq; rows 0: the share
 * is done. */
PRIM void split_next(const struct attend_args &a, struct part_of *w)
{
    const struct attend_plan *p = a.plan;
    const uint32_t *line = plan_line(p);
    uint32_t groups = (a.group + SPLIT_ROWS - 1) / SPLIT_ROWS, heads = a.kv.n_head * groups,
             at = w->at, s = w->seq;
    uint32_t end = (blockIdx.x + 1) * p->share < p->total ? (blockIdx.x + 1) * p->share : p->total;

    w->rows = 0;
    if (at >= end)
        return;
    while (line[s + 1] <= at)
        s++;
    uint32_t units = (line[s + 1] - line[s]) / heads, head = (at - line[s]) / units;
    uint32_t begin = line[s] + head * units, stop = begin + units < end ? begin + units : end;
    uint32_t in_group = head % groups * SPLIT_ROWS;

    w->seq = s;
    w->kv_head = head / groups;
    w->head0 = w->kv_head * a.group + in_group;
    w->rows = a.group - in_group < SPLIT_ROWS ? a.group - in_group : SPLIT_ROWS;
    w->t0 = (at - begin) * p->tile;
    w->t1 = (stop - begin) * p->tile;
    w->t1 = w->t1 < a.b.kv_len[s] ? w->t1 : a.b.kv_len[s];
    w->begin = begin;
    w->first = begin / p->share;
    w->last = (begin + units - 1) / p->share;
    w->at = stop;
}

/* The same for the first unit of the block's share: the last sequence whose line[s] <= unit. */
PRIM void split_first(const struct attend_args &a, struct part_of *w)
{
    const uint32_t *line = plan_line(a.plan);
    uint32_t at = blockIdx.x * a.plan->share, lo = 0, hi = a.plan->n_seq;

    while (hi - lo > 1) {
        uint32_t mid = (lo + hi) / 2;

        if (line[mid] <= at)
            lo = mid;
        else
            hi = mid;
    }
    w->at = at;
    w->seq = lo;
    split_next(a, w);
}

/* Padding sequences: rows of zeros. */
PRIM void split_padding(const struct attend_args &a)
{
    uint32_t wide = a.n_q * a.kv.hd / 8;
    const uint4 zero = {0, 0, 0, 0};

    for (uint32_t s = blockIdx.x; s < a.plan->n_seq; s += gridDim.x) {
        uint32_t row = a.b.seq_start[s];

        if (a.b.kv_len[s] || a.b.seq_start[s + 1] - row != 1)
            continue;
        for (uint32_t i = threadIdx.x; i < wide; i += ATTEND_THREADS)
            st_16(a.y + ((size_t)row * wide + i) * 8, zero);
    }
}

template <int HD, enum fmt F>
__global__ void __launch_bounds__(ATTEND_THREADS, split_most(HD))
attend_split_kernel(const struct attend_args a)
{
    DYN_SHARED(unsigned char, smem);
    struct part_of *kept =
        reinterpret_cast<struct part_of *>(smem + split_smem(split<HD, F>::ROW)) - 1;

    split_padding(a);
    if (threadIdx.x == 0)
        split_first(a, kept);
    block_sync();
    while (kept->rows) {
        split_part<HD, F>(a, *kept, smem, kept);
        if (threadIdx.x == 0)
            split_next(a, kept);
        block_sync();
    }
}

template <int HD, enum fmt F>
static cudaError_t split_launch(struct gpu *g, const struct attend_args *a, uint32_t n_block)
{
    return LAUNCH((attend_split_kernel<HD, F>), n_block, ATTEND_THREADS,
                  split_smem(split<HD, F>::ROW), g->stream, *a);
}

template <int HD>
static cudaError_t split_of(struct gpu *g, const struct attend_args *a, enum fmt f,
                            uint32_t n_block)
{
    switch (f) {
    case FMT_F16: return split_launch<HD, FMT_F16>(g, a, n_block);
    case FMT_INT8: return split_launch<HD, FMT_INT8>(g, a, n_block);
    default: return split_launch<HD, FMT_FP8>(g, a, n_block);
    }
}

cudaError_t attend_split(struct gpu *g, const struct attend_args *a, enum fmt f, uint32_t n_block)
{
    switch (a->kv.hd) {
    case 32: return split_of<32>(g, a, f, n_block);
    case 64: return split_of<64>(g, a, f, n_block);
    default: return split_of<128>(g, a, f, n_block);
    }
}

template <int HD, enum fmt F> static void split_allow(cudaError_t *rc)
{
    if (*rc == cudaSuccess)
        *rc = kernel_smem(attend_split_kernel<HD, F>, split_smem(split<HD, F>::ROW));
}
template <int HD> static void split_allow_all(cudaError_t *rc)
{
    split_allow<HD, FMT_F16>(rc);
    split_allow<HD, FMT_INT8>(rc);
    split_allow<HD, FMT_FP8>(rc);
}

cudaError_t attend_split_open()
{
    cudaError_t rc = cudaSuccess;

    split_allow_all<32>(&rc);
    split_allow_all<64>(&rc);
    split_allow_all<128>(&rc);
    return rc;
}
