#include "results/db.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "base/num.h"
#include "schema.sql.h"
#include "views.sql.h"

int db_fail(sqlite3 *db, const char *path, const char *doing, struct err *e)
{
    int rc = db ? sqlite3_errcode(db) & 0xff : SQLITE_NOMEM;
    const char *what = db ? sqlite3_errmsg(db) : "out of memory";
    const char *way = "";
    int code = EXIT_IO;

    if (rc == SQLITE_FULL)
        way = "; free some space or give another file with --db";
    else if (rc == SQLITE_READONLY || rc == SQLITE_CANTOPEN || rc == SQLITE_PERM)
        way = "; give a file in a folder that can be written with --db";
    else if (rc == SQLITE_BUSY || rc == SQLITE_LOCKED)
        way = "; another program has been writing to it for a minute";
    else if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB)
        way = "; the file is damaged: keep a copy, `servelab db check` says more";
    else if (rc != SQLITE_IOERR)
        code = EXIT_RUN_FAILED;
    return err_set(e, code, "%s: %s: %s%s", path, doing, what, way);
}

int db_exec(sqlite3 *db, const char *path, const char *sql, struct err *e)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0
                                                                : db_fail(db, path, "writing", e);
}

sqlite3_stmt *db_prepare(sqlite3 *db, const char *path, const char *sql, struct err *e)
{
    sqlite3_stmt *s = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
        db_fail(db, path, "preparing a statement", e);
    return s;
}

int64_t db_int(sqlite3 *db, const char *sql, int64_t arg, int64_t none)
{
    sqlite3_stmt *s = NULL;
    int64_t v = none;

    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
        return none;
    sqlite3_bind_int64(s, 1, arg);       /* no parameter: refused and harmless */
    if (sqlite3_step(s) == SQLITE_ROW && sqlite3_column_type(s, 0) != SQLITE_NULL)
        v = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return v;
}

static uint64_t hash_value(uint64_t h, sqlite3_stmt *s, int col)
{
    int type = sqlite3_column_type(s, col);
    double d;

    h = hash64(h, (uint64_t)type);
    if (type == SQLITE_INTEGER)
        return hash64(h, (uint64_t)sqlite3_column_int64(s, col));
    if (type == SQLITE_FLOAT) {
        d = sqlite3_column_double(s, col);
        return hash64_bytes(h, &d, sizeof d);
    }
    if (type == SQLITE_NULL)
        return h;
    return hash64_bytes(h, sqlite3_column_blob(s, col), (size_t)sqlite3_column_bytes(s, col));
}

int db_hash(sqlite3 *db, const char *sql, int64_t arg, int first, uint64_t *hash)
{
    sqlite3_stmt *s = NULL;
    int rc;

    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
        return -1;
    sqlite3_bind_int64(s, 1, arg);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW)
        for (int i = first; i < sqlite3_column_count(s); i++)
            *hash = hash_value(*hash, s, i);
    sqlite3_finalize(s);
    return rc == SQLITE_DONE ? 0 : -1;
}

static uint32_t be32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Whose file is it? 0: ours, *fresh when there is none yet or it is empty. Reads 100 bytes, no
 * SQLite. */
static int recognise(const char *path, bool *fresh, struct err *e)
{
    unsigned char h[100];
    FILE *f = fopen(path, "rb");
    size_t n;

    *fresh = !f && errno == ENOENT;
    if (*fresh)
        return 0;
    if (!f)
        return err_set(e, EXIT_IO, "%s: cannot be opened: %s", path, strerror(errno));
    n = fread(h, 1, sizeof h, f);
    if (ferror(f)) {
        err_set(e, EXIT_IO, "%s: cannot be read: %s", path, strerror(errno));
        fclose(f);
        return -1;
    }
    fclose(f);
    *fresh = n == 0;
    if (*fresh)
        return 0;
    if (n < sizeof h || memcmp(h, "SQLite format 3", 16) != 0)
        return err_set(e, EXIT_USAGE, "%s: not a SQLite database; left as it is", path);
    if (be32(h + 68) != DB_APPLICATION_ID)
        return err_set(e, EXIT_USAGE,
                       "%s: a database of another application (application_id %u, "
                       "ours is %u); left as it is",
                       path, be32(h + 68), (unsigned)DB_APPLICATION_ID);
    if (be32(h + 60) > DB_VERSION)
        return err_set(e, EXIT_USAGE, "%s: schema version %u is newer than this program's %d; "
                       "left as it is; use a newer servelab", path, be32(h + 60), (int)DB_VERSION);
    if (be32(h + 60) < DB_VERSION)
        return err_set(e, EXIT_USAGE, "%s: schema version %u is older than this program's %d; left as it is; give "
                       "another file (--db), and read this one with the servelab that wrote it", path, be32(h + 60),
                       (int)DB_VERSION);
    return 0;
}

int db_make_parents(const char *path, struct err *e)
{
    char *dir = strdup(path);
    int bad = 0;

    if (!dir)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    for (char *p = strchr(dir + 1, '/'); p && !bad; p = strchr(p + 1, '/')) {
        *p = '\0';
        bad = mkdir(dir, 0777) != 0 && errno != EEXIST;
        if (bad)
            err_set(e, EXIT_IO, "%s: folder %s cannot be made: %s", path, dir, strerror(errno));
        *p = '/';
    }
    free(dir);
    return bad ? -1 : 0;
}

static sqlite3 *connect_to(const char *path, int flags, struct err *e)
{
    sqlite3 *db = NULL;

    if (sqlite3_libversion_number() < 3037000) {
        err_set(e, EXIT_RUN_FAILED, "SQLite %s is too old: STRICT tables need 3.37",
                sqlite3_libversion());
        return NULL;
    }
    if (sqlite3_open_v2(path, &db, flags, NULL) != SQLITE_OK) {
        db_fail(db, path, "opening", e);
        sqlite3_close(db);
        return NULL;
    }
    sqlite3_extended_result_codes(db, 0);
    sqlite3_busy_timeout(db, DB_BUSY_MS);
    return db;
}

/* Each CREATE VIEW of views.sql, in its order: dropped and made again, optionally as TEMP views. */
static int make_views(sqlite3 *db, const char *path, const char *kind, struct err *e)
{
    static const char head[] = "CREATE VIEW ";
    const char *p = views_sql, *next;
    int bad = 0;

    for (p = strstr(p, "\nCREATE VIEW "); p && !bad; p = next) {
        const char *name = p + 1 + strlen(head);
        int name_len = (int)strcspn(name, " \n");
        char *sql;

        next = strstr(name, "\nCREATE VIEW ");
        sql = sqlite3_mprintf("DROP VIEW IF EXISTS %s.%.*s; CREATE VIEW %s.%.*s", kind, name_len,
                              name, kind, next ? (int)(next - name) : (int)strlen(name), name);
        bad = !sql || db_exec(db, path, sql, e) != 0;
        sqlite3_free(sql);
    }
    return bad ? -1 : 0;
}

static int put_views(sqlite3 *db, const char *path, struct err *e)
{
    int64_t want = (int64_t)(hash64_bytes(1, views_sql, sizeof views_sql) >> 1);
    char sql[160];

    if (db_int(db, "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'views_hash'", 0, -1) ==
        want)
        return 0;
    snprintf(sql, sizeof sql, "INSERT OR REPLACE INTO meta VALUES ('views_hash', '%lld')",
             (long long)want);
    return make_views(db, path, "main", e) || db_exec(db, path, sql, e) ? -1 : 0;
}

sqlite3 *db_open_write(const char *path, struct err *e)
{
    bool fresh, bad;
    sqlite3 *db;

    if (recognise(path, &fresh, e) || db_make_parents(path, e))
        return NULL;
    db = connect_to(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, e);
    if (!db)
        return NULL;
    bad = db_exec(db, path, "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;"
                  "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; BEGIN IMMEDIATE", e);
    /* Another process may have made the schema while we waited for the lock. */
    if (!bad && db_int(db, "PRAGMA user_version", 0, 0) == 0)
        bad = db_exec(db, path, schema_sql, e) ||
              db_exec(db, path, "INSERT INTO meta VALUES ('percentiles', 'nearest rank'),"
                      "('instants', 'ns since the start of the run')", e);
    bad = bad || put_views(db, path, e) || db_exec(db, path, "COMMIT", e);
    if (bad) {
        sqlite3_close(db);
        return NULL;
    }
    return db;
}

/* Temporary views named like the tables narrow everything above them to one experiment's runs. */
static int narrow(sqlite3 *db, const char *path, int64_t experiment, struct err *e)
{
    static const char *const child[] = {"requests", "token_times", "itl_hist", "steps"};
    char sql[256];

    snprintf(sql, sizeof sql, "CREATE TEMP VIEW runs AS SELECT * FROM main.runs WHERE "
             "experiment_id = %lld", (long long)experiment);
    if (experiment > 0 && db_exec(db, path, sql, e))
        return -1;
    for (size_t i = 0; experiment > 0 && i < sizeof child / sizeof *child; i++) {
        snprintf(sql, sizeof sql, "CREATE TEMP VIEW %s AS SELECT * FROM main.%s WHERE run_id IN "
                 "(SELECT run_id FROM main.runs WHERE experiment_id = %lld)", child[i], child[i],
                 (long long)experiment);
        if (db_exec(db, path, sql, e))
            return -1;
    }
    return make_views(db, path, "temp", e);
}

sqlite3 *db_open_read(const char *path, int64_t experiment, struct err *e)
{
    bool fresh;
    sqlite3 *db;

    if (recognise(path, &fresh, e))
        return NULL;
    if (fresh) {
        err_set(e, EXIT_USAGE, "%s: no runs recorded here yet; `servelab run` writes it", path);
        return NULL;
    }
    /* Opened for writing where possible: only then a journal left by a killed run is rolled back.
     */
    db = connect_to(path, SQLITE_OPEN_READWRITE, e);
    if (!db)
        return NULL;
    if (db_exec(db, path, "PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY", e) ||
        narrow(db, path, experiment, e) || db_exec(db, path, "PRAGMA main.query_only = ON", e)) {
        sqlite3_close(db);
        return NULL;
    }
    return db;
}

static int64_t find_experiment(sqlite3 *db, const char *sql, const char *which)
{
    sqlite3_stmt *s = NULL;
    int64_t id = 0;

    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK)
        return -1;
    sqlite3_bind_text(s, 1, which, -1, SQLITE_STATIC);
    if (sqlite3_step(s) == SQLITE_ROW)
        id = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return id;
}

int64_t db_experiment(sqlite3 *db, const char *path, const char *which, struct err *e)
{
    int64_t id, n;

    if (!which || strcmp(which, "latest") == 0) {
        id = find_experiment(db, "SELECT experiment_id FROM runs WHERE ?1 IS ?1 "
                             "ORDER BY run_id DESC LIMIT 1", NULL);
        if (id <= 0)
            err_set(e, EXIT_USAGE, "%s: no runs recorded here yet; `servelab run` writes it", path);
        return id > 0 ? id : -1;
    }
    id = find_experiment(db, "SELECT experiment_id FROM experiments WHERE name = ?1 OR "
                         "experiment_uid = ?1 ORDER BY experiment_id DESC LIMIT 1", which);
    if (id <= 0 && parse_int(which, 1, INT64_MAX, &n) == 0 &&
        db_int(db, "SELECT 1 FROM experiments WHERE experiment_id = ?1", n, 0))
        id = n;
    if (id <= 0)
        err_set(e, EXIT_USAGE, "%s: no experiment '%s'; expected a name, an id or 'latest'", path,
                which);
    return id > 0 ? id : -1;
}
