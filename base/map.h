/* map.h - a whole file as read-only bytes with a length, and little-endian reads that know where they end.
 *
 * Files from outside are mapped, not read: a loader looks at headers and rows, and the kernel keeps only the
 * pages that were looked at. The mapping is private; a file that shrinks while it is mapped kills the process
 * (SIGBUS), as with every program that maps files, so nothing may write to a model while it is loaded. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct map {
    const unsigned char *data;     /* [size]; NULL when size is 0 */
    uint64_t size;
    char *path;                    /* for messages; owned */
    bool is_mapped;                /* false: the bytes are the caller's (map_bytes) */
};
/* Maps a regular file of at most max bytes. */
int  map_open(struct map *m, const char *path, uint64_t max, struct err *e);
/* The same view of bytes that the caller keeps alive (tests, fuzzing). */
int  map_bytes(struct map *m, const void *data, uint64_t size, const char *name, struct err *e);
void map_close(struct map *m);

/* Bytes of a file made fit for a one-line message: printable ASCII, others as '?', cut to the room. */
enum { MAP_SHOW = 72 };
const char *map_show(const void *text, uint64_t n, char out[MAP_SHOW]);

/* Unaligned little-endian loads; the caller has checked the bounds. */
static inline uint16_t le16(const unsigned char *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t le32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t le64(const unsigned char *p)
{
    return (uint64_t)le32(p) | (uint64_t)le32(p + 4) << 32;
}

#endif
