/* test_damage.c - every kind of damage to a store is found, what is no store of ours is refused and left alone, and a
 * disk that is full loses no run but the one that did not fit. */
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
#include "tests/program.h"
#include "tests/results_fixture.h"
#include "tests/test.h"

static int check_after(const char *sql)
{
    const struct fixture f = {.n_request = 8, .n_strategy = 2, .repeats = 1};
    const char *path = fixture_path("damaged.db");
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
    static const char *const damage[] = {"SELECT 1", "UPDATE quality SET ppl = 9", "UPDATE models SET about = 'x'",
                                         "UPDATE experiments SET name = 'x'", "UPDATE environments SET os = 'x'",
                                         "UPDATE traces SET name = 'x'"};        /* the first and the last are not its own */
    const struct quality_row row = {.experiment_id = 1, .model_id = 1, .environment_id = 1, .device = "cpu",
                                    .text_name = "t", .text_sha256 = "x", .ppl = {10, 9, 11}};
    const struct fixture f = {.n_request = 8, .n_strategy = 1, .repeats = 1};
    const char *path = fixture_path("quality.db");

    for (int i = 0; i < 6; i++) {
        struct err e = {0};
        struct recorder *r;
        sqlite3 *db = NULL;
        char out[4000];

        remove(path);
        CU_ASSERT_EQUAL(fixture_make(path, &f, &e), 0);
        CU_ASSERT_PTR_NOT_NULL_FATAL(r = recorder_open(path, &e));
        CU_ASSERT_EQUAL(recorder_quality(r, &row, &e), 1);
        recorder_close(r);
        CU_ASSERT_EQUAL_FATAL(sqlite3_open(path, &db), SQLITE_OK);
        CU_ASSERT_EQUAL(sqlite3_exec(db, damage[i], NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        CU_ASSERT_EQUAL(recorder_check(path, out, sizeof out, &e) > 0, i > 0);
        CU_ASSERT_EQUAL(strstr(out, "quality 1:") != NULL, i > 0 && i < 5);
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
    const char *path = fixture_path("damaged.db");
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
    const char *path = fixture_path("damaged.db");
    static unsigned char text[1 << 20], blob[64];
    struct err e = {0};
    sqlite3_stmt *s = NULL;
    sqlite3 *db;
    size_t n, len;
    unsigned char *hit;
    char out[2000];
    FILE *f;

    CU_ASSERT_EQUAL(check_after("SELECT 1"), 0);
    db = fixture_reader(path);
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
    const struct fixture before = {.n_request = 2, .n_strategy = 1, .repeats = 1};
    const char *path = fixture_path("full.db");
    struct err e = {0};
    char out[2000];
    int status;
    pid_t pid;

    CU_ASSERT_EQUAL_FATAL(fixture_make(path, &before, &e), 0);
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
    CU_ASSERT_EQUAL(db_number(path, "SELECT sum(is_counted) FROM v_runs"), 1);   /* only the run from before */
}

static const struct test tests[] = {
    {"damage", test_damage}, {"quality rows are held to a hash of their own", test_quality_row},
    {"foreign", test_foreign}, {"flipped-byte", test_flipped_byte}, {"bad-places", test_bad_places},
    {"full-disk", test_full_disk}, {NULL, NULL}
};
const struct suite suite_damage = {"damage", tests, 120};
