/* test_presets.c - presets: each loads, parses, runs and is explained; files that are not whole are refused. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/home.h"
#include "harness/preset.h"
#include "harness/verb.h"
#include "tests/lab.h"
#include "tests/test.h"

extern const struct verb verb_explain;

static const char *const engines[] = {
    "vllm-2023", "vllm-2025", "vllm-2026", "tensorrt-llm", "tensorrt-llm-max-util", "tensorrt-llm-static",
    "tgi-2023", "tgi-v3", "sglang", "llama.cpp", "orca-max", "orca-pow2", "orca-oracle", "sarathi",
    "fastertransformer", NULL
};

static struct preset loaded;

static void load(const char *name)
{
    struct err e = { 0 };
    char path[4200];

    snprintf(path, sizeof path, "%s/strategies/presets/%s.json", home_dir(), name);
    if (preset_load(&loaded, path, &e))
        test_note("%s", e.text);
    CU_ASSERT_EQUAL_FATAL(e.code, 0);
}

static void all_load(void)
{
    enum { MAX = 64 };
    char *names[MAX];
    size_t n = home_list("strategies/presets", ".json", names, MAX);

    CU_ASSERT(n >= 18);
    for (size_t i = 0; i < n; i++) {
        load(names[i]);
        CU_ASSERT_STRING_EQUAL(loaded.name, names[i]);
        for (size_t k = 0; k < loaded.n; k++) {
            struct err e = { 0 };
            struct strategy s;

            if (strategy_parse(&s, loaded.strategy[k], &e))
                test_note("%s: %s", names[i], e.text);
            CU_ASSERT_EQUAL(e.code, 0);
        }
        free(names[i]);
    }
    for (int i = 0; engines[i]; i++) {
        load(engines[i]);
        CU_ASSERT(*loaded.engine && *loaded.differs && *loaded.engine_command && loaded.year >= 2022);
    }
}

/* Every engine's preset serves everybody, under memory pressure too. */
static void all_run(void)
{
    struct lab l;
    struct trace t;

    lab_trace(&t, 60, 60, 40, 3000, 9);
    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "sim", "tiny", 1024, NULL, "cpu", PACE_SKIP), 0);
    for (int i = 0; engines[i]; i++) {
        struct replay_result r;
        struct lab_run_conf c = { .trace = &t, .max_len = 128, .kv_slots = 512 };

        load(engines[i]);
        c.strategy = loaded.strategy[0];
        CU_ASSERT_EQUAL(lab_run(&l, &c, &r, NULL), 0);
        if (r.n_finished != t.n)
            test_note("%s: %llu of %u finished", engines[i], (unsigned long long)r.n_finished, t.n);
        CU_ASSERT_EQUAL(r.n_finished, t.n);
        if (!strncmp(engines[i], "orca", 4) || !strcmp(engines[i], "tensorrt-llm-static"))
            CU_ASSERT_EQUAL(r.preemptions, 0);
    }
    lab_close(&l);
    trace_free(&t);
}

static void refuses(void)
{
#define START "{\"schema\": \"preset/1\", \"name\": \"x\", \"about\": \"y\", \"source\": \"z\", "
#define LIST "\"strategies\": [\"continuous+paged+f16\"]"
    static const struct { const char *text, *words; } bad[] = {
        { "[]", "expected one JSON object" },
        { START "\"strategies\": []}", "field 'strategies': expected a list" },
        { START "\"strategies\": [3]}", "strategies[0]: expected a strategy text" },
        { START "\"engin\": \"e\", " LIST "}", "did you mean 'engine'" },
        { START "\"engine\": \"e\", " LIST "}", "field 'version' is missing" },
        { START "\"year\": 2023, " LIST "}", "field 'engine' is missing" },
        { START "\"year\": \"2023\", " LIST "}", "field 'year': expected a whole number" },
        { START "\"engine\": \"\", " LIST "}", "field 'engine': expected text" },
        { START "\"engine\": \"e\", \"version\": \"1\", \"year\": 2023, \"engine_command\": \"c\", \"differs\": "
          "\"d\", \"strategies\": [\"a\", \"b\"]}", "an engine's preset is one strategy" },
        { "{\"schema\": \"preset/2\", \"name\": \"x\", \"about\": \"y\", \"source\": \"z\", " LIST "}",
          "expected 'preset/1'" },
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char path[4200];
        struct err e = { 0 };
        FILE *f;

        snprintf(path, sizeof path, "%s/bad.json", test_dir());
        f = fopen(path, "w");
        CU_ASSERT_PTR_NOT_NULL_FATAL(f);
        fputs(bad[i].text, f);
        fclose(f);
        CU_ASSERT_EQUAL(preset_load(&loaded, path, &e), -1);
        if (!strstr(e.text, bad[i].words))
            test_note("expected '%s' in '%s'", bad[i].words, e.text);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, bad[i].words));
    }
}

/* Standard output of `servelab explain NAME`. */
static void explain(const char *name, char *out, size_t n)
{
    char cmd[4400];
    size_t got;
    FILE *f;

    snprintf(cmd, sizeof cmd, "'%s' explain '%s' 2>&1", SERVELAB_BIN, name);
    f = popen(cmd, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    got = fread(out, 1, n - 1, f);
    out[got] = 0;
    pclose(f);
}

static void explains(void)
{
    static const struct { const char *name, *words; } said[] = {
        { "vllm-2026", "gate = full" }, { "vllm-2026", "vllm serve M" }, { "vllm-2025", "(default full)" },
        { "orca-pow2", "no real server knows" }, { "default", "chunked+paged+int4" },
        { "chunked:budget=64+paged+f16", "budget = 64 (default 512)" }, { "paged", "block = 16" },
        { "vlm-2026", "did you mean 'vllm-2026'?" }, { "chunkd", "did you mean 'chunked'?" },
        { "chunked:bugdet=64+paged+f16", "budget" },
    };
    char out[16384];

    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        explain(said[i].name, out, sizeof out);
        if (!strstr(out, said[i].words))
            test_note("explain %s: expected '%s'", said[i].name, said[i].words);
        CU_ASSERT_PTR_NOT_NULL(strstr(out, said[i].words));
    }
    for (int i = 0; engines[i]; i++) {
        explain(engines[i], out, sizeof out);
        CU_ASSERT(strstr(out, "differs") && strstr(out, "command") && strstr(out, "source"));
    }
}

/* --json: what the words say, as data. */
static void explains_to_machines(void)
{
    static const struct { const char *name; size_t kinds; } said[] = {
        { "vllm-2026", 4 }, { "chunked:budget=64+paged+f16", 4 }, { "paged", 0 },
    };
    char out[16384], arg[100];

    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        json_t *v, *one;

        snprintf(arg, sizeof arg, "%s' '--json", said[i].name);
        explain(arg, out, sizeof out);
        v = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
        if (!v)
            test_note("%s: %s", said[i].name, out);
        CU_ASSERT_PTR_NOT_NULL_FATAL(v);
        one = json_object_get(v, "strategies") ? json_array_get(json_object_get(v, "strategies"), 0) : v;
        CU_ASSERT_EQUAL(json_array_size(json_object_get(one, "parts")), said[i].kinds);
        if (i == 0)
            CU_ASSERT_PTR_NOT_NULL(strstr(json_string_value(json_object_get(v, "command")), "vllm serve"));
        if (i == 2)
            CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(v, "kind")), "memory");
        json_decref(v);
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"value\": 16"));                 /* paged: block */
    explain("no-such-preset' '--json", out, sizeof out);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "no preset or part"));
}

static const struct test tests[] = {
    { "all presets load, carry their file's name and parse", all_load },
    { "every engine's preset serves all requests in little memory", all_run },
    { "a preset that is not whole is refused by field", refuses },
    { "explain: knobs, defaults, command line, nearest name", explains },
    { "explain --json says the same", explains_to_machines },
    { 0 },
};
const struct suite suite_presets = { "presets", tests, 60 };
