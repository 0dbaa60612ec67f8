/* format.h - number formats of weights: what they are, what they weigh, encode and decode.
 *
 * A weight matrix is W[n, k]: n output channels (rows), k inputs, row-major here. Devices may repack.
 *   f32         4 B a weight; reference only
 *   f16, bf16   round to nearest even
 *   fp8         E4M3 (Micikevicius et al. 2022), one scale per row: w = q * s, |q| <= 448
 *   int8        symmetric, one scale per row: w = q * s, q in -127..127                (W8)
 *   int4        symmetric, one scale per group of `group` inputs of a row:
 *               w = (u - 8) * s, u in 0..15 stored as nibbles                          (W4)
 *   int4z       asymmetric: one scale and one least value per group: w = u * s + m, as in ggml's Q4_1
 * A suffix names what weights are multiplied by; without it that is the device's own choice (cpu:
 * int8 activations per group for int8, int4, int4z, F32 for the others). A device that cannot do it
 * refuses.
 *   bf16-a16    activations rounded to bf16
 *   int8-a32, int4-a32, int4z-a32   weights decoded, F32 activations: what the format itself costs
 * Scales and least values are stored as f16. The last group of a row may be shorter than `group`; k is a
 * multiple of 32. Encoding is round-to-nearest: int8 s = max|w| / 127; fp8 s = max|w| / 448; int4 s = signed
 * extreme / -8, as in ggml's Q4_0; int4z s = (max - min) / 15, m = min.
 *
 * Cached K and V are f16, or int8 or fp8 with one f16 scale per token and head (of K and of V), encoded as
 * a row of head_dim values is. */
#ifndef KERNELS_FORMAT_H
#define KERNELS_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum fmt {
    FMT_F32, FMT_F16, FMT_BF16, FMT_FP8, FMT_INT8, FMT_INT4, FMT_INT4Z,
    FMT_BF16_A16, FMT_INT8_A32, FMT_INT4_A32, FMT_INT4Z_A32, FMT_N
};
#define FMT_BIT(f) (1u << (f))         /* sets of formats, for what a device can do */
enum fmt fmt_stored(enum fmt f);       /* the format without its suffix: how it lies in memory */
/* int8, int4 and int4z without a suffix: cpu multiplies them as integers, by int8 activations. */
static inline int fmt_takes_a8(enum fmt f) { return f == FMT_INT8 || f == FMT_INT4 || f == FMT_INT4Z; }

#define GROUP_ROW UINT32_MAX           /* the whole row is one group (per-channel int4) */
struct wfmt {
    enum fmt fmt;
    uint32_t group;        /* int4, int4z: 32, 64 or 128 inputs share a scale, or GROUP_ROW; otherwise 0 */
};

/* What a weight matrix is for; a precision strategy picks a format per role and layer. */
enum role { ROLE_QKV, ROLE_O, ROLE_GATE_UP, ROLE_DOWN, ROLE_HEAD, ROLE_EMBED, ROLE_N };
extern const char *const role_name[ROLE_N];

const char *fmt_name(enum fmt f);                     /* "f16" */
size_t wfmt_name(struct wfmt f, char *out, size_t n); /* "int4 g64", "int4 row" */
/* Exact bytes of an encoded matrix, scales included; 0 when it overflows or k is no multiple of 32. */
uint64_t wfmt_bytes(struct wfmt f, uint32_t n, uint32_t k);
uint64_t wfmt_scale_bytes(struct wfmt f, uint32_t n, uint32_t k);

uint16_t f16_from_f32(float x);
float f32_from_f16(uint16_t h);
uint16_t bf16_from_f32(float x);                      /* NaN stays NaN */
float f32_from_bf16(uint16_t h);
uint8_t fp8_from_f32(float x);                        /* E4M3, nearest even; beyond 448 becomes 448, NaN stays */
float f32_from_fp8(uint8_t q);

/* One row of k floats to and from its canonical encoding.
 *   q:     k floats (f32), k halves (f16, bf16), k bytes (fp8, int8), k/2 bytes (int4, int4z: low nibble is
 *          even k)
 *   scale: unused (f32, f16, bf16), 1 half (fp8, int8), ceil(k / group) halves (int4), twice as many (int4z: s
 *          and m of each group, side by side) */
void row_encode(struct wfmt f, const float *row, uint32_t k, void *q, uint16_t *scale);
void row_decode(struct wfmt f, const void *q, const uint16_t *scale, uint32_t k, float *row);

/* Bytes of K or V of one token and one head in the cache: f16, or int8 and fp8 with their scale. 0: no such. */
uint32_t kv_row_bytes(enum fmt f, uint32_t head_dim);

#ifdef __cplusplus
}
#endif

#endif
