/* bpe.c - merges the bytes of one word by rank: a heap of the pairs that may merge, best first.
 *
 * Sennrich et al. 2016 merge the best-ranked pair of neighbours until none is left. With symbols in
 * a linked list and the pairs in a heap that is n log n in the word's length (Hugging Face's
 * tokenizers do the same), where looking through all pairs after each merge is quadratic: a word of
 * a megabyte is a legal input. A pair whose symbols have changed since is dropped when it comes up.
 * Stays true: among equal ranks the leftmost pair merges first. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "text/vocab.h"

int ids_add(struct token_ids *out, uint32_t id)
{
    if (out->n == out->cap) {
        size_t cap = out->cap + out->cap / 2 + 64;
        uint32_t *p = realloc(out->id, cap * sizeof *p);

        if (!p)
            return -1;
        out->id = p;
        out->cap = cap;
    }
    out->id[out->n++] = id;
    return 0;
}

const struct pair *vocab_pair(const struct tokenizer *t, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << 32 | right;

    for (uint64_t i = mix64(key);; i++) {
        const struct pair *p = &t->pair[i & t->mask_pair];

        if (!p->rank)
            return NULL;
        if (p->key == key)
            return p;
    }
}

static bool better(const struct merge *a, const struct merge *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct merge *h, size_t *n, struct merge m)
{
    size_t i = (*n)++;

    for (; i && better(&m, &h[(i - 1) / 2]); i = (i - 1) / 2)
        h[i] = h[(i - 1) / 2];
    h[i] = m;
}

static struct merge heap_pop(struct merge *h, size_t *n)
{
    struct merge top = h[0], m = h[--*n];
    size_t i = 0, k;

    while ((k = 2 * i + 1) < *n) {
        k += k + 1 < *n && better(&h[k + 1], &h[k]);
        if (!better(&h[k], &m))
            break;
        h[i] = h[k];
        i = k;
    }
    h[i] = m;
    return top;
}

/* n symbols, and a heap that never holds more than the n - 1 first pairs and two for each merge. */
static int room(struct scratch *s, size_t n)
{
    struct symbol *symbol;
    struct merge *heap;

    if (n <= s->cap)
        return 0;
    n += n / 2 + 64;
    if (n > SIZE_MAX / (3 * sizeof *heap) || !(symbol = realloc(s->symbol, n * sizeof *symbol)))
        return -1;
    s->symbol = symbol;
    if (!(heap = realloc(s->heap, 3 * n * sizeof *heap)))
        return -1;
    s->heap = heap;
    s->cap = n;
    return 0;
}

/* Bytes as symbols. One that the vocabulary lacks becomes unk, or nothing, as in the reference. */
static size_t spell(const struct tokenizer *t, const char *p, size_t n, struct symbol *s)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++) {
        int32_t id = t->byte_id[(unsigned char)p[i]];

        if (id == TOKEN_NONE)
            id = t->unk;
        if (id != TOKEN_NONE) {
            s[k] = (struct symbol){ (uint32_t)id, (int32_t)k - 1, (int32_t)k + 1 };
            k++;
        }
    }
    if (k)
        s[k - 1].after = -1;
    return k;
}

enum { GONE = -2 }; /* `before` of a symbol that went into its left one */

static void offer(const struct tokenizer *t, size_t *n, int32_t at)
{
    const struct symbol *s = t->scratch.symbol;
    const struct pair *p;

    if (at < 0 || s[at].after < 0)
        return;
    if ((p = vocab_pair(t, s[at].id, s[s[at].after].id)))
        heap_push(t->scratch.heap, n, (struct merge){ p->rank, at, p->id });
}

/* Whether the pair that was offered still stands there. */
static bool stands(const struct tokenizer *t, const struct merge *m)
{
    const struct symbol *s = &t->scratch.symbol[m->at];
    const struct pair *p;

    if (s->before == GONE || s->after < 0)
        return false;
    p = vocab_pair(t, s->id, t->scratch.symbol[s->after].id);
    return p && p->id == m->id;
}

static void merge_all(struct tokenizer *t, size_t n)
{
    struct symbol *s = t->scratch.symbol;
    size_t n_heap = 0;

    for (size_t i = 0; i + 1 < n; i++)
        offer(t, &n_heap, (int32_t)i);
    while (n_heap) {
        struct merge m = heap_pop(t->scratch.heap, &n_heap);
        int32_t right;

        if (!stands(t, &m))
            continue;
        right = s[m.at].after;
        s[m.at].id = m.id;
        s[m.at].after = s[right].after;
        s[right].before = GONE;
        if (s[m.at].after >= 0)
            s[s[m.at].after].before = m.at;
        offer(t, &n_heap, s[m.at].before);
        offer(t, &n_heap, m.at);
    }
}

static int merge_word(struct tokenizer *t, const char *p, size_t n, struct token_ids *out)
{
    int32_t whole = t->ignore_merges ? vocab_find(t, p, n, true) : TOKEN_NONE;

    if (whole != TOKEN_NONE)
        return ids_add(out, (uint32_t)whole);
    if (room(&t->scratch, n))
        return -1;
    n = spell(t, p, n, t->scratch.symbol);
    merge_all(t, n);
    for (int32_t i = n ? 0 : -1; i >= 0; i = t->scratch.symbol[i].after)
        if (ids_add(out, t->scratch.symbol[i].id))
            return -1;
    return 0;
}

int bpe_word(struct tokenizer *t, const char *p, size_t n, struct token_ids *out)
{
    struct word *w = &t->word[hash64_bytes(0, p, n) % N_WORD];
    size_t from = out->n;

    if (n > WORD_MAX)
        return merge_word(t, p, n, out);
    if (w->n_byte == n && !memcmp(w->byte, p, n)) {
        for (unsigned i = 0; i < w->n_id; i++)
            if (ids_add(out, w->id[i]))
                return -1;
        return 0;
    }
    if (merge_word(t, p, n, out))
        return -1;
    if (out->n - from > WORD_IDS)
        return 0;
    w->n_byte = (uint8_t)n;
    w->n_id = (uint8_t)(out->n - from);
    memcpy(w->byte, p, n);
    if (w->n_id)
        memcpy(w->id, out->id + from, w->n_id * sizeof *w->id);
    return 0;
}
