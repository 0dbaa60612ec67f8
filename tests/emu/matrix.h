/* matrix.h - what the suites about weights and products share: a GPU for products, matrices with the values that
 * row_decode gives, products with a guard behind them, and the greatest error over its bound. */
#ifndef TESTS_EMU_MATRIX_H
#define TESTS_EMU_MATRIX_H

#include <math.h>
#include <vector>

#include "base/hash.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/matmul_own.h"
#include "tests/emu/emu_test.h"

static const struct wfmt formats[] = {
    { FMT_F16, 0 },   { FMT_BF16, 0 },  { FMT_FP8, 0 },    { FMT_INT8, 0 },   { FMT_INT4, 32 },
    { FMT_INT4, 64 }, { FMT_INT4, 128 }, { FMT_INT4Z, 32 }, { FMT_INT4Z, 64 }, { FMT_INT4Z, 128 },
};
enum { GUARD = 64, SCRATCH = 96 << 20 };
static const uint16_t GUARD_BITS = 0x5a5a;

/* Value i of a stream: uniform in [-most, most]. */
static inline float value_of(uint64_t seed, uint64_t i, double most)
{
    return (
        float)(((double)(mix64(seed * 0x9e3779b97f4a7c15u + i) >> 40) / (double)(1 << 23) - 1.0) *
               most);
}

/* --- A GPU for products, and a matrix with its decoded values. */
static inline struct gpu open_gpu(int n_sm, bool exact)
{
    struct gpu g = {};
    struct err e = {};

    emu_device(90, n_sm, (size_t)2 << 30);
    g.cc = 90, g.n_sm = n_sm, g.smem_max = 227 * 1024, g.exec.exact = exact,
    g.n_counter = GPU_COUNTERS;
    CU_ASSERT_EQUAL_FATAL(cudaStreamCreateWithFlags(&g.stream, cudaStreamNonBlocking), cudaSuccess);
    g.counter = device_new<uint32_t>(GPU_COUNTERS);
    CU_ASSERT_EQUAL_FATAL(cudaMemsetAsync(g.counter, 0, GPU_COUNTERS * 4, g.stream), cudaSuccess);
    if (gpu_matmul_open(&g, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("gpu_matmul_open");
    }
    return g;
}
static inline void close_gpu(struct gpu *g)
{
    if (g->err.code)
        test_note("%s", g->err.text);
    CU_ASSERT_EQUAL(g->err.code, 0);
    gpu_matmul_close(g);
    cudaFree(g->counter);
    cudaStreamDestroy(g->stream);
}

/* period: weights repeat after so many inputs. */
struct rows_of { uint64_t seed; uint32_t k, period; double most; uint32_t next; };
static inline int give_row(void *self, uint32_t row, float *out, struct err *)
{
    struct rows_of *r = static_cast<struct rows_of *>(self);

    CU_ASSERT_EQUAL(row, r->next);                     /* ascending, each once */
    r->next = row + 1;
    for (uint32_t i = 0; i < r->k; i++)
        out[i] = value_of(r->seed, (uint64_t)row * r->k + i % r->period, r->most) +
                 (i % 64 == 7 ? 0.25f : 0);
    return 0;
}

struct matrix { struct weight w; std::vector<float> value; };
static inline struct matrix load_matrix(struct gpu *g, struct wfmt f, uint32_t n, uint32_t k,
                                 uint32_t period = UINT32_MAX)
{
    struct rows_of rows = { 7, k, period, 0.5, 0 };
    struct matrix m = {};
    struct err e = {};

    m.w.fmt = f, m.w.n = n, m.w.k = k;
    if (gpu_weight_load(g, &m.w, { give_row, &rows }, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("gpu_weight_load");
    }
    CU_ASSERT_EQUAL(rows.next, n);
    m.value.resize((size_t)n * k);
    std::vector<float> in(k);
    std::vector<uint16_t> code(k), scale(k / 16 + 2);
    for (uint32_t r = 0; r < n; r++) {
        rows.next = r;
        give_row(&rows, r, in.data(), &e);
        row_encode(f, in.data(), k, code.data(), scale.data());
        row_decode(f, code.data(), scale.data(), k, &m.value[(size_t)r * k]);
    }
    return m;
}

/* y = x W^T on the device; y starts as NaN, and what follows it must stay as it was. */
static inline std::vector<half> multiply(struct gpu *g, const struct matrix *m, const std::vector<half> &x,
                                  uint32_t n_tok)
{
    size_t n_y = (size_t)n_tok * m->w.n, need = gpu_matmul_scratch(g, &m->w, n_tok);
    std::vector<half> y(n_y + GUARD, __ushort_as_half(GUARD_BITS));
    half *dx = device_new<half>(x.size()), *dy = device_new<half>(n_y + GUARD);
    unsigned touched = 0;

    CU_ASSERT_FATAL(need <= SCRATCH);
    g->scratch_bytes = need;                           /* exactly: ASan sees what is used beyond */
    g->scratch = device_new<unsigned char>(need + 1);
    put(dx, x.data(), x.size());
    put(dy + n_y, y.data() + n_y, GUARD);
    gpu_matmul(g, dy, dx, &m->w, n_tok);
    cudaStreamSynchronize(g->stream);
    get(y.data(), dy, n_y + GUARD);
    for (size_t i = n_y; i < n_y + GUARD; i++)
        touched += __half_as_ushort(y[i]) != GUARD_BITS;
    CU_ASSERT_EQUAL(touched, 0);
    cudaFree(dx), cudaFree(dy), cudaFree(g->scratch);
    y.resize(n_y);
    return y;
}

static inline std::vector<half> tokens(uint32_t m, uint32_t k, uint64_t seed)
{
    std::vector<half> x((size_t)m * k);

    for (size_t i = 0; i < x.size(); i++)
        x[i] = __float2half_rn(value_of(seed, i, 2));
    return x;
}

/* Greatest error over its bound. y is rounded to half once; F32 sums of at most k terms err by a
 * small multiple of 2^-24 of the sum of magnitudes; weights that went through half (unpacked) by
 * 2^-11 of it. */
static inline double worst(const std::vector<half> &y, const struct matrix *m, const std::vector<half> &x,
                    uint32_t n_tok, bool unpacked)
{
    uint32_t n = m->w.n, k = m->w.k;
    bool bf16 = m->w.fmt.fmt == FMT_BF16, least = m->w.fmt.fmt == FMT_INT4Z;
    double most = 0;

    for (uint32_t r = 0; r < n_tok; r++) {
        std::vector<double> xs(k);
        for (uint32_t i = 0; i < k; i++) {
            float v = __half2float(x[(size_t)r * k + i]);
            xs[i] = bf16 ? f32_from_bf16(bf16_from_f32(v)) : v;
        }
        for (uint32_t c = 0; c < n; c++) {
            const float *w = &m->value[(size_t)c * k];
            double want = 0, size = 0, top = 0, sum = 0, bound, err;

            for (uint32_t i = 0; i < k; i++) {
                want += xs[i] * w[i], size += fabs(xs[i] * w[i]), sum += fabs(xs[i]);
                top = fmax(top, fabs((double)w[i]));
            }
            if (least) /* scale * u and the least value are larger than w */
                size = 3 * top * sum;
            bound = fabs(want) * 0x1p-11 + size * (k / 8 + 8) * 0x1p-24 +
                    (unpacked ? size * 0x1p-11 : 0) + 0x1p-24;
            err = fabs((double)__half2float(y[(size_t)r * n + c]) - want);
            most = err <= bound * most ? most : err / bound;       /* NaN comes through */
            if (!(err <= bound))
                return isnan(most) ? INFINITY : most;
        }
    }
    return most;
}

static inline void check_product(struct gpu *g, const struct matrix *m, uint32_t n_tok, bool unpacked)
{
    std::vector<half> x = tokens(n_tok, m->w.k, 100 + n_tok), y = multiply(g, m, x, n_tok);
    double most = worst(y, m, x, n_tok, unpacked);
    char name[32];

    wfmt_name(m->w.fmt, name, sizeof name);
    if (!(most <= 1))
        test_note("%s m %u n %u k %u: error is %.3g of its bound", name, n_tok, m->w.n, m->w.k,
                  most);
    CU_ASSERT(most <= 1);
}

#endif
