/* test_verb_generate.c - `servelab generate` from the outside. With SmolLM2's file it must write
 * English; without, only the refusals are tested and the rest is skipped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/verb.h"
#include "models/load.h"
#include "tests/test.h"

extern const struct verb verb_generate;

/* Runs the verb; words are separated by '|'. What it writes to stdout goes to out. */
static int run(const char *line, char *out, size_t n, struct err *e)
{
    char text[1000], *argv[16], *save = NULL, path[4096];
    int argc = 0, rc, was = dup(1);
    FILE *f = NULL;

    snprintf(text, sizeof text, "%s", line);
    for (char *w = strtok_r(text, "|", &save); w && argc < 15; w = strtok_r(NULL, "|", &save))
        argv[argc++] = w;
    argv[argc] = NULL;
    *e = (struct err){ 0 };
    snprintf(path, sizeof path, "%s/out", test_dir());
    fflush(stdout);
    CU_ASSERT_FATAL(was >= 0 && (f = fopen(path, "w+b")) && dup2(fileno(f), 1) == 1);
    optind = 1;
    rc = verb_generate.run(argc, argv, e);
    fflush(stdout);
    dup2(was, 1);
    close(was);
    rewind(f);
    n = fread(out, 1, n - 1, f);
    out[n] = 0;
    fclose(f);
    return rc;
}

static void refuses(void)
{
    static const struct { const char *line, *words; } wrong[] = {
        { "generate", "expected one text" },
        { "generate|a|b", "expected one text" },
        { "generate|a|--n|0", "--n 0: expected a whole number" },
        { "generate|a|--threads|many", "--threads many: expected" },
        { "generate|a|--system|b", "--system is for --chat" },
        { "generate|a|--modle|b", "did you mean '--model'?" },
        { "generate|a|--model|tiny", "only the shape is here" },
        { "generate|a|--model|no-such-model", "no-such-model" },
    };
    char out[1000];
    struct err e;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CU_ASSERT(run(wrong[i].line, out, sizeof out, &e) == -1 && e.code == EXIT_USAGE);
        CU_ASSERT_STRING_EQUAL(out, "");
        if (!strstr(e.text, wrong[i].words)) {
            test_note("%s: expected \"%s\" in: %s", wrong[i].line, wrong[i].words, e.text);
            CU_FAIL("wrong words");
        }
    }
}

static void real_model_writes_english(void)
{
    static const struct { const char *line, *words;
    } cases[] = {
        { "generate|The capital of France is|--n|8|--quiet", "The capital of France is Paris" },
        { "generate|What is the capital of France?|--chat|--n|24|--quiet", "Paris" },
        { "generate|What is the capital of France?|--chat|--n|24|--quiet|--precision|int8",
          "Paris" },
        { "generate|What is the capital of France?|--chat|--n|24|--quiet|--precision|int4:group=32",
          "Paris" },
    };
    char path[4096], out[4000];
    enum model_kind kind;
    struct err e = { 0 };

    if (model_locate("smollm2-135m", &kind, path, sizeof path, &e) || kind != MODEL_GGUF) {
        test_skip("SmolLM2 is not here: make model MODEL=smollm2-135m, or set SERVELAB_MODELS");
        return;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CU_ASSERT(!run(cases[i].line, out, sizeof out, &e));
        if (!strstr(out, cases[i].words)) {
            test_note("%s: expected \"%s\" in: %s%s", cases[i].line, cases[i].words, out, e.text);
            CU_FAIL("other words");
        }
    }
    CU_ASSERT(run("generate|a|--n|9000", out, sizeof out, &e) == -1 &&
              strstr(e.text, "more than the context"));
    CU_ASSERT(run("generate|a|--device|sim", out, sizeof out, &e) == -1 &&
              strstr(e.text, "computes nothing"));
    CU_ASSERT(run("generate|a|--precision|int3", out, sizeof out, &e) == -1 &&
              strstr(e.text, "int3"));
}

static const struct test tests[] = {
    { "refuses", refuses },
    { "real_model_writes_english", real_model_writes_english },
    { NULL, NULL },
};
const struct suite suite_verb_generate = { "verb_generate", tests, 300 };
