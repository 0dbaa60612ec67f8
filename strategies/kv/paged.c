/* paged.c - KV memory in blocks of equal size, taken one by one as a sequence grows
 * (PagedAttention, SOSP'23; vLLM's default block is 16 tokens). Waste is at most the tail of
 * each sequence's last block.
 * What must stay true: a block is free or in exactly one table. */
#include "strategies/blocks.h"

static const struct knob knobs[] = {
    { "block", NULL, 16, 1, 256, "tokens per block" },
    { 0 },
};

static int open(struct kv *kv, struct arena *a, struct err *e)
{
    return blocks_open(kv->self, kv, (uint32_t)params_int(&kv->env.params, "block"), a, e);
}

static int grow(struct kv *kv, struct request *r, uint32_t n_tok)
{
    return blocks_grow(kv->self, r, n_tok);
}

const struct kv_ops kv_paged = {
    .name = "paged", .about = "blocks taken one by one as a sequence grows (PagedAttention)",
    .knobs = knobs, .state_bytes = sizeof(struct blocks),
    .open = open, .refuse = blocks_kv_refuse, .grow = grow, .drop = blocks_kv_drop,
    .swap_out = blocks_kv_swap_out, .swap_in = blocks_kv_swap_in, .count = blocks_kv_count,
};
