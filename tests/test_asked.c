/* test_asked.c - what was asked for, and of which machine, stands with the run: the simulated machine, what its tables
 * lack, presets by their name, the KV pool, what does not fit; and what cannot be meant is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "harness/choice.h"
#include "harness/figures.h"
#include "harness/loaded.h"
#include "harness/validity.h"
#include "tests/program.h"
#include "tests/test.h"

#define LIMITED "run --device sim --trace chat.json --model tiny --limit 8 --db @t.db "

/* A machine in the test's folder: 1e12 FLOP/s or what is given. */
static void machine(const char *file, const char *flops, const char *ops)
{
    FILE *f = fopen(program_file(file), "w");

    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fprintf(f, "{\"schema\": \"sim-profile/1\", \"name\": \"box\", \"about\": \"a box of the \\\"test\\\"\", "
            "\"flops\": %s,\"bandwidth\": 3e11, \"flop_efficiency\": 0.5, \"byte_efficiency\": 0.25, "
            "\"link_bandwidth\": 1e9, \"launch_ns\": 0, \"host_step_ns\": 0, \"host_seq_ns\": 0, \"mem_bytes\": "
            "4000000000%s}", flops, ops);
    fclose(f);
}

/* The page of the newest experiment; the caller frees it. */
static char *page(void)
{
    struct err e = { 0 };
    char *text;

    CU_ASSERT_EQUAL(program_run("report --db @t.db --quiet --out @page.html"), 0);
    program_note("report");
    text = file_text(program_file("page.html"), &e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    return text;
}

static void machines_of_one_name_differ(void)
{
    char *text;
    const char *db = program_db();

    machine("one.json", "1e12", "");
    machine("two.json", "2e12", "");
    CU_ASSERT_EQUAL(program_run(LIMITED "--strategy continuous+paged+f16 --no-figures --profile @one.json"), 0);
    program_note("one.json");
    CU_ASSERT_EQUAL(program_run(LIMITED "--strategy continuous+paged+f16 --no-figures --profile @two.json"), 0);
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(DISTINCT backend) FROM runs"), 2);
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(DISTINCT json_extract(params_json, '$.profile_sha256')) FROM runs"), 2);
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM runs JOIN experiments USING (experiment_id) WHERE length("
                              "json_extract(params_json, '$.profile_sha256')) = 64 AND json_extract(params_json, "
                              "'$.profile_sha256') = json_extract(spec_json, '$.profile_sha256')"), 2);
    CU_ASSERT_EQUAL(db_number(db, "SELECT group_concat(json_extract(spec_json, '$.profile.flops'), '') = "
                              "'1000000000000.02000000000000.0' FROM experiments"), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "sim box:"));      /* the table tells it from a machine of ours */
    text = page();
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "a box of the &quot;test&quot;"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, ">2e+12<"));
    CU_ASSERT_PTR_NULL(strstr(text, ">1e+12<"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "0.5 of FLOP/s, 0.25 of bytes/s"));
    free(text);
}

static void what_tables_lack_is_said(void)
{
    const char *db = program_db();

    machine("t.json", "1e9", ", \"ops\": [{\"op\": \"matmul\", \"fmt\": \"f16\", \"n\": 128, \"k\": 128, \"by\": "
            "\"rows\", \"x\": [1], \"ns\": [10]}]");
    CU_ASSERT_EQUAL(program_run(LIMITED "--strategy continuous+paged+f16,continuous+paged+int4 --no-figures "
                                "--profile @t.json"), 0);
    program_note("tables");
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM runs WHERE validity = 'suspect' AND reasons LIKE '%from the "
                              "cost model, not from measured tables%matmul int4%'"), 1);
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM runs WHERE reasons LIKE '%cost model%matmul f16%'"), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "--precision"));
    CU_ASSERT_EQUAL(program_run(LIMITED "--strategy static+paged+f16 --no-figures --profile l4"), 0);
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM runs WHERE reasons LIKE '%measured tables%'"), 2);
}

/* A hundredth of the time is the border, and an invalid run stays invalid. */
static void how_much_makes_suspect(void)
{
    struct charged c = { .ns = 1000, .model_ns = 9.9 };
    struct validity v = { .word = "valid" };

    validity_modelled(&v, &c);
    CU_ASSERT_STRING_EQUAL(v.reasons, "");                       /* nothing was lacking */
    c.model[OP_COPY] = FMT_BIT(FMT_F16) | FMT_BIT(FMT_INT8);
    validity_modelled(&v, &c);
    CU_ASSERT_STRING_EQUAL(v.word, "valid");
    CU_ASSERT_PTR_NOT_NULL(strstr(v.reasons, "0.99 % of the time"));
    CU_ASSERT_PTR_NOT_NULL(strstr(v.reasons, "none for copy f16, copy int8"));
    c.model_ns = 10;
    validity_modelled(&v, &c);
    CU_ASSERT_STRING_EQUAL(v.word, "suspect");
    v.word = "invalid";
    validity_modelled(&v, &c);
    CU_ASSERT_STRING_EQUAL(v.word, "invalid");
}

static void presets_keep_their_name(void)
{
    char *text;
    const char *db = program_db();

    CU_ASSERT_EQUAL(program_run(LIMITED "--no-figures --strategy vllm-2026,sglang,continuous+paged+f16"), 0);
    program_note("presets");
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "\nvllm-2026 "));
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "\nsglang "));
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "\ncontinuous+paged "));
    CU_ASSERT_PTR_NULL(strstr(said()->out, "list_order"));
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM v_runs WHERE preset = 'vllm-2026' AND scheduler = "
                              "'list_order'"), 1);
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM v_runs WHERE preset IS NULL"), 1);
    text = page();
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "<td class=\"text\">vllm-2026</td><td class=\"text\">vllm-2026</td>"
                                        "<td class=\"wrap\">list_order+prefix+f16</td>"));
    free(text);
    /* the name of a list is no name of its members */
    CU_ASSERT_EQUAL(program_run(LIMITED "--no-figures --strategy precision"), 0);
    CU_ASSERT_PTR_NULL(strstr(said()->out, "\nprecision"));
    CU_ASSERT(db_number(db, "SELECT count(*) FROM v_runs WHERE preset = 'precision'") > 1);
}

static void two_of_one_label_are_told_apart(void)
{
    static const char *const text[] = { "continuous+paged+f16", "static+paged+f16" };
    const char *db = program_db();

    for (int i = 0; i < 2; i++) {
        FILE *f = fopen(program_file(i ? "b.json" : "a.json"), "w");

        CU_ASSERT_PTR_NOT_NULL_FATAL(f);
        fprintf(f, "{\"schema\": \"preset/1\", \"name\": \"my \\\"own\\\"\", \"about\": \"a\", \"source\": \"s\", "
                "\"strategies\": [\"%s\"]}", text[i]);
        fclose(f);
    }
    CU_ASSERT_EQUAL(program_run(LIMITED "--no-figures --strategy %s,%s", program_file("a.json"),
                                program_file("b.json")), 0);
    program_note("two presets of one name");
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "\nmy ?own? (1) "));
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "\nmy ?own? (2) "));
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM v_runs WHERE preset = 'my \"own\"'"), 2);
}

static void the_rest_runs_when_one_does_not_fit(void)
{
    char *text;
    const char *db = program_db();

    CU_ASSERT_EQUAL(program_run("run --device sim --trace chat.json --limit 8 --db @t.db --no-figures --profile l4 "
                                "--model llama-3.1-8b --kv 12GiB --strategy "
                                "continuous+paged+f16,continuous+paged+int4"),
                    EXIT_RUN_FAILED);
    program_note("f16 does not fit");
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, "continuous+paged+f16: does not fit: weights 14.96 GiB + KV pool 12.00 "
                                  "GiB = 26.96 GiB, but sim l4 has 24.00 GiB; give --kv "));
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "\nf16                        does not fit\n"));
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM runs WHERE status = 'failed' AND reasons LIKE 'does not "
                              "fit%'"), 1);
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM v_runs WHERE is_counted AND weight_dtype = 'int4'"), 1);
    CU_ASSERT_EQUAL(db_number(db, "SELECT weight_bytes > 16e9 FROM models WHERE weight_dtype = 'f16'"), 1);
    text = page();
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "(does not fit)"));
    free(text);
    CU_ASSERT_EQUAL(program_run("db check --db @t.db"), 0);
}

/* What is foretold of weights is what loading takes. */
static void weights_are_foretold(void)
{
    static const char *const prec[] = { "f16", "int4", "mixed", "int8:head=f16" };
    static const char *const shape[] = { "tiny", "smollm2-135m", "llama-3.1-8b" };
    struct device_conf conf = { .profile = "h200" };

    for (size_t i = 0; i < sizeof prec / sizeof *prec; i++)
        for (size_t k = 0; k < sizeof shape / sizeof *shape; k++) {
            struct loaded_set set;
            struct device d;
            struct model_shape s;
            struct strategy st;
            struct err e = { 0 };
            struct model *m;
            struct wfmt *fmt;
            char text[100];

            snprintf(text, sizeof text, "continuous+paged+%s", prec[i]);
            CU_ASSERT_FATAL(!strategy_parse(&st, text, &e) && !shape_load(&s, shape[k], &e) &&
                            !dev_open(&d, device_find("sim", &e), &conf, &e) && !loaded_open(&set, &d, &s, 1, &e));
            m = loaded_get(&set, &st, &e);
            fmt = choice_formats(&st, s.n_layer, &e);
            CU_ASSERT_FATAL(m && fmt);
            CU_ASSERT_EQUAL(model_weight_bytes(&s, fmt, d.ops->act_bytes), m->weight_bytes);
            free(fmt);
            loaded_close(&set);
            dev_close(&d);
        }
}

static void the_pool_is_stated(void)
{
    char *text;
    const char *many = "run --device sim --trace chat.json --rate 64 --db @t.db --no-figures --profile h200 --model "
                       "llama-3.1-8b --strategy continuous+contiguous+f16";

    CU_ASSERT_EQUAL(program_run("%s", many), 0);
    program_note("default pool, full");
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "KV pool 512 MiB (default: 4 longest sequences), 0.35 % of the device"));
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "? the KV pool is the default of 4 longest sequences"));
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "--kv 111GiB"));
    text = page();
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "KV pool 512 MiB (default: 4 longest sequences)"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "--kv 111GiB"));
    free(text);
    CU_ASSERT_EQUAL(program_run("%s --kv 111GiB", many), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "KV pool 111 GiB (--kv 111GiB), 79 % of the device's memory"));
    CU_ASSERT_PTR_NULL(strstr(said()->out, "the default of 4"));
}

static void repeats_of_a_virtual_clock_are_one(void)
{
    CU_ASSERT_EQUAL(program_run(LIMITED "--strategy continuous+paged+f16 --no-figures --repeats 3"), 0);
    program_note("--repeats 3");
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, "instead of --repeats 3 each cell is run once"));
    CU_ASSERT_EQUAL(db_number(program_db(), "SELECT count(*) FROM runs"), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "1 repeat\n"));
}

static void what_stands_twice_is_refused(void)
{
    static const struct { const char *args, *named; } t[] = {
        { "--rate 1,1", "1 stands twice" }, { "--rate 4,1-8*2", "4 stands twice" },
        { "--slo ttft:200,ttft:300", "ttft is given twice" }, { "--rate 1 --rate 2", "--rate is given twice" },
        { "--lim 3 --limit=4", "--limit is given twice" }, { "--quiet --name a --quiet", "--quiet is given twice" },
    };

    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        CU_ASSERT_EQUAL(program_run("run --trace chat.json --device sim --db @t.db %s", t[i].args), EXIT_USAGE);
        program_note(t[i].args);
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, t[i].named));
        CU_ASSERT_EQUAL(db_number(program_db(), "SELECT 1"), -1);
    }
    /* a value that looks like an option is a value */
    CU_ASSERT_EQUAL(program_run(LIMITED "--strategy continuous+paged+f16 --no-figures --name --note --note --name"), 0);
}

static const struct test tests[] = {
    { "machines_of_one_name_differ", machines_of_one_name_differ },
    { "what_tables_lack_is_said", what_tables_lack_is_said },
    { "how_much_makes_suspect", how_much_makes_suspect },
    { "presets_keep_their_name", presets_keep_their_name },
    { "two_of_one_label_are_told_apart", two_of_one_label_are_told_apart },
    { "the_rest_runs_when_one_does_not_fit", the_rest_runs_when_one_does_not_fit },
    { "weights_are_foretold", weights_are_foretold },
    { "the_pool_is_stated", the_pool_is_stated },
    { "repeats_of_a_virtual_clock_are_one", repeats_of_a_virtual_clock_are_one },
    { "what_stands_twice_is_refused", what_stands_twice_is_refused },
    { NULL, NULL },
};
const struct suite suite_asked = { "asked", tests, 120 };
