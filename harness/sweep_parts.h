/* sweep_parts.h - a sweep while it runs, the memory that its runs get (sweep_memory.c), and the rows that it writes
 * (sweep_rows.c): what all runs share, and each run's own. For sweep.c. */
#ifndef HARNESS_SWEEP_PARTS_H
#define HARNESS_SWEEP_PARTS_H

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

/* ---- memory ---- */
uint32_t sweep_max_len(const struct sweep *s);         /* the default: what the trace needs */
/* What --kv asks for in tokens of `fmt`, into *s. A size in bytes, and the default, hold more tokens of a smaller
 * format: strategies are compared at equal memory. */
int sweep_kv_size(struct sweep *s, enum fmt fmt);
int sweep_pool(struct sweep *s, enum fmt fmt);         /* one pool at a time, of the format that the run asks for */
/* Weights and pool against the device's own memory, before anything is loaded. 0: it fits, or the host will tell; 1: it
 * does not, and `would` and `v` say what would stand there; -1 with s->e. */
int sweep_too_big(struct sweep *s, const struct strategy *st, struct model *would, struct validity *v);

/* ---- rows ---- */
int sweep_begin_rows(struct sweep *s);         /* environment, trace, experiment. 0, or -1 with s->e */
/* The row of a run that begins, with its model and strategy; its id, or -1 with s->e. */
int64_t sweep_begin_run(struct sweep *s, const struct model *m, const struct strategy *st, double rate, uint32_t repeat,
                        uint32_t order);
int sweep_end_run(struct sweep *s, const struct replay_result *r, const struct validity *v, const char *status,
                  const struct op_total *total);

#endif
