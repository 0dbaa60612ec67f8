/* test_refuse.c - what a trace reader must refuse: tests/bad holds one file a case, expect.tsv the
 * words that the refusal must contain (file, words, options). Then files cut at every byte, and
 * damaged gzip. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/home.h"
#include "base/num.h"
#include "tests/files.h"
#include "tests/test.h"
#include "workloads/trace.h"

static void set_option(struct trace_options *o, const char *word)
{
    int64_t v;

    if (!strcmp(word, "sort"))
        o->sort = true;
    else if (!strcmp(word, "overlong=skip"))
        o->overlong = OVERLONG_SKIP;
    else if (!strcmp(word, "overlong=clip"))
        o->overlong = OVERLONG_CLIP;
    else if (!strncmp(word, "max_context=", 12) && !parse_int(word + 12, 1, UINT32_MAX, &v))
        o->max_context = (uint32_t)v;
    else
        CU_FAIL("unknown option in expect.tsv");
}

static void check_case(const char *dir, const char *file, const char *words, char *options)
{
    struct trace_options o = { 0 };
    struct err e = { 0 };
    struct trace t;
    char path[4096], *save = NULL;

    for (char *w = strtok_r(options, " ", &save); w; w = strtok_r(NULL, " ", &save))
        set_option(&o, w);
    snprintf(path, sizeof path, "%s/%s", dir, file);
    if (!trace_read(&t, path, &o, &e)) {
        test_note("%s was accepted", file);
        CU_FAIL("accepted");
        trace_free(&t);
        return;
    }
    CU_ASSERT_EQUAL(e.code, EXIT_USAGE);
    CU_ASSERT_PTR_NULL(strchr(e.text, '\n'));
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, file));
    if (!strstr(e.text, words)) {
        test_note("%s: expected \"%s\" in: %s", file, words, e.text);
        CU_FAIL("wrong words");
    }
}

static void bad_files(void)
{
    char dir[3000], path[4096], line[1000];
    unsigned n = 0;
    FILE *f;

    snprintf(dir, sizeof dir, "%s/tests/bad", home_dir());
    snprintf(path, sizeof path, "%s/expect.tsv", dir);
    if (!(f = fopen(path, "r"))) {
        test_skip("no %s", path);
        return;
    }
    for (; fgets(line, sizeof line, f); n++) {
        char none[] = "", *words = strchr(line, '\t'), *options;

        line[strcspn(line, "\n")] = 0;
        CU_ASSERT_FATAL(words != NULL);
        *words++ = 0;
        if ((options = strchr(words, '\t')))
            *options++ = 0;
        check_case(dir, line, words, options ? options : none);
    }
    fclose(f);
    CU_ASSERT(n > 100);
}

/* ---- files made here ---- */
static const char *const_path(const char *name)
{
    static char path[4096];

    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    return path;
}

static const char *put_file(const char *name, const void *data, size_t n)
{
    const char *path = const_path(name);

    file_write(path, data, n);
    return path;
}

/* 0 and the number of rows, or -1 and the reason in e. */
static int read_bytes(const void *data, size_t n, uint32_t *rows, struct err *e)
{
    struct trace t;

    *e = (struct err){ 0 };
    if (trace_read(&t, put_file("input", data, n), NULL, e))
        return -1;
    *rows = t.n;
    trace_free(&t);
    return 0;
}

static const char small_json[] =
    "{\"schema\":\"serving-trace/1\",\"name\":\"s\",\"count\":2,\"block_tokens\":4,"
    "\"block_tail\":\"partial\",\"slo\":{\"ttft_ms\":1e3},\"requests\":[\n"
    "{\"id\":\"a\",\"arrival_s\":0.25,\"prompt_tokens\":5,\"output_tokens\":1,\"blocks\":[7,8]},\n"
    "{\"id\":\"b\\u00e9\\\"\",\"arrival_s\":1,\"prompt_tokens\":2,\"output_tokens\":3,\"after\":"
    "\"a\","
    "\"think_s\":0.5,\"ext\":{\"k\":[1.50,{\"x\":\"]}\"}]}}\n]}\n";
static const char small_lines[] =
    "{\"schema\":\"serving-trace/1\",\"count\":2}\n"
    "{\"id\":0,\"arrival_s\":0,\"prompt_tokens\":12,\"output_tokens\":34}\r\n"
    "{\"id\":1,\"arrival_s\":1.5,\"prompt_tokens\":56,\"output_tokens\":78,\"session\":\"s\"}\n";

/* Cut anywhere, a file is refused; only white space at its end may be missing. */
static void cut_everywhere(const char *text, size_t n)
{
    size_t end = n;
    struct err e;
    uint32_t rows;

    while (end && strchr("\r\n", text[end - 1]))
        end--;
    for (size_t i = 0; i <= n; i++) {
        int rc = read_bytes(text, i, &rows, &e);

        if ((rc == 0) != (i >= end)) {
            test_note("cut at byte %zu of %zu: %s", i, n, rc ? e.text : "accepted");
            CU_FAIL("cut");
            return;
        }
        if (!rc)
            CU_ASSERT_EQUAL(rows, 2);
    }
}

static void cut_json(void) { cut_everywhere(small_json, sizeof small_json - 1); }
static void cut_lines(void) { cut_everywhere(small_lines, sizeof small_lines - 1); }

/* Any one byte changed: accepted or refused, never a crash; refusals are one line with status 2. */
static void change_everywhere(void)
{
    static const unsigned char with[] = { 0, '"', '\\', '{', ']', ',', '9', 0xff, '\n', '-' };
    char text[sizeof small_json];
    struct err e;
    uint32_t rows;

    for (size_t i = 0; i < sizeof small_json - 1; i++)
        for (size_t k = 0; k < sizeof with; k++) {
            memcpy(text, small_json, sizeof text);
            text[i] = (char)with[k];
            if (read_bytes(text, sizeof text - 1, &rows, &e))
                CU_ASSERT(e.code == EXIT_USAGE && *e.text && !strchr(e.text, '\n'));
        }
}

/* ---- gzip ---- */
static size_t pack(const void *data, size_t n, unsigned char *out, size_t room)
{
    z_stream z = { 0 };

    CU_ASSERT_FATAL(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)data;
    z.avail_in = (uInt)n;
    z.next_out = out;
    z.avail_out = (uInt)room;
    CU_ASSERT_FATAL(deflate(&z, Z_FINISH) == Z_STREAM_END);
    deflateEnd(&z);
    return room - z.avail_out;
}

static void gzip_whole(void)
{
    unsigned char gz[2000];
    size_t half = 77, n = pack(small_json, half, gz, sizeof gz);
    struct err e;
    uint32_t rows;

    n += pack(small_json + half, sizeof small_json - 1 - half, gz + n, sizeof gz - n);
    CU_ASSERT(!read_bytes(gz, n, &rows, &e) && rows == 2);     /* two members, cut inside a word */
}

static void gzip_cut(void)
{
    unsigned char gz[2000];
    size_t n = pack(small_json, sizeof small_json - 1, gz, sizeof gz);
    struct err e;
    uint32_t rows;

    for (size_t i = 0; i < n; i++)
        CU_ASSERT(read_bytes(gz, i, &rows, &e) && e.code == EXIT_USAGE);
    CU_ASSERT(!read_bytes(gz, n, &rows, &e) && rows == 2);
}

static void gzip_damaged(void)
{
    unsigned char gz[2000];
    size_t n = pack(small_json, sizeof small_json - 1, gz, sizeof gz);
    struct err e;
    uint32_t rows;

    gz[n] = 'x';
    CU_ASSERT(read_bytes(gz, n + 1, &rows, &e) && strstr(e.text, "after the end of the gzip data"));
    gz[n - 8] ^= 1;                            /* the checksum */
    CU_ASSERT(read_bytes(gz, n, &rows, &e) && strstr(e.text, "damaged"));
    gz[n - 8] ^= 1;
    gz[n - 1] ^= 1;                            /* the length */
    CU_ASSERT(read_bytes(gz, n, &rows, &e) && strstr(e.text, "damaged"));
    gz[n - 1] ^= 1;
    for (size_t i = 10; i < n; i++) {
        gz[i] ^= 0x10;
        CU_ASSERT(read_bytes(gz, n, &rows, &e) && e.code == EXIT_USAGE);
        gz[i] ^= 0x10;
    }
}

static void gzip_bomb(void)
{
    size_t n = 64u << 20, room = 1u << 20;
    unsigned char *zeros = calloc(1, n), *gz = malloc(room);
    struct err e;
    uint32_t rows;

    CU_ASSERT_FATAL(zeros && gz);
    memset(zeros, ' ', n);
    room = pack(zeros, n, gz, room);
    CU_ASSERT(read_bytes(gz, room, &rows, &e) && strstr(e.text, "1000 times its size"));
    free(zeros);
    free(gz);
}

/* ---- hostile sizes ---- */
static void long_line(void)
{
    size_t n = (64u << 20) + 4096, head;
    char *text = malloc(n);
    struct err e;
    uint32_t rows;

    CU_ASSERT_FATAL(text != NULL);
    memset(text, 'x', n);
    head = (size_t)snprintf(text, n, "{\"schema\":\"serving-trace/1\"}\n{\"id\":\"");
    text[head] = 'x';
    CU_ASSERT(read_bytes(text, n, &rows, &e) && strstr(e.text, "longer than 64 MiB"));
    head = (size_t)snprintf(text, n, "{\"schema\":\"serving-trace/1\",\"requests\":[{\"id\":\"");
    text[head] = 'x';
    CU_ASSERT(read_bytes(text, n, &rows, &e) && strstr(e.text, "longer than 64 MiB"));
    memset(text, 'x', 200);
    head = (size_t)snprintf(text, n, "{\"schema\":\"");
    text[head] = 'x';
    CU_ASSERT(read_bytes(text, n, &rows, &e) && strstr(e.text, "the header is longer than 1 MiB"));
    free(text);
}

/* 30 wrong rows: 20 lines in the report, the first and the number of all in the error. */
static void many_errors(void)
{
    char text[4096], line[1200];
    size_t n = (size_t)snprintf(text, sizeof text, "{\"schema\":\"serving-trace/1\"}\n");
    struct trace_options o = { .report = tmpfile() };
    struct err e = { 0 };
    struct trace t;
    int lines = 0;

    for (int i = 0; i < 30; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "{\"id\":%d,\"arrival_s\":0,\"prompt_tokens\":0,"
                              "\"output_tokens\":1}\n",
                              i);
    CU_ASSERT_FATAL(o.report != NULL);
    CU_ASSERT(trace_read(&t, put_file("input", text, n), &o, &e) == -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "input:2 (row 1, byte 29): prompt_tokens 0: must be"));
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "[first of 30 refusals]"));
    rewind(o.report);
    while (fgets(line, sizeof line, o.report))
        lines++;
    CU_ASSERT_EQUAL(lines, TRACE_MAX_ERRORS);
    fclose(o.report);
}

static void not_a_file(void)
{
    struct err e = { 0 };
    struct trace t;

    CU_ASSERT(trace_read(&t, test_dir(), NULL, &e) && strstr(e.text, "is a folder"));
    e.code = 0;
    CU_ASSERT(trace_read(&t, const_path("none.json"), NULL, &e) && strstr(e.text, "No such file"));
    e.code = 0;
    CU_ASSERT(trace_read(&t, "/dev/zero", NULL, &e) && strstr(e.text, "not a regular file"));
}

static const struct test tests[] = {
    { "bad_files", bad_files }, { "cut_json", cut_json }, { "cut_lines", cut_lines },
    { "change_everywhere", change_everywhere }, { "gzip_whole", gzip_whole },
    { "gzip_cut", gzip_cut },
    { "gzip_damaged", gzip_damaged }, { "gzip_bomb", gzip_bomb }, { "long_line", long_line },
    { "many_errors", many_errors }, { "not_a_file", not_a_file }, { NULL, NULL },
};
const struct suite suite_refuse = { "refuse", tests, 60 };
