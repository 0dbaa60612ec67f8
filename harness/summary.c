#include "harness/summary.h"

#include <string.h>

#include "base/plain.h"
#include "harness/capacity.h"
#include "results/db.h"

/* Columns of the table: where from, width, whether a larger value is better, or neither (0). */
struct column { const char *sql; int width, better; };
enum { N_COL = 7, NAME_WIDTH = 25 };
struct layout {
    struct column col[N_COL];
    const char *tail;              /* the highest percentile that all rows have, at least p90 */
    int64_t n;                     /* requests that finished, per run, at least */
};

static void choose_layout(struct selection *s, int64_t group, struct layout *l)
{
    static const struct { const char *p, *ttft, *tpot; } tails[] = {
        {"p90", "ttft_p90_ms", "tpot_p90_ms"}, {"p95", "ttft_p95_ms", "tpot_p95_ms"},
        {"p99", "ttft_p99_ms", "tpot_p99_ms"}
    };
    size_t t = (size_t)db_int(s->db, "SELECT (tail = 'p95') + 2 * (tail = 'p99') FROM x_tails "
                              "WHERE group_id = ?1", group, 0);

    l->tail = tails[t].p;
    l->n = db_int(s->db, "SELECT min(arrived - missed) FROM x_rows WHERE group_id = ?1", group, 0);
    l->col[0] = (struct column){"tok_s", 6, 1};
    l->col[1] = (struct column){"ttft_p50_ms", 9, -1};
    l->col[2] = (struct column){tails[t].ttft, 8, -1};
    l->col[3] = (struct column){"tpot_p50_ms", 9, -1};
    l->col[4] = (struct column){tails[t].tpot, 7, -1};
    l->col[5] = (struct column){"attainment_pct", 8, 1};
    l->col[6] = (struct column){"kv_peak_pct", 8, 0};
}

/* Breaks a line at blanks so that it stays within 80 columns. */
static void print_note(void *ctx, const char *text)
{
    char copy[2000];
    const char *line = copy;
    FILE *out = ctx;
    size_t at = 0;

    snprintf(copy, sizeof copy, "%s", text);
    plain(copy);
    while (*line) {
        size_t word = strcspn(line, " ");

        if (at && at + 1 + word > 80) {
            fputs("\n  ", out);
            at = 2;
        } else if (at) {
            fputc(' ', out);
            at++;
        }
        for (size_t i = 0; i < word; i++)
            fputc((unsigned char)line[i] < ' ' ? '?' : line[i], out);
        at += word;
        line += word + (line[word] == ' ');
    }
    fputc('\n', out);
}

/* Two lines, one for the KV pool and one for virtual clocks, then the headings. */
static void print_head(FILE *out, struct selection *s, sqlite3_stmt *g, const struct layout *l, int64_t repeats)
{
    char text[600], slo[100], model[40], backend[48], pool[160];
    const char *note = clock_note(column_str(g, 3), column_str(g, 4));
    double rate = sqlite3_column_double(g, 8);

    snprintf(text, sizeof text, "%.60s  %lld requests  x%g rate", column_str(g, 0),
             (long long)sqlite3_column_int64(g, 5), sqlite3_column_double(g, 6));
    if (rate > 0)
        snprintf(text + strlen(text), sizeof text - strlen(text), " (%.3g req/s)", rate);
    snprintf(text + strlen(text), sizeof text - strlen(text), "  %lld %s", (long long)repeats,
             repeats == 1 ? "repeat" : "repeats");
    print_note(out, text);
    label_safe(column_str(g, 1), model, sizeof model);
    slo_str(column_str(g, 7), slo, sizeof slo);
    kv_pool_str(s, sqlite3_column_int64(g, 10), true, pool, sizeof pool);
    backend_str(column_str(g, 2), backend, sizeof backend);
    snprintf(text, sizeof text, "%s  %s%s  SLO %s", backend, model,
             sqlite3_column_int(g, 9) ? ", synthetic weights" : "", slo);
    print_note(out, text);
    if (*pool)
        print_note(out, pool);
    if (*note)
        fprintf(out, "%s\n", note);
    fprintf(out, "%-*s%6s%9s%5s ms%9s%4s ms%8s%8s\n", NAME_WIDTH, "strategy", "tok/s", "TTFT p50",
            l->tail, "TPOT p50", l->tail, "SLO met", "KV peak");
}

static void print_cell(FILE *out, const struct column *c, sqlite3_stmt *row, int i,
                       const double *best, bool color)
{
    char num[24], text[32];
    bool has = sqlite3_column_type(row, i) != SQLITE_NULL;
    bool bold = color && has && near_best(sqlite3_column_double(row, i), *best, c->better);

    number_str(row, i, num);
    if (c->width == 8 && i >= 7 && has)                  /* percentages */
        snprintf(text, sizeof text, "%.12s %%", num);
    else
        snprintf(text, sizeof text, "%s", num);
    fprintf(out, bold ? "\033[1m%*s\033[0m" : "%*s", c->width, text);
}

static void print_row(FILE *out, const struct layout *l, sqlite3_stmt *row, const double *best,
                      bool color)
{
    const char *label = column_str(row, 0);

    print_plain(out, "%-*s", NAME_WIDTH, label);
    if (strlen(label) > NAME_WIDTH)
        fprintf(out, "\n%*s", NAME_WIDTH, "");
    if (sqlite3_column_int(row, N_COL + 2)) {
        fputs("  does not fit\n", out);
        return;
    }
    for (int i = 0; i < N_COL; i++)
        print_cell(out, &l->col[i], row, i + 2, &best[i], color);
    fputc('\n', out);
}

static int print_rows(FILE *out, struct selection *s, int64_t group, const struct layout *l,
                      bool color, struct err *e)
{
    char sql[900];
    double best[N_COL];
    sqlite3_stmt *q;

    snprintf(sql, sizeof sql,
             "SELECT label || iif(suspect, ' ?', ''), counted, "
             "%s, %s, %s, %s, %s, %s, %s, counted = 0 AND EXISTS (SELECT 1 FROM x_runs u WHERE u.group_id = ?1 AND "
             "u.strategy_id = x_rows.strategy_id AND u.reasons LIKE 'does not fit%%') FROM x_rows WHERE group_id = ?1",
             l->col[0].sql, l->col[1].sql, l->col[2].sql, l->col[3].sql, l->col[4].sql,
             l->col[5].sql, l->col[6].sql);
    if (!(q = db_prepare(s->db, s->path, sql, e)))
        return -1;
    for (int i = 0; i < N_COL; i++)
        best[i] = -1e300;
    for (int pass = 0; pass < 2; pass++) {
        sqlite3_bind_int64(q, 1, group);
        while (sqlite3_step(q) == SQLITE_ROW) {
            for (int i = 0; i < N_COL && !pass; i++) {
                double v = sqlite3_column_double(q, i + 2) * l->col[i].better;

                if (sqlite3_column_type(q, i + 2) != SQLITE_NULL && v > best[i])
                    best[i] = v;
            }
            if (pass)
                print_row(out, l, q, best, color);
        }
        sqlite3_reset(q);
    }
    sqlite3_finalize(q);
    return 0;
}

/* Each query gives one text per row: a line under the table. ?1 is the group. */
static const char *const note_sql[] = {
    "SELECT '! ' || label || ': ' || CASE status WHEN 'done' THEN 'invalid' WHEN 'running' THEN "
    "'begun and never ended (killed, or still going)' ELSE 'run ' || status END || "
    "CASE WHEN count(*) > 1 THEN ' in ' || count(*) || ' runs' ELSE '' END || "
    "CASE WHEN coalesce(reasons, '') <> '' THEN ': ' || reasons ELSE '' END || ' (not counted)' "
    "FROM x_runs WHERE group_id = ?1 AND NOT coalesce(is_counted, 0) GROUP BY label, status, "
    "reasons ORDER BY min(run_id)",
    "SELECT '? ' || CASE WHEN count(*) > 1 AND count(*) = (SELECT count(*) FROM x_rows WHERE "
    "group_id = ?1 AND counted > 0) THEN 'all strategies' WHEN count(*) > 4 THEN count(*) || ' "
    "strategies' ELSE group_concat(label, ', ') END || ': suspect: ' || reasons FROM (SELECT "
    "DISTINCT label, reasons FROM x_runs WHERE group_id = ?1 AND is_counted AND validity = "
    "'suspect' ORDER BY run_id) GROUP BY reasons",
    /* The default pool suits a trace on small machines. On a device with room to spare, a pool that was full is a
     * choice to know of. */
    "SELECT '? the KV pool is the default of 4 longest sequences, ' || printf('%.2g', 100.0 * pool / device) || ' % of "
    "the device: engines take what weights leave, 90 % of its memory in all: --kv ' || fill || 'GiB' FROM (SELECT "
    "max(r.kv_slots_obtained * m.kv_bytes_per_token) AS pool, max(m.weight_bytes) AS weights, "
    "max(json_extract(x.spec_json, '$.device_bytes')) AS device, CAST(min(0.9 * max(json_extract(x.spec_json, "
    "'$.device_bytes')) - max(m.weight_bytes), 1073741824.0 * min(m.kv_bytes_per_token)) / 1073741824 AS INTEGER) AS "
    "fill FROM x_runs g JOIN runs r USING (run_id) JOIN models m ON m.model_id = r.model_id JOIN experiments x ON "
    "x.experiment_id = r.experiment_id WHERE g.group_id = ?1 AND json_extract(x.spec_json, '$.kv') = '' HAVING "
    "count(*)) WHERE pool + weights < 0.5 * device AND fill > 0 AND (SELECT max(kv_peak_pct) FROM x_rows WHERE "
    "group_id = ?1) > 90",
    "SELECT '! ' || label || ': ' || missed || ' of ' || arrived || ' requests not finished (they "
    "count as missing the SLO)' FROM x_rows WHERE group_id = ?1 AND missed > 0",
    /* SQL keeps the groups of v_equality apart; a group here has one trace and device. */
    "SELECT CASE WHEN different = 0 THEN 'outputs equal across ' ELSE '! outputs DIFFER across ' "
    "END || strategies || ' ' || v.weight_dtype || ' strategies: ' || CASE WHEN different = 0 "
    "THEN equal || '/' || compared ELSE different || ' of ' || compared END || ' requests' FROM "
    "v_equality v WHERE compared > 0 AND strategies > 1 AND EXISTS (SELECT 1 FROM x_runs x WHERE "
    "x.group_id = ?1 AND x.trace_id = v.trace_id AND x.device = v.device AND x.model_id = "
    "v.model_id)",
    /* Once, below the last group. */
    "SELECT 'answers differ between precisions too, not only speed: servelab quality' WHERE ?1 = "
    "(SELECT max(rowid) FROM x_groups) AND (SELECT count(DISTINCT weight_dtype) FROM x_rows WHERE group_id = ?1 AND "
    "counted > 0) > 1",
};

int summary_notes(struct selection *s, int64_t group, void (*each)(void *ctx, const char *line),
                  void *ctx, struct err *e)
{
    for (size_t i = 0; i < sizeof note_sql / sizeof *note_sql; i++) {
        sqlite3_stmt *q = db_prepare(s->db, s->path, note_sql[i], e);
        int rc;

        if (!q)
            return -1;
        sqlite3_bind_int64(q, 1, group);
        while ((rc = sqlite3_step(q)) == SQLITE_ROW)
            each(ctx, column_str(q, 0));
        if (rc != SQLITE_DONE)
            db_fail(s->db, s->path, "reading notes", e);
        sqlite3_finalize(q);
        if (rc != SQLITE_DONE)
            return -1;
    }
    return 0;
}

static void print_floor(FILE *out, const struct layout *l)
{
    if (l->n < 6)
        fprintf(out, "- means too few requests: p50 needs 6, p90 36; finished here: %lld\n", (long long)l->n);
    else if (l->n < 36)
        fprintf(out, "- means too few requests: p90 needs 36; finished here: %lld\n", (long long)l->n);
    else if (strcmp(l->tail, "p99") != 0)
        fprintf(out, "%s, not p99: p99 needs 368 finished requests; here %lld\n", l->tail,
                (long long)l->n);
}

static int print_group(FILE *out, struct selection *s, sqlite3_stmt *g, int64_t group, bool color,
                       struct err *e)
{
    struct layout l;

    choose_layout(s, group, &l);
    print_head(out, s, g, &l,
               db_int(s->db, "SELECT max(runs) FROM x_rows WHERE group_id = ?1", group, 1));
    if (print_rows(out, s, group, &l, color, e))
        return -1;
    print_floor(out, &l);
    return summary_notes(s, group, print_note, out, e);
}

int summary_of(FILE *out, struct selection *s, bool color, struct err *e)
{
    sqlite3_stmt *g = db_prepare(s->db, s->path,
                                 "SELECT g.trace, g.model, g.backend, g.device, g.clock, "
                                 "t.request_count, g.rate_scale, g.slo_json, (t.request_count - 1) * "
                                 "1e9 / nullif(t.duration_ns, 0) * g.rate_scale, (SELECT "
                                 "max(model_is_synthetic) FROM x_runs x WHERE x.group_id = "
                                 "g.rowid), g.rowid FROM x_groups g JOIN traces t USING "
                                 "(trace_id) ORDER BY g.rowid",
                                 e);
    int bad = !g, first = 1;

    if (!bad && *s->shared)
        print_plain(out, "all strategies: %s\n", s->shared);
    while (!bad && sqlite3_step(g) == SQLITE_ROW) {
        if (!first)
            fputc('\n', out);
        first = 0;
        bad = print_group(out, s, g, sqlite3_column_int64(g, 10), color, e);
    }
    sqlite3_finalize(g);
    return bad || capacity_print(out, s, e) ? -1 : 0;
}

int summary_print(FILE *out, const char *db, const char *which, bool color, struct err *e)
{
    struct selection s;
    int bad;

    if (selection_open(&s, db, which, e))
        return -1;
    bad = summary_of(out, &s, color, e);
    selection_close(&s);
    return bad;
}
