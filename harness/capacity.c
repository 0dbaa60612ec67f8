/* capacity.c - how much load a strategy bears.
 *
 * Capacity is the highest rate at which at least 90 % of the requests that arrived meet all limits of the SLO:
 * DistServe (OSDI 2024, section 2: goodput with 90 % attainment), Sarathi-Serve (OSDI 2024, section 5: the highest rate
 * within the SLO). It is read off the rates that were run: the highest one such that it and all lower ones hold.
 * Nothing is interpolated: where all hold it is at least the highest (">= x8"), where the lowest fails it is below that
 * ("< x1"). */
#include "harness/capacity.h"

#include <string.h>

#include "base/num.h"
#include "harness/verb.h"
#include "results/db.h"

int capacity_share(const char *text, double *out, struct err *e)
{
    if (!parse_real(text, 1e-3, 100, out))
        return 0;
    return err_set(e, EXIT_USAGE, "--slo-share %s: expected the percentage of requests that must meet the SLO, above 0 "
                   "to 100, such as 90", text);
}

const char *capacity_sql(const struct selection *s, char *out, size_t size)
{
    snprintf(out, size,
             "WITH p AS (SELECT r.strategy_id, r.label, r.color_index, g.rate_scale AS rate, r.attainment_pct AS met, "
             "r.goodput_rps AS good, r.suspect, (t.request_count - 1) * 1e9 / t.duration_ns AS rps FROM x_rows r "
             "JOIN x_tails w USING (group_id) JOIN x_groups g ON g.rowid = r.group_id "
             "JOIN traces t ON t.trace_id = g.trace_id "
             "WHERE w.family = ?1 AND r.counted > 0 AND r.attainment_pct IS NOT NULL), "
             "f AS (SELECT strategy_id, label, color_index, rps, min(rate) AS lowest, "
             "min(rate) FILTER (WHERE met < %.9g) AS fails FROM p GROUP BY strategy_id), "
             "b AS (SELECT *, (SELECT max(rate) FROM p WHERE p.strategy_id = f.strategy_id AND "
             "(f.fails IS NULL OR p.rate < f.fails)) AS holds FROM f) "
             "SELECT b.label || iif(coalesce(h.suspect, 0) OR coalesce(l.suspect, 0), ' ?', ''), "
             "CASE WHEN holds IS NULL THEN printf('< x%%.4g', lowest) WHEN fails IS NULL THEN "
             "printf('>= x%%.4g', holds) ELSE printf('x%%.4g', holds) END, b.rps * holds, h.met, h.good, "
             "CASE WHEN fails IS NULL THEN '' ELSE printf('%%.3g %%%% at x%%.4g', l.met, fails) END, "
             "b.label, coalesce(h.suspect, 0) OR coalesce(l.suspect, 0) "
             "FROM b LEFT JOIN p h ON h.strategy_id = b.strategy_id AND h.rate = holds "
             "LEFT JOIN p l ON l.strategy_id = b.strategy_id AND l.rate = fails "
             "ORDER BY holds DESC, fails IS NOT NULL, coalesce(l.met, h.met) DESC, b.color_index", s->slo_share);
    return out;
}

static void print_table(FILE *out, sqlite3_stmt *q)
{
    fprintf(out, "%-25s %8s %8s %8s %9s   %s\n", "strategy", "rate", "req/s", "SLO met", "goodput", "fails with");
    while (sqlite3_step(q) == SQLITE_ROW) {
        char rps[24], met[24], good[24];

        fprintf(out, "%-25s%s", column_str(q, 0), strlen(column_str(q, 0)) > 25 ? "\n                         " : "");
        fprintf(out, " %8s %8s %6s%s %9s   %s\n", column_str(q, 1), number_str(q, 2, rps), number_str(q, 3, met),
                sqlite3_column_type(q, 3) == SQLITE_NULL ? "  " : " %", number_str(q, 4, good), column_str(q, 5));
    }
}

static int print_family(FILE *out, struct selection *s, sqlite3_stmt *about, int64_t family, struct err *e)
{
    char sql[2400], slo[100], trace[61], backend[48];
    const char *note = clock_note(column_str(about, 3), column_str(about, 4));
    sqlite3_stmt *q = db_prepare(s->db, s->path, capacity_sql(s, sql, sizeof sql), e);

    if (!q)
        return -1;
    sqlite3_bind_int64(q, 1, family);
    slo_str(column_str(about, 5), slo, sizeof slo);
    label_safe(column_str(about, 0), trace, sizeof trace);
    backend_str(column_str(about, 2), backend, sizeof backend);
    fprintf(out, "\nhighest rate with at least %g %% of the requests within the SLO\n%s on %s  SLO %s\n%s%s",
            s->slo_share, trace, backend, slo, note, *note ? "\n" : "");
    print_table(out, q);
    sqlite3_finalize(q);
    return 0;
}

int capacity_print(FILE *out, struct selection *s, struct err *e)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path, CAPACITY_FAMILIES, e);
    sqlite3_stmt *about = q ? db_prepare(s->db, s->path, CAPACITY_ABOUT, e) : NULL;
    int bad = !about;

    while (!bad && sqlite3_step(q) == SQLITE_ROW) {
        sqlite3_bind_int64(about, 1, sqlite3_column_int64(q, 0));
        if (sqlite3_step(about) == SQLITE_ROW)
            bad = print_family(out, s, about, sqlite3_column_int64(q, 0), e);
        sqlite3_reset(about);
    }
    sqlite3_finalize(q);
    sqlite3_finalize(about);
    return bad ? -1 : 0;
}

/* Least throughput against what was asked (tokens of the trace over the time of its arrivals), and the best share of
 * requests within the SLO. Without rows of requests nothing is known of what was asked. */
static const char load_sql[] =
    "WITH o AS (SELECT sum(target_output_tokens) * 1e9 / nullif(max(arrival_ns) - min(arrival_ns), 0) AS asked "
    "FROM requests WHERE run_id = (SELECT min(run_id) FROM x_rows WHERE group_id = ?1 AND counted > 0)) "
    "SELECT count(*), min(tok_s), max(tok_s), o.asked, max(attainment_pct) FROM x_rows, o "
    "WHERE group_id = ?1 AND counted > 0";

int capacity_load(struct selection *s, int64_t group, struct capacity_load *out, struct err *e)
{
    enum { KEEPS_UP = 95 };            /* percent of what was asked: the rest is the end of the last answers */
    sqlite3_stmt *q = db_prepare(s->db, s->path, load_sql, e);

    memset(out, 0, sizeof *out);
    if (!q)
        return -1;
    sqlite3_bind_int64(q, 1, group);
    if (sqlite3_step(q) == SQLITE_ROW) {
        double asked = sqlite3_column_double(q, 3), least = sqlite3_column_double(q, 1);
        bool has_slo = sqlite3_column_type(q, 4) != SQLITE_NULL;

        out->served = sqlite3_column_int(q, 0) > 1 && asked > 0 && least * 100 >= asked * KEEPS_UP;
        if (out->served)
            snprintf(out->line, sizeof out->line, "All strategies served the offered load (%.3g tok/s asked, %.3g to "
                     "%.3g put out): throughput does not tell them apart here, latency does; a higher --rate would.",
                     asked, least, sqlite3_column_double(q, 2));
        else if (has_slo && sqlite3_column_double(q, 4) < s->slo_share)
            snprintf(out->line, sizeof out->line, "More than any strategy here bears: at most %.3g %% of the requests "
                     "are within the SLO, %g %% are asked for; throughput below counts answers that come too late.",
                     sqlite3_column_double(q, 4), s->slo_share);
    }
    sqlite3_finalize(q);
    return 0;
}
