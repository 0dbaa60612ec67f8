/* paged.c - KV memory in blocks of equal size, taken one by one as a sequence grows (PagedAttention,
 * SOSP'23; vLLM's default block is 16 tokens). Waste is at most the tail of each sequence's last block.
 * What must stay true: a block is in the free stack or in exactly one table. */
#include "strategies/strategy.h"

struct state {
    uint32_t *free;                    /* stack of free block numbers */
    uint32_t n_free, n_block, block_tokens;
};

static const struct knob knobs[] = {
    { "block", NULL, 16, 1, 256, "tokens per block" },
    { 0 },
};

static int open(struct kv *kv, struct arena *a, struct err *e)
{
    struct state *y = kv->self;

    y->block_tokens = (uint32_t)params_int(&kv->env.params, "block");
    y->n_block = y->n_free = kv->env.n_slot / y->block_tokens;
    y->free = ARENA_NEW(a, uint32_t, y->n_block);
    if (!y->free)
        return err_set(e, EXIT_RUN_FAILED, "paged: out of memory for %u blocks", y->n_block);
    for (uint32_t i = 0; i < y->n_block; i++)
        y->free[i] = y->n_block - 1 - i;        /* lowest block on top */
    return 0;
}

static const char *refuse(struct kv *kv, const struct request *r, uint32_t n_tok)
{
    struct state *y = kv->self;

    (void)r;
    return ceil_div_u32(n_tok, y->block_tokens) <= y->n_block ? NULL : "needs more KV blocks than exist";
}

static int grow(struct kv *kv, struct request *r, uint32_t n_tok)
{
    struct state *y = kv->self;
    uint32_t need = ceil_div_u32(n_tok, y->block_tokens);

    if (need - r->n_block > y->n_free || kv_table_room(kv, r, need))
        return -1;
    r->block_tokens = y->block_tokens;
    while (r->n_block < need)
        r->block[r->n_block++] = y->free[--y->n_free] * y->block_tokens;
    return 0;
}

static void drop(struct kv *kv, struct request *r)
{
    struct state *y = kv->self;

    while (r->n_block)
        y->free[y->n_free++] = r->block[--r->n_block] / y->block_tokens;
}

static struct kv_count count(const struct kv *kv)
{
    const struct state *y = kv->self;
    uint32_t used = y->n_block - y->n_free;

    return (struct kv_count){ y->n_block, used, (uint64_t)used * y->block_tokens };
}

const struct kv_ops kv_paged = {
    .name = "paged", .about = "blocks taken one by one as a sequence grows (PagedAttention)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .refuse = refuse, .grow = grow, .drop = drop, .count = count,
};
