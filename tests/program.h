/* program.h - the real binary, by fork and exec in the test's folder: its exit status, what it says, what its database
 * holds. */
#ifndef TESTS_PROGRAM_H
#define TESTS_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum { PATH_ROOM = 4300, OUT = 65536 };
struct said {                          /* how a run of the program ended */
    int rc;                            /* exit status; 1000 + signal; -1: could not be started */
    char out[OUT], err[OUT];
};
const struct said *said(void);         /* how the last one did */

/* Under which limits the program runs; 0: none. */
struct limits { uid_t uid; rlim_t file_bytes; };

const char *program_file(const char *file);  /* a path in the test's folder, until four more were asked for */
const char *program_db(void);            /* the one that command lines call @t.db */
void program_read(const char *file, char text[OUT]);  /* of the test's folder; "" when it is not there */

/* `servelab TEXT`, split at blanks; "@x" is file x of the test's folder. program_run waits and returns its rc. */
int   program_run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
pid_t program_start(const char *text, struct limits l);
int   program_finish(pid_t pid);
void  program_note(const char *text);          /* explains a failing assertion that follows */

/* One number out of a database; -1 when it cannot be had (not yet there, locked). */
int64_t db_number(const char *db, const char *sql);
int64_t db_runs(const char *db, const char *status);
/* Waits until the program has a run of this status in its database; false when it ends before. */
bool db_wait(pid_t pid, const char *db, const char *status);

/* A sim run of a few requests, as quick as can be. */
#define SIM "run --device sim --trace chat.json --strategy continuous+paged+f16 --limit 40 --repeats 1 " \
            "--no-figures --db @t.db"

#endif
