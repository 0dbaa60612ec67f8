#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int map_fd(struct map *m, int fd, const char *path, uint64_t max, struct err *e)
{
    struct stat st;
    void *p;

    if (fstat(fd, &st))
        return err_set(e, EXIT_USAGE, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(e, EXIT_USAGE, "%s: not a regular file; give the path of a file", path);
    if (st.st_size < 0 || (uint64_t)st.st_size > max || (uint64_t)st.st_size > SIZE_MAX)
        return err_set(e, EXIT_USAGE, "%s: %lld bytes; expected at most %llu", path,
                       (long long)st.st_size, (unsigned long long)max);
    m->size = (uint64_t)st.st_size;
    m->is_mapped = true;
    if (!m->size)
        return 0;                              /* mmap refuses nothing at all */
    p = mmap(NULL, (size_t)m->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return err_set(e, EXIT_USAGE, "%s: cannot map %llu bytes: %s", path,
                       (unsigned long long)m->size, strerror(errno));
    m->data = p;
    return 0;
}

int map_open(struct map *m, const char *path, uint64_t max, struct err *e)
{
    int fd, rc;

    memset(m, 0, sizeof *m);
    /* O_NONBLOCK: a fifo is refused below instead of waited for */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(e, EXIT_USAGE, "%s: %s", path, strerror(errno));
    rc = map_fd(m, fd, path, max, e);
    close(fd);
    if (!rc && !(m->path = strdup(path)))
        rc = err_set(e, EXIT_RUN_FAILED, "out of memory");
    if (rc)
        map_close(m);
    return rc;
}

int map_bytes(struct map *m, const void *data, uint64_t size, const char *name, struct err *e)
{
    *m = (struct map){ .data = size ? data : NULL, .size = size, .path = strdup(name) };
    return m->path ? 0 : err_set(e, EXIT_RUN_FAILED, "out of memory");
}

void map_close(struct map *m)
{
    if (m->is_mapped && m->data) {
        union { const unsigned char *from; void *to; } p = { m->data };

        munmap(p.to, (size_t)m->size);
    }
    free(m->path);
    memset(m, 0, sizeof *m);
}

const char *map_show(const void *text, uint64_t n, char out[MAP_SHOW])
{
    const unsigned char *p = text;
    size_t i = 0;

    for (; i < n && i < MAP_SHOW - 4; i++)
        out[i] = p[i] >= 0x20 && p[i] < 0x7f ? (char)p[i] : '?';
    memcpy(out + i, i < n ? "..." : "", i < n ? 4 : 1);
    return out;
}
