/* trace_show.h - the figures of a trace on stdout, as a table or as one JSON object: `servelab trace info`. */
#ifndef HARNESS_TRACE_SHOW_H
#define HARNESS_TRACE_SHOW_H

#include "workloads/trace.h"

void trace_show_table(const struct trace *t, const struct trace_info *i);
void trace_show_json(const struct trace *t, const struct trace_info *i);

#endif
