/* check.c - is the store whole? SQLite's own checks, the hashes of every finished run and
 * of what it names, and
 * conservation: no request, token, step or instant may be missing, doubled or out of order.
 *
 * A file that is not ours or newer is an error, not a finding: it is not opened. Runs left
 * `running` by a killed process are a note: they count nowhere. */
#include <stdarg.h>
#include <stdio.h>

#include "results/db.h"
#include "results/store.h"

struct report { char *out; size_t size, at; int problems; };

/* Each query returns (run_id, how many, ...) rows, one per broken run. Only done runs are held to
 * this. */
struct law { const char *sql, *text; };
#define LOGGED "coalesce(json_extract(params_json, '$.log'), 4)"     /* enum log_level; not said: everything */
static const struct law laws[] = {
    {"WITH r AS (SELECT run_id, " LOGGED " >= 1 AS logged, request_count FROM main.runs JOIN traces USING (trace_id) "
     "WHERE status = 'done') SELECT r.run_id, count(q.request_id) AS n, logged * request_count AS due FROM r LEFT JOIN "
     "main.requests q USING (run_id) GROUP BY r.run_id HAVING n <> due",
     "%lld request rows, %lld are due (one for each request of the trace that was logged)"},
    {"WITH r AS (SELECT run_id, " LOGGED " >= 3 AS logged, step_count FROM main.runs WHERE status = 'done') "
     "SELECT r.run_id, count(s.step_index) AS n, logged * step_count AS due FROM r LEFT JOIN main.steps s USING "
     "(run_id) GROUP BY r.run_id HAVING n <> due OR (due > 0 AND max(s.step_index) <> due - 1)",
     "%lld step rows, %lld are due (one for each step of the loop that was logged)"},
    {"SELECT run_id, count(*), 0 FROM main.requests JOIN main.runs USING (run_id) WHERE "
     "runs.status = 'done' AND requests.status = 'finished' AND (output_tokens > "
     "target_output_tokens OR output_tokens < 1 OR (finish_reason = 'length' AND output_tokens <> "
     "target_output_tokens)) GROUP BY run_id",
     "%lld finished requests with another number of tokens than asked for"},
    {"SELECT run_id, count(*), 0 FROM main.requests WHERE injected_ns < arrival_ns OR admitted_ns "
     "< arrival_ns OR first_token_ns < admitted_ns OR finish_ns < first_token_ns OR (status = "
     "'finished' AND coalesce(admitted_ns + first_token_ns + finish_ns, -1) < 0) GROUP BY run_id",
     "%lld requests whose instants are missing or out of order"},
    {"SELECT run_id, count(*), 0 FROM main.requests JOIN token_times USING (run_id, request_id) "
     "WHERE length(delta_us) <> 4 * output_tokens GROUP BY run_id",
     "%lld requests with another number of token times than tokens"},
    {"SELECT run_id, gaps, (SELECT sum(count) FROM main.itl_hist h WHERE h.run_id = x.run_id) "
     "FROM (SELECT run_id, sum(max(length(delta_us) / 4 - 1, 0)) AS gaps FROM main.token_times "
     "GROUP BY run_id) x JOIN main.runs USING (run_id) WHERE status <> 'running' AND gaps <> "
     "coalesce((SELECT sum(count) FROM main.itl_hist h WHERE h.run_id = x.run_id), 0)",
     "%lld gaps between tokens, %lld in itl_hist"},
    /* What a cache spares a preempted request the second time was run before: it is part of cached_tokens, not of due. */
    {"SELECT run_id, done, due FROM (SELECT r.run_id, (SELECT sum(prefill_tokens + decode_tokens) "
     "FROM main.steps s WHERE s.run_id = r.run_id) AS done, sum(prompt_tokens - cached_tokens + output_tokens - 1 + "
     "recomputed_tokens) AS due, sum(iif(preempt_count > 0, cached_tokens, 0)) AS again FROM main.runs r JOIN "
     "main.requests q ON q.run_id = r.run_id AND q.status = 'finished' WHERE r.status = 'done' AND NOT EXISTS (SELECT 1 "
     "FROM main.requests q WHERE q.run_id = r.run_id AND status IN ('failed', 'censored')) GROUP BY r.run_id) WHERE "
     "done NOT BETWEEN due AND due + again",
     "%lld tokens were run in steps, the requests needed %lld"},
    {"SELECT run_id, count(*), 0 FROM main.steps WHERE waiting <> wait_no_kv + wait_budget + "
     "wait_seq_cap + wait_batch_closed + wait_order GROUP BY run_id",
     "%lld steps whose waiting requests have no reason"},
    {"SELECT run_id, count(*), 0 FROM main.steps WHERE kv_slots_held > kv_slots_total OR "
     "kv_blocks_used > kv_blocks_total GROUP BY run_id",
     "%lld steps that hold more memory than there is"},
    {"SELECT run_id, count(*), 0 FROM (SELECT run_id, start_ns < lag(end_ns) OVER (PARTITION BY "
     "run_id ORDER BY step_index) AS over FROM main.steps) WHERE over GROUP BY run_id",
     "%lld steps that begin before the one before has ended"},
    {"SELECT run_id, 0, 0 FROM main.runs WHERE status = 'running' AND coalesce(run_hash, rows_hash, validity) IS NOT NULL",
     "says that it is running, but was ended"},
    {"SELECT min(run_id), max(order_index) + 1 - count(*), max(order_index) + 1 FROM main.runs GROUP BY experiment_id "
     "HAVING count(*) <> max(order_index) + 1",
     "%lld of the %lld runs that its experiment began are missing"},
};

static void say(struct report *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct report *o, const char *fmt, ...)
{
    va_list ap;
    int n;

    if (o->at + 1 >= o->size)
        return;
    va_start(ap, fmt);
    n = vsnprintf(o->out + o->at, o->size - o->at, fmt, ap);
    va_end(ap);
    o->at += n > 0 ? (size_t)n : 0;
    if (o->at >= o->size)
        o->at = o->size - 1;
}

/* Runs a query whose rows are findings of SQLite itself. */
static int pragma(sqlite3 *db, const char *sql, const char *quiet, struct report *o)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &s, NULL);

    while (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(s, 0);

        rc = SQLITE_OK;
        if (quiet && text && sqlite3_stricmp(text, quiet) == 0)
            continue;
        o->problems++;
        say(o, "%s: %s\n", quiet ? "damaged" : "row without its parent in", text ? text : "?");
    }
    sqlite3_finalize(s);
    if (rc != SQLITE_DONE) {
        o->problems++;
        say(o, "damaged: %s\n", sqlite3_errmsg(db));
    }
    return rc == SQLITE_DONE ? 0 : -1;
}

static void hold_law(sqlite3 *db, const struct law *law, struct report *o)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(db, law->sql, -1, &s, NULL);

    while (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        char line[200];

        rc = SQLITE_OK;
        o->problems++;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(line, sizeof line, law->text, sqlite3_column_int64(s, 1),
                 sqlite3_column_int64(s, 2));
#pragma GCC diagnostic pop
        say(o, "run %lld: %s\n", (long long)sqlite3_column_int64(s, 0), line);
    }
    sqlite3_finalize(s);
    if (rc != SQLITE_DONE) {
        o->problems++;
        say(o, "damaged: %s\n", sqlite3_errmsg(db));
    }
}

/* `sql` gives ids and the hashes stored for them. */
static void check_hashes(sqlite3 *db, const char *sql, int (*now)(sqlite3 *, int64_t, uint64_t *), const char *text,
                         struct report *o)
{
    sqlite3_stmt *s = NULL;
    uint64_t hash;
    int64_t id;

    sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    while (s && sqlite3_step(s) == SQLITE_ROW) {
        id = sqlite3_column_int64(s, 0);
        if (now(db, id, &hash) == 0 && (int64_t)hash == sqlite3_column_int64(s, 1))
            continue;
        o->problems++;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        say(o, text, (long long)id);
#pragma GCC diagnostic pop
    }
    sqlite3_finalize(s);
}

static void check_all_hashes(sqlite3 *db, struct report *o)
{
    check_hashes(db, "SELECT run_id, rows_hash FROM main.runs WHERE status <> 'running'", rows_hash,
                 "run %lld: its rows have changed since it was recorded\n", o);
    check_hashes(db, "SELECT run_id, run_hash FROM main.runs WHERE status <> 'running'", run_hash,
                 "run %lld: the run row, or the experiment, trace, model, environment or strategy that it names, has "
                 "changed since it was recorded\n", o);
    check_hashes(db, "SELECT quality_id, row_hash FROM main.quality", quality_hash,
                 "quality %lld: the row, or the experiment, model or environment that it names, has changed since it "
                 "was recorded\n", o);
}

int recorder_check(const char *path, char *out, size_t n, struct err *e)
{
    struct report o = {out, n, 0, 0};
    sqlite3 *db = db_open_read(path, 0, e);
    int64_t open;

    if (n)
        out[0] = '\0';
    if (!db)
        return -1;
    if (pragma(db, "PRAGMA main.integrity_check", "ok", &o) == 0) {
        pragma(db, "PRAGMA main.foreign_key_check", NULL, &o);
        for (size_t i = 0; i < sizeof laws / sizeof *laws; i++)
            hold_law(db, &laws[i], &o);
        check_all_hashes(db, &o);
    }
    open = db_int(db, "SELECT count(*) FROM main.runs WHERE status = 'running'", 0, 0);
    if (open)
        say(&o, "note: %lld runs were begun and never ended (killed, or still going); they count "
            "nowhere\n", (long long)open);
    sqlite3_close(db);
    return o.problems;
}
