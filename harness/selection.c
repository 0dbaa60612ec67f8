#include "harness/selection.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "harness/capacity.h"
#include "results/db.h"

static const char make_tables[] =
    "CREATE TEMP TABLE x_groups AS "
    "SELECT DISTINCT trace_id, trace, model, backend, device, clock, rate_scale, "
    "       coalesce(slo_json, '') AS slo_json "
    "FROM v_runs "
    "ORDER BY device = 'sim', trace_id, model, backend, slo_json, rate_scale;"

    "CREATE TEMP TABLE x_runs AS "
    "SELECT g.rowid AS group_id, l.label, r.* "
    "FROM v_runs r JOIN x_labels l USING (strategy_id) "
    "JOIN x_groups g ON g.trace_id = r.trace_id AND g.model = r.model AND g.backend = r.backend "
    " AND g.device = r.device AND g.clock = r.clock AND g.rate_scale = r.rate_scale "
    " AND g.slo_json = coalesce(r.slo_json, '');"

    "CREATE TEMP TABLE x_rows AS "
    "WITH c AS ("
    " SELECT group_id, strategy_id, max(label) AS label, max(color_index) AS color_index, "
    "        min(run_id) AS first_run, count(*) AS runs, "
    "        coalesce(sum(is_counted), 0) AS counted, "
    "        coalesce(sum(is_counted AND validity = 'suspect'), 0) AS suspect, "
    "        min(CASE WHEN is_counted THEN arrived END) AS arrived, "
    "        max(CASE WHEN is_counted THEN arrived - finished END) AS missed, "
    "        min(CASE WHEN is_counted THEN run_id END) AS run_id, "
    "        min(model_id) AS model_id, min(trace_id) AS trace_id, min(backend) AS backend, "
    "        min(device) AS device, min(clock) AS clock, min(rate_scale) AS rate_scale "
    " FROM x_runs GROUP BY group_id, strategy_id) "
    "SELECT c.group_id, c.label, c.first_run, c.runs, c.counted, c.suspect, c.arrived, c.missed, c.run_id, "
    "       s.name AS strategy, s.strategy_id, s.scheduler, s.memory, s.weight_dtype, "
    "       c.color_index, v.repeats, v.tok_s, v.tok_s_min, v.tok_s_max, v.goodput_rps, "
    "       v.attainment_pct, v.attainment_pct_min, v.attainment_pct_max, v.ttft_p50_ms, v.ttft_p90_ms, v.ttft_p95_ms, "
    "       v.ttft_p99_ms, v.tpot_p50_ms, v.tpot_p90_ms, v.tpot_p95_ms, v.tpot_p99_ms, v.e2e_p50_ms, "
    "       v.e2e_p90_ms, v.kv_peak_pct, v.kv_waste_pct, v.mean_batch, v.preemptions "
    "FROM c JOIN strategies s USING (strategy_id) "
    "LEFT JOIN v_cells v ON v.trace_id = c.trace_id AND v.model_id = c.model_id "
    " AND v.backend = c.backend AND v.device = c.device AND v.clock = c.clock "
    " AND v.rate_scale = c.rate_scale AND v.strategy_id = c.strategy_id "
    "ORDER BY c.group_id, c.color_index, c.strategy_id;"

    /* A family is one curve per strategy over rates. Where one rate is shown it is the highest at
     * which the best strategy still serves nine requests of ten within the SLO: there the
     * strategies differ most. */
    "CREATE TEMP TABLE x_families AS "
    "WITH f AS ("
    " SELECT min(rowid) AS first, trace_id, model, backend, device, clock, slo_json "
    " FROM x_groups GROUP BY trace_id, model, backend, device, clock, slo_json), "
    "c AS ("
    " SELECT g.rowid AS group_id, g.*, coalesce(max(r.attainment_pct), 100) >= 90 AS copes "
    " FROM x_groups g LEFT JOIN x_rows r ON r.group_id = g.rowid GROUP BY g.rowid) "
    "SELECT f.*, ("
    " SELECT c.group_id FROM c WHERE c.trace_id = f.trace_id AND c.model = f.model "
    "  AND c.backend = f.backend AND c.device = f.device AND c.clock = f.clock "
    "  AND c.slo_json = f.slo_json "
    " ORDER BY copes DESC, CASE WHEN copes THEN -c.rate_scale ELSE c.rate_scale END "
    " LIMIT 1) AS group_id FROM f ORDER BY first;"

    "CREATE TEMP VIEW x_tails AS "
    "SELECT g.rowid AS group_id, f.rowid AS family, "
    "       CASE WHEN sum(ttft_p99_ms IS NULL) = 0 THEN 'p99' "
    "            WHEN sum(ttft_p95_ms IS NULL) = 0 THEN 'p95' "
    "            WHEN sum(ttft_p90_ms IS NULL) = 0 THEN 'p90' ELSE 'p50' END AS tail "
    "FROM x_groups g JOIN x_families f ON g.trace_id = f.trace_id AND g.model = f.model "
    " AND g.backend = f.backend AND g.device = f.device AND g.clock = f.clock "
    " AND g.slo_json = f.slo_json "
    "LEFT JOIN x_rows r ON r.group_id = g.rowid AND r.counted > 0 GROUP BY g.rowid";

const char *column_str(sqlite3_stmt *s, int i)
{
    const char *t = (const char *)sqlite3_column_text(s, i);

    return t ? t : "";
}

void label_safe(const char *text, char *out, size_t size)
{
    size_t n = 0;

    for (; *text && n + 1 < size; text++) {
        unsigned char c = (unsigned char)*text;

        if ((c & 0xc0) == 0x80)
            continue; /* the rest of a UTF-8 letter: one '?' is enough */
        out[n++] = (c < 128 && isalnum(c)) || strchr(" +:=._,()/%-", c) ? (char)c : '?';
    }
    out[n] = '\0';
}

const char *number_str(sqlite3_stmt *s, int i, char out[24])
{
    double v = sqlite3_column_double(s, i);

    if (sqlite3_column_type(s, i) == SQLITE_NULL || !isfinite(v))
        snprintf(out, 24, "-");
    else
        snprintf(out, 24, fabs(v) < 10 ? "%.2f" : fabs(v) < 99.95 ? "%.1f" : "%.0f", v);
    return out;
}

/* The number after "key": in flat JSON that the recorder has checked; 0 when it is not there. */
static double json_number(const char *json, const char *key)
{
    const char *p = strstr(json, key);

    p = p ? strchr(p + strlen(key), ':') : NULL;
    return p ? strtod(p + 1, NULL) : 0;
}

void slo_str(const char *slo_json, char *out, size_t size)
{
    static const char *const key[] = {"ttft", "tpot", "e2e"};
    size_t at = 0;

    out[0] = '\0';
    for (int i = 0; i < 3; i++) {
        char quoted[16];
        double v;

        snprintf(quoted, sizeof quoted, "\"%s_ms\"", key[i]);
        v = json_number(slo_json, quoted);
        if (v > 0 && at < size)
            at += (size_t)snprintf(out + at, size - at, "%s<=%g ", key[i], v);
    }
    snprintf(at < size ? out + at : out, at < size ? size - at : size, at ? "ms" : "none");
}

static void bytes_str(double bytes, char out[32])
{
    snprintf(out, 32, bytes < 0x1p30 ? "%.4g MiB" : "%.4g GiB", bytes / (bytes < 0x1p30 ? 0x1p20 : 0x1p30));
}

void kv_pool_str(struct selection *s, int64_t group, bool long_form, char *out, size_t size)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path,
        "SELECT max(r.kv_slots_obtained * m.kv_bytes_per_token), max(coalesce(json_extract(x.spec_json, '$.kv'), "
        "'-')), max(coalesce(json_extract(x.spec_json, '$.device_bytes'), 0)), max(r.kv_bytes_asked) FROM x_runs g "
        "JOIN runs r USING (run_id) JOIN models m ON m.model_id = r.model_id JOIN experiments x ON x.experiment_id = "
        "r.experiment_id WHERE g.group_id = ?1", NULL);
    char has[32], share[60] = "";
    const char *kv;

    out[0] = '\0';
    if (!q)
        return;
    sqlite3_bind_int64(q, 1, group);
    if (sqlite3_step(q) == SQLITE_ROW && sqlite3_column_double(q, 0) > 0) {
        kv = column_str(q, 1);
        bytes_str(sqlite3_column_double(q, 0), has);
        if (sqlite3_column_double(q, 2) > 0)
            snprintf(share, sizeof share, ", %.2g %% of the device's memory",
                     100 * sqlite3_column_double(q, 0) / sqlite3_column_double(q, 2));
        snprintf(out, size, long_form ? "KV pool %s%s%s%s%s" : "KV pool %s", has, *kv == '-' ? "" : " (",
                 *kv == '-' ? "" : *kv ? "--kv " : "default: 4 longest sequences", *kv == '-' ? "" : kv,
                 *kv == '-' ? "" : ")");
        if (long_form)
            snprintf(out + strlen(out), size - strlen(out), "%s", share);
    }
    sqlite3_finalize(q);
}

void backend_str(const char *backend, char *out, size_t size)
{
    char *bracket;

    label_safe(backend, out, size);
    bracket = strstr(out, " (");
    if (bracket && bracket > out)
        *bracket = '\0';
}

bool near_best(double value, double best, int better)
{
    return better && value * better >= best - 0.0005 * fabs(best);
}

const char *clock_note(const char *device, const char *clock)
{
    if (strcmp(clock, "virtual") == 0)
        return strcmp(device, "sim") == 0 ? "virtual clock, cost model, not measured"
                                          : "virtual clock, not measured";
    return "";
}

/* Figures and tables are narrow: the long word of the memory managers is cut in labels. */
static void shorten(char *label)
{
    static const char word[] = "contiguous";
    char *p = strstr(label, word);

    if (p)
        memmove(p + 6, p + sizeof word - 1, strlen(p + sizeof word - 1) + 1);
}

/* Part k of "a+b+c" as a slice; length 0 when there is none. */
static const char *part(const char *name, int k, int *len)
{
    for (; k > 0 && name; k--)
        name = (name = strchr(name, '+')) ? name + 1 : NULL;
    *len = name ? (int)strcspn(name, "+") : 0;
    return name ? name : "";
}

enum { PARTS = 3, MAX_LABEL = 64 };

/* shared[k]: every strategy has the same part k, and there is more than one strategy. */
static int find_shared(struct selection *s, bool shared[PARTS], struct err *e)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path, "SELECT DISTINCT name FROM strategies JOIN runs "
                                 "USING (strategy_id) ORDER BY color_index", e);
    char first[200] = "";
    int n = 0, len, len0;

    if (!q)
        return -1;
    for (int k = 0; k < PARTS; k++)
        shared[k] = true;
    for (; sqlite3_step(q) == SQLITE_ROW; n++) {
        if (n == 0)
            snprintf(first, sizeof first, "%s", column_str(q, 0));
        for (int k = 0; k < PARTS; k++) {
            const char *a = part(first, k, &len0), *b = part(column_str(q, 0), k, &len);

            shared[k] = shared[k] && len == len0 && memcmp(a, b, (size_t)len) == 0;
        }
    }
    sqlite3_finalize(q);
    for (int k = 0; k < PARTS; k++) {
        const char *p = part(first, k, &len);

        shared[k] = shared[k] && n > 1 && len > 0;
        if (shared[k])
            snprintf(s->shared + strlen(s->shared), sizeof s->shared - strlen(s->shared), "%s%.*s",
                     *s->shared ? "+" : "", len, p);
    }
    return 0;
}

static void make_label(const char *name, const bool shared[PARTS], char *out, size_t size)
{
    char joined[256] = "";
    int len;

    for (int k = 0; k < PARTS; k++) {
        const char *p = part(name, k, &len);

        if (len && !shared[k])
            snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%.*s",
                     *joined ? "+" : "", len, p);
    }
    shorten(joined);
    label_safe(*joined ? joined : name, out, size);
}

static int label_strategies(struct selection *s, struct err *e)
{
    bool shared[PARTS];
    sqlite3_stmt *q, *put;
    char label[MAX_LABEL];
    int rc = SQLITE_DONE;

    if (find_shared(s, shared, e) ||
        db_exec(s->db, s->path,
                "CREATE TEMP TABLE x_names (strategy_id INTEGER PRIMARY KEY, label)", e))
        return -1;
    q = db_prepare(s->db, s->path, "SELECT DISTINCT strategy_id, name, CASE WHEN json_valid(config_json) THEN "
                   "json_extract(config_json, '$.label') END FROM strategies JOIN runs USING (strategy_id)", e);
    put = db_prepare(s->db, s->path, "INSERT INTO x_names VALUES (?,?)", e);
    while (q && put && rc == SQLITE_DONE && sqlite3_step(q) == SQLITE_ROW) {
        if (*column_str(q, 2))
            label_safe(column_str(q, 2), label, sizeof label);
        else
            make_label(column_str(q, 1), shared, label, sizeof label);
        sqlite3_bind_int64(put, 1, sqlite3_column_int64(q, 0));
        sqlite3_bind_text(put, 2, label, -1, SQLITE_TRANSIENT);
        rc = sqlite3_step(put);
        sqlite3_reset(put);
    }
    if (rc != SQLITE_DONE)
        db_fail(s->db, s->path, "labelling strategies", e);
    sqlite3_finalize(q);
    sqlite3_finalize(put);
    if (!q || !put || rc != SQLITE_DONE)
        return -1;
    return db_exec(s->db, s->path, "CREATE TEMP TABLE x_labels AS SELECT strategy_id, CASE WHEN count(*) OVER "
                   "(PARTITION BY label) > 1 THEN substr(label, 1, 56) || ' (' || row_number() OVER (PARTITION BY "
                   "label ORDER BY strategy_id) || ')' ELSE label END AS label FROM x_names", e);
}

static void safe_folder(const char *name, char out[65])
{
    size_t n = 0;

    for (const char *p = name; *p && n < 64; p++, n++)
        out[n] = isalnum((unsigned char)*p) || *p == '-' || (*p == '.' && n && isalnum((unsigned char)p[-1]))
                 ? *p : '_';
    out[n] = '\0';
}

/* The first experiment of a folder's name has it; later ones get their id behind it, so that no page is written over
 * another experiment's. */
static int name_it(struct selection *s, struct err *e)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path, "SELECT experiment_id = ?1, name, experiment_uid FROM experiments "
                                 "WHERE experiment_id <= ?1 ORDER BY experiment_id DESC", e);
    char mine[65] = "", other[65];

    if (!q)
        return -1;
    sqlite3_bind_int64(q, 1, s->experiment);
    while (sqlite3_step(q) == SQLITE_ROW) {
        safe_folder(column_str(q, 1), other);
        if (sqlite3_column_int(q, 0)) {
            snprintf(s->name, sizeof s->name, "%s", column_str(q, 1));
            memcpy(mine, other, sizeof mine);
            safe_folder(column_str(q, 2), other);
            snprintf(s->uid, sizeof s->uid, "%.31s", other);
        } else {
            s->n_earlier += !strcmp(mine, other);
        }
    }
    sqlite3_finalize(q);
    snprintf(s->folder, sizeof s->folder, "%s", mine);
    if (!*mine || s->n_earlier)
        snprintf(s->folder, sizeof s->folder, "%s-%lld", mine, (long long)s->experiment);
    return 0;
}

int selection_open(struct selection *s, const char *path, const char *which, struct err *e)
{
    sqlite3 *db = db_open_read(path, 0, e);

    memset(s, 0, sizeof *s);
    s->path = path;
    s->slo_share = CAPACITY_SHARE;
    if (!db)
        return -1;
    s->experiment = db_experiment(db, path, which, e);
    sqlite3_close(db);
    if (s->experiment < 0 || !(s->db = db_open_read(path, s->experiment, e)))
        return -1;
    if (name_it(s, e) || db_exec(s->db, path, "PRAGMA query_only = OFF", e) ||
        label_strategies(s, e) || db_exec(s->db, path, make_tables, e) ||
        db_exec(s->db, path, "PRAGMA query_only = ON", e)) {
        selection_close(s);
        return -1;
    }
    return 0;
}

void selection_close(struct selection *s)
{
    sqlite3_close(s->db);
    s->db = NULL;
}
