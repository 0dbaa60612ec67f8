/* db.h - opening the store: whose file it is, which schema, who may write; and SQLite's errors in
 * our words.
 *
 * Must stay true: a file that is not ours, or newer than we are, is recognised from its first 100
 * bytes and never opened; readers cannot write; every message names the file. */
#ifndef RESULTS_DB_H
#define RESULTS_DB_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { DB_APPLICATION_ID = 0x53564c42, DB_VERSION = 3, DB_BUSY_MS = 60000 };

/* For writing: creates the folder and the file when missing, brings the views up to date. */
sqlite3 *db_open_write(const char *path, struct err *e);
/* For reading, query only. experiment > 0: runs, requests, steps ... and all views show its runs
 * only. */
sqlite3 *db_open_read(const char *path, int64_t experiment, struct err *e);

/* The id of an experiment from "latest", a uid, an id in digits, or a name (the newest of that
 * name). */
int64_t db_experiment(sqlite3 *db, const char *path, const char *which, struct err *e);

/* Fills e from the connection: EXIT_IO for full disks, read-only and damaged files. Always returns
 * -1. */
int db_fail(sqlite3 *db, const char *path, const char *doing, struct err *e);
int db_exec(sqlite3 *db, const char *path, const char *sql, struct err *e);
/* NULL and *e when the statement is wrong. Finalised by the caller. */
sqlite3_stmt *db_prepare(sqlite3 *db, const char *path, const char *sql, struct err *e);
/* First column of the first row, or `none` when there is no row or it is NULL. */
int64_t db_int(sqlite3 *db, const char *sql, int64_t arg, int64_t none);
/* Hash over all values of a query's rows, columns from `first` on; ?1 = arg. -1 on failure. */
int db_hash(sqlite3 *db, const char *sql, int64_t arg, int first, uint64_t *hash);

/* Makes the folders above path, like mkdir -p. */
int db_make_parents(const char *path, struct err *e);

#endif
