/* test_kernels.c - every operation of the cpu device against the reference device, and bit for bit
 * against itself: alone or in a batch, on one thread or three, on each instruction set of this CPU.
 * Attention has its own file, test_attend.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "kernels/cpu/cpu.h"
#include "tests/test.h"

extern const struct device_ops device_cpu, device_ref;

static const struct cpu_isa *const isas[] = { &cpu_isa_scalar, &cpu_isa_avx2, &cpu_isa_avx512 };
enum { N_ISA = 3 };

static const struct wfmt formats[] = {
    { FMT_F32, 0 }, { FMT_F16, 0 }, { FMT_INT8, 0 }, { FMT_INT4, 32 }, { FMT_INT4, 64 }, { FMT_INT4, 128 }
};
enum { N_FORMAT = sizeof formats / sizeof *formats };

static struct device open_on(const struct device_ops *ops, const char *isa, int n_thread)
{
    struct device_conf conf = { .isa = isa, .n_thread = n_thread };
    struct device d;
    struct err e = { 0 };

    if (dev_open(&d, ops, &conf, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("device did not open");
    }
    return d;
}

static float *floats(size_t n, uint64_t seed, double size)
{
    float *x = aligned_alloc(64, (n * sizeof *x + 127) / 64 * 64);
    struct rng r;

    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(rng_normal(&r) * size);
    return x;
}

/* Activations that int8 holds exactly with scale 2^-7, whatever the group: tests then see arithmetic only. */
static float *grid_floats(size_t n, uint64_t seed)
{
    float *x = floats(n, seed, 1);
    struct rng r;

    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(i % 32 == 5 ? -127 : (int)rng_below(&r, 255) - 127) * 0x1p-7f;
    return x;
}

struct matrix { const float *w; uint32_t k; };

static int matrix_row(void *self, uint32_t row, float *out, struct err *e)
{
    const struct matrix *m = self;

    (void)e;
    memcpy(out, m->w + (size_t)row * m->k, m->k * sizeof *out);
    return 0;
}

static struct weight load(struct device *d, struct wfmt f, uint32_t n, uint32_t k, const float *w)
{
    struct matrix m = { w, k };
    struct weight out;
    struct err e = { 0 };

    if (dev_weight(d, &out, f, n, k, (struct row_source){ matrix_row, &m }, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("weight not loaded");
    }
    return out;
}

static bool same(const float *a, const float *b, size_t n)
{
    return memcmp(a, b, n * sizeof *a) == 0;
}

static bool finished(struct device *d)
{
    struct err e = { 0 };

    return dev_end(d, &e) == 0;
}

/* Largest |a - b| / bound; bound[i] > 0. */
static double worst(const float *a, const float *b, const double *bound, size_t n)
{
    double most = 0;

    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]) / bound[i];

        most = d > most || isnan(d) ? d : most;
    }
    return most;
}

/* bound[r][c] = eps * sum over i of |x[r][i] w[c][i]|, w as stored (the reference's weights are decoded). */
static void bound_of(double *bound, const float *x, const struct weight *w, uint32_t m, double eps)
{
    const float *data = w->data;

    for (uint32_t r = 0; r < m; r++)
        for (uint32_t c = 0; c < w->n; c++) {
            double s = 1e-30;

            for (uint32_t i = 0; i < w->k; i++)
                s += fabs((double)x[(size_t)r * w->k + i] * data[(size_t)c * w->k + i]);
            bound[(size_t)r * w->n + c] = s * eps;
        }
}

struct shape { uint32_t m, n, k; };
static const struct shape shapes[] = {
    { 1, 33, 32 }, { 1, 300, 576 }, { 2, 64, 96 }, { 2, 145, 64 }, { 3, 100, 160 }, { 4, 16, 32 },
    { 5, 1, 64 }, { 7, 95, 96 }, { 8, 40, 128 }, { 14, 33, 64 }, { 15, 50, 96 }, { 16, 64, 160 },
    { 31, 47, 96 }, { 70, 65, 64 }, { 3, 40, 1536 }
};

/* One shape and format on one device against the reference. The error of a chain of n roundings is at
 * most n * 2^-24 of the sum of magnitudes; integer formats round once per group. */
static void check_shape(struct device *ref, struct device *cpu, struct shape s, struct wfmt f)
{
    bool ints = f.fmt == FMT_INT8 || f.fmt == FMT_INT4;
    double eps = (ints ? s.k / 32 + 4 : s.k) * 0x1p-24, most, *bound;
    float *w = floats((size_t)s.n * s.k, 7, 0.1), *x = grid_floats((size_t)s.m * s.k, 8);
    float *want = floats((size_t)s.m * s.n, 0, 1), *got = floats((size_t)s.m * s.n + 16, 0, 1);
    struct weight a = load(ref, f, s.n, s.k, w), b = load(cpu, f, s.n, s.k, w);

    bound = malloc((size_t)s.m * s.n * sizeof *bound);
    got[(size_t)s.m * s.n] = 42;                       /* nothing is written past the end */
    dev_matmul(ref, want, x, &a, s.m);
    dev_matmul(cpu, got, x, &b, s.m);
    bound_of(bound, x, &a, s.m, eps);
    most = worst(got, want, bound, (size_t)s.m * s.n);
    if (!(most <= 1))
        test_note("%s: %s, m %u n %u k %u: error is %.3g of its bound", cpu->label, fmt_name(f.fmt), s.m,
                  s.n, s.k, most);
    CU_ASSERT(most <= 1);
    CU_ASSERT(got[(size_t)s.m * s.n] == 42);
    CU_ASSERT_EQUAL(b.bytes, wfmt_bytes(f, s.n, s.k));
    dev_weight_free(ref, &a);
    dev_weight_free(cpu, &b);
    free(w), free(x), free(want), free(got), free(bound);
}

static void matmul_is_right(void)
{
    struct device ref = open_on(&device_ref, NULL, 0);

    for (int i = 0; i < N_ISA; i++) {
        struct device cpu;

        if (!cpu_isa_here(isas[i]))
            continue;
        cpu = open_on(&device_cpu, isas[i]->name, 2);
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int f = 0; f < N_FORMAT; f++)
                if (i > 0 || shapes[s].m * shapes[s].n * shapes[s].k < 100000)   /* scalar is slow */
                    check_shape(&ref, &cpu, shapes[s], formats[f]);
        CU_ASSERT(finished(&cpu));
        CU_ASSERT_EQUAL(cpu.now_bytes, 0);
        dev_close(&cpu);
    }
    dev_close(&ref);
}

/* Random activations: the error of rounding them to int8 is at most half a step per input. */
static void activations_round_to_nearest(void)
{
    const struct shape s = { 3, 64, 576 };
    struct device ref = open_on(&device_ref, NULL, 0), cpu = open_on(&device_cpu, NULL, 0);
    float *w = floats((size_t)s.n * s.k, 1, 0.1), *x = floats((size_t)s.m * s.k, 2, 1);
    float want[3 * 64], got[3 * 64];
    double bound[3 * 64];

    for (int f = 2; f < N_FORMAT; f++) {
        uint32_t group = formats[f].fmt == FMT_INT8 ? ACT_GROUP : formats[f].group;
        struct weight a = load(&ref, formats[f], s.n, s.k, w), b = load(&cpu, formats[f], s.n, s.k, w);
        double most;

        for (uint32_t r = 0; r < s.m; r++)
            for (uint32_t c = 0; c < s.n; c++) {
                double sum = 0;

                for (uint32_t g = 0; g < s.k; g += group) {
                    float top = 0, all = 0;

                    for (uint32_t i = g; i < g + group && i < s.k; i++) {
                        top = fmaxf(top, fabsf(x[r * s.k + i]));
                        all += fabsf(((float *)a.data)[c * s.k + i]);
                    }
                    sum += 0.5 * top / 127 * all;
                }
                bound[r * s.n + c] = sum * 1.001;
            }
        dev_matmul(&ref, want, x, &a, s.m);
        dev_matmul(&cpu, got, x, &b, s.m);
        most = worst(got, want, bound, s.m * s.n);
        CU_ASSERT(most < 0.5);                         /* errors of 576 inputs average out ... */
        CU_ASSERT(most > 0.001);                       /* ... but they are there */
        dev_weight_free(&ref, &a);
        dev_weight_free(&cpu, &b);
    }
    dev_close(&ref);
    dev_close(&cpu);
    free(w), free(x);
}

/* y of the whole batch must hold the bits of every row alone and of every leading part of the batch. */
static void matmul_rows_are_alone(void)
{
    enum { M = 33, N = 70, K = 160 };
    float *w = floats(N * K, 3, 0.1), *x = floats(M * K, 4, 1);
    float *first = malloc(M * N * sizeof *first), *y = malloc(M * N * sizeof *y);

    for (int f = 0; f < N_FORMAT; f++) {
        bool have = false;

        for (int i = 0; i < N_ISA * 2; i++) {
            struct device d;
            struct weight a;

            if (!cpu_isa_here(isas[i / 2]))
                continue;
            d = open_on(&device_cpu, isas[i / 2]->name, i % 2 ? 3 : 1);
            a = load(&d, formats[f], N, K, w);
            if (!have)
                dev_matmul(&d, first, x, &a, M);
            have = true;
            for (uint32_t m = 1; m <= M; m += m < 17 ? 1 : 4) {
                dev_matmul(&d, y, x + (M - m) * K, &a, m);
                if (!same(y, first + (M - m) * N, m * N))
                    test_note("%s, %s: %u rows differ", d.label, fmt_name(formats[f].fmt), m);
                CU_ASSERT(same(y, first + (M - m) * N, m * N));
            }
            dev_weight_free(&d, &a);
            dev_close(&d);
        }
    }
    free(w), free(x), free(first), free(y);
}

/* Worst case of the integer dots: all weights and activations at their ends must not saturate. */
static void integer_ends_do_not_saturate(void)
{
    enum { N = 32, K = 256 };
    float w[N * K], x[K], y[N];

    for (int f = 2; f < N_FORMAT; f++)
        for (int sign = -1; sign <= 1; sign += 2)
            for (int i = 0; i < N_ISA; i++) {
                struct device d;
                struct weight a;
                double want = (double)sign * K * (formats[f].fmt == FMT_INT8 ? 127 : 128);

                if (!cpu_isa_here(isas[i]))
                    continue;
                for (int j = 0; j < N * K; j++)
                    w[j] = formats[f].fmt == FMT_INT8 ? 127.0f : 128.0f;
                for (int j = 0; j < K; j++)
                    x[j] = (float)sign;
                d = open_on(&device_cpu, isas[i]->name, 1);
                a = load(&d, formats[f], N, K, w);
                dev_matmul(&d, y, x, &a, 1);
                CU_ASSERT(fabs(y[0] - want) < 1e-6 * fabs(want) && fabs(y[N - 1] - want) < 1e-6 * fabs(want));
                dev_weight_free(&d, &a);
                dev_close(&d);
            }
}

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

/* norm, swiglu, embed and gather of every instruction set: near the reference, equal to each other. */
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
            float *x = floats(n, 4, 1), *y = floats(n, 5, 1), *z = floats(n, 5, 1), *zr = floats(n, 5, 1);
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
        free(first[0]), free(first[1]), free(gain), free(delta), free(gu), free(xr), free(yr), free(bound);
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
    CU_ASSERT(fabsf(y[0]) < 1e-30f && fabsf(y[1] - 1e4f) < 1 && isnan(y[2]) && fabsf(y[3]) < 1e-30f);
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
    CU_ASSERT(dev_now(&d) >= now + hour_ns && dev_now(&d) < now + hour_ns + 1000 * ms_ns);
    dev_idle(&d, 5);                                   /* in the past: nothing happens */
    CU_ASSERT(dev_now(&d) >= now + hour_ns);
    d.pace = PACE_WALL;
    now = dev_now(&d);
    dev_idle(&d, now + 20 * ms_ns);
    CU_ASSERT(dev_now(&d) >= now + 20 * ms_ns);
    dev_close(&d);
}

static const struct test tests[] = {
    { "matmul_is_right", matmul_is_right },
    { "activations_round_to_nearest", activations_round_to_nearest },
    { "matmul_rows_are_alone", matmul_rows_are_alone },
    { "integer_ends_do_not_saturate", integer_ends_do_not_saturate },
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
