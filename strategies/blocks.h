/* blocks.h - a pool of equal KV blocks with reference counts, and host memory to swap them to: what all
 * paged managers stand on. A block is free, or has as many references as tables (and caches) name it. */
#ifndef STRATEGIES_BLOCKS_H
#define STRATEGIES_BLOCKS_H

#include "strategies/strategy.h"

struct blocks {
    uint32_t block_tokens, n_block;
    uint32_t *ref;                 /* [n_block] */
    uint32_t *free, n_free;        /* stack */
    uint32_t n_used;               /* blocks that at least one request's table names */
    uint32_t *owner;               /* [n_block] requests that name it */
    uint64_t shared_tokens;        /* of full blocks, for each request beyond the first */
    uint32_t *host_free, n_host_free;      /* stack of host blocks */
};
int blocks_open(struct blocks *b, struct kv *kv, uint32_t block_tokens, struct arena *a, struct err *e);
/* Appends a fresh block to r's table; the caller has made sure that n_free > 0 and the table has room. */
void blocks_append(struct blocks *b, struct request *r);
/* Appends a block that stands elsewhere too. */
void blocks_share(struct blocks *b, struct request *r, uint32_t block);
/* Removes r's last block from its table. True when nobody names it any more: it is free then, unless
 * `keep`, which leaves it to the caller (a cache) with no reference. */
bool blocks_pop(struct blocks *b, struct request *r, bool keep);
void blocks_free(struct blocks *b, uint32_t block);    /* one that blocks_pop left to the caller */
/* Swap of a whole table; see kv_ops. */
int  blocks_swap_out(struct blocks *b, struct kv *kv, struct request *r);
int  blocks_swap_in(struct blocks *b, struct kv *kv, struct request *r, uint32_t n_tok);
void blocks_drop_host(struct blocks *b, struct request *r);

/* The counts that every manager on blocks gives. */
struct kv_count blocks_count(const struct blocks *b);

static inline uint32_t blocks_number(const struct blocks *b, const struct request *r, uint32_t i)
{
    return r->block[i] / b->block_tokens;
}

#endif
