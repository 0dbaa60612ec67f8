/* kv.cu - what writes the KV pool: bias, norm, rotation and store of one step's rows; moving slots.
 *
 * Rope+store is one launch, a block for each token (more when tokens are few): sines once per
 * token, then 16 bytes of a head's lower half and the 16 that rotate with them for each thread. K
 * is rotated when it is stored, never when it is read (kernels.md 2.1: four times slower). Without
 * exec.fused the same stages run as kernels of their own; each stage rounds to half in both, so the
 * bits are the same. int8 and fp8: scale = greatest magnitude / 127 or 448, in half, as row_encode
 * (format.h) has it, bit for bit; a row that is not finite gets the scale NaN, so that it cannot
 * pass for a good one.
 *
 * Moving slots: one kernel for copies inside a pool and for swaps to pinned host memory, which a
 * GPU reads and writes over the bus like its own. A block of 16 tokens lies in n_layer * 2 *
 * n_head runs of some KB: too many calls for copy engines, one launch here; slots may be aligned
 * or not. */
#include "kernels/cuda/attend_tile.h"

#include <math.h>

enum { STAGE_BIAS = 1, STAGE_NORM = 2, STAGE_ROTATE = 4, STAGE_STORE = 8, STAGE_ALL = 15 };
constexpr uint32_t ROPE_THREADS = 128, HALF_MOST = 128 /* head_dim 256 */,
                   MOVES = 96 /* of one launch */;

struct rope_args {
    half *qkv;
    struct kv_layer kv;
    const uint32_t *pos, *slot;
    const half *bias, *q_gain, *k_gain;
    uint32_t n_q, half_, lanes;            /* lanes: threads of a head, a power of two */
    float eps;
    int fmt;
    uint64_t turn[HALF_MOST];              /* rotation per position in turns, 64-bit fixed point */
};

/* cos and sin of `phase`, a fixed-point fraction of a turn: quarter turns off, then Taylor
 * within pi / 4. */
PRIM float2 turn_cos_sin(uint64_t phase)
{
    uint32_t quarter = (uint32_t)((phase + (1ull << 61)) >> 62) & 3;
    float a = (float)(int64_t)(phase - ((uint64_t)quarter << 62)) *
              3.4061215800304e-19f; /* 2 pi / 2^64 */
    float x = a * a, c, s;

    c = fmaf(x, fmaf(x, fmaf(x, fmaf(x, 2.4801587e-5f, -1.3888889e-3f), 4.1666667e-2f), -0.5f),
             1.0f);
    s = fmaf(
            x,
            fmaf(x, fmaf(x, fmaf(x, 2.7557319e-6f, -1.9841270e-4f), 8.3333333e-3f), -1.6666667e-1f),
            1.0f) *
        a;
    if (quarter & 1) {
        float t = c;

        c = -s;
        s = t;
    }
    return quarter & 2 ? make_float2(-c, -s) : make_float2(c, s);
}

/* A thread's share of a head: 8 columns of the lower half and the 8 that rotate with them, at
 * half precision. */
struct share { float x[2][8]; };

PRIM float to_half(float x) { return __half2float(__float2half_rn(x)); }

PRIM void load_8(float (&x)[8], const half *from)
{
    uint4 v = ld_global_16(from);
    uint32_t word[4] = {v.x, v.y, v.z, v.w};

#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 f = h2_floats(bits_h2(word[i]));

        x[2 * i] = f.x;
        x[2 * i + 1] = f.y;
    }
}

PRIM void store_8(void *to, const float (&x)[8])
{
    st_16(to, {h2_pack_bits(x[0], x[1]), h2_pack_bits(x[2], x[3]), h2_pack_bits(x[4], x[5]),
               h2_pack_bits(x[6], x[7])});
}

PRIM void share_bias(struct share &v, const half *bias, uint32_t half_)
{
    float b[8];

#pragma unroll
    for (int h = 0; h < 2; h++) {
        load_8(b, bias + h * half_);
#pragma unroll
        for (int i = 0; i < 8; i++)
            v.x[h][i] = to_half(v.x[h][i] + b[i]);
    }
}

/* WARP. gain NULL: this thread's head is not normed, but its lanes take part in the sums. */
PRIM void share_norm(struct share &v, const half *gain, const struct rope_args &a)
{
    float sum = 0, b[8];

#pragma unroll
    for (int i = 0; i < 16; i++)
        sum = fmaf(v.x[i / 8][i % 8], v.x[i / 8][i % 8], sum);
    for (uint32_t m = a.lanes / 2; m; m /= 2)
        sum += warp_xor(sum, (int)m);
    if (!gain)
        return;
    float r = 1 / sqrtf(sum / (float)(2 * a.half_) + a.eps);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        load_8(b, gain + h * a.half_);
#pragma unroll
        for (int i = 0; i < 8; i++)
            v.x[h][i] = to_half(v.x[h][i] * r * b[i]);
    }
}

PRIM void share_rotate(struct share &v, const float2 *cs)
{
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float x = v.x[0][i], y = v.x[1][i], c = cs[i].x, s = cs[i].y;
        float xc = x * c, yc = y * c;

        v.x[0][i] = to_half(fmaf(-y, s, xc));
        v.x[1][i] = to_half(fmaf(x, s, yc));
    }
}

/* WARP. Greatest magnitude of the head; infinite when any value is not finite. */
PRIM float share_most(const struct share &v, uint32_t lanes)
{
    float most = 0;

#pragma unroll
    for (int i = 0; i < 16; i++) {
        float x = fabsf(v.x[i / 8][i % 8]);

        most = fmaxf(most, x <= 65504.0f ? x : INFINITY);
    }
    for (uint32_t m = lanes / 2; m; m /= 2)
        most = fmaxf(most, warp_xor(most, (int)m));
    return most;
}

PRIM uint32_t int8_of(float x, float s)
{
    float q = s > 0 ? rintf(x / s) : 0;

    return (uint32_t)(int)fminf(fmaxf(q, -127.0f), 127.0f) & 255;
}

PRIM void store_bytes(unsigned char *to, const float (&x)[8], float s, int fmt)
{
    uint32_t w[2] = {0, 0};

#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        uint32_t two = fmt == FMT_INT8 ? int8_of(x[i], s) | int8_of(x[i + 1], s) << 8
                       : s > 0         ? floats_to_fp8x2(x[i] / s, x[i + 1] / s)
                                       : 0;

        w[i / 4] |= two << (i % 4 * 8);
    }
    *reinterpret_cast<uint2 *>(to) = make_uint2(w[0], w[1]);
}

/* To the cache: K (which 0) or V (which 1) of `head`, at slot. WARP: most is reduced by all. */
PRIM void share_store(const struct share &v, const struct rope_args &a, uint32_t slot,
                      uint32_t which, uint32_t head, uint32_t at, bool active)
{
    float most = a.fmt == FMT_F16 ? 0 : share_most(v, a.lanes);

    if (!active)
        return;
    size_t row = kv_at(slot, which, head, a.kv.n_head, 1), hd = 2 * a.half_;
    if (a.fmt == FMT_F16) {
        half *to = reinterpret_cast<half *>(a.kv.data) + row * hd + at;

        store_8(to, v.x[0]);
        store_8(to + a.half_, v.x[1]);
        return;
    }
    float want = most / (a.fmt == FMT_INT8 ? 127.0f : 448.0f);
    half s = most <= 65504.0f ? __float2half_rn(want) : __ushort_as_half(0x7e00);
    unsigned char *to = a.kv.data + row * hd + at;

    store_bytes(to, v.x[0], __half2float(s), a.fmt);
    store_bytes(to + a.half_, v.x[1], __half2float(s), a.fmt);
    if (at == 0)
        a.kv.scale[row] = s;
}

/* The stages of one thread's share of one head. item: number of the share among the token's.
 * WARP. */
template <int STAGES>
PRIM void rope_share(const struct rope_args &a, uint32_t t, uint32_t slot, uint32_t item,
                     const float2 *cs)
{
    uint32_t head = item / a.lanes, at = item % a.lanes * 8, n_kv = a.kv.n_head, hd = 2 * a.half_;
    bool active = head < a.n_q + 2 * n_kv && at < a.half_, is_q = head < a.n_q,
         is_v = head >= a.n_q + n_kv;
    half *x =
        a.qkv + ((size_t)t * (a.n_q + 2 * n_kv) + (active ? head : 0)) * hd + (active ? at : 0);
    struct share v = {};

    if (active) {
        load_8(v.x[0], x);
        load_8(v.x[1], x + a.half_);
    }
    if ((STAGES & STAGE_BIAS) && a.bias && active)
        share_bias(v, a.bias + (size_t)head * hd + at, a.half_);
    if ((STAGES & STAGE_NORM) && a.q_gain)
        share_norm(v, !active || is_v ? NULL : (is_q ? a.q_gain : a.k_gain) + at, a);
    if ((STAGES & STAGE_ROTATE) && active && !is_v)
        share_rotate(v, cs + at);
    if (active && (STAGES == STAGE_ALL ? is_q : STAGES != STAGE_STORE)) {
        store_8(x, v.x[0]);
        store_8(x + a.half_, v.x[1]);
    }
    if (STAGES & STAGE_STORE)
        share_store(v, a, slot, is_v,
                    is_v   ? head - a.n_q - n_kv
                    : is_q ? 0
                           : head - a.n_q,
                    at, active && !is_q);
}

template <int STAGES>
__global__ void __launch_bounds__(ROPE_THREADS) rope_kernel(const struct rope_args a)
{
    DYN_SHARED(float2, cs);
    uint32_t t = blockIdx.x, slot = a.slot[t], n = (a.n_q + 2 * a.kv.n_head) * a.lanes;

    if (slot == GPU_NO_SLOT)
        return;
    if (STAGES & STAGE_ROTATE)
        for (uint32_t i = threadIdx.x; i < a.half_; i += ROPE_THREADS)
            cs[i] = turn_cos_sin(a.turn[i] * a.pos[t]);
    block_sync();
    for (uint32_t i = blockIdx.y * ROPE_THREADS; i < n; i += gridDim.y * ROPE_THREADS)
        rope_share<STAGES>(a, t, slot, i + threadIdx.x, cs);
}

template <int STAGES>
static cudaError_t rope_launch(struct gpu *g, const struct rope_args *a, uint32_t n_tok)
{
    uint32_t shares = (a->n_q + 2 * a->kv.n_head) * a->lanes,
             parts = (shares + ROPE_THREADS - 1) / ROPE_THREADS;

    if (n_tok >= 8 * (uint32_t)g->n_sm)
        parts = 1; /* tokens fill the GPU: sines once for each */
    return LAUNCH((rope_kernel<STAGES>), dim3(n_tok, parts), ROPE_THREADS,
                  a->half_ * sizeof(float2), g->stream, *a);
}

static struct rope_args rope_args_of(half *qkv, const struct kv_pool *kv, uint32_t layer,
                                     const struct gpu_batch *b, const struct rope *r)
{
    struct rope_args a = {};

    a.qkv = qkv;
    a.kv = kv_layer_of(kv, layer);
    a.pos = b->pos;
    a.slot = b->slot;
    a.bias = static_cast<const half *>(r->bias);
    a.q_gain = static_cast<const half *>(r->q_gain);
    a.k_gain = static_cast<const half *>(r->k_gain);
    a.n_q = r->n_q;
    a.half_ = r->half;
    a.eps = r->eps;
    a.fmt = kv->fmt;
    for (a.lanes = 1; a.lanes * 8 < r->half; a.lanes *= 2)
        ;
    for (uint32_t i = 0; i < r->half; i++) {
        double turns = r->freq[i] * 0.15915494309189533577;    /* 1 / (2 pi) */

        a.turn[i] = (uint64_t)((turns - floor(turns)) * 0x1p64);
    }
    return a;
}

void gpu_rope_store(struct gpu *g, half *qkv, const struct kv_pool *kv, uint32_t layer,
                    const struct gpu_batch *b, const struct rope *r)
{
    const char *what = "rope and store";
    cudaError_t rc =
        r->half && r->half <= HALF_MOST && r->half % 8 == 0 && 2 * r->half == kv->head_dim
            ? cudaSuccess
            : cudaErrorInvalidValue;

    if (!b->n_tok || !gpu_check(g, rc, what, b->n_tok, r->n_q, kv->head_dim))
        return;
    const struct rope_args a = rope_args_of(qkv, kv, layer, b, r);
    if (g->exec.fused) {
        gpu_check(g, rope_launch<STAGE_ALL>(g, &a, b->n_tok), what, b->n_tok, r->n_q, kv->head_dim);
        return;
    }
    if (a.bias)
        gpu_check(g, rope_launch<STAGE_BIAS>(g, &a, b->n_tok), "bias", b->n_tok, r->n_q,
                  kv->head_dim);
    if (a.q_gain)
        gpu_check(g, rope_launch<STAGE_NORM>(g, &a, b->n_tok), "head norm", b->n_tok, r->n_q,
                  kv->head_dim);
    gpu_check(g, rope_launch<STAGE_ROTATE>(g, &a, b->n_tok), "rope", b->n_tok, r->n_q,
              kv->head_dim);
    gpu_check(g, rope_launch<STAGE_STORE>(g, &a, b->n_tok), "KV store", b->n_tok, r->n_q,
              kv->head_dim);
}

/* One side of a move: where layer 0 lies, and how far apart layers do. */
struct move_side {
    unsigned char *data;
    half *scale;
    size_t layer_bytes, layer_rows;
};
struct move_args {
    struct move_side from, to;
    uint32_t n_head, row_bytes;
    uint32_t src[MOVES], dst[MOVES], n_tok[MOVES];
};

/* Block (x, layer, run): tokens 16 x .. 16 x + 15 of the run. */
__global__ void __launch_bounds__(ROPE_THREADS) kv_move_kernel(const struct move_args a)
{
    uint32_t run = blockIdx.z, layer = blockIdx.y, first = blockIdx.x * 16, n_tok = a.n_tok[run];
    uint32_t chunks = a.row_bytes / 16, n = n_tok - first < 16 ? n_tok - first : 16;

    if (first >= n_tok)
        return;
    for (uint32_t i = threadIdx.x; i < n * 2 * a.n_head * chunks; i += ROPE_THREADS) {
        uint32_t c = i % chunks, tok = i / chunks % n, head = i / chunks / n,
                 which = head / a.n_head;
        size_t src, dst;

        head -= which * a.n_head;
        src = kv_at(a.src[run] + first + tok, which, head, a.n_head, 1);
        dst = kv_at(a.dst[run] + first + tok, which, head, a.n_head, 1);
        st_16(a.to.data + layer * a.to.layer_bytes + dst * a.row_bytes + c * 16,
              ld_global_16(a.from.data + layer * a.from.layer_bytes + src * a.row_bytes + c * 16));
        if (c == 0 && a.from.scale)
            a.to.scale[layer * a.to.layer_rows + dst] =
                a.from.scale[layer * a.from.layer_rows + src];
    }
}

static struct move_side side_of(const struct kv_pool *kv)
{
    const struct kv_layer l = kv_layer_of(kv, 0);
    struct move_side s;

    s.data = l.data;
    s.scale = l.scale;
    s.layer_rows = (size_t)kv->n_slot * 2 * kv->n_head;
    s.layer_bytes = s.layer_rows * kv->head_dim * (kv->fmt == FMT_F16 ? 2 : 1);
    return s;
}

void gpu_kv_move(struct gpu *g, const struct kv_pool *from, const struct kv_pool *to,
                 const uint32_t *src, const uint32_t *dst, const uint32_t *n_tok, uint32_t n)
{
    for (uint32_t at = 0; at < n; at += MOVES) {
        uint32_t some = n - at < MOVES ? n - at : MOVES, most = 0;
        struct move_args a = {};

        a.from = side_of(from);
        a.to = side_of(to);
        a.n_head = from->n_head;
        a.row_bytes = from->head_dim * (from->fmt == FMT_F16 ? 2 : 1);
        for (uint32_t i = 0; i < some; i++) {
            a.src[i] = src[at + i];
            a.dst[i] = dst[at + i];
            a.n_tok[i] = n_tok[at + i];
            most = a.n_tok[i] > most ? a.n_tok[i] : most;
        }
        if (most)
            gpu_check(g,
                      LAUNCH(kv_move_kernel, dim3((most + 15) / 16, from->n_layer, some),
                             ROPE_THREADS, 0, g->stream, a),
                      "KV move", some, from->n_layer, most);
    }
}
