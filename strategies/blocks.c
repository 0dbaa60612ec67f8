#include "strategies/blocks.h"

#include <string.h>

/* Host blocks of a swapped-out request; in r->kv while it has any. */
struct swapped { uint32_t n, *block; };

int blocks_open(struct blocks *b, struct kv *kv, uint32_t block_tokens, struct arena *a, struct err *e)
{
    uint32_t n_host = kv->env.n_host_slot / block_tokens;

    b->block_tokens = block_tokens;
    b->n_block = b->n_free = kv->env.n_slot / block_tokens;
    b->free = ARENA_NEW(a, uint32_t, b->n_block);
    b->ref = ARENA_NEW(a, uint32_t, b->n_block);
    b->owner = ARENA_NEW(a, uint32_t, b->n_block);
    b->host_free = ARENA_NEW(a, uint32_t, n_host);
    if (!b->free || !b->ref || !b->owner || !b->host_free)
        return err_set(e, EXIT_RUN_FAILED, "%s: out of memory for %u blocks", kv->ops->name, b->n_block);
    for (uint32_t i = 0; i < b->n_block; i++)
        b->free[i] = b->n_block - 1 - i;       /* lowest block on top */
    for (b->n_host_free = 0; b->n_host_free < n_host; b->n_host_free++)
        b->host_free[b->n_host_free] = n_host - 1 - b->n_host_free;
    return 0;
}

void blocks_share(struct blocks *b, struct request *r, uint32_t block)
{
    b->ref[block]++;
    if (b->owner[block]++)
        b->shared_tokens += b->block_tokens;
    else
        b->n_used++;
    r->block_tokens = b->block_tokens;
    r->block[r->n_block++] = block * b->block_tokens;
}

void blocks_append(struct blocks *b, struct request *r)
{
    blocks_share(b, r, b->free[--b->n_free]);
}

bool blocks_pop(struct blocks *b, struct request *r, bool keep)
{
    uint32_t block = r->block[--r->n_block] / b->block_tokens;

    if (--b->owner[block])
        b->shared_tokens -= b->block_tokens;
    else
        b->n_used--;
    if (--b->ref[block])
        return false;
    if (!keep)
        blocks_free(b, block);
    return true;
}

void blocks_free(struct blocks *b, uint32_t block) { b->free[b->n_free++] = block; }

int blocks_swap_out(struct blocks *b, struct kv *kv, struct request *r)
{
    uint32_t n = ceil_div_u32(r->n_kv, b->block_tokens);
    struct swapped *s;

    if (!n || n > b->n_host_free)
        return -1;
    s = ARENA_NEW(kv->arena, struct swapped, 1);
    if (!s || !(s->block = ARENA_NEW(kv->arena, uint32_t, n)))
        return -1;
    for (s->n = 0; s->n < n; s->n++) {
        s->block[s->n] = b->host_free[--b->n_host_free];
        if (kv_move_add(&kv->out, r->block[s->n], s->block[s->n] * b->block_tokens,
                        min_u32(b->block_tokens, r->n_kv - s->n * b->block_tokens)))
            return -1;
    }
    while (r->n_block)
        blocks_pop(b, r, false);
    r->kv = s;
    r->n_host = r->n_kv;
    return 0;
}

int blocks_swap_in(struct blocks *b, struct kv *kv, struct request *r, uint32_t n_tok)
{
    uint32_t need = ceil_div_u32(n_tok, b->block_tokens);
    struct swapped *s = r->kv;

    if (need > b->n_free || kv_table_room(kv, r, need))
        return -1;
    while (r->n_block < need)
        blocks_append(b, r);
    for (uint32_t i = 0; i < s->n; i++)
        if (kv_move_add(&kv->in, s->block[i] * b->block_tokens, r->block[i],
                        min_u32(b->block_tokens, r->n_host - i * b->block_tokens)))
            return -1;
    r->n_kv = r->n_host;
    blocks_drop_host(b, r);
    return 0;
}

void blocks_drop_host(struct blocks *b, struct request *r)
{
    struct swapped *s = r->kv;

    for (uint32_t i = 0; r->n_host && i < s->n; i++)
        b->host_free[b->n_host_free++] = s->block[i];
    r->n_host = 0;
    r->kv = NULL;
}

struct kv_count blocks_count(const struct blocks *b)
{
    return (struct kv_count){ .blocks_total = b->n_block, .blocks_used = b->n_used,
                              .slots_held = (uint64_t)b->n_used * b->block_tokens,
                              .shared_tokens = b->shared_tokens };
}
