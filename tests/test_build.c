/* test_build.c - the build's own tools can fail: a planted include breaks the layers, a dropped file
 * enters the registry and leaves it again, and the runner counts what goes wrong in other suites. */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/test.h"

enum { OUT = 32768 };
static char out[OUT];                  /* what the last command printed, stderr included */

/* Runs a shell command; its exit status, or -1. Output is in `out`. */
static int sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int sh(const char *fmt, ...)
{
    char cmd[4096];
    va_list ap;
    size_t n;
    FILE *p;
    int status;

    va_start(ap, fmt);
    vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    p = popen(cmd, "r");
    if (!p)
        return -1;
    n = fread(out, 1, OUT - 1, p);
    out[n] = 0;
    while (fgetc(p) != EOF)
        ;
    status = pclose(p);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void plant(const char *folder, const char *file, const char *text)
{
    char path[4200];
    FILE *f;

    CU_ASSERT_EQUAL(sh("mkdir -p '%s/%s'", test_dir(), folder), 0);
    snprintf(path, sizeof path, "%s/%s/%s", test_dir(), folder, file);
    f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(text, f);
    fclose(f);
}

static bool says(const char *what)
{
    if (strstr(out, what))
        return true;
    test_note("expected '%s' in: %.900s", what, out);
    return false;
}

static void layers_hold(void)
{
    CU_ASSERT_EQUAL(sh("cd '%s' && .ci/layers 2>&1", SERVELAB_SOURCE), 0);
    CU_ASSERT(says("all in order"));
}

static void layers_can_fail(void)
{
    static const struct { const char *folder, *line; } bad[] = {
        { "base", "#include \"kernels/device.h\"\n" },
        { "base", "#include \"../kernels/device.h\"\n" },
        { "workloads", "#include \"strategies/strategy.h\"\n" },
        { "kernels/cpu", "#include \"workloads/trace.h\"\n" },
        { "results", "#include \"harness/replay.h\"\n" },
        { "models", "#include \"results/recorder.h\"\n" },
        { "strategies", "#include \"kernels/device.h\"\n" },
        { "strategies/sched", "#include \"models/model.h\"\n" },
        { "strategies/sched", "#include <stdlib.h>\n" },
        { "strategies/kv", "  #  include <stdio.h>\n" },
        { "strategies/prec", "#include <sys/time.h>\n" },
        { "strategies/sched", "#include \"version.h\"\n" },
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        plant(bad[i].folder, "planted.c", bad[i].line);
        CU_ASSERT_NOT_EQUAL(sh("'%s/.ci/layers' '%s' 2>&1", SERVELAB_SOURCE, test_dir()), 0);
        CU_ASSERT(says("planted.c:1:"));
        CU_ASSERT(says("layers: 1 broken"));
        CU_ASSERT_EQUAL(sh("rm '%s/%s/planted.c'", test_dir(), bad[i].folder), 0);
    }
    plant("strategies/sched", "fine.c", "#include <string.h>\n#include \"strategies/strategy.h\"\n");
    plant("harness", "fine.c", "#include \"strategies/strategy.h\"\n#include <stdlib.h>\n");
    CU_ASSERT_EQUAL(sh("'%s/.ci/layers' '%s' 2>&1", SERVELAB_SOURCE, test_dir()), 0);
}

static int generate(void)
{
    return sh("CUDA=no '%s/.ci/gen' '%s' 2>&1 && cat '%s/build/gen/registry.c'", SERVELAB_SOURCE,
              test_dir(), test_dir());
}

static void registry_follows_files(void)
{
    plant("strategies/sched", "mine.c", "");
    plant("strategies/kv", "two-words.c", "");
    plant("kernels/other", "device_zeta.c", "");
    plant("kernels/ref", "device_ref.c", "");
    plant("kernels/sim", "device_sim.c", "");
    plant("kernels/cpu", "device_cpu.c", "");
    CU_ASSERT_EQUAL(generate(), 0);
    CU_ASSERT(says("sched_registry[] = {\n    &sched_mine,\n    NULL\n};"));
    CU_ASSERT(says("&kv_two_words,"));
    CU_ASSERT(says("&device_cpu,\n    &device_sim,\n    &device_ref,\n    &device_zeta,\n    NULL"));
    CU_ASSERT(says("prec_registry[] = {\n    NULL\n};"));

    CU_ASSERT_EQUAL(sh("rm '%s/strategies/sched/mine.c'", test_dir()), 0);
    CU_ASSERT_EQUAL(generate(), 0);
    CU_ASSERT(says("sched_registry[] = {\n    NULL\n};"));
}

static void registry_is_left_alone(void)
{
    struct stat before, after;
    char path[4200];

    plant("strategies/sched", "mine.c", "");
    CU_ASSERT_EQUAL(generate(), 0);
    snprintf(path, sizeof path, "%s/build/gen/registry.c", test_dir());
    CU_ASSERT_EQUAL(stat(path, &before), 0);
    CU_ASSERT_EQUAL(generate(), 0);
    CU_ASSERT_EQUAL(stat(path, &after), 0);
    CU_ASSERT(before.st_mtim.tv_sec == after.st_mtim.tv_sec &&
              before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
}

static void sql_becomes_a_string(void)
{
    plant("results", "schema.sql", "CREATE TABLE \"a\" (b TEXT DEFAULT '\\?\?/'); -- 100 %\n\tend\n");
    CU_ASSERT_EQUAL(generate(), 0);
    plant(".", "t.c", "#include <stdio.h>\n#include \"build/gen/schema.sql.h\"\n"
                      "int main(void) { return fputs(schema_sql, stdout) < 0; }\n");
    CU_ASSERT_EQUAL(sh("cd '%s' && cc -std=c11 -I. -o t t.c 2>&1 && ./t | cmp - results/schema.sql 2>&1",
                       test_dir()), 0);
    CU_ASSERT_STRING_EQUAL(out, "");
}

/* The runner, built with suites that fail on purpose, in every way it has to survive. */
static void runner_counts_what_fails(void)
{
    const char *dir = test_dir();

    CU_ASSERT_EQUAL_FATAL(sh("cd '%s' && cc -std=c11 -D_GNU_SOURCE -I. -DSERVELAB_SOURCE='\"x\"' -o '%s/bad' "
                             "tests/runner*.c base/hash.c base/err.c base/plain.c tests/fixtures/bad_suites.c -lcunit "
                             "-lmd -lm 2>&1", SERVELAB_SOURCE, dir), 0);
    CU_ASSERT_EQUAL(sh("cd '%s' && TMPDIR=. ./bad --junit j.xml 2>&1; echo status $?; ls", dir), 0);
    CU_ASSERT(says("\nok 1 - plain/good\n"));
    CU_ASSERT(says("not ok 2 - plain/wrong\n#   note: a <note>"));
    CU_ASSERT(says("bad_suites.c:15 CU_ASSERT_EQUAL(1 + 1,3)"));
    CU_ASSERT(says("not ok 3 - plain/fatal\n"));
    CU_ASSERT(says("plain/skips # SKIP no such device here\n"));
    CU_ASSERT(says("# | last words\n"));
    CU_ASSERT(says("crashing/crash\n#   crashed: signal 11"));
    CU_ASSERT(says("not ok 9 - crashing/after\n#   not run:"));
    CU_ASSERT(says("leaving/leave\n#   the suite's process ended with status 0"));
    CU_ASSERT(says("hanging/hang\n#   timed out"));
    CU_ASSERT(says("\n1..13\n5 passed, 7 failed, 1 skipped\nstatus 1\n"));
    CU_ASSERT_PTR_NULL(strstr(out, "servelab-test-"));      /* no folder is left behind */
    CU_ASSERT_EQUAL(sh("cat '%s/j.xml'", dir), 0);
    CU_ASSERT(says("<testsuite name=\"plain\" tests=\"6\" failures=\"2\" errors=\"0\" skipped=\"1\""));
    CU_ASSERT(says("a &#60;note&#62; &#38; &#34;more&#34;"));

    CU_ASSERT_EQUAL(sh("cd '%s' && TMPDIR=. ./bad plain/g crashing/b 2>&1 | tail -n 1", dir), 0);
    CU_ASSERT_STRING_EQUAL(out, "2 passed, 0 failed\n");
    CU_ASSERT_EQUAL(sh("cd '%s' && TMPDIR=. ./bad no-such-test 2>&1", dir), 1);
    CU_ASSERT(says("no test ran"));
    CU_ASSERT_EQUAL(sh("cd '%s' && ./bad --list hanging", dir), 0);
    CU_ASSERT_STRING_EQUAL(out, "hanging/before\nhanging/hang\n");
}

/* What was typed after make reaches the program as it was typed. */
static void make_quotes_values(void)
{
    CU_ASSERT_EQUAL(sh("cd '%s' && make -n trace TRACE='a b $HOME \"c\" '\\''d'\\'' `e`' 2>&1 | "
                       "grep 'trace info'", SERVELAB_SOURCE), 0);
    CU_ASSERT(says("trace info 'a b $HOME \"c\" '\\''d'\\'' `e`'"));
}

static void experiment_without_trace(void)
{
    CU_ASSERT_EQUAL(sh("cd '%s' && env -u MAKEFLAGS -u MAKELEVEL make experiment 2>&1", SERVELAB_SOURCE),
                    2);
    CU_ASSERT(says("usage: make experiment TRACE=chat.json"));
}

/* A word that nobody reads is refused by name, before anything is built. */
static void make_refuses_unknown_words(void)
{
    static const char *const t[][2] = { { "STRATEGIES=vllm-2026", "STRATEGY" }, { "trace=chat.json", "TRACE" },
                                        { "RATES=1", "RATE" }, { "EXPERIMNT=01-memory", "EXPERIMENT" } };
    char text[80];

    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        CU_ASSERT_EQUAL(sh("cd '%s' && env -u MAKEFLAGS -u MAKELEVEL make experiment TRACE=no-such.json %s 2>&1",
                           SERVELAB_SOURCE, t[i][0]), 2);
        snprintf(text, sizeof text, "unknown variable %.*s; did you mean %s?", (int)strcspn(t[i][0], "="), t[i][0],
                 t[i][1]);
        CU_ASSERT(says(text));
    }
    CU_ASSERT_EQUAL(sh("cd '%s' && env -u MAKEFLAGS -u MAKELEVEL make -n experiment TRACE=x KV=1GiB SAN=1 V=1 DB='a b' "
                       "2>&1", SERVELAB_SOURCE), 0);
    CU_ASSERT(!says("unknown variable S"));
    CU_ASSERT_EQUAL(sh("cd '%s' && env -u MAKEFLAGS -u MAKELEVEL make -n experiment TRACE=x SLO_SHARE=99 2>&1 | "
                       "grep slo-share", SERVELAB_SOURCE), 0);
    CU_ASSERT(says("--slo-share '99'"));
}

static const struct test tests[] = {
    { "layers_hold", layers_hold },
    { "layers_can_fail", layers_can_fail },
    { "registry_follows_files", registry_follows_files },
    { "registry_is_left_alone", registry_is_left_alone },
    { "sql_becomes_a_string", sql_becomes_a_string },
    { "runner_counts_what_fails", runner_counts_what_fails },
    { "make_quotes_values", make_quotes_values },
    { "experiment_without_trace", experiment_without_trace },
    { "make_refuses_unknown_words", make_refuses_unknown_words },
    { NULL, NULL },
};
const struct suite suite_build = { "build", tests, 120 };
