/* dst_draw.c - a seed becomes a case: strategy with knobs, memory, limits, faults, workload. */
#include <stdio.h>
#include <string.h>

#include "harness/draw.h"
#include "harness/dst.h"

static const struct sched_ops *draw_sched(struct rng *r, const char *only)
{
    size_t n = 0;

    for (; sched_registry[n]; n++)
        if (only && !strcmp(sched_registry[n]->name, only))
            return sched_registry[n];
    return sched_registry[rng_below(r, n)];
}

static const struct kv_ops *draw_kv(struct rng *r, const char *only)
{
    size_t n = 0;

    for (; kv_registry[n]; n++)
        if (only && !strcmp(kv_registry[n]->name, only))
            return kv_registry[n];
    return kv_registry[rng_below(r, n)];
}

/* Every third case swaps where its scheduler can: else shortages, host memory and that knob seldom
 * meet. */
static void prefer_swap(const struct knob *k, char *text, size_t n)
{
    size_t used = strlen(text);
    char word[40];

    for (; k && k->name; k++) {
        snprintf(word, sizeof word, ":%s=", k->name);
        if (k->words && strstr(k->words, "|swap") && !strstr(text, word) && used + 24 < n)
            snprintf(text + used, n - used, "%sswap", word);
    }
}

/* Knobs that make the name too long to be stored are drawn again. */
static int draw_strategy(struct dst_case *c, const char *only, struct rng *r, struct err *e)
{
    const struct sched_ops *s = draw_sched(r, only);
    const struct kv_ops *k = draw_kv(r, only);
    bool swap = !rng_below(r, 3);
    struct strategy st;

    if (only && strcmp(s->name, only) && strcmp(k->name, only))
        return err_set(e, EXIT_USAGE,
                       "dst: '%s' is no scheduler and no memory manager; 'servelab list' "
                       "shows all",
                       only);
    for (int try = 0; try < 20; try++) {
        char a[100], b[60];
        struct err ignored = { 0 };

        draw_knobs(s->knobs, r, 2 << rng_below(r, 9), a, sizeof a);
        draw_knobs(k->knobs, r, 2 << rng_below(r, 7), b, sizeof b);
        if (swap)
            prefer_swap(s->knobs, a, sizeof a);
        snprintf(c->strategy, sizeof c->strategy, "%s%s+%s%s+f16", s->name, a, k->name, b);
        if (!strategy_parse(&st, c->strategy, &ignored))
            return 0;
    }
    snprintf(c->strategy, sizeof c->strategy, "%s+%s+f16", s->name, k->name);
    return 0;
}

/* Tokens of the longest request that is legal. */
static uint32_t longest(const struct dst_case *c)
{
    uint32_t most = 1;

    for (uint32_t i = 0; i < c->trace.n; i++) {
        uint32_t n = c->trace.req[i].n_prompt + c->trace.req[i].n_out;

        if (n <= c->max_len && n > most)
            most = n;
    }
    return most;
}

/* From barely enough for one request, or for one reservation, to enough for many. */
static uint32_t draw_slots(const struct dst_case *c, struct rng *r)
{
    uint32_t one = rng_below(r, 4) ? longest(c) : c->max_len;
    uint32_t n = one + (uint32_t)rng_below(r, one << rng_below(r, 4));

    return rng_below(r, 3) ? (n + 15) / 16 * 16 : n < 16 ? 16 : n;
}

static void draw_faults(struct dst_case *c, struct rng *r)
{
    if (!rng_below(r, 4))
        c->faults.bad_one_in = 1 + (uint32_t)rng_below(r, 200);
    if (!rng_below(r, 24))
        c->faults.fail_at_step = 1 + rng_below(r, 60);
    if (!rng_below(r, 24))
        c->stop_after = 1 + (uint32_t)rng_below(r, c->trace.n);
    if (!rng_below(r, 24))
        c->max_ns = 1 + rng_below(r, 40000000);
}

int dst_draw(struct dst_case *c, uint64_t seed, const char *only, struct err *e)
{
    struct rng r;

    memset(c, 0, sizeof *c);
    c->seed = seed;
    rng_seed(&r, hash64(0x647374, seed));
    if (draw_strategy(c, only, &r, e))
        return -1;
    c->max_len = 16u << rng_below(&r, 5);
    c->max_len -= (uint32_t)rng_below(&r, c->max_len / 4);
    dst_draw_trace(&c->trace, c->max_len, &r);
    if (!c->trace.req)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    c->kv_slots = draw_slots(c, &r);
    c->host_slots = rng_below(&r, 3) ? (uint32_t)rng_below(&r, 3 * c->kv_slots) : 0;
    c->max_new = rng_below(&r, 2) ? 1 + (uint32_t)rng_below(&r, c->max_len) : 0;
    c->relation = (enum relation)rng_below(&r, 2 * REL_N);
    if (c->relation >= REL_N)
        c->relation = REL_NONE;
    if (rng_below(&r, 2))
        draw_faults(c, &r);
    return 0;
}

static void print_request(const struct trace *t, uint32_t i)
{
    const struct trace_req *q = &t->req[i];
    const struct trace_more *m = q->more;

    printf("  %2u  at %7lld us  prompt %3u  output %3u", i, (long long)q->arrive_us, q->n_prompt,
           q->n_out);
    for (uint32_t b = 0; b < q->n_block && b < 6; b++)
        printf("%s%04llx", b ? " " : "  blocks ", (unsigned long long)(q->block[b] & 0xffff));
    if (q->n_block > 6)
        printf(" ...");
    if (m && m->prefix_group)
        printf("  prefix %s:%u", m->prefix_group, m->prefix_tokens);
    if (m && m->session)
        printf("  session %s:%u", m->session, m->turn);
    if (m && m->tenant)
        printf("  tenant %s", m->tenant);
    if (m && m->priority)
        printf("  priority %d", (int)m->priority);
    printf("\n");
}

void dst_print(const struct dst_case *c)
{
    static const char *const relation[REL_N] = { "none", "run twice", "arrivals shifted",
                                                 "ample memory" };

    printf("strategy  %s\nmemory    %u slots, %u on the host; max_len %u; clients declare %u\n"
           "faults    bad rows 1 in %u, device fails at step %llu, stop after %u requests, "
           "cut at %llu ns\n"
           "also      %s\n%u requests, blocks of %u tokens\n",
           c->strategy, c->kv_slots, c->host_slots, c->max_len, c->max_new, c->faults.bad_one_in,
           (unsigned long long)c->faults.fail_at_step, c->stop_after, (unsigned long long)c->max_ns,
           relation[c->relation], c->trace.n, c->trace.block_tokens);
    for (uint32_t i = 0; i < c->trace.n; i++)
        print_request(&c->trace, i);
}

void dst_case_free(struct dst_case *c)
{
    arena_free(&c->trace.arena);
    memset(&c->trace, 0, sizeof c->trace);
}
