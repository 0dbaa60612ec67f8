/* experiment.c - see experiment.h: reads sweep.json, runs its parts one after the other into one store, then
 * asks checks.sql. What the SQL of an experiment sees besides the tables and views of results/:
 *   x_run    one row per run: part, place and label of its strategy, rate, run_id, last_arrival_ns
 *   x_conf   one row: is_small, scale */
#include "harness/experiment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/home.h"
#include "harness/experiment_spec.h"
#include "harness/figures.h"
#include "harness/sweep.h"
#include "results/db.h"

struct label { int64_t experiment; int place; char part[64], strategy[160], text[64]; };
struct job {
    const struct experiment_conf *c;
    struct experiment_result *r;
    struct experiment_spec spec;
    char from[4096], db[1200];
    struct label *label;               /* [n_label], from malloc */
    size_t n_label;
    struct err *e;
};

/* ---- one part ---- */

static int rates(struct sweep_conf *c, const struct experiment_part *p, bool is_small, struct err *e)
{
    json_t *list = is_small && p->small_rates ? p->small_rates : p->rates, *v;
    size_t i;

    c->rate[0] = 1;
    c->n_rate = 1;
    if (!list)
        return 0;
    if (!json_is_array(list) || !json_array_size(list) || json_array_size(list) > RATES_MAX)
        return err_set(e, EXIT_USAGE, "part %s: field 'rates': expected 1 to %d numbers", p->name,
                       RATES_MAX);
    c->n_rate = json_array_size(list);
    json_array_foreach(list, i, v) {
        c->rate[i] = json_number_value(v);
        if (!(c->rate[i] > 0))
            return err_set(e, EXIT_USAGE, "part %s: rates[%zu]: expected a number above 0", p->name, i);
    }
    return 0;
}

static int strategies(struct job *j, struct sweep_conf *c, const struct experiment_part *p)
{
    const char *label;
    json_t *v;

    json_object_foreach(p->strategies, label, v) {
        size_t before = c->n_strategy;
        struct label *l;

        if (!json_is_string(v))
            return err_set(j->e, EXIT_USAGE, "part %s: strategy '%s': expected text", p->name, label);
        if (strategies_parse(c->strategy, &c->n_strategy, json_string_value(v), j->e))
            return -1;
        if (c->n_strategy != before + 1)
            return err_set(j->e, EXIT_USAGE, "part %s: '%s' is %zu strategies; a label names one", p->name,
                           json_string_value(v), c->n_strategy - before);
        l = realloc(j->label, (j->n_label + 1) * sizeof *l);
        if (!l)
            return err_set(j->e, EXIT_RUN_FAILED, "out of memory");
        j->label = l;
        l = &j->label[j->n_label++];
        *l = (struct label){ .experiment = -1, .place = (int)before + 1 };
        snprintf(l->part, sizeof l->part, "%s", p->name);
        snprintf(l->strategy, sizeof l->strategy, "%s", c->strategy[before].name);
        snprintf(l->text, sizeof l->text, "%s", label);
    }
    return 0;
}

/* The trace of a part as a file. 1: it is not here, and r->skipped says which. */
static int trace_file(struct job *j, const struct experiment_part *p, char *path, size_t n)
{
    double scale = j->c->is_small ? p->small : 1;
    struct trace t;
    int rc;

    if (p->shared) {
        if (experiment_shared(p->shared, path, n) == 0)
            return 0;
        snprintf(j->r->skipped, sizeof j->r->skipped, "the recorded trace %.100s is not here (set "
                 "SERVELAB_SHARED to the folder that has traces/)", p->shared);
        return 1;
    }
    snprintf(path, n, "%s/%s.jsonl", j->r->dir, p->name);
    rc = experiment_trace(&t, p->trace, scale, p->name, j->e);
    if (!rc)
        rc = trace_write(&t, path, true, j->e);
    trace_free(&t);
    return rc;
}

static bool log_level(const char *word, enum log_level *out)
{
    static const char *const words[] = { "summary", "request", "gaps", "step", "token" };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(word, words[i])) {
            *out = (enum log_level)i;
            return true;
        }
    return false;
}

static int fill(struct job *j, const struct experiment_part *p, struct sweep_conf *c)
{
    bool exact = !strcmp(p->max_new, "exact");
    int64_t v = 0;

    c->device = device_find("sim", j->e);
    c->device_conf.profile = p->profile;
    c->device_note = "";
    c->model = p->model;
    c->kv_text = p->kv;
    c->max_len = (uint32_t)p->max_len;
    c->max_new_is_exact = exact;
    c->repeats = 1;
    c->seed = 1;
    c->name = p->name;
    c->note = j->spec.question;
    c->db = j->db;
    c->command_line = "servelab experiment";
    if (!log_level(p->log, &c->log))
        return err_set(j->e, EXIT_USAGE, "part %s: field 'log': '%s'; expected summary, request, gaps, step or token",
                       p->name, p->log);
    c->quiet = true;
    c->progress = PROGRESS_NEVER;
    c->has_slo = p->slo_ttft > 0 || p->slo_tpot > 0;
    c->slo = (struct slo){ .ttft_ms = p->slo_ttft, .tpot_ms = p->slo_tpot };
    if (p->limit)
        c->trace_options.limit = j->c->is_small ? (uint32_t)ceil(p->limit * p->small) : (uint32_t)p->limit;
    if (*p->max_new && !exact && (v = atoll(p->max_new)) < 1)
        return err_set(j->e, EXIT_USAGE, "part %s: field 'max_new': '%s'; expected a number or 'exact'",
                       p->name, p->max_new);
    c->max_new = (uint32_t)v;
    return c->device && !rates(c, p, j->c->is_small, j->e) && !strategies(j, c, p) ? 0 : -1;
}

static int run_part(struct job *j, const struct experiment_part *p)
{
    struct sweep_conf *c = calloc(1, sizeof *c);
    struct sweep_result r = { 0 };
    size_t first = j->n_label;
    char path[4200];
    int rc;

    if (!c)
        return err_set(j->e, EXIT_RUN_FAILED, "out of memory");
    rc = trace_file(j, p, path, sizeof path);
    if (!rc)
        rc = fill(j, p, c);
    c->trace_path = path;
    if (!rc && !j->c->quiet)
        fprintf(stderr, "%s: %s, %zu strategies x %zu rates\n", j->spec.name, p->name, c->n_strategy,
                c->n_rate);
    if (!rc)
        rc = sweep_run(c, &r, j->e);
    for (size_t i = first; i < j->n_label; i++)
        j->label[i].experiment = r.experiment_id;
    free(c);
    if (!rc && (r.n_failed || r.interrupted))
        rc = err_set(j->e, r.interrupted ? EXIT_INTERRUPTED : EXIT_RUN_FAILED, "part %s: %u of %u runs "
                     "failed%s", p->name, r.n_failed, r.n_run, r.interrupted ? "; interrupted" : "");
    return rc;
}

/* ---- what came of it ---- */

static int make_tables(struct job *j, sqlite3 *db)
{
    sqlite3_stmt *q;
    int rc = db_exec(db, j->db, "PRAGMA main.query_only = OFF;"
                     "CREATE TEMP TABLE x_label (experiment_id, part, place, strategy, label);"
                     "CREATE TEMP TABLE x_conf (is_small, scale);", j->e);

    if (rc || !(q = db_prepare(db, j->db, "INSERT INTO x_label VALUES (?1, ?2, ?3, ?4, ?5)", j->e)))
        return -1;
    for (size_t i = 0; i < j->n_label && !rc; i++) {
        const struct label *l = &j->label[i];

        sqlite3_bind_int64(q, 1, l->experiment);
        sqlite3_bind_text(q, 2, l->part, -1, SQLITE_STATIC);
        sqlite3_bind_int(q, 3, l->place);
        sqlite3_bind_text(q, 4, l->strategy, -1, SQLITE_STATIC);
        sqlite3_bind_text(q, 5, l->text, -1, SQLITE_STATIC);
        rc = sqlite3_step(q) == SQLITE_DONE ? 0 : db_fail(db, j->db, "labelling strategies", j->e);
        sqlite3_reset(q);
    }
    sqlite3_finalize(q);
    if (!rc && (q = db_prepare(db, j->db, "INSERT INTO x_conf VALUES (?1, ?2)", j->e))) {
        sqlite3_bind_int(q, 1, j->c->is_small);
        sqlite3_bind_double(q, 2, j->c->is_small ? j->spec.small : 1);
        rc = sqlite3_step(q) == SQLITE_DONE ? 0 : db_fail(db, j->db, "saying how long it is", j->e);
        sqlite3_finalize(q);
    }
    return rc ? rc : db_exec(db, j->db, "CREATE TEMP TABLE x_run AS SELECT l.part, l.place, l.label, "
                             "r.rate_scale AS rate, r.run_id, r.kv_slots_obtained AS slots, (SELECT "
                             "max(arrival_ns) FROM requests q WHERE q.run_id = r.run_id) AS "
                             "last_arrival_ns, r.window_output_tokens, r.window_end_ns, r.duration_ns "
                             "FROM runs r JOIN strategies s USING (strategy_id) JOIN x_label l ON "
                             "l.experiment_id = r.experiment_id AND l.strategy = s.name "
                             "WHERE r.status = 'done' ORDER BY r.run_id;", j->e);
}

static bool is_outside(const char *paper, double value)
{
    double low, high;
    int end = 0;

    if (sscanf(paper, "%lf to %lf%n", &low, &high, &end) == 2 && !paper[end])
        return value < low || value > high;
    return sscanf(paper, "up to %lf%n", &high, &end) == 1 && !paper[end] && value > high;
}

static void take_claim(struct experiment_result *r, sqlite3_stmt *q)
{
    struct experiment_claim *c = &r->claim[r->n];

    if (r->n == EXPERIMENT_CLAIMS)
        return;
    r->n++;
    snprintf(c->claim, sizeof c->claim, "%s", column_str(q, 0));
    c->has_value = sqlite3_column_type(q, 1) != SQLITE_NULL;
    c->value = sqlite3_column_double(q, 1);
    c->low = sqlite3_column_type(q, 2) == SQLITE_NULL ? -INFINITY : sqlite3_column_double(q, 2);
    c->high = sqlite3_column_type(q, 3) == SQLITE_NULL ? INFINITY : sqlite3_column_double(q, 3);
    snprintf(c->paper, sizeof c->paper, "%s", column_str(q, 4));
    snprintf(c->known, sizeof c->known, "%s", column_str(q, 5));
    c->held = c->has_value && c->value >= c->low && c->value <= c->high;
    c->outside = c->has_value && is_outside(c->paper, c->value);
    r->n_known += !c->held && *c->known;
    r->n_missed += !c->held && !*c->known;
}

static int ask(struct job *j, sqlite3 *db)
{
    char path[4200], *text, *sql;
    int rc = 0;

    snprintf(path, sizeof path, "%s/checks.sql", j->from);
    if (!(text = file_text(path, j->e)))
        return -1;
    for (sql = text; !rc && *sql;) {
        sqlite3_stmt *q = NULL;
        const char *rest = NULL;
        int step = SQLITE_DONE;

        if (sqlite3_prepare_v2(db, sql, -1, &q, &rest) != SQLITE_OK) {
            rc = db_fail(db, path, "preparing a check", j->e);
            break;
        }
        if (!q)
            break;
        while ((step = sqlite3_step(q)) == SQLITE_ROW && sqlite3_column_count(q) == 6)
            take_claim(j->r, q);
        if (step == SQLITE_ROW)
            rc = err_set(j->e, EXIT_USAGE, "%s: a check has the columns claim, value, low, high, paper, "
                         "known; one has %d", path, sqlite3_column_count(q));
        else if (step != SQLITE_DONE)
            rc = db_fail(db, path, "running a check", j->e);
        sqlite3_finalize(q);
        sql += rest - sql;
    }
    free(text);
    return rc;
}

static int write_claims(struct job *j)
{
    char path[1200];
    FILE *f;

    snprintf(path, sizeof path, "%s/checks.txt", j->r->dir);
    if (!(f = fopen(path, "w")))
        return err_set(j->e, EXIT_IO, "%s: cannot be written", path);
    experiment_print(f, j->r);
    return fclose(f) ? err_set(j->e, EXIT_IO, "%s: cannot be written", path) : 0;
}

static int look(struct job *j)
{
    sqlite3 *db = db_open_read(j->db, 0, j->e);
    char caption[300];
    bool mixed = false;
    int rc;

    if (!db)
        return -1;
    for (size_t i = 0; i < j->spec.n; i++) {
        const struct experiment_part *p = j->spec.part + i;

        mixed = mixed || (p->model && strcmp(p->model, j->spec.model)) ||
                (p->profile && strcmp(p->profile, j->spec.profile));
    }
    snprintf(j->r->how, sizeof j->r->how, "%.40s on sim %.40s%s (virtual clock, cost model, not measured), synthetic "
             "weights", j->spec.model, j->spec.profile, mixed ? " and, in some parts, others" : "");
    snprintf(caption, sizeof caption, "experiment %.40s%s; %s", j->spec.name, j->c->is_small ? " (short form)" : "",
             j->r->how);
    rc = make_tables(j, db) || ask(j, db) || write_claims(j) ? -1 : 0;
    if (!rc && !j->c->no_figure)
        rc = experiment_figure(db, j->db, j->from, j->r->dir, caption, &j->r->drawn, j->e) < 0 ? -1 : 0;
    sqlite3_close(db);
    return rc;
}

static int prepare(struct job *j)
{
    const struct experiment_conf *c = j->c;
    char path[4200];

    if (experiment_find(c->name, j->from, sizeof j->from, j->e))
        return -1;
    snprintf(path, sizeof path, "%s/sweep.json", j->from);
    if (experiment_spec_read(&j->spec, path, j->e))
        return -1;
    if (c->dir)
        snprintf(j->r->dir, sizeof j->r->dir, "%s", c->dir);
    else
        snprintf(j->r->dir, sizeof j->r->dir, "results/experiments/%.200s", j->spec.name);
    snprintf(j->db, sizeof j->db, "%s/runs.db", j->r->dir);
    remove(j->db);                     /* nothing is taken from an earlier run */
    if (!c->dir && (figure_folder_make("results", j->e) || figure_folder_make("results/experiments", j->e)))
        return -1;
    return figure_folder_make(j->r->dir, j->e);
}

int experiment_run(const struct experiment_conf *c, struct experiment_result *r, struct err *e)
{
    struct job *j = calloc(1, sizeof *j);
    struct stat file;
    int rc;

    memset(r, 0, sizeof *r);
    if (!j)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    *j = (struct job){ .c = c, .r = r, .e = e };
    rc = prepare(j);
    for (size_t i = 0; !rc && i < j->spec.n; i++)
        if (!c->is_small || j->spec.part[i].small > 0)
            rc = run_part(j, &j->spec.part[i]);
    if (!rc)
        rc = look(j);
    if (!rc && stat(j->db, &file) == 0)
        r->db_bytes = file.st_size;
    json_decref(j->spec.root);
    free(j->label);
    free(j);
    return rc < 0 ? -1 : 0;
}

void experiment_print(FILE *f, const struct experiment_result *r)
{
    fprintf(f, "simulated: %s\n", r->how);
    fprintf(f, "%-62s %10s %21s %14s\n", "claim", "here", "to hold", "paper");
    for (int i = 0; i < r->n; i++) {
        const struct experiment_claim *c = &r->claim[i];
        char value[24] = "-", range[32];

        if (c->has_value)
            snprintf(value, sizeof value, "%.4g", c->value);
        if (isinf(c->low) || isinf(c->high))
            snprintf(range, sizeof range, isinf(c->low) ? "<= %.4g" : ">= %.4g",
                     isinf(c->low) ? c->high : c->low);
        else
            snprintf(range, sizeof range, "%.4g to %.4g", c->low, c->high);
        fprintf(f, "%-62s %10s %21s %14s  %s%s%s\n", c->claim, value, range, c->paper,
                c->held ? c->outside ? "holds, outside the paper's range" : "holds"
                : *c->known ? "missed, known: " : "MISSED", c->held ? "" : c->known, "");
    }
}
