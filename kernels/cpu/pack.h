/* pack.h - packed weights: one layout per format that serves both GEMV and GEMM.
 *
 * W[n, k] becomes ceil(n / 32) panels of 32 output columns, inputs running slowest inside a panel,
 * so that a thread reads one straight stream. Columns past n hold zeros.
 *   f32   [k][32] floats
 *   f16   [k][32] halves
 *   bf16  [k/2][32] pairs, input k in the high half of 32 bits, k + 1 in the low one; bf16-a16 as well, with
 *         weights below 2^-50 as zeros (tile_dp.h says why)
 *   fp8   [32] half scales, then [k][32] codes
 *   int8  [32] half scales, then [k/4][32][4] bytes q + 128
 *   int4  per group of inputs: [32] half scales, then [group/8][2][16][4] bytes; the byte (s, c, j)
 *         of an octet of inputs k..k+7 holds input k+j in its low and k+4+j in its high nibble,
 *         column s*16 + c. A row that is one group is packed as groups of ACT_GROUP with equal scales:
 *         activations have a scale for each group, and one for a whole row would be too coarse
 *   int4z per group: [32] half scales, [32] half least values, then as int4
 * -a32 formats lie as the formats they store. */
#ifndef KERNELS_CPU_PACK_H
#define KERNELS_CPU_PACK_H

#include "kernels/cpu/cpu.h"

size_t panel_bytes(struct wfmt f, uint32_t k);
/* int8, int4, int4z: inputs that share an activation scale, and scales in the panel where it has groups. */
uint32_t pack_group(struct wfmt f);
int  pack_weight(struct cpu *c, struct weight *w, struct row_source src, struct err *e);
/* Row `row` of the matrix as k floats, out of its panel. */
void unpack_row(const struct weight *w, uint32_t row, float *out);
/* Panel `panel` of an integer format as floats [k][32]: each weight as row_decode gives it. */
void unpack_panel(const struct weight *w, uint32_t panel, float *out);

static inline const uint8_t *panel_at(const struct weight *w, uint32_t panel)
{
    return (const uint8_t *)w->data + panel * panel_bytes(w->fmt, w->k);
}

#endif
