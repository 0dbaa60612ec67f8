/* test_llama_cpp_shape.c - `servelab bench llama.cpp-shape` from the outside: rows, columns, JSON, refusals. Speeds are
 * not judged here, beyond being numbers. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/verb.h"
#include "tests/files.h"
#include "tests/test.h"

extern const struct bench bench_llama_cpp_shape;

static int run(const char *line, char *out, size_t n, struct err *e)
{
    char text[500];

    snprintf(text, sizeof text, "llama.cpp-shape %s", line);
    return verb_said(bench_llama_cpp_shape.run, text, " ", out, n, e);
}

static void table(void)
{
    static const char *const want[] = { "| tiny f16 ", "| tiny f16 ", "| tiny f16 ", "| tiny f16 ",
                                        "| tiny int4:kv=int8 " };
    static const char *const test[] = { " pp512 |", " pp512 B3 |", " tg128 |", " tg128 B3 |", " pp512 |" };
    char out[8000], *save = NULL;
    int row = -3;                                  /* a line before, the head, the rule */
    struct err e;

    CU_ASSERT_EQUAL_FATAL(run("--model tiny --precision f16,int4:kv=int8 --batch 1,3 --repeats 2", out, sizeof out, &e),
                          0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "synthetic weights"));
    for (char *l = strtok_r(out, "\n", &save); l; l = strtok_r(NULL, "\n", &save), row++) {
        int bars = 0;

        for (char *p = l; row > -3 && *p; p++)
            bars += *p == '|';
        CU_ASSERT(row == -3 || bars == 8);
        if (row < 0)
            continue;
        CU_ASSERT(row > 4 || (strstr(l, want[row]) == l && strstr(l, test[row])));
        CU_ASSERT_PTR_NOT_NULL(strstr(l, row < 4 ? " 0.44 MiB |" : " 0.12 MiB |"));
        CU_ASSERT_PTR_NOT_NULL(strstr(l, " 0.23 M |"));
        CU_ASSERT(strstr(l, "\xc2\xb1") && atof(strrchr(strstr(l, test[row % 4]), '|') - 20) >= 0);
    }
    CU_ASSERT_EQUAL(row, 8);
}

static void json(void)
{
    char out[8000];
    struct err e;
    json_t *list;

    CU_ASSERT_EQUAL_FATAL(run("--model tiny --precision int8 --batch 2 --depth 130 --repeats 1 --json", out,
                              sizeof out, &e), 0);
    list = json_loads(out, 0, NULL);
    CU_ASSERT_EQUAL_FATAL(json_array_size(list), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *o = json_array_get(list, i);

        CU_ASSERT_EQUAL(json_integer_value(json_object_get(o, "n_prompt")), i ? 0 : 512);
        CU_ASSERT_EQUAL(json_integer_value(json_object_get(o, "n_gen")), i ? 128 : 0);
        CU_ASSERT_EQUAL(json_integer_value(json_object_get(o, "n_seq")), 2);
        CU_ASSERT_EQUAL(json_integer_value(json_object_get(o, "n_depth")), 130);
        CU_ASSERT_EQUAL(json_integer_value(json_object_get(o, "model_n_params")), 229376 + 640);
        CU_ASSERT(json_real_value(json_object_get(o, "avg_ts")) > 0);
        CU_ASSERT(json_real_value(json_object_get(o, "stddev_ts")) == 0);      /* of one repeat */
        CU_ASSERT(json_is_true(json_object_get(o, "synthetic")));
    }
    json_decref(list);
}

static void refusals(void)
{
    static const struct { const char *line, *words; } wrong[] = {
        { "--model tiny --batch 0", "from 1 to 32" }, { "--model tiny --batch 33", "from 1 to 32" },
        { "--model tiny --batch 1,x", "from 1 to 32" }, { "--model tiny --repeats 0", "1 to 64" },
        { "--model tiny --depth 513", "0 to 512" },
        { "--model tiny --device sim", "computes nothing" }, { "--model tiny --precision int5", "int5" },
        { "--model tiny more", "unexpected argument 'more'" }, { "--modle tiny", "--model" },
    };
    char out[8000];
    struct err e;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CU_ASSERT_EQUAL(run(wrong[i].line, out, sizeof out, &e), -1);
        CU_ASSERT_EQUAL(e.code, EXIT_USAGE);
        CU_ASSERT_STRING_EQUAL(out, "");
        if (!strstr(e.text, wrong[i].words))
            test_note("%s: expected \"%s\" in: %s", wrong[i].line, wrong[i].words, e.text);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, wrong[i].words));
    }
}

static const struct test tests[] = {
    { "a table of llama-bench's columns", table },
    { "the same as JSON", json },
    { "what makes no sense is refused", refusals },
    { 0 },
};
const struct suite suite_llama_cpp_shape = { "llama_cpp_shape", tests, 180 };
