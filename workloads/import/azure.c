/* azure.c - CSV: Azure LLM inference traces (TIMESTAMP, ContextTokens, GeneratedTokens), or anybody's log whose columns
 * options.csv names.
 *
 * Columns are found by name, since the sources order them differently; other columns are named once
 * and left out. Times have 0 to 9 digits of a second, with or without a zone, one zone a file. They
 * become microseconds from the earliest row, and the clock of the first is kept as time_zero.
 * A log of one's own may have bare numbers instead: seconds, ms, us or ns, since 1970 or since anything. Where the
 * unit is not given it follows from the first row, if that is a time since 1970 (2001 to 2286); else they are seconds. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "workloads/reader.h"

enum { COL_TIME = CSV_ARRIVED, COL_IN = CSV_INPUT, COL_OUT = CSV_OUTPUT, N_COL = CSV_COLUMNS, MAX_CELL = 64 };
static const char *const azure_columns[N_COL] = { "TIMESTAMP", "ContextTokens", "GeneratedTokens" };

struct cell { char *text; size_t n; };
struct csv {
    struct reader *r;
    const char *const *columns;    /* [N_COL] */
    bool is_own;                   /* not Azure's */
    enum csv_clock clock;          /* of bare numbers; CLOCK_GUESS until the first row, or with dates */
    int at[N_COL];                 /* which cell holds which column */
    int n_cell;                    /* cells a line must have */
    bool is_number, has_zone;      /* first row's choice */
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
                       "GeneratedTokens; other columns are named with --column",
                       shown(text, n, buf));
}

static int find_columns(struct csv *c, const struct place *at, struct text *b)
{
    struct cell cell[MAX_CELL];
    char buf[64];
    int n;

    if (!c->is_own && !memmem(b->p, b->n, c->columns[0], strlen(c->columns[0])) &&
        !memmem(b->p, b->n, c->columns[1], strlen(c->columns[1])))
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

        while (k < N_COL && strcmp(cell[i].text, c->columns[k]))
            k++;
        if (k == N_COL)
            reader_warn(c->r, "note: column %s is left out", shown(cell[i].text, cell[i].n, buf));
        else if (c->at[k] >= 0)
            return reader_fail(c->r, at, "column %.60s stands twice", c->columns[k]);
        else
            c->at[k] = i;
    }
    for (int k = 0; k < N_COL; k++)
        if (c->at[k] < 0)
            return reader_fail(c->r, at, "column %.60s is missing%s", c->columns[k],
                               c->is_own ? "; --column takes names of this line" : "");
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

/* A bare number, in units of the clock, as microseconds; -1 when it is none. Ten digits before the point are seconds
 * since 1970, thirteen ms, and so on; what is smaller counts from somewhere else. */
static int number_time(const char *s, enum csv_clock *clock, int64_t *us)
{
    static const int64_t per_unit[] = { 0, 1000000, 1000, 1, 0 };
    int64_t whole = 0, part;
    int n = 0;

    for (; *s >= '0' && *s <= '9'; s++, n++) {
        if (n == 19 || whole > INT64_MAX / 10 - 1)
            return -1;
        whole = whole * 10 + (*s - '0');
    }
    if (!n || (part = fraction(&s)) < 0 || *s)
        return -1;
    if (*clock == CLOCK_GUESS)
        *clock = whole < INT64_C(10000000000) ? CLOCK_S : whole < INT64_C(10000000000000) ? CLOCK_MS
                 : whole < INT64_C(10000000000000000) ? CLOCK_US : CLOCK_NS;
    if (*clock == CLOCK_NS)
        return *us = whole / 1000, 0;
    if (whole > INT64_C(100000000000000000) / per_unit[*clock])
        return -1;
    *us = whole * per_unit[*clock] + part * per_unit[*clock] / 1000000;
    return 0;
}

/* The first row says what the file's times are. */
static void begin_clock(struct csv *c, int64_t us, bool is_number, bool has_zone, int zone_min)
{
    static const char *const units[] = { "", "seconds", "milliseconds", "microseconds", "nanoseconds" };
    struct reader *r = c->r;
    int a = abs(zone_min);

    r->has_epoch = true;
    r->epoch_us = us;
    c->has_zone = has_zone;
    c->zone_min = zone_min;
    r->has_no_clock = is_number && us < INT64_C(1000000000000000);        /* before 2001: counted from anywhere */
    if (has_zone)
        snprintf(r->zone, sizeof r->zone, "%c%02d:%02d", zone_min < 0 ? '-' : '+', a / 60 % 100,
                 a % 60);
    if (is_number && r->o->csv.clock == CLOCK_GUESS)
        reader_warn(r, "note: column %.60s is read as %s%s; 'unit=' in --column says otherwise", c->columns[COL_TIME],
                    units[c->clock], r->has_no_clock ? "" : " since 1970");
}

static int take_time(struct csv *c, const struct place *at, const struct cell *cell, int64_t *out)
{
    struct reader *r = c->r;
    enum csv_clock clock = c->clock;
    bool has_zone = false, is_number, is_whole = strlen(cell->text) == cell->n;
    int zone_min = 0;
    int64_t us;
    char buf[64];

    is_number = c->is_own && is_whole && !number_time(cell->text, &clock, &us);
    if (!is_number && (!is_whole || clock_time(cell->text, &us, &has_zone, &zone_min)))
        return reader_fail(r, at, "%.60s %s: not a time; expected YYYY-MM-DD HH:MM:SS, 0 to 9 "
                           "digits after a point, and a zone or none%s", c->columns[COL_TIME],
                           shown(cell->text, cell->n, buf), c->is_own ? "; or a number" : "");
    has_zone = has_zone || is_number;                 /* counted from 1970, it is UTC */
    if (!r->has_epoch) {
        c->clock = is_number ? clock : CLOCK_GUESS;
        c->is_number = is_number;
        begin_clock(c, us, is_number, has_zone, zone_min);
    }
    if (is_number != c->is_number)
        return reader_fail(r, at, "%.60s %s: the rows before have %s", c->columns[COL_TIME],
                           shown(cell->text, cell->n, buf), c->is_number ? "numbers" : "dates");
    if (has_zone != c->has_zone || zone_min != c->zone_min)
        return reader_fail(r, at,
                           "%.60s %s: not in the zone of the rows before; one zone a file", c->columns[COL_TIME],
                           shown(cell->text, cell->n, buf));
    *out = us - r->epoch_us;
    return 0;
}

static int take_count(struct csv *c, const struct place *at, int column, const struct cell *cell,
                      int64_t *out)
{
    char buf[64];

    if (!cell->n)
        return reader_fail(c->r, at, "%.60s: is empty", c->columns[column]);
    if (strlen(cell->text) == cell->n && !parse_int(cell->text, INT64_MIN, INT64_C(1) << 53, out))
        return 0;
    return reader_fail(c->r, at, "%.60s %s: not a whole number", c->columns[column],
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
    bool is_own = r->o->csv.column[COL_TIME];
    struct csv c = { .r = r, .is_own = is_own, .columns = is_own ? r->o->csv.column : azure_columns,
                     .clock = r->o->csv.clock };
    struct place at = { 0 };
    int rc;

    if (source_line(r->src, &r->row_text, &at) <= 0 || find_columns(&c, &at, &r->row_text))
        return -1;
    snprintf(r->t->format, sizeof r->t->format, "%s", is_own ? "csv" : "azure-csv");
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
