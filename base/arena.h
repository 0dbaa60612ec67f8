/* arena.h - memory that lives as long as its arena: two of them, run and step (docs/DESIGN.md).
 *
 * All memory is zeroed and aligned to 64 bytes. Nothing is freed singly. arena_reset keeps the
 * chunks for reuse (step arena); arena_free gives everything back. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena_chunk;
struct arena {
    struct arena_chunk *first, *now;
    size_t total_bytes;    /* obtained from malloc so far */
};

/* n * size zeroed bytes, or NULL when the product overflows or memory is out. n * size 0 is legal. */
void *arena_get(struct arena *a, size_t n, size_t size);
char *arena_str(struct arena *a, const char *s);                              /* copy, NULL if out */
char *arena_fmt(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void arena_reset(struct arena *a);
void arena_free(struct arena *a);

#define ARENA_NEW(a, type, n) ((type *)arena_get((a), (size_t)(n), sizeof(type)))

#endif
