/* paged.c - KV memory in blocks of equal size, taken one by one as a sequence grows
 * (PagedAttention, SOSP'23; vLLM's default block is 16 tokens). Waste is at most the tail of
 * each sequence's last block.
 * What must stay true: a block is free or in exactly one table. */
#include "strategies/blocks.h"

struct state { struct blocks b; };

static const struct knob knobs[] = {
    { "block", NULL, 16, 1, 256, "tokens per block" },
    { 0 },
};

static struct blocks *of(const struct kv *kv) { return &((struct state *)kv->self)->b; }

static int open(struct kv *kv, struct arena *a, struct err *e)
{
    return blocks_open(of(kv), kv, (uint32_t)params_int(&kv->env.params, "block"), a, e);
}

static const char *refuse(struct kv *kv, const struct request *r, uint32_t n_tok)
{
    (void)r;
    return blocks_refuse(of(kv), n_tok);
}

static int grow(struct kv *kv, struct request *r, uint32_t n_tok)
{
    return blocks_grow(of(kv), r, n_tok);
}

static void drop(struct kv *kv, struct request *r) { blocks_drop(of(kv), r); }

static int swap_out(struct kv *kv, struct request *r) { return blocks_swap_out(of(kv), r); }

static int swap_in(struct kv *kv, struct request *r, uint32_t n_tok)
{
    return blocks_swap_in(of(kv), r, n_tok);
}

static struct kv_count count(const struct kv *kv) { return blocks_count(of(kv)); }

const struct kv_ops kv_paged = {
    .name = "paged", .about = "blocks taken one by one as a sequence grows (PagedAttention)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .refuse = refuse, .grow = grow, .drop = drop, .swap_out = swap_out,
    .swap_in = swap_in, .count = count,
};
