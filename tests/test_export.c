/* test_export.c - what other tools are given: read back and compared with SQL over the same store. */
#include <jansson.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/export.h"
#include "tests/results_fixture.h"
#include "tests/test.h"

static const char *store_of(uint32_t n_strategy, uint32_t repeats)
{
    const struct fixture f = {.n_request = 40, .n_strategy = n_strategy, .repeats = repeats, .sim = true, .name = "a,\"b\"",
                              .trace = "x\"\\\n\033y"};
    static char path[600];
    struct err e = {0};

    snprintf(path, sizeof path, "%s/export.db", test_dir());
    CU_ASSERT_EQUAL_FATAL(fixture_make(path, &f, &e), 0);
    return path;
}

static const char *store(void) { return store_of(2, 2); }

static char *exported(const char *db, int (*write)(FILE *, struct selection *, struct err *))
{
    struct selection s;
    struct err e = {0};
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    CU_ASSERT_EQUAL_FATAL(selection_open(&s, db, NULL, &e), 0);
    CU_ASSERT_EQUAL(write(out, &s, &e), 0);
    if (e.code)
        test_note("%s", e.text);
    fclose(out);
    selection_close(&s);
    return text;
}

static double ask(const char *path, const char *sql)
{
    sqlite3_stmt *q = NULL;
    sqlite3 *db = NULL;
    double v = -1;

    sqlite3_open(path, &db);
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
        v = sqlite3_column_double(q, 0);
    else
        test_note("%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_finalize(q);
    sqlite3_close(db);
    return v;
}

/* Cells of one CSV line, quotes obeyed. */
static int cells(const char *line)
{
    int n = 1;
    bool in = false;

    for (; *line && (in || *line != '\n'); line++) {
        in ^= *line == '"';
        n += *line == ',' && !in;
    }
    return n;
}

static void csv(void)
{
    char *text = exported(store(), export_csv);
    const char *row = strchr(text, '\n');

    CU_ASSERT_PTR_NOT_NULL_FATAL(row);
    CU_ASSERT(strstr(text, "tok_s") && strstr(text, "tok_s") < row);
    CU_ASSERT(cells(text) > 20);
    CU_ASSERT_EQUAL(cells(row + 1), cells(text));
    CU_ASSERT(!strncmp(row + 1, "\"x\"\"\\\n", 6));              /* the quote is doubled, the break stays inside */
    free(text);
}

/* Every histogram of every run: buckets never fall, the last is the count; sums and counts as SQL has them. */
static void prometheus(void)
{
    const char *db = store();
    char *text = exported(db, export_prometheus), *save = NULL;
    double ttft = 0, tokens = 0, sum_gap = 0;
    long long last = 0, count, n_ttft = 0;
    int histograms = 0;

    CU_ASSERT_PTR_NULL(strchr(text, '\033'));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "trace=\"x\\\"\\\\\\ny\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "clock=\"virtual\""));
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        const char *value = strrchr(line, ' ');

        if (*line == '#')
            continue;
        CU_ASSERT_FATAL(value && value[-1] == '}');
        count = atoll(value);
        if (strstr(line, "_bucket{")) {
            CU_ASSERT(count >= last);
            last = count;
        } else if (strstr(line, "_count{")) {
            CU_ASSERT(count == last && count > 0);
            histograms++;
            last = 0;
        }
        if (!strncmp(line, "vllm:time_to_first_token_seconds_sum", 36))
            ttft += atof(value);
        if (!strncmp(line, "vllm:time_to_first_token_seconds_count", 38))
            n_ttft += count;
        if (!strncmp(line, "vllm:inter_token_latency_seconds_sum", 36))
            sum_gap += atof(value);
        if (!strncmp(line, "vllm:generation_tokens_total{", 29))
            tokens += atof(value);
    }
    CU_ASSERT_EQUAL(histograms, 10 * 4);
    CU_ASSERT_EQUAL(n_ttft, (long long)ask(db, "SELECT count(ttft_ms) FROM v_requests WHERE is_in_window"));
    CU_ASSERT_DOUBLE_EQUAL(ttft, ask(db, "SELECT sum(ttft_ms) / 1e3 FROM v_requests WHERE is_in_window"), 1e-6 * ttft);
    CU_ASSERT_DOUBLE_EQUAL(tokens, ask(db, "SELECT sum(output_tokens) FROM requests"), 0.5);
    CU_ASSERT_DOUBLE_EQUAL(sum_gap, ask(db, "SELECT sum(sum_us) / 1e6 FROM itl_hist"), 1e-6 * sum_gap);
    free(text);
}

/* ---- every bucket, against SQL ---- */

static const struct { const char *name, *value; } samples[] = {
    {"vllm:time_to_first_token_seconds", "ttft_ms / 1e3"}, {"vllm:e2e_request_latency_seconds", "e2e_ms / 1e3"},
    {"vllm:request_time_per_output_token_seconds", "tpot_ms / 1e3"}, {"vllm:request_queue_time_seconds", "queue_ms / 1e3"},
    {"vllm:request_prefill_time_seconds", "(first_token_ns - admitted_ns) / 1e9"},
    {"vllm:request_decode_time_seconds", "(finish_ns - first_token_ns) / 1e9"},
    {"vllm:request_inference_time_seconds", "(finish_ns - admitted_ns) / 1e9"},
    {"vllm:request_prompt_tokens", "iif(status = 'finished', prompt_tokens, NULL)"},
    {"vllm:request_generation_tokens", "iif(status = 'finished', output_tokens, NULL)"},
};

/* How many of a run's samples lie at or below le. */
static double below(const char *db, const char *name, const char *uid, const char *le)
{
    char sql[600];

    snprintf(sql, sizeof sql, "SELECT coalesce(sum(count), 0) FROM itl_hist JOIN runs USING (run_id) WHERE run_uid = '%s' AND "
             "sum_us / 1e6 / count <= %s", uid, le);
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        if (!strcmp(name, samples[i].name))
            snprintf(sql, sizeof sql, "SELECT count(*) FROM v_requests WHERE run_id = (SELECT run_id FROM runs WHERE "
                     "run_uid = '%s') AND is_in_window AND %s <= %s", uid, samples[i].value, le);
    return ask(db, sql);
}

static void label(const char *line, const char *name, char out[64])
{
    const char *at = strstr(line, name);

    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    at += strlen(name);
    snprintf(out, 64, "%.*s", (int)strcspn(at, "\""), at);
}

static void edit(const char *path, const char *sql)
{
    sqlite3 *db = NULL;

    CU_ASSERT_EQUAL_FATAL(sqlite3_open(path, &db), SQLITE_OK);
    CU_ASSERT_EQUAL(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* Prompts that lie on a bucket's limit belong to it; a request that failed is no success. */
static void prometheus_by_sql(void)
{
    const char *db = store_of(1, 1);
    char *text, *save = NULL, name[100], sql[200], uid[64], le[64];
    int buckets = 0;
    double ok = 0, want;

    edit(db, "UPDATE requests SET prompt_tokens = 20 WHERE request_id % 4 = 0; "
         "UPDATE requests SET status = 'failed', finish_reason = NULL WHERE request_id = 3");
    text = exported(db, export_prometheus);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        const char *value = strrchr(line, ' '), *end = strstr(line, "_bucket{");

        if (*line == '#')
            continue;
        label(line, ",run=\"", uid);
        if (!strncmp(line, "vllm:request_success_total{", 27))
            ok += atof(value);
        if (!strncmp(line, "servelab_slo_attainment_ratio{", 30)) {
            snprintf(sql, sizeof sql, "SELECT attainment_pct / 100 FROM v_runs WHERE run_uid = '%s'", uid);
            CU_ASSERT_DOUBLE_EQUAL(atof(value), ask(db, sql), 1e-9);
            CU_ASSERT(atof(value) <= 1);
        }
        if (!end)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(end - line), line);
        label(line, "le=\"", le);
        buckets++;
        want = below(db, name, uid, strcmp(le, "+Inf") ? le : "9e99");
        if (atof(value) != want)
            test_note("%s to %s: %s; SQL: %g", name, le, value, want);
        CU_ASSERT_EQUAL(atof(value), want);
    }
    CU_ASSERT(buckets > 10 * 19);
    CU_ASSERT_EQUAL(ok, ask(db, "SELECT count(*) FROM requests WHERE status = 'finished'"));
    free(text);
}

static int64_t when(json_t *span, const char *key)
{
    return atoll(json_string_value(json_object_get(span, key)));
}

/* A request, then its parts end to end from its start to its end, in its trace and under its id. */
static void check_spans(json_t *spans, int *requests)
{
    json_t *s, *parent = NULL;
    int64_t at = 0;
    size_t i;

    json_array_foreach(spans, i, s) {
        const char *up = json_string_value(json_object_get(s, "parentSpanId"));

        CU_ASSERT_EQUAL(strlen(json_string_value(json_object_get(s, "traceId"))), 32);
        CU_ASSERT_EQUAL(strlen(json_string_value(json_object_get(s, "spanId"))), 16);
        if (!*up) {
            CU_ASSERT(!parent || at == when(parent, "endTimeUnixNano"));
            parent = s;
            at = when(s, "startTimeUnixNano");
            ++*requests;
            CU_ASSERT(at > INT64_C(1600000000) * 1000000000);
            continue;
        }
        CU_ASSERT_STRING_EQUAL(up, json_string_value(json_object_get(parent, "spanId")));
        CU_ASSERT(json_equal(json_object_get(s, "traceId"), json_object_get(parent, "traceId")));
        CU_ASSERT_EQUAL(when(s, "startTimeUnixNano"), at);
        at = when(s, "endTimeUnixNano");
    }
    CU_ASSERT(parent && at == when(parent, "endTimeUnixNano"));
}

static double attribute(json_t *span, const char *key)
{
    json_t *list = json_object_get(span, "attributes"), *a;
    size_t i;

    json_array_foreach(list, i, a)
        if (!strcmp(json_string_value(json_object_get(a, "key")), key))
            return json_number_value(json_object_get(json_object_get(a, "value"), "doubleValue"));
    return -1;
}

/* The request's own figures are its spans'; what did not finish is an error; no two requests share a trace. */
static void check_requests(json_t *spans, json_t *traces, int *errors)
{
    json_t *s, *request = NULL;
    double queue = 0, first;
    size_t i;

    json_array_foreach(spans, i, s) {
        const char *name = json_string_value(json_object_get(s, "name"));
        double took = (double)(when(s, "endTimeUnixNano") - when(s, "startTimeUnixNano")) / 1e9;

        if (!strcmp(name, "llm_request")) {
            const char *id = json_string_value(json_object_get(s, "traceId"));

            request = s;
            CU_ASSERT_PTR_NULL(json_object_get(traces, id));
            json_object_set_new(traces, id, json_true());
            CU_ASSERT_DOUBLE_EQUAL(attribute(s, "gen_ai.latency.e2e"), took, 1e-6);
            *errors += json_integer_value(json_object_get(json_object_get(s, "status"), "code")) == 2;
        } else if (!strcmp(name, "queue")) {
            queue = took;
            CU_ASSERT_DOUBLE_EQUAL(attribute(request, "gen_ai.latency.time_in_queue"), took, 1e-6);
        } else if (!strcmp(name, "prefill")) {
            first = attribute(request, "gen_ai.latency.time_to_first_token");
            CU_ASSERT_DOUBLE_EQUAL(attribute(request, "gen_ai.latency.time_in_model_prefill"), took, 1e-6);
            CU_ASSERT_DOUBLE_EQUAL(first, queue + took, 1e-6);
        } else {
            CU_ASSERT_DOUBLE_EQUAL(attribute(request, "gen_ai.latency.time_in_model_decode"), took, 1e-6);
        }
    }
}

static void otlp(void)
{
    const char *db = store();
    char *text = (edit(db, "UPDATE requests SET status = 'failed' WHERE request_id = 3"), exported(db, export_otlp));
    json_error_t je;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &je), *list, *r;
    json_t *traces = json_object();
    int requests = 0, errors = 0;
    size_t i;

    if (!root)
        test_note("line %d: %s", je.line, je.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(root);
    list = json_object_get(root, "resourceSpans");
    CU_ASSERT_EQUAL(json_array_size(list), 4);
    json_array_foreach(list, i, r) {
        json_t *scope = json_array_get(json_object_get(r, "scopeSpans"), 0);

        check_spans(json_object_get(scope, "spans"), &requests);
        check_requests(json_object_get(scope, "spans"), traces, &errors);
    }
    CU_ASSERT_EQUAL(errors, 4);                          /* one a run */
    json_decref(traces);
    CU_ASSERT_EQUAL(requests, (int)ask(db, "SELECT count(*) FROM requests"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "gen_ai.latency.time_to_first_token"));
    json_decref(root);
    free(text);
}

static const struct test tests[] = {
    {"csv", csv}, {"prometheus", prometheus}, {"prometheus-by-sql", prometheus_by_sql}, {"otlp", otlp}, {NULL, NULL}
};
const struct suite suite_export = {"export", tests, 60};
