/* test_hash.c - hashes against published vectors, draws against their laws. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "tests/test.h"

static void sha256_known_vectors(void)
{
    char hex[SHA256_HEX], *million = malloc(1000000);

    sha256_hex("", 0, hex);
    CU_ASSERT_STRING_EQUAL(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_hex("abc", 3, hex);
    CU_ASSERT_STRING_EQUAL(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CU_ASSERT_PTR_NOT_NULL_FATAL(million);
    memset(million, 'a', 1000000);
    sha256_hex(million, 1000000, hex);
    CU_ASSERT_STRING_EQUAL(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

static void sha256_of_files(void)
{
    char path[PATH_MAX], hex[SHA256_HEX];
    struct err e = { 0 };
    FILE *f;

    snprintf(path, sizeof path, "%s/a", test_dir());
    f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    for (int i = 0; i < 100000; i++)
        fputs("aaaaaaaaaa", f);
    fclose(f);
    CU_ASSERT_EQUAL(sha256_file(path, hex, &e), 0);
    CU_ASSERT_STRING_EQUAL(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    CU_ASSERT_EQUAL(sha256_file(test_dir(), hex, &e), -1);          /* a folder */
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "cannot read"));
    e = (struct err){ 0 };
    CU_ASSERT_EQUAL(sha256_file("/no/such/file", hex, &e), -1);
    CU_ASSERT_EQUAL(e.code, EXIT_USAGE);
}

static void mixing_known_vectors(void)
{
    static const uint64_t split[] = {              /* SplitMix64 from seed 1234567 */
        6457827717110365317u, 3203168211198807973u, 9817491932198370423u, 4593380528125082431u,
    };
    static const uint64_t xoshiro[] = {            /* xoshiro256** from state 1 2 3 4 */
        11520u, 0u, 1509978240u, 1215971899390074240u, 1216172134540287360u, 607988272756665600u,
    };
    struct rng r;

    rng_seed(&r, 1234567);
    for (size_t i = 0; i < 4; i++)
        CU_ASSERT_EQUAL(r.s[i], split[i]);
    r = (struct rng){ { 1, 2, 3, 4 } };
    for (size_t i = 0; i < 6; i++)
        CU_ASSERT_EQUAL(rng_next(&r), xoshiro[i]);
}

static void hashes_tell_apart(void)
{
    CU_ASSERT_NOT_EQUAL(hash64(1, 2), hash64(2, 1));
    CU_ASSERT_NOT_EQUAL(hash64(0, 0), 0);
    CU_ASSERT_NOT_EQUAL(hash64_bytes(0, "a", 1), hash64_bytes(1, "a", 1));
    CU_ASSERT_NOT_EQUAL(hash64_bytes(0, "a", 1), hash64_bytes(0, "a\0", 2));     /* length counts */
    CU_ASSERT_NOT_EQUAL(hash64_bytes(0, "\0\0\0\0\0\0\0\0", 8), hash64_bytes(0, "", 0));
    CU_ASSERT_NOT_EQUAL(hash64_bytes(0, "12345678abc", 11), hash64_bytes(0, "12345678abd", 11));
    CU_ASSERT_EQUAL(hash64_bytes(7, "same text", 9), hash64_bytes(7, "same text", 9));
}

static void same_seed_same_draws(void)
{
    struct rng a, b, c;
    int same = 0;

    rng_seed(&a, 42);
    rng_seed(&b, 42);
    rng_seed(&c, 43);
    for (int i = 0; i < 1000; i++) {
        uint64_t x = rng_next(&a);

        CU_ASSERT_EQUAL(x, rng_next(&b));
        same += x == rng_next(&c);
    }
    CU_ASSERT_EQUAL(same, 0);
    for (int i = 0; i < 100; i++)
        CU_ASSERT(rng_gamma(&a, 0.7) == rng_gamma(&b, 0.7));
}

static void draws_below_are_uniform(void)
{
    struct rng r;
    int count[7] = { 0 };

    rng_seed(&r, 5);
    for (int i = 0; i < 70000; i++)
        count[rng_below(&r, 7)]++;
    for (int i = 0; i < 7; i++) {
        test_note("%d: %d of 70000", i, count[i]);
        CU_ASSERT(abs(count[i] - 10000) < 500);    /* 5 standard deviations */
    }
    CU_ASSERT_EQUAL(rng_below(&r, 1), 0);
    for (int i = 0; i < 1000; i++) {
        double u = rng_unit(&r);

        CU_ASSERT(u >= 0 && u < 1);
        CU_ASSERT(rng_below(&r, ((uint64_t)1 << 63) + 1) <= (uint64_t)1 << 63);
    }
}

/* Mean and variance of n draws against what the law says, within 5 standard errors or so. */
static void moments(double shape, double mean, double var)
{
    enum { N = 200000 };
    double sum = 0, sum2 = 0, m, v;
    struct rng r;

    rng_seed(&r, 9);
    for (int i = 0; i < N; i++) {
        double x = shape > 0 ? rng_gamma(&r, shape) : rng_normal(&r);

        if (shape > 0)
            CU_ASSERT(x >= 0);
        sum += x;
        sum2 += x * x;
    }
    m = sum / N;
    v = sum2 / N - m * m;
    test_note("shape %g: mean %g (%g), variance %g (%g)", shape, m, mean, v, var);
    CU_ASSERT(fabs(m - mean) < 5 * sqrt(var / N));
    CU_ASSERT(fabs(v - var) < 0.05 * var);
}

static void normal_moments(void) { moments(0, 0, 1); }
static void gamma_moments(void)
{
    static const double shape[] = { 0.25, 0.73, 1, 2.5, 40 };

    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        moments(shape[i], shape[i], shape[i]);
}

static const struct test tests[] = {
    { "sha256_known_vectors", sha256_known_vectors },
    { "sha256_of_files", sha256_of_files },
    { "mixing_known_vectors", mixing_known_vectors },
    { "hashes_tell_apart", hashes_tell_apart },
    { "same_seed_same_draws", same_seed_same_draws },
    { "draws_below_are_uniform", draws_below_are_uniform },
    { "normal_moments", normal_moments },
    { "gamma_moments", gamma_moments },
    { NULL, NULL },
};
const struct suite suite_hash = { "hash", tests, 60 };
