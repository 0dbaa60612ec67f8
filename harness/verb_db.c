/* verb_db.c - questions about the store itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/report.h"
#include "harness/verb.h"
#include "results/recorder.h"

extern const struct verb verb_db;

static const char help[] = "usage: servelab db check [--db FILE] [--quiet] [--json]\n\n"
                           "check   SQLite's integrity and foreign keys; that every finished run "
                           "has all its requests, steps and\n"
                           "        tokens, in order; that nothing of a finished run or of a quality "
                           "row, nor the trace, model,\n"
                           "        strategy, environment and experiment it names, has changed since it was "
                           "recorded. Exit status 1\n"
                           "        when a problem was found. Nothing is written.\n\n"
                           "  --db FILE   the store (default results/servelab.db); --quiet: exit "
                           "status only\n\n"
                           "The schema is plain SQL: sqlite3 results/servelab.db 'SELECT * FROM "
                           "v_runs'\n\n"
                           "example: servelab db check\n";

static const struct option options[] = {
    {"db", required_argument, NULL, 'd'}, {"quiet", no_argument, NULL, 'q'},
    {"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}
};

enum { OUT_SIZE = 1 << 20 };

/* out: one finding a line; it is cut up. */
static int print_json(const char *db, int n, char *out, struct err *e)
{
    json_t *list = json_array();

    for (char *save = NULL, *line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        json_array_append_new(list, report_text(line));
    return report_print(json_pack("{s:s, s:i, s:o}", "db", db, "problems", n, "findings", list), "--db", e);
}

static int check(const char *db, bool quiet, bool json, struct err *e)
{
    char *out = malloc(OUT_SIZE);
    int n;

    if (!out)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    n = recorder_check(db, out, OUT_SIZE, e);
    if (n >= 0 && json && print_json(db, n, out, e))
        n = -1;
    else if (n >= 0 && !quiet && !json)
        printf("%s%s: %d %s\n", out, db, n, n == 1 ? "problem" : "problems");
    free(out);
    if (n < 0)
        return -1;
    return n ? err_set(e, EXIT_RUN_FAILED, "%s: %d %s found by the check", db, n,
                       n == 1 ? "problem" : "problems") : 0;
}

static int run(int argc, char **argv, struct err *e)
{
    const char *db = "results/servelab.db";
    bool done, quiet = false, json = false;
    int opt;

    while ((opt = verb_option(&verb_db, argc, argv, options, &done, e)) != -1) {
        if (opt == '?')
            return -1;
        if (opt == 'd')
            db = optarg;
        quiet = quiet || opt == 'q';
        json = json || opt == 'j';
    }
    if (done)
        return 0;
    if (optind + 1 != argc || strcmp(argv[optind], "check") != 0)
        return err_set(e, EXIT_USAGE, "db: expected 'check'; 'servelab db --help' explains");
    return check(db, quiet, json, e);
}

const struct verb verb_db = {
    .name = "db", .about = "check that the store is whole", .help = help, .rank = 5, .run = run,
};
