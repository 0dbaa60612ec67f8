/* store.h - inside results/ only: what recorder.c (runs), named.c (what runs point to) and rows.c (bulk rows) share. */
#ifndef RESULTS_STORE_H
#define RESULTS_STORE_H

#include <sqlite3.h>

#include "base/arena.h"
#include "results/recorder.h"

enum {
    STORE_BLOCK = 256, /* rows per block of memory: no copying while a run is timed */
    STORE_FLUSH = 8192, /* pending rows that make a virtual run write */
    ITL_BUCKETS = 128 + 25 * 64 /* exact below 128 us, then 64 per octave up to 2^32 */
};
struct step_block { struct step_block *next; uint32_t n; struct step_row row[STORE_BLOCK]; };
struct request_block {
    struct request_block *next;
    uint32_t n;
    struct request_row row[STORE_BLOCK];
};

struct recorder {
    sqlite3 *db;
    char *path;
    int64_t run_id;                        /* 0: no run is open */
    bool gaps_only;                        /* token times go into the histogram alone */
    bool keep, failed; /* failed: a write was lost, the open run must not be sealed */
    struct arena arena;                    /* pending rows and their strings; reset by each flush */
    struct step_block *step_first, *step_last;
    struct request_block *req_first, *req_last;
    uint32_t n_pending;
    sqlite3_stmt *put_step, *put_request, *put_times;
    uint64_t itl_count[ITL_BUCKETS], itl_sum_us[ITL_BUCKETS];
};

/* One value of a row, with the column it goes to. A table of them is a row. */
struct field { const char *column; char kind; const char *text; int64_t num; double real; };
#define TEXT(c, v) {c, 't', (v), 0, 0}
#define NUM(c, v) {c, 'i', NULL, (v), 0}
#define REAL(c, v) {c, 'r', NULL, 0, (v)}
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* Inserts a row; its id, or -1. */
int64_t store_row(struct recorder *r, const char *table, const struct field *f, int n, struct err *e);
/* Runs `sql` with ?1 the row and ?2 its hash. */
int store_hash(struct recorder *r, const char *sql, int64_t row, uint64_t hash, struct err *e);
void store_uid(char out[27]);
void store_time(char out[32]);         /* now, UTC */

int rows_flush(struct recorder *r, struct err *e);        /* inside a transaction of the caller */
int rows_put_itl(struct recorder *r, struct err *e);
void rows_drop(struct recorder *r);
/* Tokens emitted in [start, end] by the run's requests as stored. -1 on failure. */
int64_t rows_window_tokens(sqlite3 *db, int64_t run_id, int64_t start_ns, int64_t end_ns);
/* What runs.rows_hash, runs.run_hash and quality.row_hash must be; `db check` compares. */
int rows_hash(sqlite3 *db, int64_t run_id, uint64_t *hash);
int run_hash(sqlite3 *db, int64_t run_id, uint64_t *hash);
int quality_hash(sqlite3 *db, int64_t quality_id, uint64_t *hash);

void store_int(sqlite3_stmt *s, int i, int64_t v);         /* NS_NONE becomes NULL */

#endif
