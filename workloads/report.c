/* report.c - how a reader refuses and warns: one line a refusal, the first 20 of them, then a
 * count. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/plain.h"
#include "workloads/reader.h"

static size_t put_place(const struct reader *r, const struct place *at, char *out, size_t n)
{
    int used = snprintf(out, n, "%.300s", r->path);

    if (at && at->row)
        used += snprintf(out + used, n - (size_t)used, ":%llu (row %llu, byte %llu)",
                         (unsigned long long)at->line, (unsigned long long)at->row,
                         (unsigned long long)at->byte);
    else if (at)
        used += snprintf(out + used, n - (size_t)used, ":%llu (byte %llu)",
                         (unsigned long long)at->line, (unsigned long long)at->byte);
    used += snprintf(out + used, n - (size_t)used, ": ");
    return (size_t)used;
}

int reader_fail(struct reader *r, const struct place *at, const char *fmt, ...)
{
    char line[1000];
    size_t used = put_place(r, at, line, sizeof line);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line + used, sizeof line - used, fmt, ap);
    va_end(ap);
    r->n_error++;
    if (r->n_error == 1)
        return err_set(&r->first, EXIT_USAGE, "%s", line);
    if (r->o->report && r->n_error == 2)
        print_plain(r->o->report, "%s\n", r->first.text);
    if (r->o->report && r->n_error <= TRACE_MAX_ERRORS)
        print_plain(r->o->report, "%s\n", line);
    return -1;
}

int reader_nomem(struct reader *r)
{
    r->first.code = 0;                         /* nothing said before matters more */
    r->n_error = 1;
    return err_set(&r->first, EXIT_RUN_FAILED,
                   "%.300s: out of memory after %u requests; use --limit", r->path, r->t->n);
}

void reader_warn(struct reader *r, const char *fmt, ...)
{
    char line[1000];
    va_list ap;

    if (!r->o->report)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    print_plain(r->o->report, "%.300s: %s\n", r->path, line);
}

bool reader_full(struct reader *r)
{
    r->is_cut = r->is_cut || (r->o->limit && r->n_read >= r->o->limit);
    return r->is_cut;
}

const char *shown(const char *text, size_t n, char buf[64])
{
    size_t k = 0;

    buf[k++] = '"';
    for (size_t i = 0; i < n && i < 40; i++) {
        unsigned char c = (unsigned char)text[i];

        buf[k++] = c >= 32 && c < 127 ? (char)c : '?';
    }
    snprintf(buf + k, 64 - k, "\"%s", n > 40 ? "..." : "");
    return buf;
}

const char *shown_json(const json_t *v, char buf[64])
{
    char text[256];
    size_t n;

    if (json_is_object(v) || json_is_array(v))
        return json_is_object(v) ? "an object" : "a list";
    n = json_dumpb(v, text, sizeof text,
                   JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));
    if (n > sizeof text || n > 60) { /* json_dumpb writes nothing useful when it does not fit */
        snprintf(buf, 64, "\"%.40s...", json_is_string(v) && n <= sizeof text ? text + 1 : "");
        return buf;
    }
    memcpy(buf, text, n);
    buf[n] = 0;
    return buf;
}
