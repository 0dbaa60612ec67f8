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

static void says_when_it_cannot_write(void)
{
    struct err e;

    CU_ASSERT(run("trace generate chat -o @none/x.json --quiet", &e) && e.code == EXIT_IO);
}

static const struct test tests[] = {
    { "generates_and_converts", generates_and_converts },
    { "refuses", refuses },
    { "says_when_it_cannot_write", says_when_it_cannot_write },
    { NULL, NULL },
};
const struct suite suite_verb_trace = { "verb_trace", tests, 30 };
