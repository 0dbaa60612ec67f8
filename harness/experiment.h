/* experiment.h - a paper's experiment as shipped files: results/NN-question/ holds
 *
 *   sweep.json   question, machine, model, and one or more parts: a trace x strategies x rates
 *   checks.sql   what the paper says, as queries over the runs: claim, value, low, high, paper, known
 *   figure.sql   the tables of the figure, figure.gp draws them (as in plots/)
 *   README.md    question, prediction, figure, finding
 *
 * Everything runs on sim. A run leaves runs.db, the traces it made, checks.txt and the figure in a folder
 * of its own; nothing is taken from an earlier run. The columns of a check: value must lie in [low, high];
 * `known` says why a miss is known (the README explains it), else it is NULL. */
#ifndef HARNESS_EXPERIMENT_H
#define HARNESS_EXPERIMENT_H

#include <jansson.h>
#include <sqlite3.h>
#include <stdio.h>

#include "base/err.h"
#include "workloads/trace.h"

enum { EXPERIMENT_CLAIMS = 64, EXPERIMENT_PARTS = 32 };

struct experiment_claim {
    char claim[120], paper[48], known[160];    /* known: "" or why it is missed */
    double value, low, high;
    bool has_value, held;
    bool outside;                      /* `paper` is a range ("A to B", "up to B") and the value is not in it */
};
struct experiment_conf {
    const char *name;                  /* of a folder under results/, or a path to one */
    const char *dir;                   /* where it leaves its files; NULL: results/experiments/<name> */
    bool is_small;                     /* the short form that tests run */
    bool quiet, no_figure;
};
struct experiment_result {
    char dir[1024];
    char how[200];                     /* model, machine, and that it was simulated */
    int64_t db_bytes;                  /* of the runs.db it leaves */
    char skipped[200];                 /* "" or why it could not run here */
    struct experiment_claim claim[EXPERIMENT_CLAIMS];
    int n, n_missed, n_known;          /* missed: outside and not known to be */
    bool drawn;
};
int experiment_run(const struct experiment_conf *c, struct experiment_result *r, struct err *e);
/* The table of claims. */
void experiment_print(FILE *f, const struct experiment_result *r);

/* ---- inside harness/experiment*.c ---- */

/* Makes a trace from its recipe {"seed", "clients": [{"tenant", "count", "rate", "prompt", "output",
 * "longest"}]}; lengths are {"fixed": n} or a lognormal by {"mean" or "median", "sigma", "most"}. */
int experiment_trace(struct trace *t, json_t *recipe, double scale, const char *name, struct err *e);
/* figure.sql and figure.gp of the experiment's folder `from`, drawn into `to`. *drawn: the image is there. */
int experiment_figure(sqlite3 *db, const char *db_path, const char *from, const char *to,
                      const char *caption, bool *drawn, struct err *e);
/* "$SERVELAB_SHARED/traces/NAME" or "HOME/../shared/traces/NAME": 0 when it is there. */
int experiment_shared(const char *name, char *path, size_t n);

#endif
