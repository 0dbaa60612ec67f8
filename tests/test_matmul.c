/* test_matmul.c - matrix products of the cpu device against the reference device, and bit for
 * bit against itself: a row alone or in a batch, on one thread or three, on each instruction set.
 */
#include "tests/kernels.h"

static bool finished(struct device *d)
{
    struct err e = { 0 };

    return dev_end(d, &e) == 0;
}

/* bound[r][c] = eps * sum over i of |x[r][i] w[c][i]|, w as stored (the reference's weights are
 * decoded). */
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

/* One shape and format on one device against the reference. The error of a chain of n roundings
 * is at most n * 2^-24 of the sum of magnitudes; integer formats round once per group. int4z adds two terms a
 * group whose magnitudes may exceed those of the weights, of which they are the difference. */
static void check_shape(struct device *ref, struct device *cpu, struct shape s, struct wfmt f)
{
    double eps = (is_dots(f) ? s.k / 32 + 4 : s.k) * 0x1p-24, most, *bound;
    float *w = floats((size_t)s.n * s.k, 7, 0.1), *x = grid_floats((size_t)s.m * s.k, 8);
    float *want = floats((size_t)s.m * s.n, 0, 1), *got = floats((size_t)s.m * s.n + 16, 0, 1);
    struct weight a = load(ref, f, s.n, s.k, w), b = load(cpu, f, s.n, s.k, w);

    bound = malloc((size_t)s.m * s.n * sizeof *bound);
    got[(size_t)s.m * s.n] = 42;                       /* nothing is written past the end */
    dev_matmul(ref, want, x, &a, s.m);
    dev_matmul(cpu, got, x, &b, s.m);
    bound_of(bound, x, &a, s.m, f.fmt == FMT_INT4Z ? 4 * eps : eps);
    most = worst(got, want, bound, (size_t)s.m * s.n);
    if (!(most <= 1))
        test_note("%s: %s, m %u n %u k %u: error is %.3g of its bound", cpu->label, name_of(f),
                  s.m, s.n, s.k, most);
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
                if (i > 0 || shapes[s].m * shapes[s].n * shapes[s].k < 100000) /* scalar is slow */
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

    for (int f = 0; f < N_FORMAT; f++) {
        uint32_t group = act_group(formats[f]);
        if (!is_dots(formats[f]))
            continue;
        struct weight a = load(&ref, formats[f], s.n, s.k, w),
                      b = load(&cpu, formats[f], s.n, s.k, w);
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

/* y of the whole batch must hold the bits of every row alone and of every leading part of the
 * batch. */
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
                    test_note("%s, %s: %u rows differ", d.label, name_of(formats[f]), m);
                CU_ASSERT(same(y, first + (M - m) * N, m * N));
            }
            dev_weight_free(&d, &a);
            dev_close(&d);
        }
    }
    free(w), free(x), free(first), free(y);
}

/* One output as the kernels define it, from the canonical encoding of its weights (q, scale): the
 * chain of fused multiply-adds of tile_float.h and tile_int.h, in plain C. */
static float float_chain(struct wfmt f, const void *q, const uint16_t *scale, const float *x, uint32_t k)
{
    static const uint16_t one = 0x3c00;
    const bool fp8 = f.fmt == FMT_FP8, a16 = f.fmt == FMT_BF16_A16;
    float w[2048], total = 0;

    row_decode(f, q, fp8 ? &one : scale, k, w);        /* fp8: codes; the scale follows at the end */
    for (uint32_t i = 0; i < k; i++)
        total = fmaf(a16 ? f32_from_bf16(bf16_from_f32(x[i])) : x[i], w[i], total);
    return fp8 ? total * f32_from_f16(*scale) : total;
}

static int code_of(struct wfmt f, const uint8_t *q, uint32_t i)
{
    int u = i % 2 ? q[i / 2] >> 4 : q[i / 2] & 15;

    return f.fmt == FMT_INT8 ? (int8_t)q[i] : f.fmt == FMT_INT4 ? u - 8 : u;
}

static float defined_output(struct wfmt f, const void *q, const uint16_t *scale, const float *x,
                            uint32_t k)
{
    uint32_t group = act_group(f);
    float total = 0;

    if (!is_dots(f))
        return float_chain(f, q, scale, x, k);
    for (uint32_t g = 0; g < k; g += group) {
        uint32_t end = g + group < k ? g + group : k, at = f.group ? g / f.group : 0;
        float most = 0, sx;
        int dot = 0, sum = 0;

        for (uint32_t i = g; i < end; i++)
            most = fmaxf(most, fabsf(x[i]));
        sx = most / 127.0f;
        for (uint32_t i = g; i < end; i++) {
            int xi = (int)rintf(x[i] * (127.0f / most));

            dot += code_of(f, q, i) * xi;
            sum += xi;
        }
        if (f.fmt == FMT_INT8)
            total = fmaf((float)dot, sx, total);
        else
            total = fmaf((float)dot * sx, f32_from_f16(scale[f.fmt == FMT_INT4Z ? 2 * at : at]), total);
        if (f.fmt == FMT_INT4Z)
            total = fmaf((float)sum * sx, f32_from_f16(scale[2 * at + 1]), total);
    }
    return f.fmt == FMT_INT8 ? total * f32_from_f16(scale[0]) : total;
}

static void matmul_is_the_promised_chain(void)
{
    enum { M = 3, N = 35, K = 160 };
    float *w = floats(N * K, 5, 0.1), *x = floats(M * K, 6, 1), y[M * N];

    for (int f = 0; f < N_FORMAT; f++) {
        struct device d = open_on(&device_cpu, NULL, 2);
        struct weight a = load(&d, formats[f], N, K, w);
        unsigned bad = 0;

        dev_matmul(&d, y, x, &a, M);
        for (uint32_t c = 0; c < N; c++) {
            uint16_t scale[K];
            float q[K];

            row_encode(formats[f], w + c * K, K, q, scale);
            for (uint32_t r = 0; r < M; r++) {
                float want = defined_output(formats[f], q, scale, x + r * K, K);

                bad += !same(&want, y + r * N + c, 1);
            }
        }
        if (bad)
            test_note("%s: %u outputs differ", name_of(formats[f]), bad);
        CU_ASSERT_EQUAL(bad, 0);
        dev_weight_free(&d, &a);
        dev_close(&d);
    }
    free(w), free(x);
}

/* Worst case of the integer dots: all weights and activations at their ends must not saturate. */
static void integer_ends_do_not_saturate(void)
{
    enum { N = 32, K = 256 };
    float w[N * K], x[K], y[N];

    for (int f = 0; f < N_FORMAT; f++)
        for (int sign = -1; sign <= 1; sign += 2)
            for (int i = 0; i < N_ISA; i++) {
                struct device d;
                struct weight a;
                float top = fmt_stored(formats[f].fmt) == FMT_INT8 ? 127.0f : 128.0f;
                double want = (double)sign * K * top;

                if (!cpu_isa_here(isas[i]) || !is_dots(formats[f]))
                    continue;
                for (int j = 0; j < N * K; j++)
                    w[j] = top;
                for (int j = 0; j < K; j++)
                    x[j] = (float)sign;
                d = open_on(&device_cpu, isas[i]->name, 1);
                a = load(&d, formats[f], N, K, w);
                dev_matmul(&d, y, x, &a, 1);
                CU_ASSERT(fabs(y[0] - want) < 1e-6 * fabs(want) &&
                          fabs(y[N - 1] - want) < 1e-6 * fabs(want));
                dev_weight_free(&d, &a);
                dev_close(&d);
            }
}

/* bf16 times bf16: weights and activations of every size, subnormals among them, and sums that cancel. The
 * tiles that the CPU has an instruction for must agree with those that it has none for. */
static void bf16_products_agree_at_all_sizes(void)
{
    enum { M = 15, N = 40, K = 128 };
    const struct wfmt f = { FMT_BF16_A16, 0 };
    float *w = floats(N * K, 3, 1), *x = floats(M * K, 4, 1), y[M * N], first[M * N] = { 0 };
    struct rng r;

    rng_seed(&r, 5);
    for (int i = 0; i < N * K; i++)
        w[i] = ldexpf(w[i], (int)rng_below(&r, 180) - 140);
    for (int i = 0; i < M * K; i++)
        x[i] = ldexpf(x[i], (int)rng_below(&r, 180) - 140);
    for (int i = 0; i < M; i++)                        /* a pair that cancels, exactly */
        x[i * K + 3] = -x[i * K + 2];
    for (int i = 0; i < N; i++)
        w[i * K + 3] = w[i * K + 2];
    for (int i = 0; i < N_ISA; i++) {
        struct device d;
        struct weight a;

        if (!cpu_isa_here(isas[i]))
            continue;
        d = open_on(&device_cpu, isas[i]->name, 1);
        a = load(&d, f, N, K, w);
        dev_matmul(&d, i ? y : first, x, &a, M);
        CU_ASSERT(i == 0 || same(y, first, M * N));
        dev_weight_free(&d, &a);
        dev_close(&d);
    }
    free(w), free(x);
}

/* With an outlier in an activation group, int8 activations lose what -a32 keeps: that is what it is for. */
static void a32_is_more_accurate(void)
{
    enum { N = 32, K = 256 };
    static const struct wfmt pair[3][2] = {
        { { FMT_INT8, 0 }, { FMT_INT8_A32, 0 } }, { { FMT_INT4, 32 }, { FMT_INT4_A32, 32 } },
        { { FMT_INT4Z, 32 }, { FMT_INT4Z_A32, 32 } }
    };
    float *w = floats(N * K, 3, 1), *x = floats(K, 4, 1), want[N], got[2][N];
    struct device ref = open_on(&device_ref, NULL, 0), cpu = open_on(&device_cpu, NULL, 1);

    for (int i = 0; i < K; i += 32)
        x[i] = 100;
    for (int p = 0; p < 3; p++) {
        double off[2] = { 0, 0 };
        struct weight a = load(&ref, pair[p][0], N, K, w), b;

        dev_matmul(&ref, want, x, &a, 1);
        for (int i = 0; i < 2; i++) {
            b = load(&cpu, pair[p][i], N, K, w);
            CU_ASSERT_EQUAL(b.bytes, a.bytes);
            dev_matmul(&cpu, got[i], x, &b, 1);
            for (int c = 0; c < N; c++)
                off[i] += fabs((double)got[i][c] - want[c]);
            dev_weight_free(&cpu, &b);
        }
        CU_ASSERT(off[0] > 1000 * off[1]);
        dev_weight_free(&ref, &a);
    }
    dev_close(&ref);
    dev_close(&cpu);
    free(w), free(x);
}

static const struct test tests[] = {
    { "bf16_products_agree_at_all_sizes", bf16_products_agree_at_all_sizes },
    { "a32_is_more_accurate", a32_is_more_accurate },
    { "matmul_is_right", matmul_is_right },
    { "activations_round_to_nearest", activations_round_to_nearest },
    { "matmul_rows_are_alone", matmul_rows_are_alone },
    { "matmul_is_the_promised_chain", matmul_is_the_promised_chain },
    { "integer_ends_do_not_saturate", integer_ends_do_not_saturate },
    { NULL, NULL }
};
const struct suite suite_matmul = { "matmul", tests, 120 };
