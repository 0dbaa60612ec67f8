/* moves.h - K and V that a memory manager moved in its plan, carried out before the step writes. */
#ifndef HARNESS_MOVES_H
#define HARNESS_MOVES_H

#include "kernels/device.h"
#include "strategies/strategy.h"

struct mover {
    struct device *dev;
    struct kv_pool *pool, host;        /* host: swapped-out K and V; empty when there is none */
    uint32_t *from, *to, *n, cap;      /* scratch */
};
int  mover_open(struct mover *m, struct device *d, struct kv_pool *pool, uint32_t host_slots,
                struct err *e);
void mover_close(struct mover *m);
/* Out, copy, in (strategy.h), and empties the lists. */
int  mover_run(struct mover *m, struct kv *kv, struct err *e);
uint64_t moved_tokens(const struct kv_moves *m);

#endif
