/* verb.h - one verb of the command line, one file: harness/verb_NAME.c defines `verb_NAME`.
 * Likewise one benchmark: harness/bench_NAME.c defines `bench_NAME`. The Makefile writes both registries. */
#ifndef HARNESS_VERB_H
#define HARNESS_VERB_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct verb {
    const char *name, *about;      /* about: one line for `servelab --help` */
    const char *help;              /* full text of `servelab NAME --help`, with an example */
    int rank;                      /* order in --help */
    /* argv[0] is the verb's name. Returns the exit status; on failure fills e as well. */
    int (*run)(int argc, char **argv, struct err *e);
};
extern const struct verb *const verb_registry[];       /* NULL-ended, by rank */

struct bench {
    const char *name, *about;
    int (*run)(int argc, char **argv, struct err *e);  /* argv[0] is the benchmark's name */
};
extern const struct bench *const bench_registry[];     /* NULL-ended */

/* getopt_long with our messages: unknown options are refused with the nearest valid one, and --help
 * prints the verb's help and sets *done. Returns the option's val, -1 at the end, '?' on error. */
int verb_option(const struct verb *v, int argc, char **argv, const struct option *opts, bool *done,
                struct err *e);

/* The value of --option, which getopt left in optarg, as a whole number within [least, most]. */
int option_int(const char *option, int64_t least, int64_t most, int64_t *out, struct err *e);

/* Common to all verbs: --db PATH, --json, --quiet, --color auto|always|never. */
bool color_on(const char *mode, int fd);               /* obeys NO_COLOR and TERM=dumb */

/* Folder that holds workloads/, models/shapes/, plots/ ...: $SERVELAB_HOME, else the source tree the
 * binary was built from when it still exists, else ".". */
const char *servelab_home(void);

#endif
