/* test_trace.c - a trace in memory: what is written reads back the same, choices are counted,
 * tokens follow from block identity, figures are what a hand computes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "tests/test.h"
#include "workloads/trace.h"

static const char *put_text(const char *text)
{
    static char path[4096];
    FILE *f;

    snprintf(path, sizeof path, "%s/input", test_dir());
    f = fopen(path, "wb");
    CU_ASSERT_FATAL(f && fputs(text, f) >= 0 && !fclose(f));
    return path;
}

static int read_text(struct trace *t, const char *text, const struct trace_options *o)
{
    struct err e = { 0 };

    if (!trace_read(t, put_text(text), o, &e))
        return 0;
    test_note("%s", e.text);
    CU_FAIL("refused");
    return -1;
}

static bool same_text(const char *a, const char *b)
{
    return (!a && !b) || (a && b && !strcmp(a, b));
}

static bool same_slo(const struct slo *a, const struct slo *b)
{
    return fabs(a->ttft_ms - b->ttft_ms) + fabs(a->tpot_ms - b->tpot_ms) +
               fabs(a->e2e_ms - b->e2e_ms) <=
           0;
}

static bool same_more(const struct trace_req *p, const struct trace_req *q)
{
    static const struct trace_more none = { .think_s = -1 };
    const struct trace_more *a = p->more ? p->more : &none, *b = q->more ? q->more : &none;

    return same_text(a->session, b->session) && same_text(a->after, b->after) &&
           same_text(a->model, b->model) && same_text(a->tenant, b->tenant) &&
           same_text(a->prefix_group, b->prefix_group) && same_text(a->prompt, b->prompt) &&
           same_text(a->ext, b->ext) && same_text(a->observed, b->observed) &&
           fabs(a->think_s - b->think_s) <= 0 && a->turn == b->turn && a->priority == b->priority &&
           a->prefix_tokens == b->prefix_tokens && same_slo(&a->slo, &b->slo) &&
           !a->prompt_ids == !b->prompt_ids &&
           (!a->prompt_ids ||
            !memcmp(a->prompt_ids, b->prompt_ids, p->n_prompt * sizeof(uint32_t)));
}

static bool same_rows(const struct trace *a, const struct trace *b)
{
    char x[24], y[24];

    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++) {
        const struct trace_req *p = &a->req[i], *q = &b->req[i];

        if (p->arrive_us != q->arrive_us || p->n_prompt != q->n_prompt || p->n_out != q->n_out ||
            p->n_block != q->n_block || strcmp(trace_id(a, i, x), trace_id(b, i, y)) ||
            (p->n_block && memcmp(p->block, q->block, p->n_block * sizeof *p->block)) ||
            !same_more(p, q))
            return false;
    }
    return true;
}

static bool same_header(const struct trace *a, const struct trace *b)
{
    return !strcmp(a->name, b->name) && !strcmp(a->source, b->source) &&
           !strcmp(a->licence, b->licence) && !strcmp(a->recipe, b->recipe) &&
           !strcmp(a->tokenizer, b->tokenizer) && a->is_synthetic == b->is_synthetic &&
           a->block_tokens == b->block_tokens && a->block_tail_partial == b->block_tail_partial &&
           a->block_scope_session == b->block_scope_session &&
           !strcmp(a->time_zero, b->time_zero) && fabs(a->time_step_s - b->time_step_s) <= 0 &&
           same_slo(&a->slo, &b->slo) && !strcmp(a->header_extra, b->header_extra);
}

/* Writes t in both spellings and reads it back. */
static void check_round_trip(const struct trace *t)
{
    for (int jsonl = 0; jsonl < 2; jsonl++) {
        struct err e = { 0 };
        struct trace back;
        char path[4096];

        snprintf(path, sizeof path, "%s/round", test_dir());
        if (trace_write(t, path, jsonl, &e) || trace_read(&back, path, NULL, &e)) {
            test_note("%s", e.text);
            CU_FAIL("round trip");
            return;
        }
        CU_ASSERT(same_rows(t, &back));
        CU_ASSERT(same_header(t, &back));
        trace_free(&back);
    }
}

static const char everything[] =
    "\xef\xbb\xbf{ \"schema\": \"serving-trace/1\", \"name\":\"all \\\"é\\\" \\\\\", "
    "\"count\":4.0,\n"
    "\"source\":{\"format\":\"x\",\"rows\":\"1-3\",\"licence\":\"CC0-1.0\"},\"time_zero\":"
    "\"2023-11-16T18:15:46.680590\",\"time_zone\":\"+01:00\",\"time_step_s\":1e-6,\"tokenizer\":"
    "\"t\",\n"
    "\"block_tokens\":4,\"block_tail\":\"full\",\"block_scope\":\"session\",\"is_synthetic\":true,"
    "\"recipe\":\"by "
    "hand\",\"slo\":{\"ttft_ms\":0.1,\"e2e_ms\":12345.678},\"choices\":[{\"sorted\":2}],\n"
    "\"requests\" : [\n"
    "{\"id\":0,\"arrival_s\":0,\"prompt_tokens\":12.0,\"output_tokens\":1},\n"
    "{\"id\":\"x\",\"arrival_s\":0.000001,\"prompt_tokens\":9,\"output_tokens\":2,\"session\":"
    "\"s\","
    "\"turn\":1,\"blocks\":[0,9007199254740992],\"priority\":-3,\"model\":\"m\",\"tenant\":"
    "\"\\u00fc\","
    "\"slo\":{\"tpot_ms\":1e-3},\"observed\":{\"latency_s\":1.250,\"status\":\"ok\",\"stop\":3},"
    "\"ext\" : { \"a\" : [ 1.10 , \"sp ace \\\" ]\" ] , \"b\":1e5 } },\n"
    "{\"id\":-7,\"arrival_s\":999999999.999999,\"prompt_tokens\":3,\"output_tokens\":1048576,"
    "\"prompt\":\"line\\nbreak \\u0001\",\"after\":\"x\",\"think_s\":0.3},\n"
    "{\"id\":3,\"arrival_s\":1e9,\"output_tokens\":1,\"prompt_ids\":[5,0,2147483647],\"after\":0,"
    "\"session\":\"s\",\"turn\":2,\"prefix_group\":\"g\",\"prefix_tokens\":3}\n] } \n";

static void reads_everything(void)
{
    struct trace t;

    if (read_text(&t, everything, NULL))
        return;
    CU_ASSERT_EQUAL(t.n, 4);
    CU_ASSERT_STRING_EQUAL(t.name, "all \"é\" \\");
    CU_ASSERT_STRING_EQUAL(t.licence, "CC0-1.0");
    CU_ASSERT_STRING_EQUAL(t.time_zero, "2023-11-16T18:15:46.680590 +01:00");
    CU_ASSERT(t.req[0].id == NULL && t.req[0].more == NULL && t.req[0].n_prompt == 12);
    CU_ASSERT(t.req[1].arrive_us == 1 && t.req[1].block[1] == UINT64_C(9007199254740992));
    CU_ASSERT_STRING_EQUAL(t.req[1].more->ext, "{\"a\":[1.10,\"sp ace \\\" ]\"],\"b\":1e5}");
    CU_ASSERT_STRING_EQUAL(t.req[1].more->observed, "{\"latency_s\":1.250,\"status\":\"ok\","
                                                    "\"stop\":3}");
    CU_ASSERT(t.req[2].arrive_us == INT64_C(999999999999999));
    CU_ASSERT_STRING_EQUAL(t.req[2].more->after, "x");
    CU_ASSERT(t.req[3].n_prompt == 3 && t.req[3].more->prompt_ids[2] == 2147483647);
    check_round_trip(&t);
    trace_free(&t);
}

/* Every microsecond that can be written comes back as itself: samples over the whole range. */
static void times_exact(void)
{
    char text[400];
    struct rng r;
    struct trace t;

    rng_seed(&r, 5);
    for (int i = 0; i < 300; i++) {
        int64_t us = (int64_t)(rng_next(&r) % UINT64_C(1000000000000000) >> (i % 50));

        snprintf(text, sizeof text,
                 "{\"schema\":\"serving-trace/1\"}\n{\"id\":0,\"arrival_s\":%lld.%06d,"
                 "\"prompt_tokens\":1,\"output_tokens\":1}\n",
                 (long long)(us / 1000000), (int)(us % 1000000));
        if (read_text(&t, text, NULL))
            return;
        CU_ASSERT_EQUAL(t.req[0].arrive_us, us);
        trace_free(&t);
    }
}

#define HEAD "{\"schema\":\"serving-trace/1\"}\n"
#define ROW(id, at, in, out) "{\"id\":" id ",\"arrival_s\":" at ",\"prompt_tokens\":" in \
                             ",\"output_tokens\":" out "}\n"

static void sorts_on_request(void)
{
    struct trace_options o = { .sort = true };
    struct trace t;
    char id[24];

    if (read_text(&t,
                  HEAD ROW("0", "5", "1", "1") ROW("1", "2", "2", "1") ROW("\"c\"", "2", "3", "1")
                      ROW("3", "9", "4", "1"),
                  &o))
        return;
    CU_ASSERT_STRING_EQUAL(trace_id(&t, 0, id), "1");
    CU_ASSERT_STRING_EQUAL(trace_id(&t, 1, id), "c");          /* stable */
    CU_ASSERT_STRING_EQUAL(trace_id(&t, 2, id), "0");
    CU_ASSERT_STRING_EQUAL(trace_id(&t, 3, id), "3");
    CU_ASSERT_STRING_EQUAL(t.header_extra, "[{\"sorted\":3}]");
    check_round_trip(&t);
    trace_free(&t);
}

static void skips_and_clips(void)
{
    static const char text[] = HEAD ROW("0", "0", "50", "50") ROW("1", "1", "90", "20")
                               ROW("2", "2", "20000000", "2000000") ROW("3", "3", "10", "10");
    struct trace_options o = { .max_context = 100, .overlong = OVERLONG_SKIP };
    struct trace t;
    char id[24];

    if (read_text(&t, text, &o))
        return;
    CU_ASSERT(t.n == 2 && !strcmp(trace_id(&t, 1, id), "3"));
    CU_ASSERT_STRING_EQUAL(t.header_extra, "[{\"skipped\":2,\"max_context\":100}]");
    check_round_trip(&t);
    trace_free(&t);
    o.overlong = OVERLONG_CLIP;
    if (read_text(&t, text, &o))
        return;
    CU_ASSERT(t.n == 4 && t.req[1].n_prompt == 80 && t.req[1].n_out == 20);
    CU_ASSERT(t.req[2].n_prompt == 1 && t.req[2].n_out == 99);
    CU_ASSERT_STRING_EQUAL(t.header_extra, "[{\"clipped\":2,\"max_context\":100}]");
    trace_free(&t);
}

static void keeps_the_first(void)
{
    struct trace_options o = { .limit = 2 };
    struct trace t;

    if (read_text(&t,
                  "{\"schema\":\"serving-trace/1\",\"count\":3,\"requests\":[" ROW(
                      "0", "0", "1", "1") "," ROW("1", "0", "1", "1") ", this is never read",
                  &o))
        return;
    CU_ASSERT_EQUAL(t.n, 2);
    CU_ASSERT_STRING_EQUAL(t.header_extra, "[{\"limit\":2}]");
    trace_free(&t);
}

/* ---- figures ---- */
static void figures_by_hand(void)
{
    struct trace_info i;
    struct err e = { 0 };
    struct trace t;

    if (read_text(&t,
                  HEAD ROW("0", "0", "10", "4") ROW("1", "1", "20", "3") ROW("2", "1", "30", "2")
                      ROW("3", "4", "40", "1"),
                  NULL))
        return;
    CU_ASSERT_FATAL(!trace_stat(&t, &i, &e));
    CU_ASSERT(i.prompt_tokens == 100 && i.output_tokens == 10 && i.longest == 41);
    CU_ASSERT_DOUBLE_EQUAL(i.rate, 0.75, 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(i.gap_cv, sqrt(14.0 / 9) / (4.0 / 3), 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(i.zero_gap_share, 1.0 / 3, 1e-12);
    CU_ASSERT_DOUBLE_EQUAL(i.prompt_q[0], 20, 0);
    CU_ASSERT_DOUBLE_EQUAL(i.prompt_q[2], 40, 0);
    CU_ASSERT_DOUBLE_EQUAL(i.output_q[4], 2.5, 0);
    CU_ASSERT_DOUBLE_EQUAL(i.dispersion[0], (5 - 9.0 / 4) / 3, 1e-12);     /* counts 1 2 0 0 */
    CU_ASSERT(isnan(i.dispersion[1]) && i.prefix_share <= 0);
    trace_free(&t);
    if (read_text(&t, HEAD ROW("0", "7", "10", "4"), NULL))
        return;
    CU_ASSERT(!trace_stat(&t, &i, &e) && isnan(i.rate) && isnan(i.gap_cv) && i.span_s <= 0);
    trace_free(&t);
}

/* ---- tokens ---- */
static void tokens_from_blocks(void)
{
    enum { V = 1000 };
    uint32_t a[12], b[12], c[12], d[12];
    struct trace_info info;
    struct err e = { 0 };
    struct trace t;

    if (read_text(&t,
                  "{\"schema\":\"serving-trace/1\",\"block_tokens\":4,\"block_tail\":\"full\"}\n"
                  "{\"id\":0,\"arrival_s\":0,\"prompt_tokens\":11,\"output_tokens\":1,\"blocks\":["
                  "1,2]}\n"
                  "{\"id\":1,\"arrival_s\":0,\"prompt_tokens\":12,\"output_tokens\":1,\"blocks\":["
                  "1,3,4]}\n"
                  "{\"id\":2,\"arrival_s\":0,\"prompt_tokens\":12,\"output_tokens\":1,"
                  "\"prefix_group\":\"g\",\"prefix_tokens\":9}\n"
                  "{\"id\":3,\"arrival_s\":0,\"prompt_tokens\":12,\"output_tokens\":1,"
                  "\"prefix_group\":\"g\",\"prefix_tokens\":5}\n"
                  "{\"id\":4,\"arrival_s\":0,\"prompt_tokens\":2,\"output_tokens\":1,"
                  "\"prompt_ids\":[7,8]}\n"
                  "{\"id\":5,\"arrival_s\":0,\"prompt_tokens\":4,\"output_tokens\":1,"
                  "\"prompt_ids\":[7,8,8,7]}\n",
                  NULL))
        return;
    trace_tokens(&t, 0, 1, V, 0, 11, a);
    trace_tokens(&t, 1, 1, V, 0, 12, b);
    trace_tokens(&t, 0, 2, V, 0, 11, c);
    CU_ASSERT(!memcmp(a, b, 4 * 4) && memcmp(a + 4, b + 4, 4 * 4));
    CU_ASSERT(!memcmp(a, c, 8 * 4) && memcmp(a + 8, c + 8, 3 * 4)); /* own tokens follow the seed */
    trace_tokens(&t, 1, 1, V, 5, 6, d);
    CU_ASSERT(!memcmp(b + 5, d, 6 * 4));                               /* any window of it */
    trace_tokens(&t, 2, 1, V, 0, 12, c);
    trace_tokens(&t, 3, 1, V, 0, 12, d);
    CU_ASSERT(!memcmp(c, d, 5 * 4) && memcmp(c + 5, d + 5, 4 * 4));
    trace_tokens(&t, 4, 1, V, 0, 2, a);
    CU_ASSERT(a[0] == 7 && a[1] == 8);
    for (int i = 0; i < 12; i++)
        CU_ASSERT(b[i] < V && c[i] < V);
    CU_ASSERT(!trace_stat(&t, &info, &e));
    CU_ASSERT_DOUBLE_EQUAL(info.prefix_share, (4 + 5 + 2) / 53.0, 1e-12);
    trace_free(&t);
}

#define ASK(id, n, rest) "{\"id\":" #id ",\"arrival_s\":0,\"prompt_tokens\":" #n ",\"output_tokens\":1" rest "}\n"
#define BLOCKS(header) "{\"schema\":\"serving-trace/1\",\"block_tokens\":4,\"block_tail\":\"full\"" header "}\n"

/* What a cache without limit finds, by hand, in tokens: blocks of sessions that share them or not; a group whose shorter
 * prefix came in between; ids that agree at a place but not before it. */
static void prefix_by_hand(void)
{
    static const struct { const char *text; double hit, all; } row[] = {
        { BLOCKS("") ASK(0, 8, ",\"session\":\"a\",\"blocks\":[1,2]") ASK(1, 8, ",\"session\":\"b\",\"blocks\":[1,2]"), 8, 16 },
        { BLOCKS(",\"block_scope\":\"session\"") ASK(0, 8, ",\"session\":\"a\",\"blocks\":[1,2]")
          ASK(1, 8, ",\"session\":\"b\",\"blocks\":[1,2]") ASK(2, 8, ",\"session\":\"a\",\"blocks\":[1,3]"), 4, 24 },
        { BLOCKS("") ASK(0, 8, ",\"blocks\":[0,2]") ASK(1, 8, ",\"blocks\":[0,3]") ASK(2, 8, ",\"blocks\":[4,3]"), 4, 24 },
        { BLOCKS("") ASK(0, 12, ",\"prefix_group\":\"g\",\"prefix_tokens\":9")
          ASK(1, 12, ",\"prefix_group\":\"g\",\"prefix_tokens\":5") ASK(2, 12, ",\"prefix_group\":\"g\",\"prefix_tokens\":9")
          ASK(3, 12, ",\"prefix_group\":\"h\",\"prefix_tokens\":9"), 5 + 9, 48 },
        { BLOCKS("") ASK(0, 2, ",\"prompt_ids\":[1,2]") ASK(1, 2, ",\"prompt_ids\":[9,8]") ASK(2, 2, ",\"prompt_ids\":[1,8]")
          ASK(3, 2, ",\"prompt_ids\":[9,8]"), 1 + 2, 8 },
    };

    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct trace_info info;
        struct err e = { 0 };
        struct trace t;

        if (read_text(&t, row[i].text, NULL))
            continue;
        CU_ASSERT(!trace_stat(&t, &info, &e));
        if (fabs(info.prefix_share - row[i].hit / row[i].all) > 1e-12)
            test_note("row %zu: %g tokens; expected %g", i, info.prefix_share * row[i].all, row[i].hit);
        CU_ASSERT_DOUBLE_EQUAL(info.prefix_share, row[i].hit / row[i].all, 1e-12);
        trace_free(&t);
    }
}

static void finds_names(void)
{
    char path[4096];
    struct err e = { 0 };

    CU_ASSERT(!trace_find("chat.json", path, sizeof path, &e) && strstr(path, "workloads/"
                                                                              "chat.json"));
    CU_ASSERT(!trace_find("chat", path, sizeof path, &e) && strstr(path, "workloads/chat.json"));
    CU_ASSERT(trace_find("chta.json", path, sizeof path, &e) && strstr(e.text, "'chat'"));
    CU_ASSERT_EQUAL(e.code, EXIT_USAGE);
}

/* 200,000 lines in bounded memory: 48 bytes a row, nothing of the text stays. */
static void many_rows(void)
{
    enum { N = 200000 };
    struct rusage before, after;
    struct trace t = { .block_tokens = 0 };
    struct err e = { 0 };
    char path[4096];

    snprintf(t.name, sizeof t.name, "many");
    t.req = calloc(N, sizeof *t.req);
    CU_ASSERT_FATAL(t.req != NULL);
    for (t.n = 0; t.n < N; t.n++)
        t.req[t.n] =
            (struct trace_req){ .arrive_us = t.n * 1000, .n_prompt = 1 + t.n % 999, .n_out = 7 };
    snprintf(path, sizeof path, "%s/many", test_dir());
    CU_ASSERT(!trace_write(&t, path, true, &e));
    free(t.req);
    getrusage(RUSAGE_SELF, &before);
    CU_ASSERT_FATAL(!trace_read(&t, path, NULL, &e));
    getrusage(RUSAGE_SELF, &after);
    CU_ASSERT(t.n == N && t.arena.total_bytes < 1 << 20);
    if (!is_sanitized)                         /* its allocator keeps what is freed */
        CU_ASSERT(after.ru_maxrss - before.ru_maxrss < 40 * 1024);
    trace_free(&t);
}

static const struct test tests[] = {
    { "reads_everything", reads_everything }, { "times_exact", times_exact },
    { "sorts_on_request", sorts_on_request }, { "skips_and_clips", skips_and_clips },
    { "keeps_the_first", keeps_the_first }, { "figures_by_hand", figures_by_hand },
    { "tokens_from_blocks", tokens_from_blocks }, { "prefix_by_hand", prefix_by_hand }, { "finds_names", finds_names },
    { "many_rows", many_rows }, { NULL, NULL },
};
const struct suite suite_trace = { "trace", tests, 60 };
