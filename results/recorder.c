/* recorder.c - see recorder.h: the writer and its runs, begun and ended. What runs point to is in named.c, bulk rows in
 * rows.c.
 *
 * Must stay true: a run's row says `running` until the transaction that also holds its last rows;
 * equal input gives equal rows except uids, started_at and created_at. */
#include "results/recorder.h"

#include <stdlib.h>
#include <string.h>

#include "results/db.h"
#include "results/store.h"

struct recorder *recorder_open(const char *path, struct err *e)
{
    struct recorder *r = calloc(1, sizeof *r);

    if (!r || !(r->path = strdup(path))) {
        err_set(e, EXIT_RUN_FAILED, "out of memory");
        free(r);
        return NULL;
    }
    if (!(r->db = db_open_write(path, e)))
        goto bad;
    r->put_request = db_prepare(r->db, path,
                                "INSERT INTO requests VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,"
                                "?,?,?,?,?,?,?,?,?)",
                                e);
    r->put_times = db_prepare(r->db, path, "INSERT INTO token_times VALUES (?,?,?)", e);
    r->put_step = db_prepare(r->db, path,
                             "INSERT INTO steps VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,"
                             "?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                             e);
    if (r->put_request && r->put_times && r->put_step)
        return r;
bad:
    recorder_close(r);
    return NULL;
}

void recorder_close(struct recorder *r)
{
    if (!r)
        return;
    sqlite3_finalize(r->put_request);
    sqlite3_finalize(r->put_times);
    sqlite3_finalize(r->put_step);
    sqlite3_close(r->db);
    arena_free(&r->arena);
    free(r->path);
    free(r);
}

/* The views read limits from it; text that is no JSON would break them for every run of the file.
 */
static bool slo_ok(struct recorder *r, const char *slo)
{
    sqlite3_stmt *s;
    bool ok = !slo || !*slo;

    if (ok || !(s = db_prepare(r->db, r->path, "SELECT json_valid(?1)", NULL)))
        return ok;
    sqlite3_bind_text(s, 1, slo, -1, SQLITE_STATIC);
    ok = sqlite3_step(s) == SQLITE_ROW && sqlite3_column_int(s, 0) == 1;
    sqlite3_finalize(s);
    return ok;
}

int64_t recorder_run_begin(struct recorder *r, const struct run_row *v, bool keep_in_memory,
                           struct err *e)
{
    char uid[27], now[32];
    const struct field f[] = {TEXT("run_uid", uid),
                              NUM("experiment_id", v->experiment_id),
                              NUM("trace_id", v->trace_id),
                              NUM("model_id", v->model_id),
                              NUM("environment_id", v->environment_id),
                              NUM("strategy_id", v->strategy_id),
                              TEXT("backend", v->backend),
                              TEXT("device", v->device),
                              TEXT("clock", v->clock),
                              TEXT("pace", v->pace),
                              TEXT("loop", v->loop),
                              REAL("rate_scale", v->rate_scale),
                              NUM("seed", v->seed),
                              NUM("repeat_index", v->repeat_index),
                              NUM("order_index", v->order_index),
                              TEXT("pair_key", v->pair_key),
                              TEXT("slo_json", v->slo_json && *v->slo_json ? v->slo_json : NULL),
                              TEXT("params_json", v->params_json),
                              NUM("kv_bytes_asked", v->kv_bytes_asked),
                              NUM("kv_slots_obtained", v->kv_slots_obtained),
                              NUM("kv_blocks_total", v->kv_blocks_total),
                              NUM("max_len", v->max_len),
                              TEXT("started_at", now),
                              TEXT("status", "running")};
    int64_t id;

    if (r->run_id)
        return err_set(e, EXIT_RUN_FAILED, "%s: a run was begun inside another", r->path);
    if (!slo_ok(r, v->slo_json))
        return err_set(e, EXIT_RUN_FAILED, "%s: slo_json is not JSON: %s", r->path, v->slo_json);
    store_uid(uid);
    store_time(now);
    rows_drop(r);
    memset(r->itl_count, 0, sizeof r->itl_count);
    memset(r->itl_sum_us, 0, sizeof r->itl_sum_us);
    if ((id = store_row(r, "runs", f, COUNT(f), e)) < 0)
        return -1;
    r->keep = keep_in_memory;
    r->gaps_only = v->gaps_only;
    r->failed = false;
    return r->run_id = id;
}

static int flip(struct recorder *r, const struct run_end *v, int64_t tokens, int64_t hash,
                struct err *e)
{
    sqlite3_stmt *s = db_prepare(r->db, r->path,
                                 "UPDATE runs SET status = ?2, validity = ?3, reasons = ?4, "
                                 "window_start_ns = ?5,window_end_ns = ?6, duration_ns = ?7, "
                                 "window_output_tokens = ?8, peak_host_bytes = "
                                 "?9,peak_device_bytes = ?10, step_count = ?11, idle_ns = ?12, "
                                 "skipped_ns = ?13, flops = ?14,bytes = ?15, rows_hash = ?16 "
                                 "WHERE run_id = ?1",
                                 e);
    const int64_t num[] = {
        v->window_start_ns, v->window_end_ns, v->duration_ns, tokens, v->peak_host_bytes,
        v->peak_device_bytes, v->steps, v->idle_ns, v->skipped_ns
    };
    int rc;

    if (!s)
        return -1;
    sqlite3_bind_int64(s, 1, r->run_id);
    sqlite3_bind_text(s, 2, v->status, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 3, v->validity, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 4, v->reasons, -1, SQLITE_STATIC);
    for (int i = 0; i < COUNT(num); i++)
        store_int(s, 5 + i, num[i]);
    sqlite3_bind_double(s, 14, v->flops);
    sqlite3_bind_double(s, 15, v->bytes);
    sqlite3_bind_int64(s, 16, hash);
    if ((rc = sqlite3_step(s)) != SQLITE_DONE)
        db_fail(r->db, r->path, "ending a run", e);
    sqlite3_finalize(s);
    return rc == SQLITE_DONE ? 0 : -1;
}

/* The run's hash covers the flipped row, so it goes in last. */
static int seal(struct recorder *r, struct err *e)
{
    uint64_t hash;

    if (run_hash(r->db, r->run_id, &hash))
        return db_fail(r->db, r->path, "reading a run back", e);
    return store_hash(r, "UPDATE runs SET run_hash = ?2 WHERE run_id = ?1", r->run_id, hash, e);
}

static int end_run(struct recorder *r, const struct run_end *v, struct err *e)
{
    int64_t tokens;
    uint64_t hash;

    if (rows_flush(r, e) || rows_put_itl(r, e))
        return -1;
    tokens = rows_window_tokens(r->db, r->run_id, v->window_start_ns, v->window_end_ns);
    if (tokens < 0 || rows_hash(r->db, r->run_id, &hash))
        return db_fail(r->db, r->path, "reading a run back", e);
    return flip(r, v, tokens, (int64_t)hash, e) || seal(r, e) ? -1 : 0;
}

int recorder_run_end(struct recorder *r, const struct run_end *v, struct err *e)
{
    int bad;

    if (!r->run_id || r->failed) {
        err_set(e, EXIT_RUN_FAILED, "%s: a run was ended that %s", r->path,
                r->failed ? "has lost rows" : "was never begun");
        r->run_id = 0;
        return -1;
    }
    bad = db_exec(r->db, r->path, "BEGIN IMMEDIATE", e) || end_run(r, v, e) ||
          db_exec(r->db, r->path, "COMMIT", e);
    if (bad)
        sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL);
    rows_drop(r);
    r->run_id = 0;
    return bad ? -1 : 0;
}
