/* runner.c - runs the suites that the Makefile found. CUnit keeps the registry and the assertions; the
 * rest is ours, because CUnit's own reports are incomplete and it has no isolation: each suite runs in
 * a process of its own with a timeout, so a crash costs that suite only and is counted as failures.
 * Out come TAP on stdout, JUnit XML in a file, and a last line "N passed, N failed". */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "tests/runner.h"

enum { SLOWER = is_sanitized ? 4 : 1 };        /* timeouts are for plain builds */
enum { MAX_TESTS = 400, MAX_SUITES = 200, LOG_LINES = 40 };

/* A build that is slow for another reason says so (emulation under TSan). */
static unsigned slower(void)
{
    const char *said = getenv("SERVELAB_TEST_SLOWER");
    int n = said ? atoi(said) : 0;

    return n > 0 && n <= 100 ? (unsigned)n : SLOWER;
}

struct tally { unsigned passed, failed, skipped; };
struct options {
    bool list, keep, shuffle;
    uint64_t seed;
    const char *junit;
    char **filter;
    int n_filter;
};

static char root[PATH_MAX];            /* folder of all test folders, removed at the end */
static volatile sig_atomic_t child_pid;

/* Reads records until the child has ended or its time is over; its wait status, or -1: timed out. */
static int follow(pid_t pid, int fd, double deadline, struct result *r, unsigned n, unsigned *now)
{
    char buf[8192];
    size_t used = 0;
    int status = -1;
    bool over = false;

    for (;;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        ssize_t got;

        if (poll(&p, 1, over ? 0 : 50) > 0 &&
            (got = read(fd, buf + used, sizeof buf - 1 - used)) > 0) {
            char *line = buf, *end;

            used += (size_t)got;
            for (; (end = memchr(line, '\n', used - (size_t)(line - buf))); line = end + 1) {
                *end = 0;
                result_take(r, n, now, line);
            }
            used -= (size_t)(line - buf);
            memmove(buf, line, used);
            continue;
        }
        if (over)
            return status;
        if (waitpid(pid, &status, WNOHANG) == pid)
            over = true;               /* once more, for what is left in the pipe */
        else if (seconds_now() > deadline)
            return -1;
        else if (p.revents & POLLHUP)
            poll(NULL, 0, 5);
    }
}

/* The last lines that a failing suite printed, as comments. */
static void show_log(FILE *log)
{
    char line[2000];
    long n = 0, skip;

    rewind(log);
    while (fgets(line, sizeof line, log))
        n++;
    rewind(log);
    skip = n > LOG_LINES ? n - LOG_LINES : 0;
    for (long i = 0; fgets(line, sizeof line, log); i++)
        if (i >= skip)
            printf("# | %s%s", line, strchr(line, '\n') ? "" : "\n");
}

static bool wanted(const struct options *o, const char *suite, const char *test)
{
    char name[2 * TEST_NAME];
    bool any = false;

    snprintf(name, sizeof name, "%s/%s", suite, test);
    for (int i = 0; i < o->n_filter; i++) {
        if (!o->filter[i][0])
            continue;
        any = true;
        if (strstr(name, o->filter[i]))
            return true;
    }
    return !any;
}

static unsigned run_suite(const struct suite *s, const struct options *o, struct result *r, unsigned n)
{
    unsigned limit_s = (s->timeout_s ? s->timeout_s : 60) * slower(), now = UINT_MAX;
    FILE *log = tmpfile();
    int fd[2], status;
    pid_t pid;

    if (!log || pipe2(fd, O_CLOEXEC)) {
        perror("runner");
        exit(1);
    }
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        dup2(fileno(log), STDOUT_FILENO);
        dup2(fileno(log), STDERR_FILENO);
        close(fd[0]);
        exit(child_run(s, r, n, fd[1], root, o->keep));
    }
    close(fd[1]);
    if (pid < 0) {
        perror("runner: fork");
        exit(1);
    }
    setpgid(pid, pid);
    child_pid = pid;
    status = follow(pid, fd[0], seconds_now() + limit_s, r, n, &now);
    kill(-pid, SIGKILL);               /* also what the suite left behind */
    if (status == -1)
        waitpid(pid, NULL, 0);
    child_pid = 0;
    close(fd[0]);
    if (result_close(r, &n, now, status, limit_s))
        show_log(log);
    fclose(log);
    return n;
}

static void on_signal(int sig)
{
    if (child_pid)
        kill(-(pid_t)child_pid, SIGKILL);
    _exit(128 + sig);
}

/* The wanted tests of a suite, in order or shuffled. */
static unsigned select_tests(const struct suite *s, const struct options *o, struct rng *rng,
                             struct result *r)
{
    unsigned n = 0;

    for (const struct test *t = s->tests; t->name; t++) {
        if (!wanted(o, s->name, t->name))
            continue;
        if (n == MAX_TESTS) {
            fprintf(stderr, "runner: suite %s has more than %d tests\n", s->name, MAX_TESTS);
            exit(1);
        }
        r[n] = (struct result){ .state = NOT_RUN };
        snprintf(r[n++].name, TEST_NAME, "%s", t->name);
    }
    for (unsigned i = n; o->shuffle && i > 1; i--) {
        unsigned j = (unsigned)rng_below(rng, i);
        struct result swap = r[i - 1];

        r[i - 1] = r[j];
        r[j] = swap;
    }
    return n;
}

static struct tally run_all(const struct options *o, FILE *junit)
{
    static struct result r[MAX_TESTS + 1];
    const struct suite *order[MAX_SUITES];
    struct tally sum = { 0 };
    struct rng rng;
    unsigned n_suite = 0, number = 0;

    rng_seed(&rng, o->seed);
    while (suite_registry[n_suite] && n_suite < MAX_SUITES) {
        order[n_suite] = suite_registry[n_suite];
        n_suite++;
    }
    for (unsigned i = n_suite; o->shuffle && i > 1; i--) {
        unsigned j = (unsigned)rng_below(&rng, i);
        const struct suite *swap = order[i - 1];

        order[i - 1] = order[j];
        order[j] = swap;
    }
    for (unsigned k = 0; k < n_suite; k++) {
        unsigned n = select_tests(order[k], o, &rng, r);
        double from = seconds_now();

        if (o->list)
            for (unsigned i = 0; i < n; i++)
                printf("%s/%s\n", order[k]->name, r[i].name);
        if (!n || o->list)
            continue;
        n = run_suite(order[k], o, r, n);
        if (junit)
            result_xml(junit, order[k]->name, r, n, seconds_now() - from);
        for (unsigned i = 0; i < n; i++) {
            result_print(++number, order[k]->name, &r[i]);
            sum.passed += r[i].state == PASSED;
            sum.failed += r[i].state == FAILED;
            sum.skipped += r[i].state == SKIPPED;
            free(r[i].text);
        }
        fflush(stdout);
    }
    if (!o->list)
        printf("1..%u\n", number);
    return sum;
}

static int options_parse(int argc, char **argv, struct options *o)
{
    static const struct option table[] = {
        { "list", no_argument, NULL, 'l' }, { "keep", no_argument, NULL, 'k' },
        { "shuffle", required_argument, NULL, 's' }, { "junit", required_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (c == 'l')
            o->list = true;
        else if (c == 'k')
            o->keep = true;
        else if (c == 's') {
            o->shuffle = true;
            o->seed = strtoull(optarg, NULL, 10);
        } else if (c == 'j')
            o->junit = optarg;
        else {
            fprintf(c == 'h' ? stdout : stderr, "usage: servelab-test [--list] [--keep] "
                    "[--shuffle SEED] [--junit FILE] [SUITE or SUITE/TEST, any part of it ...]\n");
            return c == 'h' ? 0 : 2;
        }
    }
    o->filter = argv + optind;
    o->n_filter = argc - optind;
    return -1;
}

int main(int argc, char **argv)
{
    struct options o = { 0 };
    const char *tmp = getenv("TMPDIR");
    FILE *junit = NULL;
    struct tally t;
    int rc = options_parse(argc, argv, &o);

    if (rc >= 0)
        return rc;
    snprintf(root, sizeof root, "%s/servelab-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!o.list && !mkdtemp(root)) {
        fprintf(stderr, "runner: %s: %s\n", root, strerror(errno));
        return 1;
    }
    if (o.junit && !o.list && !(junit = fopen(o.junit, "w"))) {
        fprintf(stderr, "runner: %s: %s\n", o.junit, strerror(errno));
        return 1;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (junit)
        fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n", junit);
    if (!o.list)
        printf("TAP version 13\n");
    t = run_all(&o, junit);
    if (junit && (fputs("</testsuites>\n", junit) < 0 || fclose(junit)))
        fprintf(stderr, "runner: %s: %s\n", o.junit, strerror(errno));
    if (o.list)
        return 0;
    if (!o.keep)
        remove_tree(root);
    if (t.passed + t.failed + t.skipped == 0)
        printf("# no test ran: nothing matches the filter; --list shows all names\n");
    printf("%u passed, %u failed", t.passed, t.failed);
    if (t.skipped)
        printf(", %u skipped", t.skipped);
    printf("\n");
    fflush(stdout);
    return t.failed || t.passed + t.skipped == 0;
}
