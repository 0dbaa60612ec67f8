/* export_prometheus.c - runs as Prometheus would have scraped them at their end.
 *
 * Buckets are vLLM's (vllm/v1/metrics), so that dashboards made for a server show a replay. Requests are those that
 * arrived inside the window. Gaps between tokens come from itl_hist, whose buckets are at most 1/64 wide: a bucket
 * counts as its mean. */
#include <string.h>

#include "harness/export.h"
#include "results/db.h"

enum { LE_MAX = 24, LABELS = 1400 };
#define SECONDS "0.3", "0.5", "0.8", "1.0", "1.5", "2.0", "2.5", "5.0", "10.0", "15.0", "20.0", "30.0", "40.0", \
                "50.0", "60.0", "120.0", "240.0", "480.0", "960.0", "1920.0", "7680.0"
#define GAPS "0.01", "0.025", "0.05", "0.075", "0.1", "0.15", "0.2", "0.3", "0.4", "0.5", "0.75", "1.0", "2.5", "5.0", \
             "7.5", "10.0", "20.0", "40.0", "80.0"
#define SIZES "1", "2", "5", "10", "20", "50", "100", "200", "500", "1000", "2000", "5000", "10000", "20000", "50000", \
              "100000", "200000", "500000", "1000000", "2000000", "5000000", "10000000"
#define OF_REQUESTS " AS value, 1 AS n FROM v_requests WHERE run_id = ?1 AND is_in_window"

/* Each query gives (value, how often) for run ?1; NULL values are no samples. */
static const struct histogram { const char *name, *help, *sql, *le[LE_MAX]; } histograms[] = {
    {"vllm:time_to_first_token_seconds", "From the intended arrival to the first token.",
     "SELECT ttft_ms / 1e3" OF_REQUESTS,
     {"0.001", "0.005", "0.01", "0.02", "0.04", "0.06", "0.08", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0",
      "7.5", "10.0", "20.0", "40.0", "80.0", "160.0", "640.0", "2560.0"}},
    {"vllm:inter_token_latency_seconds", "Gaps between output tokens, the first token's wait left out.",
     "SELECT sum_us / 1e6 / count, count FROM itl_hist WHERE run_id = ?1", {GAPS}},
    {"vllm:request_time_per_output_token_seconds", "Per request, (last - first token) / (tokens - 1).",
     "SELECT tpot_ms / 1e3" OF_REQUESTS, {GAPS}},
    {"vllm:e2e_request_latency_seconds", "From the intended arrival to the last token.",
     "SELECT e2e_ms / 1e3" OF_REQUESTS, {SECONDS}},
    {"vllm:request_queue_time_seconds", "From the intended arrival to the first step.",
     "SELECT queue_ms / 1e3" OF_REQUESTS, {SECONDS}},
    {"vllm:request_prefill_time_seconds", "From the first step to the first token.",
     "SELECT (first_token_ns - admitted_ns) / 1e9" OF_REQUESTS, {SECONDS}},
    {"vllm:request_decode_time_seconds", "From the first to the last token.",
     "SELECT (finish_ns - first_token_ns) / 1e9" OF_REQUESTS, {SECONDS}},
    {"vllm:request_inference_time_seconds", "From the first step to the last token.",
     "SELECT (finish_ns - admitted_ns) / 1e9" OF_REQUESTS, {SECONDS}},
    {"vllm:request_prompt_tokens", "Prompt tokens of finished requests.",
     "SELECT iif(status = 'finished', prompt_tokens, NULL)" OF_REQUESTS, {SIZES}},
    {"vllm:request_generation_tokens", "Output tokens of finished requests.",
     "SELECT iif(status = 'finished', output_tokens, NULL)" OF_REQUESTS, {SIZES}},
    {NULL, NULL, NULL, {NULL}}
};

/* One number per row, with further labels in the second column. */
static const struct number { const char *name, *type, *help, *sql; } numbers[] = {
    {"vllm:prompt_tokens_total", "counter", "Prompt tokens of admitted requests.",
     "SELECT sum(prompt_tokens), '' FROM requests WHERE run_id = ?1 AND admitted_ns IS NOT NULL"},
    {"vllm:generation_tokens_total", "counter", "Output tokens.",
     "SELECT sum(output_tokens), '' FROM requests WHERE run_id = ?1"},
    {"vllm:num_preemptions_total", "counter", "Preemptions.",
     "SELECT sum(preempt_count), '' FROM requests WHERE run_id = ?1"},
    {"vllm:request_success_total", "counter", "Finished requests.",
     "SELECT count(*), printf('finished_reason=\"%s\"', replace(coalesce(finish_reason, ''), '\"', '')) FROM requests "
     "WHERE run_id = ?1 AND status = 'finished' GROUP BY finish_reason"},
    {"servelab_requests_total", "counter", "Requests by what became of them.",
     "SELECT count(*), printf('status=\"%s\"', status) FROM requests WHERE run_id = ?1 GROUP BY status"},
    {"servelab_cached_prompt_tokens_total", "counter", "Prompt tokens that a cache spared, over all admissions.",
     "SELECT sum(cached_tokens), '' FROM requests WHERE run_id = ?1"},
    {"servelab_recomputed_tokens_total", "counter", "Tokens run again after a preemption.",
     "SELECT sum(recomputed_tokens), '' FROM requests WHERE run_id = ?1"},
    {"servelab_slo_attainment_ratio", "gauge", "Requests within the SLO over requests that arrived.",
     "SELECT attainment_pct / 100.0, '' FROM v_runs WHERE run_id = ?1"},
    {"servelab_output_tokens_per_second", "gauge", "Tokens emitted inside the window over its length.",
     "SELECT tok_s, '' FROM v_runs WHERE run_id = ?1"},
    {"servelab_kv_peak_ratio", "gauge", "Largest share of the KV pool that requests held.",
     "SELECT kv_peak_pct / 100.0, '' FROM v_runs WHERE run_id = ?1"},
    {NULL, NULL, NULL, NULL}
};

/* Label values: backslash, quote and line break escaped; other control characters are dropped. */
static void add_label(char *to, const char *name, const char *value)
{
    size_t at = strlen(to);

    at += (size_t)snprintf(to + at, LABELS - at, "%s%s=\"", at ? "," : "", name);
    for (int n = 0; *value && n < 200 && at + 4 < LABELS; value++, n++) {
        if (*value == '\\' || *value == '"' || *value == '\n')
            to[at++] = '\\';
        if ((unsigned char)*value >= ' ' || *value == '\n')
            to[at++] = *value == '\n' ? 'n' : *value;
    }
    snprintf(to + at, LABELS - at, "\"");
}

struct exported { int64_t id; char labels[LABELS]; };

static int put_histogram(FILE *out, struct selection *s, const struct histogram *h, const struct exported *r,
                         struct err *e)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path, h->sql, e);
    double le[LE_MAX], sum = 0;
    int64_t count[LE_MAX + 1] = {0}, all = 0;
    int n = 0, rc = SQLITE_DONE;

    for (; n < LE_MAX && h->le[n]; n++)
        sscanf(h->le[n], "%lf", &le[n]);
    sqlite3_bind_int64(q, 1, r->id);
    while (q && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        double v = sqlite3_column_double(q, 0);
        int64_t times = sqlite3_column_int64(q, 1);
        int k = 0;

        if (sqlite3_column_type(q, 0) == SQLITE_NULL)
            continue;
        while (k < n && v > le[k])
            k++;
        count[k] += times;
        sum += v * (double)times;
    }
    sqlite3_finalize(q);
    if (!q || rc != SQLITE_DONE)
        return q ? db_fail(s->db, s->path, "reading samples", e) : -1;
    for (int k = 0; k <= n; k++)
        fprintf(out, "%s_bucket{%s,le=\"%s\"} %lld\n", h->name, r->labels, k < n ? h->le[k] : "+Inf",
                (long long)(all += count[k]));
    fprintf(out, "%s_sum{%s} %.9g\n%s_count{%s} %lld\n", h->name, r->labels, sum, h->name, r->labels, (long long)all);
    return 0;
}

static int put_numbers(FILE *out, struct selection *s, const struct number *m, const struct exported *r, struct err *e)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path, m->sql, e);
    int rc = SQLITE_DONE;

    sqlite3_bind_int64(q, 1, r->id);
    while (q && (rc = sqlite3_step(q)) == SQLITE_ROW)
        if (sqlite3_column_type(q, 0) != SQLITE_NULL)
            fprintf(out, "%s{%s%s%s} %.15g\n", m->name, r->labels, *column_str(q, 1) ? "," : "", column_str(q, 1),
                    sqlite3_column_double(q, 0));
    sqlite3_finalize(q);
    return !q ? -1 : rc == SQLITE_DONE ? 0 : db_fail(s->db, s->path, "reading a metric", e);
}

/* Calls `one` for each run that counts: a metric's samples must stand together, so runs are read once per metric. */
static int each_run(FILE *out, struct selection *s, const void *metric,
                    int (*one)(FILE *, struct selection *, const void *, const struct exported *, struct err *),
                    struct err *e)
{
    static const char *const label[] = {"model_name", "strategy", "trace", "run", "device", "clock", "rate"};
    sqlite3_stmt *q = db_prepare(s->db, s->path, "SELECT run_id, model, strategy, trace, run_uid, device, clock, "
                                 "printf('%g', rate_scale) FROM x_runs WHERE is_counted ORDER BY run_id", e);
    int rc = SQLITE_DONE, bad = !q;

    while (!bad && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct exported r = {.id = sqlite3_column_int64(q, 0)};

        for (int i = 0; i < 7; i++)
            add_label(r.labels, label[i], column_str(q, 1 + i));
        bad = one(out, s, metric, &r, e);
    }
    if (!bad && rc != SQLITE_DONE)
        bad = db_fail(s->db, s->path, "reading runs", e);
    sqlite3_finalize(q);
    return bad ? -1 : 0;
}

static int one_histogram(FILE *out, struct selection *s, const void *m, const struct exported *r, struct err *e)
{
    return put_histogram(out, s, m, r, e);
}

static int one_number(FILE *out, struct selection *s, const void *m, const struct exported *r, struct err *e)
{
    return put_numbers(out, s, m, r, e);
}

int export_prometheus(FILE *out, struct selection *s, struct err *e)
{
    fputs("# Written by servelab: finished replays, not a server. clock=\"virtual\": simulated, not measured.\n", out);
    for (const struct histogram *h = histograms; h->name; h++) {
        fprintf(out, "# HELP %s %s\n# TYPE %s histogram\n", h->name, h->help, h->name);
        if (each_run(out, s, h, one_histogram, e))
            return -1;
    }
    for (const struct number *m = numbers; m->name; m++) {
        fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, m->type);
        if (each_run(out, s, m, one_number, e))
            return -1;
    }
    return 0;
}
