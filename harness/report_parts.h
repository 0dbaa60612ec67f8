/* report_parts.h - a page while it is written, and the parts of it that are tables. For report.c. */
#ifndef HARNESS_REPORT_PARTS_H
#define HARNESS_REPORT_PARTS_H

#include "harness/report.h"
#include "results/db.h"

struct report { FILE *out; struct selection *s; const struct figures *figures; struct err *e; };

/* A query whose ?1 is `arg`, or NULL with r->e. */
sqlite3_stmt *report_ask(struct report *r, const char *sql, int64_t arg);
/* One row a group; report_put_group reads it, and column 0 is the group. */
sqlite3_stmt *report_groups(struct report *r);
void report_put_group(struct report *r, sqlite3_stmt *g);      /* its heading */

/* Parts of the page. 0, or -1 with r->e. */
int report_put_capacity(struct report *r);     /* the highest rate borne; nothing where no rates were swept */
int report_put_tables(struct report *r);       /* one table a group */
int report_put_runs(struct report *r);
int report_put_inputs(struct report *r);       /* strategies, simulated machine, traces, models, environment */

#endif
