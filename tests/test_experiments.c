/* test_experiments.c - the papers' experiments in their short form: every claim of results/NN-question/checks.sql
 * holds, or is one whose miss the experiment's README explains. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/home.h"
#include "harness/experiment.h"
#include "tests/test.h"

static void run_small(const char *name, int at_least)
{
    struct experiment_conf c = { .name = name, .is_small = true, .quiet = true, .no_figure = true };
    struct experiment_result *r = calloc(1, sizeof *r);
    char dir[1000], path[4200];
    struct err e = { 0 };

    CU_ASSERT_PTR_NOT_NULL_FATAL(r);
    snprintf(path, sizeof path, "%s/results/%s/README.md", home_dir(), name);
    CU_ASSERT_EQUAL(access(path, R_OK), 0);
    snprintf(dir, sizeof dir, "%.900s/%s", test_dir(), name);
    c.dir = dir;
    if (experiment_run(&c, r, &e))
        test_note("%s: %s", name, e.text);
    CU_ASSERT_EQUAL_FATAL(e.code, 0);
    if (*r->skipped) {
        test_skip("%s", r->skipped);
        free(r);
        return;
    }
    CU_ASSERT(r->n >= at_least);
    CU_ASSERT_EQUAL(r->n_missed, 0);
    CU_ASSERT(r->db_bytes > 0 && strstr(r->how, "not measured"));
    for (int i = 0; i < r->n; i++)
        if (!r->claim[i].held)
            test_note("%s: %s: %.4g, expected %.4g to %.4g%s%s", name, r->claim[i].claim, r->claim[i].value,
                      r->claim[i].low, r->claim[i].high, *r->claim[i].known ? "; known: " : "",
                      r->claim[i].known);
    free(r);
}

static void memory(void) { run_small("01-memory", 10); }
static void stalls(void) { run_small("02-stalls", 5); }
static void fairness(void) { run_small("03-fairness", 5); }
static void shortest(void) { run_small("04-shortest", 10); }
static void prefix_cache(void) { run_small("05-prefix-cache", 3); }
static void eviction(void) { run_small("06-eviction", 15); }

/* Equal recipes give equal traces, a tenant's requests do not depend on the others', limits are kept. */
static void traces(void)
{
    static const char text[] =
        "{\"seed\": 3, \"clients\": [{\"tenant\": \"a\", \"count\": 500, \"rate\": 2, \"longest\": 300, "
        "\"prompt\": {\"mean\": 100, \"sigma\": 1.2}, \"output\": {\"median\": 80, \"sigma\": 0.9}}, "
        "{\"tenant\": \"b\", \"count\": 10, \"rate\": 1, \"prompt\": {\"fixed\": 7}, \"output\": {\"fixed\": 9}}]}";
    json_t *o = json_loads(text, 0, NULL);
    struct err e = { 0 };
    struct trace t, u;
    uint32_t b = 0;

    CU_ASSERT_EQUAL_FATAL(experiment_trace(&t, o, 1, "x", &e), 0);
    CU_ASSERT_EQUAL_FATAL(experiment_trace(&u, o, 1, "x", &e), 0);
    CU_ASSERT_EQUAL(t.n, 510);
    for (uint32_t i = 0; i < t.n; i++) {
        const struct trace_req *q = &t.req[i];

        CU_ASSERT(q->arrive_us == u.req[i].arrive_us && q->n_prompt == u.req[i].n_prompt);
        CU_ASSERT(!i || q->arrive_us >= q[-1].arrive_us);
        CU_ASSERT(q->n_prompt + q->n_out <= 300);
        b += !strncmp(q->id, "b-", 2) && q->n_prompt == 7 && q->n_out == 9;
    }
    CU_ASSERT_EQUAL(b, 10);
    trace_free(&t);
    trace_free(&u);
    json_decref(o);
}

/* A spec's own folder, so that its claims can be written by hand: what the paper says as a range is held against the
 * value as well, and the table says when the two differ. */
static void outside_of_the_papers_range(void)
{
    static const char spec[] = "{\"schema\": \"experiment/1\", \"name\": \"mine\", \"question\": \"?\", \"source\": "
        "\"-\", \"model\": \"tiny\", \"profile\": \"h200\", \"small\": 1.0, \"parts\": [{\"name\": \"p\", \"kv\": "
        "\"4096tok\", \"max_len\": 64, \"trace\": {\"seed\": 1, \"clients\": [{\"count\": 8, \"rate\": 1.0, "
        "\"prompt\": {\"fixed\": 9}, \"output\": {\"fixed\": 9}}]}, \"strategies\": {\"a\": "
        "\"continuous+paged+f16\"}}]}";
    static const char checks[] = "SELECT 'in', 2, 1, 9, '1.5 to 3', NULL; SELECT 'above', 8, 1, 9, '1.5 to 3', NULL; "
                                 "SELECT 'most', 8, 1, 9, 'up to 7', NULL; SELECT 'point', 8, 1, 9, '7', NULL; "
                                 "SELECT 'not', 8, 1, 3, '1.5 to 3', 'why';";
    struct experiment_conf c = { .is_small = true, .quiet = true, .no_figure = true };
    struct experiment_result *r = calloc(1, sizeof *r);
    char from[900], dir[1000], path[1000], *text = NULL;
    struct err e = { 0 };
    size_t n = 0;
    FILE *f;

    CU_ASSERT_PTR_NOT_NULL_FATAL(r);
    snprintf(from, sizeof from, "%.800s/mine", test_dir());
    CU_ASSERT_EQUAL_FATAL(mkdir(from, 0700), 0);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", from, i ? "checks.sql" : "sweep.json");
        CU_ASSERT_PTR_NOT_NULL_FATAL(f = fopen(path, "w"));
        fputs(i ? checks : spec, f);
        fclose(f);
    }
    snprintf(dir, sizeof dir, "%.900s/out", test_dir());
    c.name = from;
    c.dir = dir;
    if (experiment_run(&c, r, &e))
        test_note("%s", e.text);
    CU_ASSERT_EQUAL_FATAL(r->n, 5);
    for (int i = 0; i < 5; i++)
        CU_ASSERT_EQUAL(r->claim[i].outside, i == 1 || i == 2 || i == 4);
    f = open_memstream(&text, &n);
    experiment_print(f, r);
    fclose(f);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "simulated: tiny on sim h200"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "1.5 to 3  holds\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "1.5 to 3  holds, outside the paper's range\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "up to 7  holds, outside the paper's range\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "7  holds\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "missed, known: why\n"));
    free(text);
    free(r);
}

static void refuses(void)
{
    static const char *const wrong[] = {
        "{\"seed\": 1, \"clients\": []}", "{\"clients\": [1]}", "{\"seed\": 1, \"clients\": [{\"count\": 0}]}",
        "{\"seed\": 1, \"clients\": [{\"count\": 1, \"rate\": 1.0, \"prompt\": {\"fixed\": 1, \"mean\": 2}, "
        "\"output\": {\"fixed\": 1}}]}",
        "{\"seed\": 1, \"clients\": [{\"count\": 1, \"rate\": 1.0, \"prompt\": {\"fixed\": 9}, "
        "\"output\": {\"fixed\": 9}, \"longest\": 10}]}",
        "{\"seed\": 1, \"cleints\": []}",
    };
    struct experiment_conf c = { .name = "memory", .quiet = true };
    struct experiment_result *r = calloc(1, sizeof *r);
    struct err e = { 0 };

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_t *o = json_loads(wrong[i], 0, NULL);
        struct err x = { 0 };
        struct trace t;

        CU_ASSERT_EQUAL(experiment_trace(&t, o, 1, "x", &x), -1);
        CU_ASSERT_EQUAL(x.code, EXIT_USAGE);
        trace_free(&t);
        json_decref(o);
    }
    CU_ASSERT_EQUAL(experiment_run(&c, r, &e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "did you mean '01-memory'?"));
    free(r);
}

/* ---- what 05 is held to: an LRU over the recorded hash ids, nothing else ---- */

struct lru { uint64_t *last, stamp, n, at; struct { uint64_t id, stamp; } *seen; };

/* Moves id to the young end; with more than `most` in, the oldest leaves. */
static void touch(struct lru *l, uint64_t id, uint64_t most)
{
    l->n += !l->last[id];
    l->last[id] = ++l->stamp;
    l->seen[l->stamp].id = id;
    l->seen[l->stamp].stamp = l->stamp;
    while (l->n > most) {
        uint64_t old = l->seen[++l->at].id;

        if (l->last[old] != l->at)
            continue;                  /* it was used again since */
        l->last[old] = 0;
        l->n--;
    }
}

/* Leading blocks found, in tokens, over prompt tokens; the first `rows` rows, room for `most` blocks. */
static double offline_lru(const struct trace *t, uint32_t rows, uint64_t most)
{
    uint64_t ids = 0, blocks = 0, tokens = 0, hit = 0;
    struct lru l = { 0 };

    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t k = 0; k < t->req[i].n_block; k++, blocks++)
            ids = t->req[i].block[k] > ids ? t->req[i].block[k] : ids;
    CU_ASSERT_FATAL(ids < 100000000);
    l.last = calloc(ids + 1, sizeof *l.last);
    l.seen = calloc(blocks + 2, sizeof *l.seen);
    CU_ASSERT_FATAL(l.last && l.seen);
    for (uint32_t i = 0; i < rows; i++) {
        const struct trace_req *q = &t->req[i];
        uint32_t k = 0;

        while (k < q->n_block && l.last[q->block[k]])
            k++;
        hit += k;
        tokens += q->n_prompt;
        for (k = 0; k < q->n_block; k++)
            touch(&l, q->block[k], most);
    }
    free(l.last);
    free(l.seen);
    return (double)hit * t->block_tokens / (double)tokens;
}

/* The rows (is_small, part, hit, paper) of checks.sql are what such an LRU gives. */
static void what_prefix_cache_is_held_to(void)
{
    struct trace_options o = { .limit = 7851 };
    struct err e = { 0 };
    struct trace t;
    char path[4200], line[400];
    int found = 0;
    FILE *f;

    if (experiment_shared("mooncake_fast25_conversation.jsonl", path, sizeof path)) {
        test_skip("the recorded trace is not here");
        return;
    }
    if (trace_read(&t, path, &o, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("the trace cannot be read");
    }
    snprintf(path, sizeof path, "%s/results/05-prefix-cache/checks.sql", home_dir());
    CU_ASSERT_PTR_NOT_NULL_FATAL(f = fopen(path, "r"));
    while (fgets(line, sizeof line, f)) {
        unsigned small, million;
        double want, got;

        if (sscanf(line, " (%u, '%uM', %lf", &small, &million, &want) != 3)
            continue;
        got = offline_lru(&t, small ? 158 : t.n, million * UINT64_C(1000000) / t.block_tokens);
        if (fabs(got - want) > 0.00006)
            test_note("%s of %u M tokens: %.5f, checks.sql says %.4f", small ? "short form" : "cache", million,
                      got, want);
        CU_ASSERT_DOUBLE_EQUAL(got, want, 0.00006);
        found++;
    }
    fclose(f);
    CU_ASSERT_EQUAL(found, 7);
    trace_free(&t);
}

static const struct test tests[] = {
    { "recipes: equal seeds, equal traces; limits are kept", traces },
    { "wrong recipes and unknown experiments are refused", refuses },
    { "a value outside the paper's range is said to be", outside_of_the_papers_range },
    { "01-memory: PagedAttention's waste, batches and knees", memory },
    { "02-stalls: Sarathi's capacity under a limit of the gap", stalls },
    { "03-fairness: VTC's gap is bounded, FCFS's grows", fairness },
    { "04-shortest: order of gains, and starvation", shortest },
    { "05-prefix-cache: what it is held to is an LRU over the recorded ids", what_prefix_cache_is_held_to },
    { "05-prefix-cache: hit rate against capacity", prefix_cache },
    { "06-eviction: max utilisation, first chunk, gate, watermark", eviction },
    { 0 },
};
const struct suite suite_experiments = { "experiments", tests, 240 };
