/* test_laws.c - what `db check` holds a run to, law by law: each finds its own damage and says so. That rows were changed
 * at all is the hashes' to find (test_results.c); a program that records wrong rows hashes them as well. And what
 * becomes of token times: buckets of gaps, tokens in a window. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "results/store.h"
#include "tests/results_fixture.h"
#include "tests/test.h"

enum { REPORT = 8000, REQUESTS = 8 };

/* Whether the check of a fresh store, edited, says `words` of run 1. */
static bool found(const char *sql, const char *words)
{
    const struct fixture f = { .n_request = REQUESTS, .n_strategy = 2, .repeats = 1 };
    static char out[REPORT], path[600];
    struct err e = { 0 };
    sqlite3 *db = NULL;
    char *line, *save = NULL;

    snprintf(path, sizeof path, "%s/laws.db", test_dir());
    remove(path);
    CU_ASSERT_EQUAL_FATAL(fixture_make(path, &f, &e), 0);
    CU_ASSERT_EQUAL_FATAL(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        test_note("%s: %s", sql, sqlite3_errmsg(db));
        CU_FAIL("the edit fails");
    }
    sqlite3_close(db);
    CU_ASSERT(recorder_check(path, out, sizeof out, &e) >= 0);
    for (line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (!strncmp(line, "run 1: ", 7) && strstr(line, words))
            return true;
    return false;
}

#define REQUEST_ROWS "request rows, "
#define STEP_ROWS "step rows, "
#define TOKENS "another number of tokens than asked for"
#define INSTANTS "instants are missing or out of order"
#define TIMES "another number of token times"
#define GAPS "gaps between tokens"
#define RUN "tokens were run in steps"
#define REASON "waiting requests have no reason"
#define HELD "hold more memory than there is"
#define OVERLAP "begin before the one before has ended"
#define ONE " WHERE run_id = 1 AND request_id = 3"

static void each_law(void)
{
    static const struct { const char *sql, *words; } damage[] = {
        { "PRAGMA foreign_keys = OFF; DELETE FROM requests WHERE run_id = 1 AND request_id = 7", REQUEST_ROWS },
        { "UPDATE runs SET params_json = '{\"log\": 0}'", "8 request rows, 0 are due" },
        { "DELETE FROM steps WHERE run_id = 1 AND step_index = 5", STEP_ROWS },
        { "UPDATE steps SET step_index = 100000 WHERE run_id = 1 AND step_index = 5", STEP_ROWS },
        { "UPDATE runs SET params_json = '{\"log\": 2}'", ", 0 are due (one for each step" },
        { "UPDATE requests SET output_tokens = output_tokens - 1" ONE, TOKENS },
        { "UPDATE requests SET output_tokens = 0, finish_reason = 'stop'" ONE, TOKENS },
        { "UPDATE requests SET output_tokens = target_output_tokens + 1, finish_reason = 'stop'" ONE, TOKENS },
        { "UPDATE requests SET injected_ns = arrival_ns - 1" ONE, INSTANTS },
        { "UPDATE requests SET admitted_ns = arrival_ns - 1" ONE, INSTANTS },
        { "UPDATE requests SET first_token_ns = admitted_ns - 1" ONE, INSTANTS },
        { "UPDATE requests SET finish_ns = first_token_ns - 1" ONE, INSTANTS },
        { "UPDATE requests SET finish_ns = NULL" ONE, INSTANTS },
        { "UPDATE token_times SET delta_us = zeroblob(length(delta_us) - 4)" ONE, TIMES },
        { "UPDATE token_times SET delta_us = zeroblob(length(delta_us) + 4)" ONE, TIMES },
        { "UPDATE itl_hist SET count = count + 1", GAPS },
        { "DELETE FROM itl_hist", GAPS },
        { "DELETE FROM itl_hist; UPDATE runs SET status = 'failed'", GAPS },
        { "UPDATE steps SET decode_tokens = decode_tokens + 1 WHERE step_index = 3", RUN },
        { "UPDATE requests SET recomputed_tokens = 1" ONE, RUN },
        { "UPDATE requests SET cached_tokens = 1" ONE, RUN },
        { "UPDATE steps SET waiting = waiting + 1 WHERE step_index = 3", REASON },
        { "UPDATE steps SET wait_order = wait_order + 1 WHERE step_index = 3", REASON },
        { "UPDATE steps SET kv_slots_held = kv_slots_total + 1 WHERE step_index = 3", HELD },
        { "UPDATE steps SET kv_blocks_used = kv_blocks_total + 1 WHERE step_index = 3", HELD },
        { "UPDATE steps SET start_ns = (SELECT end_ns - 1 FROM steps s WHERE s.run_id = 1 AND s.step_index = 2) "
          "WHERE run_id = 1 AND step_index = 3", OVERLAP },
    };

    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        bool is_found = found(damage[i].sql, damage[i].words);

        if (!is_found)
            test_note("not found: %s", damage[i].sql);
        CU_ASSERT(is_found);
    }
}

/* What no law forbids: a request that was turned away needs no tokens, one that was cut off may need more, and an answer
 * may end before its length. */
static void not_too_much(void)
{
    static const struct { const char *sql, *words; } fine[] = {
        { "SELECT 1", "run 1: " },
        { "CREATE TEMP TABLE t AS SELECT * FROM requests" ONE "; UPDATE t SET request_id = 99, status = 'rejected', "
          "output_tokens = 0; INSERT INTO requests SELECT * FROM t", RUN },
        { "UPDATE requests SET status = 'censored'" ONE, RUN },
        { "UPDATE requests SET output_tokens = 1, finish_reason = 'stop'" ONE, TOKENS },
        { "UPDATE runs SET params_json = '{\"log\": 1}'; DELETE FROM steps", STEP_ROWS },
        { "UPDATE runs SET params_json = '{\"log\": 3}'", STEP_ROWS },
        { "UPDATE steps SET kv_slots_held = kv_slots_total, kv_blocks_used = kv_blocks_total", HELD },
        { "UPDATE requests SET admitted_ns = arrival_ns" ONE, INSTANTS },
    };

    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        bool is_found = found(fine[i].sql, fine[i].words);

        if (is_found)
            test_note("a finding after: %s", fine[i].sql);
        CU_ASSERT(!is_found);
    }
}

/* ---- what rows become ---- */

static sqlite3 *small_store(void)
{
    const struct fixture f = { .n_request = 40, .n_strategy = 6, .repeats = 1 };
    char path[600];
    struct err e = { 0 };
    sqlite3 *db = NULL;

    snprintf(path, sizeof path, "%s/rows.db", test_dir());
    CU_ASSERT_EQUAL_FATAL(fixture_make(path, &f, &e), 0);
    CU_ASSERT_EQUAL_FATAL(sqlite3_open(path, &db), SQLITE_OK);
    return db;
}

static int64_t ask(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *q = NULL;
    int64_t v = -1;

    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
        v = sqlite3_column_int64(q, 0);
    else
        test_note("%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_finalize(q);
    return v;
}

/* Gaps of run 5, chunked, (each request's deltas but the first) inside [lo, hi) us, and their sum. */
static int64_t gaps_in(sqlite3 *db, int64_t lo, int64_t hi, int64_t *sum)
{
    sqlite3_stmt *q = NULL;
    int64_t n = 0;

    *sum = 0;
    CU_ASSERT_EQUAL_FATAL(sqlite3_prepare_v2(db, "SELECT delta_us FROM token_times WHERE run_id = 5", -1, &q, NULL), SQLITE_OK);
    while (sqlite3_step(q) == SQLITE_ROW) {
        const unsigned char *d = sqlite3_column_blob(q, 0);

        for (int i = 1; i < sqlite3_column_bytes(q, 0) / 4; i++) {
            int64_t us = d[4 * i] | d[4 * i + 1] << 8 | d[4 * i + 2] << 16 | (int64_t)d[4 * i + 3] << 24;

            n += us >= lo && us < hi;
            *sum += us >= lo && us < hi ? us : 0;
        }
    }
    sqlite3_finalize(q);
    return n;
}

/* Every bucket holds the gaps of its own span, no wider than 1/64 of where it begins, and no gap is in two. */
static void buckets(void)
{
    sqlite3 *db = small_store();
    sqlite3_stmt *q = NULL;
    int64_t end = 0, sum, all = 0;
    int n = 0;

    CU_ASSERT_EQUAL_FATAL(sqlite3_prepare_v2(db, "SELECT lo_us, hi_us, count, sum_us FROM itl_hist WHERE run_id = 5 ORDER BY 1",
                                             -1, &q, NULL), SQLITE_OK);
    for (; sqlite3_step(q) == SQLITE_ROW; n++) {
        int64_t lo = sqlite3_column_int64(q, 0), hi = sqlite3_column_int64(q, 1), count = gaps_in(db, lo, hi, &sum);

        CU_ASSERT(lo >= end && hi > lo && (hi - lo == 1 || (hi - lo) * 64 <= lo));
        CU_ASSERT_EQUAL(sqlite3_column_int64(q, 2), count);
        CU_ASSERT_EQUAL(sqlite3_column_int64(q, 3), sum);
        end = hi;
        all += count;
    }
    test_note("%d buckets", n);
    CU_ASSERT(n > 10);
    CU_ASSERT_EQUAL(all, gaps_in(db, 0, INT64_MAX, &sum));
    sqlite3_finalize(q);
    sqlite3_close(db);
}

/* A window's ends belong to it: the instant of one token, in whole us from its request's arrival, is a window. */
static void window_is_closed(void)
{
    sqlite3 *db = small_store();
    sqlite3_stmt *q = NULL;
    int64_t last = ask(db, "SELECT max(finish_ns) FROM requests WHERE run_id = 5");

    CU_ASSERT_EQUAL(rows_window_tokens(db, 5, 0, last), ask(db, "SELECT sum(output_tokens) FROM requests WHERE run_id = 5"));
    CU_ASSERT_EQUAL_FATAL(sqlite3_prepare_v2(db, "SELECT arrival_ns, delta_us FROM requests JOIN token_times USING (run_id, "
                                             "request_id) WHERE run_id = 5 AND output_tokens > 2", -1, &q, NULL), SQLITE_OK);
    CU_ASSERT_EQUAL_FATAL(sqlite3_step(q), SQLITE_ROW);
    for (int64_t i = 0, t = sqlite3_column_int64(q, 0); i < 3; i++) {
        const unsigned char *d = (const unsigned char *)sqlite3_column_blob(q, 1) + 4 * i;

        t += 1000 * (d[0] | d[1] << 8 | d[2] << 16 | (int64_t)d[3] << 24);
        CU_ASSERT(rows_window_tokens(db, 5, t, t) >= 1);
        CU_ASSERT_EQUAL(rows_window_tokens(db, 5, t - 1, t + 1), rows_window_tokens(db, 5, t, t));
    }
    sqlite3_finalize(q);
    sqlite3_close(db);
}

static const struct test tests[] = {
    { "each law finds its own damage", each_law }, { "what no law forbids", not_too_much },
    { "gaps lie in their buckets", buckets }, { "a window has its ends", window_is_closed }, { 0 },
};
const struct suite suite_laws = { "laws", tests, 120 };
