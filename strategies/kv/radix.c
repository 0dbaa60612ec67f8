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

struct state { struct trie t; };

static const struct knob knobs[] = {
    { "page", NULL, 1, 1, 256, "tokens per page" },
    { "generated", "off|on", 1, 0, 0, "on: SGLang; off: prompts only, known when they end (TGI)" },
    { 0 },
};

static struct trie *of(const struct kv *kv) { return &((struct state *)kv->self)->t; }

static int open(struct kv *kv, struct arena *a, struct err *e)
{
    struct trie *t = of(kv);

    t->cache = true;
    t->generated = params_int(&kv->env.params, "generated");
    t->at_end = !t->generated;
    return trie_open(t, kv, (uint32_t)params_int(&kv->env.params, "page"), a, e);
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

const struct kv_ops kv_radix = {
    .name = "radix", .about = "token-granular prefix trie, leaf LRU (SGLang; generated=off: TGI)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .refuse = refuse, .attach = attach, .peek = peek, .grow = grow, .seal = seal,
    .drop = drop, .count = count,
};
