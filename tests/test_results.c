/* test_results.c - the store: what goes in comes out, views against numbers worked out by hand, and
 * every kind of damage is found. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "results/db.h"
#include "results/recorder.h"
#include "tests/results_fixture.h"
#include "tests/test.h"

static const char *path_of(const char *name)
{
    static char path[4][600];
    static int turn;
    char *p = path[turn++ % 4];

    snprintf(p, sizeof path[0], "%s/%s", test_dir(), name);
    return p;
}

static sqlite3 *reader(const char *path)
{
    struct err e = {0};
    sqlite3 *db = db_open_read(path, 0, &e);

    if (!db)
        test_note("%s", e.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(db);
    return db;
}

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
    const char *path = path_of("new/folder/a.db");
    struct err e = {0};
    struct recorder *r = recorder_open(path, &e);
    sqlite3 *db;

    CU_ASSERT_PTR_NOT_NULL_FATAL(r);
    recorder_close(r);
    r = recorder_open(path, &e);               /* again: nothing is made twice */
    CU_ASSERT_PTR_NOT_NULL_FATAL(r);
    recorder_close(r);
    db = reader(path);
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
    const char *path = path_of("a.db");
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
    const char *path = path_of("a.db");
    sqlite3 *db;

    one_run(path, "{\"ttft_ms\":55,\"tpot_ms\":25,\"e2e_ms\":0}", 10, 3, 2);
    db = reader(path);
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
    const char *path = path_of("a.db");
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
    db = reader(path);
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
            one_run(path_of(name), NULL, floors[i].n - below, 1, 0);
            db = reader(path_of(name));
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
    const char *path = path_of("a.db");
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
    db = reader(path);
    IS(db, "SELECT count(*) FROM runs WHERE status = 'running'", 1);
    IS(db, "SELECT coalesce(sum(is_counted), 0) FROM v_runs", 0);
    IS(db, "SELECT count(*) FROM v_cells", 0);
    sqlite3_close(db);
}

static void test_same_rows(void)
{
    const struct fixture f = {.n_request = 24, .n_strategy = 2, .repeats = 2, .sim = true};
    const char *path = path_of("a.db");
    struct err e = {0};
    sqlite3 *db;

    CU_ASSERT_EQUAL(fixture_make(path, &f, &e), 0);
    db = reader(path);
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

    CU_ASSERT_EQUAL(fixture_make(path_of("same.db"), &f, &e), 0);
    f.wrong_outputs = true;
    CU_ASSERT_EQUAL(fixture_make(path_of("other.db"), &f, &e), 0);
    db = reader(path_of("same.db"));
    IS(db, "SELECT equal FROM v_equality", 16);
    IS(db, "SELECT strategies FROM v_equality", 6);
    sqlite3_close(db);
    db = reader(path_of("other.db"));
    IS(db, "SELECT different FROM v_equality", 1);
    sqlite3_close(db);
}

static int check_after(const char *sql)
{
    const struct fixture f = {.n_request = 8, .n_strategy = 2, .repeats = 1};
    const char *path = path_of("damaged.db");
    struct err e = {0};
    sqlite3 *db = NULL;
    char out[4000];

    remove(path);
    CU_ASSERT_EQUAL(fixture_make(path, &f, &e), 0);
    CU_ASSERT_EQUAL(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        test_note("%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_close(db);
    return recorder_check(path, out, sizeof out, &e);
}

static void test_damage(void)
{
    static const char *const damage[] = {
        "UPDATE requests SET output_tokens = output_tokens + 1 WHERE request_id = 3",
        "UPDATE requests SET first_token_ns = first_token_ns - 1 WHERE request_id = 0",
        "UPDATE requests SET output_hash = output_hash + 1 WHERE run_id = 1 AND request_id = 1",
        "DELETE FROM token_times WHERE request_id = 2",
        "DELETE FROM steps WHERE step_index = 5",
        "PRAGMA foreign_keys = OFF; DELETE FROM requests WHERE run_id = 1 AND request_id = 7",
        "UPDATE runs SET window_end_ns = window_end_ns - 1 WHERE run_id = 1",
        "UPDATE runs SET validity = 'suspect' WHERE run_id = 2",
        "UPDATE itl_hist SET count = count + 1",
        "UPDATE steps SET decode_tokens = decode_tokens + 1 WHERE step_index = 3",
        "UPDATE environments SET git_commit = 'abc'",
        "UPDATE traces SET sha256 = 'x'",
        "UPDATE models SET is_synthetic = 1 - is_synthetic",
        "UPDATE strategies SET name = 'best' WHERE strategy_id = 1",
        "UPDATE experiments SET command_line = 'another'",
        "INSERT INTO quality (experiment_id, model_id, environment_id, device, text_name, text_sha256, is_reference, "
        "source_quantised, window, stride, scored_tokens, windows, ppl, loss_pct, kl, top1_pct, agree_tokens, answers, "
        "answers_same, answer_tokens, prefill_tok_s, decode_tok_s, weight_bytes, scale_bytes, kv_bytes_per_token) "
        "VALUES (1, 1, 1, 'cpu', 't', 'x', 1, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)",
        "PRAGMA foreign_keys = OFF; DELETE FROM strategies",
    };

    CU_ASSERT_EQUAL(check_after("SELECT 1"), 0);
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        int n = check_after(damage[i]);

        if (n <= 0)
            test_note("not found: %s", damage[i]);
        CU_ASSERT(n > 0);
    }
}

/* A quality row belongs to no run: it has a hash of its own, over what it names as well. */
static void test_quality_row(void)
{
    static const char *const damage[] = {"UPDATE quality SET ppl = 9", "UPDATE models SET about = 'x'"};
    const struct quality_row q = {.experiment_id = 1, .model_id = 1, .environment_id = 1, .device = "cpu",
                                  .text_name = "t", .text_sha256 = "x", .ppl = {10, 9, 11}};
    const struct fixture f = {.n_request = 8, .n_strategy = 1, .repeats = 1};
    const char *path = path_of("quality.db");
    struct err e = {0};
    struct recorder *r;
    sqlite3 *db = NULL;
    char out[4000];

    CU_ASSERT_EQUAL(fixture_make(path, &f, &e), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(r = recorder_open(path, &e));
    CU_ASSERT_EQUAL(recorder_quality(r, &q, &e), 1);
    recorder_close(r);
    CU_ASSERT_EQUAL(recorder_check(path, out, sizeof out, &e), 0);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL_FATAL(sqlite3_open(path, &db), SQLITE_OK);
        CU_ASSERT_EQUAL(sqlite3_exec(db, damage[i], NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        CU_ASSERT(recorder_check(path, out, sizeof out, &e) > i);
        CU_ASSERT_PTR_NOT_NULL(strstr(out, "quality 1:"));
    }
}

/* Refused, with the file's name in the message and not a byte of it changed. */
static void refused(const char *path, const char *word)
{
    struct err e = {0}, e2 = {0};
    struct stat before, after;
    char out[200];

    CU_ASSERT_EQUAL(stat(path, &before), 0);
    CU_ASSERT_PTR_NULL(recorder_open(path, &e));
    CU_ASSERT_EQUAL(e.code, EXIT_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, path));
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, word));
    CU_ASSERT_EQUAL(recorder_check(path, out, sizeof out, &e2), -1);
    CU_ASSERT_EQUAL(stat(path, &after), 0);
    CU_ASSERT(before.st_size == after.st_size && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
}

static void test_foreign(void)
{
    const char *path = path_of("damaged.db");
    FILE *f;

    CU_ASSERT_EQUAL(check_after("PRAGMA application_id = 77"), -1);
    refused(path, "another application");
    CU_ASSERT_EQUAL(check_after("PRAGMA user_version = 4"), -1);
    refused(path, "newer");
    CU_ASSERT_EQUAL(check_after("PRAGMA user_version = 2"), -1);
    refused(path, "older");
    f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs("id,arrival\n1,2\n", f);
    fclose(f);
    refused(path, "not a SQLite database");
}

static void test_flipped_byte(void)
{
    const char *path = path_of("damaged.db");
    static unsigned char text[1 << 20], blob[64];
    struct err e = {0};
    sqlite3_stmt *s = NULL;
    sqlite3 *db;
    size_t n, len;
    unsigned char *hit;
    char out[2000];
    FILE *f;

    CU_ASSERT_EQUAL(check_after("SELECT 1"), 0);
    db = reader(path);
    sqlite3_prepare_v2(db, "SELECT substr(delta_us, 1, 24) FROM token_times WHERE run_id = 2", -1,
                       &s, NULL);
    CU_ASSERT_EQUAL_FATAL(sqlite3_step(s), SQLITE_ROW);
    len = (size_t)sqlite3_column_bytes(s, 0);
    CU_ASSERT_FATAL(len <= sizeof blob && len >= 8);
    memcpy(blob, sqlite3_column_blob(s, 0), len);
    sqlite3_finalize(s);
    sqlite3_close(db);
    f = fopen(path, "r+b");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    n = fread(text, 1, sizeof text, f);
    hit = memmem(text, n, blob, len);
    CU_ASSERT_PTR_NOT_NULL_FATAL(hit);
    fseek(f, (long)(hit - text), SEEK_SET);
    fputc(*hit ^ 4, f);
    fclose(f);
    CU_ASSERT(recorder_check(path, out, sizeof out, &e) > 0);
}

static void test_bad_places(void)
{
    struct err e = {0};
    char path[300];

    CU_ASSERT_PTR_NULL(recorder_open("/proc/nowhere/a.db", &e));
    CU_ASSERT_EQUAL(e.code, EXIT_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "/proc/nowhere/a.db"));
    if (geteuid() == 0) {
        test_skip("root may write into a read-only folder");
        return;
    }
    snprintf(path, sizeof path, "%s/locked", test_dir());
    CU_ASSERT_EQUAL(mkdir(path, 0500), 0);
    strcat(path, "/a.db");
    memset(&e, 0, sizeof e);
    CU_ASSERT_PTR_NULL(recorder_open(path, &e));
    CU_ASSERT_EQUAL(e.code, EXIT_IO);
}

/* A file that may not grow stands for a full disk: the write fails in the middle of a run. */
static void test_full_disk(void)
{
    const char *path = path_of("full.db");
    struct err e = {0};
    char out[2000];
    sqlite3 *db;
    int status;
    pid_t pid;

    one_run(path, NULL, 2, 3, 0);
    fflush(NULL);
    if ((pid = fork()) == 0) {
        const struct rlimit limit = {200 * 1024, 200 * 1024};
        const struct fixture f = {.n_request = 200, .n_strategy = 1, .repeats = 1};

        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        status = fixture_make(path, &f, &e);
        _exit(status == -1 && e.code == EXIT_IO && strstr(e.text, path) ? 0 : 1);
    }
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CU_ASSERT_EQUAL(recorder_check(path, out, sizeof out, &e), 0);
    db = reader(path);
    IS(db, "SELECT sum(is_counted) FROM v_runs", 1);             /* only the run from before */
    sqlite3_close(db);
}

static void test_bad_slo(void)
{
    struct err e = {0};
    struct recorder *r = recorder_open(path_of("a.db"), &e);

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
                                    {"damage", test_damage},
                                    {"quality rows are held to a hash of their own", test_quality_row},
                                    {"foreign", test_foreign},
                                    {"flipped-byte", test_flipped_byte},
                                    {"bad-places", test_bad_places},
                                    {"full-disk", test_full_disk},
                                    {"bad-slo", test_bad_slo},
                                    {NULL, NULL}};
const struct suite suite_results = {"results", tests, 120};
