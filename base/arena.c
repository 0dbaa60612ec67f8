#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64, CHUNK = 64 * 1024 };

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    _Alignas(ALIGN) unsigned char data[];
};

static struct arena_chunk *chunk_new(struct arena *a, size_t need)
{
    size_t size = need > CHUNK ? need : CHUNK;
    struct arena_chunk *c;

    if (size > SIZE_MAX - sizeof *c - ALIGN)
        return NULL;
    c = aligned_alloc(ALIGN, (sizeof *c + size + ALIGN - 1) / ALIGN * ALIGN);
    if (!c)
        return NULL;
    c->next = NULL;
    c->used = 0;
    c->size = size;
    a->total_bytes += size;
    return c;
}

void *arena_get(struct arena *a, size_t n, size_t size)
{
    size_t need;
    void *p;

    if (__builtin_mul_overflow(n, size, &need) || need > SIZE_MAX / 2)
        return NULL;
    need = (need + ALIGN - 1) / ALIGN * ALIGN;
    if (!a->first && !(a->first = a->now = chunk_new(a, need)))
        return NULL;
    while (a->now->size - a->now->used < need) {
        if (!a->now->next && !(a->now->next = chunk_new(a, need)))
            return NULL;
        a->now = a->now->next;
        a->now->used = 0;
    }
    p = a->now->data + a->now->used;
    a->now->used += need;
    return memset(p, 0, need);
}

char *arena_str(struct arena *a, const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = arena_get(a, n, 1);

    return p ? memcpy(p, s, n) : NULL;
}

char *arena_fmt(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    char *p;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !(p = arena_get(a, (size_t)n + 1, 1)))
        return NULL;
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}

void arena_reset(struct arena *a)
{
    a->now = a->first;
    if (a->now)
        a->now->used = 0;
}

void arena_free(struct arena *a)
{
    while (a->first) {
        struct arena_chunk *next = a->first->next;

        free(a->first);
        a->first = next;
    }
    a->now = NULL;
    a->total_bytes = 0;
}
