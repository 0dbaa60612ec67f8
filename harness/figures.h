/* figures.h - the figures of an experiment: plots/NAME.sql fills NAME.tsv, plots/NAME.gp draws it.
 *
 * Each figure is four files: NAME.svg, NAME.png, and what draws them again without us, NAME.gp and
 * NAME.tsv. They go to experiments/<experiment>/figures/ beside the database. A second group of
 * runs (another trace, device or model in the same experiment) gets NAME-2 and so on: never two in
 * one picture. Without gnuplot the .gp and .tsv are written all the same. Same store, same bytes.
 */
#ifndef HARNESS_FIGURES_H
#define HARNESS_FIGURES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "harness/selection.h"

enum { FIGURES_MAX = 96, FIGURE_NAMES = 32 };
struct figure {
    char name[80], title[120], about[400];
    char dir[512];                     /* of its four files */
    int64_t family, group;             /* x_families.rowid; x_groups.rowid of what is shown */
    bool drawn;                        /* the image is there */
};
struct figure_options {
    const char *formats;               /* "svg,png"; NULL: both */
    const char *a, *b; /* strategies (name, label or run id) of the two-run figures, or NULL */
    const char *const *names;          /* [n_names]; none: all */
    int n_names;
    const char *dir;                   /* NULL: beside the database, as above */
    double slo_share;                  /* percent of requests that must meet the SLO; 0: the usual */
};
struct figures {
    struct figure figure[FIGURES_MAX];
    int n;
    bool no_gnuplot;                   /* data and scripts only; already said on stderr */
    int failed; /* figures that gnuplot refused; each already said on stderr */
};

/* Opens the experiment (NULL or "latest", name, uid, id), makes its figures; lists them in out. */
int figures_make(const char *db, const char *which, const struct figure_options *o,
                 struct figures *out, struct err *e);
/* The same of an open selection. */
int figures_of(struct selection *s, const struct figure_options *o, struct figures *out,
               struct err *e);
/* The figures there are: names in plots/, by the rank that each gives; their number or -1. And what
 * one shows. */
int figure_names(char names[][64], int max, struct err *e);
int figure_about(const char *name, char *title, size_t title_size, char *about, size_t about_size,
                 struct err *e);
/* The folder of an experiment: experiments/<folder> beside the database, with part of its uid behind where another
 * store's experiment has that. Made when missing. */
int figures_folder(const struct selection *s, const char *below, char *out, size_t size,
                   struct err *e);
/* Reads a whole file, NUL-terminated, from malloc; NULL and *e when it cannot be. */
char *file_text(const char *path, struct err *e);

/* ---- inside harness/figure*.c and experiment_figure.c ---- */
int figure_folder_make(const char *path, struct err *e);   /* fine when it is there */
struct figure_args { int64_t family, group, a, b, c, d, r; char tail[8]; };   /* 0: NULL */
/* Runs every statement of sql, writes the tables to tsv, and the arrays that describe them to gp.
 * Returns the rows of the first table, 0 when that or the second is empty (nothing to draw), or -1.
 */
int figure_data(struct selection *s, const char *sql, const struct figure_args *a, FILE *tsv,
                FILE *gp, struct err *e);
/* The two files of a figure, open: NAME.tsv is what is drawn, NAME.gp draws it. The script begins with its names, the
 * size that the first line of `draw` gives, and the title. */
struct figure_pair { FILE *tsv, *gp; char path[1200]; };
int figure_pair_open(struct figure_pair *p, const char *dir, const char *name, const char *draw, const char *title,
                     struct err *e);
int figure_pair_close(struct figure_pair *p, struct err *e);
/* gnuplot's exit status for NAME.gp of dir; 127: it is not there. Its complaints go to gnuplot.log in the folder. */
int figure_gnuplot(const char *dir, const char *name, const char *format);
/* Gives an SVG its own title and description, and ids that no other figure has. */
int figure_tidy_svg(const char *path, const struct figure *f, struct err *e);

#endif
