/* attend_tile.h - what the attention kernels share: a layer of the pool, where its rows lie, shared
 * memory without bank conflicts, and the image of a plan.
 *
 * A "row" is K or V of one token and one head: hd elements, and one scale in int8 and fp8 pools.
 * Rows of a layer are numbered as kv_at numbers elements, so 16 neighbouring tokens of a tile
 * are one run. */
#ifndef KERNELS_CUDA_ATTEND_TILE_H
#define KERNELS_CUDA_ATTEND_TILE_H

#include "kernels/cuda/attend.h"

constexpr uint32_t SPLIT_TILE = 64; /* tokens of the decode line's unit: 16 for each of 4 warps */
constexpr uint32_t SPLIT_MIN = 2;   /* units that a block takes at least: a merge costs about one */
constexpr uint32_t SPLIT_ROWS = 16;        /* query heads of one KV head that one block serves */
constexpr uint32_t KEYS = 64;              /* keys of a prefill tile, at fixed absolute positions */
constexpr uint32_t ATTEND_THREADS = 128;
constexpr uint32_t NO_ROW = UINT32_MAX;    /* no token there: zeros */

/* The image of a plan: this head, then line[n_seq + 1], then items of 128 packed rows, then of
 * 64. A packed row is one query head of one token: row r of a sequence and KV head is token r /
 * group, head r % group. */
struct attend_item { uint32_t seq, row0, n_key, pad; };     /* n_key: keys that its last row sees */
struct attend_plan {
    uint32_t bytes, n_seq;
    uint32_t n_decode, n_pad;          /* sequences of one row; of those padding */
    uint32_t tile;                     /* tokens of a unit of the line, a multiple of SPLIT_TILE */
    uint32_t share, total;             /* units per block; of all sequences and heads, below 2^31 */
    uint32_t n_item[2];                /* row tiles of 128 and of 64 packed rows, longest first */
    uint32_t item_at[2];               /* byte offsets */
    uint32_t pad;
};
__host__ __device__ inline const uint32_t *plan_line(const struct attend_plan *p)
{
    return reinterpret_cast<const uint32_t *>(p + 1);
}
__host__ __device__ inline const struct attend_item *plan_items(const struct attend_plan *p,
                                                                int which)
{
    return reinterpret_cast<const struct attend_item *>(reinterpret_cast<const char *>(p) +
                                                        p->item_at[which]);
}

/* Query heads per KV head, and how many groups of SPLIT_ROWS they make in decode. */
static inline uint32_t attend_group(const struct attend_shape *s) { return s->n_q / s->n_kv; }
static inline uint32_t attend_units(const struct attend_shape *s)
{
    return s->n_kv * ((attend_group(s) + SPLIT_ROWS - 1) / SPLIT_ROWS);
}
/* Whether the tensor-core kernels take it; other head sizes go to the plain kernel (attend.cu). */
static inline bool attend_fast(uint32_t hd) { return hd == 32 || hd == 64 || hd == 128; }

/* One part of a sequence for one block: tokens [t0, t1), query heads head0 .. head0 + rows - 1. */
struct part_of {
    uint32_t seq, kv_head, head0, rows, t0, t1;
    uint32_t first, last;      /* blocks among which the sequence is split */
    uint32_t begin, at; /* units of the line where the sequence begins, where the next part does */
};

/* Bytes of an element; stages of the decode pipeline and its shared memory. Rows of 256 bytes:
 * two stages let three blocks share an SM of 227 KB, and more blocks hide more than more stages
 * do (kernels.md 2.2). */
template <enum fmt F> struct elt { static constexpr int size = F == FMT_F16 ? 2 : 1; };
__host__ __device__ constexpr int split_stages(int row_bytes) { return row_bytes >= 256 ? 2 : 3; }
__host__ __device__ constexpr size_t split_smem(int row_bytes)
{
    return (size_t)4 * split_stages(row_bytes) * 2 * 16 * (size_t)row_bytes +
           4 * 16 * 2 * sizeof(float) + (sizeof(struct part_of) + 15) / 16 * 16;
}
/* Blocks of it on an SM, as far as registers go: 168 or 128 a thread without spills. */
__host__ __device__ constexpr int split_most(int hd) { return hd >= 128 ? 3 : 4; }
/* Blocks of the decode kernel: as many as are resident, whatever the batch. */
uint32_t split_blocks(const struct gpu *g, const struct attend_shape *s);

/* One layer of a pool. */
struct kv_layer {
    unsigned char *data;       /* elements of the layer */
    half *scale;               /* [row], int8 and fp8 only */
    uint32_t n_head, hd;
};
static inline struct kv_layer kv_layer_of(const struct kv_pool *kv, uint32_t layer)
{
    size_t rows = (size_t)kv->n_slot * 2 * kv->n_head, wide = kv->fmt == FMT_F16 ? 2 : 1;
    unsigned char *data = static_cast<unsigned char *>(kv->data);
    unsigned char *scales = data + (size_t)kv->n_layer * rows * kv->head_dim * wide;
    struct kv_layer l;

    l.data = data + (size_t)layer * rows * kv->head_dim * wide;
    l.scale = kv->fmt == FMT_F16 ? NULL : reinterpret_cast<half *>(scales) + (size_t)layer * rows;
    l.n_head = kv->n_head;
    l.hd = kv->head_dim;
    return l;
}

/* What a kernel of attention is given. */
struct attend_args {
    half *y;
    const half *qkv;
    struct kv_layer kv;
    struct gpu_batch b;
    const struct attend_plan *plan;
    float *part;               /* scratch: parts of split sequences */
    uint32_t *counter;
    uint32_t n_q, group;
    float scale;               /* log2(e) / sqrt(hd): scores become powers of two */
};

/* The parts of gpu_attend, each with its kernels (attend_decode.cu, attend_prefill.cu). */
cudaError_t attend_split_open();
cudaError_t attend_tiles_open();
cudaError_t attend_split(struct gpu *g, const struct attend_args *a, enum fmt f, uint32_t n_block);
/* items 0: 128 packed rows, 1: 64; -1: decode rows, one sequence after another. */
cudaError_t attend_tiles(struct gpu *g, const struct attend_args *a, enum fmt f, int items,
                         uint32_t n_item);

/* Number of the K row of position p of a sequence; V's is n_head * KV_TILE further. */
PRIM uint32_t key_row(const uint32_t *table, uint32_t block_tokens, uint32_t p, uint32_t head,
                      uint32_t n_head)
{
    uint32_t in = p / block_tokens, slot = table[in] + (p - in * block_tokens);

    return (uint32_t)kv_at(slot, 0, head, n_head, 1);
}

/* Where 16-byte chunk c of a row stands among the row's CHUNKS chunks in shared memory: 8
 * neighbouring rows have any chunk in 8 different places modulo 128 bytes, so ldmatrix meets no
 * bank conflict. */
template <int CHUNKS> PRIM uint32_t swizzle(uint32_t row, uint32_t c)
{
    return c ^ (row / (CHUNKS >= 8 ? 1 : 8 / CHUNKS) & (CHUNKS >= 8 ? 7 : CHUNKS - 1));
}
/* Byte offset of that chunk in a tile of such rows. */
template <int CHUNKS> PRIM uint32_t tile_at(uint32_t row, uint32_t c)
{
    return (row * CHUNKS + swizzle<CHUNKS>(row, c)) * 16;
}

/* What ldmatrix x4 of 16 rows and two chunks (c even, c + 1) wants of this lane, for c = 0; for
 * another c ^ 16 c. One register for a whole tile: rows further down by multiples of 16 are a
 * constant away. */
template <int CHUNKS> PRIM uint32_t tile_lane()
{
    return tile_at<CHUNKS>(lane_id() % 16, lane_id() / 16);
}

/* Four bytes of a quantised row as halves, scale not applied: (0, 1) and (2, 3), or even and
 * odd. */
template <enum fmt F> PRIM void expand(uint32_t q, __half2 (&out)[2])
{
    if (F == FMT_INT8)
        s8x4_to_h2(q, out);
    else
        fp8x4_to_h2(q, out);
}
template <enum fmt F> PRIM void expand_even_odd(uint32_t q, __half2 (&out)[2])
{
    expand<F>(prmt(q, 0, 0x3120u), out);
}

#endif
