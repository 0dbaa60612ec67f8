/* test_base.c - arenas, errors, numbers from outside, knobs, files by name. */
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/home.h"
#include "base/num.h"
#include "base/params.h"
#include "tests/test.h"

/* ---- arenas ---- */

static void arena_is_zeroed_and_aligned(void)
{
    struct arena a = { 0 };

    for (size_t n = 0; n < 5000; n += 37) {
        unsigned char *p = arena_get(&a, n, 1);

        CU_ASSERT_PTR_NOT_NULL_FATAL(p);
        CU_ASSERT_EQUAL((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < n; i++)
            CU_ASSERT_EQUAL(p[i], 0);
        memset(p, 0xff, n);
    }
    arena_free(&a);
    CU_ASSERT_PTR_NULL(a.first);
    CU_ASSERT_EQUAL(a.total_bytes, 0);
}

static void arena_refuses_overflow(void)
{
    struct arena a = { 0 };

    CU_ASSERT_PTR_NULL(arena_get(&a, SIZE_MAX, 2));
    CU_ASSERT_PTR_NULL(arena_get(&a, SIZE_MAX, 1));
    CU_ASSERT_PTR_NULL(arena_get(&a, SIZE_MAX / 2 + 1, 1));
    CU_ASSERT_PTR_NULL(arena_get(&a, (size_t)1 << 33, (size_t)1 << 33));
    CU_ASSERT_PTR_NULL(a.first);
    CU_ASSERT_PTR_NOT_NULL(arena_get(&a, 0, SIZE_MAX));     /* nothing asked is legal */
    arena_free(&a);
}

static void arena_reset_reuses_and_zeroes(void)
{
    struct arena a = { 0 };
    size_t total = 0;

    for (int round = 0; round < 20; round++) {
        for (size_t n = 1; n < 300000; n *= 3) {
            unsigned char *p = arena_get(&a, n, 1);

            CU_ASSERT_PTR_NOT_NULL_FATAL(p);
            CU_ASSERT(p[0] == 0 && p[n / 2] == 0 && p[n - 1] == 0);
            memset(p, 0xaa, n);
        }
        if (round == 0)
            total = a.total_bytes;
        CU_ASSERT_EQUAL(a.total_bytes, total);              /* the same work needs no new memory */
        arena_reset(&a);
    }
    arena_free(&a);
    arena_reset(&a);                                        /* an empty arena is legal */
}

/* Large after small after reset: chunks that are too small are passed over, not written past. */
static void arena_chunks_of_many_sizes(void)
{
    struct arena a = { 0 };
    struct rng r;

    rng_seed(&r, 1);
    for (int round = 0; round < 30; round++) {
        for (int i = 0; i < 50; i++) {
            size_t n = (size_t)rng_below(&r, 1u << rng_below(&r, 19));
            unsigned char *p = arena_get(&a, n, 1);

            CU_ASSERT_PTR_NOT_NULL_FATAL(p);
            memset(p, round, n);
        }
        arena_reset(&a);
    }
    arena_free(&a);
}

static void arena_text(void)
{
    struct arena a = { 0 };
    char *s = arena_str(&a, "kept"), *f = arena_fmt(&a, "%d-%s", 7, s);
    char *big = arena_fmt(&a, "%0200000d", 1);

    CU_ASSERT_STRING_EQUAL(s, "kept");
    CU_ASSERT_STRING_EQUAL(f, "7-kept");
    CU_ASSERT(big && strlen(big) == 200000);
    CU_ASSERT_STRING_EQUAL(arena_str(&a, ""), "");
    arena_free(&a);
}

/* ---- errors ---- */

static void err_first_wins(void)
{
    struct err e = { 0 };

    CU_ASSERT_EQUAL(err_set(&e, EXIT_USAGE, "first %d", 1), -1);
    CU_ASSERT_EQUAL(err_set(&e, EXIT_IO, "second"), -1);
    CU_ASSERT_EQUAL(e.code, EXIT_USAGE);
    CU_ASSERT_STRING_EQUAL(e.text, "first 1");
    CU_ASSERT_EQUAL(err_set(NULL, EXIT_IO, "nobody listens"), -1);
}

static void err_long_text_is_cut(void)
{
    struct err e = { 0 };

    err_set(&e, EXIT_USAGE, "%05000d", 1);
    CU_ASSERT_EQUAL(strlen(e.text), sizeof e.text - 1);
}

/* ---- numbers ---- */

static void integers(void)
{
    static const struct { const char *text; int64_t min, max; int rc; int64_t want; } t[] = {
        { "0", 0, 10, 0, 0 }, { "10", 0, 10, 0, 10 }, { "11", 0, 10, -1, 0 },
        { "-1", 0, 10, -1, 0 }, { "-1", -5, 10, 0, -1 }, { "-0", 0, 0, 0, 0 },
        { "007", 0, 10, 0, 7 }, { "", 0, 10, -1, 0 }, { " 1", 0, 10, -1, 0 },
        { "1 ", 0, 10, -1, 0 }, { "+1", 0, 10, -1, 0 }, { "1x", 0, 10, -1, 0 },
        { "0x10", 0, 100, -1, 0 }, { "1e3", 0, 10000, -1, 0 }, { "1.0", 0, 10, -1, 0 },
        { "--1", -5, 5, -1, 0 }, { "-", -5, 5, -1, 0 }, { "\n1", 0, 5, -1, 0 },
        { "9223372036854775807", 0, INT64_MAX, 0, INT64_MAX },
        { "9223372036854775808", 0, INT64_MAX, -1, 0 },
        { "-9223372036854775808", INT64_MIN, 0, 0, INT64_MIN },
        { "-9223372036854775809", INT64_MIN, 0, -1, 0 },
        { "99999999999999999999999999999999", 0, INT64_MAX, -1, 0 },
        { "\xd9\xa3", 0, 10, -1, 0 },                       /* an Arabic digit */
    };

    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        int64_t v = 12345;

        test_note("'%s'", t[i].text);
        CU_ASSERT_EQUAL(parse_int(t[i].text, t[i].min, t[i].max, &v), t[i].rc);
        CU_ASSERT_EQUAL(v, t[i].rc ? 12345 : t[i].want);    /* untouched when refused */
    }
}

static void reals(void)
{
    static const struct { const char *text; double min, max; int rc; double want; } t[] = {
        { "1", 0, 10, 0, 1 }, { "1.5", 0, 10, 0, 1.5 }, { ".5", 0, 10, 0, 0.5 },
        { "1e-3", 0, 10, 0, 1e-3 }, { "1e400", 0, INFINITY, -1, 0 }, { "-1", 0, 10, -1, 0 },
        { "inf", 0, INFINITY, -1, 0 }, { "nan", 0, 10, -1, 0 }, { "0x1p3", 0, 10, -1, 0 },
        { "", 0, 10, -1, 0 }, { " 1", 0, 10, -1, 0 }, { "1 ", 0, 10, -1, 0 }, { "1,5", 0, 10, -1, 0 },
        { "1e", 0, 10, -1, 0 }, { "e5", 0, 10, -1, 0 }, { ".", 0, 10, -1, 0 }, { "1.2.3", 0, 10, -1, 0 },
        { "10.0001", 0, 10, -1, 0 }, { "+-1", 0, 10, -1, 0 }, { "1e-400", 0, 10, 0, 0 },
    };

    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        double v = 12345;

        test_note("'%s'", t[i].text);
        CU_ASSERT_EQUAL(parse_real(t[i].text, t[i].min, t[i].max, &v), t[i].rc);
        CU_ASSERT(v == (t[i].rc != 0 ? 12345 : t[i].want));
    }
}

static void byte_sizes(void)
{
    static const struct { const char *text; int rc; uint64_t want; } t[] = {
        { "4096", 0, 4096 }, { "64KiB", 0, 65536 }, { "1.5MiB", 0, 1572864 }, { "2GB", 0, 2000000000 },
        { "0", 0, 0 }, { "1GiB", 0, 1073741824 }, { "7B", 0, 7 }, { "", -1, 0 }, { "KiB", -1, 0 },
        { "-1", -1, 0 }, { "1 KiB", -1, 0 }, { "1kib", -1, 0 }, { "1TiB", -1, 0 }, { "1e3", -1, 0 },
        { "1.2.3MiB", -1, 0 }, { "999999999999999GiB", -1, 0 }, { "0x10", -1, 0 },
        { "00000000000000000000000000000000000001", -1, 0 },
    };

    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        uint64_t v = 12345;

        test_note("'%s'", t[i].text);
        CU_ASSERT_EQUAL(parse_bytes(t[i].text, &v), t[i].rc);
        CU_ASSERT_EQUAL(v, t[i].rc ? 12345 : t[i].want);
    }
}

static void checked_arithmetic(void)
{
    uint64_t v;

    CU_ASSERT_TRUE(mul_u64(1u << 31, 1u << 31, &v));
    CU_ASSERT_EQUAL(v, (uint64_t)1 << 62);
    CU_ASSERT_FALSE(mul_u64((uint64_t)1 << 32, (uint64_t)1 << 32, &v));
    CU_ASSERT_TRUE(add_u64(UINT64_MAX, 0, &v));
    CU_ASSERT_FALSE(add_u64(UINT64_MAX, 1, &v));
    CU_ASSERT_EQUAL(ceil_div_u32(UINT32_MAX, 2), 1u << 31);
    CU_ASSERT_EQUAL(ceil_div_u32(0, 16), 0);
    CU_ASSERT_EQUAL(ceil_div_u32(17, 16), 2);
}

/* ---- knobs ---- */

static const struct knob knobs[] = {
    { "block", NULL, 16, 1, 512, "tokens a block holds" },
    { "budget", NULL, 512, 16, 65536, "tokens a step may have" },
    { "round", "max|pow2|exact", 1, 0, 0, "how a reservation is rounded" },
    { NULL, NULL, 0, 0, 0, NULL },
};

static void knob_defaults_and_values(void)
{
    struct params p;
    struct err e = { 0 };
    char w[32], name[64];

    CU_ASSERT_EQUAL(params_parse(&p, knobs, "paged", NULL, &e), 0);
    CU_ASSERT_EQUAL(params_int(&p, "block"), 16);
    CU_ASSERT_STRING_EQUAL(params_word(&p, "round", w), "pow2");
    params_name(&p, "paged", name, sizeof name);
    CU_ASSERT_STRING_EQUAL(name, "paged");

    CU_ASSERT_EQUAL(params_parse(&p, knobs, "paged", "round=exact:block=32", &e), 0);
    CU_ASSERT_EQUAL(params_int(&p, "block"), 32);
    CU_ASSERT_EQUAL(params_int(&p, "budget"), 512);
    CU_ASSERT_STRING_EQUAL(params_word(&p, "round", w), "exact");
    params_name(&p, "paged", name, sizeof name);
    CU_ASSERT_STRING_EQUAL(name, "paged:block=32:round=exact");     /* table order, whatever was typed */
    CU_ASSERT_EQUAL(params_parse(&p, knobs, "paged", name + 6, &e), 0);
    CU_ASSERT_EQUAL(e.code, 0);
}

static void knob_refusals(void)
{
    static const struct { const char *text, *part_of_message; } t[] = {
        { "blok=16", "did you mean 'block'" }, { "budgte=16", "did you mean 'budget'" },
        { "zzzzzzzz=1", "unknown knob 'zzzzzzzz'" }, { "block=0", "from 1 to 512" },
        { "block=513", "from 1 to 512" }, { "block=1.5", "from 1 to 512" }, { "block=", "knob=value" },
        { "=16", "knob=value" }, { "block", "knob=value" }, { ":block=16", "knob=value" },
        { "block=16::round=max", "knob=value" }, { "round=sometimes", "max|pow2|exact" },
        { "round=ma", "max|pow2|exact" }, { "round=max|pow2", "max|pow2|exact" },
        { "block=16=17", "from 1 to 512" }, { "block=99999999999999999999", "from 1 to 512" },
        { "block=16:block=32", "given twice" }, { "BLOCK=16", "unknown knob" },
    };

    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct params p;
        struct err e = { 0 };

        CU_ASSERT_EQUAL(params_parse(&p, knobs, "paged", t[i].text, &e), -1);
        CU_ASSERT_EQUAL(e.code, EXIT_USAGE);
        test_note("'%s' -> %s", t[i].text, e.text);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, t[i].part_of_message));
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "paged"));
    }
}

static void knob_text_too_long(void)
{
    struct params p;
    struct err e = { 0 };
    char text[4000];

    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    CU_ASSERT_EQUAL(params_parse(&p, knobs, "paged", text, &e), -1);
    memcpy(text, "block=", 6);
    CU_ASSERT_EQUAL(params_parse(&p, knobs, "paged", text, &e), -1);
}

static void no_knobs_at_all(void)
{
    struct params p;
    struct err e = { 0 };
    char name[4];

    CU_ASSERT_EQUAL(params_parse(&p, NULL, "fcfs", "", &e), 0);
    params_name(&p, "fcfs", name, sizeof name);                     /* cut, not written past */
    CU_ASSERT_STRING_EQUAL(name, "fcf");
    CU_ASSERT_EQUAL(params_parse(&p, NULL, "fcfs", "a=1", &e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "no knobs"));
}

/* An undeclared knob is a programming error: the process ends at once. */
static void undeclared_knob_aborts(void)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        struct params p;
        struct err e = { 0 };
        int null = open("/dev/null", O_WRONLY);

        dup2(null, STDERR_FILENO);
        params_parse(&p, knobs, "paged", "", &e);
        params_int(&p, "nothing");
        _exit(0);
    }
    CU_ASSERT_FATAL(pid > 0 && waitpid(pid, &status, 0) == pid);
    CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void nearest_names(void)
{
    static const char *const names[] = { "continuous", "static", "chunked", "paged", "contig" };
    static const struct { const char *word, *want; } t[] = {
        { "continous", "continuous" }, { "statc", "static" }, { "chunk", "chunked" },
        { "page", "paged" }, { "contig", "contig" }, { "xyzzyxyzzy", NULL }, { "pagde", "paged" },
    };

    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const char *got = nearest_name(t[i].word, names, 5);

        test_note("'%s' -> %s", t[i].word, got ? got : "none");
        CU_ASSERT(got == t[i].want || (got && t[i].want && !strcmp(got, t[i].want)));
    }
    CU_ASSERT_PTR_NULL(nearest_name("a", names, 0));
}

/* ---- finding files by name ---- */

static void home_names(void)
{
    char path[PATH_MAX], tiny[8], *longer = calloc(1, 10000);
    struct err e = { 0 };

    CU_ASSERT_EQUAL(home_find("thing", "base", "arena", ".h", path, sizeof path, &e), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(path, "base/arena.h"));
    CU_ASSERT_EQUAL(home_find("thing", "base", "arenaa", ".h", path, sizeof path, &e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "did you mean 'arena'"));
    e = (struct err){ 0 };
    CU_ASSERT_EQUAL(home_find("thing", "base", "/a/long/path", ".h", tiny, sizeof tiny, &e), -1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(longer);
    memset(longer, 'n', 9999);
    e = (struct err){ 0 };
    CU_ASSERT_EQUAL(home_find("thing", "base", longer, ".h", path, sizeof path, &e), -1);
    CU_ASSERT_EQUAL(e.code, EXIT_USAGE);
    free(longer);
}

static const struct test tests[] = {
    { "arena_is_zeroed_and_aligned", arena_is_zeroed_and_aligned },
    { "arena_refuses_overflow", arena_refuses_overflow },
    { "arena_reset_reuses_and_zeroes", arena_reset_reuses_and_zeroes },
    { "arena_chunks_of_many_sizes", arena_chunks_of_many_sizes },
    { "arena_text", arena_text },
    { "err_first_wins", err_first_wins },
    { "err_long_text_is_cut", err_long_text_is_cut },
    { "integers", integers },
    { "reals", reals },
    { "byte_sizes", byte_sizes },
    { "checked_arithmetic", checked_arithmetic },
    { "knob_defaults_and_values", knob_defaults_and_values },
    { "knob_refusals", knob_refusals },
    { "knob_text_too_long", knob_text_too_long },
    { "no_knobs_at_all", no_knobs_at_all },
    { "undeclared_knob_aborts", undeclared_knob_aborts },
    { "nearest_names", nearest_names },
    { "home_names", home_names },
    { NULL, NULL },
};
const struct suite suite_base = { "base", tests, 60 };
