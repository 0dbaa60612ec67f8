/* pack.h - packed weights: one layout per format that serves both GEMV and GEMM.
 *
 * W[n, k] becomes ceil(n / 32) panels of 32 output columns, inputs running slowest inside a panel,
 * so that a thread reads one straight stream. Columns past n hold zeros.
 *   f32   [k][32] floats
 *   f16   [k][32] halves
 *   int8  [32] half scales, then [k/4][32][4] bytes q + 128
 *   int4  per group of inputs: [32] half scales, then [group/8][2][16][4] bytes; the byte (s, c, j)
 *         of an octet of inputs k..k+7 holds input k+j in its low and k+4+j in its high nibble,
 *         column s*16 + c */
#ifndef KERNELS_CPU_PACK_H
#define KERNELS_CPU_PACK_H

#include "kernels/cpu/cpu.h"

size_t panel_bytes(struct wfmt f, uint32_t k);
int  pack_weight(struct cpu *c, struct weight *w, struct row_source src, struct err *e);
/* Row `row` of the matrix as k floats, out of its panel. */
void unpack_row(const struct weight *w, uint32_t row, float *out);

static inline const uint8_t *panel_at(const struct weight *w, uint32_t panel)
{
    return (const uint8_t *)w->data + panel * panel_bytes(w->fmt, w->k);
}

#endif
