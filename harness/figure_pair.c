/* figure_pair.c - the two files of a figure, NAME.tsv (what is drawn) and NAME.gp (what draws it), and gnuplot. */
#include "harness/figures.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void put_names(FILE *gp, const char *name, const char *draw, const char *title)
{
    char safe[160];
    int w = 900, h = 420;

    sscanf(draw, "# size %d %d", &w, &h);
    label_safe(title, safe, sizeof safe);
    fprintf(gp, "# Written by servelab. Redraw in this folder: gnuplot %s.gp; as PNG: "
            "gnuplot -e \"FORMAT='png'\" %s.gp\n"
            "NAME = '%s'; DATA = '%s.tsv'; W = %d; H = %d\nTITLE = '%s'\n", name, name, name, name, w, h, safe);
}

static FILE *open_one(struct figure_pair *p, const char *dir, const char *name, const char *end, struct err *e)
{
    FILE *f;

    snprintf(p->path, sizeof p->path, "%s/%s.%s", dir, name, end);
    if (!(f = fopen(p->path, "w")))
        err_set(e, EXIT_IO, "%s: cannot be written: %s", p->path, strerror(errno));
    return f;
}

int figure_pair_open(struct figure_pair *p, const char *dir, const char *name, const char *draw, const char *title,
                     struct err *e)
{
    if (!(p->tsv = open_one(p, dir, name, "tsv", e)))
        return -1;
    if (!(p->gp = open_one(p, dir, name, "gp", e))) {
        fclose(p->tsv);
        return -1;
    }
    put_names(p->gp, name, draw, title);
    return 0;
}

int figure_pair_close(struct figure_pair *p, struct err *e)
{
    bool bad = ferror(p->tsv) || ferror(p->gp);

    bad = fclose(p->tsv) != 0 || bad;
    bad = fclose(p->gp) != 0 || bad;
    return bad ? err_set(e, EXIT_IO, "%s: cannot be written; is the disk full?", p->path) : 0;
}

int figure_gnuplot(const char *dir, const char *name, const char *format)
{
    char set[40], script[100];
    pid_t pid;
    int status;

    snprintf(set, sizeof set, "FORMAT='%s'", format);
    snprintf(script, sizeof script, "%s.gp", name);
    fflush(NULL);
    if ((pid = fork()) == 0) {
        if (chdir(dir) || !freopen("gnuplot.log", "a", stderr) || !freopen("/dev/null", "w", stdout))
            _exit(126);
        setenv("LC_ALL", "C", 1);
        execlp("gnuplot", "gnuplot", "-e", set, script, (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 126;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}
