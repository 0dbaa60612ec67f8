/* attend.h - inside of attention on the cpu device: what single queries (attend.c) and prompts (attend_many.c) share.
 *
 * What must stay true: see attend.c; both compute the same chain for a query, so a header holds the steps that
 * they must not do differently. */
#ifndef KERNELS_CPU_ATTEND_H
#define KERNELS_CPU_ATTEND_H

#include "kernels/cpu/cpu.h"

enum { TILES = ATTEND_CHUNK / KV_TILE };

struct chunk {                             /* K and V of up to 128 positions of one KV head */
    const uint8_t *tile[TILES];            /* K [hd][16], V [16][hd], scales each (cpu.h) */
    uint32_t n;                            /* positions */
};

/* One call of attention. */
struct attend {
    struct cpu *c;
    const struct cpu_isa *isa;
    float *y; const float *qkv;
    const struct kv_pool *kv;
    struct kv_layout lay;
    const struct batch *b;
    uint32_t layer, n_q, n_rep, hd;        /* n_rep: query heads that share a KV head */
    uint32_t ld;                           /* floats of a qkv row */
    const struct unit { uint32_t seq, row, n, head, chunk; } *unit;
    float *part;                           /* split decode: [unit][n_rep][hd + 2] */
    size_t part_size;
    float q_scale;
};

/* Scratch of one thread, cut from one piece of memory. */
struct room {
    float *q, *part, *acc;                 /* [rows, hd] each */
    float *s;                              /* [rows, 128] scores, then probabilities */
    float *m, *l, *pm, *pl;                /* [rows] maximum and sum: so far, and of the chunk */
    float *k, *v;                          /* widened: [8][hd][16], [128][hd] */
    uint8_t *gather;                       /* [8] tiles */
};

struct room attend_room(void *p, uint32_t rows, uint32_t hd);
/* Tiles of positions [chunk * 128, end) of a sequence and KV head; gathered into scratch where blocks do not lie on
 * tile borders. */
struct chunk attend_chunk(const struct attend *a, uint32_t seq, uint32_t head, uint32_t chunk, uint32_t end,
                          uint8_t *scratch);
/* acc, m, l of some rows take in a chunk; the first one is taken as it is. */
void attend_fold(const struct attend *a, float *acc, float *m, float *l, const float *part, const float *pm,
                 const float *pl, uint32_t rows, bool first);
void attend_load_q(const struct attend *a, const struct unit *u, float *q);
cpu_work attend_many;                      /* units of a prompt */

/* Strip s of a float tile: a pool tile's K, from there or widened (b), and its scales. */
static inline void take_k(const struct attend *a, struct ftile *t, uint32_t s, const uint8_t *tile,
                          const void *b)
{
    t->b[s] = b;
    t->scale[s] = tile_scales(&a->lay, tile);
    t->post = elem_post(a->lay.el);
}

/* Probabilities of row r times the scales of V. */
static inline void scale_row(const struct attend *a, const struct chunk *k, float *s)
{
    for (uint32_t i = 0; i * KV_TILE < k->n && a->lay.size == 1; i++)
        a->isa->times_half(s + (size_t)i * KV_TILE, tile_scales(&a->lay, k->tile[i]) + KV_TILE,
                           elem_post(a->lay.el));
}

static inline float *y_at(const struct attend *a, uint32_t row, uint32_t q_head)
{
    return a->y + ((size_t)row * a->n_q + q_head) * a->hd;
}

#endif
