/* rows.h - the small row operations of the CUDA device; see rows.cu. All pointers are device memory, activations are
 * half. Widths are multiples of 8 (gpu_pick: any), rows 16-byte aligned. Each launcher enqueues on g->stream.
 *
 * Every pair of fused and unfused kernels gives the same bits: where the unfused pair writes a half to memory, the
 * fused kernel rounds to half as well. */
#ifndef KERNELS_CUDA_ROWS_H
#define KERNELS_CUDA_ROWS_H

#include "kernels/cuda/gpu.h"

/* Launches a kernel that does nothing: false when the plug-in has no code for this GPU. */
bool gpu_runs(struct gpu *g);

/* x += delta if delta, then y = x / rms(x) * gain; y may be delta. x, y, delta [n, dim], gain [dim]. */
void gpu_norm(struct gpu *g, __half *y, __half *x, const __half *delta, const __half *gain, uint32_t n,
              uint32_t dim, float eps);
void gpu_add(struct gpu *g, __half *x, const __half *delta, uint32_t n, uint32_t dim);

/* y [n, f] = silu(gate) * up of gate_up [n, gate f, up f]; silu(gate) is rounded to half, as when it stands alone. */
void gpu_swiglu(struct gpu *g, __half *y, const __half *gate_up, uint32_t n, uint32_t f);
void gpu_silu(struct gpu *g, __half *y, const __half *gate_up, uint32_t n, uint32_t f);
void gpu_mul_up(struct gpu *g, __half *y, const __half *gate_up, uint32_t n, uint32_t f);   /* y *= up */

void gpu_gather(struct gpu *g, __half *y, const __half *x, const uint32_t *row, uint32_t n_row, uint32_t dim);

/* tok[i] = first index of the largest of logits [n_row, vocab], PICK_BAD_ROW where a row has NaN or Inf. */
size_t gpu_pick_scratch(const struct gpu *g, uint32_t n_row, uint32_t vocab);
void gpu_pick(struct gpu *g, uint32_t *tok, const __half *logits, uint32_t n_row, uint32_t vocab);

#endif
