/* sweep_rows.h - a sweep while it runs, and the rows that it writes: what all runs share, and each run's own. For
 * sweep.c. */
#ifndef HARNESS_SWEEP_ROWS_H
#define HARNESS_SWEEP_ROWS_H

#include "harness/environment.h"
#include "harness/loaded.h"
#include "harness/sweep.h"
#include "harness/texts.h"
#include "harness/validity.h"

struct sweep {
    const struct sweep_conf *c;
    struct sweep_result *res;
    struct trace trace;
    struct trace_info info;
    struct device dev;
    struct model_shape shape;
    struct model_files files;
    char sha256[SHA256_HEX];
    struct texts texts;
    struct loaded_set models;
    struct kv_pool kv;
    struct recorder *rec;
    struct progress progress;
    struct environment env;
    struct slo slo;
    uint32_t max_len, kv_slots_asked, host_slots;
    uint64_t kv_bytes_asked;
    int64_t environment_id, trace_id;
    struct err *e;
};

int sweep_begin_rows(struct sweep *s);         /* environment, trace, experiment. 0, or -1 with s->e */
/* The row of a run that begins, with its model and strategy; its id, or -1 with s->e. */
int64_t sweep_begin_run(struct sweep *s, const struct model *m, const struct strategy *st, double rate, uint32_t repeat,
                        uint32_t order);
int sweep_end_run(struct sweep *s, const struct replay_result *r, const struct validity *v, const char *status,
                  const struct op_total *total);

#endif
