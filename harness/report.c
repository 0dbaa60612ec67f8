#include "harness/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "harness/capacity.h"
#include "harness/escape.h"
#include "harness/summary.h"
#include "harness/verb.h"
#include "results/db.h"

struct report { FILE *out; struct selection *s; const struct figures *figures; struct err *e; };

static sqlite3_stmt *ask(struct report *r, const char *sql, int64_t arg)
{
    sqlite3_stmt *q = db_prepare(r->s->db, r->s->path, sql, r->e);

    if (q)
        sqlite3_bind_int64(q, 1, arg);
    return q;
}

/* The first column of the query's first row, escaped. */
static int put_value(struct report *r, const char *sql)
{
    sqlite3_stmt *q = ask(r, sql, r->s->experiment);

    if (!q)
        return -1;
    if (sqlite3_step(q) == SQLITE_ROW)
        escape_html(r->out, column_str(q, 0));
    sqlite3_finalize(q);
    return 0;
}

static int put_name(struct report *r)
{
    escape_html(r->out, r->s->name);
    return 0;
}

static int put_created(struct report *r)
{
    return put_value(r, "SELECT created_at FROM experiments WHERE experiment_id = ?1");
}

static int put_summary(struct report *r)
{
    return put_value(r, "SELECT count(*) || ' runs of ' || count(DISTINCT strategy_id) || ' "
                        "strategies on ' || count(DISTINCT trace_id) || CASE count(DISTINCT "
                        "trace_id) WHEN 1 THEN ' trace' ELSE ' traces' END || '; ' || "
                        "coalesce(sum(is_counted), 0) || ' count' FROM x_runs");
}

static int put_run_count(struct report *r)
{
    return put_value(r, "SELECT count(*) FROM x_runs");
}

static int put_command(struct report *r)
{
    return put_value(r, "SELECT command_line FROM experiments WHERE experiment_id = ?1");
}

/* Labels that belong beside every number of this page. */
static int put_labels(struct report *r)
{
    fputs("<p>", r->out);
    if (db_int(r->s->db, "SELECT count(*) FROM x_runs WHERE clock = 'virtual'", 0, 0))
        fputs("<span class=\"tag bad\">virtual clock, cost model, not measured</span> ",
              r->out);
    if (db_int(r->s->db, "SELECT count(*) FROM x_runs WHERE clock <> 'virtual'", 0, 0))
        fputs("<span class=\"tag\">measured, monotonic clock</span> ", r->out);
    if (db_int(r->s->db, "SELECT count(*) FROM x_runs WHERE model_is_synthetic", 0, 0))
        fputs("<span class=\"tag\">synthetic weights</span> ", r->out);
    if (*r->s->shared) {
        fputs("<span class=\"soft\">all strategies: ", r->out);
        escape_html(r->out, r->s->shared);
        fputs("</span>", r->out);
    }
    fputs("</p>\n", r->out);
    return 0;
}

static void put_group_name(struct report *r, sqlite3_stmt *g)
{
    char slo[100], backend[64], pool[160];
    const char *note = clock_note(column_str(g, 4), column_str(g, 5));

    slo_str(column_str(g, 7), slo, sizeof slo);
    fputs("<h3>", r->out);
    escape_html(r->out, column_str(g, 1));
    fprintf(r->out, ", x%g rate &middot; ", sqlite3_column_double(g, 6));
    escape_html(r->out, column_str(g, 2));
    fputs(" on ", r->out);
    backend_str(column_str(g, 3), backend, sizeof backend);
    escape_html(r->out, backend);
    fprintf(r->out, " &middot; SLO ");
    escape_html(r->out, slo);
    kv_pool_str(r->s, sqlite3_column_int64(g, 0), true, pool, sizeof pool);
    fprintf(r->out, "</h3>\n<p class=\"soft\">%s%s%s", *note ? note : "measured",
            sqlite3_column_int(g, 8) ? "; synthetic weights" : "", *pool ? "; " : "");
    escape_html(r->out, pool);
    fputs("</p>\n", r->out);
}

static void put_line(void *ctx, const char *line)
{
    FILE *out = ctx;
    bool bad = line[0] == '!' || line[0] == '?';

    fprintf(out, bad ? "<li class=\"bad\">" : "<li>");
    escape_html(out, line);
    fputs("</li>\n", out);
}

static const char groups_sql[] =
    "SELECT g.rowid, g.trace, g.model, g.backend, g.device, g.clock, g.rate_scale, g.slo_json, "
    "(SELECT max(model_is_synthetic) FROM x_runs x WHERE x.group_id = g.rowid), (SELECT tail FROM "
    "x_tails w WHERE w.group_id = g.rowid) FROM x_groups g ORDER BY g.rowid";

static int put_verdict(struct report *r)
{
    sqlite3_stmt *g = ask(r, groups_sql, 0);
    int bad = !g;

    while (!bad && sqlite3_step(g) == SQLITE_ROW) {
        put_group_name(r, g);
        fputs("<ul>\n", r->out);
        bad = report_verdict(r->s, sqlite3_column_int64(g, 0), put_line, r->out, r->e) ||
              summary_notes(r->s, sqlite3_column_int64(g, 0), put_line, r->out, r->e);
        fputs("</ul>\n", r->out);
    }
    sqlite3_finalize(g);
    return bad;
}

/* One column of a table: heading, column of the query, and whether more is better (+1), less (-1)
 * or text. */
struct column { const char *head; int better; };
enum { TEXT = 2, WRAP = 3, MAX_COL = 24 };

static void put_head(FILE *out, const struct column *c, int n, const char *caption)
{
    fprintf(out,
            "<div class=\"wide\"><table class=\"sort\"><caption "
            "class=\"soft\">%s</caption><thead><tr>",
            caption);
    for (int i = 0; i < n; i++)
        fprintf(out, "<th scope=\"col\"%s>%s</th>", c[i].better >= TEXT ? " class=\"text\"" : "",
                c[i].head);
    fputs("</tr></thead>\n<tbody>\n", out);
}

static void put_cell(FILE *out, const struct column *c, sqlite3_stmt *q, int i, double best)
{
    char num[24];
    bool null = sqlite3_column_type(q, i) == SQLITE_NULL;
    bool is_best =
        !null && c->better < TEXT && near_best(sqlite3_column_double(q, i), best, c->better);

    if (c->better >= TEXT) {
        fprintf(out, "<td class=\"%s\">", c->better == WRAP ? "wrap" : "text");
        escape_html(out, column_str(q, i));
    } else if (sqlite3_column_type(q, i) == SQLITE_INTEGER) {
        fprintf(out, "<td data-v=\"%lld\">%lld", sqlite3_column_int64(q, i),
                sqlite3_column_int64(q, i));
    } else if (null) {
        fputs("<td data-v=\"\">&ndash;", out);
    } else {
        fprintf(out, "<td%s data-v=\"%.9g\">%s", is_best ? " class=\"best\"" : "",
                sqlite3_column_double(q, i), number_str(q, i, num));
    }
    fputs("</td>", out);
}

static void find_best(sqlite3_stmt *q, const struct column *c, int n, double *best)
{
    for (int i = 0; i < n; i++)
        best[i] = -1e300;
    while (sqlite3_step(q) == SQLITE_ROW)
        for (int i = 0; i < n; i++)
            if (sqlite3_column_type(q, i) != SQLITE_NULL && c[i].better < TEXT &&
                sqlite3_column_double(q, i) * c[i].better > best[i])
                best[i] = sqlite3_column_double(q, i) * c[i].better;
    sqlite3_reset(q);
}

static int put_table(struct report *r, const char *sql, int64_t arg, const struct column *c, int n,
                     const char *caption)
{
    sqlite3_stmt *q = ask(r, sql, arg);
    double best[MAX_COL];

    if (!q)
        return -1;
    find_best(q, c, n, best);
    put_head(r->out, c, n, caption);
    while (sqlite3_step(q) == SQLITE_ROW) {
        fputs("<tr>", r->out);
        for (int i = 0; i < n; i++)
            put_cell(r->out, &c[i], q, i, best[i]);
        fputs("</tr>\n", r->out);
    }
    fputs("</tbody></table></div>\n", r->out);
    sqlite3_finalize(q);
    return 0;
}

/* One group: the tail percentile is the highest that all its rows have. */
static int put_group_table(struct report *r, sqlite3_stmt *g)
{
    static const struct column c[] = {{"strategy", TEXT},       {"tok/s", 1},
                                      {"range", TEXT},          {"SLO met %", 1},
                                      {"goodput req/s", 1},     {"TTFT p50 ms", -1},
                                      {"TTFT tail ms", -1},     {"TPOT p50 ms", -1},
                                      {"TPOT tail ms", -1},     {"E2E p50 ms", -1},
                                      {"KV peak %", 0},         {"KV waste %", -1},
                                      {"batch, mean", 0},       {"pre&shy;emptions", 0},
                                      {"runs that count", TEXT}};
    char sql[1000], caption[80], tail[8];

    snprintf(tail, sizeof tail, "%s", column_str(g, 9));
    snprintf(caption, sizeof caption, "tail: %s", tail);
    snprintf(sql, sizeof sql,
             "SELECT label || CASE WHEN counted = 0 AND EXISTS (SELECT 1 FROM x_runs u WHERE u.group_id = ?1 AND "
             "u.label = x_rows.label AND u.reasons LIKE 'does not fit%%') THEN ' (does not fit)' ELSE '' END, tok_s, CASE WHEN repeats > 1 THEN CAST(round(tok_s_min) AS "
             "INTEGER) || ' to ' || CAST(round(tok_s_max) AS INTEGER) ELSE '' END, "
             "attainment_pct, goodput_rps, ttft_p50_ms, ttft_%s_ms, tpot_p50_ms, tpot_%s_ms, "
             "e2e_p50_ms, kv_peak_pct, kv_waste_pct, mean_batch, preemptions, counted || ' of ' "
             "|| runs FROM x_rows WHERE group_id = ?1",
             tail, tail);
    return put_table(r, sql, sqlite3_column_int64(g, 0), c, (int)(sizeof c / sizeof *c), caption);
}

static int put_family_capacity(struct report *r, int64_t family)
{
    static const struct column c[] = {{"strategy", TEXT}, {"highest rate", TEXT}, {"req/s", 1}, {"SLO met %", 0},
                                      {"goodput req/s", 1}, {"first rate that fails", TEXT}};
    char sql[2400], slo[100], backend[64];
    sqlite3_stmt *q = ask(r, CAPACITY_ABOUT, family);
    const char *note;

    if (!q || sqlite3_step(q) != SQLITE_ROW) {
        sqlite3_finalize(q);
        return -1;
    }
    slo_str(column_str(q, 5), slo, sizeof slo);
    backend_str(column_str(q, 2), backend, sizeof backend);
    fprintf(r->out, "<h3>Highest rate with at least %g %% of the requests within the SLO: ", r->s->slo_share);
    escape_html(r->out, column_str(q, 0));
    fputs(", ", r->out);
    escape_html(r->out, backend);
    fputs(" &middot; SLO ", r->out);
    escape_html(r->out, slo);
    note = clock_note(column_str(q, 3), column_str(q, 4));
    fprintf(r->out, "</h3>\n<p class=\"soft\">%s%sread off the rates that were run, not interpolated</p>\n", note,
            *note ? "; " : "");
    sqlite3_finalize(q);
    return put_table(r, capacity_sql(r->s, sql, sizeof sql), family, c, (int)(sizeof c / sizeof *c), "");
}

static int put_capacity(struct report *r)
{
    sqlite3_stmt *q = ask(r, CAPACITY_FAMILIES, 0);
    int bad = !q;

    while (!bad && sqlite3_step(q) == SQLITE_ROW)
        bad = put_family_capacity(r, sqlite3_column_int64(q, 0));
    sqlite3_finalize(q);
    return bad;
}

static int put_tables(struct report *r)
{
    sqlite3_stmt *g = ask(r, groups_sql, 0);
    int bad = !g || put_capacity(r);

    while (!bad && sqlite3_step(g) == SQLITE_ROW) {
        put_group_name(r, g);
        bad = put_group_table(r, g);
    }
    sqlite3_finalize(g);
    return bad;
}

static int put_runs(struct report *r)
{
    static const char sql[] =
        "SELECT run_id, strategy, trace, backend, clock, rate_scale, seed, repeat_index, status, "
        "coalesce(validity, '-'), coalesce(reasons, ''), window_s, tok_s, arrived, finished, "
        "rejected, steps, kv_peak_pct, preemptions, lateness_p99_ms, run_uid FROM x_runs ORDER BY "
        "run_id";
    static const struct column c[] = {{"run", 0},         {"strategy", TEXT},     {"trace", TEXT},
                                      {"device", TEXT},   {"clock", TEXT},        {"rate", 0},
                                      {"seed", 0},        {"repeat", 0},          {"status", TEXT},
                                      {"validity", TEXT}, {"reasons", WRAP},      {"window s", 0},
                                      {"tok/s", 0},       {"arrived", 0},         {"finished", 0},
                                      {"rejected", 0},    {"steps", 0},           {"KV peak %", 0},
                                      {"preemptions", 0}, {"lateness p99 ms", 0}, {"uid", TEXT}};

    return put_table(r, sql, 0, c, (int)(sizeof c / sizeof *c), "");
}

/* What each label stands for, and the pool that each manager made its blocks of. */
static int put_strategies(struct report *r)
{
    static const struct column c[] = {{"strategy", TEXT}, {"preset", TEXT}, {"stands for", WRAP}, {"KV slots", 0},
                                      {"KV blocks", 0},   {"KV bytes", 0},  {"KV asked", TEXT}};

    return put_table(r, "SELECT DISTINCT g.label, coalesce(g.preset, ''), g.strategy, r.kv_slots_obtained, "
                     "r.kv_blocks_total, r.kv_slots_obtained * m.kv_bytes_per_token, CASE json_extract(x.spec_json, "
                     "'$.kv') WHEN '' THEN 'default: 4 longest sequences' ELSE '--kv ' || json_extract(x.spec_json, "
                     "'$.kv') END || CASE WHEN r.kv_slots_obtained * m.kv_bytes_per_token < 0.9 * r.kv_bytes_asked THEN "
                     "'; fewer obtained: memory' ELSE '' END FROM x_runs g JOIN runs r USING (run_id) JOIN models m ON "
                     "m.model_id = r.model_id JOIN experiments x ON x.experiment_id = r.experiment_id "
                     "ORDER BY g.color_index", 0, c, sizeof c / sizeof *c, "strategies");
}

/* The machine that sim was told of, as its profile says. */
static int put_machine(struct report *r)
{
    static const struct column c[] = {{"profile", TEXT}, {"sha256", TEXT}, {"about", WRAP}, {"FLOP/s", TEXT},
                                      {"bytes/s", TEXT}, {"reached", TEXT}, {"launch ns", 0}, {"memory", TEXT},
                                      {"tables", 0}};

    if (!db_int(r->s->db, "SELECT count(*) FROM experiments WHERE experiment_id = ?1 AND json_extract(spec_json, "
                "'$.profile') IS NOT NULL", r->s->experiment, 0))
        return 0;
    return put_table(r, "SELECT json_extract(p, '$.name'), sum256, json_extract(p, '$.about'), printf('%.4g', "
                     "json_extract(p, '$.flops')), printf('%.4g', json_extract(p, '$.bandwidth')), printf('%.3g of FLOP/s, "
                     "%.3g of bytes/s', json_extract(p, '$.flop_efficiency'), json_extract(p, '$.byte_efficiency')), "
                     "json_extract(p, '$.launch_ns'), printf('%.1f GiB', json_extract(p, '$.mem_bytes') / 1073741824.0), "
                     "coalesce(json_array_length(p, '$.ops'), 0) FROM (SELECT json_extract(spec_json, '$.profile') AS p, "
                     "json_extract(spec_json, '$.profile_sha256') AS sum256 FROM experiments WHERE experiment_id = ?1)",
                     r->s->experiment, c, sizeof c / sizeof *c, "simulated machine, assumed by its profile");
}

static int put_inputs(struct report *r)
{
    static const struct column trace[] = {
        {"trace", TEXT},      {"sha256", TEXT},     {"format", TEXT},  {"requests", 0},
        {"prompt tokens", 0}, {"output tokens", 0}, {"licence", TEXT}, {"source", WRAP}};
    static const struct column model[] = {
        {"model", TEXT},     {"weights", TEXT},         {"KV", TEXT},   {"layers", 0},
        {"weight bytes", 0}, {"KV bytes per token", 0}, {"about", WRAP}};
    static const struct column env[] = {{"host", TEXT},  {"system", WRAP},   {"processor", WRAP},
                                        {"cores", 0},    {"compiler", WRAP}, {"flags", WRAP},
                                        {"commit", TEXT}};

    return put_strategies(r) || put_machine(r) ||
           put_table(r,
                     "SELECT DISTINCT t.name, t.sha256, t.format, t.request_count, "
                     "t.prompt_tokens_total, t.output_tokens_total, t.licence, t.source FROM runs "
                     "JOIN traces t USING (trace_id)",
                     0, trace, 8, "traces") ||
           put_table(r,
                     "SELECT DISTINCT m.name, m.weight_dtype, m.kv_dtype, m.layers, "
                     "m.weight_bytes, m.kv_bytes_per_token, m.about || "
                     "CASE WHEN m.is_synthetic AND m.about NOT LIKE '%synthetic%' "
                     "THEN ' (synthetic weights)' ELSE '' END FROM runs JOIN models m USING "
                     "(model_id)",
                     0, model, 7, "models") ||
           put_table(r,
                     "SELECT DISTINCT v.hostname, v.os || ' ' || coalesce(v.kernel, ''), "
                     "v.cpu_model, v.cpu_cores, v.compiler, v.build_flags, v.git_commit || CASE "
                     "WHEN v.is_dirty THEN ' (changed)' ELSE '' END FROM runs JOIN environments v "
                     "USING (environment_id)",
                     0, env, 7, "environment");
}

static int put_figure(struct report *r, const struct figure *f)
{
    char path[700], *svg, *start;

    snprintf(path, sizeof path, "%s/%s.svg", f->dir, f->name);
    if (!(svg = file_text(path, r->e)))
        return -1;
    start = strstr(svg, "<svg");                          /* without the XML and DOCTYPE lines */
    fputs("<figure>\n", r->out);
    fputs(start ? start : "", r->out);
    fputs("<figcaption>", r->out);
    escape_html(r->out, f->about);
    fputs("</figcaption></figure>\n", r->out);
    free(svg);
    return 0;
}

static int put_figures(struct report *r)
{
    int drawn = 0;

    for (int i = 0; i < r->figures->n; i++)
        if (r->figures->figure[i].drawn && ++drawn && put_figure(r, &r->figures->figure[i]))
            return -1;
    if (!drawn)
        fputs(r->figures->no_gnuplot ? "<p>gnuplot was not there to draw them; data and scripts "
                                       "are in the folder "
                                       "figures beside this file.</p>\n"
                                     : "<p>None: no run of this experiment is done and "
                                       "valid.</p>\n",
              r->out);
    return 0;
}

static const struct { const char *name; int (*put)(struct report *r);
} parts[] = {{"NAME", put_name},       {"CREATED", put_created},     {"SUMMARY", put_summary},
             {"LABELS", put_labels},   {"VERDICT", put_verdict},     {"TABLES", put_tables},
             {"FIGURES", put_figures}, {"RUN_COUNT", put_run_count}, {"RUNS", put_runs},
             {"COMMAND", put_command}, {"INPUTS", put_inputs}};

static int fill(struct report *r, const char *t)
{
    const char *mark;

    for (; (mark = strstr(t, "{{")); t = strstr(mark, "}}") + 2) {
        size_t n = strcspn(mark + 2, "}"), i = 0;

        fwrite(t, 1, (size_t)(mark - t), r->out);
        while (i < sizeof parts / sizeof *parts &&
               (strlen(parts[i].name) != n || memcmp(parts[i].name, mark + 2, n) != 0))
            i++;
        if (i == sizeof parts / sizeof *parts || !strstr(mark, "}}"))
            return err_set(r->e, EXIT_USAGE, "plots/report.html: unknown part {{%.*s}}", (int)n,
                           mark + 2);
        if (parts[i].put(r))
            return -1;
    }
    fputs(t, r->out);
    return 0;
}

int report_write(struct selection *s, const struct figures *figures, const char *path,
                 struct err *e)
{
    char template_path[700], *t;
    struct report r = {NULL, s, figures, e};
    int bad;

    snprintf(template_path, sizeof template_path, "%.600s/plots/report.html", servelab_home());
    if (!(t = file_text(template_path, e)))
        return -1;
    if (!(r.out = fopen(path, "w"))) {
        free(t);
        return err_set(e, EXIT_IO, "%s: cannot be written: %s", path, strerror(errno));
    }
    bad = fill(&r, t);
    free(t);
    if (ferror(r.out) && !bad)
        bad = err_set(e, EXIT_IO, "%s: cannot be written; is the disk full?", path);
    if (fclose(r.out) != 0 && !bad)
        bad = err_set(e, EXIT_IO, "%s: cannot be written; is the disk full?", path);
    return bad ? -1 : 0;
}
