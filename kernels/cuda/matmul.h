/* matmul.h - weights on the GPU and products with them: what the cuda device calls.
 *
 * A matrix lies in device memory as w->data, one allocation, private to these files (layout: pack.h):
 *   f16, bf16      rows as they are, [n][k]
 *   int4, int4z    panels of 32 rows, [n/32][k/32] units of 32 x 32 nibbles
 *   int8, fp8      panels of 32 rows, [n/32][k/16] units of 32 x 16 bytes
 * and behind them the scales. A unit is 512 bytes, 16 of each lane of a warp: what a warp feeds to the
 * tensor cores with one load a lane.
 *
 * What must stay true: in exact mode (g->exec.exact) the order of operations for an element of y
 * depends on the matrix and the GPU alone, never on m or on the row's place. No function here
 * allocates or waits except gpu_weight_load, gpu_weight_free and gpu_matmul_open,
 * gpu_matmul_close. */
#ifndef KERNELS_CUDA_MATMUL_H
#define KERNELS_CUDA_MATMUL_H

#include "kernels/cuda/gpu.h"

/* Formats a matrix may have: all of format.h but f32. */
enum {
    GPU_WEIGHT_FMTS = FMT_BIT(FMT_F16) | FMT_BIT(FMT_BF16) | FMT_BIT(FMT_FP8) | FMT_BIT(FMT_INT8) |
                      FMT_BIT(FMT_INT4) | FMT_BIT(FMT_INT4Z)
};

/* Encodes the rows of src (kernels/format.h), packs them a few panels at a time on all cores and
 * copies them to the device. w->fmt, n and k are set; src is asked by this thread alone. Host
 * memory: 64 MB of floats and what they become, however large the matrix. -1: e says why. */
int gpu_weight_load(struct gpu *g, struct weight *w, struct row_source src, struct err *e);
void gpu_weight_free(struct gpu *g, struct weight *w);
/* Device bytes that w takes there, padding included; 0 when its format or size cannot be. */
size_t gpu_weight_bytes(const struct weight *w);

/* cuBLAS and its workspace; before any product. */
int gpu_matmul_open(struct gpu *g, struct err *e);
void gpu_matmul_close(struct gpu *g);
/* Bytes of g->scratch that gpu_matmul(w, m) needs at most, for every m <= max_m and both modes;
 * after open. Bounded (64 MB or so), since large products are cut. */
size_t gpu_matmul_scratch(const struct gpu *g, const struct weight *w, uint32_t max_m);

/* y = x W^T: y [m, n], x [m, k], sums in F32, y rounded once. x and y may not overlap. m 0:
 * nothing. */
void gpu_matmul(struct gpu *g, half *y, const half *x, const struct weight *w, uint32_t m);
/* x[i] = row tok[i] of w as half, i < n; tok in device memory. A token beyond the matrix gives a
 * row of NaN. */
void gpu_embed(struct gpu *g, half *x, const struct weight *w, const uint32_t *tok, uint32_t n);

#endif
