/* verb_dst.c - many seeds, several processes; a seed that fails is shrunk and printed with its
 * command. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"
#include "harness/dst.h"
#include "harness/report.h"
#include "harness/verb.h"

extern const struct verb verb_dst;

static const char help[] =
    "usage: servelab dst [--seeds A:B] [--minutes M] [--jobs N] [--only NAME] [--all] [--quiet | --json]\n"
    "       servelab dst --seed N [--json]\n\n"
    "Each seed draws a strategy with knobs, memory, limits, faults and a workload, and runs them "
    "on the\n"
    "shadow device, where a wrong KV block changes tokens. Checked at every step: conservation of "
    "requests\n"
    "and of KV slots, limits, copy-on-write, progress, no idle server while work waits. At the "
    "end: every\n"
    "request's tokens are those it has alone; for some seeds also that a second run is equal, that "
    "later\n"
    "arrivals only shift, that ample memory never preempts.\n\n"
    "  --seeds A:B    from A up to but without B (default 0:2000)    --seed N  this one\n"
    "  --minutes M    from A on until the time is over\n"
    "  --jobs N       processes (default: one per core)\n"
    "  --only NAME    a scheduler or memory manager that must take part\n"
    "  --all          go on after a failure, and list all\n"
    "  -v, --verbose  print the case before it is run, and shrink it when it fails\n"
    "  --quiet        only failures                          --json  one object on standard output\n\n"
    "A failure prints the seed, the command that shows it again and the smallest workload found "
    "that still\n"
    "fails; exit status 1.\n\n"
    "example: servelab dst --seeds 0:10000 --only paged\n";

static const struct option options[] = {
    { "seeds", 1, NULL, 's' }, { "seed", 1, NULL, 'n' }, { "minutes", 1, NULL, 'm' },
    { "jobs", 1, NULL, 'j' }, { "only", 1, NULL, 'o' }, { "all", 0, NULL, 'a' },
    { "verbose", 0, NULL, 'v' }, { "json", 0, NULL, 'J' }, { "quiet", 0, NULL, 'q' }, { 0 },
};

enum { JOBS_MAX = 64, FAILURES_MAX = 64, SEED_PATIENCE_S = 10 };
struct failure { uint64_t seed; char strategy[256], text[400]; };
struct job { volatile uint64_t seed; uint64_t n_run, n_refused; uint32_t n_failure;
             struct dst_reach reach;
             struct failure failure[FAILURES_MAX]; };
struct board {
    volatile sig_atomic_t stop;
    struct job job[JOBS_MAX];
}; /* shared by the processes */

struct args {
    uint64_t from, to;
    double minutes;
    long jobs;
    const char *only;
    bool all, verbose, json, quiet, is_single;
    double start_s;
    struct board *board;
};

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- a process's share of the seeds ---- */

static void failed(struct args *a, struct job *j, const struct dst_case *c, const char *text)
{
    struct failure *f = &j->failure[j->n_failure];

    a->board->stop = !a->all;
    if (j->n_failure == FAILURES_MAX)
        return;
    f->seed = j->seed;
    snprintf(f->strategy, sizeof f->strategy, "%s", c ? c->strategy : "");
    snprintf(f->text, sizeof f->text, "%s", text);
    j->n_failure++;
}

static void run_seed(struct args *a, struct job *j, struct dst_lab *l)
{
    struct dst_case c;
    struct err e = { 0 };
    int rc;

    alarm(SEED_PATIENCE_S);
    rc = dst_draw(&c, j->seed, a->only, &e) ? -1 : dst_check(l, &c, &e);
    j->n_run++;
    j->n_refused += rc > 0;
    if (rc < 0)
        failed(a, j, &c, e.text);
    dst_case_free(&c);
}

static bool goes_on(const struct args *a, uint64_t seed)
{
    if (a->board->stop)
        return false;
    return a->minutes > 0 ? seconds() - a->start_s < a->minutes * 60 : seed < a->to;
}

static int share(struct args *a, long index, uint64_t from)
{
    struct job *j = &a->board->job[index];
    struct dst_lab l;
    struct err e = { 0 };

    if (dst_open(&l, &e))
        failed(a, j, NULL, e.text);
    else
        for (j->seed = from; goes_on(a, j->seed); j->seed += (uint64_t)a->jobs)
            run_seed(a, j, &l);
    j->reach = l.reach;
    dst_close(&l);
    return 0;
}

static pid_t start(struct args *a, long index, uint64_t from)
{
    pid_t child = fork();

    if (!child)
        _exit(share(a, index, from));
    return child;
}

/* A process that died tells by its board where; with --all another goes on behind that seed. */
static void died(struct args *a, long index, int status)
{
    struct job *j = &a->board->job[index];
    char text[80];

    snprintf(text, sizeof text,
             WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "hangs (%d s)"
                                                                : "the process died (status %d)",
             WTERMSIG(status) == SIGALRM ? SEED_PATIENCE_S : status);
    j->n_run++;
    failed(a, j, NULL, text);
}

static int run_all(struct args *a, struct err *e)
{
    pid_t child[JOBS_MAX];
    int status;

    for (long i = 0; i < a->jobs; i++)
        if ((child[i] = start(a, i, a->from + (uint64_t)i)) < 0)
            return err_set(e, EXIT_RUN_FAILED, "dst: cannot start a process");
    for (long i = 0; i < a->jobs; i++)
        while (waitpid(child[i], &status, 0) == child[i] && status) {
            died(a, i, status);
            if (!a->all)
                break;
            child[i] = start(a, i, a->board->job[i].seed + (uint64_t)a->jobs);
        }
    return 0;
}

/* ---- what is said ---- */

/* As it was drawn, then as small as it still fails. */
static int show(struct args *a, uint64_t seed, struct err *e)
{
    struct dst_lab l;
    struct dst_case c;
    struct err why = { 0 }, small = { 0 };
    int rc = dst_open(&l, e) || dst_draw(&c, seed, a->only, e) ? -1 : 0;

    if (rc)
        return rc;
    if (a->verbose) {
        printf("seed %llu\n", (unsigned long long)seed);
        dst_print(&c);
    }
    fflush(stdout);
    rc = dst_check_apart(&l, &c, &why);
    if (rc) {
        printf("seed %llu fails: %s\nagain:    servelab dst --seed %llu -v%s%s\n",
               (unsigned long long)seed, why.text, (unsigned long long)seed,
               a->only ? " --only " : "", a->only ? a->only : "");
        fflush(stdout);
        int tries = dst_shrink(&l, &c);

        dst_check_apart(&l, &c, &small);
        printf("smallest of %d tries: %s\n", tries, small.text);
        dst_print(&c);
    }
    dst_case_free(&c);
    dst_close(&l);
    return rc ? 1 : 0;
}

static void print_json(const struct args *a, uint64_t n, uint64_t refused, double s)
{
    json_t *list = json_array(), *o;

    for (long i = 0; i < a->jobs; i++)
        for (uint32_t k = 0; k < a->board->job[i].n_failure; k++) {
            const struct failure *f = &a->board->job[i].failure[k];

            json_array_append_new(list, json_pack("{s:I, s:s, s:s}", "seed", (json_int_t)f->seed,
                                                  "strategy", f->strategy, "reason", f->text));
        }
    o = json_pack("{s:I, s:I, s:I, s:f, s:f, s:o}", "from", (json_int_t)a->from, "seeds",
                  (json_int_t)n, "refused", (json_int_t)refused, "seconds", s, "seeds_per_minute",
                  s > 0 ? (double)n * 60 / s : 0.0, "failures", list);
    json_dumpf(o, stdout, JSON_INDENT(1));
    putchar('\n');
    json_decref(o);
}

/* One seed for machines: nothing is shrunk. */
static int one_json(const struct args *a, struct err *e)
{
    struct dst_lab l;
    struct dst_case c;
    struct err why = { 0 };
    int rc = dst_open(&l, e) || dst_draw(&c, a->from, a->only, e) ? -1 : 0;

    if (rc)
        return rc;
    rc = dst_check_apart(&l, &c, &why);
    rc = report_print(json_pack("{s:I, s:o, s:b, s:o}", "seed", (json_int_t)a->from, "strategy",
                                report_text(c.strategy), "holds", !rc, "reason",
                                report_text(rc ? why.text : "")), "dst", e)
             ? -1 : rc ? EXIT_RUN_FAILED : 0;
    dst_case_free(&c);
    dst_close(&l);
    return rc;
}

static const struct failure *first_failure(const struct args *a)
{
    const struct failure *best = NULL;

    for (long i = 0; i < a->jobs; i++)
        for (uint32_t k = 0; k < a->board->job[i].n_failure; k++)
            if (!best || a->board->job[i].failure[k].seed < best->seed)
                best = &a->board->job[i].failure[k];
    return best;
}

static void add_reach(struct dst_reach *t, const struct dst_reach *x)
{
    t->steps += x->steps;
    t->preemptions += x->preemptions;
    t->finished += x->finished;
    t->cached += x->cached;
    t->copies += x->copies;
    t->swaps += x->swaps;
}

static int report(struct args *a, struct err *e)
{
    double s = seconds() - a->start_s;
    const struct failure *first = first_failure(a);
    uint64_t n = 0, refused = 0, n_failure = 0;
    struct dst_reach t = { 0 };

    for (long i = 0; i < a->jobs; i++) {
        n += a->board->job[i].n_run;
        refused += a->board->job[i].n_refused;
        n_failure += a->board->job[i].n_failure;
        add_reach(&t, &a->board->job[i].reach);
    }
    if (a->json) {
        print_json(a, n, refused, s);
        return first ? EXIT_RUN_FAILED : 0;
    }
    for (long i = 0; a->all && i < a->jobs; i++)
        for (uint32_t k = 0; k < a->board->job[i].n_failure; k++)
            printf("seed %llu: %s: %s\n", (unsigned long long)a->board->job[i].failure[k].seed,
                   a->board->job[i].failure[k].strategy, a->board->job[i].failure[k].text);
    if (a->quiet && !first)
        return 0;
    printf("%llu seeds from %llu in %.1f s (%.0f a minute): %llu failed, %llu with knobs that the "
           "strategy "
           "refuses\n",
           (unsigned long long)n, (unsigned long long)a->from, s, s > 0 ? (double)n * 60 / s : 0,
           (unsigned long long)n_failure, (unsigned long long)refused);
    printf("%llu steps, %llu requests finished, %llu preemptions, %llu tokens from caches, %llu "
           "steps with "
           "copies, %llu with swaps\n",
           (unsigned long long)t.steps, (unsigned long long)t.finished,
           (unsigned long long)t.preemptions, (unsigned long long)t.cached,
           (unsigned long long)t.copies, (unsigned long long)t.swaps);
    if (!first)
        return 0;
    return show(a, first->seed, e) < 0 ? -1 : EXIT_RUN_FAILED;
}

/* ---- options ---- */

static int wrong(const char *option, const char *given, const char *expected, struct err *e)
{
    return err_set(e, EXIT_USAGE, "dst: --%s '%s': expected %s", option, given, expected);
}

static int set_number(struct args *a, int opt, struct err *e)
{
    char *end;

    if (opt == 'm') {
        a->minutes = strtod(optarg, &end);
        return *end || !(a->minutes > 0 && a->minutes < 1e6)
               ? wrong("minutes", optarg, "a time above 0", e) : 0;
    }
    if (opt == 'j') {
        a->jobs = strtol(optarg, &end, 10);
        return *end || a->jobs < 1 || a->jobs > JOBS_MAX ? wrong("jobs", optarg, "1 to 64", e) : 0;
    }
    a->from = strtoull(optarg, &end, 10);
    if (opt == 'n') {
        a->is_single = true;
        return *end || end == optarg || *optarg == '-' ? wrong("seed", optarg, "a whole number", e)
                                                       : 0;
    }
    if (*end == ':')
        a->to = strtoull(end + 1, &end, 10);
    return *end || *optarg == '-' || a->to <= a->from ? wrong("seeds", optarg, "A:B with A < B", e)
                                                      : 0;
}

static int parse(struct args *a, int argc, char **argv, bool *done, struct err *e)
{
    int opt;

    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "-v"))
            argv[i] = (char *)(uintptr_t)"--verbose";
    while ((opt = verb_option(&verb_dst, argc, argv, options, done, e)) != -1) {
        if (opt == '?')
            return -1;
        a->all |= opt == 'a';
        a->verbose |= opt == 'v';
        a->json |= opt == 'J';
        a->quiet |= opt == 'q';
        if (opt == 'o')
            a->only = optarg;
        if (strchr("snmj", opt) && set_number(a, opt, e))
            return -1;
    }
    if (!*done && optind < argc)
        return err_set(e, EXIT_USAGE, "dst: '%s' is unexpected; 'servelab dst --help' explains",
                       argv[optind]);
    return 0;
}

static int run(int argc, char **argv, struct err *e)
{
    struct args a = { .to = 2000, .jobs = sysconf(_SC_NPROCESSORS_ONLN), .start_s = seconds() };
    struct dst_case probe;
    bool done = false;
    int rc;

    if (a.jobs > JOBS_MAX)
        a.jobs = JOBS_MAX;
    if (parse(&a, argc, argv, &done, e))
        return -1;
    if (done)
        return 0;
    if (dst_draw(&probe, a.from, a.only, e))
        return -1;
    dst_case_free(&probe);
    if (a.is_single && a.json)
        return one_json(&a, e);
    if (a.is_single) {
        a.verbose = true;
        rc = show(&a, a.from, e);
        if (!rc)
            printf("seed %llu holds\n", (unsigned long long)a.from);
        return rc;
    }
    a.board =
        mmap(NULL, sizeof *a.board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (a.board == MAP_FAILED)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    fflush(stdout);
    rc = run_all(&a, e) ? -1 : report(&a, e);
    munmap(a.board, sizeof *a.board);
    return rc;
}

const struct verb verb_dst = {
    .name = "dst", .about = "test strategies with drawn cases on the shadow device", .help = help,
    .rank = 8, .run = run,
};
