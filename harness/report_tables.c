/* report_tables.c - the tables of the page: capacity and results of each group, runs, strategies, the simulated
 * machine, inputs. Cells come straight out of a query; the best of a column is marked where more or less is better. */
#include "harness/report_parts.h"

#include "harness/capacity.h"
#include "harness/escape.h"

/* One column of a table: heading, column of the query, and whether more is better (+1), less (-1)
 * or text. */
struct column { const char *head; int better; };
enum { TEXT = 2, WRAP = 3, MAX_COL = 24 };
#define COUNT(columns) ((int)(sizeof(columns) / sizeof *(columns)))

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
    sqlite3_stmt *q = report_ask(r, sql, arg);
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
             "SELECT label || iif(suspect, ' ?', '') || "
             "CASE WHEN counted = 0 AND EXISTS (SELECT 1 FROM x_runs u WHERE u.group_id = ?1 AND "
             "u.label = x_rows.label AND u.reasons LIKE 'does not fit%%') THEN ' (does not fit)' ELSE '' END, tok_s, "
             "CASE WHEN repeats > 1 THEN CAST(round(tok_s_min) AS INTEGER) || ' to ' || CAST(round(tok_s_max) AS "
             "INTEGER) ELSE '' END, attainment_pct, goodput_rps, ttft_p50_ms, ttft_%s_ms, tpot_p50_ms, tpot_%s_ms, "
             "e2e_p50_ms, kv_peak_pct, kv_waste_pct, mean_batch, preemptions, counted || ' of ' || runs FROM x_rows "
             "WHERE group_id = ?1", tail, tail);
    return put_table(r, sql, sqlite3_column_int64(g, 0), c, COUNT(c), caption);
}

static int put_family_capacity(struct report *r, int64_t family)
{
    static const struct column c[] = {{"strategy", TEXT}, {"highest rate", TEXT}, {"req/s", 1}, {"SLO met %", 0},
                                      {"goodput req/s", 1}, {"first rate that fails", TEXT}};
    char sql[2400], slo[100], backend[64];
    sqlite3_stmt *q = report_ask(r, CAPACITY_ABOUT, family);
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
    return put_table(r, capacity_sql(r->s, sql, sizeof sql), family, c, COUNT(c), "");
}

int report_put_capacity(struct report *r)
{
    sqlite3_stmt *q = report_ask(r, CAPACITY_FAMILIES, 0);
    int bad = !q;

    while (!bad && sqlite3_step(q) == SQLITE_ROW)
        bad = put_family_capacity(r, sqlite3_column_int64(q, 0));
    sqlite3_finalize(q);
    return bad;
}

int report_put_tables(struct report *r)
{
    sqlite3_stmt *g = report_groups(r);
    int bad = !g;

    while (!bad && sqlite3_step(g) == SQLITE_ROW) {
        report_put_group(r, g);
        bad = put_group_table(r, g);
    }
    sqlite3_finalize(g);
    return bad;
}

int report_put_runs(struct report *r)
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

    return put_table(r, sql, 0, c, COUNT(c), "");
}

/* What each label stands for, and the pool that each manager made its blocks of. */
static int put_strategies(struct report *r)
{
    static const struct column c[] = {{"strategy", TEXT}, {"preset", TEXT}, {"stands for", WRAP}, {"KV slots", 0},
                                      {"KV blocks", 0},   {"KV bytes", 0},  {"KV asked", TEXT}};

    return put_table(r, "SELECT DISTINCT g.label, coalesce(g.preset, ''), g.strategy, r.kv_slots_obtained, "
                     "r.kv_blocks_total, r.kv_slots_obtained * m.kv_bytes_per_token, CASE json_extract(x.spec_json, "
                     "'$.kv') WHEN '' THEN 'default: 4 longest sequences' ELSE '--kv ' || json_extract(x.spec_json, "
                     "'$.kv') END || CASE WHEN r.kv_slots_obtained * m.kv_bytes_per_token < 0.9 * r.kv_bytes_asked "
                     "THEN '; fewer obtained: memory' ELSE '' END FROM x_runs g JOIN runs r USING (run_id) JOIN "
                     "models m ON m.model_id = r.model_id JOIN experiments x ON x.experiment_id = r.experiment_id "
                     "ORDER BY g.color_index", 0, c, COUNT(c), "strategies");
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
                     "json_extract(p, '$.flops')), printf('%.4g', json_extract(p, '$.bandwidth')), printf('%.3g of "
                     "FLOP/s, %.3g of bytes/s', json_extract(p, '$.flop_efficiency'), json_extract(p, "
                     "'$.byte_efficiency')), json_extract(p, '$.launch_ns'), printf('%.1f GiB', json_extract(p, "
                     "'$.mem_bytes') / 1073741824.0), coalesce(json_array_length(p, '$.ops'), 0) FROM (SELECT "
                     "json_extract(spec_json, '$.profile') AS p, json_extract(spec_json, '$.profile_sha256') AS "
                     "sum256 FROM experiments WHERE experiment_id = ?1)",
                     r->s->experiment, c, COUNT(c), "simulated machine, assumed by its profile");
}

int report_put_inputs(struct report *r)
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
                     0, trace, COUNT(trace), "traces") ||
           put_table(r,
                     "SELECT DISTINCT m.name, m.weight_dtype, m.kv_dtype, m.layers, "
                     "m.weight_bytes, m.kv_bytes_per_token, m.about || "
                     "CASE WHEN m.is_synthetic AND m.about NOT LIKE '%synthetic%' "
                     "THEN ' (synthetic weights)' ELSE '' END FROM runs JOIN models m USING "
                     "(model_id)",
                     0, model, COUNT(model), "models") ||
           put_table(r,
                     "SELECT DISTINCT v.hostname, v.os || ' ' || coalesce(v.kernel, ''), "
                     "v.cpu_model, v.cpu_cores, v.compiler, v.build_flags, v.git_commit || CASE "
                     "WHEN v.is_dirty THEN ' (changed)' ELSE '' END FROM runs JOIN environments v "
                     "USING (environment_id)",
                     0, env, COUNT(env), "environment");
}
