#include "harness/figures.h"

#include <stdlib.h>
#include <string.h>

#include "harness/verb.h"
#include "results/db.h"
#include "build/gen/version.h"

static int64_t pick_run(struct selection *s, int64_t group, const char *what, struct err *e)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path,
                                 "SELECT run_id FROM x_rows WHERE group_id = ?1 AND counted > 0 "
                                 "AND (strategy = ?2 OR label = ?2 OR CAST(run_id AS TEXT) = ?2)",
                                 e);
    int64_t run = 0;

    if (!q)
        return -1;
    sqlite3_bind_int64(q, 1, group);
    sqlite3_bind_text(q, 2, what, -1, SQLITE_STATIC);
    if (sqlite3_step(q) == SQLITE_ROW)
        run = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return run > 0 ? run
                   : err_set(e, EXIT_USAGE, "no run of strategy '%s' counts in experiment '%s'; expected a name "
                             "of its table, which 'servelab report --no-html' prints, or a run's id", what, s->name);
}

/* Throughputs within 1 % are a draw: those two stand in the order in which they were asked for, not in that of noise. */
static void order_draw(struct selection *s, struct figure_args *a)
{
    char *sql = sqlite3_mprintf("SELECT 1 FROM x_rows a JOIN x_rows b USING (group_id) WHERE a.run_id = ?1 AND b.run_id = "
                                "%lld AND a.color_index > b.color_index AND abs(a.tok_s - b.tok_s) <= 0.01 * b.tok_s",
                                (long long)a->b);
    int64_t run = a->a;

    if (sql && db_int(s->db, sql, run, 0)) {
        a->a = a->b;
        a->b = run;
    }
    sqlite3_free(sql);
}

/* a, b: slowest and fastest of the precision with most strategies; c, d: contiguous and paged under
 * the scheduler where most requests wait longest for memory, else a and b again. */
static int choose_runs(struct selection *s, const struct figure_options *o, struct figure_args *a,
                       struct err *e)
{
    static const char one_precision[] =
        "SELECT run_id FROM x_rows WHERE group_id = ?1 AND counted > 0 AND tok_s IS NOT NULL AND "
        "weight_dtype IS (SELECT weight_dtype FROM x_rows WHERE group_id = ?1 AND counted > 0 "
        "GROUP BY weight_dtype ORDER BY count(*) DESC, min(color_index) LIMIT 1) ORDER BY "
        "round(tok_s, 1) %s, e2e_p50_ms %s, color_index %s LIMIT 1";
    static const char pair[] =
        "SELECT %s.run_id FROM x_rows c JOIN x_rows d USING (group_id, scheduler, weight_dtype) "
        "WHERE group_id = ?1 AND c.counted > 0 AND d.counted > 0 AND c.memory LIKE 'contig%%' AND "
        "d.memory LIKE 'paged%%' ORDER BY (SELECT sum(1.0 * wait_no_kv * (end_ns - start_ns)) FROM steps WHERE "
        "run_id IN (c.run_id, d.run_id)) DESC, c.kv_peak_pct + d.kv_peak_pct DESC, d.color_index, c.color_index "
        "LIMIT 1";
    char *low = sqlite3_mprintf(one_precision, "ASC", "DESC", "ASC");
    char *high = sqlite3_mprintf(one_precision, "DESC", "ASC", "DESC");
    char *left = sqlite3_mprintf(pair, "c"), *right = sqlite3_mprintf(pair, "d");

    a->r = db_int(s->db, "SELECT coalesce(min(CASE WHEN is_counted THEN run_id END), min(run_id)) "
                  "FROM x_runs WHERE group_id = ?1", a->group, 0);
    a->a = o->a ? pick_run(s, a->group, o->a, e) : db_int(s->db, low, a->group, 0);
    a->b = o->b ? pick_run(s, a->group, o->b, e) : db_int(s->db, high, a->group, 0);
    if (!o->a && !o->b)
        order_draw(s, a);
    a->c = o->a || o->b ? a->a : db_int(s->db, left, a->group, a->a);
    a->d = o->a || o->b ? a->b : db_int(s->db, right, a->group, a->b);
    sqlite3_free(low);
    sqlite3_free(high);
    sqlite3_free(left);
    sqlite3_free(right);
    if (a->a < 0 || a->b < 0)
        return -1;
    a->b = a->b == a->a ? 0 : a->b;
    a->d = a->d == a->c ? 0 : a->d;
    return 0;
}

/* What is cut off at the right edge must not be how it was obtained: that stands first. */
static void put_caption(FILE *gp, sqlite3_stmt *q, const char *pool)
{
    char trace[48], model[40], backend[64], commit[24];
    const char *note = clock_note(column_str(q, 3), column_str(q, 4));

    label_safe(column_str(q, 0), trace, sizeof trace);
    label_safe(column_str(q, 1), model, sizeof model);
    backend_str(column_str(q, 2), backend, sizeof backend);
    label_safe(column_str(q, 8), commit, sizeof commit);
    fprintf(gp,
            "captioned(rate) = '%s%s; %s%s on %s; trace %s (%.8s), %d requests, '.rate.'%s%s'\n"
            "STAMP = 'servelab %s, commit %.12s'; CAPTION = captioned('x%g rate'); RATE_MIN = %g; RATE_MAX = %g\n",
            *note ? note : "measured, monotonic clock", sqlite3_column_int(q, 15) ? " (?: suspect)" : "", model,
            sqlite3_column_int(q, 7) ? ", synthetic weights," : "", backend, trace,
            column_str(q, 9), sqlite3_column_int(q, 5), *pool ? ", " : "", pool, SERVELAB_VERSION, commit,
            sqlite3_column_double(q, 6), sqlite3_column_double(q, 13),
            sqlite3_column_double(q, 14));
}

static int put_group(FILE *gp, struct selection *s, const struct figure_args *a, struct err *e)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path,
                                 "SELECT g.trace, g.model, g.backend, g.device, g.clock, "
                                 "t.request_count, g.rate_scale, x.model_is_synthetic, "
                                 "v.git_commit, CASE WHEN t.sha256 GLOB '[0-9a-f]*' AND t.sha256 "
                                 "NOT GLOB '*[^0-9a-f]*' THEN t.sha256 ELSE '?' END, "
                                 "coalesce(json_extract(nullif(g.slo_json, ''), '$.ttft_ms'), 0) "
                                 "+ 0.0, coalesce(json_extract(nullif(g.slo_json, ''), "
                                 "'$.tpot_ms'), 0) + 0.0, "
                                 "coalesce(json_extract(nullif(g.slo_json, ''), '$.e2e_ms'), 0) + "
                                 "0.0, (SELECT min(h.rate_scale) FROM x_groups h JOIN x_tails w "
                                 "ON w.group_id = h.rowid WHERE w.family = ?2), (SELECT "
                                 "max(h.rate_scale) FROM x_groups h JOIN x_tails w ON w.group_id "
                                 "= h.rowid WHERE w.family = ?2), (SELECT max(r.suspect) FROM x_rows r JOIN x_tails w "
                                 "USING (group_id) WHERE w.family = ?2) FROM x_groups g JOIN traces t "
                                 "USING (trace_id) JOIN x_runs x ON x.group_id = g.rowid JOIN "
                                 "environments v USING (environment_id) WHERE g.rowid = ?1 ORDER "
                                 "BY x.run_id LIMIT 1",
                                 e);

    char pool[160];

    if (!q)
        return -1;
    kv_pool_str(s, a->group, false, pool, sizeof pool);
    sqlite3_bind_int64(q, 1, a->group);
    sqlite3_bind_int64(q, 2, a->family);
    if (sqlite3_step(q) == SQLITE_ROW) {
        put_caption(gp, q, pool);
        fprintf(gp, "TAIL = '%s'; SLO_SHARE = %.9g; SLO_TTFT = %.9g; SLO_TPOT = %.9g; SLO_E2E = %.9g\n", a->tail,
                s->slo_share, sqlite3_column_double(q, 10), sqlite3_column_double(q, 11),
                sqlite3_column_double(q, 12));
    }
    sqlite3_finalize(q);
    return 0;
}

static int put_template(FILE *gp, const char *style, const char *draw)
{
    fputs("\n", gp);
    fputs(style, gp);
    fputs("\n", gp);
    fputs(draw, gp);
    return 0;
}

/* NAME.tsv and NAME.gp. Returns the rows of the key (0: nothing to draw) or -1. */
static int write_pair(struct selection *s, const char *sql, const char *draw, const char *style,
                      const struct figure_args *a, const struct figure *f, struct err *e)
{
    struct figure_pair pair;
    int rows = -1;

    if (figure_pair_open(&pair, f->dir, f->name, draw, f->title, e))
        return -1;
    if (put_group(pair.gp, s, a, e) == 0)
        rows = figure_data(s, sql, a, pair.tsv, pair.gp, e);
    put_template(pair.gp, style, draw);
    return figure_pair_close(&pair, e) ? -1 : rows;
}

static int draw_one(struct figure *f, const char *format, struct figures *out, struct err *e)
{
    int rc = figure_gnuplot(f->dir, f->name, format);
    char path[700];

    if (rc == 127) {
        out->no_gnuplot = true;
        fprintf(stderr, "servelab: gnuplot is not installed; wrote data and scripts (.tsv, .gp) "
                        "only\n");
        return 0;
    }
    if (rc != 0) {
        out->failed++;
        fprintf(stderr, "servelab: gnuplot refused %s/%s.gp (status %d); see gnuplot.log there\n",
                f->dir, f->name, rc);
        return 0;
    }
    snprintf(path, sizeof path, "%s/%s.svg", f->dir, f->name);
    f->drawn = true;
    return strcmp(format, "svg") == 0 ? figure_tidy_svg(path, f, e) : 0;
}

static bool wanted(const struct figure_options *o, const char *name)
{
    for (int i = 0; i < o->n_names; i++)
        if (strcmp(o->names[i], name) == 0)
            return true;
    return o->n_names == 0;
}

static int one_figure(struct selection *s, const struct figure_options *o, const char *name,
                      const struct figure_args *a, struct figure *f, struct figures *out,
                      struct err *e)
{
    static const char *const formats[] = {"svg", "png"};
    const char *which = o->formats ? o->formats : "svg,png";
    char path[3][700], *text[3] = {NULL};
    int rows = -1;

    snprintf(path[0], sizeof path[0], "%.600s/plots/%.63s.sql", servelab_home(), name);
    snprintf(path[1], sizeof path[1], "%.600s/plots/%.63s.gp", servelab_home(), name);
    snprintf(path[2], sizeof path[2], "%s/plots/style.gp", servelab_home());
    for (int i = 0; i < 3; i++)
        text[i] = file_text(path[i], e);
    if (text[0] && text[1] && text[2] &&
        figure_about(name, f->title, sizeof f->title, f->about, sizeof f->about, e) == 0)
        rows = write_pair(s, text[0], text[1], text[2], a, f, e);
    for (int i = 0; i < 3; i++)
        free(text[i]);
    for (int i = 0; i < 2 && rows > 0 && !out->no_gnuplot; i++)
        if (strstr(which, formats[i]) && draw_one(f, formats[i], out, e))
            return -1;
    return rows;
}

static int family_figures(struct selection *s, const struct figure_options *o,
                          struct figure_args *a, const char *dir, struct figures *out,
                          struct err *e)
{
    char names[FIGURE_NAMES][64], suffix[24] = "", image[700];
    int n = figure_names(names, FIGURE_NAMES, e);

    if (n < 0 || choose_runs(s, o, a, e))
        return -1;
    if (a->family > 1)
        snprintf(suffix, sizeof suffix, "-%lld", (long long)a->family);
    for (int i = 0; i < n && out->n < FIGURES_MAX; i++) {
        struct figure *f = &out->figure[out->n];
        int rows;

        if (!wanted(o, names[i]))
            continue;
        memset(f, 0, sizeof *f);
        f->family = a->family;
        f->group = a->group;
        snprintf(f->name, sizeof f->name, "%.50s%s", names[i], suffix);
        snprintf(f->dir, sizeof f->dir, "%s", dir);
        if ((rows = one_figure(s, o, names[i], a, f, out, e)) < 0)
            return -1;
        out->n += rows > 0;
        for (int k = 0; rows == 0 && k < 4; k++) {       /* nothing to draw: leave nothing behind */
            snprintf(image, sizeof image, "%s/%s.%s", dir, f->name, &"svg\0png\0tsv\0gp"[4 * k]);
            remove(image);
        }
    }
    return 0;
}

int figures_of(struct selection *s, const struct figure_options *o, struct figures *out,
               struct err *e)
{
    char dir[512], log[600];
    int64_t families = db_int(s->db, "SELECT count(*) FROM x_families", 0, 0);
    sqlite3_stmt *q;
    int bad = 0;

    memset(out, 0, sizeof *out);
    snprintf(dir, sizeof dir, "%s", o->dir ? o->dir : "");
    if (o->dir ? figure_folder_make(dir, e) : figures_folder(s, "figures", dir, sizeof dir, e))
        return -1;
    snprintf(log, sizeof log, "%s/gnuplot.log", dir);
    remove(log);
    if (!(q = db_prepare(s->db, s->path,
                         "SELECT group_id, (SELECT tail FROM x_tails t WHERE t.group_id = "
                         "f.group_id) FROM x_families f WHERE rowid = ?1",
                         e)))
        return -1;
    for (int64_t i = 1; i <= families && !bad; i++) {
        struct figure_args a = {.family = i};

        sqlite3_bind_int64(q, 1, i);
        if (sqlite3_step(q) == SQLITE_ROW) {
            a.group = sqlite3_column_int64(q, 0);
            snprintf(a.tail, sizeof a.tail, "%s", column_str(q, 1));
            bad = family_figures(s, o, &a, dir, out, e);
        }
        sqlite3_reset(q);
    }
    sqlite3_finalize(q);
    if (!bad && !out->failed)
        remove(log);
    return bad;
}

int figures_make(const char *db, const char *which, const struct figure_options *o,
                 struct figures *out, struct err *e)
{
    struct selection s;
    int bad;

    if (selection_open(&s, db, which, e))
        return -1;
    if (o->slo_share > 0)
        s.slo_share = o->slo_share;
    bad = figures_of(&s, o, out, e);
    selection_close(&s);
    return bad;
}
