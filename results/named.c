/* named.c - the rows that runs point to: environment, model, trace, strategy, experiment; and quality. Each is a table
 * of fields, found or inserted.
 *
 * Must stay true: equal input gives equal rows except uids and created_at; an experiment is always a new row. */
#include <math.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "results/db.h"
#include "results/store.h"

enum { SQL_MAX = 4096 };

static void bind_field(sqlite3_stmt *s, int i, const struct field *f)
{
    if (f->kind == 't')
        sqlite3_bind_text(s, i, f->text, -1, SQLITE_STATIC);
    else if (f->kind == 'r')
        sqlite3_bind_double(s, i, f->real);
    else
        store_int(s, i, f->num);
}

static int64_t find_row(struct recorder *r, const char *table, const char *id,
                        const struct field *f, int n, struct err *e)
{
    char sql[SQL_MAX];
    int at = snprintf(sql, sizeof sql, "SELECT %s FROM %s WHERE ", id, table), rc;
    sqlite3_stmt *s;
    int64_t found = 0;

    for (int i = 0; i < n; i++)
        at += snprintf(sql + at, sizeof sql - (size_t)at, "%s%s IS ?", i ? " AND " : "", f[i].column);
    at += snprintf(sql + at, sizeof sql - (size_t)at, " ORDER BY 1 LIMIT 1");
    if (!(s = db_prepare(r->db, r->path, sql, e)))
        return -1;
    for (int i = 0; i < n; i++)
        bind_field(s, i + 1, &f[i]);
    if ((rc = sqlite3_step(s)) == SQLITE_ROW)
        found = sqlite3_column_int64(s, 0);
    else if (rc != SQLITE_DONE)
        found = db_fail(r->db, r->path, "looking for a row", e);
    sqlite3_finalize(s);
    return found;
}

int64_t store_row(struct recorder *r, const char *table, const struct field *f, int n, struct err *e)
{
    char sql[SQL_MAX];
    int at = snprintf(sql, sizeof sql, "INSERT INTO %s (", table), rc;
    sqlite3_stmt *s;

    for (int i = 0; i < n; i++)
        at += snprintf(sql + at, sizeof sql - (size_t)at, "%s%s", i ? "," : "", f[i].column);
    at += snprintf(sql + at, sizeof sql - (size_t)at, ") VALUES (");
    for (int i = 0; i < n; i++)
        at += snprintf(sql + at, sizeof sql - (size_t)at, "%s?", i ? "," : "");
    snprintf(sql + at, sizeof sql - (size_t)at, ")");
    if (!(s = db_prepare(r->db, r->path, sql, e)))
        return -1;
    for (int i = 0; i < n; i++)
        bind_field(s, i + 1, &f[i]);
    rc = sqlite3_step(s);
    if (rc != SQLITE_DONE)
        db_fail(r->db, r->path, "recording a row", e);
    sqlite3_finalize(s);
    return rc == SQLITE_DONE ? sqlite3_last_insert_rowid(r->db) : -1;
}

/* Rows are equal when all their fields are. */
static int64_t find_or_insert(struct recorder *r, const char *table, const char *id,
                              const struct field *f, int n, struct err *e)
{
    int64_t found = find_row(r, table, id, f, n, e);

    return found ? found : store_row(r, table, f, n, e);
}

int store_hash(struct recorder *r, const char *sql, int64_t row, uint64_t hash, struct err *e)
{
    sqlite3_stmt *s = db_prepare(r->db, r->path, sql, e);
    int rc;

    if (!s)
        return -1;
    sqlite3_bind_int64(s, 1, row);
    sqlite3_bind_int64(s, 2, (int64_t)hash);
    if ((rc = sqlite3_step(s)) != SQLITE_DONE)
        db_fail(r->db, r->path, "sealing a row", e);
    sqlite3_finalize(s);
    return rc == SQLITE_DONE ? 0 : -1;
}

/* 26 characters as in ULID: 48 bits of ms since 1970, 80 random bits, Crockford's base 32. */
void store_uid(char out[27])
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    unsigned char rnd[16] = {0};
    struct timespec now;
    uint64_t ms;

    clock_gettime(CLOCK_REALTIME, &now);
    ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    if (getrandom(rnd, sizeof rnd, 0) != (ssize_t)sizeof rnd)
        rnd[0] = (unsigned char)now.tv_nsec; /* the UNIQUE constraint catches the rest */
    for (int i = 9; i >= 0; i--, ms >>= 5)
        out[i] = digits[ms & 31];
    for (int i = 10; i < 26; i++)
        out[i] = digits[rnd[i - 10] & 31];
    out[26] = '\0';
}

void store_time(char out[32])
{
    time_t now = time(NULL);
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

int64_t recorder_environment(struct recorder *r, const struct environment_row *v, struct err *e)
{
    const struct field f[] = {
        TEXT("hostname", v->hostname), TEXT("os", v->os), TEXT("kernel", v->kernel),
        TEXT("cpu_model", v->cpu_model), TEXT("cpu_governor", v->cpu_governor),
        TEXT("compiler", v->compiler), TEXT("build_flags", v->build_flags),
        TEXT("git_commit", v->git_commit), NUM("cpu_cores", v->cpu_cores),
        NUM("ram_bytes", v->ram_bytes), NUM("is_dirty", v->is_dirty)
    };
    return find_or_insert(r, "environments", "environment_id", f, COUNT(f), e);
}

int64_t recorder_model(struct recorder *r, const struct model_row *v, struct err *e)
{
    const struct field f[] = {
        TEXT("name", v->name), TEXT("about", v->about), TEXT("weight_dtype", v->weight_dtype),
        TEXT("kv_dtype", v->kv_dtype), NUM("layers", v->layers), NUM("heads", v->heads),
        NUM("kv_heads", v->kv_heads), NUM("d_model", v->d_model), NUM("vocab_size", v->vocab_size),
        NUM("weight_bytes", v->weight_bytes), NUM("kv_bytes_per_token", v->kv_bytes_per_token),
        NUM("is_synthetic", v->is_synthetic), TEXT("sha256", v->sha256)
    };
    return find_or_insert(r, "models", "model_id", f, COUNT(f), e);
}

/* Three columns of a mean and its interval; what is not finite is not known. */
#define SPAN(c, v) REAL(c, (v)[0]), REAL(c "_lo", known((v)[1])), REAL(c "_hi", known((v)[2]))

static double known(double x) { return isfinite(x) ? x : NAN; }        /* SQLite stores NaN as NULL */

int64_t recorder_quality(struct recorder *r, const struct quality_row *v, struct err *e)
{
    const struct field f[] = {
        NUM("experiment_id", v->experiment_id), NUM("model_id", v->model_id),
        NUM("environment_id", v->environment_id), TEXT("device", v->device), TEXT("text_name", v->text_name),
        TEXT("text_sha256", v->text_sha256), NUM("is_reference", v->is_reference),
        NUM("source_quantised", v->source_quantised), NUM("window", v->window), NUM("stride", v->stride),
        NUM("scored_tokens", v->scored_tokens), NUM("windows", v->windows), SPAN("ppl", v->ppl),
        SPAN("loss_pct", v->loss_pct), SPAN("kl", v->kl), SPAN("top1_pct", v->top1_pct),
        SPAN("agree_tokens", v->agree_tokens), NUM("answers", v->answers), NUM("answers_same", v->answers_same),
        NUM("answer_tokens", v->answer_tokens), REAL("prefill_tok_s", v->prefill_tok_s),
        REAL("decode_tok_s", v->decode_tok_s), NUM("weight_bytes", v->weight_bytes),
        NUM("scale_bytes", v->scale_bytes), NUM("kv_bytes_per_token", v->kv_bytes_per_token)
    };
    uint64_t hash;
    int64_t id;

    if (db_exec(r->db, r->path, "BEGIN IMMEDIATE", e))
        return -1;
    id = store_row(r, "quality", f, COUNT(f), e);
    if (id > 0 && quality_hash(r->db, id, &hash))
        id = db_fail(r->db, r->path, "reading a row back", e);
    if (id < 0 || store_hash(r, "UPDATE quality SET row_hash = ?2 WHERE quality_id = ?1", id, hash, e) ||
        db_exec(r->db, r->path, "COMMIT", e)) {
        sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL);
        return -1;
    }
    return id;
}

int64_t recorder_trace(struct recorder *r, const struct trace_row *v, struct err *e)
{
    const struct field f[] = {TEXT("name", v->name),
                              TEXT("sha256", v->sha256),
                              TEXT("format", v->format),
                              TEXT("licence", v->licence),
                              TEXT("source", v->source),
                              NUM("request_count", v->request_count),
                              NUM("duration_ns", v->duration_ns),
                              NUM("prompt_tokens_total", v->prompt_tokens_total),
                              NUM("output_tokens_total", v->output_tokens_total),
                              REAL("prefix_share", v->prefix_share),
                              NUM("is_synthetic", v->is_synthetic)};
    return find_or_insert(r, "traces", "trace_id", f, COUNT(f), e);
}

/* The colour a name already has, else the next free one. */
static int64_t color_index(struct recorder *r, const char *name, struct err *e)
{
    sqlite3_stmt *s = db_prepare(r->db, r->path,
                                 "SELECT coalesce((SELECT color_index FROM strategies WHERE name "
                                 "= ?1 LIMIT 1), (SELECT coalesce(max(color_index) + 1, 0) FROM "
                                 "strategies))",
                                 e);
    int64_t index = -1;

    if (!s)
        return -1;
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    if (sqlite3_step(s) == SQLITE_ROW)
        index = sqlite3_column_int64(s, 0);
    else
        db_fail(r->db, r->path, "looking for a colour", e);
    sqlite3_finalize(s);
    return index;
}

int64_t recorder_strategy(struct recorder *r, const struct strategy_row *v, struct err *e)
{
    int64_t color = color_index(r, v->name, e);
    const struct field f[] = {TEXT("name", v->name),
                              TEXT("config_json", v->config_json),
                              TEXT("scheduler", v->scheduler),
                              TEXT("memory", v->memory),
                              TEXT("weight_dtype", v->weight_dtype),
                              TEXT("kv_dtype", v->kv_dtype),
                              NUM("kv_block_tokens", v->kv_block_tokens),
                              NUM("max_batch", v->max_batch),
                              NUM("token_budget", v->token_budget),
                              NUM("color_index", color)};
    return color < 0 ? -1 : find_or_insert(r, "strategies", "strategy_id", f, COUNT(f), e);
}

int64_t recorder_experiment(struct recorder *r, const struct experiment_row *v, struct err *e)
{
    char uid[27], now[32];
    const struct field f[] = {TEXT("name", v->name),
                              TEXT("spec_json", v->spec_json),
                              TEXT("command_line", v->command_line),
                              TEXT("note", v->note),
                              TEXT("experiment_uid", uid),
                              TEXT("created_at", now)};

    store_uid(uid);
    store_time(now);
    return store_row(r, "experiments", f, COUNT(f), e);
}
