/* source.c - the bytes of a trace file: plain or gzip, recognised by content, bounded.
 *
 * Stays true: memory is two buffers whatever the file says; what comes out of gzip is limited in
 * size and in ratio, its checksum is verified, and bytes after the last member are refused rather
 * than ignored. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "workloads/reader.h"

#define UNPACKED_MAX (UINT64_C(16) << 30)
#define RATIO_FROM   (UINT64_C(8) << 20)       /* the ratio says nothing about small files */
#define RATIO_MAX    1000

static int bad(struct source *s, const char *what)
{
    return err_set(&s->err, EXIT_USAGE, "%.300s: %s", s->path, what);
}

static const char *packed_kind(const unsigned char *p, size_t n)
{
    static const struct { const char *magic, *kind; size_t n; } kinds[] = {
        { "\x28\xb5\x2f\xfd", "zstd", 4 }, { "\xfd" "7zXZ", "xz", 5 }, { "PK\x03\x04", "zip", 4 },
        { "BZh", "bzip2", 3 }, { "7z\xbc\xaf", "7z", 4 },
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (n >= kinds[i].n && !memcmp(p, kinds[i].magic, kinds[i].n))
            return kinds[i].kind;
    return NULL;
}

static int open_gzip(struct source *s)
{
    z_stream *z = calloc(1, sizeof *z);

    if (!z || inflateInit2(z, 15 + 16) != Z_OK) {
        free(z);
        return err_set(&s->err, EXIT_RUN_FAILED, "%.300s: out of memory", s->path);
    }
    s->z = z;
    s->is_in_member = true;
    return 0;
}

static int fill_plain(struct source *s)
{
    size_t n = fread(s->in, 1, sizeof s->in, s->file);

    if (ferror((FILE *)s->file)) {
        bad(s, strerror(errno));
        return SOURCE_BAD;
    }
    s->n_packed += n;
    s->data = s->in;
    s->len = n;
    return n ? 0 : SOURCE_END;
}

/* Some packed bytes in z->avail_in. 0, SOURCE_END, SOURCE_BAD. */
static int refill(struct source *s, z_stream *z)
{
    size_t n;

    if (z->avail_in)
        return 0;
    n = fread(s->in, 1, sizeof s->in, s->file);
    if (ferror((FILE *)s->file)) {
        bad(s, strerror(errno));
        return SOURCE_BAD;
    }
    if (!n && s->is_in_member) {
        bad(s, "the gzip data is cut: its end and checksum are missing; fetch the file again");
        return SOURCE_BAD;
    }
    s->n_packed += n;
    z->next_in = s->in;
    z->avail_in = (uInt)n;
    return n ? 0 : SOURCE_END;
}

static int check_unpacked(struct source *s)
{
    uint64_t n = s->base + s->len;

    if (n > UNPACKED_MAX)
        bad(s, "unpacks to more than 16 GiB; unpack it and split it");
    else if (n > RATIO_FROM && n / s->n_packed > RATIO_MAX)
        bad(s, "unpacks to more than 1000 times its size; this is no trace");
    return s->err.code ? SOURCE_BAD : 0;
}

static int fill_gzip(struct source *s)
{
    z_stream *z = s->z;
    int rc;

    while (!s->len) {
        if ((rc = refill(s, z)))
            return rc;
        if (!s->is_in_member) { /* members may follow one another, nothing else may */
            if (z->next_in[0] != 0x1f) {
                bad(s, "bytes stand after the end of the gzip data; cut them off");
                return SOURCE_BAD;
            }
            inflateReset(z);
            s->is_in_member = true;
        }
        z->next_out = s->out;
        z->avail_out = sizeof s->out;
        rc = inflate(z, Z_NO_FLUSH);
        s->len = sizeof s->out - z->avail_out;
        if (rc == Z_STREAM_END) {
            s->is_in_member = false;
        } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
            err_set(&s->err, EXIT_USAGE,
                    "%.300s: the gzip data is damaged (%s) near packed byte %llu; "
                    "fetch the file again",
                    s->path, z->msg ? z->msg : "no reason given",
                    (unsigned long long)(s->n_packed - z->avail_in));
            return SOURCE_BAD;
        }
    }
    s->data = s->out;
    return check_unpacked(s);
}

int source_fill(struct source *s)
{
    if (s->pos < s->len)
        return 0;
    if (s->err.code)
        return SOURCE_BAD;
    s->base += s->len;
    s->pos = s->len = 0;
    return s->z ? fill_gzip(s) : fill_plain(s);
}

static int open_file(struct source *s)
{
    unsigned char magic[6];
    struct stat st;
    const char *kind;
    size_t n;

    if (stat(s->path, &st))
        return bad(s, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return bad(s, "is a folder; expected a trace file");
    if (!S_ISREG(st.st_mode))
        return bad(s, "is not a regular file; write it to a file first (its checksum is recorded)");
    if (!(s->file = fopen(s->path, "rb")))
        return bad(s, strerror(errno));
    n = fread(magic, 1, sizeof magic, s->file);
    rewind(s->file);
    if ((kind = packed_kind(magic, n)))
        return err_set(&s->err, EXIT_USAGE,
                       "%.300s: %s is not supported; unpack it, or pack it with "
                       "gzip",
                       s->path, kind);
    return n >= 2 && magic[0] == 0x1f && magic[1] == 0x8b ? open_gzip(s) : 0;
}

/* Skips a UTF-8 byte order mark, names UTF-16 and empty files. */
static int skip_mark(struct source *s)
{
    int c = source_peek(s);

    if (c == SOURCE_BAD)
        return -1;
    if (c == SOURCE_END)
        return bad(s, "is empty: no requests");
    if (c == 0xff || c == 0xfe || (s->len >= 2 && (!c || !s->data[1])))
        return bad(s, "looks like UTF-16; save it as UTF-8");
    if (c != 0xef)
        return 0;
    for (int i = 0; i < 3; i++)
        if (source_get(s) != (unsigned char)"\xef\xbb\xbf"[i])
            return s->err.code ? -1 : bad(s, "invalid UTF-8 at byte 0");
    return 0;
}

int source_open(struct source *s, const char *path)
{
    memset(s, 0, offsetof(struct source, in));
    s->path = path;
    s->line = 1;
    return open_file(s) || skip_mark(s) ? -1 : 0;
}

void source_close(struct source *s)
{
    if (s->z)
        inflateEnd(s->z);
    free(s->z);
    if (s->file)
        fclose(s->file);
    s->z = s->file = NULL;
}

int source_line(struct source *s, struct text *b, struct place *at)
{
    const unsigned char *from, *end = NULL;
    int rc;

    b->n = 0;
    at->line = s->line;
    at->byte = s->base + s->pos;
    while (!end) {
        size_t n;

        if ((rc = source_fill(s)) == SOURCE_BAD)
            return -1;
        if (rc == SOURCE_END)
            break;
        from = s->data + s->pos;
        end = memchr(from, '\n', s->len - s->pos);
        n = end ? (size_t)(end - from) : s->len - s->pos;
        if (text_add(b, (const char *)from, n))
            return err_set(&s->err, EXIT_USAGE,
                           "%.300s:%llu (byte %llu): the line is longer than 64 MiB", s->path,
                           (unsigned long long)at->line, (unsigned long long)at->byte);
        s->pos += n + (end != NULL);
    }
    if (!end && !b->n && at->byte == s->base + s->pos)
        return 0;
    s->line += end != NULL;
    if (b->n && b->p[b->n - 1] == '\r')
        b->n--;
    return 1;
}
