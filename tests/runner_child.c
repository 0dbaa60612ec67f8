/* runner_child.c - in the process of one suite: CUnit runs its tests, its handlers tell what happens,
 * one record a line, kind first:
 *   S test   F file:line TAB expression   N note   K reason of a skip   E seconds */
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <CUnit/TestRun.h>

#include "tests/runner.h"

double seconds_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *w)
{
    (void)st, (void)kind, (void)w;
    return remove(path);
}

static int writable_one(const char *path, const struct stat *st, int kind, struct FTW *w)
{
    (void)st, (void)w;
    return kind == FTW_D ? chmod(path, 0700) : 0;    /* tests leave read-only folders behind */
}

void remove_tree(const char *path)
{
    nftw(path, writable_one, 16, FTW_PHYS);
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int report_fd = -1;
static unsigned n_reported;            /* failures told so far */
static const char *suite_name;
static double started;
static bool keep_dirs;
static const char *root_dir;
static char dir_now[PATH_MAX];

static void report(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void report(const char *fmt, ...)
{
    char line[1600];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(line, sizeof line - 1, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    if (n > (int)sizeof line - 2)
        n = (int)sizeof line - 2;
    for (int i = 0; i < n; i++)
        if (line[i] == '\n' || line[i] == '\r' || !line[i])
            line[i] = ' ';
    line[n++] = '\n';
    if (write(report_fd, line, (size_t)n) != n)
        _exit(98);
}

void test_skip(const char *fmt, ...)
{
    char text[500];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    report("K%s", text);
}

/* Tells the failures since the last call, so that notes stand beside what they explain. */
static void report_failures(void)
{
    CU_pFailureRecord f = CU_get_failure_list();

    for (unsigned i = 0; f; f = f->pNext, i++) {
        if (i < n_reported)
            continue;
        report("F%s:%u\t%s", f->strFileName ? f->strFileName : "?", f->uiLineNumber,
               f->strCondition ? f->strCondition : "?");
        n_reported++;
    }
}

void test_note(const char *fmt, ...)
{
    char text[1200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    report_failures();
    report("N%s", text);
}

const char *test_shared(void)
{
    static char path[PATH_MAX];
    const char *env = getenv("SERVELAB_SHARED");
    char traces[PATH_MAX + 8];
    struct stat st;

    snprintf(path, sizeof path, "%s", env && *env ? env : SERVELAB_SOURCE "/../shared");
    snprintf(traces, sizeof traces, "%s/traces", path);
    return stat(traces, &st) == 0 && S_ISDIR(st.st_mode) ? path : NULL;
}

const char *test_dir(void)
{
    if (dir_now[0])
        return dir_now;
    if (snprintf(dir_now, sizeof dir_now, "%s/%s-XXXXXX", root_dir, suite_name) >= (int)sizeof dir_now ||
        !mkdtemp(dir_now)) {
        fprintf(stderr, "runner: cannot make a folder below %s: %s\n", root_dir, strerror(errno));
        exit(97);
    }
    return dir_now;
}

static void on_start(const CU_pTest t, const CU_pSuite s)
{
    (void)s;
    dir_now[0] = 0;
    started = seconds_now();
    report("S%s", t->pName);
}

static void on_complete(const CU_pTest t, const CU_pSuite s, const CU_pFailureRecord first)
{
    (void)t, (void)s, (void)first;
    report_failures();
    if (dir_now[0] && keep_dirs)
        report("N" "folder kept: %s", dir_now);
    else if (dir_now[0])
        remove_tree(dir_now);
    report("E%.6f", seconds_now() - started);
}

int child_run(const struct suite *s, const struct result *r, unsigned n, int fd, const char *root,
              bool keep)
{
    CU_pSuite cs;

    report_fd = fd;
    suite_name = s->name;
    root_dir = root;
    keep_dirs = keep;
    if (CU_initialize_registry() != CUE_SUCCESS || !(cs = CU_add_suite(s->name, NULL, NULL)))
        return 96;
    for (unsigned i = 0; i < n; i++) {
        const struct test *t = s->tests;

        while (strcmp(t->name, r[i].name))
            t++;
        if (!CU_add_test(cs, t->name, t->run))
            return 96;
    }
    CU_set_error_action(CUEA_IGNORE);
    CU_set_test_start_handler(on_start);
    CU_set_test_complete_handler(on_complete);
    CU_run_suite(cs);
    CU_cleanup_registry();
    return 0;
}
