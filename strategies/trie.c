#include "strategies/trie.h"

/* ---- looking up ---- */

static const uint64_t *wanted(struct trie *t, const struct request *r, uint32_t i, uint32_t n)
{
    const struct kv_env *env = &t->b.kv->env;

    env->identities(env->identities_self, r, i * t->b.block_tokens, n, t->want);
    return t->want;
}

/* Copies are made before what comes from the host arrives. */
static bool is_readable(const struct trie *t, uint32_t n)
{
    return trie_is_near(t, n) && !(t->b.kv->in.n && t->b.busy[t->node[n].place]);
}

/* The child on the device that shares the longest leading run with ids[0..n). */
static void best_run(struct trie *t, uint32_t parent, const uint64_t *ids, uint32_t n)
{
    t->run = 0;
    for (uint32_t c = trie_first(t, parent, ids[0]); c != TRIE_NONE; c = t->node[c].chain) {
        uint32_t most = min_u32(n, t->node[c].fill), run = 0;

        if (t->node[c].parent != parent || !is_readable(t, c))
            continue;
        while (run < most && trie_ids(t, c)[run] == ids[run])
            run++;
        if (run > t->run) {
            t->run = run;
            t->source = c;
        }
    }
}

static uint32_t find(struct trie *t, const struct request *r)
{
    uint32_t bs = t->b.block_tokens, most = req_known(r) - 1, at = TRIE_NONE, next, left;

    t->found_for = NULL;
    t->run = 0;
    for (t->n_path = 0; (t->n_path + 1) * bs <= most && t->n_path < t->cap_path; t->n_path++) {
        next = trie_child(t, at, wanted(t, r, t->n_path, bs));
        if (next == TRIE_NONE)
            break;
        t->path[t->n_path] = at = next;
    }
    left = min_u32(bs, most - t->n_path * bs);
    if (t->partial && left)
        best_run(t, at, wanted(t, r, t->n_path, left), left);
    return t->n_path * bs + t->run;
}

uint32_t trie_peek(struct kv *kv, const struct request *r) { return find(kv->self, r); }

void trie_attach(struct kv *kv, struct request *r)
{
    struct trie *t = kv->self;

    r->n_kv = find(t, r);
    t->found_for = r;
}

/* ---- room ---- */

static bool is_idle(const struct trie *t, uint32_t n)
{
    return blocks_idle(&t->b, t->node[n].place);
}

/* Free blocks that it takes to admit r: fresh ones, and cached ones out of the free lists. */
static uint64_t price(const struct trie *t, uint32_t need)
{
    uint32_t near = 0, idle = 0;

    for (; near < t->n_path && trie_is_near(t, t->path[near]); near++)
        idle += is_idle(t, t->path[near]);
    return (uint64_t)need - near + idle + (t->run && is_idle(t, t->source));
}

/* Takes the path's device blocks, and keeps what takes part in moves from being given up. Returns how many
 * of them there are. There is room for the pins. */
static uint32_t share(struct trie *t, struct request *r)
{
    uint32_t near = 0;

    for (; near < t->n_path && trie_is_near(t, t->path[near]); near++)
        blocks_share(&t->b, r, t->node[t->path[near]].place);
    if (t->run || near < t->n_path)
        for (uint32_t i = 0; i < near; i++)
            blocks_pin(&t->b, t->node[t->path[i]].place);
    for (uint32_t i = near; i < t->n_path; i++)
        t->node[t->path[i]].epoch = t->epoch;
    if (t->run)
        blocks_pin(&t->b, t->node[t->source].place);
    return near;
}

/* Brings a node back from the host into a fresh block of r. */
static void bring(struct trie *t, struct request *r, uint32_t n)
{
    uint32_t host = t->node[n].place - t->b.n_block;

    blocks_append(&t->b, r);
    blocks_fetch(&t->b, host, blocks_number(&t->b, r, r->n_block - 1), t->b.block_tokens);
    trie_come_near(t, n, blocks_number(&t->b, r, r->n_block - 1));
}

static int admit(struct trie *t, struct request *r, uint32_t need)
{
    if (t->run && price(t, need) > t->b.n_free) {      /* a copy holds its source: go without */
        r->n_kv -= t->run;
        t->run = 0;
    }
    if (price(t, need) > t->b.n_free || blocks_ready(&t->b, r, need) ||
        blocks_moves_room(&t->b, 2 * t->n_path + 2, 1, t->n_path))
        return -1;
    for (uint32_t near = share(t, r); near < t->n_path; near++)
        bring(t, r, t->path[near]);
    if (t->run) {
        blocks_append(&t->b, r);
        blocks_copy(&t->b, t->node[t->source].place, blocks_number(&t->b, r, t->n_path), t->run);
    }
    ((struct hold *)r->kv)->n_reg = t->n_path;
    t->b.hit_tokens += r->n_kv;
    return 0;
}

static void settle(struct trie *t)
{
    t->epoch += !t->b.kv->out.n;
    blocks_settle(&t->b);
}

int trie_grow(struct kv *kv, struct request *r, uint32_t n_tok)
{
    struct trie *t = kv->self;
    bool hit = !r->n_block && t->found_for == r && r->n_kv;

    t->found_for = NULL;
    settle(t);
    if (hit && admit(t, r, ceil_div_u32(max_u32(n_tok, r->n_kv), t->b.block_tokens)))
        return -1;
    return blocks_grow(&t->b, r, n_tok);
}

/* ---- after a step, and at the end ---- */

/* Whoever is urgent keeps its whole path longer. */
static void raise(struct trie *t, const struct request *r, uint32_t n)
{
    uint8_t rank = (uint8_t)(r->priority >= N_RANK ? N_RANK - 1 : r->priority);

    for (uint32_t i = 0; i < n; i++)
        if (t->b.rank[blocks_number(&t->b, r, i)] < rank)
            t->b.rank[blocks_number(&t->b, r, i)] = rank;
}

/* r's block i is full: it becomes a node, or gives way to the node that is there. */
static uint32_t enter(struct trie *t, struct request *r, uint32_t i, uint32_t parent)
{
    uint32_t block = blocks_number(&t->b, r, i), n = t->node_of[block];

    if (n != TRIE_NONE)
        return n;
    n = trie_child(t, parent, wanted(t, r, i, t->b.block_tokens));
    if (n == TRIE_NONE)
        n = trie_add(t, parent, block, t->want, t->b.block_tokens);
    else if (trie_is_near(t, n))
        blocks_replace(&t->b, r, i, t->node[n].place);
    else
        trie_come_near(t, n, block);
    return n;
}

static void insert(struct trie *t, struct request *r, uint32_t n_tok)
{
    struct hold *h = r->kv;
    uint32_t n = n_tok / t->b.block_tokens, old = h->n_reg;
    uint32_t at = old ? t->node_of[blocks_number(&t->b, r, old - 1)] : TRIE_NONE;

    for (; h->n_reg < n; h->n_reg++)
        at = enter(t, r, h->n_reg, at);
    if (t->ranked && r->priority > 0 && h->n_reg > old)
        raise(t, r, h->n_reg);
    n_tok -= h->n_reg * t->b.block_tokens;
    if (t->tails && n_tok && h->n_reg == n && t->node_of[blocks_number(&t->b, r, n)] == TRIE_NONE)
        trie_add(t, at, blocks_number(&t->b, r, n), wanted(t, r, n, n_tok), n_tok);
}

void trie_seal(struct kv *kv, struct request *r)
{
    struct trie *t = kv->self;
    struct hold *h = r->kv;
    uint32_t n = min_u32(r->n_kv, r->n_prompt);

    settle(t);
    h->n_valid = r->n_kv;
    if (!t->at_end && (!t->tails || n == r->n_prompt || n / t->b.block_tokens > h->n_reg))
        insert(t, r, t->tails && n < r->n_prompt ? n - n % t->b.block_tokens : n);
}

void trie_drop(struct kv *kv, struct request *r)
{
    struct trie *t = kv->self;
    struct hold *h = r->kv;
    uint32_t n = h ? t->generated ? h->n_valid : min_u32(h->n_valid, r->n_prompt) : 0;

    settle(t);
    if (t->cache && n / t->b.block_tokens > h->n_reg)
        insert(t, r, n);
    blocks_drop(&t->b, r);
}
