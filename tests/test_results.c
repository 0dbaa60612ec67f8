/* test_results.c - the store: what goes in comes out, and views against numbers worked out by hand. What damages it:
 * test_damage.c. */
#include <stdio.h>
#include <string.h>

#include "results/db.h"
#include "results/recorder.h"
#include "tests/results_fixture.h"
#include "tests/test.h"

static double real(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s = NULL;
    double v = -1e9;

    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
        test_note("%s: %s", sql, sqlite3_errmsg(db));
    else if (sqlite3_step(s) == SQLITE_ROW && sqlite3_column_type(s, 0) != SQLITE_NULL)
        v = sqlite3_column_double(s, 0);
    sqlite3_finalize(s);
    return v;
}
#define NONE (-1e9)                            /* real() of NULL or no row */
#define IS(db, sql, want) CU_ASSERT_DOUBLE_EQUAL(real(db, sql), want, 1e-6)

static int64_t begin(struct recorder *r, const char *slo, int64_t n_request, struct err *e)
{
    struct environment_row env = {.os = "Linux"};
    struct trace_row trace = {.name = "t", .request_count = n_request};
    struct model_row model = {.name = "m"};
    struct strategy_row strategy = {.name = "s+k+f16", .weight_dtype = "f16"};
    struct experiment_row exp = {.name = "x"};
    struct run_row run = {.backend = "cpu", .device = "cpu", .clock = "monotonic", .pace = "skip",
                          .loop = "open", .rate_scale = 1, .slo_json = slo};

    run.environment_id = recorder_environment(r, &env, e);
    run.trace_id = recorder_trace(r, &trace, e);
    run.model_id = recorder_model(r, &model, e);
    run.strategy_id = recorder_strategy(r, &strategy, e);
    run.experiment_id = recorder_experiment(r, &exp, e);
    return recorder_run_begin(r, &run, true, e);
}

enum { MS = 1000000 };

/* Request i: arrives at 0, first token at (i+1)*10 ms, then out-1 more tokens 20 ms apart. */
static void put(struct recorder *r, int64_t i, uint32_t out, const char *status, struct err *e)
{
    uint32_t delta[8];
    bool ok = strcmp(status, "finished") == 0;
    struct request_row q = {.request_id = i,
                            .arrival_ns = 0,
                            .injected_ns = 0,
                            .admitted_ns = ok ? i * 5 * MS : NS_NONE,
                            .first_token_ns = ok ? (i + 1) * 10 * MS : NS_NONE,
                            .finish_ns = ok ? (i + 1) * 10 * MS + (out - 1) * 20 * MS : NS_NONE,
                            .prompt_tokens = 4,
                            .output_tokens = ok ? out : 0,
                            .target_output_tokens = out,
                            .itl_max_ns = NS_NONE,
                            .status = status,
                            .finish_reason = ok ? "length" : "too long",
                            .delta_us = delta,
                            .n_delta = ok ? out : 0};

    for (uint32_t k = 0; k < 8; k++)
        delta[k] = k ? 20000 : (uint32_t)(i + 1) * 10000;
    CU_ASSERT_EQUAL(recorder_request(r, &q, e), 0);
}

static const struct run_end good = {.status = "done", .validity = "valid", .reasons = "",
                                    .window_end_ns = 1000 * MS, .duration_ns = 1000 * MS};

static void one_run(const char *path, const char *slo, int64_t n, uint32_t out, int64_t n_rejected)
{
    struct err e = {0};
    struct recorder *r = recorder_open(path, &e);
    struct run_end end = good;

    CU_ASSERT_PTR_NOT_NULL_FATAL(r);
    CU_ASSERT(begin(r, slo, n + n_rejected, &e) > 0);
    for (int64_t i = 0; i < n; i++)
        put(r, i, out, "finished", &e);
    for (int64_t i = 0; i < n_rejected; i++)
        put(r, n + i, out, "rejected", &e);
    CU_ASSERT_EQUAL(recorder_run_end(r, &end, &e), 0);
    if (e.code)
        test_note("%s", e.text);
    recorder_close(r);
}

static void test_schema(void)
{
    const char *path = fixture_path("new/folder/a.db");
    struct err e = {0};
    struct recorder *r = recorder_open(path, &e);
    sqlite3 *db;

    CU_ASSERT_PTR_NOT_NULL_FATAL(r);
    recorder_close(r);
    r = recorder_open(path, &e);               /* again: nothing is made twice */
    CU_ASSERT_PTR_NOT_NULL_FATAL(r);
    recorder_close(r);
    db = fixture_reader(path);
    IS(db, "PRAGMA application_id", DB_APPLICATION_ID);
    IS(db, "PRAGMA user_version", DB_VERSION);
    IS(db, "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table'", 12);
    IS(db,
       "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND sql NOT LIKE '%STRICT%'",
       0);
    sqlite3_close(db);
}

static void test_strict(void)
{
    const char *path = fixture_path("a.db");
    sqlite3 *db = NULL;

    one_run(path, NULL, 1, 2, 0);
    CU_ASSERT_EQUAL(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_exec(db, "PRAGMA foreign_keys = ON", NULL, NULL, NULL);
    CU_ASSERT(sqlite3_exec(db, "UPDATE requests SET arrival_ns = 'soon'", NULL, NULL, NULL) !=
              SQLITE_OK);
    CU_ASSERT(sqlite3_exec(db, "UPDATE runs SET status = 'fine'", NULL, NULL, NULL) != SQLITE_OK);
    CU_ASSERT(sqlite3_exec(db, "UPDATE runs SET trace_id = 99", NULL, NULL, NULL) != SQLITE_OK);
    CU_ASSERT(sqlite3_exec(db, "UPDATE runs SET clock = 'sundial'", NULL, NULL, NULL) != SQLITE_OK);
    sqlite3_close(db);
}

/* Ten requests: TTFT 10 .. 100 ms, TPOT 20 ms, three tokens; limits 55 ms and 25 ms; two more
 * rejected. */
static void test_views(void)
{
    const char *path = fixture_path("a.db");
    sqlite3 *db;

    one_run(path, "{\"ttft_ms\":55,\"tpot_ms\":25,\"e2e_ms\":0}", 10, 3, 2);
    db = fixture_reader(path);
    IS(db, "SELECT p50 FROM v_latency WHERE metric = 'ttft'", 50);
    IS(db, "SELECT mean FROM v_latency WHERE metric = 'ttft'", 55);
    IS(db, "SELECT max FROM v_latency WHERE metric = 'ttft'", 100);
    IS(db, "SELECT p90 FROM v_latency WHERE metric = 'ttft'", NONE);
    IS(db, "SELECT p50 FROM v_latency WHERE metric = 'queue'", 20);
    IS(db, "SELECT p50 FROM v_latency WHERE metric = 'tpot'", 20);
    IS(db, "SELECT p50 FROM v_latency WHERE metric = 'e2e'", 90);
    IS(db, "SELECT n FROM v_latency WHERE metric = 'itl'", 20);
    IS(db, "SELECT p50 FROM v_latency WHERE metric = 'itl'", 20);
    IS(db, "SELECT attainment_pct FROM v_runs", 500.0 / 12);     /* 5 of 12 that arrived */
    IS(db, "SELECT goodput_rps FROM v_runs", 5);
    IS(db, "SELECT tok_s FROM v_runs", 30);
    IS(db, "SELECT rejected FROM v_runs", 2);
    IS(db, "SELECT tok_s FROM v_cells", 30);
    IS(db, "SELECT count(*) FROM v_requests WHERE is_slo_met", 5);
    sqlite3_close(db);
}

/* A window that ends at 45 ms: of requests i = 0..3 (first token at 10(i+1)), tokens at 10 30 | 20
 * 40 | 30 | 40. */
static void test_window(void)
{
    const char *path = fixture_path("a.db");
    struct err e = {0};
    struct recorder *r = recorder_open(path, &e);
    struct run_end end = good;
    sqlite3 *db;

    CU_ASSERT_PTR_NOT_NULL_FATAL(r);
    begin(r, NULL, 4, &e);
    for (int64_t i = 0; i < 4; i++)
        put(r, i, 3, "finished", &e);
    end.window_end_ns = 45 * MS;
    CU_ASSERT_EQUAL(recorder_run_end(r, &end, &e), 0);
    recorder_close(r);
    db = fixture_reader(path);
    IS(db, "SELECT window_output_tokens FROM runs", 6);
    IS(db, "SELECT tok_s FROM v_runs", 6 / 0.045);
    IS(db, "SELECT attainment_pct FROM v_runs", NONE);           /* no SLO: nothing to attain */
    sqlite3_close(db);
}

static void test_floors(void)
{
    static const struct { int64_t n; const char *column; double below, at;
    } floors[] = {{6, "p50", NONE, 30},
                  {36, "p90", NONE, 330},
                  {72, "p95", NONE, 690},
                  {368, "p99", NONE, 3650},
                  {3688, "p999", NONE, 36850}};
    char name[40], sql[120];

    for (int i = 0; i < 5; i++)
        for (int64_t below = 1; below >= 0; below--) {
            sqlite3 *db;

            snprintf(name, sizeof name, "f%d-%d.db", i, (int)below);
            one_run(fixture_path(name), NULL, floors[i].n - below, 1, 0);
            db = fixture_reader(fixture_path(name));
            snprintf(sql, sizeof sql, "SELECT %s FROM v_latency WHERE metric = 'ttft'",
                     floors[i].column);
            IS(db, sql, below ? floors[i].below : floors[i].at);
            IS(db, "SELECT count(*) FROM v_latency WHERE metric IN ('tpot', 'itl')",
               0); /* one token */
            sqlite3_close(db);
        }
}

static void test_killed(void)
{
    const char *path = fixture_path("a.db");
    struct err e = {0};
    struct recorder *r = recorder_open(path, &e);
    char out[2000];
    sqlite3 *db;

    CU_ASSERT_PTR_NOT_NULL_FATAL(r);
    begin(r, NULL, 1, &e);
    put(r, 0, 3, "finished", &e);
    recorder_close(r);                         /* as if killed: the end never came */
    CU_ASSERT_EQUAL(recorder_check(path, out, sizeof out, &e), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "never ended"));
    db = fixture_reader(path);
    IS(db, "SELECT count(*) FROM runs WHERE status = 'running'", 1);
    IS(db, "SELECT coalesce(sum(is_counted), 0) FROM v_runs", 0);
    IS(db, "SELECT count(*) FROM v_cells", 0);
    sqlite3_close(db);
}

static void test_same_rows(void)
{
    const struct fixture f = {.n_request = 24, .n_strategy = 2, .repeats = 2, .sim = true};
    const char *path = fixture_path("a.db");
    struct err e = {0};
    sqlite3 *db;

    CU_ASSERT_EQUAL(fixture_make(path, &f, &e), 0);
    db = fixture_reader(path);
    IS(db, "SELECT count(*) FROM runs", 4);
    IS(db, "SELECT count(DISTINCT rows_hash) FROM runs",
       2); /* a repeat is equal, a strategy is not */
    IS(db, "SELECT count(*) FROM strategies", 2);
    IS(db, "SELECT count(*) FROM traces", 1);
    IS(db, "SELECT count(*) FROM experiments", 1);
    IS(db, "SELECT group_concat(color_index, '') + 0 FROM (SELECT * FROM strategies ORDER BY 1)",
       1);
    sqlite3_close(db);
}

static void test_equality(void)
{
    struct fixture f = {.n_request = 16, .n_strategy = 6, .repeats = 1};
    struct err e = {0};
    sqlite3 *db;

    CU_ASSERT_EQUAL(fixture_make(fixture_path("same.db"), &f, &e), 0);
    f.wrong_outputs = true;
    CU_ASSERT_EQUAL(fixture_make(fixture_path("other.db"), &f, &e), 0);
    db = fixture_reader(fixture_path("same.db"));
    IS(db, "SELECT equal FROM v_equality", 16);
    IS(db, "SELECT strategies FROM v_equality", 6);
    sqlite3_close(db);
    db = fixture_reader(fixture_path("other.db"));
    IS(db, "SELECT different FROM v_equality", 1);
    sqlite3_close(db);
}

static void test_bad_slo(void)
{
    struct err e = {0};
    struct recorder *r = recorder_open(fixture_path("a.db"), &e);

    CU_ASSERT_PTR_NOT_NULL_FATAL(r);
    CU_ASSERT_EQUAL(begin(r, "ttft:200", 0, &e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "ttft:200"));
    recorder_close(r);
}

static const struct test tests[] = {{"schema", test_schema},
                                    {"strict", test_strict},
                                    {"views", test_views},
                                    {"window", test_window},
                                    {"floors", test_floors},
                                    {"killed", test_killed},
                                    {"same-rows", test_same_rows},
                                    {"equality", test_equality},
                                    {"bad-slo", test_bad_slo},
                                    {NULL, NULL}};
const struct suite suite_results = {"results", tests, 120};
