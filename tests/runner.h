/* runner.h - what the runner's three files share: what is known of each test, and who tells it. */
#ifndef TESTS_RUNNER_H
#define TESTS_RUNNER_H

#include <stdbool.h>
#include <stdio.h>

#include "tests/test.h"

enum { TEST_NAME = 200, NOTES = 3 };
enum state { NOT_RUN, RUNNING, PASSED, FAILED, SKIPPED };

struct result {
    char name[TEST_NAME];              /* of the test, without its suite */
    enum state state;
    double seconds;
    char *text;                        /* lines: failures, notes, or the reason of the skip */
    char *note[NOTES];                 /* the last ones, shown if a failure follows */
    unsigned n_note, n_failure;
};

/* runner_child.c: runs the tests named in r[0..n) and writes records to fd. The exit status. */
int child_run(const struct suite *s, const struct result *r, unsigned n, int fd, const char *root,
              bool keep);
double seconds_now(void);
void remove_tree(const char *path);

/* runner_result.c: takes one record; *now is the index of the running test. */
void result_take(struct result *r, unsigned n, unsigned *now, char *line);
/* A suite is over; status -1: it timed out. Tests it did not reach count as failed. May add one
 * result, for which r has room. True when something failed. */
bool result_close(struct result *r, unsigned *n, unsigned now, int status, unsigned limit_s);
void result_print(unsigned number, const char *suite, const struct result *r);
void result_xml(FILE *f, const char *suite, const struct result *r, unsigned n, double seconds);

#endif
