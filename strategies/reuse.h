/* reuse.h - prompts that wait one step so that they can share what another one computes now.
 *
 * The idea (TensorRT-LLM, capacityScheduler.cpp: beneficialToSkip): the first block of a prompt that no
 * cache has is going to be computed. When a prompt chosen in this step, or one cut into chunks and under
 * way, computes just that block, who comes later skips the step, without holding up others, and finds it
 * in the cache afterwards. Blocks are told apart by their place and their tokens.
 * What must stay true: who is held back is held back by somebody who runs, so nobody waits for ever. */
#ifndef STRATEGIES_REUSE_H
#define STRATEGIES_REUSE_H

#include "strategies/strategy.h"

/* key: [most] blocks that this step computes first. One that was never opened (zeros) holds nobody back. */
struct reuse { uint64_t *key; uint32_t n, most; };
int  reuse_open(struct reuse *u, uint32_t most, struct arena *a, struct err *e);
/* Start of a step: prompts of `running` that are under way. Does nothing without a cache. */
void reuse_begin(struct reuse *u, const struct kv *kv, const struct queue *running);
/* Whether r, which holds nothing, had better skip this step; if not, its first block is being computed. */
bool reuse_skip(struct reuse *u, struct kv *kv, const struct request *r);

#endif
