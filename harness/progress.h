/* progress.h - a line on stderr about the run in progress, drawn by its own thread from atomic counters:
 * a bar on a terminal, plain lines every 10 s otherwise. The timed thread never waits for it. */
#ifndef HARNESS_PROGRESS_H
#define HARNESS_PROGRESS_H

#include <pthread.h>
#include <stdbool.h>

#include "harness/replay.h"

enum progress_mode { PROGRESS_AUTO, PROGRESS_ALWAYS, PROGRESS_NEVER };

struct progress {
    struct replay_progress live;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool on, bar, utf8, quit;
    /* of the run being drawn, under the lock */
    char name[200];
    uint32_t run, n_run;
    uint64_t n_request, n_token;       /* of the trace; tokens: prompts and outputs */
    double run_started, sweep_started, runs_s;     /* seconds; sum over finished runs */
    double estimate_s;                             /* of the whole sweep, before anything finished */
};
void progress_start(struct progress *p, enum progress_mode mode, uint32_t n_run, double estimate_s);
void progress_run(struct progress *p, uint32_t run, const char *name, uint64_t n_request,
                  uint64_t n_token);
void progress_run_done(struct progress *p);
void progress_stop(struct progress *p);

#endif
