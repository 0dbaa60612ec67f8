/* azure.c - Azure LLM inference traces: CSV with TIMESTAMP, ContextTokens, GeneratedTokens.
 *
 * Columns are found by name, since the sources order them differently; other columns are named once
 * and left out. Times have 0 to 9 digits of a second, with or without a zone, one zone a file. They
 * become microseconds from the earliest row, and the clock of the first is kept as time_zero. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "workloads/reader.h"

enum { COL_TIME, COL_IN, COL_OUT, N_COL, MAX_CELL = 64 };
static const char *const columns[N_COL] = { "TIMESTAMP", "ContextTokens", "GeneratedTokens" };

struct cell { char *text; size_t n; };
struct csv {
    struct reader *r;
    int at[N_COL];                 /* which cell holds which column */
    int n_cell;                    /* cells a line must have */
    bool has_zone;                 /* first row's choice */
    int zone_min;
};

/* Cuts a line into cells in place, each ended by NUL. The count, or -1 after a refusal. */
static int cut_cells(struct reader *r, const struct place *at, struct text *b, struct cell *cell)
{
    char *s = b->p, *end = b->p + b->n;
    int n = 0;

    for (;;) {
        char *from = s;

        if (n == MAX_CELL)
            return reader_fail(r, at, "more than %d columns", MAX_CELL);
        if (s < end && *s == '"') {
            from = ++s;
            s = memchr(s, '"', (size_t)(end - s));
            if (!s)
                return reader_fail(r, at, "a quote is not closed");
            cell[n++] = (struct cell){ from, (size_t)(s - from) };
            *s++ = 0;
            if (s < end && *s != ',')
                return reader_fail(r, at, "text follows a closing quote");
        } else {
            s = memchr(s, ',', (size_t)(end - s));
            s = s ? s : end;
            cell[n++] = (struct cell){ from, (size_t)(s - from) };
        }
        if (s >= end) {
            *end = 0;
            return n;
        }
        *s++ = 0;
    }
}

static int refuse_header(struct reader *r, const struct place *at, const char *text, size_t n)
{
    static const struct { const char *mark, *what; } others[] = {
        { "Request tokens", "BurstGPT CSV" }, { "num_prefill_tokens", "Vidur or etalon CSV" },
        { "prompt_size", "splitwise-sim CSV" },
    };
    char buf[64];

    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (memmem(text, n, others[i].mark, strlen(others[i].mark)))
            return reader_fail(r, at, "%s is not supported; write it as serving-trace/1 (workloads/"
                               "README.md)", others[i].what);
    if (memchr(text, ';', n) && !memchr(text, ',', n))
        return reader_fail(r, at, "the columns are separated by ';'; expected ','");
    return reader_fail(r, at,
                       "unknown format: the file begins with %s; expected serving-trace/1 (JSON "
                       "or JSONL), Mooncake JSONL, or CSV with the columns TIMESTAMP, "
                       "ContextTokens, "
                       "GeneratedTokens",
                       shown(text, n, buf));
}

static int find_columns(struct csv *c, const struct place *at, struct text *b)
{
    struct cell cell[MAX_CELL];
    char buf[64];
    int n;

    if (!memmem(b->p, b->n, columns[0], strlen(columns[0])) &&
        !memmem(b->p, b->n, columns[1], strlen(columns[1])))
        return refuse_header(c->r, at, b->p, b->n);
    if (!memchr(b->p, ',', b->n))
        return refuse_header(c->r, at, b->p, b->n);
    if ((n = cut_cells(c->r, at, b, cell)) < 0)
        return -1;
    c->n_cell = n;
    for (int k = 0; k < N_COL; k++)
        c->at[k] = -1;
    for (int i = 0; i < n; i++) {
        int k = 0;

        while (k < N_COL && strcmp(cell[i].text, columns[k]))
            k++;
        if (k == N_COL)
            reader_warn(c->r, "note: column %s is left out", shown(cell[i].text, cell[i].n, buf));
        else if (c->at[k] >= 0)
            return reader_fail(c->r, at, "column %s stands twice", columns[k]);
        else
            c->at[k] = i;
    }
    for (int k = 0; k < N_COL; k++)
        if (c->at[k] < 0)
            return reader_fail(c->r, at, "column %s is missing", columns[k]);
    return 0;
}

/* n digits at *s, moved past them; -1 when there are fewer. */
static int digits(const char **s, int n)
{
    int v = 0;

    for (int i = 0; i < n; i++, (*s)++) {
        if (**s < '0' || **s > '9')
            return -1;
        v = v * 10 + (**s - '0');
    }
    return v;
}

static int month_days(int y, int m)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

    return days[m - 1] + (m == 2 && (y % 4 == 0) && (y % 100 != 0 || y % 400 == 0));
}

/* Days since 1970-01-01; Howard Hinnant's days_from_civil. */
static int64_t days_from(int y, int m, int d)
{
    int64_t yy = y - (m <= 2), era = (yy >= 0 ? yy : yy - 399) / 400, yoe = yy - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;

    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* Up to 9 digits after the point, rounded to microseconds; -1 when malformed. */
static int64_t fraction(const char **s)
{
    int64_t v = 0;
    int n = 0;

    if (**s != '.')
        return 0;
    for ((*s)++; **s >= '0' && **s <= '9'; (*s)++, n++) {
        if (n == 9)
            return -1;
        v = v * 10 + (**s - '0');
    }
    for (; n < 9; n++)
        v *= 10;
    return (v + 500) / 1000;
}

/* "", "Z", "+00:00". Minutes east into *min; whether there was one into *has; -1 when malformed. */
static int zone(const char *s, bool *has, int *min)
{
    int sign = *s == '-' ? -1 : 1, h, m;

    *has = *s != 0;
    *min = 0;
    if (!*s || (*s == 'Z' && !s[1]))
        return 0;
    if (*s != '+' && *s != '-')
        return -1;
    s++;
    if ((h = digits(&s, 2)) < 0 || h > 14)
        return -1;
    s += *s == ':';
    if ((m = digits(&s, 2)) < 0 || m > 59 || *s)
        return -1;
    *min = sign * (h * 60 + m);
    return 0;
}

/* YYYY-MM-DD HH:MM:SS[.fffffffff][zone] as microseconds of its own clock. */
static int clock_time(const char *s, int64_t *us, bool *has_zone, int *zone_min)
{
    int y = digits(&s, 4), mo, d, h, mi, sec;
    int64_t frac;

    if (y < 0 || *s++ != '-' || (mo = digits(&s, 2)) < 1 || mo > 12 || *s++ != '-')
        return -1;
    if ((d = digits(&s, 2)) < 1 || d > month_days(y, mo) || (*s != ' ' && *s != 'T'))
        return -1;
    s++;
    if ((h = digits(&s, 2)) < 0 || h > 23 || *s++ != ':' || (mi = digits(&s, 2)) < 0 || mi > 59 ||
        *s++ != ':' || (sec = digits(&s, 2)) < 0 || sec > 59)
        return -1;
    if ((frac = fraction(&s)) < 0 || zone(s, has_zone, zone_min))
        return -1;
    *us = ((days_from(y, mo, d) * 24 + h) * 60 + mi) * 60000000 + sec * INT64_C(1000000) + frac;
    return 0;
}

static int take_time(struct csv *c, const struct place *at, const struct cell *cell, int64_t *out)
{
    struct reader *r = c->r;
    bool has_zone;
    int zone_min, a;
    int64_t us;
    char buf[64];

    if (strlen(cell->text) != cell->n || clock_time(cell->text, &us, &has_zone, &zone_min))
        return reader_fail(r, at, "TIMESTAMP %s: not a time; expected YYYY-MM-DD HH:MM:SS, 0 to 9 "
                           "digits after a point, and a zone or none",
                           shown(cell->text, cell->n, buf));
    if (!r->has_epoch) {
        r->has_epoch = true;
        r->epoch_us = us;
        c->has_zone = has_zone;
        c->zone_min = zone_min;
        a = abs(zone_min);
        if (has_zone)
            snprintf(r->zone, sizeof r->zone, "%c%02d:%02d", zone_min < 0 ? '-' : '+', a / 60 % 100,
                     a % 60);
    }
    if (has_zone != c->has_zone || zone_min != c->zone_min)
        return reader_fail(r, at,
                           "TIMESTAMP %s: not in the zone of the rows before; one zone a file",
                           shown(cell->text, cell->n, buf));
    *out = us - r->epoch_us;
    return 0;
}

static int take_count(struct csv *c, const struct place *at, int column, const struct cell *cell,
                      int64_t *out)
{
    char buf[64];

    if (!cell->n)
        return reader_fail(c->r, at, "%s: is empty", columns[column]);
    if (strlen(cell->text) == cell->n && !parse_int(cell->text, INT64_MIN, INT64_C(1) << 53, out))
        return 0;
    return reader_fail(c->r, at, "%s %s: not a whole number", columns[column],
                       shown(cell->text, cell->n, buf));
}

static int take_line(struct csv *c, const struct place *at, struct text *b)
{
    struct row w = { .at = *at, .more.think_s = -1 };
    struct cell cell[MAX_CELL];
    char buf[64];
    int n;

    if (c->n_cell == 1 || !memchr(b->p, ',', b->n))
        return reader_fail(c->r, at, "%s: expected %d cells separated by ','",
                           shown(b->p, b->n, buf), c->n_cell),
               0;
    if ((n = cut_cells(c->r, at, b, cell)) < 0)
        return 0;
    if (n != c->n_cell)
        return reader_fail(c->r, at, "%d cells, but the header has %d columns", n, c->n_cell), 0;
    if (take_time(c, at, &cell[c->at[COL_TIME]], &w.arrive_us) ||
        take_count(c, at, COL_IN, &cell[c->at[COL_IN]], &w.n_prompt) ||
        take_count(c, at, COL_OUT, &cell[c->at[COL_OUT]], &w.n_out))
        return 0;
    return rows_add(c->r, &w);
}

int azure_read(struct reader *r)
{
    struct csv c = { .r = r };
    struct place at = { 0 };
    int rc;

    if (source_line(r->src, &r->row_text, &at) <= 0 || find_columns(&c, &at, &r->row_text))
        return -1;
    snprintf(r->t->format, sizeof r->t->format, "azure-csv");
    r->t->time_step_s = 1e-6;
    while (!reader_full(r)) {
        if ((rc = source_line(r->src, &r->row_text, &at)) <= 0)
            return rc;
        if (!r->row_text.n && source_peek(r->src) == SOURCE_END)
            return 0;
        if (!r->row_text.n)
            return reader_fail(r, &at, "an empty line between rows; take it out");
        at.row = ++r->n_read;
        if (take_line(&c, &at, &r->row_text))
            return -1;
    }
    return 0;
}
