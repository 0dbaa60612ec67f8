/* results_fixture.h - a store with invented runs, made through recorder.h by a toy replay loop:
 * static, continuous and chunked batching, contiguous and paged memory, f16 and int4. The numbers
 * are plausible, conserved and the same every time; they say nothing about the real strategies. */
#ifndef TESTS_RESULTS_FIXTURE_H
#define TESTS_RESULTS_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include <sqlite3.h>

#include "base/err.h"

struct fixture {
    const char *name, *trace;          /* of the experiment and of the trace */
    uint32_t n_request, n_strategy;    /* up to 12 strategies */
    uint32_t repeats;
    const double *rates;               /* [n_rate]; NULL: one rate of 1 */
    uint32_t n_rate;
    bool sim;                          /* virtual clock, no outputs */
    bool also_sim;                     /* the same again on a virtual clock, in one experiment */
    bool wrong_outputs;                /* the last strategy answers one request differently */
    const char *validity, *reasons;    /* of the second run; NULL: valid */
    bool killed;                       /* the last run is never ended */
    bool no_slo;
};
int fixture_make(const char *db, const struct fixture *f, struct err *e);
/* A file of the test's folder (four names live at a time), and a store opened to be read; a failure ends the test. */
const char *fixture_path(const char *name);
sqlite3 *fixture_reader(const char *path);

#endif
