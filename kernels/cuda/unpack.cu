/* unpack.cu - rows of packed weights as halves: the embedding of tokens, and whole blocks of rows
 * for cuBLAS.
 *
 * Both give the half nearest to what row_decode gives, NaN scales included. */
#include "kernels/cuda/decode.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/matmul_own.h"

enum { UNPACK_THREADS = 256 };

struct unpack_args {
    half *out;
    struct packed w;
    const uint32_t *tok;           /* embed: rows wanted */
    uint32_t n_out, n, k, row0;    /* rows of out; shape of the matrix; first row */
    struct wfmt fmt;
};

PRIM float unpack_one(const struct unpack_args &a, uint32_t row, uint32_t col)
{
    if (a.fmt.fmt == FMT_BF16)
        return __bfloat162float(
            reinterpret_cast<const __nv_bfloat16 *>(a.w.body)[(size_t)row * a.k + col]);
    if (fmt_is_byte(a.fmt.fmt)) {
        unsigned char q = ld_global(a.w.body + pack_byte_at(row, col, a.k));
        float s = __half2float(ld_global(a.w.scale + row));

        return a.fmt.fmt == FMT_INT8 ? (float)((int)q - 128) * s : __low2float(fp8x2_to_h2(q)) * s;
    }
    struct pack_at at = pack_nibble_at(row, col, a.k);
    const half *scale = a.w.scale + pack_scale_at(a.fmt, row, col / a.fmt.group, a.k);
    int u = ld_global(a.w.body + at.byte) >> at.shift & 15;
    float s = __half2float(ld_global(scale));

    return a.fmt.fmt == FMT_INT4Z ? fmaf((float)u, s, __half2float(ld_global(scale + PANEL_ROWS)))
                                  : (float)(u - 8) * s;
}

/* 16 bytes a thread: columns 8 i .. 8 i + 7 of one row. */
__global__ void __launch_bounds__(UNPACK_THREADS) embed_rows(const struct unpack_args a)
{
    size_t i = (size_t)blockIdx.x * UNPACK_THREADS + threadIdx.x;
    uint32_t col = (uint32_t)(i % (a.k / 8)) * 8;
    size_t out = i / (a.k / 8);
    uint32_t h[4] = { 0x7e007e00u, 0x7e007e00u, 0x7e007e00u, 0x7e007e00u };

    if (out >= a.n_out)
        return;
    uint32_t row = ld_global(a.tok + out);
    if (row < a.n && a.fmt.fmt == FMT_F16) {
        st_16(a.out + out * a.k + col, ld_global_16(a.w.body + ((size_t)row * a.k + col) * 2));
        return;
    }
    for (uint32_t j = 0; row < a.n && j < 4; j++)
        h[j] = h2_pack_bits(unpack_one(a, row, col + 2 * j), unpack_one(a, row, col + 2 * j + 1));
    st_16(a.out + out * a.k + col, make_uint4(h[0], h[1], h[2], h[3]));
}

/* One warp 32 rows x 32 columns, as a unit's lanes hold them: v[t][h][o] are two columns of octet o
 * of row 16 t + 8 h + lane / 4. The four lanes of a row trade, after which each has eight columns:
 * its octet is its place among the four. */
PRIM void unpack_trade(uint32_t &lo, uint32_t &hi, int mask)
{
    bool upper = (lane_id() & (uint32_t)mask) != 0;
    uint32_t got = warp_xor(upper ? lo : hi, mask);

    if (upper)
        lo = got;
    else
        hi = got;
}

template <bool LEAST>
PRIM void unpack_nibbles(uint32_t (&v)[2][2][4], const struct unpack_args &a, uint32_t panel,
                         uint32_t col)
{
    uint4 w = ld_stream_16(a.w.body + ((size_t)panel * (a.k / 32) + col / 32) * UNIT_BYTES +
                           lane_id() * 16);
    const half *scale = a.w.scale + pack_scale_at(a.fmt, panel * PANEL_ROWS + lane_id() / 4,
                                                  col / a.fmt.group, a.k);

#pragma unroll
    for (int i = 0; i < 4; i++) {                        /* word: step i / 2, tile i % 2 */
        uint32_t r[4];

        decode_nibbles<LEAST>(r, i == 0 ? w.x : i == 1 ? w.y : i == 2 ? w.z : w.w);
#pragma unroll
        for (int j = 0; j < 4; j++) { /* register: half j % 2, octet j / 2 of the step */
            const half *s = scale + i % 2 * 2 + j % 2;
            __half2 q = bits_h2(r[j]), s2 = __half2half2(ld_global(s));

            q = LEAST ? h2_fma(q, s2, __half2half2(ld_global(s + PANEL_ROWS))) : h2_mul(q, s2);
            v[i % 2][j % 2][i / 2 * 2 + j / 2] = h2_bits(q);
        }
    }
}

template <bool FP8>
PRIM void unpack_bytes(uint32_t (&v)[2][2][4], const struct unpack_args &a, uint32_t panel,
                       uint32_t col)
{
    const unsigned char *body =
        a.w.body + ((size_t)panel * (a.k / 16) + col / 16) * UNIT_BYTES + lane_id() * 16;

#pragma unroll
    for (int u = 0; u < 2; u++) {
        uint4 w = ld_stream_16(body + u * UNIT_BYTES);

#pragma unroll
        for (int i = 0; i < 4; i++) { /* word: tile i / 2, octet i % 2 of the unit */
            uint32_t word = i == 0 ? w.x : i == 1 ? w.y : i == 2 ? w.z : w.w, r[2];

            if (FP8)
                decode_fp8(r[0], r[1], word);
            else
                decode_int8(r[0], r[1], word);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float s = __half2float(
                    ld_global(a.w.scale + panel * PANEL_ROWS + i / 2 * 16 + h * 8 + lane_id() / 4));
                float2 q = h2_floats(bits_h2(r[h]));

                s *= FP8 ? 256.0f : 1.0f;
                v[i / 2][h][u * 2 + i % 2] = h2_pack_bits(q.x * s, q.y * s);
            }
        }
    }
}

__global__ void __launch_bounds__(UNPACK_THREADS) unpack_rows(const struct unpack_args a)
{
    size_t i = ((size_t)blockIdx.x * UNPACK_THREADS + threadIdx.x) / 32;
    uint32_t panel = a.row0 / PANEL_ROWS + (uint32_t)(i / (a.k / 32)),
             col = (uint32_t)(i % (a.k / 32)) * 32;
    uint32_t v[2][2][4];

    if ((size_t)panel * PANEL_ROWS >= (size_t)a.row0 + a.n_out)
        return;                                          /* the whole warp */
    switch (a.fmt.fmt) {
    case FMT_INT4: unpack_nibbles<false>(v, a, panel, col); break;
    case FMT_INT4Z: unpack_nibbles<true>(v, a, panel, col); break;
    case FMT_INT8: unpack_bytes<false>(v, a, panel, col); break;
    default: unpack_bytes<true>(v, a, panel, col);
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        uint32_t(&r)[4] = v[j / 2][j % 2],
        row = panel * PANEL_ROWS + j * 8 + lane_id() / 4 - a.row0;

        unpack_trade(r[0], r[1], 1);
        unpack_trade(r[2], r[3], 1);
        unpack_trade(r[0], r[2], 2);
        unpack_trade(r[1], r[3], 2);
        if (row < a.n_out)
            st_16(a.out + (size_t)row * a.k + col + lane_id() % 4 * 8,
                  make_uint4(r[0], r[1], r[2], r[3]));
    }
}

static cudaError_t unpack_launch(void (*kernel)(const struct unpack_args),
                                 const struct unpack_args &a, size_t threads, cudaStream_t s)
{
    size_t blocks = threads / UNPACK_THREADS + (threads % UNPACK_THREADS != 0);

    if (blocks > INT32_MAX)
        return cudaErrorInvalidConfiguration;
    return LAUNCH(kernel, dim3((unsigned)blocks), dim3(UNPACK_THREADS), 0, s, a);
}

cudaError_t gpu_unpack(half *out, const struct weight *w, uint32_t row0, uint32_t n_row,
                       cudaStream_t s)
{
    struct unpack_args a = { out, packed_of(w), NULL, n_row, w->n, w->k, row0, w->fmt };

    return unpack_launch(unpack_rows, a, (size_t)pack_panels(n_row) * w->k, s);
}

void gpu_embed(struct gpu *g, half *x, const struct weight *w, const uint32_t *tok, uint32_t n)
{
    struct unpack_args a = { x, packed_of(w), tok, n, w->n, w->k, 0, w->fmt };

    if (n && !g->err.code)
        gpu_check(g, unpack_launch(embed_rows, a, (size_t)n * (w->k / 8), g->stream), "embed", n,
                  w->n, w->k);
}
