/* test_generate.c - generated traces have the figures they were made from, and the same seed the
 * same bytes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/home.h"
#include "tests/files.h"
#include "tests/test.h"
#include "workloads/trace.h"

static int generate(struct trace *t, const char *recipe, struct recipe_options o)
{
    struct err e = { 0 };

    if (!trace_generate(t, recipe, &o, &e))
        return 0;
    test_note("%s", e.text);
    CU_FAIL("not generated");
    return -1;
}

static void check_near(const char *what, double got, double want, double share)
{
    if (fabs(got - want) <= share * want)
        return;
    test_note("%s: %g, expected %g within %g %%", what, got, want, 100 * share);
    CU_FAIL("figure");
}

/* Rate within 2 %, CV within 5 %, quantiles within 5 % of what was published. */
static void check_figures(const char *recipe, uint32_t n, double rate, double cv, double cv_slack,
                          const double in[3], const double out[3])
{
    struct err e = { 0 };
    struct trace_info i;
    struct trace t;

    if (generate(&t, recipe, (struct recipe_options){ .n = n, .seed = 3 }))
        return;
    CU_ASSERT_FATAL(!trace_stat(&t, &i, &e));
    check_near("rate", i.rate, rate, 0.02);
    check_near("CV", i.gap_cv, cv, cv_slack);
    for (int k = 0; k < 3; k++) {
        check_near("prompt quantile", i.prompt_q[k], in[k], 0.05);
        check_near("output quantile", i.output_q[k], out[k], 0.05);
    }
    CU_ASSERT(t.is_synthetic && i.prefix_share > 0.1 && i.prefix_share < 0.9);
    trace_free(&t);
}

static void follows_conv(void)
{
    check_figures("chat-full", 20000, 5.9178, 1.0787, 0.05, (double[]){ 1015, 4074, 4122 },
                  (double[]){ 115, 421, 598 });
}

/* The pauses are lognormal, so the CV of a sample wanders; the law's own is 12.7. */
static void follows_code(void)
{
    check_figures("code-full", 60000, 3.0753, 12.65, 0.15, (double[]){ 1463, 5052, 7436 },
                  (double[]){ 13, 55, 249 });
}

static void chat_is_small(void)
{
    struct err e = { 0 };
    struct trace_info i;
    struct trace t;

    if (generate(&t, "chat", (struct recipe_options){ .seed = 9 }))
        return;
    CU_ASSERT_FATAL(!trace_stat(&t, &i, &e));
    CU_ASSERT(t.n == 64 && i.longest <= 1024);
    check_near("mean prompt", i.prompt_q[4], 150, 0.05);
    check_near("mean output", i.output_q[4], 25.2, 0.05);
    check_near("rate", i.rate, 3, 1e-6);
    trace_free(&t);
}

static void obeys_knobs(void)
{
    struct err e = { 0 };
    struct trace_info i;
    struct trace t;

    if (generate(&t, "chat",
                 (struct recipe_options){ .n = 20000, .rate = 0.5, .cv = 3, .seed = 4 }))
        return;
    CU_ASSERT_FATAL(!trace_stat(&t, &i, &e));
    check_near("rate", i.rate, 0.5, 0.02);
    check_near("CV", i.gap_cv, 3, 0.05);
    trace_free(&t);
    if (generate(&t, "chat", (struct recipe_options){ .n = 1, .seed = 4 }))
        return;
    CU_ASSERT(t.n == 1 && t.req[0].arrive_us == 0);
    trace_free(&t);
}

/* Every id means one beginning: the blocks before it are always the same ones. */
static void blocks_name_prefixes(void)
{
    enum { N = 3000, IDS = 1 << 20 };
    uint64_t *before = calloc(IDS, sizeof *before), wrong = 0, shared = 0;
    struct trace t;

    CU_ASSERT_FATAL(before != NULL);
    if (generate(&t, "chat", (struct recipe_options){ .n = N, .seed = 5 }))
        return;
    for (uint32_t r = 0; r < t.n; r++)
        for (uint32_t i = 0; i < t.req[r].n_block; i++) {
            uint64_t id = t.req[r].block[i], last = i ? t.req[r].block[i - 1] + 2 : 1;

            CU_ASSERT_FATAL(id < IDS);
            wrong += before[id] && before[id] != last;
            shared += before[id] != 0;
            before[id] = last;
        }
    CU_ASSERT(wrong == 0 && shared > 1000);
    free(before);
    trace_free(&t);
}

/* workloads/chat.json is what `servelab trace generate chat --seed 1` writes today. */
static void chat_is_committed(void)
{
    char path[4096], ours[4096], *a, *b;
    struct err e = { 0 };
    size_t n_a, n_b;
    struct trace t;

    if (generate(&t, "chat", (struct recipe_options){ .seed = 1 }))
        return;
    snprintf(path, sizeof path, "%s/chat.json", test_dir());
    snprintf(ours, sizeof ours, "%s/workloads/chat.json", home_dir());
    CU_ASSERT_FATAL(!trace_write(&t, path, false, &e));
    a = file_read(path, &n_a);
    b = file_read(ours, &n_b);
    CU_ASSERT(n_a > 1000 && n_a == n_b && !memcmp(a, b, n_a));
    free(a);
    free(b);
    trace_free(&t);
}

static void refuses(void)
{
    struct recipe_options wrong[] = {
        { .n = 30000000 }, { .rate = -1 }, { .rate = NAN }, { .cv = 1e9 }, { .rate = 1e-300 }
    };
    struct err e = { 0 };
    struct trace t;

    CU_ASSERT(trace_generate(&t, "chatt", NULL, &e) && strstr(e.text, "did you mean 'chat'?"));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        e.code = 0;
        CU_ASSERT(trace_generate(&t, "chat", &wrong[i], &e) && e.code == EXIT_USAGE);
    }
    for (int i = 0; recipe_names()[i]; i++)
        if (!generate(&t, recipe_names()[i], (struct recipe_options){ .n = 2 }))
            trace_free(&t);
}

static const struct test tests[] = {
    { "follows_conv", follows_conv }, { "follows_code", follows_code },
    { "chat_is_small", chat_is_small },
    { "obeys_knobs", obeys_knobs }, { "blocks_name_prefixes", blocks_name_prefixes },
    { "chat_is_committed", chat_is_committed }, { "refuses", refuses }, { NULL, NULL },
};
const struct suite suite_generate = { "generate", tests, 60 };
