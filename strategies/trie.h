/* trie.h - blocks that are found again by the tokens they hold: children under the parent
 * block, keyed by identity. What the managers that cache or share by prefix tree stand on
 * (tree, radix, cow).
 *
 * A node is a block's worth of tokens after a certain prefix. Its K and V lie in a device
 * block, or, with a host tier, in a host block until a hit brings them back. A request's table
 * runs down one path; where it computed what a node already has, seal gives it the node's block
 * and frees its own (as SGLang and TGI do when they insert), so that every ancestor of an owned
 * node is owned too.
 * What must stay true: the parent of a node on the device is on the device; only nodes without
 * children on the device are given up; a node's K and V are those of its path's tokens, once
 * its pending move is made. */
#ifndef STRATEGIES_TRIE_H
#define STRATEGIES_TRIE_H

#include "strategies/blocks.h"

#define TRIE_NONE UINT32_MAX

struct trie_node {
    uint32_t parent;               /* node; TRIE_NONE: the root */
    uint32_t place;                /* device block, or n_block + host block */
    uint32_t fill;                 /* tokens it holds: block_tokens but for cow's last ones */
    uint32_t n_child, n_near;      /* children; those on the device */
    uint32_t chain;                /* next node of the same bucket, or of the unused ones */
    uint32_t older, newer;         /* on the host: order of arrival there */
    uint32_t epoch;                /* on the host: when it went there */
};

struct trie {
    struct blocks b;
    /* what kind of cache it is, set before trie_open */
    bool cache;                    /* nodes outlive their owners */
    bool partial;                  /* the leading run of a child's tokens is copied */
    bool tails;                    /* the partly filled last block of a prompt counts too */
    bool at_end;                   /* known when the request ends, not after each step */
    bool generated;                /* what requests produced is kept when they end */
    bool ranked;                   /* nodes of requests with priority are given up later */
    bool host;                     /* what is given up goes to host memory */
    /* state */
    struct trie_node *node;        /* [n_node] */
    uint32_t n_node, unused;
    uint64_t *ids;                 /* [n_node, block_tokens] */
    uint32_t *node_of;             /* [n_block] of a device block, or TRIE_NONE */
    uint32_t *bucket, mask;        /* (parent, first token) -> nodes */
    uint32_t oldest, newest;       /* nodes on the host */
    uint32_t epoch;                /* grows whenever the moves to the host have been made */
    uint64_t *want;                /* [block_tokens] scratch */
    const struct request *found_for;   /* attach's result, for the grow that follows */
    uint32_t *path, n_path, cap_path;  /* nodes */
    uint32_t source, run;          /* node to copy from, and how many tokens; run 0: none */
};
int  trie_open(struct trie *t, struct kv *kv, uint32_t block_tokens, struct arena *a,
               struct err *e);
/* The trie is a manager's state, so that these, and those of blocks.h, stand in its kv_ops. */
uint32_t trie_peek(struct kv *kv, const struct request *r);
/* Finds; the sharing itself waits for grow, so that an admission that fails leaves no trace. */
void trie_attach(struct kv *kv, struct request *r);
int  trie_grow(struct kv *kv, struct request *r, uint32_t n_tok);
void trie_seal(struct kv *kv, struct request *r);
void trie_drop(struct kv *kv, struct request *r);
#define TRIE_OPS \
    .state_bytes = sizeof(struct trie), .refuse = blocks_kv_refuse, .attach = trie_attach, \
    .peek = trie_peek, .grow = trie_grow, .seal = trie_seal, .drop = trie_drop, \
    .count = blocks_kv_count

/* trie_node.c, for trie.c: */
/* The child of parent that holds all of ids[0..block_tokens), or TRIE_NONE. */
uint32_t trie_child(const struct trie *t, uint32_t parent, const uint64_t *ids);
/* The first node of the bucket for children of parent that begin with id: follow .chain. */
uint32_t trie_first(const struct trie *t, uint32_t parent, uint64_t id);
uint32_t trie_add(struct trie *t, uint32_t parent, uint32_t block, const uint64_t *ids,
                  uint32_t fill);
/* A node on the host has its K and V in a device block from now on. */
void trie_come_near(struct trie *t, uint32_t n, uint32_t block);

static inline uint64_t *trie_ids(const struct trie *t, uint32_t n)
{
    return t->ids + (size_t)n * t->b.block_tokens;
}

static inline bool trie_is_near(const struct trie *t, uint32_t n)
{
    return t->node[n].place < t->b.n_block;
}

#endif
