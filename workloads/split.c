/* split.c - walks JSON text without holding it: the header, then one request's text at a time.
 *
 * One object with "requests", or a header line and one request a line, or lines without a header
 * (Mooncake, texts), or a list without one (ShareGPT): all end in the same row parsers. The walk only tracks strings
 * and depth; whether the text is valid is jansson's word, since every byte outside the list of requests ends up in one
 * of its inputs. Stays true: nothing larger than one request (64 MiB) or the header (1 MiB) is held.
 */
#include <stdlib.h>
#include <string.h>

#include "workloads/reader.h"

static bool is_blank(int c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static int skip_blanks(struct source *s)
{
    int c;

    while (is_blank(c = source_peek(s)))
        source_get(s);
    return c;
}

static int fail_here(struct reader *r, const char *what)
{
    struct place at = source_place(r->src, 0);

    return r->src->err.code ? -1 : reader_fail(r, &at, "%s", what);
}

static const char cut[] = "the file ends inside the JSON text; it is cut";
static const char deep[] = "nested deeper than 64";

/* The text so far ends with the key "requests" and its colon. */
static bool at_requests(const struct text *b)
{
    static const char key[] = "\"requests\"";
    size_t n = b->n, k = sizeof key - 1;

    while (n && is_blank(b->p[n - 1]))
        n--;
    if (!n || b->p[--n] != ':')
        return false;
    while (n && is_blank(b->p[n - 1]))
        n--;
    if (n < k || memcmp(b->p + n - k, key, k))
        return false;
    for (n -= k; n && is_blank(b->p[n - 1]);)
        n--;
    return n && strchr("{,", b->p[n - 1]);
}

/* Reads the first object up to its end (0) or up to the list of requests (1). */
static int read_head(struct reader *r)
{
    struct walk w = { 0 };
    int c;

    do {
        char byte;

        if ((c = source_get(r->src)) < 0)
            return fail_here(r, cut);
        byte = (char)c;
        if (c == '[' && w.depth == 1 && !w.in_string && at_requests(&r->head))
            return text_add(&r->head, "[]}", 3) ? reader_nomem(r) : 1;
        walk_step(&w, c);
        if (w.depth > DEPTH_MAX)
            return fail_here(r, deep);
        if (r->head.n >= HEADER_MAX)
            return fail_here(r, "the header is longer than 1 MiB");
        if (text_add(&r->head, &byte, 1))
            return reader_nomem(r);
    } while (w.depth > 0);
    return 0;
}

/* One element of the list: up to ',' or ']' at its own depth. */
static int read_element(struct reader *r)
{
    struct walk w = { 0 };
    int c;

    r->row_text.n = 0;
    for (;;) {
        char byte;

        if ((c = source_peek(r->src)) < 0)
            return fail_here(r, cut);
        if (!w.in_string && !w.depth && (c == ',' || c == ']'))
            return 0;
        byte = (char)source_get(r->src);
        walk_step(&w, c);
        if (w.depth > DEPTH_MAX)
            return fail_here(r, deep);
        if (w.depth < 0)
            return fail_here(r, "a '}' without its '{'");
        if (text_add(&r->row_text, &byte, 1))
            return fail_here(r, "the request is longer than 64 MiB");
    }
}

typedef int row_parser(struct reader *, const struct place *, const char *, size_t);

/* The list of requests, its '[' just read. Leaves what follows unread when the limit cuts it short.
 */
static int read_list(struct reader *r, row_parser *parse)
{
    int c = skip_blanks(r->src);

    if (c == ']') {
        source_get(r->src);
        return 0;
    }
    while (!reader_full(r)) {
        struct place at;

        if (skip_blanks(r->src) < 0)
            return fail_here(r, cut);
        at = source_place(r->src, ++r->n_read);
        if (read_element(r))
            return -1;
        if (!r->row_text.n)
            return reader_fail(r, &at,
                               "a request is missing between two commas, or after the last");
        if (parse(r, &at, r->row_text.p, r->row_text.n))
            return -1;
        if (source_get(r->src) == ']')
            return 0;
    }
    return 0;
}

/* After the list only the closing brace may stand: what the rows need is in the header before them.
 */
static int read_tail(struct reader *r)
{
    int c = skip_blanks(r->src);

    if (c == ',')
        return fail_here(r, "\"requests\" must be the last key; put the header's keys before it");
    if (c < 0)
        return fail_here(r, cut);
    if (c != '}')
        return fail_here(r, "expected '}' after the list of requests");
    source_get(r->src);
    c = skip_blanks(r->src);
    if (c == SOURCE_END)
        return 0;
    return fail_here(r, "text stands after the closing brace");
}

static int check_depth(struct reader *r, const struct place *at, const struct text *b)
{
    struct walk w = { 0 };

    for (size_t i = 0; i < b->n; i++) {
        walk_step(&w, b->p[i]);
        if (w.depth > DEPTH_MAX)
            return reader_fail(r, at, "%s", deep);
    }
    return 0;
}

static bool all_blank(const struct text *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (!is_blank(b->p[i]))
            return false;
    return true;
}

/* One request a line up to the end. One empty last line is fine. */
static int read_lines(struct reader *r, row_parser *parse)
{
    struct place at;
    int rc;

    while (!reader_full(r)) {
        if ((rc = source_line(r->src, &r->row_text, &at)) <= 0)
            return rc;
        if (all_blank(&r->row_text)) {
            if (skip_blanks(r->src) == SOURCE_END)
                return 0;
            return reader_fail(r, &at, "an empty line between requests; take it out");
        }
        at.row = ++r->n_read;
        if (check_depth(r, &at, &r->row_text))
            continue;
        if (parse(r, &at, r->row_text.p, r->row_text.n))
            return -1;
    }
    return 0;
}

/* The first object stood on a line of its own: the header of JSONL, or the first request of a format without
 * one. */
static int read_jsonl(struct reader *r, const struct place *at, json_t *first)
{
    const struct text_format *texts = texts_looks(first);
    struct place rest, row = *at;
    row_parser *parse = texts ? texts_row : mooncake_row;

    if (source_line(r->src, &r->row_text, &rest) < 0)
        return -1;
    if (!all_blank(&r->row_text))
        return reader_fail(r, &rest, "text stands after the first object; expected a line end");
    if (!texts && !mooncake_looks(first))
        return header_parse(r, at, first) ? -1 : read_lines(r, row_parse);
    row.row = ++r->n_read;
    if ((texts ? texts_start(r, texts) : mooncake_start(r)) ||
        parse(r, &row, r->head.p, r->head.n))
        return -1;
    return read_lines(r, parse);
}

/* A list on its own: ShareGPT's conversations. */
static int read_bare_list(struct reader *r)
{
    source_get(r->src);
    if (skip_blanks(r->src) != '{')
        return fail_here(r, "expected a JSON object {header..., \"requests\":[...]}, or a header line and one "
                            "request a line, or ShareGPT's list of conversations");
    if (texts_start(r, &sharegpt_format) || read_list(r, texts_row))
        return -1;
    if (r->is_cut || skip_blanks(r->src) == SOURCE_END)
        return 0;
    return fail_here(r, "text stands after the end of the list");
}

int split_read(struct reader *r)
{
    struct place at;
    json_t *first;
    int has_list, rc;

    if (skip_blanks(r->src) == '[')
        return read_bare_list(r);
    if (skip_blanks(r->src) != '{')
        return fail_here(r, "expected a JSON object {header..., \"requests\":[...]}, or a header "
                            "line and "
                            "one request a line");
    at = source_place(r->src, 0);
    if ((has_list = read_head(r)) < 0)
        return -1;
    if (!(first = json_text(r, &at, r->head.p, r->head.n)))
        return -1;
    if (!has_list)
        rc = read_jsonl(r, &at, first);
    else if (!(rc = header_parse(r, &at, first)) && !(rc = read_list(r, row_parse)) && !r->is_cut)
        rc = read_tail(r);
    json_decref(first);
    return rc;
}
