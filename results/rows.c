/* rows.c - bulk rows: copied into memory blocks as the loop hands them over, written in batches.
 *
 * Must stay true: nothing here touches the disk between run_begin and run_end when `keep` is set;
 * the order of columns below is that of struct request_row and struct step_row. */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "results/db.h"
#include "results/store.h"

void store_int(sqlite3_stmt *s, int i, int64_t v)
{
    if (v == NS_NONE)
        sqlite3_bind_null(s, i);
    else
        sqlite3_bind_int64(s, i, v);
}

static int no_memory(struct recorder *r, struct err *e)
{
    r->failed = true;
    return err_set(e, EXIT_RUN_FAILED, "%s: out of memory while holding the rows of a run",
                   r->path);
}

static int not_open(const struct recorder *r, struct err *e)
{
    return err_set(e, EXIT_RUN_FAILED, "%s: rows were recorded outside a run", r->path);
}

/* A virtual run writes when enough is pending; a timed one waits for its end. */
static int maybe_flush(struct recorder *r, struct err *e)
{
    if (r->keep || ++r->n_pending < STORE_FLUSH)
        return 0;
    if (db_exec(r->db, r->path, "BEGIN IMMEDIATE", e) == 0 && rows_flush(r, e) == 0 &&
        db_exec(r->db, r->path, "COMMIT", e) == 0)
        return 0;
    r->failed = true;
    sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL);
    return -1;
}

static bool keep_str(struct arena *a, const char **s)
{
    return !*s || (*s = arena_str(a, *s)) != NULL;
}

static bool keep_request(struct recorder *r, struct request_row *row)
{
    uint32_t *d;

    if (!keep_str(&r->arena, &row->trace_request_id) || !keep_str(&r->arena, &row->session_id) ||
        !keep_str(&r->arena, &row->status) || !keep_str(&r->arena, &row->finish_reason))
        return false;
    if (!row->delta_us)
        return true;
    if (!(d = ARENA_NEW(&r->arena, uint32_t, row->n_delta)))
        return false;
    if (row->n_delta)
        memcpy(d, row->delta_us, row->n_delta * sizeof *d);
    row->delta_us = d;
    return true;
}

int recorder_request(struct recorder *r, const struct request_row *row, struct err *e)
{
    struct request_row *copy;

    if (!r->run_id)
        return not_open(r, e);
    if (!r->req_last || r->req_last->n == STORE_BLOCK) {
        struct request_block *b = ARENA_NEW(&r->arena, struct request_block, 1);

        if (!b)
            return no_memory(r, e);
        *(r->req_last ? &r->req_last->next : &r->req_first) = b;
        r->req_last = b;
    }
    copy = &r->req_last->row[r->req_last->n];
    *copy = *row;
    if (!keep_request(r, copy))
        return no_memory(r, e);
    r->req_last->n++;
    return maybe_flush(r, e);
}

int recorder_step(struct recorder *r, const struct step_row *row, struct err *e)
{
    if (!r->run_id)
        return not_open(r, e);
    if (!r->step_last || r->step_last->n == STORE_BLOCK) {
        struct step_block *b = ARENA_NEW(&r->arena, struct step_block, 1);

        if (!b)
            return no_memory(r, e);
        *(r->step_last ? &r->step_last->next : &r->step_first) = b;
        r->step_last = b;
    }
    r->step_last->row[r->step_last->n++] = *row;
    return maybe_flush(r, e);
}

static uint32_t itl_bucket(uint32_t us, uint32_t *lo, uint64_t *hi)
{
    uint32_t shift, octave;

    if (us < 128) {
        *lo = us;
        *hi = (uint64_t)us + 1;
        return us;
    }
    octave = 31 - (uint32_t)__builtin_clz(us);           /* 7 .. 31 */
    shift = octave - 6;
    *lo = us >> shift << shift;
    *hi = (uint64_t)*lo + (1u << shift);
    return 128 + (octave - 7) * 64 + (us >> shift) - 64;
}

static void count_gaps(struct recorder *r, const struct request_row *q)
{
    uint32_t lo, i;
    uint64_t hi;

    for (uint32_t k = 1; q->delta_us && k < q->n_delta; k++) {
        i = itl_bucket(q->delta_us[k], &lo, &hi);
        r->itl_count[i]++;
        r->itl_sum_us[i] += q->delta_us[k];
    }
}

static int run_statement(struct recorder *r, sqlite3_stmt *s, struct err *e)
{
    int rc = sqlite3_step(s);

    if (rc != SQLITE_DONE)
        db_fail(r->db, r->path, "recording a row", e);
    sqlite3_reset(s);
    return rc == SQLITE_DONE ? 0 : -1;
}

static int put_times(struct recorder *r, const struct request_row *q, struct err *e)
{
    sqlite3_stmt *s = r->put_times;
    unsigned char *le;

    if (r->gaps_only || !q->delta_us || !q->n_delta)
        return 0;
    if (!(le = sqlite3_malloc64((sqlite3_uint64)q->n_delta * 4)))
        return no_memory(r, e);
    for (uint32_t i = 0; i < q->n_delta; i++)
        for (uint32_t b = 0; b < 4; b++)
            le[4 * (size_t)i + b] = (unsigned char)(q->delta_us[i] >> (8 * b));
    sqlite3_bind_int64(s, 1, r->run_id);
    sqlite3_bind_int64(s, 2, q->request_id);
    sqlite3_bind_blob64(s, 3, le, (sqlite3_uint64)q->n_delta * 4, sqlite3_free);
    return run_statement(r, s, e);
}

static int put_request(struct recorder *r, const struct request_row *q, struct err *e)
{
    sqlite3_stmt *s = r->put_request;
    const int64_t v[] = {q->turn_index,
                         q->arrival_ns,
                         q->injected_ns,
                         q->admitted_ns,
                         q->first_token_ns,
                         q->finish_ns,
                         q->prompt_tokens,
                         q->cached_tokens,
                         q->output_tokens,
                         q->target_output_tokens,
                         q->slot,
                         q->preempt_count,
                         q->preempted_ns,
                         q->prefill_preempted_ns,
                         q->recomputed_tokens,
                         q->itl_max_ns};
    int n = (int)(sizeof v / sizeof *v);

    sqlite3_bind_int64(s, 1, r->run_id);
    sqlite3_bind_int64(s, 2, q->request_id);
    sqlite3_bind_text(s, 3, q->trace_request_id, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 4, q->session_id, -1, SQLITE_STATIC);
    for (int i = 0; i < n; i++)
        store_int(s, 5 + i, v[i]);
    sqlite3_bind_text(s, 5 + n, q->status, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 6 + n, q->finish_reason, -1, SQLITE_STATIC);
    if (q->has_hash)
        sqlite3_bind_int64(s, 7 + n, (int64_t)q->output_hash);
    else
        sqlite3_bind_null(s, 7 + n);
    count_gaps(r, q);
    return run_statement(r, s, e) || put_times(r, q, e) ? -1 : 0;
}

static int put_step(struct recorder *r, const struct step_row *t, struct err *e)
{
    const int64_t v[] = {
        r->run_id, t->step_index, t->start_ns, t->end_ns, t->prefill_tokens, t->decode_tokens,
        t->prefill_seqs, t->decode_seqs, t->running, t->waiting, t->kv_blocks_used,
        t->kv_blocks_total, t->kv_slots_total, t->kv_slots_held, t->kv_tokens_stored,
        t->kv_slots_future, t->preemptions, t->host_ns, t->device_ns,
        t->kv_tokens_shared, t->cache_hit_tokens, t->evicted_blocks, t->copied_tokens,
        t->swapped_out_tokens, t->swapped_in_tokens, t->wait[0], t->wait[1], t->wait[2], t->wait[3], t->wait[4],
        t->pad_rows
    };

    for (int i = 0; i < (int)(sizeof v / sizeof *v); i++)
        store_int(r->put_step, 1 + i, v[i]);
    return run_statement(r, r->put_step, e);
}

void rows_drop(struct recorder *r)
{
    arena_reset(&r->arena);
    r->step_first = r->step_last = NULL;
    r->req_first = r->req_last = NULL;
    r->n_pending = 0;
}

int rows_flush(struct recorder *r, struct err *e)
{
    int bad = 0;

    for (struct request_block *b = r->req_first; b && !bad; b = b->next)
        for (uint32_t i = 0; i < b->n && !bad; i++)
            bad = put_request(r, &b->row[i], e);
    for (struct step_block *b = r->step_first; b && !bad; b = b->next)
        for (uint32_t i = 0; i < b->n && !bad; i++)
            bad = put_step(r, &b->row[i], e);
    rows_drop(r);
    return bad;
}

int rows_put_itl(struct recorder *r, struct err *e)
{
    sqlite3_stmt *s = db_prepare(r->db, r->path, "INSERT INTO itl_hist VALUES (?,?,?,?,?)", e);
    uint64_t hi;
    uint32_t lo, last_us;
    int bad = !s;

    for (uint32_t i = 0; i < ITL_BUCKETS && !bad; i++) {
        if (!r->itl_count[i])
            continue;
        /* Any value of the bucket names it: its mean is one. */
        last_us = (uint32_t)(r->itl_sum_us[i] / r->itl_count[i]);
        itl_bucket(last_us, &lo, &hi);
        sqlite3_bind_int64(s, 1, r->run_id);
        sqlite3_bind_int64(s, 2, lo);
        sqlite3_bind_int64(s, 3, (int64_t)hi);
        sqlite3_bind_int64(s, 4, (int64_t)r->itl_count[i]);
        sqlite3_bind_int64(s, 5, (int64_t)r->itl_sum_us[i]);
        bad = run_statement(r, s, e);
    }
    sqlite3_finalize(s);
    return bad ? -1 : 0;
}

/* Tokens of one request inside [start, end]: all of them when first and last token are, else by its
 * gaps. */
static int64_t tokens_inside(sqlite3_stmt *s, int64_t start_ns, int64_t end_ns)
{
    int64_t t = sqlite3_column_int64(s, 0), n_out = sqlite3_column_int64(s, 3), inside = 0;
    const unsigned char *d = sqlite3_column_blob(s, 4);
    int n = sqlite3_column_bytes(s, 4) / 4;
    bool whole = sqlite3_column_type(s, 2) != SQLITE_NULL &&
                 sqlite3_column_int64(s, 1) >= start_ns && sqlite3_column_int64(s, 2) <= end_ns;

    if (whole || n == 0)
        return whole ? n_out : 0;
    for (int i = 0; i < n; i++, d += 4) {
        t += 1000 * (int64_t)((uint32_t)d[0] | (uint32_t)d[1] << 8 | (uint32_t)d[2] << 16 |
                              (uint32_t)d[3] << 24);
        inside += t >= start_ns && t <= end_ns;
    }
    return inside;
}

int64_t rows_window_tokens(sqlite3 *db, int64_t run_id, int64_t start_ns, int64_t end_ns)
{
    static const char sql[] =
        "SELECT arrival_ns, first_token_ns, CASE status WHEN 'finished' THEN finish_ns END, "
        "output_tokens, delta_us FROM requests LEFT JOIN token_times USING (run_id, request_id) "
        "WHERE run_id = ?1 AND first_token_ns IS NOT NULL";
    sqlite3_stmt *s = NULL;
    int64_t n = 0;
    int rc;

    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
        return -1;
    sqlite3_bind_int64(s, 1, run_id);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW)
        n += tokens_inside(s, start_ns, end_ns);
    sqlite3_finalize(s);
    return rc == SQLITE_DONE ? n : -1;
}

int rows_hash(sqlite3 *db, int64_t run_id, uint64_t *hash)
{
    *hash = 0;                           /* column 0 is run_id: equal runs have equal hashes */
    return db_hash(db, "SELECT * FROM main.requests WHERE run_id = ?1 ORDER BY 2", run_id, 1,
                   hash) ||
                   db_hash(db, "SELECT * FROM main.token_times WHERE run_id = ?1 ORDER BY 2",
                           run_id, 1, hash) ||
                   db_hash(db, "SELECT * FROM main.itl_hist WHERE run_id = ?1 ORDER BY 2", run_id,
                           1, hash) ||
                   db_hash(db, "SELECT * FROM main.steps WHERE run_id = ?1 ORDER BY 2", run_id, 1,
                           hash)
               ? -1
               : 0;
}

/* Chains in the rows that a row of `table` names: what a result was measured with is part of it. The first three
 * are named by runs and by quality, the others by runs alone. */
enum { NAMED_QUALITY = 3, NAMED_RUN = 5 };
static int named_hash(sqlite3 *db, const char *table, const char *id, int64_t row, int n, uint64_t *hash)
{
    static const char *const named[][2] = {{"experiments", "experiment_id"}, {"models", "model_id"},
                                           {"environments", "environment_id"}, {"traces", "trace_id"},
                                           {"strategies", "strategy_id"}};
    char sql[200];

    for (int i = 0; i < n; i++) {
        snprintf(sql, sizeof sql, "SELECT n.* FROM main.%s n JOIN main.%s USING (%s) WHERE %s = ?1", named[i][0],
                 table, named[i][1], id);
        if (db_hash(db, sql, row, 0, hash))
            return -1;
    }
    return 0;
}

int quality_hash(sqlite3 *db, int64_t quality_id, uint64_t *hash)
{
    *hash = 0;                           /* the first two columns are the id and row_hash itself */
    return db_hash(db, "SELECT * FROM main.quality WHERE quality_id = ?1", quality_id, 2, hash) ||
                   named_hash(db, "quality", "quality_id", quality_id, NAMED_QUALITY, hash)
               ? -1
               : 0;
}

int run_hash(sqlite3 *db, int64_t run_id, uint64_t *hash)
{
    *hash = 0;                           /* every column but run_id and run_hash itself */
    return named_hash(db, "runs", "run_id", run_id, NAMED_RUN, hash) ||
           db_hash(db,
                   "SELECT run_uid, experiment_id, trace_id, model_id, environment_id, "
                   "strategy_id,backend, device, clock, pace, loop, rate_scale, seed, "
                   "repeat_index, order_index,pair_key, slo_json, params_json, kv_bytes_asked, "
                   "kv_slots_obtained,kv_blocks_total, max_len, started_at, status, validity, "
                   "reasons, window_start_ns,window_end_ns, duration_ns, window_output_tokens, "
                   "peak_host_bytes,peak_device_bytes, step_count, idle_ns, skipped_ns, flops, "
                   "bytes, rows_hash FROM main.runs WHERE run_id = ?1",
                   run_id, 0, hash) ? -1 : 0;
}
