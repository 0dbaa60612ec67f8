/* export.h - a finished experiment in the words of other tools: CSV of its table, Prometheus text, OpenTelemetry spans.
 *
 * Must stay true: names of vLLM's are used only where the meaning is vLLM's (a request's instants, docs/METRICS.md);
 * everything else is called servelab_*. Only runs that count (done and not invalid) are written. */
#ifndef HARNESS_EXPORT_H
#define HARNESS_EXPORT_H

#include <stdio.h>

#include "harness/selection.h"

/* One line per strategy, rate and device: the columns of x_rows, medians over repeats. RFC 4180. */
int export_csv(FILE *out, struct selection *s, struct err *e);
/* Text exposition format 0.0.4: histograms, counters and what the run was, each run by its labels. */
int export_prometheus(FILE *out, struct selection *s, struct err *e);
/* OTLP/JSON, one object: a resource per run, per request a span with queue, prefill and decode below it. */
int export_otlp(FILE *out, struct selection *s, struct err *e);

#endif
