/* test_cli.c - the program as its users meet it: the real binary, by fork and exec, with its exit
 * statuses, its messages and what it leaves behind when it is refused, interrupted or killed. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <sqlite3.h>

#include "base/err.h"
#include "harness/verb.h"
#include "kernels/device.h"
#include "strategies/strategy.h"
#include "tests/test.h"

enum { MAX_ARGS = 40, PATH_ROOM = 4300, OUT = 65536 };

struct said {                          /* how a run of the program ended */
    int rc;                            /* exit status; 1000 + signal; -1: could not be started */
    char out[OUT], err[OUT];
};
static struct said said;

static const char *in_dir(const char *file)
{
    static char path[4][PATH_ROOM];
    static unsigned next;
    char *p = path[next++ % 4];

    snprintf(p, PATH_ROOM, "%s/%s", test_dir(), file);
    return p;
}

/* The database that the command lines below call @t.db. */
static const char *database(void)
{
    static char path[PATH_ROOM];

    snprintf(path, sizeof path, "%s/t.db", test_dir());
    return path;
}

/* Splits at spaces; "@x" becomes the path of file x in the test's folder. */
static void split(char *text, char **argv)
{
    static char at[MAX_ARGS][PATH_ROOM];
    int n = 0;

    argv[n++] = "servelab";
    for (char *save = NULL, *p = strtok_r(text, " ", &save); p && n < MAX_ARGS - 1;
         p = strtok_r(NULL, " ", &save)) {
        if (*p == '@') {
            snprintf(at[n], sizeof at[n], "%s/%s", test_dir(), p + 1);
            p = at[n];
        }
        argv[n++] = p;
    }
    argv[n] = NULL;
}

/* Under which limits the program runs; 0: none. */
struct limits { uid_t uid; rlim_t file_bytes; };

static int confine(struct limits l)
{
    struct rlimit r = { .rlim_cur = l.file_bytes, .rlim_max = l.file_bytes };

    signal(SIGXFSZ, SIG_IGN);              /* a full file is an error of write, as on a full disk */
    if (l.file_bytes && setrlimit(RLIMIT_FSIZE, &r))
        return -1;
    return l.uid ? setuid(l.uid) : 0;
}

/* Starts `servelab TEXT` in the test's folder, its output going to the files .out and .err there. */
static pid_t start(const char *text, struct limits l)
{
    char copy[4096], *argv[MAX_ARGS];
    int out, err;
    pid_t pid;

    snprintf(copy, sizeof copy, "%s", text);
    split(copy, argv);
    out = open(in_dir(".out"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    err = open(in_dir(".err"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    pid = fork();
    if (pid == 0) {
        if (chdir(test_dir()) || dup2(out, 1) < 0 || dup2(err, 2) < 0 || confine(l))
            _exit(126);
        execv(SERVELAB_BIN, argv);
        _exit(126);
    }
    close(out);
    close(err);
    return pid;
}

static void slurp(const char *file, char *text)
{
    FILE *f = fopen(in_dir(file), "r");
    size_t n = f ? fread(text, 1, OUT - 1, f) : 0;

    text[n] = 0;
    if (f)
        fclose(f);
}

static int finish(pid_t pid)
{
    int status;

    said.rc = -1;
    if (pid > 0 && waitpid(pid, &status, 0) == pid)
        said.rc = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    slurp(".out", said.out);
    slurp(".err", said.err);
    return said.rc;
}

static int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *fmt, ...)
{
    char text[4096];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return finish(start(text, (struct limits){ 0 }));
}

/* Explains a failing assertion that follows. */
static void note(const char *text)
{
    test_note("servelab %s: status %d, stdout '%.300s', stderr '%.500s'", text, said.rc, said.out,
              said.err);
}

static unsigned lines(const char *s)
{
    unsigned n = 0;

    for (; *s; s++)
        n += *s == '\n';
    return n;
}

/* One number out of a database; -1 when it cannot be had (not yet there, locked). */
static int64_t query(const char *db, const char *sql)
{
    sqlite3 *c = NULL;
    sqlite3_stmt *q = NULL;
    int64_t v = -1;

    if (sqlite3_open_v2(db, &c, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK) {
        sqlite3_busy_timeout(c, 2000);
        if (sqlite3_prepare_v2(c, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
            v = sqlite3_column_int64(q, 0);
        sqlite3_finalize(q);
    }
    sqlite3_close(c);
    return v;
}

static int64_t runs_of(const char *db, const char *status)
{
    char sql[200];

    snprintf(sql, sizeof sql, "SELECT count(*) FROM runs WHERE status = '%s'", status);
    return query(db, sql);
}

/* Waits until the program has a run of this status in its database; false when it ends before. */
static bool wait_for(pid_t pid, const char *db, const char *status)
{
    for (int i = 0; i < 1500; i++) {
        siginfo_t ended = { 0 };

        if (runs_of(db, status) > 0)
            return true;
        if (waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) || ended.si_pid)
            return false;
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    }
    return false;
}

/* A sim run of a few requests, as quick as can be. */
#define SIM "run --device sim --trace chat.json --strategy continuous+paged+f16 --limit 40 --repeats 1 " \
            "--no-figures --db @t.db"
/* A run that lasts as long as its trace does: minutes, if nobody stops it. */
#define LONG "run --device ref --model tiny --trace chat.json --strategy continuous+paged+f16 " \
             "--pace wall --repeats 1 --no-figures --db @t.db"
/* Many short runs. */
#define MANY "run --device ref --model tiny --trace chat.json --strategy continuous+paged+f16 " \
             "--pace skip --limit 2 --repeats 500 --no-figures --db @t.db"

/* ---- help ---- */

static void help_lists_every_verb(void)
{
    CU_ASSERT_EQUAL(run("--help"), 0);
    CU_ASSERT_STRING_EQUAL(said.err, "");
    for (size_t i = 0; verb_registry[i]; i++) {
        test_note("verb %s", verb_registry[i]->name);
        CU_ASSERT_PTR_NOT_NULL(strstr(said.out, verb_registry[i]->name));
        CU_ASSERT_PTR_NOT_NULL(strstr(said.out, verb_registry[i]->about));
    }
    CU_ASSERT_EQUAL(run("%s", ""), EXIT_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(said.err, "usage"));
    CU_ASSERT_EQUAL(run("--version"), 0);
}

static void every_verb_helps_with_an_example(void)
{
    for (size_t i = 0; verb_registry[i]; i++) {
        char example[100];

        snprintf(example, sizeof example, "servelab %s", verb_registry[i]->name);
        CU_ASSERT_EQUAL(run("%s --help", verb_registry[i]->name), 0);
        note(verb_registry[i]->name);
        CU_ASSERT_PTR_NOT_NULL(strstr(said.out, example));
        CU_ASSERT_PTR_NOT_NULL(strstr(said.out, "xample"));
        CU_ASSERT_STRING_EQUAL(said.err, "");
        for (const char *p = said.out; *p; p += strcspn(p, "\n") + (p[strcspn(p, "\n")] == '\n'))
            CU_ASSERT(strcspn(p, "\n") <= 110);
    }
}

static void every_verb_refuses_an_unknown_option(void)
{
    for (size_t i = 0; verb_registry[i]; i++) {
        CU_ASSERT_EQUAL(run("%s --no-such-option-at-all", verb_registry[i]->name), EXIT_USAGE);
        note(verb_registry[i]->name);
        CU_ASSERT_PTR_NOT_NULL(strstr(said.err, "no-such-option-at-all"));
        CU_ASSERT_STRING_EQUAL(said.out, "");
    }
}

static void list_names_everything(void)
{
    CU_ASSERT_EQUAL(run("list"), 0);
    for (size_t i = 0; sched_registry[i]; i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(said.out, sched_registry[i]->name));
    for (size_t i = 0; kv_registry[i]; i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(said.out, kv_registry[i]->name));
    for (size_t i = 0; prec_registry[i]; i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(said.out, prec_registry[i]->name));
    for (size_t i = 0; device_registry[i]; i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(said.out, device_registry[i]->name));
    CU_ASSERT_EQUAL(run("doctor"), 0);
    note("doctor");
}

/* ---- refusals: status 2, one line that names the nearest, nothing written ---- */

static void wrong_names_are_refused(void)
{
    static const struct { const char *args, *named; } t[] = {
        { "rnu", "'run'" },
        { "run --db @t.db", "--trace" },
        { "run --trace chat.json --devcie sim --db @t.db", "--device" },
        { "run --trace chat.json --device siim --db @t.db", "sim" },
        { "run --trace chat.json --model tinny --device sim --db @t.db", "tiny" },
        { "run --trace chat.json --device sim --strategy contniuous+paged+f16 --db @t.db", "continuous" },
        { "run --trace chat.json --device sim --strategy continuous+pagde+f16 --db @t.db", "paged" },
        { "run --trace chat.json --device sim --strategy continuous+paged+int5 --db @t.db", "int4" },
        { "run --trace chat.json --device sim --strategy continuous+paged:blok=16+f16 --db @t.db", "block" },
        { "run --trace chat.json --device sim --strategy defualt --db @t.db", "default" },
        { "run --trace chat.json --device sim --strategy continuous+paged --db @t.db", "continuous+paged" },
        { "run --trace chta.json --device sim --db @t.db", "'chat" },
        { "run --trace @nothing.json --device sim --db @t.db", "nothing.json" },
        { "run --trace chat.json --device sim --rate 0 --db @t.db", "rate" },
        { "run --trace chat.json --device sim --rate nan --db @t.db", "rate" },
        { "run --trace chat.json --device sim --rate 1,two --db @t.db", "rate" },
        { "run --trace chat.json --device sim --limit -1 --db @t.db", "limit" },
        { "run --trace chat.json --device sim --limit 1x --db @t.db", "limit" },
        { "run --trace chat.json --device sim --repeats 0 --db @t.db", "repeats" },
        { "run --trace chat.json --device sim --seed x --db @t.db", "seed" },
        { "run --trace chat.json --device sim --slo ttft --db @t.db", "slo" },
        { "run --trace chat.json --device sim --slo tfft:200 --db @t.db", "slo" },
        { "run --trace chat.json --device sim --kv 1XB --db @t.db", "kv" },
        { "run --trace chat.json --device cpu --pace slow --db @t.db", "pace" },
        { "run --trace chat.json --device sim surplus --db @t.db", "surplus" },
        { "run --trace", "trace" },
    };

    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        CU_ASSERT_EQUAL(run("%s", t[i].args), EXIT_USAGE);
        note(t[i].args);
        CU_ASSERT_PTR_NOT_NULL(strstr(said.err, t[i].named));
        CU_ASSERT(!strncmp(said.err, "servelab: ", 10));
        CU_ASSERT_EQUAL(lines(said.err), 1);
        CU_ASSERT_STRING_EQUAL(said.out, "");
        CU_ASSERT(access(in_dir("t.db"), F_OK) != 0);
    }
}

static void foreign_files_are_left_alone(void)
{
    char text[OUT];
    FILE *f = fopen(in_dir("t.db"), "w");

    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs("my thesis, not a database\n", f);
    fclose(f);
    run(SIM);
    note("into a text file");
    CU_ASSERT(said.rc == EXIT_USAGE || said.rc == EXIT_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(said.err, "t.db"));
    slurp("t.db", text);
    CU_ASSERT_STRING_EQUAL(text, "my thesis, not a database\n");
}

static void unwritable_database(void)
{
    CU_ASSERT_EQUAL(run("run --device sim --trace chat.json --limit 5 --db /dev/null/x.db"), EXIT_IO);
    note("/dev/null/x.db");
    CU_ASSERT_PTR_NOT_NULL(strstr(said.err, "servelab: /dev/null/x.db"));
}

/* In a folder that one may not write; root may, so it becomes somebody else first. */
static void read_only_folder(void)
{
    uid_t nobody = getuid() ? 0 : 65534;
    char up[PATH_ROOM];
    const char *args = "run --device sim --trace chat.json --limit 5 --db results.db";

    snprintf(up, sizeof up, "%s/..", test_dir());
    CU_ASSERT_EQUAL(chmod(up, 0711), 0);
    CU_ASSERT_EQUAL(chmod(test_dir(), 0555), 0);
    finish(start(args, (struct limits){ .uid = nobody }));
    chmod(test_dir(), 0700);
    chmod(up, 0700);
    if (said.rc == 126) {
        test_skip("the program is not readable for an unprivileged user here");
        return;
    }
    note(args);
    CU_ASSERT_EQUAL(said.rc, EXIT_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(said.err, "results.db"));
    CU_ASSERT(access(in_dir("results.db"), F_OK) != 0);
}

/* The disk is full at whatever moment: status 74, and no run that counts with rows missing. */
static void full_disk(void)
{
    for (rlim_t kib = 16; kib <= 1024; kib *= 2) {
        finish(start(SIM, (struct limits){ .file_bytes = kib << 10 }));
        note(SIM);
        test_note("files may have %u KiB", (unsigned)kib);
        if (said.rc == 0)                                   /* it fits */
            break;
        CU_ASSERT_EQUAL(said.rc, EXIT_IO);
        CU_ASSERT_PTR_NOT_NULL(strstr(said.err, "t.db"));
        CU_ASSERT(runs_of(database(), "done") <= 0);
        unlink(database());
    }
    CU_ASSERT_EQUAL(said.rc, 0);
}

/* What was asked for could not be printed: that is a failure, not silence. */
static void lost_output_is_an_error(void)
{
    CU_ASSERT_EQUAL_FATAL(symlink("/dev/full", in_dir(".out")), 0);
    CU_ASSERT_EQUAL(run("list"), EXIT_IO);
    note("list >/dev/full");
    CU_ASSERT(said.err[0] != 0);
}

/* ---- what a run leaves behind ---- */

static void a_sim_run_is_recorded_and_checks(void)
{
    const char *db = database();

    run(SIM);
    note(SIM);
    CU_ASSERT_EQUAL_FATAL(said.rc, 0);
    CU_ASSERT(said.out[0] != 0);
    CU_ASSERT_PTR_NULL(strchr(said.out, '\033'));          /* no colours into a file */
    CU_ASSERT_EQUAL(runs_of(db, "done"), 1);
    CU_ASSERT_EQUAL(query(db, "SELECT count(*) FROM requests"), 40);
    CU_ASSERT_EQUAL(query(db, "SELECT count(*) FROM runs WHERE clock <> 'virtual'"), 0);
    CU_ASSERT_EQUAL(run("db check --db @t.db"), 0);
    note("db check");
}

static void equal_sim_runs_have_equal_rows(void)
{
    const char *db = database();

    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL(run(SIM " --seed 7"), 0);
    note(SIM);
    CU_ASSERT_EQUAL(runs_of(db, "done"), 2);
    CU_ASSERT_EQUAL(query(db, "SELECT count(DISTINCT rows_hash) FROM runs"), 1);
}

static void json_is_json(void)
{
    json_error_t e;
    json_t *v;

    CU_ASSERT_EQUAL(run("run --device sim --trace chat.json --strategy static+contiguous+f16 --limit 20 "
                        "--no-figures --json --db @quo\"te.db"), 0);
    v = json_loads(said.out, JSON_REJECT_DUPLICATES, &e);
    note("run --json");
    CU_ASSERT_PTR_NOT_NULL(v);
    json_decref(v);
    CU_ASSERT_EQUAL(run("list --json"), 0);
    v = json_loads(said.out, JSON_REJECT_DUPLICATES, &e);
    note("list --json");
    CU_ASSERT_PTR_NOT_NULL(v);
    json_decref(v);
}

static void a_killed_run_never_counts(void)
{
    const char *db = database();
    pid_t pid = start(LONG, (struct limits){ 0 });
    bool open = wait_for(pid, db, "running");

    kill(pid, SIGKILL);
    finish(pid);
    note(LONG);
    CU_ASSERT_FATAL(open);
    CU_ASSERT_EQUAL(said.rc, 1000 + SIGKILL);
    CU_ASSERT_EQUAL(runs_of(db, "done"), 0);
    CU_ASSERT_EQUAL(query(db, "SELECT count(*) FROM runs"), 1);
    run(SIM);                                               /* the database is still of use */
    note(SIM);
    CU_ASSERT_EQUAL(said.rc, 0);
    CU_ASSERT_EQUAL(runs_of(db, "done"), 1);
}

static void an_interrupted_run_is_aborted(void)
{
    const char *db = database();
    pid_t pid = start(LONG, (struct limits){ 0 });
    bool open = wait_for(pid, db, "running");

    kill(pid, SIGINT);
    finish(pid);
    note(LONG);
    CU_ASSERT_FATAL(open);
    CU_ASSERT_EQUAL(said.rc, EXIT_INTERRUPTED);
    CU_ASSERT_EQUAL(runs_of(db, "running"), 0);
    CU_ASSERT_EQUAL(runs_of(db, "done"), 0);
    CU_ASSERT_EQUAL(runs_of(db, "aborted"), 1);
    CU_ASSERT_EQUAL(run("db check --db @t.db"), 0);
    note("db check");
}

static void interrupting_keeps_finished_runs(void)
{
    const char *db = database();
    pid_t pid = start(MANY, (struct limits){ 0 });
    bool any = wait_for(pid, db, "done");

    kill(pid, SIGINT);
    finish(pid);
    note(MANY);
    CU_ASSERT_FATAL(any);
    CU_ASSERT_EQUAL(said.rc, EXIT_INTERRUPTED);
    CU_ASSERT(runs_of(db, "done") >= 1);
    CU_ASSERT_EQUAL(runs_of(db, "running"), 0);
    CU_ASSERT(runs_of(db, "aborted") <= 1);
    CU_ASSERT_EQUAL(run("db check --db @t.db"), 0);
    note("db check");
}

static const struct test tests[] = {
    { "help_lists_every_verb", help_lists_every_verb },
    { "every_verb_helps_with_an_example", every_verb_helps_with_an_example },
    { "every_verb_refuses_an_unknown_option", every_verb_refuses_an_unknown_option },
    { "list_names_everything", list_names_everything },
    { "wrong_names_are_refused", wrong_names_are_refused },
    { "foreign_files_are_left_alone", foreign_files_are_left_alone },
    { "unwritable_database", unwritable_database },
    { "read_only_folder", read_only_folder },
    { "full_disk", full_disk },
    { "lost_output_is_an_error", lost_output_is_an_error },
    { "a_sim_run_is_recorded_and_checks", a_sim_run_is_recorded_and_checks },
    { "equal_sim_runs_have_equal_rows", equal_sim_runs_have_equal_rows },
    { "json_is_json", json_is_json },
    { "a_killed_run_never_counts", a_killed_run_never_counts },
    { "an_interrupted_run_is_aborted", an_interrupted_run_is_aborted },
    { "interrupting_keeps_finished_runs", interrupting_keeps_finished_runs },
    { NULL, NULL },
};
const struct suite suite_cli = { "cli", tests, 240 };
