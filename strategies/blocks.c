#include "strategies/blocks.h"

#include <string.h>

/* ---- free lists ---- */

static void join(struct blocks *b, uint32_t block, uint32_t after)
{
    b->prev[block] = after;
    b->next[block] = b->next[after];
    b->prev[b->next[after]] = block;
    b->next[after] = block;
    b->n_free++;
}

static void unlink_free(struct blocks *b, uint32_t block)
{
    b->next[b->prev[block]] = b->next[block];
    b->prev[b->next[block]] = b->prev[block];
    b->n_free--;
}

static void release(struct blocks *b, uint32_t block)
{
    uint32_t list = b->n_block;

    if (!blocks_idle(b, block))
        return;
    if (!b->keep || !b->keep(b->self, block))
        join(b, block, list);
    else
        join(b, block, b->prev[list + b->rank[block]]);
}

static uint32_t take(struct blocks *b)
{
    uint32_t list = b->n_block, block;

    while (b->next[list] == list)
        list++;
    block = b->give ? b->give(b->self, b->next[list]) : b->next[list];
    unlink_free(b, block);
    b->rank[block] = 0;
    return block;
}

int blocks_open(struct blocks *b, struct kv *kv, uint32_t block_tokens, struct arena *a,
                struct err *e)
{
    uint32_t n = kv->env.n_slot / block_tokens;

    b->kv = kv;
    b->block_tokens = block_tokens;
    b->n_block = n;
    b->n_host = kv->env.n_host_slot / block_tokens;
    b->owner = ARENA_NEW(a, uint32_t, n);
    b->busy = ARENA_NEW(a, uint32_t, n);
    b->rank = ARENA_NEW(a, uint8_t, n);
    b->next = ARENA_NEW(a, uint32_t, n + N_RANK);
    b->prev = ARENA_NEW(a, uint32_t, n + N_RANK);
    b->host_free = ARENA_NEW(a, uint32_t, b->n_host);
    b->host_wait = ARENA_NEW(a, uint32_t, b->n_host);
    if (!b->owner || !b->busy || !b->rank || !b->next || !b->prev || !b->host_free || !b->host_wait)
        return err_set(e, EXIT_RUN_FAILED, "%s: out of memory for %u blocks", kv->ops->name, n);
    for (uint32_t i = n; i < n + N_RANK; i++)
        b->next[i] = b->prev[i] = i;
    for (uint32_t i = n; i-- > 0;)
        join(b, i, n);                         /* lowest block first */
    for (; b->n_host_free < b->n_host; b->n_host_free++)
        b->host_free[b->n_host_free] = b->n_host - 1 - b->n_host_free;
    return 0;
}

const char *blocks_refuse(const struct blocks *b, uint32_t n_tok)
{
    return ceil_div_u32(n_tok, b->block_tokens) <= b->n_block ? NULL
           : "needs more KV blocks than exist";
}

/* ---- tables ---- */

void blocks_share(struct blocks *b, struct request *r, uint32_t block)
{
    if (blocks_idle(b, block))
        unlink_free(b, block);
    if (b->owner[block]++)
        b->shared_tokens += b->block_tokens;
    else
        b->n_used++;
    r->block_tokens = b->block_tokens;
    r->block[r->n_block++] = block * b->block_tokens;
}

void blocks_append(struct blocks *b, struct request *r)
{
    uint32_t block = take(b);

    b->owner[block] = 1;
    b->n_used++;
    r->block_tokens = b->block_tokens;
    r->block[r->n_block++] = block * b->block_tokens;
}

static void disown(struct blocks *b, uint32_t block)
{
    if (--b->owner[block])
        b->shared_tokens -= b->block_tokens;
    else
        b->n_used--;
    release(b, block);
}

void blocks_pop(struct blocks *b, struct request *r)
{
    disown(b, r->block[--r->n_block] / b->block_tokens);
}

void blocks_replace(struct blocks *b, struct request *r, uint32_t i, uint32_t block)
{
    uint32_t own = blocks_number(b, r, i), n = r->n_block;

    r->n_block = i;
    blocks_share(b, r, block);
    r->n_block = n;
    disown(b, own);
}

int blocks_ready(struct blocks *b, struct request *r, uint32_t n)
{
    struct hold *h;

    if (kv_table_room(b->kv, r, r->n_block + n))
        return -1;
    if (r->kv)
        return 0;
    h = b->unused;
    if (!h && !(h = ARENA_NEW(b->kv->arena, struct hold, 1)))
        return -1;
    b->unused = h->next;
    r->kv = h;
    return 0;
}

/* An empty hold goes back; it keeps its list of host blocks for the next one. */
static void unhold(struct blocks *b, struct request *r)
{
    struct hold *h = r->kv;

    *h = (struct hold){ .next = b->unused, .host = h->host, .cap_host = h->cap_host };
    b->unused = h;
    r->kv = NULL;
}

void blocks_drop(struct blocks *b, struct request *r)
{
    struct hold *h = r->kv;

    blocks_settle(b);
    while (r->n_block)
        blocks_pop(b, r);
    if (!h)
        return;
    while (h->n_host)
        blocks_host_give(b, h->host[--h->n_host]);
    r->n_host = 0;
    unhold(b, r);
}

int blocks_grow(struct blocks *b, struct request *r, uint32_t n_tok)
{
    uint32_t need = ceil_div_u32(n_tok, b->block_tokens);

    blocks_settle(b);
    if (need <= r->n_block)
        return 0;
    if (need - r->n_block > b->n_free || blocks_ready(b, r, need - r->n_block))
        return -1;
    while (r->n_block < need)
        blocks_append(b, r);
    return 0;
}

/* ---- moves ---- */

int blocks_moves_room(struct blocks *b, uint32_t n, uint32_t n_copy, uint32_t n_fetch)
{
    uint32_t cap = b->cap_pending ? b->cap_pending : 64;
    uint32_t *p;

    if (kv_move_room(&b->kv->copy, n_copy) || kv_move_room(&b->kv->in, n_fetch))
        return -1;
    if (b->n_pending + n <= b->cap_pending)
        return 0;
    while (cap < b->n_pending + n)
        cap *= 2;
    if (!(p = ARENA_NEW(b->kv->arena, uint32_t, cap)))
        return -1;
    if (b->n_pending)
        memcpy(p, b->pending, b->n_pending * sizeof *p);
    b->pending = p;
    b->cap_pending = cap;
    return 0;
}

int blocks_pin(struct blocks *b, uint32_t block)
{
    if (blocks_moves_room(b, 1, 0, 0))
        return -1;
    if (blocks_idle(b, block))
        unlink_free(b, block);
    b->busy[block]++;
    b->pending[b->n_pending++] = block;
    return 0;
}

void blocks_settle(struct blocks *b)
{
    if (!b->kv->copy.n && !b->kv->in.n)
        while (b->n_pending) {
            uint32_t block = b->pending[--b->n_pending];

            b->busy[block]--;
            release(b, block);
        }
    if (!b->kv->out.n && !b->kv->in.n)
        while (b->n_host_wait)
            b->host_free[b->n_host_free++] = b->host_wait[--b->n_host_wait];
}

int blocks_copy(struct blocks *b, uint32_t from, uint32_t to, uint32_t n)
{
    if (blocks_moves_room(b, 1, 1, 0) || blocks_pin(b, to))
        return -1;
    return kv_move_add(&b->kv->copy, from * b->block_tokens, to * b->block_tokens, n);
}

int blocks_fetch(struct blocks *b, uint32_t host, uint32_t to, uint32_t n)
{
    if (blocks_moves_room(b, 1, 0, 1) || blocks_pin(b, to))
        return -1;
    return kv_move_add(&b->kv->in, host * b->block_tokens, to * b->block_tokens, n);
}

uint32_t blocks_host_take(struct blocks *b)
{
    return b->n_host_free ? b->host_free[--b->n_host_free] : UINT32_MAX;
}

void blocks_host_give(struct blocks *b, uint32_t host) { b->host_wait[b->n_host_wait++] = host; }

static int host_room(struct blocks *b, struct hold *h, uint32_t n)
{
    if (n <= h->cap_host)
        return 0;
    h->host = ARENA_NEW(b->kv->arena, uint32_t, 2 * n);
    h->cap_host = h->host ? 2 * n : 0;
    return h->host ? 0 : -1;
}

int blocks_swap_out(struct blocks *b, struct request *r)
{
    uint32_t n = ceil_div_u32(r->n_kv, b->block_tokens);
    struct hold *h = r->kv;

    blocks_settle(b);
    if (!n || n > b->n_host_free || host_room(b, h, n))
        return -1;
    for (uint32_t i = 0; i < n; i++)
        if (b->busy[blocks_number(b, r, i)])
            return -1;                         /* what it would take out is not there yet */
    if (kv_move_room(&b->kv->out, n))
        return -1;
    for (uint32_t i = 0; i < n; i++) {
        h->host[h->n_host++] = blocks_host_take(b);
        kv_move_add(&b->kv->out, r->block[i], h->host[i] * b->block_tokens,
                    min_u32(b->block_tokens, r->n_kv - i * b->block_tokens));
    }
    while (r->n_block)
        blocks_pop(b, r);
    r->n_host = r->n_kv;
    h->n_reg = h->n_valid = 0;
    h->hash = 0;
    return 0;
}

int blocks_swap_in(struct blocks *b, struct request *r, uint32_t n_tok)
{
    struct hold *h = r->kv;

    if (blocks_moves_room(b, h->n_host, 0, h->n_host) ||
        blocks_grow(b, r, max_u32(n_tok, r->n_host)))
        return -1;
    for (uint32_t i = 0; i < h->n_host; i++)
        blocks_fetch(b, h->host[i], blocks_number(b, r, i),
                     min_u32(b->block_tokens, r->n_host - i * b->block_tokens));
    while (h->n_host)
        blocks_host_give(b, h->host[--h->n_host]);
    r->n_kv = r->n_host;
    r->n_host = 0;
    return 0;
}

/* ---- for the managers' tables ---- */

const char *blocks_kv_refuse(struct kv *kv, const struct request *r, uint32_t n_tok)
{
    (void)r;
    return blocks_refuse(kv->self, n_tok);
}

void blocks_kv_drop(struct kv *kv, struct request *r) { blocks_drop(kv->self, r); }
int blocks_kv_swap_out(struct kv *kv, struct request *r) { return blocks_swap_out(kv->self, r); }

int blocks_kv_swap_in(struct kv *kv, struct request *r, uint32_t n_tok)
{
    return blocks_swap_in(kv->self, r, n_tok);
}

struct kv_count blocks_kv_count(const struct kv *kv)
{
    const struct blocks *b = kv->self;

    return (struct kv_count){ .blocks_total = b->n_block, .blocks_used = b->n_used,
                              .slots_held = (uint64_t)b->n_used * b->block_tokens,
                              .shared_tokens = b->shared_tokens, .hit_tokens = b->hit_tokens,
                              .evicted_blocks = b->evicted };
}
