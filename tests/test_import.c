/* test_import.c - the importers against published facts: row counts, sums, quantiles, prefix hits,
 * and two independent copies of the same rows. The recorded files are not part of the project. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/test.h"
#include "workloads/trace.h"

/* Nearest ranks and exact sums; figures from the README of the recorded traces. */
struct fact {
    const char *file, *format;
    uint32_t n;
    uint64_t prompt, output;
    double rate, cv, d60, prefix;              /* NaN: not published */
    double in[4], out[4];                      /* p50 p90 p99 max */
};
static const struct fact facts[] = {
    { "azure_2023_conv.csv", "azure-csv", 13927, 16726570, 2802253, 5.9178, 1.0787, 15.125, 0,
      { 1015, 4074, 4122, 14050 }, { 115, 421, 598, 1000 } },
    { "azure_2023_code.csv", "azure-csv", 7000, 14232820, 193114, 3.0753, 12.651, 158.61, 0,
      { 1463, 5052, 7436, 7437 }, { 13, 55, 249, 1899 } },
    { "mooncake_fast25_conversation.jsonl", "mooncake-jsonl", 7851, 97571920, 2724903, 3.2749, NAN,
      NAN, 0.35765, { 7284, 27991, 89868, 124847 }, { 356, 606, 1168, 2000 } },
    { "mooncake_fast25_synthetic.jsonl", "mooncake-jsonl", 2952, 39928512, 523747, 3.8452, 1.0112,
      0.99007, 0.49386, { 6672, 36976, 60775, 191374 }, { 120, 425, 776, 842 } },
    { "mooncake_arxiv_toolagent_excerpt.jsonl", "mooncake-jsonl", 269, 2104672, 51987, 6.7517, NAN,
      NAN, 0.354, { 6174, 16618, 40456, 65980 }, { 32, 536, 755, 2000 } },
};

static bool shared_path(char path[4096], const char *file)
{
    const char *dir = test_shared();

    if (!dir) {
        test_skip("no recorded traces here");
        return false;
    }
    snprintf(path, 4096, "%s/traces/%s", dir, file);
    return true;
}

static bool near(double got, double want, double share)
{
    return isnan(want) || fabs(got - want) <= share * fabs(want) + 1e-12;
}

/* Published quantiles interpolate, ours are nearest rank: on few rows a rank is a few per cent. */
static void check_fact(const struct fact *f, const struct trace *t)
{
    double slack = f->n < 1000 ? 0.05 : f->n < 5000 ? 0.015 : 0.002;
    struct trace_info i;
    struct err e = { 0 };

    CU_ASSERT_STRING_EQUAL(t->format, f->format);
    CU_ASSERT_EQUAL(t->n, f->n);
    CU_ASSERT_FATAL(!trace_stat(t, &i, &e));
    CU_ASSERT_EQUAL(i.prompt_tokens, f->prompt);
    CU_ASSERT_EQUAL(i.output_tokens, f->output);
    CU_ASSERT(near(i.rate, f->rate, 1e-4));
    CU_ASSERT(near(i.gap_cv, f->cv, 1e-4));
    CU_ASSERT(near(i.dispersion[2], f->d60, 1e-4));
    CU_ASSERT(near(i.prefix_share, f->prefix, f->n < 1000 ? 1e-3 : 2e-5));
    for (int k = 0; k < 4; k++) {
        CU_ASSERT(near(i.prompt_q[k], f->in[k], k == 3 ? 0 : slack));
        CU_ASSERT(near(i.output_q[k], f->out[k], k == 3 ? 0 : slack));
    }
}

static void published_facts(void)
{
    char path[4096];

    for (size_t k = 0; k < sizeof facts / sizeof *facts; k++) {
        struct err e = { 0 };
        struct trace t;

        if (!shared_path(path, facts[k].file))
            return;
        if (trace_read(&t, path, NULL, &e)) {
            test_note("%s", e.text);
            CU_FAIL("refused");
            continue;
        }
        check_fact(&facts[k], &t);
        trace_free(&t);
    }
}

/* Vidur published the Azure rows again, in seconds: two importers of two projects must agree. */
static void azure_equals_vidur(void)
{
    struct trace_options o = { .limit = 2000 };
    struct err e = { 0 };
    char path[4096], line[200];
    struct trace t;
    uint32_t n = 0;
    FILE *f;

    if (!shared_path(path, "azure_2023_conv.csv"))
        return;
    CU_ASSERT_FATAL(!trace_read(&t, path, &o, &e));
    CU_ASSERT_STRING_EQUAL(t.time_zero, "2023-11-16T18:15:46.680590");
    if (!shared_path(path, "vidur_splitwise_conv_head2000.csv"))
        return;
    CU_ASSERT_FATAL((f = fopen(path, "r")) != NULL && fgets(line, sizeof line, f));
    while (n < t.n && fgets(line, sizeof line, f)) {
        char *end;
        double at = strtod(line, &end);
        unsigned long in = strtoul(end + 1, &end, 10), out = strtoul(end + 1, &end, 10);

        CU_ASSERT(llround(at * 1e6) == t.req[n].arrive_us && in == t.req[n].n_prompt &&
                  out == t.req[n].n_out);
        n++;
    }
    CU_ASSERT_EQUAL(n, 2000);
    fclose(f);
    trace_free(&t);
}

/* Azure and Mooncake through serving-trace/1 and back: the same rows. */
static void converts_without_loss(void)
{
    char path[4096], out[4096];

    for (size_t k = 0; k < sizeof facts / sizeof *facts; k++) {
        struct trace a, b;
        struct err e = { 0 };
        uint64_t differ = 0;

        if (!shared_path(path, facts[k].file))
            return;
        snprintf(out, sizeof out, "%s/out", test_dir());
        CU_ASSERT_FATAL(!trace_read(&a, path, NULL, &e));
        CU_ASSERT_FATAL(!trace_write(&a, out, k & 1, &e) && !trace_read(&b, out, NULL, &e));
        CU_ASSERT_FATAL(a.n == b.n);
        CU_ASSERT_STRING_EQUAL(a.source, b.source);
        CU_ASSERT_STRING_EQUAL(a.time_zero, b.time_zero);
        for (uint32_t i = 0; i < a.n; i++) {
            const struct trace_req *p = &a.req[i], *q = &b.req[i];

            differ += p->arrive_us != q->arrive_us || p->n_prompt != q->n_prompt ||
                      p->n_out != q->n_out || p->n_block != q->n_block || q->id || q->more ||
                      (p->n_block && memcmp(p->block, q->block, p->n_block * sizeof *p->block));
        }
        CU_ASSERT_EQUAL(differ, 0);
        trace_free(&a);
        trace_free(&b);
    }
}

/* ---- dialects of the Azure CSV ---- */
static int read_text(struct trace *t, const char *text, const struct trace_options *o)
{
    struct err e = { 0 };
    char path[4096];
    FILE *f;

    snprintf(path, sizeof path, "%s/azure.csv", test_dir());
    f = fopen(path, "wb");
    CU_ASSERT_FATAL(f && fputs(text, f) >= 0 && !fclose(f));
    if (!trace_read(t, path, o, &e))
        return 0;
    test_note("%s", e.text);
    CU_FAIL("refused");
    return -1;
}

static void azure_dialects(void)
{
    static const char *const same[] = {
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-12-31 23:59:59.5000000,3,4\r\n"
        "2024-01-01 00:00:00.7500000,5,6",
        "GeneratedTokens,TIMESTAMP,NumImages,ContextTokens\n4,2023-12-31 23:59:59.5,1,3\n"
        "6,2024-01-01 00:00:00.75,0,5\n\n",
        "\xef\xbb\xbfTIMESTAMP,ContextTokens,GeneratedTokens\n2023-12-31T23:59:59.500000000Z,3,4\n"
        "\"2024-01-01 00:00:00.7499996+00:00\",\"5\",6\n",
    };

    for (size_t k = 0; k < sizeof same / sizeof *same; k++) {
        struct trace t;

        if (read_text(&t, same[k], NULL))
            continue;
        CU_ASSERT(t.n == 2 && t.req[0].arrive_us == 0 && t.req[1].arrive_us == 1250000);
        CU_ASSERT(t.req[0].n_prompt == 3 && t.req[1].n_prompt == 5 && t.req[1].n_out == 6);
        CU_ASSERT(!strncmp(t.time_zero, "2023-12-31T23:59:59.500000", 26));
        CU_ASSERT_STRING_EQUAL(t.time_zero + 26, k == 2 ? " +00:00" : "");
        trace_free(&t);
    }
}

/* ---- what a calendar and a header allow ---- */
#define HEAD "TIMESTAMP,ContextTokens,GeneratedTokens\n"

static void refused(const char *text, const char *words)
{
    struct err e = { 0 };
    char path[4096];
    struct trace t;
    FILE *f;

    snprintf(path, sizeof path, "%s/bad.csv", test_dir());
    CU_ASSERT_FATAL((f = fopen(path, "wb")) && fputs(text, f) >= 0 && !fclose(f));
    CU_ASSERT_EQUAL(trace_read(&t, path, NULL, &e), -1);
    if (!strstr(e.text, words))
        test_note("expected \"%s\" in: %s", words, e.text);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, words));
}

static void azure_calendar(void)
{
    static const struct { const char *from, *to; int64_t us; } row[] = {
        { "2023-02-28 23:59:59", "2023-03-01 00:00:00", 1000000 }, { "2024-02-28 00:00:00", "2024-03-01 00:00:00", 172800000000 },
        { "2000-02-29 12:00:00", "2000-03-01 12:00:00", 86400000000 }, { "2100-02-28 00:00:00", "2100-03-01 00:00:00", 86400000000 },
        { "1999-12-31 00:00:00", "2000-01-01 00:00:00", 86400000000 },
    };
    static const char *const no_day[] = { "2023-02-29", "2100-02-29", "2024-02-30", "2024-04-31", "2024-13-01", "2024-00-10" };
    char text[300];
    struct trace t;

    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        snprintf(text, sizeof text, HEAD "%s,3,4\n%s,5,6\n", row[i].from, row[i].to);
        if (read_text(&t, text, NULL))
            continue;
        CU_ASSERT_EQUAL(t.req[1].arrive_us, row[i].us);
        trace_free(&t);
    }
    for (size_t i = 0; i < sizeof no_day / sizeof *no_day; i++) {
        snprintf(text, sizeof text, HEAD "%s 00:00:00,3,4\n", no_day[i]);
        refused(text, "not a time");
    }
}

/* West of Greenwich stays west, and east is another zone. */
static void azure_headers_and_zones(void)
{
    struct trace t;

    if (!read_text(&t, HEAD "2024-01-01 00:00:00-05:30,3,4\n2024-01-01 00:00:01-05:30,3,4\n", NULL)) {
        CU_ASSERT_STRING_EQUAL(t.time_zero, "2024-01-01T00:00:00.000000 -05:30");
        trace_free(&t);
    }
    refused(HEAD "2024-01-01 00:00:00-05:30,3,4\n2024-01-01 00:00:01+05:30,3,4\n", "one zone a file");
    refused("TIMESTAMP,TIMESTAMP,ContextTokens,GeneratedTokens\n", "column TIMESTAMP stands twice");
}

/* Milliseconds with a fraction; a key of another dialect changes what a row means. */
static void mooncake_rows(void)
{
    struct trace t;

    if (!read_text(&t, "{\"timestamp\": 0.25, \"input_length\": 5, \"output_length\": 6, \"hash_ids\": [0]}\n"
                   "{\"timestamp\": 27.5004, \"input_length\": 513, \"output_length\": 6, \"hash_ids\": [0, 1]}\n", NULL)) {
        CU_ASSERT_EQUAL(t.req[1].arrive_us - t.req[0].arrive_us, 27250);
        CU_ASSERT(t.req[1].n_block == 2 && t.block_tokens == 512);
        trace_free(&t);
    }
    refused("{\"timestamp\": 1, \"input_length\": 5, \"output_length\": 6, \"hash_ids\": [0], \"delay\": 1}\n",
            "unknown key \"delay\"");
}

static void azure_sorted(void)
{
    struct trace_options o = { .sort = true };
    struct trace t;
    char id[24];

    if (read_text(&t, "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-03-01 00:00:01,3,4\n"
                  "2024-02-29 23:59:59,5,6\n", &o))
        return;
    CU_ASSERT(t.req[0].arrive_us == 0 && t.req[1].arrive_us == 2000000 && t.req[0].n_prompt == 5);
    CU_ASSERT_STRING_EQUAL(t.time_zero, "2024-02-29T23:59:59.000000");
    CU_ASSERT_STRING_EQUAL(trace_id(&t, 0, id), "1");
    trace_free(&t);
}

/* Doubts are said, not decided: equal arrivals, seconds taken for milliseconds. */
static void warns(void)
{
    struct trace_options o = { .report = tmpfile() };
    char text[4000], line[500] = "";
    struct trace t;
    size_t n = 0;

    for (int i = 0; i < 40; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "{\"timestamp\": %d, \"input_length\": 5, "
                              "\"output_length\": 5, \"hash_ids\": [0]}\n", i / 2 * 2);
    CU_ASSERT_FATAL(o.report != NULL && !read_text(&t, text, &o));
    CU_ASSERT_DOUBLE_EQUAL(t.time_step_s, 0.002, 1e-12);
    rewind(o.report);
    CU_ASSERT(fgets(line, sizeof line, o.report) && strstr(line, "51 % of the gaps"));
    CU_ASSERT(fgets(line, sizeof line, o.report) && strstr(line, "is the time unit right?"));
    fclose(o.report);
    trace_free(&t);
}

static const struct test tests[] = {
    { "published_facts", published_facts }, { "azure_equals_vidur", azure_equals_vidur },
    { "converts_without_loss", converts_without_loss }, { "azure_dialects", azure_dialects },
    { "azure_calendar", azure_calendar }, { "azure_headers_and_zones", azure_headers_and_zones },
    { "mooncake_rows", mooncake_rows }, { "azure_sorted", azure_sorted }, { "warns", warns }, { NULL, NULL },
};
const struct suite suite_import = { "import", tests, 60 };
