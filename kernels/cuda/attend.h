/* attend.h - everything of the CUDA device that touches the KV pool: rope+store, attention, moving
 * slots.
 *
 * Decode attention is split over the cache as stream-K splits a GEMM (Lean Attention, Sanovar et
 * al. 2024): all tiles of all sequences and KV heads stand in one line, each resident block of
 * threads takes an equal share of it, and who arrives last at a sequence and head merges the parts
 * in order. The plan (attend_plan_make, host only, once per step, the same for all layers) says
 * where each sequence begins on that line; the grid never changes, so a recorded graph replays with
 * another plan in the same device buffer. Prefill attention (FlashAttention-2, Dao 2023) takes row
 * tiles from the plan, longest first. With exec.exact decode rows go through the same tiles, so
 * that a row's bits depend on its own tokens only.
 *
 * Padding sequences (kv_len 0) yield rows of zeros; rows with slot GPU_NO_SLOT store nothing. */
#ifndef KERNELS_CUDA_ATTEND_H
#define KERNELS_CUDA_ATTEND_H

#include "kernels/cuda/gpu.h"

struct attend_shape {
    uint32_t n_q, n_kv, hd;                /* query heads, KV heads, head_dim */
    enum fmt fmt;                          /* of the pool */
};

/* 0, or -1 with the reason why these kernels cannot serve the shape (call before a pool is
 * opened). */
int attend_check(const struct attend_shape *s, struct err *e);

/* Once after the device is open: lets the kernels have the shared memory that they need. */
int gpu_attend_open(struct gpu *g, struct err *e);

/* Bytes of a plan's image for any batch of up to max_tok rows and max_seq sequences (padding
 * included), 0 on overflow; bytes that this plan really uses, which is all that need be copied
 * to the device. */
size_t attend_plan_bytes(const struct attend_shape *s, uint32_t max_tok, uint32_t max_seq);
size_t attend_plan_used(const void *image);
/* Fills a host image (16-byte aligned) from the batch. n_seq_padded >= b->n_seq: sequences that
 * gpu_batch will have. Copy it to one fixed device buffer before the step's first gpu_attend. */
void attend_plan_make(void *image, const struct gpu *g, const struct attend_shape *s,
                      const struct batch *b, uint32_t n_seq_padded);

/* What g->scratch must hold for gpu_attend; it also uses counters 0 .. below GPU_COUNTERS. */
size_t attend_scratch_bytes(const struct gpu *g, const struct attend_shape *s);

/* y [n_tok, n_q * hd]: rows of sequences with more than one row (prefill) or with exactly one
 * (decode). plan_host is the image of this step (read now, for grid sizes), plan_device its copy
 * in device memory. */
void gpu_attend(struct gpu *g, half *y, const half *qkv, const struct kv_pool *kv, uint32_t layer,
                const struct gpu_batch *b, const void *plan_host, const void *plan_device,
                uint32_t n_q, bool prefill);

/* qkv [n_tok, (n_q + 2 n_kv) * hd]: bias, per-head norm, rotation; q in place, k and v to the
 * cache at slot. The same bits with exec.fused and without: each stage rounds to half. Only
 * g->stream; bias and gains are device memory. The angle is pos * freq in 64-bit fixed point of
 * turns: no phase is lost at long positions. */
void gpu_rope_store(struct gpu *g, half *qkv, const struct kv_pool *kv, uint32_t layer,
                    const struct gpu_batch *b, const struct rope *r);

/* Copies n runs of n_tok[i] slots, all layers, from slot src[i] of `from` to dst[i] of `to`
 * (host arrays, read before the return). One pool: copy on write. Two pools of one shape, one of
 * them pinned host memory: swap. Runs must not overlap. */
void gpu_kv_move(struct gpu *g, const struct kv_pool *from, const struct kv_pool *to,
                 const uint32_t *src, const uint32_t *dst, const uint32_t *n_tok, uint32_t n);

#endif
