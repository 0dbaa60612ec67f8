/* read.c - trace_read: opens, recognises by content, runs the reader, decides what the caller
 * hears. */
#include <stdlib.h>
#include <string.h>

#include "workloads/reader.h"

static const struct trace_options plain;

/* Name and source of formats that cannot say it themselves. */
static void name_trace(struct reader *r)
{
    struct trace *t = r->t;
    const char *base = strrchr(r->path, '/');
    json_t *source, *word;
    size_t n;

    base = base ? base + 1 : r->path;
    if (!*t->name)
        snprintf(t->name, sizeof t->name, "%.*s", (int)strcspn(base, "."), base);
    if (!(word = json_string(t->name)))        /* file names need not be UTF-8, headers must be */
        snprintf(t->name, sizeof t->name, "trace");
    json_decref(word);
    if (*t->source || !strcmp(t->format, "serving-trace/1"))
        return;
    source = json_pack("{s:s, s:s, s:s}", "format", t->format, "path", base, "sha256", t->sha256);
    n = source ? json_dumpb(source, t->source, sizeof t->source - 1, JSON_COMPACT) : 0;
    t->source[n < sizeof t->source ? n : 0] = 0;
    json_decref(source);
}

static int read_all(struct reader *r)
{
    int c;

    if (source_open(r->src, r->path))
        return -1;
    c = source_peek(r->src);
    while (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        source_get(r->src);
        c = source_peek(r->src);
    }
    if (c == SOURCE_END)
        return reader_fail(r, NULL, "is empty: no requests");
    if (c == SOURCE_BAD)
        return -1;
    if ((c == '{' || c == '[') && r->o->csv.column[CSV_ARRIVED])
        return reader_fail(r, NULL, "is JSON; --column names the columns of a CSV");
    if ((c == '{' || c == '[' ? split_read(r) : azure_read(r)) || r->src->err.code)
        return -1;
    return rows_finish(r);
}

/* The first refusal, and how many more there were. */
static int hand_over(struct reader *r, struct err *e)
{
    if (r->src->err.code && !r->n_error)
        return err_set(e, r->src->err.code, "%s", r->src->err.text);
    if (r->src->err.code)
        reader_fail(r, NULL, "%s", r->src->err.text);
    if (r->n_error > 1)
        return err_set(e, r->first.code, "%.900s [first of %llu refusals]", r->first.text,
                       (unsigned long long)r->n_error);
    return err_set(e, r->first.code ? r->first.code : EXIT_RUN_FAILED, "%s",
                   r->first.code ? r->first.text : "trace reader failed without a reason");
}

static void reader_close(struct reader *r)
{
    source_close(r->src);
    free(r->src);
    names_free(&r->ids);
    names_free(&r->sessions);
    names_free(&r->words);
    free(r->head.p);
    free(r->row_text.p);
    free(r->block);
    free(r->token);
}

/* What growth left over goes back. */
static void trim(struct trace *t)
{
    struct trace_req *q = t->n < t->cap ? realloc(t->req, t->n * sizeof *q) : NULL;

    if (q) {
        t->req = q;
        t->cap = t->n;
    }
}

int trace_read(struct trace *t, const char *path, const struct trace_options *o, struct err *e)
{
    struct reader r = { .t = t, .o = o ? o : &plain, .path = path, .count = -1 };
    int rc;

    memset(t, 0, sizeof *t);
    r.pool.arena = &t->arena;
    if (!(r.src = malloc(sizeof *r.src)))
        return err_set(e, EXIT_RUN_FAILED, "%.300s: out of memory", path);
    rc = read_all(&r) || r.n_error;
    if (rc)
        hand_over(&r, e);
    reader_close(&r);
    if (!rc)
        rc = sha256_file(path, t->sha256, e);
    if (rc) {
        trace_free(t);
        return -1;
    }
    trim(t);
    name_trace(&r);
    return 0;
}
