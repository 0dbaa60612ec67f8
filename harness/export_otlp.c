/* export_otlp.c - requests as OpenTelemetry spans in OTLP/JSON (opentelemetry-proto, trace service): ids in hex, 64-bit
 * numbers as texts.
 *
 * Attributes are those that vLLM, TensorRT-LLM and SGLang put on a request's span (gen_ai.*). Instants are the run's
 * start by the wall clock plus the run's own ns: on a virtual clock and with skipped idle time the distances are right,
 * the dates are not. Ids are hashes of the run's uid and the request: the same export has the same ids. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/hash.h"
#include "harness/export.h"
#include "harness/report.h"
#include "results/db.h"

enum { KIND_INTERNAL = 1, KIND_SERVER = 2, STATUS_OK = 1, STATUS_ERROR = 2 };

static void add(json_t *list, const char *key, const char *kind, json_t *value)
{
    json_array_append_new(list, json_pack("{s:s, s:{s:o}}", "key", key, "value", kind, value));
}

static void add_text(json_t *list, const char *key, const char *text)
{
    add(list, key, "stringValue", report_text(text));
}

static void add_whole(json_t *list, const char *key, int64_t v)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRId64, v);
    add(list, key, "intValue", json_string(text));
}

static void add_seconds(json_t *list, const char *key, int64_t ns)
{
    add(list, key, "doubleValue", json_real((double)ns / 1e9));
}

struct spans { FILE *out; uint64_t run; int64_t start_ns; bool any; };      /* start_ns: since 1970 */
enum { ARRIVED, ADMITTED, FIRST, LAST, N_INSTANT };

/* part 0 is the request, whose id the others carry as their parent's. */
static int put_span(struct spans *s, int64_t request, int part, const char *name, int64_t from, int64_t to, int status,
                    json_t *attributes)
{
    uint64_t id = hash64(s->run, (uint64_t)request);
    char trace[33], self[17], parent[17] = "", start[24], end[24];
    json_t *o;
    int bad;

    snprintf(trace, sizeof trace, "%016" PRIx64 "%016" PRIx64, id | 1, hash64(id, 0x7472));
    snprintf(self, sizeof self, "%016" PRIx64, hash64(id, 100 + (uint64_t)part) | 1);
    if (part)
        snprintf(parent, sizeof parent, "%016" PRIx64, hash64(id, 100) | 1);
    snprintf(start, sizeof start, "%" PRId64, s->start_ns + from);
    snprintf(end, sizeof end, "%" PRId64, s->start_ns + to);
    o = json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:o, s:{s:i}}", "traceId", trace, "spanId", self, "parentSpanId",
                  parent, "name", name, "kind", part ? KIND_INTERNAL : KIND_SERVER, "startTimeUnixNano", start,
                  "endTimeUnixNano", end, "attributes", attributes ? attributes : json_array(), "status", "code",
                  status);
    if (s->any)
        fputs(",\n", s->out);
    s->any = true;
    bad = !o || json_dumpf(o, s->out, JSON_COMPACT | JSON_REAL_PRECISION(12));
    json_decref(o);
    return bad ? -1 : 0;
}

/* Columns: request_id, name, prompt, output, cached, preemptions, status, reason, then the instants. */
static int put_request(struct spans *s, sqlite3_stmt *q, const char *model)
{
    static const char *const part[] = {"queue", "prefill", "decode"};
    static const char *const key[] = {"gen_ai.latency.time_in_queue", "gen_ai.latency.time_in_model_prefill",
                                      "gen_ai.latency.time_in_model_decode"};
    int64_t id = sqlite3_column_int64(q, 0), t[N_INSTANT];
    int n = 0, bad, ok = !strcmp(column_str(q, 6), "finished");
    json_t *a = json_array(), *reasons = json_pack("{s:[{s:o}]}", "values", "stringValue",
                                                   report_text(column_str(q, 7)));

    while (n < N_INSTANT && sqlite3_column_type(q, 8 + n) != SQLITE_NULL) {
        t[n] = sqlite3_column_int64(q, 8 + n);
        n++;
    }
    add_text(a, "gen_ai.request.id", column_str(q, 1));
    add_text(a, "gen_ai.response.model", model);
    add_whole(a, "gen_ai.usage.prompt_tokens", sqlite3_column_int64(q, 2));
    add_whole(a, "gen_ai.usage.completion_tokens", sqlite3_column_int64(q, 3));
    add_whole(a, "servelab.cached_tokens", sqlite3_column_int64(q, 4));
    add_whole(a, "servelab.preemptions", sqlite3_column_int64(q, 5));
    add(a, "gen_ai.response.finish_reasons", "arrayValue", reasons);
    for (int i = 0; i + 1 < n; i++)
        add_seconds(a, key[i], t[i + 1] - t[i]);
    if (n > FIRST)
        add_seconds(a, "gen_ai.latency.time_to_first_token", t[FIRST] - t[ARRIVED]);
    if (n > LAST)
        add_seconds(a, "gen_ai.latency.e2e", t[LAST] - t[ARRIVED]);
    bad = put_span(s, id, 0, "llm_request", t[ARRIVED], t[n - 1], ok ? STATUS_OK : STATUS_ERROR, a);
    for (int i = 0; i + 1 < n && !bad; i++)
        bad = put_span(s, id, 1 + i, part[i], t[i], t[i + 1], 0, NULL);
    return bad;
}

/* Columns of run: run_id, run_uid, model, strategy, trace, device, backend, clock, rate, validity, reasons, start. */
static int put_run(FILE *out, struct selection *s, sqlite3_stmt *run, struct err *e)
{
    static const char *const key[] = {"servelab.run", "gen_ai.response.model", "servelab.strategy", "servelab.trace",
                                      "servelab.device", "servelab.backend", "servelab.clock", "servelab.rate_scale",
                                      "servelab.validity", "servelab.reasons"};
    sqlite3_stmt *q = db_prepare(s->db, s->path, "SELECT request_id, coalesce(trace_request_id, request_id), "
                                 "prompt_tokens, output_tokens, cached_tokens, preempt_count, status, "
                                 "coalesce(finish_reason, ''), arrival_ns, admitted_ns, first_token_ns, finish_ns "
                                 "FROM requests WHERE run_id = ?1 ORDER BY request_id", e);
    const char *uid = column_str(run, 1);
    struct spans sp = {.out = out, .run = hash64_bytes(0x6f746c70, uid, strlen(uid)),
                       .start_ns = sqlite3_column_int64(run, 11) * INT64_C(1000000000)};
    json_t *a = json_array();
    int rc = SQLITE_DONE, bad = !q || !a;

    add_text(a, "service.name", "servelab");
    for (int i = 0; i < 10; i++)
        add_text(a, key[i], column_str(run, 1 + i));
    fputs("{\"resource\":{\"attributes\":", out);
    json_dumpf(a, out, JSON_COMPACT);
    json_decref(a);
    fputs("},\"scopeSpans\":[{\"scope\":{\"name\":\"servelab\"},\"spans\":[\n", out);
    sqlite3_bind_int64(q, 1, sqlite3_column_int64(run, 0));
    while (!bad && (rc = sqlite3_step(q)) == SQLITE_ROW)
        if (put_request(&sp, q, column_str(run, 2)))
            bad = err_set(e, EXIT_IO, "spans cannot be written; is the disk full?");
    if (!bad && rc != SQLITE_DONE)
        bad = db_fail(s->db, s->path, "reading requests", e);
    sqlite3_finalize(q);
    fputs("]}]}", out);
    return bad ? -1 : 0;
}

int export_otlp(FILE *out, struct selection *s, struct err *e)
{
    sqlite3_stmt *q = db_prepare(s->db, s->path, "SELECT x.run_id, x.run_uid, x.model, x.strategy, x.trace, x.device, "
                                 "x.backend, x.clock, printf('%g', x.rate_scale), x.validity, coalesce(x.reasons, ''), "
                                 "CAST(strftime('%s', r.started_at) AS INTEGER) FROM x_runs x JOIN runs r USING "
                                 "(run_id) WHERE x.is_counted ORDER BY x.run_id", e);
    int rc = SQLITE_DONE, bad = !q, n = 0;

    fputs("{\"resourceSpans\":[", out);
    while (!bad && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        fputs(n++ ? ",\n" : "\n", out);
        bad = put_run(out, s, q, e);
    }
    if (!bad && rc != SQLITE_DONE)
        bad = db_fail(s->db, s->path, "reading runs", e);
    sqlite3_finalize(q);
    fputs("]}\n", out);
    return bad ? -1 : 0;
}
