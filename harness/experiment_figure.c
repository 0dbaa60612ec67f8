/* experiment_figure.c - the figure of an experiment: figure.sql of its folder filled into figure.tsv, the
 * look of plots/style.gp, figure.gp drawn by gnuplot as SVG and PNG. The first lines of figure.gp:
 *   # size W H
 *   # title: TEXT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/home.h"
#include "harness/experiment.h"
#include "harness/figures.h"
#include "build/gen/version.h"

/* How it was obtained stands first: what is cut off at the right edge must not be that. */
static void write_script(FILE *gp, const char *draw, const char *caption)
{
    char title[160] = "", safe[160];
    const char *at = strstr(draw, "# title: ");
    int w = 900, h = 420;

    sscanf(draw, "# size %d %d", &w, &h);
    if (at)
        sscanf(at, "# title: %159[^\n]", title);
    label_safe(title, safe, sizeof safe);
    fprintf(gp, "# Written by servelab. Redraw in this folder: gnuplot figure.gp; as PNG: "
            "gnuplot -e \"FORMAT='png'\" figure.gp\n"
            "NAME = 'figure'; DATA = 'figure.tsv'; W = %d; H = %d\nTITLE = '%s'\n"
            "CAPTION = '%s'; STAMP = 'servelab %s, commit %.12s%s'\n", w, h, safe, caption, SERVELAB_VERSION, SERVELAB_COMMIT,
            SERVELAB_DIRTY ? " (modified)" : "");
}

static int write_pair(sqlite3 *db, const char *db_path, const char *to, char *text[3],
                      const char *caption, struct err *e)
{
    struct selection s = { .db = db, .path = db_path };
    struct figure_args a = { 0 };
    char path[1200];
    FILE *tsv, *gp;
    int rows, bad;

    snprintf(path, sizeof path, "%s/figure.tsv", to);
    if (!(tsv = fopen(path, "w")))
        return err_set(e, EXIT_IO, "%s: cannot be written: %s", path, strerror(errno));
    snprintf(path, sizeof path, "%s/figure.gp", to);
    if (!(gp = fopen(path, "w"))) {
        fclose(tsv);
        return err_set(e, EXIT_IO, "%s: cannot be written: %s", path, strerror(errno));
    }
    write_script(gp, text[1], caption);
    rows = figure_data(&s, text[0], &a, tsv, gp, e);
    fprintf(gp, "\n%s\n%s", text[2], text[1]);
    bad = ferror(tsv) || ferror(gp);
    bad = fclose(tsv) != 0 || bad;
    bad = fclose(gp) != 0 || bad;
    if (bad)
        return err_set(e, EXIT_IO, "%s: cannot be written; is the disk full?", path);
    return rows;
}

/* gnuplot's exit status; 127: it is not there. */
static int gnuplot(const char *dir, const char *format)
{
    pid_t pid;
    int status;

    fflush(NULL);
    if ((pid = fork()) == 0) {
        if (chdir(dir) || !freopen("gnuplot.log", "a", stderr) || !freopen("/dev/null", "w", stdout))
            _exit(126);
        setenv("LC_ALL", "C", 1);
        execlp("gnuplot", "gnuplot", "-e", format, "figure.gp", (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 126;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

static int draw(const char *to, bool *drawn, struct err *e)
{
    static const char *const formats[] = { "FORMAT='svg'", "FORMAT='png'" };
    char log[1200];

    snprintf(log, sizeof log, "%s/gnuplot.log", to);
    remove(log);
    for (int i = 0; i < 2; i++) {
        int rc = gnuplot(to, formats[i]);

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
