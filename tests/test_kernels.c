/* test_kernels.c - the smaller operations of the cpu device against the reference device, on each
 * instruction set of this CPU; what it refuses; its clock. Matrix products are in test_matmul.c,
 * attention is in test_attend.c. */
#include "tests/kernels.h"

static void bad_values_reach_the_token(void)
{
    enum { N = 40, K = 64 };
    float *w = floats(N * K, 3, 0.1), x[2 * K], y[2 * N];

    for (int f = 0; f < N_FORMAT; f++)
        for (int kind = 0; kind < 2; kind++) {
            struct device d = open_on(&device_cpu, NULL, 1);
            struct weight a = load(&d, formats[f], N, K, w);
            uint32_t tok[2];

            for (int i = 0; i < 2 * K; i++)
                x[i] = 0.01f * (float)(i % 7);
            x[K + 3] = kind ? NAN : INFINITY;
            dev_matmul(&d, y, x, &a, 2);
            dev_pick(&d, tok, y, 2, N);
            CU_ASSERT(tok[0] < N);
            CU_ASSERT_EQUAL(tok[1], PICK_BAD_ROW);
            dev_weight_free(&d, &a);
            dev_close(&d);
        }
    free(w);
}

static void pick_takes_the_first_largest(void)
{
    static const uint32_t sizes[] = { 1, 7, 16, 17, 100, 49152 };

    for (int i = 0; i < N_ISA + 1; i++) {
        struct device d;

        if (i < N_ISA && !cpu_isa_here(isas[i]))
            continue;
        d = i < N_ISA ? open_on(&device_cpu, isas[i]->name, 2) : open_on(&device_ref, NULL, 0);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            uint32_t n = sizes[s], tok[3], at = n * 2 / 3, later = n - 1;
            float *x = floats(3 * n, s, 1);

            for (uint32_t r = 0; r < 3; r++)
                x[r * n + at] = x[r * n + later] = 50;
            x[n + later] = -NAN;
            x[2 * n] = -INFINITY;
            dev_pick(&d, tok, x, 3, n);
            CU_ASSERT_EQUAL(tok[0], at);
            CU_ASSERT_EQUAL(tok[1], PICK_BAD_ROW);
            CU_ASSERT_EQUAL(tok[2], PICK_BAD_ROW);
            for (uint32_t j = 0; j < n; j++)
                x[j] = -3e38f;
            dev_pick(&d, tok, x, 1, n);
            CU_ASSERT_EQUAL(tok[0], 0);
            free(x);
        }
        dev_close(&d);
    }
}

/* norm, swiglu, embed and gather of every instruction set: near the reference, equal to each
 * other. */
static void rows_are_right(void)
{
    static const uint32_t dims[] = { 32, 64, 90, 576, 1536 };
    struct device ref = open_on(&device_ref, NULL, 0);

    for (size_t s = 0; s < sizeof dims / sizeof *dims; s++) {
        enum { N = 19 };
        uint32_t dim = dims[s];
        size_t n = (size_t)N * dim;
        float *gain = floats(dim, 1, 1), *delta = floats(n, 2, 1), *gu = floats(2 * n, 3, 4);
        float *xr = floats(n, 4, 1), *yr = floats(n, 5, 1), *first[2] = { NULL, NULL };
        double *bound = malloc(n * sizeof *bound);

        dev_norm(&ref, yr, xr, delta, gain, N, dim, 1e-5f);
        for (int i = 0; i < N_ISA; i++) {
            float *x = floats(n, 4, 1), *y = floats(n, 5, 1), *z = floats(n, 5, 1),
                  *zr = floats(n, 5, 1);
            struct device d;

            if (cpu_isa_here(isas[i])) {
                d = open_on(&device_cpu, isas[i]->name, 2);
                dev_norm(&d, y, x, delta, gain, N, dim, 1e-5f);
                CU_ASSERT(same(x, xr, n));             /* the residual sum is one rounding */
                for (size_t j = 0; j < n; j++)
                    bound[j] = 6e-7 * fabs(yr[j]) + 1e-30;
                CU_ASSERT(worst(y, yr, bound, n) <= 1);
                dev_swiglu(&d, z, gu, N, dim);
                dev_swiglu(&ref, zr, gu, N, dim);
                for (size_t j = 0; j < n; j++)
                    bound[j] = 6e-7 * fabs(zr[j]) + 1e-30;
                CU_ASSERT(worst(z, zr, bound, n) <= 1);
                if (first[0])
                    CU_ASSERT(same(y, first[0], n) && same(z, first[1], n));
                dev_close(&d);
            }
            if (!first[0] && cpu_isa_here(isas[i]))
                first[0] = y, first[1] = z;
            else
                free(y), free(z);
            free(x), free(zr);
        }
        free(first[0]), free(first[1]), free(gain), free(delta), free(gu), free(xr), free(yr),
            free(bound);
    }
    dev_close(&ref);
}

static void swiglu_survives_extremes(void)
{
    float gu[32] = { 0 }, y[16];
    struct device d = open_on(&device_cpu, NULL, 1);

    gu[0] = -1e4f, gu[1] = 1e4f, gu[2] = NAN, gu[3] = -90;
    for (int i = 16; i < 32; i++)
        gu[i] = 1;
    dev_swiglu(&d, y, gu, 1, 16);
    CU_ASSERT(fabsf(y[0]) < 1e-30f && fabsf(y[1] - 1e4f) < 1 && isnan(y[2]) &&
              fabsf(y[3]) < 1e-30f);
    dev_close(&d);
}

static void embed_decodes_packed_rows(void)
{
    enum { N = 70, K = 96 };
    static const uint32_t tok[] = { 69, 0, 31, 32, 33, 64, 1 };
    static const uint32_t row[] = { 1, 3, 6 };
    float *w = floats(N * K, 9, 0.2), a[7 * K], b[7 * K], g[3 * K];
    struct device ref = open_on(&device_ref, NULL, 0), cpu = open_on(&device_cpu, NULL, 2);

    for (int f = 0; f < N_FORMAT; f++) {
        struct weight wr = load(&ref, formats[f], N, K, w), wc = load(&cpu, formats[f], N, K, w);

        dev_embed(&ref, a, &wr, tok, 7);
        dev_embed(&cpu, b, &wc, tok, 7);
        CU_ASSERT(same(a, b, 7 * K));
        dev_gather(&cpu, g, b, row, 3, K);
        CU_ASSERT(same(g, a + K, K) && same(g + 2 * K, a + 6 * K, K));
        dev_weight_free(&ref, &wr);
        dev_weight_free(&cpu, &wc);
    }
    dev_close(&ref);
    dev_close(&cpu);
    free(w);
}

static void bad_requests_are_refused(void)
{
    float w[64 * 40] = { 0 }, y[64];
    struct matrix m = { w, 40 };
    struct row_source src = { matrix_row, &m };
    struct device d = open_on(&device_cpu, NULL, 1);
    struct device_conf conf = { .isa = "avx9" };
    struct device none;
    struct weight a;
    struct err e = { 0 };
    uint32_t tok = 64;

    CU_ASSERT_EQUAL(dev_weight(&d, &a, (struct wfmt){ FMT_F16, 0 }, 64, 40, src, &e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "multiple of 32"));
    e = (struct err){ 0 };
    m.k = 32;
    CU_ASSERT_EQUAL(dev_weight(&d, &a, (struct wfmt){ FMT_INT4, 48 }, 64, 32, src, &e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "48"));
    e = (struct err){ 0 };
    CU_ASSERT_EQUAL(dev_open(&none, &device_cpu, &conf, &e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "scalar"));  /* the message names what is here */
    e = (struct err){ 0 };
    a = load(&d, (struct wfmt){ FMT_F16, 0 }, 64, 32, w);
    dev_embed(&d, y, &a, &tok, 1);                     /* beyond the vocabulary: sticky until end */
    CU_ASSERT_EQUAL(dev_end(&d, &e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "token 64"));
    dev_weight_free(&d, &a);
    dev_close(&d);
}

static void time_is_skipped_or_slept(void)
{
    const uint64_t hour_ns = 3600u * (uint64_t)1000000000, ms_ns = 1000000;
    struct device d = open_on(&device_cpu, NULL, 1);
    uint64_t now = dev_now(&d);

    dev_idle(&d, now + hour_ns);
    CU_ASSERT(dev_now(&d) >= now + hour_ns && dev_now(&d) < now + 2 * hour_ns);
    dev_idle(&d, 5);                                   /* in the past: nothing happens */
    CU_ASSERT(dev_now(&d) >= now + hour_ns);
    d.pace = PACE_WALL;
    now = dev_now(&d);
    dev_idle(&d, now + 20 * ms_ns);
    CU_ASSERT(dev_now(&d) >= now + 20 * ms_ns);
    dev_close(&d);
}

/* One row through rope+store at position 40; the caller frees it. */
static float *rotated(struct device *d, const struct rope *r)
{
    enum { HD = 32 };
    uint32_t tok = 0, pos = 40, slot = 0, start[2] = { 0, 1 }, len = 41, bt = 64, table = 0;
    struct batch b = { .n_tok = 1, .n_seq = 1, .n_row = 1, .n_table = 1, .tok = &tok, .pos = &pos, .slot = &slot,
                       .seq_start = start, .kv_len = &len, .block_tokens = &bt, .table_start = start, .table = &table,
                       .row = &tok };
    float *x = floats(3 * HD, 7, 1);
    struct err e = { 0 };
    struct kv_pool kv;

    CU_ASSERT_EQUAL_FATAL(dev_kv_open(d, &kv, 1, 1, HD, FMT_F16, 64, &e), 0);
    dev_begin(d, &b);
    dev_rope_store(d, x, &kv, 0, &b, r);
    CU_ASSERT_EQUAL(dev_end(d, &e), 0);
    dev_kv_close(d, &kv);
    return x;
}

/* A second model with the same head size on the same device turns by its own angles, not by those kept of the first. */
static void angles_are_the_models(void)
{
    struct device kept = open_on(&device_cpu, NULL, 1), fresh = open_on(&device_cpu, NULL, 1);
    struct rope a = plain_rope(1, 32), b = a;
    float *first, *got, *want;

    for (uint32_t i = 0; i < b.half; i++)
        b.freq[i] /= 8;
    first = rotated(&kept, &a);
    got = rotated(&kept, &b);
    want = rotated(&fresh, &b);
    CU_ASSERT_EQUAL(memcmp(got, want, 64 * sizeof *got), 0);
    CU_ASSERT(memcmp(first, want, 64 * sizeof *got) != 0);
    free(first), free(got), free(want);
    dev_close(&kept);
    dev_close(&fresh);
}

static const struct test tests[] = {
    { "angles_are_the_models", angles_are_the_models },
    { "bad_values_reach_the_token", bad_values_reach_the_token },
    { "pick_takes_the_first_largest", pick_takes_the_first_largest },
    { "rows_are_right", rows_are_right },
    { "swiglu_survives_extremes", swiglu_survives_extremes },
    { "embed_decodes_packed_rows", embed_decodes_packed_rows },
    { "bad_requests_are_refused", bad_requests_are_refused },
    { "time_is_skipped_or_slept", time_is_skipped_or_slept },
    { NULL, NULL }
};
const struct suite suite_kernels = { "kernels", tests, 120 };
