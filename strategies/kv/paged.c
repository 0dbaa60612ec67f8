/* paged.c - KV memory in blocks of equal size, taken one by one as a sequence grows (PagedAttention,
 * SOSP'23; vLLM's default block is 16 tokens). Waste is at most the tail of each sequence's last block.
 * What must stay true: a block is in the free stack or in exactly one table. */
#include "strategies/blocks.h"

struct state { struct blocks b; };

static const struct knob knobs[] = {
    { "block", NULL, 16, 1, 256, "tokens per block" },
    { 0 },
};

static int open(struct kv *kv, struct arena *a, struct err *e)
{
    struct state *y = kv->self;

    return blocks_open(&y->b, kv, (uint32_t)params_int(&kv->env.params, "block"), a, e);
}

static const char *refuse(struct kv *kv, const struct request *r, uint32_t n_tok)
{
    struct state *y = kv->self;

    (void)r;
    return ceil_div_u32(n_tok, y->b.block_tokens) <= y->b.n_block ? NULL
           : "needs more KV blocks than exist";
}

static int grow(struct kv *kv, struct request *r, uint32_t n_tok)
{
    struct state *y = kv->self;
    uint32_t need = ceil_div_u32(n_tok, y->b.block_tokens);

    if (need - r->n_block > y->b.n_free || kv_table_room(kv, r, need))
        return -1;
    while (r->n_block < need)
        blocks_append(&y->b, r);
    return 0;
}

static void drop(struct kv *kv, struct request *r)
{
    struct state *y = kv->self;

    while (r->n_block)
        blocks_pop(&y->b, r, false);
    blocks_drop_host(&y->b, r);
}

static int swap_out(struct kv *kv, struct request *r)
{
    return blocks_swap_out(&((struct state *)kv->self)->b, kv, r);
}

static int swap_in(struct kv *kv, struct request *r, uint32_t n_tok)
{
    return blocks_swap_in(&((struct state *)kv->self)->b, kv, r, n_tok);
}

static struct kv_count count(const struct kv *kv)
{
    return blocks_count(&((const struct state *)kv->self)->b);
}

const struct kv_ops kv_paged = {
    .name = "paged", .about = "blocks taken one by one as a sequence grows (PagedAttention)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .refuse = refuse, .grow = grow, .drop = drop, .swap_out = swap_out,
    .swap_in = swap_in, .count = count,
};
