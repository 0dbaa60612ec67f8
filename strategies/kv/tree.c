/* tree.c - paged blocks in a tree by content that outlives their requests, as TensorRT-LLM
 * reuses blocks (engines.md 1.2): children under the parent block, keyed by their tokens.
 *
 * Where no child holds all the tokens of the next block, the one with the longest leading run
 * does half the work: that run is copied into a fresh block. Unreferenced blocks wait in one
 * queue per priority of the request that computed them, lowest priority first, oldest first
 * within, leaves before their parents.
 * With host=on, what is given up moves to host memory and comes back on a hit; the host gives
 * up its oldest leaf. Differences: TensorRT-LLM may take an unreferenced partial match over
 * without a copy, ours always copies (and goes without where the copy does not fit); it keeps
 * equal blocks computed at the same time, ours merges them; its priorities belong to token
 * ranges and can expire, ours are the requests'. A copy of a block that lies on the host is not
 * made: only whole blocks come back. */
#include "strategies/trie.h"

static const struct knob knobs[] = {
    { "block", NULL, 32, 1, 256, "tokens per block" },
    { "generated", "off|on", 1, 0, 0, "keep also what requests produced, when they end" },
    { "partial", "off|on", 1, 0, 0, "copy the leading run of a block that differs later on" },
    { "host", "off|on", 0, 0, 0, "blocks given up move to host memory" },
    { 0 },
};

static int open(struct kv *kv, struct arena *a, struct err *e)
{
    struct trie *t = kv->self;

    t->cache = t->ranked = true;
    t->generated = params_int(&kv->env.params, "generated");
    t->partial = params_int(&kv->env.params, "partial");
    t->host = params_int(&kv->env.params, "host");
    return trie_open(t, kv, (uint32_t)params_int(&kv->env.params, "block"), a, e);
}

const struct kv_ops kv_tree = {
    .name = "tree",
    .about = "blocks in a tree by content, partial reuse, priority LRU, host tier (TensorRT-LLM)",
    .knobs = knobs, .open = open, TRIE_OPS,
};
