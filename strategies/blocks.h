/* blocks.h - a pool of equal KV blocks with owners, and host memory to move them to: what all
 * managers on blocks stand on.
 *
 * A block is owned (requests' tables name it), busy (a move that the loop has yet to make reads
 * or fills it) or free. Free blocks stand in lists, taken from the head: the lowest-ranked list
 * first. A manager that caches says so with `keep`: what it keeps joins the tail, so that the
 * oldest goes first, and `give` picks who goes and makes the cache forget it. Other blocks join
 * the head.
 * What must stay true: a block is in a list if and only if nobody owns it and it is not busy;
 * host blocks are handed out again only after the moves that touch them. */
#ifndef STRATEGIES_BLOCKS_H
#define STRATEGIES_BLOCKS_H

#include "strategies/strategy.h"

enum { N_RANK = 4 };

/* What a manager keeps of a request in r->kv while it holds blocks or host memory. */
struct hold {
    struct hold *next;             /* of the unused ones */
    uint32_t n_reg;                /* leading blocks of the table that the cache knows */
    uint32_t n_valid;              /* tokens whose K and V are certainly written */
    uint64_t hash;                 /* chain hash over the n_reg blocks */
    uint32_t *host, n_host, cap_host;      /* its host blocks, in order, when swapped out */
};

struct blocks {
    struct kv *kv;
    uint32_t block_tokens, n_block;
    uint32_t *owner;               /* [n_block] requests that name it */
    uint32_t *busy;                /* [n_block] pending moves that name it */
    uint8_t *rank;                 /* [n_block] the free list it joins when kept */
    uint32_t *next, *prev;         /* [n_block + N_RANK] free lists; n_block + i: head of i */
    uint32_t n_free;
    uint32_t n_used;               /* blocks that at least one request's table names */
    uint64_t shared_tokens;        /* of full blocks, for each request beyond the first */
    uint64_t hit_tokens, evicted;  /* counted by the manager */
    uint32_t *pending, n_pending, cap_pending;     /* what is busy, once for each move */
    uint32_t n_host, *host_free, n_host_free;      /* stack of host blocks */
    uint32_t *host_wait, n_host_wait;      /* free once the pending moves are made */
    struct hold *unused;
    void *self;                    /* of the manager's hooks, which may be NULL */
    bool (*keep)(void *self, uint32_t block);
    uint32_t (*give)(void *self, uint32_t head);
};
int blocks_open(struct blocks *b, struct kv *kv, uint32_t block_tokens, struct arena *a,
                struct err *e);
/* NULL, or why a sequence of n_tok tokens can never be held. */
const char *blocks_refuse(const struct blocks *b, uint32_t n_tok);
/* What hands out blocks calls it first: moves that were pending and have been made bind no more. */
void blocks_settle(struct blocks *b);
/* Room for n more blocks in r's table and a hold in r->kv, or -1. */
int blocks_ready(struct blocks *b, struct request *r, uint32_t n);
/* Appends a fresh block to r's table; the caller made sure of n_free > 0 and room in the table. */
void blocks_append(struct blocks *b, struct request *r);
/* Appends a block that stands elsewhere too, or in a free list as a cached one. */
void blocks_share(struct blocks *b, struct request *r, uint32_t block);
/* r's i-th block becomes `block`, which holds the same; its own goes. */
void blocks_replace(struct blocks *b, struct request *r, uint32_t i, uint32_t block);
/* Removes r's last block from its table. */
void blocks_pop(struct blocks *b, struct request *r);
/* Every block of r, the last first, its host memory and its hold. */
void blocks_drop(struct blocks *b, struct request *r);
/* Plain growth to n_tok tokens with fresh blocks. 0, or -1 and nothing has changed. */
int blocks_grow(struct blocks *b, struct request *r, uint32_t n_tok);
/* Room for that many more pins, copies and fetches, which then cannot fail. 0, or -1: no memory. */
int blocks_moves_room(struct blocks *b, uint32_t n_pin, uint32_t n_copy, uint32_t n_fetch);
/* Keeps a block from being handed out until the pending moves are made. -1: no memory. */
int blocks_pin(struct blocks *b, uint32_t block);
/* The first n slots of a pinned block to another one / from a host block. -1: no memory. */
int blocks_copy(struct blocks *b, uint32_t from, uint32_t to, uint32_t n);
int blocks_fetch(struct blocks *b, uint32_t host, uint32_t to, uint32_t n);
/* A host block or UINT32_MAX; and back, for use after the pending moves. */
uint32_t blocks_host_take(struct blocks *b);
void blocks_host_give(struct blocks *b, uint32_t host);
/* Swap of a whole table; see kv_ops. Shared blocks are copied out and stay with the others. */
int blocks_swap_out(struct blocks *b, struct request *r);
int blocks_swap_in(struct blocks *b, struct request *r, uint32_t n_tok);

/* These stand in the kv_ops of a manager whose state begins with a struct blocks. */
const char *blocks_kv_refuse(struct kv *kv, const struct request *r, uint32_t n_tok);
void blocks_kv_drop(struct kv *kv, struct request *r);
int blocks_kv_swap_out(struct kv *kv, struct request *r);
int blocks_kv_swap_in(struct kv *kv, struct request *r, uint32_t n_tok);
struct kv_count blocks_kv_count(const struct kv *kv);

static inline uint32_t blocks_number(const struct blocks *b, const struct request *r, uint32_t i)
{
    return r->block[i] / b->block_tokens;
}

static inline bool blocks_idle(const struct blocks *b, uint32_t block)
{
    return !b->owner[block] && !b->busy[block];
}

#endif
