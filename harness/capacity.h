/* capacity.h - how much load a strategy bears: the highest rate of a sweep at which enough requests meet the SLO. */
#ifndef HARNESS_CAPACITY_H
#define HARNESS_CAPACITY_H

#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"
#include "harness/selection.h"

/* percent of the requests that must meet the SLO, unless --slo-share says else */
enum { CAPACITY_SHARE = 90 };

/* "90" or "99.5" percent, above 0 and at most 100. */
int capacity_share(const char *text, double *out, struct err *e);
/* The families (x_families.rowid) that were swept: at least two rates that count, an SLO, arrivals that take time. */
#define CAPACITY_FAMILIES "SELECT w.family FROM x_tails w JOIN x_groups g ON g.rowid = w.group_id " \
    "JOIN traces t USING (trace_id) WHERE t.duration_ns > 0 AND EXISTS (SELECT 1 FROM x_rows r WHERE " \
    "r.group_id = w.group_id AND r.counted > 0 AND r.attainment_pct IS NOT NULL) " \
    "GROUP BY w.family HAVING count(DISTINCT g.rate_scale) > 1 ORDER BY w.family"
/* What is compared, of family ?1: trace, model, backend, device, clock, slo_json. */
#define CAPACITY_ABOUT "SELECT g.trace, g.model, g.backend, g.device, g.clock, g.slo_json FROM x_families f " \
    "JOIN x_groups g ON g.rowid = f.group_id WHERE f.rowid = ?1"
/* Of family ?1, best first: label (with " ?" where it rests on a suspect run), rate ("x4", ">= x8", "< x1"), requests
 * per second there, percent within the SLO and goodput there, the first rate that failed with its percent ("61 % at
 * x8"), or ""; the bare label; 1 where suspect. */
const char *capacity_sql(const struct selection *s, char *out, size_t size);
/* The same as text, all families; prints nothing where no rates were swept. */
int capacity_print(FILE *out, struct selection *s, struct err *e);

/* What one group's throughput is worth. served: every strategy put out what was asked of it, so that its throughput
 * is the load's; line: that, or that not even the best strategy has enough requests within the SLO; or "". */
struct capacity_load { bool served; char line[300]; };
int capacity_load(struct selection *s, int64_t group, struct capacity_load *out, struct err *e);

#endif
