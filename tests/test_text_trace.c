/* test_text_trace.c - traces from sets of texts, and texts of traces as token ids of a model. The
 * sets themselves are not part of the project; the tokenizer is the small one of
 * tests/fixtures/tokenizer/gpt2. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/home.h"
#include "harness/prompts.h"
#include "tests/test.h"

static struct trace_options options(struct prompts *p, enum arrival_law law, double rate)
{
    struct trace_options o = { .texts = { .arrivals = law, .rate = rate, .seed = 1 } };
    struct err e = { 0 };
    char path[4096];

    snprintf(path, sizeof path, "%s/tests/fixtures/tokenizer/gpt2/", home_dir());
    if (prompts_open(p, path, &o.texts, &e))
        test_note("%s", e.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p->t);
    return o;
}

static void write_file(const char *name, const char *text, char path[4096])
{
    FILE *f;

    snprintf(path, 4096, "%s/%s", test_dir(), name);
    f = fopen(path, "wb");
    CU_ASSERT_FATAL(f && fputs(text, f) >= 0 && !fclose(f));
}

/* ---- the published sets ---- */
static const struct set { const char *file, *format; uint32_t n, n_out, n_later; } sets[] = {
    { "mt_bench_question.jsonl", "mt-bench-jsonl", 80, 64, 80 },
    { "arena_hard_v01_question_first400.jsonl", "arena-hard-jsonl", 400, 64, 0 },
    { "gsm8k_test_first400.jsonl", "gsm8k-jsonl", 400, 0, 0 },
    { "HumanEval.jsonl.gz", "human-eval-jsonl", 164, 0, 0 },
};

static uint32_t length(struct tokenizer *t, const char *text)
{
    struct token_ids ids = { 0 };
    struct err e = { 0 };
    size_t n;

    CU_ASSERT_FATAL(!tokenizer_encode(t, text, strlen(text), ENCODE_ENDS, &ids, &e));
    n = ids.n;
    token_ids_free(&ids);
    return (uint32_t)n;
}

static void check_set(const struct set *s, const struct trace *t, struct tokenizer *tok)
{
    double span = (double)(t->req[t->n - 1].arrive_us - t->req[0].arrive_us) * 1e-6;
    char later[64];
    unsigned bad = 0;

    CU_ASSERT_STRING_EQUAL(t->format, s->format);
    CU_ASSERT_STRING_EQUAL(t->tokenizer, "gpt2");
    CU_ASSERT_EQUAL_FATAL(t->n, s->n);
    CU_ASSERT_DOUBLE_EQUAL((t->n - 1) / span, 4, 1e-4);
    CU_ASSERT_PTR_NOT_NULL(strstr(t->recipe, "arrivals made: poisson rate=4 seed=1"));
    for (uint32_t i = 0; i < t->n; i++)
        bad += !t->req[i].more || !t->req[i].more->prompt ||
               t->req[i].n_prompt != length(tok, t->req[i].more->prompt) ||
               (s->n_out ? t->req[i].n_out != s->n_out : t->req[i].n_out < 1);
    CU_ASSERT_EQUAL(bad, 0);
    snprintf(later, sizeof later, "[{\"later_turns_left_out\":%u}]", s->n_later);
    CU_ASSERT_STRING_EQUAL(t->header_extra, s->n_later ? later : "");
}

static void published_sets(void)
{
    const char *dir = test_shared();
    struct prompts p;

    if (!dir) {
        test_skip("no recorded traces here");
        return;
    }
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        struct trace_options o = options(&p, LAW_POISSON, 4), none = { 0 };
        struct trace a, b;
        struct err e = { 0 };
        char path[4096], out[4096];
        uint32_t differ = 0;

        o.texts.n_out = sets[i].n_out;
        snprintf(path, sizeof path, "%s/traces/%s", dir, sets[i].file);
        snprintf(out, sizeof out, "%s/out.json", test_dir());
        if (trace_read(&a, path, &o, &e))
            test_note("%s", e.text);
        CU_ASSERT_FATAL(!e.code);
        check_set(&sets[i], &a, p.t);
        /* What was written needs no tokenizer any more. */
        CU_ASSERT_FATAL(!trace_write(&a, out, i & 1, &e) && !trace_read(&b, out, &none, &e));
        CU_ASSERT_FATAL(a.n == b.n);
        for (uint32_t k = 0; k < a.n; k++)
            differ += a.req[k].arrive_us != b.req[k].arrive_us ||
                      a.req[k].n_prompt != b.req[k].n_prompt || a.req[k].n_out != b.req[k].n_out ||
                      strcmp(a.req[k].more->prompt, b.req[k].more->prompt);
        CU_ASSERT_EQUAL(differ, 0);
        CU_ASSERT_STRING_EQUAL(b.tokenizer, "gpt2");
        trace_free(&a);
        trace_free(&b);
        prompts_close(&p);
    }
}

/* ---- ShareGPT ---- */
#define TURN(from, value) "{\"from\":\"" from "\",\"value\":\"" value "\"}"
#define TALK(id, turns) "{\"id\":\"" id "\",\"conversations\":[" turns "]}"
#define ASKED TURN("human", "What is it?") "," TURN("gpt", "A book.")
#define FIRST TALK("q_0", ASKED "," TURN("human", "Whose?") "," TURN("gpt", "Mine."))
#define LATE TURN("user", "Hello there") "," TURN("assistant", "Good day to you")
#define SECOND \
    TALK("q_1", TURN("system", "Be kind.") "," TURN("gpt", "cut") "," TURN("user", "Anyone?") "," LATE)

static void sharegpt(void)
{
    static const char *const spelled[] = { "[" FIRST ",\n " SECOND "]\n", FIRST "\n" SECOND "\n" };
    struct prompts p;

    for (size_t i = 0; i < 2; i++) {
        struct trace_options o = options(&p, LAW_EVEN, 2);
        struct err e = { 0 };
        struct trace t;
        char path[4096], id[24];

        write_file("share.json", spelled[i], path);
        if (trace_read(&t, path, &o, &e))
            test_note("%s", e.text);
        CU_ASSERT_FATAL(!e.code && t.n == 2);
        CU_ASSERT_STRING_EQUAL(t.format, "sharegpt-json");
        CU_ASSERT_STRING_EQUAL(trace_id(&t, 1, id), "q_1");
        CU_ASSERT_STRING_EQUAL(t.req[0].more->prompt, "What is it?");
        CU_ASSERT_STRING_EQUAL(t.req[1].more->prompt, "Hello there");
        CU_ASSERT_EQUAL(t.req[0].n_out, length(p.t, "A book."));
        CU_ASSERT_EQUAL(t.req[1].n_out, length(p.t, "Good day to you"));
        CU_ASSERT_EQUAL(t.req[1].arrive_us, 500000);
        CU_ASSERT_STRING_EQUAL(t.header_extra, "[{\"later_turns_left_out\":1}]");
        trace_free(&t);
        prompts_close(&p);
    }
}

/* ---- laws ---- */
static char *many(uint32_t n)
{
    char *text = malloc(n * 64 + 1), *to = text;

    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    for (uint32_t i = 0; i < n; i++)
        to += sprintf(to, "{\"question\":\"How many is %u?\",\"answer\":\"%u\"}\n", i, i);
    return text;
}

static double gap_cv(const struct trace *t)
{
    double sum = 0, square = 0, n = t->n - 1;

    for (uint32_t i = 1; i < t->n; i++) {
        double g = (double)(t->req[i].arrive_us - t->req[i - 1].arrive_us);

        sum += g;
        square += g * g;
    }
    return sqrt(square / n - sum / n * sum / n) / (sum / n);
}

static void laws(void)
{
    static const struct { enum arrival_law law; double cv, want; } cases[] = {
        { LAW_POISSON, 0, 1 }, { LAW_GAMMA, 3, 3 }, { LAW_GAMMA, 0.2, 0.2 },
        { LAW_EVEN, 0, 0 },
    };
    char *text = many(4000), path[4096];
    struct prompts p;

    write_file("many.jsonl", text, path);
    free(text);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trace_options o = options(&p, cases[i].law, 7);
        struct trace a, b;
        struct err e = { 0 };

        o.texts.cv = cases[i].cv;
        CU_ASSERT_FATAL(!trace_read(&a, path, &o, &e) && !trace_read(&b, path, &o, &e));
        CU_ASSERT_DOUBLE_EQUAL(3999 / ((double)a.req[3999].arrive_us * 1e-6), 7, 1e-5);
        CU_ASSERT_DOUBLE_EQUAL(gap_cv(&a), cases[i].want, 0.1 * cases[i].want + 1e-4);
        CU_ASSERT_EQUAL(a.req[1234].arrive_us, b.req[1234].arrive_us);
        trace_free(&b);
        o.texts.seed = 2;
        CU_ASSERT_FATAL(!trace_read(&b, path, &o, &e));
        CU_ASSERT_EQUAL(a.req[1234].arrive_us == b.req[1234].arrive_us, cases[i].law == LAW_EVEN);
        trace_free(&a);
        trace_free(&b);
        prompts_close(&p);
    }
}

static void batch(void)
{
    struct prompts p;
    struct trace_options o = options(&p, LAW_BATCH, 0);
    char *text = many(10), path[4096];
    struct err e = { 0 };
    struct trace t;

    write_file("many.jsonl", text, path);
    free(text);
    CU_ASSERT_FATAL(!trace_read(&t, path, &o, &e));
    CU_ASSERT(t.n == 10 && t.req[9].arrive_us == 0);
    trace_free(&t);
    prompts_close(&p);
}

/* ---- what is refused ---- */
#define GSM "{\"question\":\"Why?\",\"answer\":\"So.\"}\n"
#define MT "{\"question_id\":81,\"category\":\"x\",\"turns\":[\"a\",\"b\"]}\n"
static const struct wrong {
    const char *text, *words;
    enum arrival_law law;
    double rate, cv;
    bool no_count;
    uint32_t n_out;
} wrong[] = {
    { GSM, "lengths need a tokenizer", LAW_POISSON, 1, 0, true, 0 },
    { GSM, "texts without times; add --arrivals", LAW_NONE, 1, 0, false, 0 },
    { GSM, "--arrivals poisson: needs --rate", LAW_POISSON, 0, 0, false, 0 },
    { GSM, "--arrivals gamma: needs --cv", LAW_GAMMA, 1, 0, false, 0 },
    { GSM, "--arrivals even: --cv is for gamma", LAW_EVEN, 1, 2, false, 0 },
    { GSM GSM, "would last longer than", LAW_EVEN, 1e-12, 0, false, 0 },
    { MT, "no recorded answer", LAW_EVEN, 1, 0, false, 0 },
    { MT "{\"question_id\":82,\"turns\":[]}\n", "not a list with at least one turn", LAW_EVEN, 1, 0,
      false, 9 },
    { MT "{\"question_id\":82,\"turns\":[7]}\n", "turns 7: not a string", LAW_EVEN, 1, 0, false,
      9 },
    { MT "{\"turns\":[\"a\"]}\n", "question_id: is missing", LAW_EVEN, 1, 0, false, 9 },
    { GSM "{\"question\":5,\"answer\":\"x\"}\n", "question 5: not a string", LAW_EVEN, 1, 0, false,
      0 },
    { GSM "{\"answer\":\"x\"}\n", "question: is missing", LAW_EVEN, 1, 0, false, 0 },
    { GSM "{\"question\":\"x\",\"answer\":\"\"}\n", "--empty=skip", LAW_EVEN, 1, 0, false, 0 },
    { GSM "[1]\n", "a row must be an object", LAW_EVEN, 1, 0, false, 0 },
    { GSM "{\"question\":\"x\",\"answer\"\n", "wrong.json:2 (row 2", LAW_EVEN, 1, 0, false, 0 },
    { "[{\"a\":1}]", "conversations is missing: not a list", LAW_EVEN, 1, 0, false, 0 },
    { "[{\"conversations\":[{\"from\":1}]}]", "the strings from and value", LAW_EVEN, 1, 0, false,
      0 },
    { "[" FIRST "] x", "text stands after the end of the list", LAW_EVEN, 1, 0, false, 0 },
    { "[" FIRST ",", "the file ends inside", LAW_EVEN, 1, 0, false, 0 },
    { "[" FIRST "," FIRST "]", "ids must be unique", LAW_EVEN, 1, 0, false, 0 },
    { "{\"schema\":\"serving-trace/"
      "1\",\"count\":1,\"requests\":[{\"id\":0,\"arrival_s\":0,\"prompt_tokens\":1,"
      "\"output_tokens\":1}]}",
      "has arrival times of its own", LAW_EVEN, 1, 0, false, 0 },
};

static void refuses(void)
{
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct prompts p;
        struct trace_options o = options(&p, wrong[i].law, wrong[i].rate);
        struct trace t = { 0 };
        struct err e = { 0 };
        char path[4096];

        o.texts.cv = wrong[i].cv;
        o.texts.n_out = wrong[i].n_out;
        if (wrong[i].no_count)
            o.texts.count = NULL;
        write_file("wrong.json", wrong[i].text, path);
        CU_ASSERT(trace_read(&t, path, &o, &e) == -1 && e.code == EXIT_USAGE &&
                  !strchr(e.text, '\n'));
        if (!strstr(e.text, wrong[i].words)) {
            test_note("expected \"%s\" in: %s", wrong[i].words, e.text);
            CU_FAIL("wrong words");
        }
        trace_free(&t);
        prompts_close(&p);
    }
}

static void leaves_out_empty_rows(void)
{
    struct prompts p;
    struct trace_options o = options(&p, LAW_EVEN, 1);
    struct err e = { 0 };
    struct trace t;
    char path[4096];

    o.texts.skip_empty = true;
    write_file("empty.jsonl",
               GSM
               "{\"question\":\"\",\"answer\":\"a\"}\n{\"question\":\"b\",\"answer\":\"\"}\n" GSM,
               path);
    CU_ASSERT_FATAL(!trace_read(&t, path, &o, &e));
    CU_ASSERT_EQUAL(t.n, 2);
    CU_ASSERT_STRING_EQUAL(t.header_extra, "[{\"empty_skipped\":2}]");
    trace_free(&t);
    write_file("empty.jsonl", "{\"question\":\"\",\"answer\":\"a\"}\n", path);
    CU_ASSERT(trace_read(&t, path, &o, &e) == -1 && strstr(e.text, "no requests are left"));
    prompts_close(&p);
}

/* ---- texts as ids ---- */
static void texts_become_ids(void)
{
    static const char text[] =
        "{\"schema\":\"serving-trace/1\",\"count\":4,\"requests\":[\n"
        "{\"id\":0,\"arrival_s\":0,\"output_tokens\":5,\"prompt\":\"Once upon a time there "
        "was\"},\n"
        "{\"id\":1,\"arrival_s\":0,\"prompt_tokens\":99,\"output_tokens\":5,\"prompt\":\"Once upon "
        "a day\"},\n"
        "{\"id\":2,\"arrival_s\":0,\"prompt_tokens\":7,\"output_tokens\":5},\n"
        "{\"id\":3,\"arrival_s\":0,\"output_tokens\":5,\"prompt_ids\":[4,5]}]}\n";
    struct prompts p;
    struct trace_options o = options(&p, LAW_NONE, 0);
    struct prompts_report rep;
    struct text_out back = { 0 };
    struct err e = { 0 };
    struct trace t;
    uint64_t x[2], y[2];
    uint32_t n;
    char path[4096];

    write_file("text.json", text, path);
    CU_ASSERT_FATAL(!trace_read(&t, path, &o, &e));
    CU_ASSERT_STRING_EQUAL(t.tokenizer, "gpt2");       /* whose count it is */
    n = length(p.t, "Once upon a time there was");
    CU_ASSERT(t.req[0].n_prompt == n && t.req[1].n_prompt == 99);
    CU_ASSERT_FATAL(!prompts_encode(&t, p.t, false, 0, &rep, &e));
    CU_ASSERT(rep.n_text == 2 && rep.n_other == 1 && rep.was == n + 99 &&
              rep.is == n + t.req[1].n_prompt);
    CU_ASSERT_EQUAL(t.req[1].n_prompt, length(p.t, "Once upon a day"));
    CU_ASSERT(!t.req[2].more && t.req[2].n_prompt == 7 && t.req[3].more->prompt_ids[1] == 5);
    CU_ASSERT_FATAL(!tokenizer_decode(p.t, t.req[0].more->prompt_ids, n, 0, &back, &e));
    CU_ASSERT_STRING_EQUAL(back.p, "Once upon a time there was");
    trace_identities(&t, 0, 1, 0, 2, x);       /* equal beginnings are equal to a prefix cache */
    trace_identities(&t, 1, 1, 0, 2, y);
    CU_ASSERT(x[0] == y[0] && x[1] == y[1]);
    CU_ASSERT(prompts_encode(&t, p.t, false, 0, &rep, &e) == 0 && rep.n_text == 0);   /* once is enough */
    text_out_free(&back);
    trace_free(&t);
    CU_ASSERT_FATAL(!trace_read(&t, path, &o, &e));
    CU_ASSERT(prompts_encode(&t, p.t, false, 6, &rep, &e) == -1 &&
              strstr(e.text, "request 0: its prompt has"));
    trace_free(&t);
    prompts_close(&p);
}

static const struct test tests[] = {
    { "published_sets", published_sets },
    { "sharegpt", sharegpt },
    { "laws", laws },
    { "batch", batch },
    { "refuses", refuses },
    { "leaves_out_empty_rows", leaves_out_empty_rows },
    { "texts_become_ids", texts_become_ids },
    { NULL, NULL },
};
const struct suite suite_text_trace = { "text_trace", tests, 120 };
