/* pack.h - how a weight matrix lies in device memory: the layout that weight.cu writes and the
 * kernels read.
 *
 * Rows of W (output channels) are the rows of the tensor core's A operand: a lane's 8 values of a
 * 16 x 16 tile lie in one place, in the order in which they are decoded, so that a warp reads a
 * 512-byte unit with one 16-byte load a lane and no shuffle. The idea is Marlin's (Frantar et al.
 * 2024, "Marlin: mixed-precision auto-regressive parallel inference"); here weights are A and
 * tokens B, so that 8 tokens need half the tensor work.
 *
 * A panel is 32 rows (rows past n are zero). Within it units follow each other along k: CTAs stream
 * whole runs. Row c of a panel: tile t = c / 16, half h = c / 8 % 2, r = c % 8. Column j of 16:
 * hi = j / 8, q = j % 8 / 2, odd = j % 2. Lane 4 r + q holds it (the PTX fragment), in its 16 bytes
 *   nibbles, unit 32 x 32 (two steps s of 16): word 2 s + t, nibble 2 h + hi + 4 odd; masks 0x000f000f
 *            and 0x00f000f0 and a shift by 8 give the four registers of A
 *   bytes, unit 32 x 16: word 2 t + hi, byte h + 2 odd; mask 0x00ff00ff and a shift by 8 give two
 * int8 is stored + 128. Scales lie behind the body (256-byte aligned), f16:
 *   nibbles: [panel][group] blocks of 32 at place 4 r + 2 t + h, a lane's four side by side;
 *            int4z: 32 scales, then 32 least values
 *   bytes: [row], padded to whole panels */
#ifndef KERNELS_CUDA_PACK_H
#define KERNELS_CUDA_PACK_H

#include "base/num.h"
#include "kernels/cuda/gpu.h"

enum { PANEL_ROWS = 32, UNIT_BYTES = 512 };

__host__ __device__ inline bool fmt_is_nibble(enum fmt f)
{
    return f == FMT_INT4 || f == FMT_INT4Z;
}
__host__ __device__ inline bool fmt_is_byte(enum fmt f) { return f == FMT_INT8 || f == FMT_FP8; }

__host__ __device__ inline uint32_t pack_panels(uint32_t n)
{
    return n / PANEL_ROWS + (n % PANEL_ROWS != 0);
}
__host__ __device__ inline uint32_t pack_groups(struct wfmt f, uint32_t k)
{
    return k / f.group + (k % f.group != 0);
}
/* Bytes of the scales of one panel. */
__host__ __device__ inline size_t pack_panel_scales(struct wfmt f, uint32_t k)
{
    if (fmt_is_nibble(f.fmt))
        return (size_t)pack_groups(f, k) * PANEL_ROWS * (f.fmt == FMT_INT4Z ? 4 : 2);
    return fmt_is_byte(f.fmt) ? PANEL_ROWS * 2 : 0;
}
/* Bytes of the weights of one panel. */
__host__ __device__ inline size_t pack_panel_body(struct wfmt f, uint32_t k)
{
    size_t per_k = fmt_is_nibble(f.fmt) ? PANEL_ROWS / 2
                   : fmt_is_byte(f.fmt) ? PANEL_ROWS
                                        : 2 * PANEL_ROWS;

    return per_k * k;
}
/* Where the scales start. f16 and bf16 keep exactly n rows. */
__host__ __device__ inline size_t pack_body_bytes(struct wfmt f, uint32_t n, uint32_t k)
{
    if (!fmt_is_nibble(f.fmt) && !fmt_is_byte(f.fmt))
        return (size_t)n * k * 2;
    return (pack_panels(n) * pack_panel_body(f, k) + 255) / 256 * 256;
}

/* Where element (row, column) of a packed matrix lies: byte offset in the body, and in a byte of
 * nibbles its shift. */
struct pack_at { size_t byte; uint32_t shift; };
__host__ __device__ inline struct pack_at pack_nibble_at(uint32_t row, uint32_t col, uint32_t k)
{
    uint32_t c = row % PANEL_ROWS, t = c / 16, h = c / 8 % 2, j = col % 32, s = j / 16,
             hi = j / 8 % 2;
    size_t unit = (size_t)(row / PANEL_ROWS) * (k / 32) + col / 32;

    return { unit * UNIT_BYTES + (c % 8 * 4 + j % 8 / 2) * 16 + (2 * s + t) * 4 + h + 2 * (j % 2),
             4 * hi };
}
__host__ __device__ inline size_t pack_byte_at(uint32_t row, uint32_t col, uint32_t k)
{
    uint32_t c = row % PANEL_ROWS, t = c / 16, h = c / 8 % 2, j = col % 16;
    size_t unit = (size_t)(row / PANEL_ROWS) * (k / 16) + col / 16;

    return unit * UNIT_BYTES + (c % 8 * 4 + j % 8 / 2) * 16 + (2 * t + j / 8) * 4 + h + 2 * (j % 2);
}
/* Offset in halves of the scale of (row, group); the least value of int4z is PANEL_ROWS further. */
__host__ __device__ inline size_t pack_scale_at(struct wfmt f, uint32_t row, uint32_t group,
                                                uint32_t k)
{
    uint32_t c = row % PANEL_ROWS;
    size_t block = (size_t)(row / PANEL_ROWS) * pack_groups(f, k) + group;

    return block * PANEL_ROWS * (f.fmt == FMT_INT4Z ? 2 : 1) + c % 8 * 4 + c / 16 * 2 + c / 8 % 2;
}

/* The two parts of a loaded matrix. */
struct packed { const unsigned char *body; const half *scale; };
inline struct packed packed_of(const struct weight *w)
{
    const unsigned char *p = static_cast<const unsigned char *>(w->data);

    return { p, reinterpret_cast<const half *>(p + pack_body_bytes(w->fmt, w->n, w->k)) };
}

#endif
