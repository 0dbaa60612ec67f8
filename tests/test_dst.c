/* test_dst.c - drawn cases hold; a seed is one case; what fails is found, shrunk and reported. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "harness/dst.h"
#include "tests/test.h"

enum { N_SEED = 10000 };

static void drawn_cases_hold(void)
{
    struct dst_lab l;
    struct err open = { 0 };
    uint32_t refused = 0;

    CU_ASSERT_EQUAL_FATAL(dst_open(&l, &open), 0);
    for (uint64_t seed = 0; seed < N_SEED; seed++) {
        struct dst_case c;
        struct err e = { 0 };
        int rc = dst_draw(&c, seed, NULL, &e) ? -1 : dst_check(&l, &c, &e);

        refused += rc > 0;
        if (rc < 0) {
            test_note("servelab dst --seed %llu -v: %s: %s", (unsigned long long)seed, c.strategy,
                      e.text);
            CU_FAIL("a drawn case does not hold");
        }
        dst_case_free(&c);
    }
    CU_ASSERT(refused < N_SEED / 10);
    CU_ASSERT(l.reach.preemptions > N_SEED / 4);     /* memory was really short */
    CU_ASSERT(l.reach.finished > N_SEED);
    CU_ASSERT(l.reach.swaps > N_SEED / 100);
    dst_close(&l);
}

static void a_seed_is_one_case(void)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct dst_case a, b, other;
        struct err e = { 0 };

        CU_ASSERT_EQUAL_FATAL(dst_draw(&a, seed, NULL, &e) || dst_draw(&b, seed, NULL, &e) ||
                              dst_draw(&other, seed, "chunked", &e), 0);
        CU_ASSERT_STRING_EQUAL(a.strategy, b.strategy);
        CU_ASSERT(a.kv_slots == b.kv_slots && a.trace.n == b.trace.n && a.relation == b.relation);
        for (uint32_t i = 0; i < a.trace.n; i++)
            CU_ASSERT(a.trace.req[i].n_prompt == b.trace.req[i].n_prompt &&
                      a.trace.req[i].arrive_us == b.trace.req[i].arrive_us);
        CU_ASSERT_EQUAL(strncmp(other.strategy, "chunked", 7), 0);
        dst_case_free(&a);
        dst_case_free(&b);
        dst_case_free(&other);
    }
}

/* A request without a prompt cannot run: whoever meets it is stuck. */
static void failures_are_shrunk(void)
{
    struct dst_lab l;
    struct dst_case c;
    struct err e = { 0 };

    CU_ASSERT_EQUAL_FATAL(dst_open(&l, &e), 0);
    for (uint64_t seed = 0; ; seed++) {
        CU_ASSERT_EQUAL_FATAL(dst_draw(&c, seed, "chunked", &e), 0);
        if (c.trace.n > 12 && !c.faults.fail_at_step && !c.stop_after && !c.max_ns)
            break;
        dst_case_free(&c);
    }
    CU_ASSERT_EQUAL(dst_check_apart(&l, &c, &e), 0);
    c.trace.req[7].n_prompt = 0;
    c.trace.req[7].n_out = 3;
    CU_ASSERT_EQUAL(dst_check_apart(&l, &c, &e), -1);
    CU_ASSERT(e.code != 0);
    CU_ASSERT(dst_shrink(&l, &c) > 0);
    CU_ASSERT_EQUAL(c.trace.n, 1);
    CU_ASSERT_EQUAL(c.trace.req[0].n_prompt, 0);
    dst_case_free(&c);
    dst_close(&l);
}

static char out[8192];

static int servelab(const char *args)
{
    char command[600];
    FILE *f;
    size_t n;

    snprintf(command, sizeof command, "'%s' dst %s 2>&1", SERVELAB_BIN, args);
    f = popen(command, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    n = fread(out, 1, sizeof out - 1, f);
    out[n] = 0;
    return WEXITSTATUS(pclose(f));
}

static void the_verb(void)
{
    static const char *const bad[] = { "--seeds 5:5",   "--seeds x", "--seeds -1:4",
                                       "--seed 1x",     "--jobs 0",  "--minutes 0",
                                       "--only nobody", "--sed 1",   "surplus" };

    CU_ASSERT_EQUAL(servelab("--seeds 0:200 --jobs 2 --json"), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"seeds\": 200"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"failures\": []"));
    CU_ASSERT_EQUAL(servelab("--seeds 100:200 --only paged"), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "100 seeds from 100"));
    CU_ASSERT_EQUAL(servelab("--seed 7 -v"), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "seed 7 holds"));
    CU_ASSERT_EQUAL(servelab("--seed 7 --json"), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"seed\": 7"));
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "\"holds\": true"));
    CU_ASSERT_PTR_NULL(strstr(out, "seed 7 holds"));
    CU_ASSERT_EQUAL(servelab("--seeds 0:20 --quiet"), 0);
    CU_ASSERT_STRING_EQUAL(out, "");
    CU_ASSERT_EQUAL(servelab("--minutes 0.01"), 0);
    CU_ASSERT_EQUAL(servelab("--help"), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "example: servelab dst"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (servelab(bad[i]) != 2)
            test_note("dst %s: %s", bad[i], out);
        CU_ASSERT_EQUAL(servelab(bad[i]), 2);
    }
}

static const struct test tests[] = {
    { "10000 drawn cases hold", drawn_cases_hold },
    { "a seed is one case", a_seed_is_one_case },
    { "what fails is shrunk to what matters", failures_are_shrunk },
    { "the verb: seeds, minutes, one seed, refusals", the_verb },
    { 0 },
};
const struct suite suite_dst = { "dst", tests, 240 };
