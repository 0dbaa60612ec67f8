/* report.h - one experiment as one HTML file: figures inside, nothing fetched, readable without
 * script. */
#ifndef HARNESS_REPORT_H
#define HARNESS_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "base/err.h"
#include "harness/figures.h"
#include "harness/selection.h"

/* Fills plots/report.html with the experiment and writes it to path. */
int report_write(struct selection *s, const struct figures *figures, const char *path,
                 struct err *e);
/* Makes the figures in these formats (NULL: all) and the page: out, or report.html in the experiment's
 * folder. Where they are goes to `say`, and each file to the list `files` (either may be NULL: nowhere). Without
 * gnuplot: a warning, a page without figures. */
int report_page(struct selection *s, const char *formats, const char *out, FILE *say, json_t *files, struct err *e);
/* ---- for machines (--json) ---- */
/* The files of figures in these formats (NULL: all), as objects {"path", "shows"}, appended. A path that is not UTF-8
 * cannot stand in JSON and is null. */
void report_list_figures(json_t *files, const struct figures *figures, const char *formats);
/* The table: one object per group and strategy, columns as in x_rows, NULL where a sample carries no number. NULL and
 * *e when it cannot be read. */
json_t *report_rows(struct selection *s, struct err *e);
/* The highest rate that each strategy bears (harness/capacity.h), per swept family; [] where no rates were swept. */
json_t *report_capacity(struct selection *s, struct err *e);
/* A text that may hold any bytes; what is not UTF-8 is made harmless. */
json_t *report_text(const char *text);
/* One line on stdout; v is freed. v NULL: something in it was not UTF-8, which is refused; what: which. */
int report_print(json_t *v, const char *what, struct err *e);
/* Sentences computed from one group (one device, clock, rate): who is best, by how much, and what
 * that is worth. Only runs that are done and not invalid are looked at. `each` is called once per
 * sentence. */
int report_verdict(struct selection *s, int64_t group, void (*each)(void *ctx, const char *line),
                   void *ctx, struct err *e);

#endif
