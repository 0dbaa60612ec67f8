/* gpu.h - what the files of the CUDA device share.
 *
 * C++17, compiled by nvcc, or by the host compiler with tests/emu in place of the GPU: the same
 * sources. Everything that only a GPU can do stands behind a name in prims.h. A kernel's launcher is a
 * plain function that enqueues on g->stream, allocates nothing and waits for nothing, so that a step can
 * be recorded as a graph; it reports nothing but through gpu_check, whose first error stays.
 *
 * Activations are half, row-major, rows 16-byte aligned (every width is a multiple of 16; gpu_pick alone takes
 * any).
 *
 * Files: plugin.cu (opening, time, the table of operations), memory.cu, step.cu (operations come in, begin
 * and end), call.cu (what one launches), stage.cu (a batch and its plan to the device), graph.cu (recorded
 * steps), rows.cu, and behind matmul.h and attend.h products and attention. */
#ifndef KERNELS_CUDA_GPU_H
#define KERNELS_CUDA_GPU_H

#include "kernels/cuda/prims.h"
#include "kernels/device.h"

struct gpu {
    cudaStream_t stream;
    int cc;                        /* compute capability: 80, 86, 89, 90, ... */
    int n_sm;
    size_t smem_max;               /* shared memory that a block may ask for (opt-in) */
    struct exec exec;
    /* Scratch of one operation: partial sums of split work. Large enough for what the launchers'
     * *_scratch functions named; grown only before an operation or a recording starts. */
    void *scratch;
    size_t scratch_bytes;
    /* Arrival counters of split work [n_counter], zero between kernels: who arrives last puts its back to 0. */
    uint32_t *counter;
    uint32_t n_counter;
    struct err err;                /* sticky: the first failure, with operation, shapes and step */
    uint64_t step;                 /* steps begun since open, for messages */
    struct gpu_host *host;         /* private to the files that include step.h */
    void *matmul;                  /* private to matmul (cuBLAS handles) */
};
enum { GPU_COUNTERS = 1 << 16 };

/* Records the first failure as "cuda: OPERATION (m x n x k) in step S: TEXT"; sizes that are 0 are left
 * out. True when rc is success. */
bool gpu_check(struct gpu *g, cudaError_t rc, const char *operation, uint32_t m, uint32_t n, uint32_t k);

/* The device copy of one step's batch: the same arrays as struct batch, in device memory, padded with
 * sequences of one row and an empty cache (kv_len 0, slot GPU_NO_SLOT) when a graph replays a larger
 * size. n_tok, n_seq and n_row include the padding. n_table changes from step to step: not for kernels. */
struct gpu_batch {
    uint32_t n_tok, n_seq, n_row, n_table;
    const uint32_t *tok, *pos, *slot;      /* slot[t] == GPU_NO_SLOT: a padding row, stores nothing */
    const uint32_t *seq_start, *kv_len, *block_tokens, *table_start, *table, *row;
};
#define GPU_NO_SLOT UINT32_MAX

/* Where K (which 0) or V (which 1) of a slot and KV head lie, in elements from the layer's start: tiles of
 * KV_TILE slots, [tile][K, V][head][slot in tile][hd], so that 16 neighbouring tokens of a head are one
 * run. */
__host__ __device__ inline size_t kv_at(uint32_t slot, uint32_t which, uint32_t head, uint32_t n_head,
                                        uint32_t hd)
{
    return (((size_t)(slot / KV_TILE) * 2 + which) * n_head + head) * KV_TILE * hd +
           (size_t)(slot % KV_TILE) * hd;
}
/* int8 and fp8 pools: all elements of all layers first, then scales (half) in the same order without [hd]. */

#endif
