/* test_export.c - what other tools are given: read back and compared with SQL over the same store. */
#include <jansson.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/export.h"
#include "tests/results_fixture.h"
#include "tests/test.h"

static const char *store(void)
{
    const struct fixture f = {.n_request = 40, .n_strategy = 2, .repeats = 2, .sim = true, .name = "a,\"b\"",
                              .trace = "x\"\\\n\033y"};
    static char path[600];
    struct err e = {0};

    snprintf(path, sizeof path, "%s/export.db", test_dir());
    CU_ASSERT_EQUAL_FATAL(fixture_make(path, &f, &e), 0);
    return path;
}

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

static void otlp(void)
{
    const char *db = store();
    char *text = exported(db, export_otlp);
    json_error_t je;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &je), *list, *r;
    int requests = 0;
    size_t i;

    if (!root)
        test_note("line %d: %s", je.line, je.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(root);
    list = json_object_get(root, "resourceSpans");
    CU_ASSERT_EQUAL(json_array_size(list), 4);
    json_array_foreach(list, i, r) {
        json_t *scope = json_array_get(json_object_get(r, "scopeSpans"), 0);

        check_spans(json_object_get(scope, "spans"), &requests);
    }
    CU_ASSERT_EQUAL(requests, (int)ask(db, "SELECT count(*) FROM requests"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "gen_ai.latency.time_to_first_token"));
    json_decref(root);
    free(text);
}

static const struct test tests[] = {
    {"csv", csv}, {"prometheus", prometheus}, {"otlp", otlp}, {NULL, NULL}
};
const struct suite suite_export = {"export", tests, 60};
