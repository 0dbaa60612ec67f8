/* selection.h - one experiment of a store, opened for reading, with what tables, figures and the
 * report share: temporary tables x_groups, x_runs, x_rows and a short label per strategy.
 *
 *   x_groups  what may be compared: one trace, model, device and clock, rate and SLO. Simulated and
 * measured runs are never in one group, so no verdict mixes them. x_runs    v_runs of the
 * experiment with group_id and label x_rows    one per group and strategy: counts of runs by
 * validity, medians over those that count x_families  groups that differ in rate only, with the
 * group to show when one is shown x_tails   per group: its family and the highest percentile that
 * all its rows have
 *
 * Labels leave out what all strategies share and hold only harmless ASCII (label_safe). What was asked for by the name
 * of a preset is labelled by that name. No two strategies have one label. */
#ifndef HARNESS_SELECTION_H
#define HARNESS_SELECTION_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct selection {
    sqlite3 *db;
    const char *path;              /* of the store; the caller's */
    int64_t experiment;
    char name[128];                /* of the experiment, as recorded (any bytes) */
    char uid[32];                  /* of the experiment, safe for a file name */
    char folder[160];              /* name made safe for a file name; with the id when n_earlier */
    int n_earlier;                 /* experiments before it whose folder would have the same name */
    char shared[160];              /* what the labels leave out: "f16", or "" */
    double slo_share;              /* percent of requests that must meet the SLO (harness/capacity.h); may be changed */
};

/* which: NULL or "latest", a name, a uid, an id. */
int  selection_open(struct selection *s, const char *path, const char *which, struct err *e);
void selection_close(struct selection *s);

/* Text of column i, never NULL. */
const char *column_str(sqlite3_stmt *s, int i);
/* Replaces what is not a letter, digit or one of " +:=._,()/%-" by '?'; cuts at size. Safe in
 * gnuplot. */
void label_safe(const char *text, char *out, size_t size);
/* A number in few characters: "-" when NULL; 3 or 4 digits. */
const char *number_str(sqlite3_stmt *s, int i, char out[24]);
/* "ttft<=200 tpot<=50 ms", or "none" */
void slo_str(const char *slo_json, char *out, size_t size);
/* A group's KV pool: "KV pool 4.0 GiB (default: 4 longest sequences), 3 % of the device's memory". long_form false: its
 * size only. "" where no run says. */
void kv_pool_str(struct selection *s, int64_t group, bool long_form, char *out, size_t size);
/* A backend's label without what it says in brackets: clock_note says that. Safe as label_safe. */
void backend_str(const char *backend, char *out, size_t size);
/* As good as the best when printed: within 0.05 %. better: +1 more, -1 less, 0 never. */
bool near_best(double value, double best, int better);
/* The sentence that goes with every number of such runs, or "". */
const char *clock_note(const char *device, const char *clock);

#endif
