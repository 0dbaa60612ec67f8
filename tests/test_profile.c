/* test_profile.c - measured tables: how they are read, looked up, refused; what `profile` writes runs on sim. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/sim/profile.h"
#include "tests/lab.h"
#include "tests/test.h"

static const char head[] =
    "{\"schema\": \"sim-profile/1\", \"name\": \"t\", \"about\": \"for a test\", \"flops\": 1e12, \"bandwidth\": 1e12,"
    "\"flop_efficiency\": 1, \"byte_efficiency\": 1, \"link_bandwidth\": 1e9, \"launch_ns\": 0, \"host_step_ns\": 0,"
    "\"host_seq_ns\": 0, \"mem_bytes\": 1000000000000, \"ops\": ";

/* Writes a profile with these tables to a file of its own; its path. */
static const char *with(const char *ops)
{
    static char path[64];
    int fd;
    FILE *f;

    strcpy(path, "/tmp/servelab-profile-XXXXXX");
    fd = mkstemp(path);
    CU_ASSERT_FATAL(fd >= 0);
    f = fdopen(fd, "w");
    fprintf(f, "%s%s}", head, ops);
    fclose(f);
    return path;
}

static void between_points_and_beyond(void)
{
    const char *path = with("[{\"op\":\"matmul\",\"fmt\":\"f16\",\"n\":64,\"k\":32,\"by\":\"rows\",\"x\":[2,4,8],"
                            "\"ns\":[100,200,1000]}]");
    struct op_cost c = { .fmt = FMT_F16, .n = 64, .k = 32 };
    const struct { uint32_t m; double ns; } row[] = {
        { 1, 100 }, { 2, 100 }, { 3, 150 }, { 4, 200 }, { 6, 600 }, { 8, 1000 }, { 16, 2000 }
    };
    struct sim_profile p;
    struct err e = { 0 };

    CU_ASSERT_EQUAL_FATAL(profile_load(&p, path, &e), 0);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        c.m = row[i].m;
        CU_ASSERT_DOUBLE_EQUAL(profile_lookup(&p, OP_MATMUL, &c), row[i].ns, 1e-9);
    }
    c.k = 33;                                   /* another shape, format or operation has no table */
    CU_ASSERT(profile_lookup(&p, OP_MATMUL, &c) < 0);
    c.k = 32;
    CU_ASSERT(profile_lookup(&p, OP_EMBED, &c) < 0);
    c.fmt = FMT_INT8;
    CU_ASSERT(profile_lookup(&p, OP_MATMUL, &c) < 0);
    profile_free(&p);
    unlink(path);
}

static void bad_tables_are_refused(void)
{
    static const char *const bad[] = {
        "[{}]", "[1]", "{}",
        "[{\"op\":\"matmul\",\"fmt\":\"f16\",\"n\":64,\"k\":32,\"by\":\"rows\",\"x\":[],\"ns\":[]}]",
        "[{\"op\":\"matmul\",\"fmt\":\"f16\",\"n\":64,\"k\":32,\"by\":\"rows\",\"x\":[1,2],\"ns\":[1]}]",
        "[{\"op\":\"matmul\",\"fmt\":\"f16\",\"n\":64,\"k\":32,\"by\":\"rows\",\"x\":[2,1],\"ns\":[1,2]}]",
        "[{\"op\":\"matmul\",\"fmt\":\"f16\",\"n\":64,\"k\":32,\"by\":\"rows\",\"x\":[1],\"ns\":[-1]}]",
        "[{\"op\":\"matmul\",\"fmt\":\"f16\",\"n\":64,\"k\":32,\"by\":\"rows\",\"x\":[\"a\"],\"ns\":[1]}]",
        "[{\"op\":\"matmul\",\"fmt\":\"f16\",\"n\":-1,\"k\":32,\"by\":\"rows\",\"x\":[1],\"ns\":[1]}]",
        "[{\"op\":\"mat\",\"fmt\":\"f16\",\"n\":1,\"k\":32,\"by\":\"rows\",\"x\":[1],\"ns\":[1]}]",
        "[{\"op\":\"matmul\",\"fmt\":\"f17\",\"n\":1,\"k\":32,\"by\":\"rows\",\"x\":[1],\"ns\":[1]}]",
        "[{\"op\":\"matmul\",\"fmt\":\"f16\",\"n\":1,\"k\":32,\"by\":\"rows\",\"x\":[1],\"ns\":[1],\"z\":1}]",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *path = with(bad[i]);
        struct sim_profile p;
        struct err e = { 0 };

        CU_ASSERT_EQUAL(profile_load(&p, path, &e), -1);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "'ops"));
        unlink(path);
    }
}

/* A step costs what its tables say: matmul 1 ms each, all else by the roofline of a very fast machine. */
static void a_step_is_charged_by_tables(void)
{
    const char *path = with("[{\"op\":\"matmul\",\"fmt\":\"f16\",\"n\":256,\"k\":128,\"by\":\"rows\",\"x\":[1],"
                            "\"ns\":[0]},{\"op\":\"matmul\",\"fmt\":\"f16\",\"n\":128,\"k\":128,\"by\":\"rows\","
                            "\"x\":[1,2],\"ns\":[1000000,1000000]}]");
    struct lab l;
    struct trace t;
    struct replay_result r;
    struct lab_run_conf c = { .strategy = "continuous+paged+f16", .trace = &t, .max_len = 64 };

    lab_trace(&t, 1, 1, 1, 1, 1);
    t.req[0].n_prompt = t.req[0].n_out = 1;
    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "sim", "tiny", 64, NULL, path, PACE_SKIP), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(l.dev.label, "tables"));
    CU_ASSERT_EQUAL_FATAL(lab_run(&l, &c, &r, NULL), 0);
    /* two layers: O and down are 128 x 128; the rest is microseconds */
    CU_ASSERT(r.device_ns >= 4000000 && r.device_ns < 4100000);
    lab_close(&l);
    trace_free(&t);
    unlink(path);
}

static void what_profile_writes_runs(void)
{
    char command[600], line[300] = "", path[] = "/tmp/servelab-profile-out-XXXXXX";
    int fd = mkstemp(path), lines = 0;
    struct sim_profile p;
    struct err e = { 0 };
    FILE *f;

    CU_ASSERT_FATAL(fd >= 0);
    close(fd);
    snprintf(command, sizeof command,
             "%s profile --quick --model tiny --max-tokens 64 --max-kv 512 --precision f16,int4 "
             "--threads 1 --quiet --json --out %s 2>&1", SERVELAB_BIN, path);
    f = popen(command, "r");
    while (f && fgets(line, sizeof line, f))
        lines++;
    CU_ASSERT_FATAL(f && pclose(f) == 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(line, "\"tables\": 19"));  /* the only line: no progress with --quiet */
    CU_ASSERT_EQUAL(lines, 1);
    CU_ASSERT_EQUAL_FATAL(profile_load(&p, path, &e), 0);
    CU_ASSERT_EQUAL(p.n_table, 2 * 6 + 4 + 3);
    CU_ASSERT_PTR_NOT_NULL(strstr(p.about, "measured on cpu"));
    for (uint32_t i = 0; i < p.n_table; i++)
        CU_ASSERT(p.table[i].ns[p.table[i].n_point - 1] > 0);
    profile_free(&p);
    unlink(path);
}

static const struct test tests[] = {
    { "between points linear, beyond them the last rate", between_points_and_beyond },
    { "bad tables are refused by place", bad_tables_are_refused },
    { "a step is charged by tables", a_step_is_charged_by_tables },
    { "what profile writes is a profile of what it measured", what_profile_writes_runs },
    { 0 },
};
const struct suite suite_profile = { "profile", tests, 60 };
