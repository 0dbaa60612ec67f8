/* format.h - number formats of weights: what they are, what they weigh, encode and decode.
 *
 * A weight matrix is W[n, k]: n output channels (rows), k inputs, row-major here. Devices may repack.
 *   f32         4 B a weight; reference only
 *   f16         IEEE half, round to nearest even
 *   int8        symmetric, one scale per row: w = q * s, q in -127..127                (W8)
 *   int4        symmetric, one scale per group of `group` inputs of a row:
 *               w = (u - 8) * s, u in 0..15 stored as nibbles                          (W4)
 * Scales are stored as f16. The last group of a row may be shorter than `group`; k is a multiple of 32.
 * Encoding is round-to-nearest: int8 s = max|w| / 127; int4 s = signed extreme / -8, as in ggml's Q4_0. */
#ifndef KERNELS_FORMAT_H
#define KERNELS_FORMAT_H

#include <stddef.h>
#include <stdint.h>

enum fmt { FMT_F32, FMT_F16, FMT_INT8, FMT_INT4, FMT_N };

struct wfmt {
    enum fmt fmt;
    uint32_t group;        /* int4: 32, 64 or 128 inputs share a scale; otherwise 0 */
};

/* What a weight matrix is for; a precision strategy picks a format per role and layer. */
enum role { ROLE_QKV, ROLE_O, ROLE_GATE_UP, ROLE_DOWN, ROLE_HEAD, ROLE_EMBED, ROLE_N };
extern const char *const role_name[ROLE_N];

const char *fmt_name(enum fmt f);                     /* "f16" */
size_t wfmt_name(struct wfmt f, char *out, size_t n); /* "int4 g64" */
/* Exact bytes of an encoded matrix, scales included; 0 when it overflows or k is no multiple of 32. */
uint64_t wfmt_bytes(struct wfmt f, uint32_t n, uint32_t k);
uint64_t wfmt_scale_bytes(struct wfmt f, uint32_t n, uint32_t k);

uint16_t f16_from_f32(float x);
float f32_from_f16(uint16_t h);

/* One row of k floats to and from its canonical encoding.
 *   q:     k floats (f32), k halves (f16), k int8 (int8), k/2 bytes (int4: low nibble is even k)
 *   scale: unused, unused, 1, ceil(k / group) halves */
void row_encode(struct wfmt f, const float *row, uint32_t k, void *q, uint16_t *scale);
void row_decode(struct wfmt f, const void *q, const uint16_t *scale, uint32_t k, float *row);

#endif
