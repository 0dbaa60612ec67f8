/* report.c - see report.h: plots/report.html with its marks {{PART}} filled in. Tables are in report_tables.c. */
#include "harness/report_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "harness/escape.h"
#include "harness/summary.h"
#include "harness/verb.h"

sqlite3_stmt *report_ask(struct report *r, const char *sql, int64_t arg)
{
    sqlite3_stmt *q = db_prepare(r->s->db, r->s->path, sql, r->e);

    if (q)
        sqlite3_bind_int64(q, 1, arg);
    return q;
}

/* The first column of the query's first row, escaped. */
static int put_value(struct report *r, const char *sql)
{
    sqlite3_stmt *q = report_ask(r, sql, r->s->experiment);

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

sqlite3_stmt *report_groups(struct report *r)
{
    return report_ask(r, "SELECT g.rowid, g.trace, g.model, g.backend, g.device, g.clock, g.rate_scale, g.slo_json, "
                      "(SELECT max(model_is_synthetic) FROM x_runs x WHERE x.group_id = g.rowid), (SELECT tail FROM "
                      "x_tails w WHERE w.group_id = g.rowid) FROM x_groups g ORDER BY g.rowid", 0);
}

void report_put_group(struct report *r, sqlite3_stmt *g)
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

static int put_verdict(struct report *r)
{
    sqlite3_stmt *g = report_groups(r);
    int bad = !g;

    while (!bad && sqlite3_step(g) == SQLITE_ROW) {
        report_put_group(r, g);
        fputs("<ul>\n", r->out);
        bad = report_verdict(r->s, sqlite3_column_int64(g, 0), put_line, r->out, r->e) ||
              summary_notes(r->s, sqlite3_column_int64(g, 0), put_line, r->out, r->e);
        fputs("</ul>\n", r->out);
    }
    sqlite3_finalize(g);
    return bad;
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
             {"LABELS", put_labels},   {"VERDICT", put_verdict},     {"TABLES", report_put_tables},
             {"CAPACITY", report_put_capacity},
             {"FIGURES", put_figures}, {"RUN_COUNT", put_run_count}, {"RUNS", report_put_runs},
             {"COMMAND", put_command}, {"INPUTS", report_put_inputs}};

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
