/* made_batch.h - batches that no plan stands behind: for benchmarks, timings and what a precision costs.
 *
 * Each of n_seq sequences gets `rows` tokens more than it holds. Where their K and V lie is said by the layout: with
 * `own`, sequence s of the pool owns slots [s * own, (s + 1) * own) in blocks one behind the other; without, blocks
 * are handed out in an order that jumps through the whole pool, as after long use. */
#ifndef HARNESS_MADE_BATCH_H
#define HARNESS_MADE_BATCH_H

#include "kernels/device.h"

struct made_conf {
    uint32_t n_seq, prefix, rows;  /* each sequence holds prefix tokens, unless lens says how many */
    const uint32_t *lens;          /* [n_seq], or NULL */
    uint32_t block, own, first;    /* tokens of a block; slots of a sequence, or 0; with own: number of the first one */
    uint32_t n_yield;              /* the last n_yield rows of each sequence yield a token */
    const uint32_t *tok;           /* [n_seq * rows], outlives the batch; NULL: made-up ones below vocab */
    uint32_t vocab;
};
struct made_batch { struct batch b; uint32_t *mem; };

/* 0, or -1 with e: no memory, or the blocks do not fit n_slot. Free it also after a failure. */
int  made_batch(struct made_batch *x, const struct made_conf *c, uint32_t n_slot, struct err *e);
void made_batch_free(struct made_batch *x);

#endif
