#include "harness/made_batch.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/num.h"

/* The arrays of a batch while they are written; all lie in one piece of memory. */
struct arrays { uint32_t *tok, *pos, *slot, *row, *kv_len, *block_tokens, *seq_start, *table_start, *table; };

static uint32_t held(const struct made_conf *c, uint32_t s)
{
    return c->lens ? c->lens[s] : c->prefix;
}

static uint32_t n_block(const struct made_conf *c, uint32_t s)
{
    return ceil_div_u32(held(c, s) + c->rows, c->block);
}

/* The k-th block of sequence s; `used` blocks are handed out already, `all` make up the pool. */
static uint32_t place(const struct made_conf *c, uint32_t s, uint32_t k, uint32_t used, uint32_t all)
{
    uint32_t step = all / 2 | 1;

    if (c->own)
        return (c->first + s) * c->own + k * c->block;
    while (all > 2 && all % step == 0)
        step += 2;
    return (uint32_t)((uint64_t)used * step % all) * c->block;
}

static bool fits(const struct made_conf *c, uint32_t n_slot)
{
    uint64_t blocks = 0;

    for (uint32_t s = 0; s < c->n_seq; s++) {
        blocks += n_block(c, s);
        if (c->own && n_block(c, s) * (uint64_t)c->block > c->own)
            return false;
    }
    return c->own ? (uint64_t)(c->first + c->n_seq) * c->own <= n_slot : blocks <= n_slot / c->block;
}

static int arrays_get(struct arrays *a, struct made_batch *x, uint32_t n_tok, uint32_t n_seq, uint32_t n_table)
{
    uint32_t *at = calloc(4 * (size_t)n_tok + 4 * (size_t)n_seq + 2 + n_table, sizeof *at);

    x->mem = at;
    if (!at)
        return -1;
    a->tok = at, at += n_tok;
    a->pos = at, at += n_tok;
    a->slot = at, at += n_tok;
    a->row = at, at += n_tok;
    a->kv_len = at, at += n_seq;
    a->block_tokens = at, at += n_seq;
    a->seq_start = at, at += n_seq + 1;
    a->table_start = at, at += n_seq + 1;
    a->table = at;
    return 0;
}

/* Sequence s: its length, its blocks. */
static void lay_out(struct made_batch *x, const struct arrays *a, const struct made_conf *c, uint32_t s, uint32_t all)
{
    uint32_t used = a->table_start[s];

    a->kv_len[s] = held(c, s) + c->rows;
    a->block_tokens[s] = c->block;
    for (uint32_t k = 0; k < n_block(c, s); k++, used++)
        a->table[used] = place(c, s, k, used, all);
    a->table_start[s + 1] = x->b.n_table = used;
    a->seq_start[s + 1] = (s + 1) * c->rows;
}

static void fill(struct made_batch *x, const struct arrays *a, const struct made_conf *c, uint32_t s)
{
    for (uint32_t i = 0, t = s * c->rows; i < c->rows; i++, t++) {
        a->pos[t] = held(c, s) + i;
        a->slot[t] = batch_slot(&x->b, s, a->pos[t]);
        if (!c->tok)
            a->tok[t] = (uint32_t)(hash64(c->first + s, a->pos[t]) % c->vocab);
        if (i + c->n_yield >= c->rows)
            a->row[x->b.n_row++] = t;
    }
}

int made_batch(struct made_batch *x, const struct made_conf *c, uint32_t n_slot, struct err *e)
{
    uint32_t n_table = 0;
    struct arrays a;

    x->mem = NULL;
    if (!fits(c, n_slot))
        return err_set(e, EXIT_RUN_FAILED, "a batch of %u sequences needs more than the %u tokens of the pool",
                       c->n_seq, n_slot);
    for (uint32_t s = 0; s < c->n_seq; s++)
        n_table += n_block(c, s);
    if (arrays_get(&a, x, c->n_seq * c->rows, c->n_seq, n_table))
        return err_set(e, EXIT_RUN_FAILED, "out of memory for a batch of %u sequences", c->n_seq);
    x->b = (struct batch){ .n_tok = c->n_seq * c->rows, .n_seq = c->n_seq, .tok = c->tok ? c->tok : a.tok, .pos = a.pos,
                           .slot = a.slot, .seq_start = a.seq_start, .kv_len = a.kv_len, .block_tokens = a.block_tokens,
                           .table_start = a.table_start, .table = a.table, .row = a.row };
    for (uint32_t s = 0; s < c->n_seq; s++) {
        lay_out(x, &a, c, s, n_slot / c->block);
        fill(x, &a, c, s);
    }
    return 0;
}

void made_batch_free(struct made_batch *x)
{
    free(x->mem);
    x->mem = NULL;
}
