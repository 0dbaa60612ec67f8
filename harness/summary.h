/* summary.h - the table that `run` and `report` print: one block per group (trace, device, rate),
 * one row per strategy, medians over repeats; within 80 columns. */
#ifndef HARNESS_SUMMARY_H
#define HARNESS_SUMMARY_H

#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"
#include "harness/selection.h"

/* which: NULL or "latest", a name, a uid, an id. color: the best value of a column in bold. */
int summary_print(FILE *out, const char *db, const char *which, bool color, struct err *e);
/* The same of an open selection. */
int summary_of(FILE *out, struct selection *s, bool color, struct err *e);
/* The sentences under one group's table; `each` is called once per line. */
int summary_notes(struct selection *s, int64_t group, void (*each)(void *ctx, const char *line),
                  void *ctx, struct err *e);

#endif
