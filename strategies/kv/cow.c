/* cow.c - paged blocks shared by requests that run at the same time and begin alike, down to a
 * partly filled last block, copied on the first write (PagedAttention, SOSP'23, 4.4). Nothing
 * outlives its last owner: this is sharing, not a cache.
 *
 * Prompts are known block by block once they have run, their partly filled last block too. A
 * newcomer takes the whole blocks it has in common with somebody's prompt. The block in which
 * they part, or in which the newcomer's last known token lies, is shared up to there and
 * written in the newcomer's very first step: so its copy is planned with its admission, and the
 * others go on writing theirs.
 * Difference: the paper forks samples of one request; a trace has none, so equal beginnings
 * stand in. */
#include "strategies/trie.h"

struct state { struct trie t; };

static const struct knob knobs[] = {
    { "block", NULL, 16, 1, 256, "tokens per block" },
    { 0 },
};

static struct trie *of(const struct kv *kv) { return &((struct state *)kv->self)->t; }

static int open(struct kv *kv, struct arena *a, struct err *e)
{
    struct trie *t = of(kv);

    t->partial = t->tails = true;
    return trie_open(t, kv, (uint32_t)params_int(&kv->env.params, "block"), a, e);
}

static const char *refuse(struct kv *kv, const struct request *r, uint32_t n_tok)
{
    (void)r;
    return blocks_refuse(&of(kv)->b, n_tok);
}

static uint32_t peek(struct kv *kv, const struct request *r) { return trie_peek(of(kv), r); }
static void attach(struct kv *kv, struct request *r) { trie_attach(of(kv), r); }
static void seal(struct kv *kv, struct request *r) { trie_seal(of(kv), r); }
static void drop(struct kv *kv, struct request *r) { trie_drop(of(kv), r); }
static struct kv_count count(const struct kv *kv) { return blocks_count(&of(kv)->b); }

static int grow(struct kv *kv, struct request *r, uint32_t n_tok)
{
    return trie_grow(of(kv), r, n_tok);
}

static int swap_out(struct kv *kv, struct request *r) { return blocks_swap_out(&of(kv)->b, r); }

static int swap_in(struct kv *kv, struct request *r, uint32_t n_tok)
{
    return blocks_swap_in(&of(kv)->b, r, n_tok);
}

const struct kv_ops kv_cow = {
    .name = "cow",
    .about = "paged, running requests share beginnings, copy on write (PagedAttention)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .refuse = refuse, .attach = attach, .peek = peek, .grow = grow, .seal = seal,
    .drop = drop, .count = count,
    .swap_out = swap_out, .swap_in = swap_in,
};
