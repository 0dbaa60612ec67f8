/* names.c - small memory for readers: a pool of small pieces, a set of strings, a growing text. */
#include <stdlib.h>
#include <string.h>

#include "workloads/reader.h"

enum { POOL_BYTES = 32 * 1024 };

void *pool_get(struct pool *p, size_t n, size_t size)
{
    size_t need;
    unsigned char *out;

    if (__builtin_mul_overflow(n, size, &need) || need > SIZE_MAX / 2)
        return NULL;
    need = (need + 7) & ~(size_t)7;
    if (need > POOL_BYTES / 4)                 /* big pieces stand alone */
        return arena_get(p->arena, need, 1);
    if (need > p->left) {
        if (!(p->at = arena_get(p->arena, POOL_BYTES, 1)))
            return NULL;
        p->left = POOL_BYTES;
    }
    out = p->at;
    p->at += need;
    p->left -= need;
    return out;
}

char *pool_str(struct pool *p, const char *s)
{
    size_t n = strlen(s) + 1;
    char *out = pool_get(p, n, 1);

    return out ? memcpy(out, s, n) : NULL;
}

/* The slot of text, or the free slot where it belongs. cap is a power of two, never full. */
static struct name *probe(struct name *slot, size_t cap, const char *text, uint64_t hash)
{
    size_t i = (size_t)hash & (cap - 1);

    while (slot[i].text && (slot[i].hash != hash || strcmp(slot[i].text, text)))
        i = (i + 1) & (cap - 1);
    return &slot[i];
}

static int names_grow(struct names *s)
{
    size_t cap = s->cap ? s->cap * 2 : 64;
    struct name *slot = cap > SIZE_MAX / 4 / sizeof *slot ? NULL : calloc(cap, sizeof *slot);

    if (!slot)
        return -1;
    for (size_t i = 0; i < s->cap; i++)
        if (s->slot[i].text)
            *probe(slot, cap, s->slot[i].text, s->slot[i].hash) = s->slot[i];
    free(s->slot);
    s->slot = slot;
    s->cap = cap;
    return 0;
}

struct name *names_find(const struct names *s, const char *text)
{
    struct name *n;

    if (!s->n)
        return NULL;
    n = probe(s->slot, s->cap, text, hash64_bytes(0, text, strlen(text)));
    return n->text ? n : NULL;
}

struct name *names_put(struct names *s, struct pool *p, const char *text)
{
    uint64_t hash = hash64_bytes(0, text, strlen(text));
    struct name *n;

    if (s->n >= s->cap / 2 && names_grow(s))
        return NULL;
    n = probe(s->slot, s->cap, text, hash);
    if (n->text)
        return n;
    if (!(n->text = pool_str(p, text)))
        return NULL;
    n->hash = hash;
    n->value = 0;
    s->n++;
    return n;
}

void names_free(struct names *s)
{
    free(s->slot);
    *s = (struct names){ 0 };
}

int text_add(struct text *b, const char *p, size_t n)
{
    if (n > TEXT_MAX || b->n > TEXT_MAX - n)
        return -1;
    if (b->n + n + 1 > b->cap) {
        size_t cap = (b->n + n + 1) * 2;
        char *q = realloc(b->p, cap);

        if (!q)
            return -1;
        b->p = q;
        b->cap = cap;
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
    return 0;
}
