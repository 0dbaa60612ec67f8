/* test_chat_run.c - texts of a trace put to a model in its chat form: counted, encoded and recorded as such, refused
 * with a reason where a model or a trace has nothing for it. Only the last test needs the real model. */
#include <stdio.h>
#include <string.h>

#include "base/home.h"
#include "harness/sweep.h"
#include "harness/texts.h"
#include "results/db.h"
#include "tests/files.h"
#include "tests/test.h"

#define ROWS(a, b)                                                                                             \
    "{\"schema\":\"serving-trace/1\",\"count\":2,\"requests\":[{\"id\":0,\"arrival_s\":0,\"output_tokens\":3," \
    a "},{\"id\":1,\"arrival_s\":0,\"output_tokens\":3," b "}]}"
#define TEXTS ROWS("\"prompt\":\"Once upon a time<|im_end|>\"", "\"prompt_tokens\":7,\"prompt\":\"What is it?\"")

static char *trace_file(const char *text, char path[4096])
{
    file_put("trace.json", text, path);
    return path;
}

/* A model of which only the tokenizer is there. */
static struct model_files fixture(const char *vocabulary)
{
    struct model_files f = { .kind = vocabulary ? MODEL_HF : MODEL_SHAPE };

    snprintf(f.shape.name, sizeof f.shape.name, "%s", vocabulary ? vocabulary : "shape");
    snprintf(f.path, sizeof f.path, "%s/tests/fixtures/tokenizer/%s", home_dir(), f.shape.name);
    return f;
}

static size_t chat_length(struct tokenizer *t, const char *system, const char *user)
{
    struct chat_turn turn[2] = { { "system", system }, { "user", user } };
    struct prompt_form form = { .chat = true, .system = system };
    struct token_ids a = { 0 }, b = { 0 };
    struct err e = { 0 };
    size_t n;

    CU_ASSERT_FATAL(!chat_encode(t, turn + !system, 2 - !system, &a, &e) && !prompt_ids(t, &form, user, &b, &e));
    CU_ASSERT(a.n == b.n && !memcmp(a.id, b.id, a.n * sizeof *a.id));
    n = a.n;
    token_ids_free(&a);
    token_ids_free(&b);
    return n;
}

/* One meaning for all verbs: the turns of `generate --chat` with and without a system text; counted as encoded. */
static void counts_what_it_encodes(void)
{
    struct model_files f = fixture("qwen2");
    struct trace_options o = { 0 };
    struct err e = { 0 };
    struct texts x;
    struct trace t;
    char path[4096];
    size_t n;

    CU_ASSERT_FATAL(!texts_open(&x, &f, false, true, &o.texts, &e));
    CU_ASSERT_STRING_EQUAL(x.chat, "qwen2");
    CU_ASSERT_FATAL(!trace_read(&t, trace_file(TEXTS, path), &o, &e));
    n = chat_length(x.t, NULL, "Once upon a time<|im_end|>");
    CU_ASSERT(t.req[0].n_prompt == n && t.req[1].n_prompt == 7);
    CU_ASSERT_FATAL(!texts_encode(&x, &t, 0, &e));
    CU_ASSERT(t.req[0].n_prompt == n && t.req[0].more->prompt_ids[0] == (uint32_t)tokenizer_find(x.t, "<|im_start|>"));
    CU_ASSERT_EQUAL(t.req[1].n_prompt, chat_length(x.t, NULL, "What is it?"));
    CU_ASSERT_NOT_EQUAL(chat_length(x.t, "Be kind.", "What is it?"), t.req[1].n_prompt);
    CU_ASSERT_PTR_NOT_NULL(strstr(x.note, "2 prompts tokenised in chat form qwen2: "));
    trace_free(&t);
    texts_close(&x);
}

static void refuses(void)
{
    struct model_files base = fixture("gpt2"), chat = fixture("qwen2"), shape = fixture(NULL);
    struct trace_options o = { 0 };
    struct err e = { 0 };
    struct texts x;
    struct trace t;
    char path[4096];

    CU_ASSERT(texts_open(&x, &base, false, true, &o.texts, &e) == -1 && e.code == EXIT_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "has no chat template"));
    texts_close(&x);
    e = (struct err){ 0 };
    CU_ASSERT(texts_open(&x, &shape, false, true, &o.texts, &e) == -1 && strstr(e.text, "--chat: shape is a shape"));
    e = (struct err){ 0 };
    CU_ASSERT_FATAL(!texts_open(&x, &chat, false, true, &o.texts, &e));
    trace_file(ROWS("\"prompt_tokens\":4", "\"prompt_ids\":[4,5]"), path);
    CU_ASSERT_FATAL(!trace_read(&t, path, &o, &e));
    CU_ASSERT(texts_encode(&x, &t, 0, &e) == -1 && e.code == EXIT_USAGE &&
              strstr(e.text, "--chat: no request of trace has its prompt as a text"));
    trace_free(&t);
    texts_close(&x);
}

/* One value of the store as text. */
static void ask(const char *db_path, const char *sql, char *out, size_t n)
{
    struct err e = { 0 };
    sqlite3 *db = db_open_read(db_path, 0, &e);
    sqlite3_stmt *q = db ? db_prepare(db, db_path, sql, &e) : NULL;

    CU_ASSERT_FATAL(q && sqlite3_step(q) == SQLITE_ROW);
    snprintf(out, n, "%s", (const char *)sqlite3_column_text(q, 0));
    sqlite3_finalize(q);
    sqlite3_close(db);
}

/* The same file with and without: two traces in the store, each run says which. sim computes nothing, but is asked the
 * same tokens. */
static void recorded_with_the_run(void)
{
    char path[4096], db[4096], got[400];
    struct sweep_conf c = { .device_note = "", .model = "smollm2-135m", .n_rate = 1, .rate = { 1 }, .repeats = 1,
                            .seed = 1, .name = "x", .command_line = "", .log = LOG_REQUEST, .quiet = true,
                            .progress = PROGRESS_NEVER };
    struct sweep_result r;
    enum model_kind kind;
    struct err e = { 0 };

    if (model_locate("smollm2-135m", &kind, path, sizeof path, &e) || kind != MODEL_GGUF) {
        test_skip("SmolLM2 is not here: make model MODEL=smollm2-135m, or set SERVELAB_MODELS");
        return;
    }
    snprintf(db, sizeof db, "%s/x.db", test_dir());
    c.trace_path = trace_file(TEXTS, path);
    c.db = db;
    CU_ASSERT_FATAL((c.device = device_find("sim", &e)) && !strategies_parse(c.strategy, &c.n_strategy,
                                                                               "continuous+paged+f16", &e));
    for (int i = 0; i < 2; i++) {
        c.chat = i;
        if (sweep_run(&c, &r, &e))
            test_note("%s", e.text);
        CU_ASSERT_FATAL(!e.code && r.n_done == 1);
    }
    ask(db, "SELECT group_concat(format, '; ') FROM (SELECT format FROM runs JOIN traces USING (trace_id) ORDER BY "
        "run_id)", got, sizeof got);
    CU_ASSERT_STRING_EQUAL(got, "serving-trace/1; serving-trace/1 in chat form smollm2");
    ask(db, "SELECT count(DISTINCT trace_id) || ' ' || count(DISTINCT sha256) FROM traces", got, sizeof got);
    CU_ASSERT_STRING_EQUAL(got, "2 1");
    ask(db, "SELECT group_concat(coalesce(json_extract(params_json, '$.chat'), 'none'), '; ') FROM runs", got,
        sizeof got);
    CU_ASSERT_STRING_EQUAL(got, "none; smollm2");
    ask(db, "SELECT group_concat(json_extract(spec_json, '$.chat'), '; ') FROM experiments", got, sizeof got);
    CU_ASSERT_STRING_EQUAL(got, "; smollm2");
    ask(db, "SELECT min(b.prompt_tokens - a.prompt_tokens) > 20 FROM requests a JOIN requests b USING (request_id) "
        "WHERE a.run_id = 1 AND b.run_id = 2", got, sizeof got);
    CU_ASSERT_STRING_EQUAL(got, "1");
}

static const struct test tests[] = {
    { "counts_what_it_encodes", counts_what_it_encodes }, { "refuses", refuses },
    { "recorded_with_the_run", recorded_with_the_run }, { NULL, NULL },
};
const struct suite suite_chat_run = { "chat_run", tests, 60 };
