/* report.h - one experiment as one HTML file: figures inside, nothing fetched, readable without
 * script. */
#ifndef HARNESS_REPORT_H
#define HARNESS_REPORT_H

#include <stdio.h>

#include "base/err.h"
#include "harness/figures.h"
#include "harness/selection.h"

/* Fills plots/report.html with the experiment and writes it to path. */
int report_write(struct selection *s, const struct figures *figures, const char *path,
                 struct err *e);
/* Makes the figures in these formats (NULL: all) and the page: out, or report.html in the experiment's
 * folder. Where they are goes to `say` (NULL: nowhere). Without gnuplot: a warning, a page without figures. */
int report_page(struct selection *s, const char *formats, const char *out, FILE *say, struct err *e);
/* Sentences computed from one group (one device, clock, rate): who is best, by how much, and what
 * that is worth. Only runs that are done and not invalid are looked at. `each` is called once per
 * sentence. */
int report_verdict(struct selection *s, int64_t group, void (*each)(void *ctx, const char *line),
                   void *ctx, struct err *e);

#endif
