/* prefix.c - paged blocks that stay findable after their request has gone: a cache of full
 * blocks by chained hash, H_i = hash(H_i-1, the tokens of block i), as vLLM v1 (engines.md
 * 1.1).
 *
 * Eviction is lazy: free blocks stand in one list, hashed or not; a block keeps its hash until
 * it is handed out from the head. A request's blocks join the tail in reverse order, so the
 * deepest dies first. A hit takes the block out of the list in O(1). At least the last known
 * token is computed again, and as hits are whole blocks, that is the whole last block. Equal
 * blocks are not merged: one hash, several blocks. A hit on a free block uses up room like a
 * fresh one.
 * Difference: vLLM knows a block from the moment it is scheduled, so that a request of the same
 * step can share it; here from the end of that step (seal), as a step's rows do not see each
 * other's K and V.
 * What must stay true: a hashed block holds K and V of exactly the tokens of its chain. */
#include "strategies/blocks.h"

#define NONE UINT32_MAX

struct state {
    struct blocks b;
    bool generated;
    uint64_t *hash;                    /* [n_block] of the chain that ends in it */
    bool *hashed;                      /* [n_block] */
    uint32_t *bucket, *chain, mask;    /* hash -> blocks; chain: [n_block] of a bucket */
    uint64_t *ids;                     /* [block_tokens] scratch */
    const struct request *found_for;   /* attach's result, for the grow that follows */
    uint32_t *found, n_found, cap_found;
    uint64_t found_hash;
    /* chain hashes of the request asked about last: a blocked head of a queue asks at every step */
    uint32_t memo_id, n_memo, cap_memo;
    uint64_t *memo;
};

static const struct knob knobs[] = {
    { "block", NULL, 16, 1, 1024, "tokens per block" },
    { "generated", "off|on", 1, 0, 0, "cache also what requests produced" },
    { 0 },
};

/* ---- the map ---- */

static uint32_t *bucket_of(struct state *y, uint64_t hash)
{
    return &y->bucket[mix64(hash) & y->mask];
}

static uint32_t lookup(struct state *y, uint64_t hash)
{
    uint32_t block = *bucket_of(y, hash);

    while (block != NONE && y->hash[block] != hash)
        block = y->chain[block];
    return block;
}

static void enter(struct state *y, uint32_t block, uint64_t hash)
{
    uint32_t *head = bucket_of(y, hash);

    y->hash[block] = hash;
    y->hashed[block] = true;
    y->chain[block] = *head;
    *head = block;
}

static void forget(struct state *y, uint32_t block)
{
    uint32_t *at = bucket_of(y, y->hash[block]);

    while (*at != block)
        at = &y->chain[*at];
    *at = y->chain[block];
    y->hashed[block] = false;
}

/* Everything freed joins the tail; what is handed out loses its hash. */
static bool keep(void *self, uint32_t block)
{
    (void)self;
    (void)block;
    return true;
}

static uint32_t give(void *self, uint32_t head)
{
    struct state *y = self;

    if (y->hashed[head]) {
        forget(y, head);
        y->b.evicted++;
    }
    return head;
}

static int open(struct kv *kv, struct arena *a, struct err *e)
{
    struct state *y = kv->self;
    uint32_t block = (uint32_t)params_int(&kv->env.params, "block");

    y->generated = params_int(&kv->env.params, "generated");
    if (blocks_open(&y->b, kv, block, a, e))
        return -1;
    y->b.self = y;
    y->b.keep = keep;
    y->b.give = give;
    for (y->mask = 1; y->mask < y->b.n_block; y->mask = y->mask * 2 + 1)
        ;
    y->cap_found = y->b.n_block;
    y->cap_memo = kv->env.max_len / block + 1;
    y->hash = ARENA_NEW(a, uint64_t, y->b.n_block);
    y->hashed = ARENA_NEW(a, bool, y->b.n_block);
    y->chain = ARENA_NEW(a, uint32_t, y->b.n_block);
    y->bucket = ARENA_NEW(a, uint32_t, y->mask + 1);
    y->ids = ARENA_NEW(a, uint64_t, block);
    y->found = ARENA_NEW(a, uint32_t, y->cap_found);
    y->memo = ARENA_NEW(a, uint64_t, y->cap_memo);
    if (!y->hash || !y->hashed || !y->chain || !y->bucket || !y->ids || !y->found || !y->memo)
        return err_set(e, EXIT_RUN_FAILED, "prefix: out of memory for %u blocks", y->b.n_block);
    for (uint32_t i = 0; i <= y->mask; i++)
        y->bucket[i] = NONE;
    y->memo_id = NONE;
    return 0;
}

/* ---- looking up ---- */

/* The chain hash of r's block i, given the one before. */
static uint64_t chain_hash(const struct kv *kv, const struct request *r, uint32_t i,
                           uint64_t before)
{
    const struct state *y = kv->self;
    uint32_t n = y->b.block_tokens;
    uint64_t h = hash64(0x70726566, before);

    kv->env.identities(kv->env.identities_self, r, i * n, n, y->ids);
    for (uint32_t k = 0; k < n; k++)
        h = hash64(h, y->ids[k]);
    return h;
}

/* The same for a request that waits: its prompt's hashes are remembered until another one asks. */
static uint64_t asked_hash(const struct kv *kv, const struct request *r, uint32_t i,
                           uint64_t before)
{
    struct state *y = kv->self;

    if (y->memo_id != r->id) {
        y->memo_id = r->id;
        y->n_memo = 0;
    }
    if (i < y->n_memo)
        return y->memo[i];
    before = chain_hash(kv, r, i, before);
    if (i == y->n_memo && i < y->cap_memo && (i + 1) * y->b.block_tokens <= r->n_prompt)
        y->memo[y->n_memo++] = before;
    return before;
}

/* Longest cached run of full blocks, at most known - 1 tokens; they stand in y->found. */
static uint32_t find(const struct kv *kv, const struct request *r)
{
    struct state *y = kv->self;
    uint32_t most = min_u32((req_known(r) - 1) / y->b.block_tokens, y->cap_found);
    uint64_t h = 0;

    y->found_for = NULL;
    y->found_hash = 0;
    for (y->n_found = 0; y->n_found < most; y->n_found++) {
        h = asked_hash(kv, r, y->n_found, h);
        y->found[y->n_found] = lookup(y, h);
        if (y->found[y->n_found] == NONE)
            break;
        y->found_hash = h;
    }
    return y->n_found * y->b.block_tokens;
}

static uint32_t peek(struct kv *kv, const struct request *r) { return find(kv, r); }

/* The sharing itself waits for grow, so that an admission that fails leaves no trace. */
static void attach(struct kv *kv, struct request *r)
{
    struct state *y = kv->self;

    r->n_kv = find(kv, r);
    y->found_for = r;
}

static int share(struct state *y, struct request *r, uint32_t need)
{
    uint32_t idle = 0;
    struct hold *h;

    for (uint32_t i = 0; i < y->n_found; i++)
        idle += blocks_idle(&y->b, y->found[i]);
    if (need - y->n_found + idle > y->b.n_free || blocks_ready(&y->b, r, need))
        return -1;
    for (uint32_t i = 0; i < y->n_found; i++)
        blocks_share(&y->b, r, y->found[i]);
    h = r->kv;
    h->n_reg = y->n_found;
    h->hash = y->found_hash;
    y->b.hit_tokens += (uint64_t)y->n_found * y->b.block_tokens;
    return 0;
}

static int grow(struct kv *kv, struct request *r, uint32_t n_tok)
{
    struct state *y = kv->self;
    bool hit = !r->n_block && y->found_for == r && y->n_found;
    uint32_t need = max_u32(ceil_div_u32(n_tok, y->b.block_tokens), hit ? y->n_found : 0);

    y->found_for = NULL;
    blocks_settle(&y->b);
    if (hit && share(y, r, need))
        return -1;
    return blocks_grow(&y->b, r, n_tok);
}

/* ---- after a step ---- */

static void seal(struct kv *kv, struct request *r)
{
    struct state *y = kv->self;
    struct hold *h = r->kv;
    uint32_t n = (y->generated ? r->n_kv : min_u32(r->n_kv, r->n_prompt)) / y->b.block_tokens;

    for (; h->n_reg < n; h->n_reg++) {
        uint32_t block = blocks_number(&y->b, r, h->n_reg);

        h->hash = chain_hash(kv, r, h->n_reg, h->hash);
        if (!y->hashed[block])
            enter(y, block, h->hash);
    }
}

const struct kv_ops kv_prefix = {
    .name = "prefix",
    .about = "paged with a cache of full blocks by chained hash, lazy LRU (vLLM v1)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .refuse = blocks_kv_refuse, .attach = attach, .peek = peek, .grow = grow, .seal = seal,
    .drop = blocks_kv_drop, .swap_out = blocks_kv_swap_out, .swap_in = blocks_kv_swap_in,
    .count = blocks_kv_count,
};
