/* verdict.c - sentences about one group, computed; what they compare was run on one device and
 * clock. */
#include <math.h>
#include <string.h>

#include "harness/capacity.h"
#include "harness/report.h"
#include "results/db.h"

/* Of a row of x_rows: another program took part of the machine in a run that counts (harness/validity.c). */
#define DISTURBED "EXISTS (SELECT 1 FROM x_runs u WHERE u.group_id = ?1 AND u.label = x_rows.label " \
    "AND u.is_counted AND u.reasons LIKE '%%others used%%')"

/* n: strategies with a value; ties: others within 1 % of it; near: further ones whose repeats overlap with its own. */
struct end { char label[96]; double value, lo, hi; int n, ties, near; bool disturbed; };

/* The row with the largest value (sign +1) or the smallest (-1) of a column of x_rows, with its range over runs. */
static int find_end(struct selection *s, int64_t group, const char *column, int sign,
                    struct end *out, struct err *e)
{
    char sql[1400];
    sqlite3_stmt *q;

    memset(out, 0, sizeof *out);
    snprintf(sql, sizeof sql,
             "WITH l AS (SELECT strategy_id, min(%s) AS lo, max(%s) AS hi FROM x_runs "
             "WHERE group_id = ?1 AND is_counted AND %s IS NOT NULL GROUP BY strategy_id), "
             "r AS (SELECT label, color_index, %s AS v, lo, hi, " DISTURBED " AS disturbed "
             "FROM x_rows JOIN l USING (strategy_id) WHERE group_id = ?1 AND counted > 0 AND %s IS NOT NULL) "
             "SELECT label || CASE WHEN disturbed THEN ' (disturbed)' ELSE '' END, v, (SELECT count(*) FROM r), "
             "(SELECT count(*) FROM r b WHERE abs(b.v - r.v) <= 0.01 * abs(r.v)), lo, hi, (SELECT count(*) FROM r b WHERE "
             "abs(b.v - r.v) > 0.01 * abs(r.v) AND b.lo <= r.hi AND r.lo <= b.hi), disturbed FROM r ORDER BY v * %d DESC, color_index LIMIT 1",
             column, column, column, column, column, sign);
    if (!(q = db_prepare(s->db, s->path, sql, e)))
        return -1;
    sqlite3_bind_int64(q, 1, group);
    if (sqlite3_step(q) == SQLITE_ROW) {
        snprintf(out->label, sizeof out->label, "%s", column_str(q, 0));
        out->value = sqlite3_column_double(q, 1);
        out->n = sqlite3_column_int(q, 2);
        out->ties = sqlite3_column_int(q, 3) - 1;
        out->lo = sqlite3_column_double(q, 4);
        out->hi = sqlite3_column_double(q, 5);
        out->near = sqlite3_column_int(q, 6);
        out->disturbed = sqlite3_column_int(q, 7);
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
        snprintf(out, size, "%s and %d more within 1 %% (%s %s)", d->label, d->ties, num(d->value, v), unit);
    else
        snprintf(out, size, "%s (%s %s)", d->label, num(d->value, v), unit);
}

struct aspect { const char *what, *column, *unit; int sign; bool ratio; };

/* A first and a last are named, and a ratio is given, only as far as the repeats carry it. */
static void say_ends(const struct aspect *a, const struct end *best, const struct end *worst, char *line, size_t size)
{
    char b[160], w[160], r[24], near[80] = "";

    name_end(best, a->unit, b, sizeof b);
    name_end(worst, a->unit, w, sizeof w);
    if (best->near)
        snprintf(near, sizeof near, ", not clear of %d %s whose repeats overlap", best->near,
                 best->near == 1 ? "other" : "others");
    if (best->n == 1)
        snprintf(line, size, "%s: %s, the only strategy with a value.", a->what, b);
    else if (fabs(best->value - worst->value) <= 0.01 * fabs(worst->value))
        snprintf(line, size, "%s: within 1 %% for all %d strategies (%s %s).", a->what,
                 best->n, num(best->value, r), a->unit);
    else if (best->lo <= worst->hi && worst->lo <= best->hi)
        snprintf(line, size, "%s: no clear difference between first and last: %s and %s overlap over their repeats.",
                 a->what, b, w);
    else if (a->ratio && best->value > 0 && worst->value > 0 && !best->disturbed && !worst->disturbed)
        snprintf(line, size, "%s: %s%s; last is %s, a factor of %s.", a->what, b, near, w,
                 num(a->sign > 0 ? best->value / worst->value : worst->value / best->value, r));
    else
        snprintf(line, size, "%s: %s%s; last is %s.", a->what, b, near, w);
}

static int one_aspect(struct selection *s, int64_t group, const struct aspect *a,
                      void (*each)(void *, const char *), void *ctx, struct err *e)
{
    struct end best, worst;
    char line[600];

    if (find_end(s, group, a->column, a->sign, &best, e) ||
        find_end(s, group, a->column, -a->sign, &worst, e))
        return -1;
    if (best.n == 0)
        return 0;
    say_ends(a, &best, &worst, line, sizeof line);
    each(ctx, line);
    return 0;
}

/* "; 25 % against 1.6 % of the requests within the SLO", over all pairs from least to most; "" where none is asked. */
static void pair_slo(sqlite3_stmt *q, int n, char *out, size_t size)
{
    double v[4];

    *out = '\0';
    for (int i = 0; i < 4; i++) {
        if (sqlite3_column_type(q, 5 + i) == SQLITE_NULL)
            return;
        v[i] = sqlite3_column_double(q, 5 + i);
    }
    if (n == 1)
        snprintf(out, size, "; %.3g %% against %.3g %% of the requests within the SLO", v[0], v[2]);
    else
        snprintf(out, size, "; %.3g to %.3g %% against %.3g to %.3g %% of the requests within the SLO", v[0], v[1],
                 v[2], v[3]);
}

/* Pairs that differ in one part only, with all knobs of the others and the launch equal: least and most of the
 * throughput ratio over all such pairs. In x, s_all and m_all are scheduler and memory with their knobs,
 * p_all is the precision with its launch, l_all the launch. Disturbed runs are no ground for a ratio. */
static int pairs(struct selection *s, int64_t group, const char *part, const char *same,
                 void (*each)(void *, const char *), void *ctx, struct err *e)
{
    char sql[1600], line[300];
    sqlite3_stmt *q;

    snprintf(sql, sizeof sql,
             "WITH n AS (SELECT *, substr(strategy, instr(strategy, '+') + 1) AS t FROM x_rows "
             "WHERE group_id = ?1 AND counted > 0 AND tok_s > 0 AND NOT " DISTURBED "), "
             "p AS (SELECT *, substr(strategy, 1, instr(strategy, '+')) AS s_all, "
             "substr(t, 1, instr(t, '+')) AS m_all, substr(t, instr(t, '+') + 1) || '+' AS p_all "
             "FROM n), x AS (SELECT *, substr(p_all, instr(p_all, '+')) AS l_all FROM p) "
             "SELECT a.%s, b.%s, count(*), min(a.tok_s / b.tok_s), max(a.tok_s / b.tok_s), "
             "min(a.attainment_pct), max(a.attainment_pct), min(b.attainment_pct), max(b.attainment_pct) FROM "
             "x a JOIN x b USING (%s) WHERE a.%s <> b.%s GROUP BY 1, 2 "
             "HAVING avg(a.tok_s) > avg(b.tok_s) OR (avg(a.tok_s) = avg(b.tok_s) AND a.%s < b.%s) "
             "ORDER BY 1, 2",
             part, part, same, part, part, part, part);
    if (!(q = db_prepare(s->db, s->path, sql, e)))
        return -1;
    sqlite3_bind_int64(q, 1, group);
    while (sqlite3_step(q) == SQLITE_ROW) {
        double lo = sqlite3_column_double(q, 3), hi = sqlite3_column_double(q, 4);
        int n = sqlite3_column_int(q, 2);
        char slo[120];

        pair_slo(q, n, slo, sizeof slo);
        if (lo > 0.99 && hi < 1.01)
            snprintf(line, sizeof line,
                     "%s against %s, the rest equal: no difference in throughput above 1 %% "
                     "(%d %s)%s.",
                     column_str(q, 0), column_str(q, 1), n, n == 1 ? "pair" : "pairs", slo);
        else if (n == 1)
            snprintf(line, sizeof line, "%s against %s, the rest equal: throughput x%.2f%s.",
                     column_str(q, 0), column_str(q, 1), lo, slo);
        else
            snprintf(line, sizeof line,
                     "%s against %s, the rest equal: throughput x%.2f to x%.2f in %d "
                     "pairs%s.",
                     column_str(q, 0), column_str(q, 1), lo, hi, n, slo);
        each(ctx, line);
    }
    sqlite3_finalize(q);
    return 0;
}

/* How often, in percent, the ranges of two times n runs of one kind do not overlap: 2 / (2n over n). */
static double parts_by_chance(int n)
{
    double p = 200;

    for (int k = 1; k <= n; k++)
        p *= (double)k / (n + k);
    return p;
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
    char line[400];

    if (!q)
        return -1;
    sqlite3_bind_int64(q, 1, group);
    if (sqlite3_step(q) == SQLITE_ROW && sqlite3_column_int(q, 3) > 1) {
        int repeats = sqlite3_column_int(q, 1), n = sqlite3_column_int(q, 3);
        double chance = parts_by_chance(repeats);

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
        if (strcmp(column_str(q, 0), "virtual") != 0 && repeats > 1 && chance > 5)
            snprintf(line + strlen(line), sizeof line - strlen(line), " Few repeats: the ranges of two equal strategies "
                     "part by chance in %.0f %% of the cases; with --repeats 5 in %.1f %%.", chance, parts_by_chance(5));
        each(ctx, line);
    }
    sqlite3_finalize(q);
    return 0;
}

/* The percentile that the table shows too; "p90" where none can be carried: its sentences are left out then. */
static int find_tail(struct selection *s, int64_t group, char tail[8], struct err *e)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path, "SELECT tail FROM x_tails WHERE group_id = ?1 AND tail <> 'p50'", e);

    if (!q)
        return -1;
    sqlite3_bind_int64(q, 1, group);
    snprintf(tail, 8, "%s", sqlite3_step(q) == SQLITE_ROW ? column_str(q, 0) : "p90");
    sqlite3_finalize(q);
    return 0;
}

int report_verdict(struct selection *s, int64_t group, void (*each)(void *ctx, const char *line),
                   void *ctx, struct err *e)
{
    char tail[8], ttft_tail[60], ttft[20], tpot_tail[60], tpot[20];
    const struct aspect aspects[] = {
        {"Highest throughput", "tok_s", "tok/s", 1, true},
        {"Shortest time to first token, p50", "ttft_p50_ms", "ms", -1, true},
        {ttft_tail, ttft, "ms", -1, true},
        {"Shortest time per output token, p50", "tpot_p50_ms", "ms", -1, true},
        {tpot_tail, tpot, "ms", -1, true},
        {"Most requests within the SLO", "attainment_pct", "%", 1, false},
        {"Least KV memory at the peak", "kv_peak_pct", "% of the pool", -1, false},
    };
    struct capacity_load load;

    if (find_tail(s, group, tail, e) || capacity_load(s, group, &load, e))
        return -1;
    snprintf(ttft_tail, sizeof ttft_tail, "Shortest time to first token, %s", tail);
    snprintf(ttft, sizeof ttft, "ttft_%s_ms", tail);
    snprintf(tpot_tail, sizeof tpot_tail, "Shortest time per output token, %s", tail);
    snprintf(tpot, sizeof tpot, "tpot_%s_ms", tail);
    if (*load.line)
        each(ctx, load.line);
    for (size_t i = load.served; i < sizeof aspects / sizeof *aspects; i++)
        if (one_aspect(s, group, &aspects[i], each, ctx, e))
            return -1;
    if (pairs(s, group, "memory", "s_all, p_all", each, ctx, e) ||
        pairs(s, group, "weight_dtype", "s_all, m_all, l_all", each, ctx, e))
        return -1;
    return worth(s, group, each, ctx, e);
}
