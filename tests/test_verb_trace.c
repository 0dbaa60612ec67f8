/* test_verb_trace.c - `servelab trace` from the outside: what it writes, what it refuses and how. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness/verb.h"
#include "tests/test.h"
#include "workloads/trace.h"

extern const struct verb verb_trace;

/* Runs the verb with words separated by blanks; '@' stands for the test's folder. */
static int run(const char *line, struct err *e)
{
    char text[8192], *argv[16], *save = NULL, *to = text;
    int argc = 0;

    for (; *line && to < text + 4000; line++)
        to += *line == '@' ? sprintf(to, "%.900s/", test_dir()) : sprintf(to, "%c", *line);
    *to = 0;
    for (char *w = strtok_r(text, " ", &save); w && argc < 15; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    argv[argc] = NULL;
    *e = (struct err){ 0 };
    return verb_trace.run(argc, argv, e);
}

static void generates_and_converts(void)
{
    char path[2000];
    struct trace_options o = { 0 };
    struct err e;
    struct trace t;

    CU_ASSERT_FATAL(!run("trace generate chat -o @a.jsonl --count 20 --rate 2 --seed 5 --quiet", &e));
    CU_ASSERT_FATAL(!run("trace convert @a.jsonl @b.json --limit 7 --quiet", &e));
    CU_ASSERT(!run("trace validate @b.json --quiet", &e));
    snprintf(path, sizeof path, "%.900s/b.json", test_dir());
    CU_ASSERT_FATAL(!trace_read(&t, path, &o, &e));
    CU_ASSERT(t.n == 7 && t.is_synthetic && strstr(t.recipe, "chat count=20 rate=2 seed=5"));
    CU_ASSERT_STRING_EQUAL(t.header_extra, "[{\"limit\":7}]");
    trace_free(&t);
}

static void refuses(void)
{
    static const struct { const char *line, *words; } wrong[] = {
        { "trace", "what to do?" },
        { "trace infos chat", "did you mean 'info'?" },
        { "trace info", "expected one trace" },
        { "trace info chat chat", "expected one trace" },
        { "trace info chat.json --limit 0", "--limit 0: expected a whole number from 1" },
        { "trace info chat.json --max-context 1x", "--max-context 1x: expected" },
        { "trace info chat.json --overlong=cut", "expected refuse, skip or clip" },
        { "trace convert chat.json", "expected two names" },
        { "trace convert chat.json @x.json.gz --quiet", "pack it with gzip" },
        { "trace generate chat", "add -o FILE" },
        { "trace convert chat.json @x.json --arrivals uniform", "expected poisson, gamma, even or batch" },
        { "trace convert chat.json @x.json --arrivals batch", "has arrival times of its own" },
        { "trace convert chat.json @x.json --empty maybe", "expected refuse or skip" },
        { "trace convert chat.json @x.json --output-tokens 0", "--output-tokens 0: expected" },
        { "trace convert chat.json @x.json --tokenizer qwen2-0.5b-nowhere", "qwen2-0.5b-nowhere" },
        { "trace generate chatt -o @x.json", "did you mean 'chat'?" },
        { "trace generate chat -o @x.json --rate 0", "--rate 0: expected a number" },
        { "trace generate chat -o @x.json --cv inf", "--cv inf: expected a number" },
        { "trace validate chat.json --max-context 64 --quiet", "more than the context of 64" },
    };
    char path[2000];

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err e;

        run(wrong[i].line, &e);
        if (e.code != EXIT_USAGE || !strstr(e.text, wrong[i].words)) {
            test_note("%s: %d %s", wrong[i].line, e.code, e.text);
            CU_FAIL("refusal");
        }
    }
    snprintf(path, sizeof path, "%.900s/x.json", test_dir());
    CU_ASSERT(access(path, F_OK) != 0);        /* nothing was written */
}

/* One log in six clocks gives the same three requests. Arrivals by hand: 0, 0.25 and 2 s. */
static void columns_of_ones_own(void)
{
    static const struct { const char *t[3], *unit; bool has_clock; } logs[] = {
        { { "1700000000", "1700000000.25", "1700000002.000" }, "", true },
        { { "1700000000000", "1700000000250", "1700000002000" }, "", true },
        { { "1700000000000000000", "1700000000250000000", "1700000002000000000" }, "", true },
        { { "0", "250", "2000" }, ",unit=ms", false },
        { { "0", "0.25", "2" }, "", false },
        { { "2023-11-14T22:13:20Z", "2023-11-14T22:13:20.25Z", "2023-11-14T22:13:22+00:00" }, "", true },
    };
    char line[300], path[2000];

    for (size_t i = 0; i < sizeof logs / sizeof *logs; i++) {
        struct trace t;
        struct err e;
        FILE *f;

        snprintf(path, sizeof path, "%.900s/log.csv", test_dir());
        CU_ASSERT_PTR_NOT_NULL_FATAL(f = fopen(path, "w"));
        fprintf(f, "user,ts,out_tokens,prompt_tokens\n");
        for (int k = 0; k < 3; k++)
            fprintf(f, "u%d,%s,%d,%d\n", k, logs[i].t[k], 10 + k, 100 + k);
        fclose(f);
        snprintf(line, sizeof line, "trace convert @log.csv @own.json --quiet --column "
                 "arrived=ts,input=prompt_tokens,output=out_tokens%s", logs[i].unit);
        if (run(line, &e))
            test_note("%s: %s", logs[i].t[1], e.text);
        CU_ASSERT_EQUAL_FATAL(e.code, 0);
        snprintf(path, sizeof path, "%.900s/own.json", test_dir());
        CU_ASSERT_EQUAL_FATAL(trace_read(&t, path, NULL, &e), 0);
        CU_ASSERT_EQUAL_FATAL(t.n, 3);
        CU_ASSERT(t.req[0].arrive_us == 0 && t.req[1].arrive_us == 250000 && t.req[2].arrive_us == 2000000);
        CU_ASSERT(t.req[2].n_prompt == 102 && t.req[2].n_out == 12);
        CU_ASSERT_EQUAL(!strncmp(t.time_zero, "2023-11-14", 10), logs[i].has_clock);
        CU_ASSERT_EQUAL(*t.time_zero != 0, logs[i].has_clock);
        trace_free(&t);
    }
}

static void refuses_columns(void)
{
    static const struct { const char *rows, *column, *words; } wrong[] = {
        { "0,1,2\n", "arrived=ts,input=in", "output= is missing" },
        { "0,1,2\n", "arrived=ts,input=in,output=", "expected arrived=NAME" },
        { "0,1,2\n", "arrived=ts,input=in,output=out,unit=h", "expected s, ms, us or ns" },
        { "0,1,2\n", "arrived=ts,input=in,output=none", "column none is missing; --column takes names of this line" },
        { "now,1,2\n", "arrived=ts,input=in,output=out", "ts \"now\": not a time" },
        { "0,1,2\n2023-11-14 22:13:20,1,2\n", "arrived=ts,input=in,output=out", "the rows before have numbers" },
        { "99999999999999999999,1,2\n", "arrived=ts,input=in,output=out", "not a time" },
        { "9999999999999999,1,2\n", "arrived=ts,input=in,output=out,unit=s", "not a time" },
        { "-5,1,2\n", "arrived=ts,input=in,output=out", "not a time" },
        { "0,x,2\n", "arrived=ts,input=in,output=out", "in \"x\": not a whole number" },
    };
    char line[300], path[2000];

    snprintf(path, sizeof path, "%.900s/log.csv", test_dir());
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        FILE *f = fopen(path, "w");
        struct err e;

        CU_ASSERT_PTR_NOT_NULL_FATAL(f);
        fprintf(f, "ts,in,out\n%s", wrong[i].rows);
        fclose(f);
        snprintf(line, sizeof line, "trace validate @log.csv --quiet --column %s", wrong[i].column);
        run(line, &e);
        if (e.code != EXIT_USAGE || !strstr(e.text, wrong[i].words))
            test_note("%s %s: %d %s", wrong[i].rows, wrong[i].column, e.code, e.text);
        CU_ASSERT(e.code == EXIT_USAGE && strstr(e.text, wrong[i].words));
    }
    {
        struct err e;

        CU_ASSERT(run("trace info chat.json --column arrived=a,input=b,output=c", &e) && strstr(e.text, "is JSON"));
    }
}

static void says_when_it_cannot_write(void)
{
    struct err e;

    CU_ASSERT(run("trace generate chat -o @none/x.json --quiet", &e) && e.code == EXIT_IO);
}

static const struct test tests[] = {
    { "generates_and_converts", generates_and_converts },
    { "refuses", refuses },
    { "columns_of_ones_own", columns_of_ones_own },
    { "refuses_columns", refuses_columns },
    { "says_when_it_cannot_write", says_when_it_cannot_write },
    { NULL, NULL },
};
const struct suite suite_verb_trace = { "verb_trace", tests, 30 };
