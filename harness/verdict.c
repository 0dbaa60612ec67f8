/* verdict.c - sentences about one group, computed; what they compare was run on one device and
 * clock. */
#include <math.h>
#include <string.h>

#include "harness/report.h"
#include "results/db.h"

struct end { char label[80]; double value; int n, ties; };   /* n: strategies with a value */

/* The row with the largest value (sign +1) or the smallest (-1) of a column of x_rows. */
static int find_end(struct selection *s, int64_t group, const char *column, int sign,
                    struct end *out, struct err *e)
{
    char sql[500];
    sqlite3_stmt *q;

    memset(out, 0, sizeof *out);
    snprintf(sql, sizeof sql,
             "WITH r AS (SELECT label, color_index, %s AS v FROM x_rows WHERE group_id = ?1 AND "
             "counted > 0 AND %s IS NOT NULL) SELECT label, v, (SELECT count(*) FROM r), (SELECT "
             "count(*) FROM r b WHERE b.v = r.v) FROM r ORDER BY v * %d DESC, color_index LIMIT 1",
             column, column, sign);
    if (!(q = db_prepare(s->db, s->path, sql, e)))
        return -1;
    sqlite3_bind_int64(q, 1, group);
    if (sqlite3_step(q) == SQLITE_ROW) {
        snprintf(out->label, sizeof out->label, "%s", column_str(q, 0));
        out->value = sqlite3_column_double(q, 1);
        out->n = sqlite3_column_int(q, 2);
        out->ties = sqlite3_column_int(q, 3) - 1;
    }
    sqlite3_finalize(q);
    return 0;
}

static const char *num(double v, char out[24])
{
    snprintf(out, 24, fabs(v) < 10 ? "%.2f" : fabs(v) < 99.95 ? "%.1f" : "%.0f", v);
    return out;
}

static void name_end(const struct end *d, const char *unit, char *out, size_t size)
{
    char v[24];

    if (d->ties)
        snprintf(out, size, "%s and %d more (%s %s)", d->label, d->ties, num(d->value, v), unit);
    else
        snprintf(out, size, "%s (%s %s)", d->label, num(d->value, v), unit);
}

struct aspect { const char *what, *column, *unit; int sign; bool ratio; };

static int one_aspect(struct selection *s, int64_t group, const struct aspect *a,
                      void (*each)(void *, const char *), void *ctx, struct err *e)
{
    struct end best, worst;
    char line[500], b[140], w[140], r[24];

    if (find_end(s, group, a->column, a->sign, &best, e) ||
        find_end(s, group, a->column, -a->sign, &worst, e))
        return -1;
    if (best.n == 0)
        return 0;
    name_end(&best, a->unit, b, sizeof b);
    name_end(&worst, a->unit, w, sizeof w);
    if (best.n == 1)
        snprintf(line, sizeof line, "%s: %s, the only strategy with a value.", a->what, b);
    else if (fabs(best.value - worst.value) <= 0.01 * fabs(worst.value))
        snprintf(line, sizeof line, "%s: within 1 %% for all %d strategies (%s %s).", a->what,
                 best.n, num(best.value, r), a->unit);
    else if (a->ratio && best.value > 0 && worst.value > 0)
        snprintf(line, sizeof line, "%s: %s; last is %s, a factor of %s.", a->what, b, w,
                 num(a->sign > 0 ? best.value / worst.value : worst.value / best.value, r));
    else
        snprintf(line, sizeof line, "%s: %s; last is %s.", a->what, b, w);
    each(ctx, line);
    return 0;
}

/* Pairs that differ in one part only: least and most of the throughput ratio over all such pairs.
 */
static int pairs(struct selection *s, int64_t group, const char *part, const char *same,
                 void (*each)(void *, const char *), void *ctx, struct err *e)
{
    char sql[700], line[300];
    sqlite3_stmt *q;

    snprintf(sql, sizeof sql,
             "SELECT a.%s, b.%s, count(*), min(a.tok_s / b.tok_s), max(a.tok_s / b.tok_s) FROM "
             "x_rows a JOIN x_rows b USING (group_id, %s) WHERE group_id = ?1 AND a.counted > 0 "
             "AND b.counted > 0 AND b.tok_s > 0 AND a.tok_s > 0 AND a.%s <> b.%s GROUP BY 1, 2 "
             "HAVING avg(a.tok_s) > avg(b.tok_s) OR (avg(a.tok_s) = avg(b.tok_s) AND a.%s < b.%s) "
             "ORDER BY 1, 2",
             part, part, same, part, part, part, part);
    if (!(q = db_prepare(s->db, s->path, sql, e)))
        return -1;
    sqlite3_bind_int64(q, 1, group);
    while (sqlite3_step(q) == SQLITE_ROW) {
        double lo = sqlite3_column_double(q, 3), hi = sqlite3_column_double(q, 4);
        int n = sqlite3_column_int(q, 2);

        if (lo > 0.99 && hi < 1.01)
            snprintf(line, sizeof line,
                     "%s against %s, the rest equal: no difference in throughput above 1 %% "
                     "(%d %s).",
                     column_str(q, 0), column_str(q, 1), n, n == 1 ? "pair" : "pairs");
        else if (n == 1)
            snprintf(line, sizeof line, "%s against %s, the rest equal: throughput x%.2f.",
                     column_str(q, 0), column_str(q, 1), lo);
        else
            snprintf(line, sizeof line,
                     "%s against %s, the rest equal: throughput x%.2f to x%.2f in %d "
                     "pairs.",
                     column_str(q, 0), column_str(q, 1), lo, hi, n);
        each(ctx, line);
    }
    sqlite3_finalize(q);
    return 0;
}

/* What the sentences above are worth. */
static int worth(struct selection *s, int64_t group, void (*each)(void *, const char *), void *ctx,
                 struct err *e)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path,
                                 "SELECT max(x.clock), min(r.repeats), (SELECT count(*) FROM "
                                 "x_rows a JOIN x_rows b USING (group_id) WHERE group_id = ?1 AND "
                                 "a.label < b.label AND a.tok_s_min <= b.tok_s_max AND "
                                 "b.tok_s_min <= a.tok_s_max), count(DISTINCT r.label) FROM "
                                 "x_rows r JOIN x_runs x USING (group_id) WHERE group_id = ?1 AND "
                                 "r.counted > 0",
                                 e);
    char line[300];

    if (!q)
        return -1;
    sqlite3_bind_int64(q, 1, group);
    if (sqlite3_step(q) == SQLITE_ROW && sqlite3_column_int(q, 3) > 1) {
        int repeats = sqlite3_column_int(q, 1), n = sqlite3_column_int(q, 3);

        if (strcmp(column_str(q, 0), "virtual") == 0)
            snprintf(line, sizeof line,
                     "All of this is computed from a model of the hardware, not measured.");
        else if (repeats < 2)
            snprintf(line, sizeof line,
                     "One run per strategy: small differences may be noise; use --repeats.");
        else
            snprintf(line, sizeof line,
                     "Of %d pairs of strategies, %d have throughputs that overlap over "
                     "%d repeats: between those there is no clear difference.",
                     n * (n - 1) / 2, sqlite3_column_int(q, 2), repeats);
        each(ctx, line);
    }
    sqlite3_finalize(q);
    return 0;
}

int report_verdict(struct selection *s, int64_t group, void (*each)(void *ctx, const char *line),
                   void *ctx, struct err *e)
{
    static const struct aspect aspects[] = {
        {"Highest throughput", "tok_s", "tok/s", 1, true},
        {"Shortest time to first token, p50", "ttft_p50_ms", "ms", -1, true},
        {"Shortest time to first token, p90", "ttft_p90_ms", "ms", -1, true},
        {"Shortest time per output token, p50", "tpot_p50_ms", "ms", -1, true},
        {"Most requests within the SLO", "attainment_pct", "%", 1, false},
        {"Least KV memory at the peak", "kv_peak_pct", "% of the pool", -1, false},
    };

    for (size_t i = 0; i < sizeof aspects / sizeof *aspects; i++)
        if (one_aspect(s, group, &aspects[i], each, ctx, e))
            return -1;
    if (pairs(s, group, "memory", "scheduler, weight_dtype", each, ctx, e) ||
        pairs(s, group, "weight_dtype", "scheduler, memory", each, ctx, e))
        return -1;
    return worth(s, group, each, ctx, e);
}
