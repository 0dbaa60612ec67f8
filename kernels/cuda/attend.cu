/* attend.cu - attention as the device calls it, and the plain kernel for head sizes that the
 * tensor-core kernels do not take (16, 48, 80, 96, ...).
 *
 * The plain kernel is what it says: a warp for each row and query head, keys 32 at a time at
 * fixed absolute positions, softmax kept online, nothing shared between heads. It is exact in
 * the sense of exec.exact; nobody tuned it. */
#include "kernels/cuda/attend_tile.h"

/* Floats of shared memory of a warp: q, then 32 probabilities. */
constexpr uint32_t PLAIN_WARP = 256 + 32;

/* Element d of a row, its scale applied. */
PRIM float plain_element(const struct attend_args &a, enum fmt f, size_t row, uint32_t d)
{
    size_t at = row * a.kv.hd + d;

    if (f == FMT_F16)
        return __half2float(reinterpret_cast<const half *>(a.kv.data)[at]);
    float s = __half2float(a.kv.scale[row]);
    if (f == FMT_INT8)
        return s * (float)static_cast<signed char>(a.kv.data[at]);
    return s * h2_floats(fp8x2_to_h2(a.kv.data[at])).x;
}

/* Sequence that owns row t. */
PRIM uint32_t plain_seq(const struct gpu_batch &b, uint32_t t)
{
    uint32_t lo = 0, hi = b.n_seq;

    while (hi - lo > 1) {
        uint32_t mid = (lo + hi) / 2;

        if (b.seq_start[mid] <= t)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* One row over n keys. All lanes together; acc[i] is column lane + 32 i, not yet divided;
 * returns the sum. */
PRIM float plain_row(const struct attend_args &a, enum fmt f, uint32_t s, uint32_t head, uint32_t n,
                     float *q, float (&acc)[8])
{
    const uint32_t *table = a.b.table + a.b.table_start[s];
    float *p = q + 256, m = -INFINITY, l = 0;

    for (uint32_t k = 0; k < n; k += 32) {
        uint32_t key = k + lane_id();
        uint32_t row = key < n ? key_row(table, a.b.block_tokens[s], key, head, a.kv.n_head) : 0;
        float x = 0, old = m, fall;

        for (uint32_t d = 0; d < a.kv.hd && key < n; d++)
            x = fmaf(q[d], plain_element(a, f, row, d), x);
        x = key < n ? x * a.scale : -INFINITY;
        m = fmaxf(m, warp_max(x));
        x = fast_exp2(x - m);
        fall = fast_exp2(old - m);
        l = fmaf(l, fall, warp_sum(x));
        p[lane_id()] = x;
#pragma unroll
        for (int i = 0; i < 8; i++)
            acc[i] *= fall;
        for (uint32_t j = 0; j < 32; j++) {    /* key k + j: its row from the lane that has it */
            size_t v = (size_t)warp_idx(row, (int)j) + (size_t)a.kv.n_head * KV_TILE;

            if (j == 0)
                warp_sync();
#pragma unroll
            for (uint32_t i = 0, d = lane_id(); i < 8; i++, d += 32)
                if (d < a.kv.hd && k + j < n)
                    acc[i] = fmaf(p[j], plain_element(a, f, v, d), acc[i]);
        }
        warp_sync();
    }
    return l;
}

__global__ void __launch_bounds__(ATTEND_THREADS)
    attend_plain_kernel(const struct attend_args a, int f, bool prefill)
{
    DYN_SHARED(float, smem);
    float *q = smem + threadIdx.x / 32 * PLAIN_WARP, acc[8] = {}, l = 1;
    uint32_t i = blockIdx.x * (ATTEND_THREADS / 32) + threadIdx.x / 32, t = i / a.n_q,
             h = i % a.n_q, hd = a.kv.hd;

    if (t >= a.b.n_tok)
        return;
    uint32_t s = plain_seq(a.b, t), first = a.b.seq_start[s], rows = a.b.seq_start[s + 1] - first;
    if ((rows > 1) != prefill)
        return;
    for (uint32_t d = lane_id(); d < hd; d += 32)
        q[d] = __half2float(a.qkv[(size_t)t * (a.n_q + 2 * a.kv.n_head) * hd + (size_t)h * hd + d]);
    warp_sync();
    if (a.b.kv_len[s])
        l = plain_row(a, (enum fmt)f, s, h / a.group, a.b.kv_len[s] - rows + (t - first) + 1, q,
                      acc);
#pragma unroll
    for (uint32_t j = 0, d = lane_id(); j < 8; j++, d += 32)
        if (d < hd)
            a.y[((size_t)t * a.n_q + h) * hd + d] = __float2half_rn(acc[j] / l);
}

static cudaError_t attend_plain(struct gpu *g, const struct attend_args *a, enum fmt f,
                                bool prefill)
{
    size_t n = (size_t)a->b.n_tok * a->n_q;

    return LAUNCH(attend_plain_kernel, (uint32_t)((n + 3) / 4), ATTEND_THREADS,
                  4 * PLAIN_WARP * sizeof(float), g->stream, *a, (int)f, prefill);
}

int gpu_attend_open(struct gpu *g, struct err *e)
{
    cudaError_t rc = attend_split_open();

    if (rc == cudaSuccess)
        rc = attend_tiles_open();
    if (rc != cudaSuccess)
        return err_set(
            e, EXIT_RUN_FAILED,
            "cuda: attention needs more shared memory than a block may have here (%zu bytes): %s",
            g->smem_max, cudaGetErrorString(rc));
    return 0;
}

static struct attend_args attend_args_of(struct gpu *g, half *y, const half *qkv,
                                         const struct kv_pool *kv, uint32_t layer,
                                         const struct gpu_batch *b, const void *plan, uint32_t n_q)
{
    struct attend_args a;

    a.y = y;
    a.qkv = qkv;
    a.kv = kv_layer_of(kv, layer);
    a.b = *b;
    a.plan = static_cast<const struct attend_plan *>(plan);
    a.part = static_cast<float *>(g->scratch);
    a.counter = g->counter;
    a.n_q = n_q;
    a.group = n_q / kv->n_head;
    a.scale = 1.4426950408889634f / sqrtf((float)kv->head_dim);
    return a;
}

void gpu_attend(struct gpu *g, half *y, const half *qkv, const struct kv_pool *kv, uint32_t layer,
                const struct gpu_batch *b, const void *plan_host, const void *plan_device,
                uint32_t n_q, bool prefill)
{
    const struct attend_plan *p = static_cast<const struct attend_plan *>(plan_host);
    const struct attend_shape sh = {n_q, kv->n_head, kv->head_dim, kv->fmt};
    const struct attend_args a = attend_args_of(g, y, qkv, kv, layer, b, plan_device, n_q);
    const char *what = prefill ? "attend (prefill)" : "attend (decode)";
    cudaError_t rc = cudaSuccess;

    if ((uint64_t)kv->n_slot * 2 * kv->n_head >= UINT32_MAX)
        rc = cudaErrorInvalidValue;                        /* rows are numbered in 32 bits */
    if (!gpu_check(g, rc, "attention over so many slots", kv->n_slot, kv->n_head, kv->head_dim))
        return;
    if (prefill ? !(p->n_item[0] + p->n_item[1]) : !p->n_decode)
        return;
    if (!attend_fast(sh.hd)) {
        rc = attend_plain(g, &a, kv->fmt, prefill);
    } else if (!prefill && !g->exec.exact) {
        rc = attend_split(g, &a, kv->fmt, split_blocks(g, &sh));
    } else if (!prefill) {
        rc = attend_tiles(g, &a, kv->fmt, -1, p->n_seq * ((a.group + 63) / 64));
    } else {
        for (int i = 0; i < 2 && rc == cudaSuccess; i++)
            if (p->n_item[i])
                rc = attend_tiles(g, &a, kv->fmt, i, p->n_item[i]);
    }
    gpu_check(g, rc, what, b->n_tok, n_q, kv->head_dim);
}
