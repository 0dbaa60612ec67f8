/* test_sim.c - the simulated clock: against queueing theory, against itself, against committed goldens. */
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/home.h"
#include "tests/lab.h"
#include "tests/test.h"

static const char *fixture(const char *name)
{
    static char path[4200];

    snprintf(path, sizeof path, "%s/tests/%s", home_dir(), name);
    return path;
}

static void poisson(struct trace *t, uint32_t n, double mean_us, uint64_t seed)
{
    struct rng r;
    double now = 0;

    memset(t, 0, sizeof *t);
    rng_seed(&r, seed);
    t->n = n;
    t->req = ARENA_NEW(&t->arena, struct trace_req, n);
    for (uint32_t i = 0; i < n; i++) {
        now += -log(1 - rng_unit(&r)) * mean_us;
        t->req[i].arrive_us = (int64_t)now;
        t->req[i].n_prompt = t->req[i].n_out = 1;
    }
}

/* M/D/1: Poisson arrivals, one server, constant service S: mean wait = rho * S / (2 * (1 - rho)). */
static void md1(void)
{
    static const double rho[] = { 0.3, 0.6, 0.8 };
    struct lab l;

    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "sim", "tiny", 64, NULL, fixture("fixtures/constant.json"),
                                   PACE_SKIP), 0);
    for (int i = 0; i < 3; i++) {
        struct lab_run_conf c = { .strategy = "static:batch=1+paged+f16", .max_len = 32 };
        struct replay_result res;
        struct lab_out out;
        struct trace t;
        double s, mean = 0, want;

        poisson(&t, 1, 1, 1);
        c.trace = &t;
        CU_ASSERT_EQUAL_FATAL(lab_run(&l, &c, &res, &out), 0);
        s = (double)out.e2e_ns[0];
        lab_out_free(&out);
        trace_free(&t);
        poisson(&t, 500000, s / 1000 / rho[i], 42 + (uint64_t)i);
        CU_ASSERT_EQUAL_FATAL(lab_run(&l, &c, &res, &out), 0);
        for (uint32_t k = 0; k < t.n; k++)
            mean += (double)out.wait_ns[k] / t.n;
        want = rho[i] * s / (2 * (1 - rho[i]));
        if (fabs(mean / want - 1) > 0.02)
            test_note("rho %.1f: mean wait %.4f ms, theory %.4f ms", rho[i], mean * 1e-6, want * 1e-6);
        CU_ASSERT(fabs(mean / want - 1) <= 0.02);
        lab_out_free(&out);
        trace_free(&t);
    }
    lab_close(&l);
}

/* The charge of a step equals the sum that its shapes say. */
static void roofline_by_hand(void)
{
    struct lab l;
    struct trace t;
    struct replay_result res;
    struct lab_run_conf c = { .strategy = "continuous+paged+f16", .trace = &t, .max_len = 64 };
    uint64_t ops = 0;
    double want;

    poisson(&t, 1, 1, 1);
    t.req[0].n_prompt = 10;
    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "sim", "tiny", 64, NULL, fixture("fixtures/constant.json"),
                                   PACE_SKIP), 0);
    CU_ASSERT_EQUAL_FATAL(lab_run(&l, &c, &res, NULL), 0);
    for (int i = 0; i < OP_N; i++)
        ops += l.dev.total[i].calls;
    CU_ASSERT_EQUAL(ops, 1 + 9 * l.shape.n_layer + 4);
    CU_ASSERT_EQUAL(res.device_ns, ops * 1000000);
    /* matmul FLOPs: 2 * rows * weights of the layers, the head for one row only */
    want = 2.0 * 10 * l.shape.n_layer * l.shape.dim *
           ((l.shape.n_head + 2.0 * l.shape.n_kv_head) * l.shape.head_dim +
            (double)l.shape.n_head * l.shape.head_dim + 3.0 * l.shape.ffn) +
           2.0 * l.shape.dim * l.shape.vocab;
    CU_ASSERT_DOUBLE_EQUAL(l.dev.total[OP_MATMUL].flops, want, 0.5);
    /* causal attention over 10 tokens: 55 pairs */
    CU_ASSERT_DOUBLE_EQUAL(l.dev.total[OP_ATTEND_PREFILL].flops,
                           4.0 * l.shape.n_head * l.shape.head_dim * 55 * l.shape.n_layer, 0.5);
    CU_ASSERT_EQUAL(l.dev.total[OP_ATTEND_DECODE].calls, 0);
    lab_close(&l);
    trace_free(&t);
}

/* Adding a constant to all arrivals shifts every time and changes nothing else (metamorphic). */
static void shifted_arrivals(void)
{
    static const char *const names[] = { "static+contiguous+f16", "continuous+paged+f16",
                                         "chunked:budget=32+paged+int4" };
    for (int k = 0; k < 3; k++) {
        struct lab l;
        struct trace t;
        struct replay_result a, b;
        struct lab_out x, y;
        struct lab_run_conf c = { .strategy = names[k], .trace = &t, .max_len = 128, .kv_slots = 256 };

        lab_trace(&t, 80, 60, 40, 3000, 5);
        CU_ASSERT_EQUAL_FATAL(lab_open(&l, "sim", "tiny", 1024, NULL, "cpu", PACE_SKIP), 0);
        CU_ASSERT_EQUAL_FATAL(lab_run(&l, &c, &a, &x), 0);
        for (uint32_t i = 0; i < t.n; i++)
            t.req[i].arrive_us += 1234567;
        CU_ASSERT_EQUAL_FATAL(lab_run(&l, &c, &b, &y), 0);
        CU_ASSERT_EQUAL(memcmp(x.e2e_ns, y.e2e_ns, t.n * sizeof *x.e2e_ns), 0);
        CU_ASSERT_EQUAL(memcmp(x.ttft_ns, y.ttft_ns, t.n * sizeof *x.ttft_ns), 0);
        CU_ASSERT_EQUAL(a.steps, b.steps);
        lab_out_free(&x);
        lab_out_free(&y);
        lab_close(&l);
        trace_free(&t);
    }
}

/* Unlimited memory: nobody is ever preempted, and paged equals contiguous to the nanosecond. */
static void ample_memory(void)
{
    struct lab l;
    struct trace t;
    struct replay_result a, b;
    struct lab_out x, y;
    struct lab_run_conf c = { .strategy = "continuous+paged+f16", .trace = &t, .max_len = 128 };

    lab_trace(&t, 100, 60, 40, 2000, 6);
    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "sim", "tiny", 16384, NULL, "cpu", PACE_SKIP), 0);
    CU_ASSERT_EQUAL_FATAL(lab_run(&l, &c, &a, &x), 0);
    c.strategy = "continuous+contiguous+f16";
    CU_ASSERT_EQUAL_FATAL(lab_run(&l, &c, &b, &y), 0);
    CU_ASSERT_EQUAL(a.preemptions + b.preemptions, 0);
    CU_ASSERT_EQUAL(memcmp(x.e2e_ns, y.e2e_ns, t.n * sizeof *x.e2e_ns), 0);
    lab_out_free(&x);
    lab_out_free(&y);
    lab_close(&l);
    trace_free(&t);
}

/* ---- goldens: rows of sim runs as text ---- */

static void dump_query(sqlite3 *db, const char *sql, const char *table, FILE *f)
{
    sqlite3_stmt *s = NULL;

    CU_ASSERT_EQUAL_FATAL(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    while (sqlite3_step(s) == SQLITE_ROW) {
        fprintf(f, "INSERT INTO %s VALUES(", table);
        for (int i = 0; i < sqlite3_column_count(s); i++) {
            const char *v = (const char *)sqlite3_column_text(s, i);

            const char *q = sqlite3_column_type(s, i) == SQLITE_TEXT ? "'" : "";

            fprintf(f, "%s%s%s%s", i ? "," : "", q, v ? v : "NULL", q);
        }
        fputs(");\n", f);
    }
    sqlite3_finalize(s);
}

static void run_and_dump(const char *dir, const char *tag, char *dump, size_t n)
{
    char db_path[4300], cmd[9000];
    sqlite3 *db = NULL;
    FILE *f;

    snprintf(db_path, sizeof db_path, "%s/%s.db", dir, tag);
    snprintf(dump, n, "%s/%s.sql", dir, tag);
    snprintf(cmd, sizeof cmd, "'%s' run --trace chat.json --limit 14 --device sim --profile l4 --rate 60 "
             "--kv 640tok --max-len 512 --db '%s' --no-figures --quiet --strategy static+contiguous+f16,"
             "static+paged+f16,continuous+contiguous+f16,continuous+paged+f16,chunked+contiguous+int4,"
             "chunked:budget=64+paged+int4 >/dev/null", SERVELAB_BIN, db_path);
    CU_ASSERT_EQUAL_FATAL(system(cmd), 0);
    CU_ASSERT_EQUAL_FATAL(sqlite3_open(db_path, &db), SQLITE_OK);
    f = fopen(dump, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    dump_query(db, "SELECT run_id, s.name, kv_slots_obtained, kv_blocks_total, window_start_ns, "
               "window_end_ns, duration_ns, status, validity, step_count, idle_ns FROM runs "
               "JOIN strategies s USING (strategy_id) ORDER BY run_id", "runs", f);
    dump_query(db, "SELECT * FROM requests ORDER BY run_id, request_id", "requests", f);
    dump_query(db, "SELECT * FROM steps WHERE run_id IN (1, 4, 6) ORDER BY run_id, step_index",
               "steps", f);
    fclose(f);
    sqlite3_close(db);
}

static int same_files(const char *a, const char *b)
{
    FILE *x = fopen(a, "r"), *y = fopen(b, "r");
    int cx = 0, cy = 0;

    while (x && y && (cx = getc(x)) == (cy = getc(y)) && cx != EOF)
        ;
    if (x)
        fclose(x);
    if (y)
        fclose(y);
    return x && y && cx == cy;
}

static void goldens(void)
{
    char a[4200], b[4200], cmd[9000];
    const char *dir = test_dir(), *golden = fixture("golden/chat14_l4.sql"), *write;

    run_and_dump(dir, "first", a, sizeof a);
    run_and_dump(dir, "second", b, sizeof b);
    CU_ASSERT(same_files(a, b));
    write = getenv("SERVELAB_GOLDEN");
    if (write && !strcmp(write, "write")) {
        snprintf(cmd, sizeof cmd, "cp '%s' '%s'", a, golden);
        CU_ASSERT_EQUAL(system(cmd), 0);
    }
    if (!same_files(a, golden))
        test_note("rows differ from %s; if the change is meant, run the test with "
                  "SERVELAB_GOLDEN=write and commit the file with the reason", golden);
    CU_ASSERT(same_files(a, golden));
}

static const struct test tests[] = {
    { "M/D/1: mean wait within 2 % at rho 0.3, 0.6, 0.8", md1 },
    { "a step's charge follows from its shapes", roofline_by_hand },
    { "shifting all arrivals shifts all times", shifted_arrivals },
    { "ample memory: no preemption, paged equals contiguous", ample_memory },
    { "equal runs give equal rows, and the committed ones", goldens },
    { 0 },
};
const struct suite suite_sim = { "sim", tests, 180 };
