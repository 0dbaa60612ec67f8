/* experiment_figure.c - the figure of an experiment: figure.sql of its folder filled into figure.tsv, the
 * look of plots/style.gp, figure.gp drawn by gnuplot as SVG and PNG. The first lines of figure.gp:
 *   # size W H
 *   # title: TEXT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/home.h"
#include "harness/experiment.h"
#include "harness/figures.h"
#include "build/gen/version.h"

/* In the caption, how it was obtained stands first: what is cut off at the right edge must not be that. */
static int write_pair(sqlite3 *db, const char *db_path, const char *to, char *text[3],
                      const char *caption, struct err *e)
{
    struct selection s = { .db = db, .path = db_path };
    struct figure_args a = { 0 };
    struct figure_pair pair;
    char title[160] = "";
    const char *at = strstr(text[1], "# title: ");
    int rows;

    if (at)
        sscanf(at, "# title: %159[^\n]", title);
    if (figure_pair_open(&pair, to, "figure", text[1], title, e))
        return -1;
    fprintf(pair.gp, "CAPTION = '%s'; STAMP = 'servelab %s, commit %.12s%s'\n", caption, SERVELAB_VERSION,
            SERVELAB_COMMIT, SERVELAB_DIRTY ? " (modified)" : "");
    rows = figure_data(&s, text[0], &a, pair.tsv, pair.gp, e);
    fprintf(pair.gp, "\n%s\n%s", text[2], text[1]);
    return figure_pair_close(&pair, e) ? -1 : rows;
}

static int draw(const char *to, bool *drawn, struct err *e)
{
    static const char *const formats[] = { "svg", "png" };
    char log[1200];

    snprintf(log, sizeof log, "%s/gnuplot.log", to);
    remove(log);
    for (int i = 0; i < 2; i++) {
        int rc = figure_gnuplot(to, "figure", formats[i]);

        if (rc == 127) {
            fprintf(stderr, "servelab: gnuplot is not installed; wrote figure.tsv and figure.gp only\n");
            return 0;
        }
        if (rc)
            return err_set(e, EXIT_RUN_FAILED, "gnuplot refused %s/figure.gp (status %d); see %s", to, rc,
                           log);
    }
    remove(log);
    *drawn = true;
    return 0;
}

int experiment_figure(sqlite3 *db, const char *db_path, const char *from, const char *to,
                      const char *caption, bool *drawn, struct err *e)
{
    char path[3][4200], *text[3] = { NULL };
    int rows = -1;

    *drawn = false;
    snprintf(path[0], sizeof path[0], "%s/figure.sql", from);
    snprintf(path[1], sizeof path[1], "%s/figure.gp", from);
    snprintf(path[2], sizeof path[2], "%s/plots/style.gp", home_dir());
    for (int i = 0; i < 3; i++)
        text[i] = file_text(path[i], e);
    if (text[0] && text[1] && text[2])
        rows = write_pair(db, db_path, to, text, caption, e);
    for (int i = 0; i < 3; i++)
        free(text[i]);
    return rows > 0 ? draw(to, drawn, e) : rows;
}
