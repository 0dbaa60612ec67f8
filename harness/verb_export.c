/* verb_export.c - an experiment for other tools: spreadsheets, dashboards, trace viewers. */
#include <errno.h>
#include <string.h>

#include "harness/export.h"
#include "harness/verb.h"
#include "results/db.h"

extern const struct verb verb_export;

static const char help[] =
    "usage: servelab export FORMAT [options]\n\n"
    "Writes an experiment's runs that count for other tools, on stdout:\n\n"
    "  csv          its table: one line per strategy and rate, medians over repeats, with a head\n"
    "  prometheus   text exposition: histograms under vLLM's names where the meaning is the same (vllm:...),\n"
    "               everything else as servelab_...; one run per label set\n"
    "  otlp         OpenTelemetry spans as OTLP/JSON: a request and its queue, prefill, decode; gen_ai.* attributes\n\n"
    "  --experiment X   name, id or 'latest' (default)\n"
    "  --out FILE       there instead of stdout\n"
    "  --db FILE        the store (default results/servelab.db)\n\n"
    "Runs on sim are written too and say clock=virtual. For rows as JSON: servelab report --json.\n\n"
    "example: servelab export prometheus --experiment latest --out replay.prom\n";

static const struct option options[] = {
    {"experiment", required_argument, NULL, 'x'}, {"out", required_argument, NULL, 'o'},
    {"db", required_argument, NULL, 'd'}, {NULL, 0, NULL, 0}
};

static const struct {
    const char *name;
    int (*write)(FILE *out, struct selection *s, struct err *e);
} formats[] = {{"csv", export_csv}, {"prometheus", export_prometheus}, {"otlp", export_otlp}};

/* In quotes when it holds what would end it; quotes are doubled. */
static void put_cell(FILE *out, const char *text)
{
    if (!text[strcspn(text, ",\"\r\n")]) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

int export_csv(FILE *out, struct selection *s, struct err *e)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path, "SELECT g.trace, g.model, g.backend, g.clock, g.rate_scale, "
                                 "g.slo_json, x.* FROM x_rows x JOIN x_groups g ON g.rowid = x.group_id ORDER BY "
                                 "x.rowid", e);
    int rc = SQLITE_DONE, n = q ? sqlite3_column_count(q) : 0;

    for (int i = 0; i < n; i++) {
        fputs(i ? "," : "", out);
        put_cell(out, sqlite3_column_name(q, i));
    }
    fputs(q ? "\n" : "", out);
    while (q && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        for (int i = 0; i < n; i++) {
            fputs(i ? "," : "", out);
            if (sqlite3_column_type(q, i) != SQLITE_NULL)
                put_cell(out, column_str(q, i));
        }
        fputc('\n', out);
    }
    sqlite3_finalize(q);
    return !q ? -1 : rc == SQLITE_DONE ? 0 : db_fail(s->db, s->path, "reading the table", e);
}

static int write_out(const char *path, size_t format, struct selection *s, struct err *e)
{
    FILE *out = path ? fopen(path, "w") : stdout;
    int bad;

    if (!out)
        return err_set(e, EXIT_IO, "%s: cannot be written: %s", path, strerror(errno));
    bad = formats[format].write(out, s, e);
    bad = (fflush(out) || ferror(out)) && !bad
              ? err_set(e, EXIT_IO, "%s: cannot be written; is the disk full?", path ? path : "stdout") : bad;
    if (path && fclose(out) && !bad)
        bad = err_set(e, EXIT_IO, "%s: cannot be written: %s", path, strerror(errno));
    return bad;
}

static int run(int argc, char **argv, struct err *e)
{
    const char *db = "results/servelab.db", *which = NULL, *path = NULL;
    struct selection s;
    bool done;
    size_t k = 0;
    int opt, bad;

    while ((opt = verb_option(&verb_export, argc, argv, options, &done, e)) != -1) {
        switch (opt) {
        case 'x': which = optarg; break;
        case 'o': path = optarg; break;
        case 'd': db = optarg; break;
        default: return -1;
        }
    }
    if (done)
        return 0;
    while (optind + 1 == argc && k < 3 && strcmp(argv[optind], formats[k].name))
        k++;
    if (optind + 1 != argc || k == 3)
        return err_set(e, EXIT_USAGE, "export: expected one of csv, prometheus, otlp; 'servelab export --help' "
                       "explains");
    if (selection_open(&s, db, which, e))
        return -1;
    bad = write_out(path, k, &s, e);
    selection_close(&s);
    return bad ? -1 : 0;
}

const struct verb verb_export = {
    .name = "export", .about = "an experiment as CSV, Prometheus metrics or OpenTelemetry spans", .help = help,
    .rank = 4, .run = run,
};
