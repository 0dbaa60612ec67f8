/* radix.c - a trie of tokens over pages of KV memory, a page by default one token, as SGLang
 * and TGI keep their prefix cache (engines.md 1.3, 1.4); unreferenced leaves go in order of
 * last use.
 *
 * generated=on is SGLang: prompts are known as soon as their chunk has run, what was produced
 * when the request ends. generated=off is TGI: prompts alone, known when their request ends. A
 * page that was computed twice is freed when it is inserted. At least one known token is
 * computed again. The trie is kept page by page, not with its edges compressed: the same pages
 * hit. SGLang gives up a whole compressed leaf at a time, ours (as TGI) one page from its tail,
 * so up to a leaf more stays cached. */
#include "strategies/trie.h"

static const struct knob knobs[] = {
    { "page", NULL, 1, 1, 256, "tokens per page" },
    { "generated", "off|on", 1, 0, 0, "on: SGLang; off: prompts only, known when they end (TGI)" },
    { 0 },
};

static int open(struct kv *kv, struct arena *a, struct err *e)
{
    struct trie *t = kv->self;

    t->cache = true;
    t->generated = params_int(&kv->env.params, "generated");
    t->at_end = !t->generated;
    return trie_open(t, kv, (uint32_t)params_int(&kv->env.params, "page"), a, e);
}

const struct kv_ops kv_radix = {
    .name = "radix", .about = "token-granular prefix trie, leaf LRU (SGLang; generated=off: TGI)",
    .knobs = knobs, .open = open, TRIE_OPS,
};
