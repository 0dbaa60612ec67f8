/* dst_trace.c - small workloads of every shape: bursts, equal times, one-token prompts, shared
 * prefixes, sessions that grow, tenants, priorities, requests that are too long. */
#include <math.h>
#include <string.h>

#include "harness/dst.h"

enum arrivals { AT_ONCE, EVENLY, AT_RANDOM, IN_BURSTS, ARRIVALS_N };
enum lengths { LEN_ONE, LEN_SHORT, LEN_ANY, LEN_LONG, LEN_MIX, LEN_N };
enum sharing { SHARE_NONE, SHARE_TREE, SHARE_SESSION, SHARE_GROUP, SHARE_ALL, SHARE_N };

struct shape {
    enum arrivals arrivals;
    enum lengths prompt, out;
    enum sharing sharing;
    uint64_t gap_us, burst, families;
    uint32_t max_prompt, max_out;
    bool tenants, priorities;
};

static const char *const letters[] = { "a", "b", "c", "d", "e", "f", "g", "h" };

static uint64_t below_log(struct rng *r, uint64_t most)     /* 1 .. most */
{
    return (uint64_t)exp(rng_unit(r) * log((double)most + 0.99));
}

static uint32_t draw_length(enum lengths kind, uint32_t most, struct rng *r)
{
    if (kind == LEN_MIX)
        kind = (enum lengths)rng_below(r, LEN_MIX);
    if (kind == LEN_ONE)
        return 1;
    if (kind == LEN_SHORT)
        return 1 + (uint32_t)rng_below(r, most < 8 ? most : 8);
    return kind == LEN_LONG ? most - (uint32_t)rng_below(r, most / 2 + 1)
                            : 1 + (uint32_t)rng_below(r, most);
}

static struct shape draw_shape(uint32_t max_len, struct rng *r)
{
    struct shape s = {
        .arrivals = (enum arrivals)rng_below(r, ARRIVALS_N),
        .prompt = (enum lengths)rng_below(r, LEN_N),
        .out = (enum lengths)rng_below(r, LEN_N),
        .sharing = (enum sharing)rng_below(r, SHARE_N),
        .gap_us = below_log(r, 50000),
        .burst = 1 + below_log(r, 12),
        .families = 1 + rng_below(r, 4),
        .tenants = !rng_below(r, 3),
        .priorities = !rng_below(r, 3),
    };

    s.max_out = 1 + (uint32_t)rng_below(r, max_len / 2);
    s.max_prompt = max_len - s.max_out + (rng_below(r, 6) ? 0 : 8);    /* some are refused */
    return s;
}

static uint64_t next_gap(const struct shape *s, uint32_t i, struct rng *r)
{
    if (s->arrivals == AT_ONCE)
        return 0;
    if (s->arrivals == EVENLY)
        return s->gap_us;
    if (s->arrivals == AT_RANDOM)
        return (uint64_t)(-log(1 - rng_unit(r)) * (double)s->gap_us);
    return i % s->burst ? 0 : s->gap_us * s->burst;
}

static struct trace_more *more_of(struct trace *t, struct trace_req *q)
{
    if (!q->more)
        q->more = ARENA_NEW(&t->arena, struct trace_more, 1);
    return (struct trace_more *)(uintptr_t)q->more;
}

/* Blocks below `common` belong to the family, the others to the request. */
static void put_blocks(struct trace *t, uint32_t i, uint64_t family, uint32_t common)
{
    struct trace_req *q = &t->req[i];
    uint32_t n = (q->n_prompt + t->block_tokens - 1) / t->block_tokens;
    uint64_t *block = ARENA_NEW(&t->arena, uint64_t, n);

    for (uint32_t b = 0; block && b < n; b++)
        block[b] = b < common ? hash64(family, b) : hash64(1000 + i, b);
    q->n_block = block ? n : 0;
    q->block = block;
}

/* A later turn holds the earlier one's prompt, room for its answer, and something new. */
static void put_turn(struct trace *t, uint32_t i, uint64_t family, uint32_t max_prompt,
                     struct rng *r)
{
    struct trace_req *q = &t->req[i];
    struct trace_more *m = more_of(t, q);

    for (uint32_t k = i; m && k-- > 0;)
        if (t->req[k].more && t->req[k].more->session == letters[family]) {
            uint32_t n = t->req[k].n_prompt + t->req[k].n_out + (uint32_t)rng_below(r, 16);

            m->turn = t->req[k].more->turn + 1;
            q->n_prompt = n < max_prompt ? n : max_prompt;
            break;
        }
    if (m)
        m->session = letters[family];
    put_blocks(t, i, family, UINT32_MAX);
}

static void share(struct trace *t, const struct shape *s, uint32_t i, struct rng *r)
{
    uint64_t family = rng_below(r, s->families);
    struct trace_req *q = &t->req[i];

    if (s->sharing == SHARE_TREE)
        put_blocks(t, i, family, (uint32_t)rng_below(r, q->n_prompt / t->block_tokens + 2));
    if (s->sharing == SHARE_SESSION)
        put_turn(t, i, family, s->max_prompt, r);
    if (s->sharing == SHARE_ALL) { /* many equal prompts: their last block is shared in part */
        if (i && rng_below(r, 3))
            q->n_prompt = t->req[i - 1].n_prompt;
        put_blocks(t, i, family, UINT32_MAX);
    }
    if (s->sharing == SHARE_GROUP && more_of(t, q)) {
        more_of(t, q)->prefix_group = letters[family];
        more_of(t, q)->prefix_tokens = (uint32_t)rng_below(r, q->n_prompt + 1);
    }
    if (s->tenants && more_of(t, q))
        more_of(t, q)->tenant = letters[rng_below(r, 3)];
    if (s->priorities && more_of(t, q))
        more_of(t, q)->priority = (int32_t)rng_below(r, 4) - 1;
}

void dst_draw_trace(struct trace *t, uint32_t max_len, struct rng *r)
{
    struct shape s = draw_shape(max_len, r);
    uint64_t now = 0;

    memset(t, 0, sizeof *t);
    t->block_tokens =
        s.sharing == SHARE_NONE || s.sharing == SHARE_GROUP ? 0 : 1u << rng_below(r, 6);
    t->block_tail_partial = true;
    t->n = (uint32_t)below_log(r, 40);
    t->req = ARENA_NEW(&t->arena, struct trace_req, t->n);
    for (uint32_t i = 0; t->req && i < t->n; i++) {
        now += i ? next_gap(&s, i, r) : 0;
        t->req[i].arrive_us = (int64_t)now;
        t->req[i].n_prompt = draw_length(s.prompt, s.max_prompt, r);
        t->req[i].n_out = draw_length(s.out, s.max_out, r);
        share(t, &s, i, r);
    }
}
