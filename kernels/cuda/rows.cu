/* rows.cu - row operations: RMSNorm with the residual sum, SwiGLU, gather, greedy pick; and the unfused pairs.
 *
 * All are bound by memory, so each moves 16 bytes a thread, reads and writes each tensor once, and keeps a norm's
 * row in registers between its two passes. The pick splits a row over several blocks and lets the last arriver
 * reduce, because 32 rows of 128k logits are too few blocks otherwise (kernels.md 2.5).
 *
 * What must stay true: the bits of a row depend on the row and its width only, never on how many rows there are.
 * A norm's sum is per-thread chains, then fixed trees, both given by the width; picks compare, which has no order. */
#include "kernels/cuda/rows.h"

namespace {

enum : uint32_t {
    LANES = 32,
    WIDE = 8,                              /* halves that one 16-byte access moves */
    ELEMENT_THREADS = 256, PICK_THREADS = 256,
    PICK_PARTS = 32,                       /* most parts of a row: one a lane in the last arriver */
    PICK_LEAST = 4096,                     /* elements that a part should have */
    GRID_Y = 32768                         /* rows of one launch: below the grid's limit in y */
};

struct wide { __half2 h[WIDE / 2]; };      /* 16 bytes */

PRIM wide load(const __half *p)
{
    uint4 u = ld_global_16(p);
    wide w;

    w.h[0] = bits_h2(u.x), w.h[1] = bits_h2(u.y), w.h[2] = bits_h2(u.z), w.h[3] = bits_h2(u.w);
    return w;
}

PRIM void store(__half *p, const wide &w)
{
    st_16(p, make_uint4(h2_bits(w.h[0]), h2_bits(w.h[1]), h2_bits(w.h[2]), h2_bits(w.h[3])));
}

PRIM __half2 add_rounded(__half2 a, __half2 b)
{
    float2 x = h2_floats(a), y = h2_floats(b);

    return h2_pack(x.x + y.x, x.y + y.y);
}

PRIM float silu(float x) { return x / (1.0f + expf(-x)); }

PRIM __half2 silu2(__half2 gate)
{
    float2 g = h2_floats(gate);

    return h2_pack(silu(g.x), silu(g.y));
}

PRIM __half2 mul_rounded(__half2 a, __half2 b)
{
    float2 x = h2_floats(a), y = h2_floats(b);

    return h2_pack(x.x * y.x, x.y * y.y);
}

/* Sum over the block, in every thread, in an order that depends on the block's size only. part [warps]. */
PRIM float block_sum(float v, float *part)
{
    uint32_t n_warp = blockDim.x / LANES;
    float sum = 0;

    v = warp_sum(v);
    if (lane_id() == 0)
        part[threadIdx.x / LANES] = v;
    block_sync();
    for (uint32_t w = 0; w < n_warp; w++)
        sum += part[w];
    return sum;
}

/* One block a row; N: 16-byte pieces of the row that a thread holds. */
template <uint32_t N, bool ADD>
__global__ void __launch_bounds__(1024) norm_rows(__half *y, __half *x, const __half *delta, const __half *gain, uint32_t dim, float eps)
{
    DYN_SHARED(float, part);
    size_t row = (size_t)blockIdx.x * dim;
    float sum = 0;
    wide held[N];

#pragma unroll
    for (uint32_t i = 0; i < N; i++) {
        uint32_t at = (i * blockDim.x + threadIdx.x) * WIDE;

        if (at >= dim)
            continue;
        held[i] = load(x + row + at);
        if (ADD) {
            wide d = load(delta + row + at);

#pragma unroll
            for (uint32_t j = 0; j < WIDE / 2; j++)
                held[i].h[j] = add_rounded(held[i].h[j], d.h[j]);
            store(x + row + at, held[i]);
        }
#pragma unroll
        for (uint32_t j = 0; j < WIDE / 2; j++) {
            float2 v = h2_floats(held[i].h[j]);

            sum = fmaf(v.x, v.x, sum);         /* said, not left to the compiler: fused and not, the same */
            sum = fmaf(v.y, v.y, sum);
        }
    }
    float inv = 1.0f / sqrtf(block_sum(sum, part) / (float)dim + eps);

#pragma unroll
    for (uint32_t i = 0; i < N; i++) {
        uint32_t at = (i * blockDim.x + threadIdx.x) * WIDE;

        if (at >= dim)
            continue;
        wide s = load(gain + at);

#pragma unroll
        for (uint32_t j = 0; j < WIDE / 2; j++) {
            float2 v = h2_floats(held[i].h[j]), k = h2_floats(s.h[j]);

            held[i].h[j] = h2_pack(v.x * inv * k.x, v.y * inv * k.y);
        }
        store(y + row + at, held[i]);
    }
}

__global__ void add_elements(__half *x, const __half *delta, size_t n)
{
    size_t at = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * WIDE;

    if (at >= n)
        return;
    wide a = load(x + at), b = load(delta + at);

#pragma unroll
    for (uint32_t j = 0; j < WIDE / 2; j++)
        a.h[j] = add_rounded(a.h[j], b.h[j]);
    store(x + at, a);
}

enum part { PART_BOTH, PART_SILU, PART_MUL };

/* Grid: x over pieces of a row, y over rows. */
template <part PART>
__global__ void swiglu_rows(__half *y, const __half *gate_up, uint32_t f)
{
    uint32_t at = (blockIdx.x * blockDim.x + threadIdx.x) * WIDE;
    const __half *gate = gate_up + (size_t)blockIdx.y * 2 * f + at;
    __half *out = y + (size_t)blockIdx.y * f + at;

    if (at >= f)
        return;
    wide v = load(PART == PART_MUL ? out : gate);

    if (PART != PART_MUL) {
#pragma unroll
        for (uint32_t j = 0; j < WIDE / 2; j++)
            v.h[j] = silu2(v.h[j]);
    }
    if (PART != PART_SILU) {
        wide u = load(gate + f);

#pragma unroll
        for (uint32_t j = 0; j < WIDE / 2; j++)
            v.h[j] = mul_rounded(v.h[j], u.h[j]);
    }
    store(out, v);
}

__global__ void gather_rows(__half *y, const __half *x, const uint32_t *row, uint32_t dim)
{
    uint32_t at = (blockIdx.x * blockDim.x + threadIdx.x) * WIDE;

    if (at < dim)
        st_16(y + (size_t)blockIdx.y * dim + at, ld_global_16(x + (size_t)row[blockIdx.y] * dim + at));
}

/* ---- pick ---- */

/* The best so far: the greatest value, of equals the first; at is PICK_BAD_ROW once one was not finite, and that
 * wins over all. at is never the start value's in the end, as every part holds at least one element. */
struct best { float value; uint32_t at; };

PRIM bool is_bad(const best &b) { return b.at == PICK_BAD_ROW; }

PRIM best better(const best &a, const best &b)
{
    bool first = is_bad(a) || (!is_bad(b) && (a.value > b.value || (a.value == b.value && a.at < b.at)));

    return first ? a : b;
}

PRIM best seen(const best &b, float v, uint32_t at)
{
    bool finite = v - v == 0;              /* false for NaN and both infinities */
    best now = { finite ? v : 0, finite ? at : PICK_BAD_ROW };

    return better(b, now);
}

PRIM best warp_best(best b)
{
#pragma unroll
    for (uint32_t m = LANES / 2; m; m >>= 1) {
        best other = { warp_xor(b.value, (int)m), warp_xor(b.at, (int)m) };

        b = better(b, other);
    }
    return b;
}

PRIM best nothing() { return { -INFINITY, PICK_BAD_ROW - 1 }; }

/* The best of a row's elements from..to-1, as far as this thread has read them. WHOLE: rows are 16-byte aligned. */
template <bool WHOLE>
PRIM best scan(const __half *x, uint32_t from, uint32_t to)
{
    constexpr uint32_t EACH = WHOLE ? (uint32_t)WIDE : 1u;
    best b = nothing();

    for (uint32_t i = from + threadIdx.x * EACH; i < to; i += blockDim.x * EACH) {
        if (WHOLE) {
            wide w = load(x + i);

#pragma unroll
            for (uint32_t j = 0; j < WIDE / 2; j++) {
                float2 v = h2_floats(w.h[j]);

                b = seen(b, v.x, i + 2 * j);
                b = seen(b, v.y, i + 2 * j + 1);
            }
        } else
            b = seen(b, __half2float(ld_global(x + i)), i);
    }
    return b;
}

/* Grid: x over parts of `len` elements of a row (at most 32), y over rows. parts [row][part]. */
template <bool WHOLE>
__global__ void pick_rows(uint32_t *tok, const __half *logits, best *parts, uint32_t *counter, uint32_t vocab,
                          uint32_t len)
{
    DYN_SHARED(best, held);                /* [warps] */
    uint32_t part = blockIdx.x, n_part = gridDim.x, row = blockIdx.y, n_warp = blockDim.x / LANES;
    uint32_t from = part * len, to = vocab - from < len ? vocab : from + len;
    best b = warp_best(scan<WHOLE>(logits + (size_t)row * vocab, from, to));

    if (lane_id() == 0)
        held[threadIdx.x / LANES] = b;
    block_sync();
    if (threadIdx.x < LANES) {
        b = warp_best(lane_id() < n_warp ? held[lane_id()] : nothing());
        if (lane_id() == 0)
            parts[(size_t)row * n_part + part] = b;
    }
    if (!last_arriver(counter + row, n_part))
        return;
    if (threadIdx.x < LANES) {
        b = warp_best(lane_id() < n_part ? parts[(size_t)row * n_part + lane_id()] : nothing());
        if (lane_id() == 0)
            tok[row] = b.at;
    }
}

uint32_t round_up(uint32_t n, uint32_t to) { return (n + to - 1) / to * to; }
uint32_t pieces(uint32_t dim, uint32_t threads) { return (dim / WIDE + threads - 1) / threads; }

/* How many blocks share a row, and how many elements (a multiple of WIDE) each takes. */
uint32_t pick_split(const struct gpu *g, uint32_t n_row, uint32_t vocab, uint32_t *len)
{
    uint32_t most = (vocab + PICK_LEAST - 1) / PICK_LEAST, n = (2 * (uint32_t)g->n_sm + n_row - 1) / n_row;

    n = n < most ? n : most;
    n = n < PICK_PARTS ? n : PICK_PARTS;
    *len = round_up((vocab + n - 1) / n, WIDE);
    return (vocab + *len - 1) / *len;
}

/* Threads of a norm's block: what makes one piece each, up to 256; more only where a row needs it. */
uint32_t norm_threads(uint32_t dim)
{
    uint32_t n = dim / WIDE;

    return n <= 256 ? round_up(n, LANES) : n <= 1024 ? 256 : n <= 2048 ? 512 : 1024;
}

template <bool ADD>
cudaError_t launch_norm(struct gpu *g, __half *y, __half *x, const __half *delta, const __half *gain, uint32_t n,
                        uint32_t dim, float eps)
{
    uint32_t t = norm_threads(dim), each = pieces(dim, t);
    size_t smem = t / LANES * sizeof(float);

    if (each <= 1)
        return LAUNCH((norm_rows<1, ADD>), n, t, smem, g->stream, y, x, delta, gain, dim, eps);
    if (each <= 2)
        return LAUNCH((norm_rows<2, ADD>), n, t, smem, g->stream, y, x, delta, gain, dim, eps);
    if (each <= 4)
        return LAUNCH((norm_rows<4, ADD>), n, t, smem, g->stream, y, x, delta, gain, dim, eps);
    if (each <= 8)
        return LAUNCH((norm_rows<8, ADD>), n, t, smem, g->stream, y, x, delta, gain, dim, eps);
    return cudaErrorInvalidValue;          /* rows beyond 65536 */
}

template <part PART>
void swiglu(struct gpu *g, __half *y, const __half *gate_up, uint32_t n, uint32_t f)
{
    for (uint32_t from = 0; from < n; from += GRID_Y) {
        dim3 grid(pieces(f, ELEMENT_THREADS), n - from < GRID_Y ? n - from : GRID_Y);

        gpu_check(g, LAUNCH(swiglu_rows<PART>, grid, ELEMENT_THREADS, 0, g->stream, y + (size_t)from * f,
                            gate_up + (size_t)from * 2 * f, f), "swiglu", n, f, 0);
    }
}

} // namespace

bool gpu_runs(struct gpu *g)
{
    return gpu_check(g, LAUNCH(add_elements, 1, LANES, 0, g->stream, NULL, NULL, 0), "first kernel", 0, 0, 0);
}

void gpu_norm(struct gpu *g, __half *y, __half *x, const __half *delta, const __half *gain, uint32_t n,
              uint32_t dim, float eps)
{
    cudaError_t rc = delta ? launch_norm<true>(g, y, x, delta, gain, n, dim, eps) :
                             launch_norm<false>(g, y, x, delta, gain, n, dim, eps);

    gpu_check(g, rc, "norm", n, dim, 0);
}

void gpu_add(struct gpu *g, __half *x, const __half *delta, uint32_t n, uint32_t dim)
{
    size_t all = (size_t)n * dim, each = (size_t)ELEMENT_THREADS * WIDE;

    gpu_check(g, LAUNCH(add_elements, (uint32_t)((all + each - 1) / each), ELEMENT_THREADS, 0, g->stream, x, delta,
                        all), "add", n, dim, 0);
}

void gpu_swiglu(struct gpu *g, __half *y, const __half *gate_up, uint32_t n, uint32_t f)
{
    swiglu<PART_BOTH>(g, y, gate_up, n, f);
}

void gpu_silu(struct gpu *g, __half *y, const __half *gate_up, uint32_t n, uint32_t f)
{
    swiglu<PART_SILU>(g, y, gate_up, n, f);
}

void gpu_mul_up(struct gpu *g, __half *y, const __half *gate_up, uint32_t n, uint32_t f)
{
    swiglu<PART_MUL>(g, y, gate_up, n, f);
}

void gpu_gather(struct gpu *g, __half *y, const __half *x, const uint32_t *row, uint32_t n_row, uint32_t dim)
{
    for (uint32_t from = 0; from < n_row; from += GRID_Y) {
        dim3 grid(pieces(dim, ELEMENT_THREADS), n_row - from < GRID_Y ? n_row - from : GRID_Y);

        gpu_check(g, LAUNCH(gather_rows, grid, ELEMENT_THREADS, 0, g->stream, y + (size_t)from * dim, x,
                            row + from, dim), "gather", n_row, dim, 0);
    }
}

size_t gpu_pick_scratch(const struct gpu *g, uint32_t n_row, uint32_t vocab)
{
    uint32_t len, rows = n_row < GRID_Y ? n_row : GRID_Y;

    return n_row ? (size_t)pick_split(g, rows, vocab, &len) * rows * sizeof(best) : 0;
}

void gpu_pick(struct gpu *g, uint32_t *tok, const __half *logits, uint32_t n_row, uint32_t vocab)
{
    size_t smem = PICK_THREADS / LANES * sizeof(best);
    uint32_t len, n = pick_split(g, n_row < GRID_Y ? n_row : GRID_Y, vocab, &len);
    best *parts = static_cast<best *>(g->scratch);

    for (uint32_t from = 0; from < n_row; from += GRID_Y) {
        dim3 grid(n, n_row - from < GRID_Y ? n_row - from : GRID_Y);
        const __half *x = logits + (size_t)from * vocab;
        cudaError_t rc = vocab % WIDE ?
            LAUNCH(pick_rows<false>, grid, PICK_THREADS, smem, g->stream, tok + from, x, parts, g->counter, vocab, len) :
            LAUNCH(pick_rows<true>, grid, PICK_THREADS, smem, g->stream, tok + from, x, parts, g->counter, vocab, len);

        gpu_check(g, rc, "pick", n_row, vocab, 0);
    }
}
