/* reader.h - what the files of workloads/ share among themselves; nobody above includes it, tests
 * aside.
 *
 * A file passes through: source (bytes, inflated, bounded) -> split or csv (one row's text) -> row
 * parser (struct row, nothing trusted) -> rows_add (every check that is the same for all formats)
 * -> struct trace. Each step refuses through reader_fail, which knows the place; only rows_add
 * writes into the trace. */
#ifndef WORKLOADS_READER_H
#define WORKLOADS_READER_H

#include <jansson.h>

#include "workloads/trace.h"

/* ---- pool: many small things in an arena whose own grain is 64 bytes ---- */
struct pool { struct arena *arena; unsigned char *at; size_t left; };
void *pool_get(struct pool *p, size_t n, size_t size); /* 8-aligned, zeroed; NULL: no memory */
char *pool_str(struct pool *p, const char *s);

/* ---- names: a set of strings, each with a number ---- */
struct name { const char *text; uint64_t hash; uint32_t value; };
struct names { struct name *slot; size_t cap, n; };
struct name *names_find(const struct names *s, const char *text);              /* NULL: not there */
struct name *names_put(struct names *s, struct pool *p, const char *text);     /* NULL: no memory */
void names_free(struct names *s);

/* ---- text: bytes that grow, bounded ---- */
enum { ARRIVAL_MAX_S = 1000000000 };            /* see json.c: what a double holds exactly */
enum { TEXT_MAX = 64 << 20, HEADER_MAX = 1 << 20, DEPTH_MAX = 64 };
struct text { char *p; size_t n, cap; };
int text_add(struct text *b, const char *p, size_t n);        /* -1: over TEXT_MAX or no memory */

/* ---- source: the bytes of a file, unpacked when it is gzip ---- */
enum { SOURCE_BYTES = 1 << 16, SOURCE_END = -1, SOURCE_BAD = -2 };
struct place {
    uint64_t line, row, byte;
}; /* line and row from 1 (0: none), byte from 0, unpacked */
struct source {
    const char *path;
    void *file, *z;                /* FILE, z_stream (NULL: plain) */
    struct err err;                /* what went wrong below the text; filled once */
    bool is_in_member;
    uint64_t n_packed, base,
        line; /* bytes taken from the file; offset of data[0]; line of data[pos] */
    size_t pos, len;
    const unsigned char *data;
    unsigned char in[SOURCE_BYTES], out[SOURCE_BYTES];
};
int  source_open(struct source *s, const char *path);         /* -1: s->err says why */
void source_close(struct source *s);
int  source_fill(struct source *s);                           /* 0, SOURCE_END or SOURCE_BAD */
/* The next line without its line end, appended to nothing: b holds just it. 1, 0 at the end, -1. */
int  source_line(struct source *s, struct text *b, struct place *at);

static inline int source_peek(struct source *s)
{
    int rc = s->pos < s->len ? 0 : source_fill(s);

    return rc ? rc : s->data[s->pos];
}

static inline int source_get(struct source *s)
{
    int c = source_peek(s);

    if (c >= 0) {
        s->pos++;
        s->line += c == '\n';
    }
    return c;
}

static inline struct place source_place(const struct source *s, uint64_t row)
{
    return (struct place){ s->line, row, s->base + s->pos };
}

/* ---- walk: strings and depth of JSON text, a byte at a time ---- */
struct walk { int depth; bool in_string, is_escaped; };

static inline void walk_step(struct walk *w, int c)
{
    if (w->in_string) {
        if (w->is_escaped)
            w->is_escaped = false;
        else if (c == '\\')
            w->is_escaped = true;
        else if (c == '"')
            w->in_string = false;
    } else if (c == '"') {
        w->in_string = true;
    } else if (c == '{' || c == '[') {
        w->depth++;
    } else if (c == '}' || c == ']') {
        w->depth--;
    }
}

/* ---- a row on its way in: pointers are good until the next row ---- */
struct row {
    struct place at;
    int64_t arrive_us, n_prompt, n_out;
    const char *id;                /* NULL: the source's row number */
    const uint64_t *block;
    uint32_t n_block;
    bool has_blocks, has_more;
    struct trace_more more;
};

struct reader {
    struct trace *t;
    const struct trace_options *o;
    struct source *src;
    const char *path;
    struct pool pool;
    struct names ids, sessions, words;
    struct text head, row_text;
    uint64_t *block;               /* scratch of the row parsers */
    uint32_t *token;
    size_t cap_block, cap_token;
    uint64_t n_read;               /* rows taken from the file */
    int64_t count;                 /* what the header promises; -1: nothing */
    bool is_cut;                   /* the limit stopped reading before the end */
    bool has_epoch;
    bool has_no_clock;             /* the epoch is only where counting begins, not a time of day */
    int64_t epoch_us;              /* of the trace's zero, when has_epoch */
    char zone[8];
    uint64_t n_fall, n_joined, n_skipped, n_clipped;
    const struct text_format *texts;   /* the file is a set of texts; NULL: it is not */
    uint64_t n_empty, n_turn;          /* rows left out; later turns left out */
    int64_t last_us, top_us;       /* arrival of the row before; latest so far */
    uint64_t n_error;
    struct err first;
    char first_line[1000];
};

/* Notes one refusal; always -1. The caller goes on with the next row or gives up. at NULL: the
 * file. */
int reader_fail(struct reader *r, const struct place *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int reader_nomem(struct reader *r);
void reader_warn(struct reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* True when the limit is reached: stop reading. */
bool reader_full(struct reader *r);
/* Outside text fit for a message: printable, at most 40 characters, in quotes. */
const char *shown(const char *text, size_t n, char buf[64]);
const char *shown_json(const json_t *v, char buf[64]);

int rows_add(struct reader *r, struct row *row);              /* -1 only when memory is out */
int rows_finish(struct reader *r);                            /* order, links, warnings, choices */
int rows_link(struct reader *r, uint32_t i, const struct place *at);

/* JSON values with their rule; each -1 after reader_fail. */
json_t *json_text(struct reader *r, const struct place *at, const char *text, size_t n);
int json_number(struct reader *r, const struct place *at, const char *key, const json_t *v,
                double min, double max, double *out);
int json_whole(struct reader *r, const struct place *at, const char *key, const json_t *v,
               int64_t min, int64_t max, int64_t *out);
const char *json_word(struct reader *r, const struct place *at, const char *key, const json_t *v);
int json_slo(struct reader *r, const struct place *at, const json_t *v, struct slo *out);
int json_ids(struct reader *r, const struct place *at, const char *key,
             const json_t *v); /* -> block */
/* Refuses key, naming the nearest of names[0..n). */
int json_unknown(struct reader *r, const struct place *at, const char *key,
                 const char *const *names, size_t n);

int header_parse(struct reader *r, const struct place *at, json_t *v);
int row_parse(struct reader *r, const struct place *at, const char *text, size_t n);
int mooncake_row(struct reader *r, const struct place *at, const char *text, size_t n);
int mooncake_start(struct reader *r);
bool mooncake_looks(const json_t *first);

/* ---- texts without times ---- */
struct text_row { const char *id, *prompt, *answer; char digits[24]; uint32_t n_later; };
struct text_format {
    const char *name;              /* "mt-bench-jsonl" */
    /* Fills prompt and answer (NULL: has none) and the number of later turns; -1 after a refusal. */
    int (*take)(struct reader *r, const struct place *at, const json_t *v, struct text_row *out);
    bool (*looks)(const json_t *first);
};
extern const struct text_format sharegpt_format, mt_bench_format, arena_hard_format, gsm8k_format,
    human_eval_format;
/* The format of a file whose first request is this, or NULL. */
const struct text_format *texts_looks(const json_t *first);
/* Checks that everything that texts lack is given. */
int texts_start(struct reader *r, const struct text_format *f);
int texts_row(struct reader *r, const struct place *at, const char *text, size_t n);
/* A text's tokens; -1 after a refusal. */
int texts_count(struct reader *r, const struct place *at, const char *text, bool is_prompt,
                int64_t *out);
int texts_finish(struct reader *r);                           /* arrival times, counts */

int split_read(struct reader *r);                             /* JSON, JSONL, Mooncake JSONL, texts */
int azure_read(struct reader *r);                             /* text stands at the first line */

void time_text(int64_t epoch_us, char out[48]);               /* 2023-11-16T18:15:46.680590 */

#endif
