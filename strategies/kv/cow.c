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

static const struct knob knobs[] = {
    { "block", NULL, 16, 1, 256, "tokens per block" },
    { 0 },
};

static int open(struct kv *kv, struct arena *a, struct err *e)
{
    struct trie *t = kv->self;

    t->partial = t->tails = true;
    return trie_open(t, kv, (uint32_t)params_int(&kv->env.params, "block"), a, e);
}

const struct kv_ops kv_cow = {
    .name = "cow",
    .about = "paged, running requests share beginnings, copy on write (PagedAttention)",
    .knobs = knobs, .open = open, TRIE_OPS,
    .swap_out = blocks_kv_swap_out, .swap_in = blocks_kv_swap_in,
};
