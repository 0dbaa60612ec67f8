/* micro_batch.h - who of those that hold memory runs, within a token budget: TensorRT-LLM's second stage (micro batch
 * scheduler), which sched/no_evict.c and sched/max_utilisation.c share. A prompt goes whole, or (chunked=on) is cut to
 * multiples of `unit`; one that is longer than any step is cut all the same, else it would wait for ever. */
#ifndef STRATEGIES_MICRO_BATCH_H
#define STRATEGIES_MICRO_BATCH_H

#include "strategies/queues.h"

#define KNOBS_MICRO_BATCH \
    { "batch", NULL, 2048, 1, 65536, "running requests at most (max_batch_size)" }, \
    { "budget", NULL, 8192, 1, 1 << 20, "tokens per step at most (max_num_tokens)" }, \
    { "chunked", "off|on", 0, 0, 0, "prompts may be cut (enable_chunked_prefill)" }, \
    { "share", "fcfs|equal", SHARE_FCFS, 0, 0, "chunked: in order, or a unit each in rounds (EQUAL_PROGRESS)" }, \
    { "unit", NULL, 32, 1, 65536, "chunked: cut chunks are multiples of so many tokens" }

struct micro_batch { struct share_rule share; bool chunked; };
/* As KNOBS_MICRO_BATCH say; sets the limits of s. */
struct micro_batch micro_batch_open(struct sched *s);
/* Tokens to set aside of `left` for a prompt with `todo` to run; 0: it waits. */
uint32_t micro_batch_ask(const struct micro_batch *m, const struct sched *s, uint32_t todo, uint32_t left);

#endif
