/* err.h - one error, first failure wins.
 *
 * Functions that can fail return 0 or -1 (or NULL) and fill a struct err that the caller owns. A filled
 * err is never overwritten, so the text names the first cause. Only main turns it into an exit status. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#ifdef __cplusplus
extern "C" {
#endif

/* Exit statuses, as documented in README and --help. */
enum {
    EXIT_RUN_FAILED = 1,   /* a run failed: device error, scheduler stuck, out of memory */
    EXIT_USAGE = 2,        /* bad option or bad input file; nothing was written */
    EXIT_INVALID = 3,      /* measured, but a validity rule was broken */
    EXIT_IO = 74,          /* disk full, database cannot be written (EX_IOERR) */
    EXIT_INTERRUPTED = 130
};

struct err {
    int code;              /* one of the statuses above; 0 = no error */
    char text[1000];       /* one line: file, place, field, value, what was expected, way out */
};

/* Fills e unless it already holds an error; e may be NULL. Always returns -1. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#ifdef __cplusplus
}
#endif

#endif
