/* estimate.h - how long a sweep will take, from two short probes of the device, before it starts. */
#ifndef HARNESS_ESTIMATE_H
#define HARNESS_ESTIMATE_H

#include "harness/loaded.h"
#include "harness/sweep.h"

/* Seconds; the probes also warm the device up. -1 with e filled when a probe fails. */
double estimate_sweep(const struct sweep_conf *c, struct loaded_set *models, struct kv_pool *kv,
                      const struct trace *t, const struct trace_info *info, struct err *e);

#endif
