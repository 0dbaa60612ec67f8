/* trie_node.c - the nodes of a trie: adding, finding, giving up, the host tier. */
#include "strategies/trie.h"

#include <string.h>

/* ---- nodes ---- */

static uint32_t *bucket_of(const struct trie *t, uint32_t parent, uint64_t first)
{
    return &t->bucket[hash64(first, parent) & t->mask];
}

static void count_child(struct trie *t, uint32_t n, bool near, uint32_t by)
{
    uint32_t p = t->node[n].parent;

    if (p != TRIE_NONE)
        *(near ? &t->node[p].n_near : &t->node[p].n_child) += by;
}

uint32_t trie_add(struct trie *t, uint32_t parent, uint32_t block, const uint64_t *ids,
                  uint32_t fill)
{
    uint32_t n = t->unused, *head = bucket_of(t, parent, ids[0]);
    struct trie_node *x = &t->node[n];

    t->unused = x->chain;
    *x = (struct trie_node){ .parent = parent, .place = block, .fill = fill, .chain = *head };
    *head = n;
    memcpy(trie_ids(t, n), ids, fill * sizeof *ids);
    t->node_of[block] = n;
    count_child(t, n, false, 1);
    count_child(t, n, true, 1);
    return n;
}

static void host_unlink(struct trie *t, uint32_t n)
{
    struct trie_node *x = &t->node[n];

    *(x->older == TRIE_NONE ? &t->oldest : &t->node[x->older].newer) = x->newer;
    *(x->newer == TRIE_NONE ? &t->newest : &t->node[x->newer].older) = x->older;
}

/* A node without children vanishes; its block is the caller's. */
static void erase(struct trie *t, uint32_t n)
{
    uint32_t *at = bucket_of(t, t->node[n].parent, trie_ids(t, n)[0]);

    while (*at != n)
        at = &t->node[*at].chain;
    *at = t->node[n].chain;
    count_child(t, n, false, UINT32_MAX);
    if (trie_is_near(t, n)) {
        count_child(t, n, true, UINT32_MAX);
        t->node_of[t->node[n].place] = TRIE_NONE;
    } else {
        host_unlink(t, n);
        blocks_host_give(&t->b, t->node[n].place - t->b.n_block);
    }
    t->node[n].chain = t->unused;
    t->unused = n;
}

uint32_t trie_first(const struct trie *t, uint32_t parent, uint64_t id)
{
    return *bucket_of(t, parent, id);
}

uint32_t trie_child(const struct trie *t, uint32_t parent, const uint64_t *ids)
{
    uint32_t n = *bucket_of(t, parent, ids[0]);

    while (n != TRIE_NONE && (t->node[n].parent != parent || t->node[n].fill < t->b.block_tokens ||
                              memcmp(trie_ids(t, n), ids, t->b.block_tokens * sizeof *ids)))
        n = t->node[n].chain;
    return n;
}

/* ---- the host tier ---- */

/* Children come to the host before their parents, so newest to oldest meets parents first. */
static void erase_far_children(struct trie *t, uint32_t n)
{
    uint32_t older;

    for (uint32_t i = t->newest; i != TRIE_NONE && t->node[n].n_child; i = older) {
        older = t->node[i].older;
        if (t->node[i].parent != n)
            continue;
        erase_far_children(t, i);
        older = t->node[i].older;
        erase(t, i);
    }
}

/* Room for one block on the host, made if need be by giving up the oldest leaf there. A block that
 * went there in this very step cannot be overwritten in it. */
static uint32_t far_room(struct trie *t)
{
    uint32_t h = blocks_host_take(&t->b), n = t->oldest;

    if (h != TRIE_NONE)
        return h;
    while (n != TRIE_NONE && (t->node[n].n_child || t->node[n].epoch == t->epoch))
        n = t->node[n].newer;
    if (n == TRIE_NONE)
        return TRIE_NONE;
    h = t->node[n].place - t->b.n_block;
    erase(t, n);
    t->b.n_host_wait--;                        /* erase put it last; nothing pending touches it */
    return h;
}

static void send_far(struct trie *t, uint32_t n, uint32_t h)
{
    struct trie_node *x = &t->node[n];

    count_child(t, n, true, UINT32_MAX);
    t->node_of[x->place] = TRIE_NONE;
    x->place = t->b.n_block + h;
    x->epoch = t->epoch;
    x->older = t->newest;
    x->newer = TRIE_NONE;
    *(t->newest == TRIE_NONE ? &t->oldest : &t->node[t->newest].newer) = n;
    t->newest = n;
}

void trie_come_near(struct trie *t, uint32_t n, uint32_t block)
{
    host_unlink(t, n);
    blocks_host_give(&t->b, t->node[n].place - t->b.n_block);
    t->node[n].place = block;
    t->node_of[block] = n;
    count_child(t, n, true, 1);
}

/* ---- giving up (hooks of the pool) ---- */

static bool keep(void *self, uint32_t block)
{
    struct trie *t = self;
    uint32_t n = t->node_of[block];

    if (n == TRIE_NONE)
        return false;
    if (t->cache)
        return true;
    erase(t, n);
    return false;
}

/* The first block from the head that nothing on the device stands below. */
static uint32_t give(void *self, uint32_t block)
{
    struct trie *t = self;
    uint32_t n, h;

    while ((n = t->node_of[block]) != TRIE_NONE && t->node[n].n_near) {
        block = t->b.next[block];
        while (block >= t->b.n_block)          /* the end of a list: on to the next one */
            block = t->b.next[block + 1];
    }
    if (n == TRIE_NONE)
        return block;
    t->b.evicted++;
    h = t->host ? far_room(t) : TRIE_NONE;
    if (h != TRIE_NONE && !kv_move_add(&t->b.kv->out, block * t->b.block_tokens,
                                       h * t->b.block_tokens, t->b.block_tokens)) {
        send_far(t, n, h);
    } else {
        erase_far_children(t, n);
        erase(t, n);
    }
    return block;
}

int trie_open(struct trie *t, struct kv *kv, uint32_t block_tokens, struct arena *a, struct err *e)
{
    struct blocks *b = &t->b;

    if (blocks_open(b, kv, block_tokens, a, e))
        return -1;
    b->self = t;
    b->keep = keep;
    b->give = give;
    t->n_node = b->n_block + (t->host ? b->n_host : 0);
    t->cap_path = min_u32(t->n_node, kv->env.max_len / block_tokens) + 1;
    for (t->mask = 1; t->mask < t->n_node; t->mask = t->mask * 2 + 1)
        ;
    t->node = ARENA_NEW(a, struct trie_node, t->n_node);
    t->ids = ARENA_NEW(a, uint64_t, (size_t)t->n_node * block_tokens);
    t->node_of = ARENA_NEW(a, uint32_t, b->n_block);
    t->bucket = ARENA_NEW(a, uint32_t, t->mask + 1);
    t->want = ARENA_NEW(a, uint64_t, block_tokens);
    t->path = ARENA_NEW(a, uint32_t, t->cap_path);
    if (!t->node || !t->ids || !t->node_of || !t->bucket || !t->want || !t->path)
        return err_set(e, EXIT_RUN_FAILED, "%s: out of memory for %u blocks", kv->ops->name,
                       b->n_block);
    memset(t->bucket, 0xff, (t->mask + 1) * sizeof *t->bucket);
    memset(t->node_of, 0xff, b->n_block * sizeof *t->node_of);
    for (uint32_t i = 0; i < t->n_node; i++)
        t->node[i].chain = i + 1;
    t->oldest = t->newest = TRIE_NONE;
    return 0;
}
