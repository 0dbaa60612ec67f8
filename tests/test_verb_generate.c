/* test_verb_generate.c - `servelab generate` from the outside. With SmolLM2's file it must write
 * English; without, only the refusals are tested and the rest is skipped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/verb.h"
#include "models/load.h"
#include "models/scaled.h"
#include "tests/files.h"
#include "tests/test.h"

extern const struct verb verb_generate;

static int run(const char *line, char *out, size_t n, struct err *e)
{
    return verb_said(verb_generate.run, line, "|", out, n, e);
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

/* Scales of all ones: the model is what it was, but read through them. */
static void write_ones(char path[4096])
{
    struct model_files f;
    struct scales s = { 0 };
    struct err e = { 0 };

    snprintf(path, 4096, "%s/ones.json", test_dir());
    CU_ASSERT_FATAL(!model_find(&f, "smollm2-135m", 1, &e) && !scales_init(&s, &f.shape, &e) &&
                    !model_files_sha256(&f, s.model_sha256, &e));
    snprintf(s.precision, sizeof s.precision, "int4");
    snprintf(s.text, sizeof s.text, "none");
    s.n_tok = 1;
    sha256_hex("", 0, s.text_sha256);
    CU_ASSERT_EQUAL_FATAL(scales_write(&s, path, &e), 0);
    scales_free(&s);
    model_files_close(&f);
}

#define AWQ "generate|The capital of France is|--n|4|--quiet|--precision|int4:group=32:awq=on"
static void scales_as_run_has_them(void)
{
    char path[4096], line[4300], plain[1000], out[1000];
    enum model_kind kind;
    struct err e = { 0 };

    if (model_locate("smollm2-135m", &kind, path, sizeof path, &e) || kind != MODEL_GGUF) {
        test_skip("SmolLM2 is not here: make model MODEL=smollm2-135m, or set SERVELAB_MODELS");
        return;
    }
    write_ones(path);
    CU_ASSERT(run(AWQ, out, sizeof out, &e) == -1 && strstr(e.text, "awq=on needs --scales"));
    snprintf(line, sizeof line, "generate|a|--scales|%.900s", path);
    CU_ASSERT(run(line, out, sizeof out, &e) == -1 && e.code == EXIT_USAGE && strstr(e.text, "f16 has no awq=on"));
    CU_ASSERT(run(AWQ "|--scales|no-such.json", out, sizeof out, &e) == -1 && strstr(e.text, "no-such.json"));
    snprintf(line, sizeof line, AWQ "|--scales|%.900s", path);
    CU_ASSERT(!run(line, out, sizeof out, &e));
    if (e.code)
        test_note("%s", e.text);
    CU_ASSERT(!run("generate|The capital of France is|--n|4|--quiet|--precision|int4:group=32", plain, sizeof plain,
                   &e));
    CU_ASSERT_STRING_EQUAL(out, plain);
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
    { "scales_as_run_has_them", scales_as_run_has_them },
    { NULL, NULL },
};
const struct suite suite_verb_generate = { "verb_generate", tests, 300 };
