/* report_files.c - what a report leaves behind, for people (two lines) and for machines (a list, and the table as
 * rows). */
#include "harness/report.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/capacity.h"
#include "results/db.h"

json_t *report_text(const char *text)
{
    json_t *v = json_string(text);
    char safe[600];

    if (v)
        return v;
    label_safe(text, safe, sizeof safe);
    return json_string(safe);
}

static void add(json_t *files, const char *path, const char *what, const struct figure *f)
{
    json_t *o = json_object(), *at = json_string(path);
    char shows[600];

    if (f)
        snprintf(shows, sizeof shows, "%s%s%s%s", what, f->title, *what ? "" : ". ", *what ? "" : f->about);
    json_object_set_new(o, "path", at ? at : json_null());
    json_object_set_new(o, "shows", report_text(f ? shows : what));
    json_array_append_new(files, o);
}

void report_list_figures(json_t *files, const struct figures *figures, const char *formats)
{
    static const struct { const char *end, *what; } kinds[] = {
        { "svg", "" }, { "png", "" }, { "tsv", "the data of: " }, { "gp", "draws again, by gnuplot: " },
    };
    char path[700];

    for (int i = 0; i < figures->n; i++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            const struct figure *f = &figures->figure[i];
            bool asked = k > 1 || (f->drawn && (!formats || strstr(formats, kinds[k].end)));

            snprintf(path, sizeof path, "%s/%s.%s", f->dir, f->name, kinds[k].end);
            if (asked && !access(path, F_OK))
                add(files, path, kinds[k].what, f);
        }
}

static json_t *value(sqlite3_stmt *q, int i)
{
    switch (sqlite3_column_type(q, i)) {
    case SQLITE_INTEGER: return json_integer(sqlite3_column_int64(q, i));
    case SQLITE_FLOAT: return json_real(sqlite3_column_double(q, i));     /* NULL when not finite */
    case SQLITE_NULL: return json_null();
    default: return report_text(column_str(q, i));
    }
}

static int add_capacity(json_t *all, struct selection *s, int64_t family, struct err *e)
{
    static const struct { const char *key; int column; } part[] = {
        { "label", 6 }, { "rate", 1 }, { "offered_rps", 2 }, { "attainment_pct", 3 }, { "goodput_rps", 4 },
        { "fails_with", 5 }, { "suspect", 7 }
    };
    char sql[2400];
    sqlite3_stmt *q = db_prepare(s->db, s->path, capacity_sql(s, sql, sizeof sql), e);

    if (!q)
        return -1;
    sqlite3_bind_int64(q, 1, family);
    while (sqlite3_step(q) == SQLITE_ROW) {
        json_t *o = json_pack("{s:I, s:f}", "family", (json_int_t)family, "slo_share", s->slo_share);

        for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
            json_t *v = value(q, part[i].column);

            json_object_set_new(o, part[i].key, v ? v : json_null());
        }
        json_array_append_new(all, o);
    }
    sqlite3_finalize(q);
    return 0;
}

json_t *report_capacity(struct selection *s, struct err *e)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path, CAPACITY_FAMILIES, e);
    json_t *all = q ? json_array() : NULL;
    int bad = !q;

    while (!bad && sqlite3_step(q) == SQLITE_ROW)
        bad = add_capacity(all, s, sqlite3_column_int64(q, 0), e);
    sqlite3_finalize(q);
    if (bad) {
        json_decref(all);
        all = NULL;
    }
    return all;
}

json_t *report_rows(struct selection *s, struct err *e)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path, "SELECT g.trace, g.model, g.backend, g.clock, g.rate_scale, "
                                 "g.slo_json, x.* FROM x_rows x JOIN x_groups g ON g.rowid = x.group_id "
                                 "ORDER BY x.rowid", e);
    json_t *rows = q ? json_array() : NULL;
    int step = SQLITE_DONE;

    while (rows && (step = sqlite3_step(q)) == SQLITE_ROW) {
        json_t *o = json_object();

        for (int i = 0; i < sqlite3_column_count(q); i++) {
            json_t *v = value(q, i);

            json_object_set_new(o, sqlite3_column_name(q, i), v ? v : json_null());
        }
        json_array_append_new(rows, o);
    }
    if (rows && step != SQLITE_DONE) {
        db_fail(s->db, s->path, "reading the table", e);
        json_decref(rows);
        rows = NULL;
    }
    sqlite3_finalize(q);
    return rows;
}

int report_print(json_t *v, const char *what, struct err *e)
{
    if (!v)
        return err_set(e, EXIT_USAGE, "%s: the path is not UTF-8 and cannot stand in JSON", what);
    json_dumpf(v, stdout, JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(v);
    return 0;
}

int report_page(struct selection *s, const char *formats, const char *out, FILE *say, json_t *files, struct err *e)
{
    const struct figure_options o = {.formats = formats};
    struct figures *figures = calloc(1, sizeof *figures);
    char path[600];
    bool moved;
    int bad;

    if (!figures)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    bad = figures_folder(s, NULL, path, 500, e) || figures_of(s, &o, figures, e);
    moved = !bad && strcmp(strrchr(path, '/') + 1, s->folder) != 0;
    strcat(path, "/report.html");
    if (!bad)
        bad = report_write(s, figures, out ? out : path, e);
    if (!bad && say && figures->n)
        fprintf(say, "figures: %s\n", figures->figure[0].dir);
    if (!bad && say)
        fprintf(say, "report: %s\n", out ? out : path);
    if (!bad && say && moved && !out)
        fprintf(say, "(experiments/%s has the report of another database, or of one that was deleted: it stays)\n",
                s->folder);
    if (!bad && say && s->n_earlier && !moved && !out)
        fprintf(say, "(the name was used before: %d earlier report%s beside it stay%s)\n", s->n_earlier,
                s->n_earlier == 1 ? "" : "s", s->n_earlier == 1 ? "s" : "");
    if (!bad && files) {
        report_list_figures(files, figures, formats);
        add(files, out ? out : path, "the page: verdict, table, figures, every run, what it was run with", NULL);
    }
    free(figures);
    return bad ? -1 : 0;
}
