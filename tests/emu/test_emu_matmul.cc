/* test_emu_matmul.cc - products, weights and embedding of the cuda device, in the emulator: every format, tile and way
 * against sums in double over the weights that row_decode gives, and in exact mode bit for bit against itself. */
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
static float value_of(uint64_t seed, uint64_t i, double most)
{
    return (float)(((double)(mix64(seed * 0x9e3779b97f4a7c15u + i) >> 40) / (double)(1 << 23) - 1.0) * most);
}

/* --- A GPU for products, and a matrix with its decoded values. */
static struct gpu open_gpu(int n_sm, bool exact)
{
    struct gpu g = {};
    struct err e = {};

    emu_device(90, n_sm, (size_t)2 << 30);
    g.cc = 90, g.n_sm = n_sm, g.smem_max = 227 * 1024, g.exec.exact = exact, g.n_counter = GPU_COUNTERS;
    CU_ASSERT_EQUAL_FATAL(cudaStreamCreateWithFlags(&g.stream, cudaStreamNonBlocking), cudaSuccess);
    g.counter = device_new<uint32_t>(GPU_COUNTERS);
    CU_ASSERT_EQUAL_FATAL(cudaMemsetAsync(g.counter, 0, GPU_COUNTERS * 4, g.stream), cudaSuccess);
    if (gpu_matmul_open(&g, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("gpu_matmul_open");
    }
    return g;
}
static void close_gpu(struct gpu *g)
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
static int give_row(void *self, uint32_t row, float *out, struct err *)
{
    struct rows_of *r = static_cast<struct rows_of *>(self);

    CU_ASSERT_EQUAL(row, r->next);                     /* ascending, each once */
    r->next = row + 1;
    for (uint32_t i = 0; i < r->k; i++)
        out[i] = value_of(r->seed, (uint64_t)row * r->k + i % r->period, r->most) + (i % 64 == 7 ? 0.25f : 0);
    return 0;
}

struct matrix { struct weight w; std::vector<float> value; };
static struct matrix load_matrix(struct gpu *g, struct wfmt f, uint32_t n, uint32_t k, uint32_t period = UINT32_MAX)
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
static std::vector<half> multiply(struct gpu *g, const struct matrix *m, const std::vector<half> &x, uint32_t n_tok)
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

static std::vector<half> tokens(uint32_t m, uint32_t k, uint64_t seed)
{
    std::vector<half> x((size_t)m * k);

    for (size_t i = 0; i < x.size(); i++)
        x[i] = __float2half_rn(value_of(seed, i, 2));
    return x;
}

/* Greatest error over its bound. y is rounded to half once; F32 sums of at most k terms err by a small multiple of
 * 2^-24 of the sum of magnitudes; weights that went through half (unpacked) by 2^-11 of it. */
static double worst(const std::vector<half> &y, const struct matrix *m, const std::vector<half> &x, uint32_t n_tok,
                    bool unpacked)
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
            if (least)                                 /* scale * u and the least value are larger than w */
                size = 3 * top * sum;
            bound = fabs(want) * 0x1p-11 + size * (k / 8 + 8) * 0x1p-24 + (unpacked ? size * 0x1p-11 : 0) + 0x1p-24;
            err = fabs((double)__half2float(y[(size_t)r * n + c]) - want);
            most = err <= bound * most ? most : err / bound;       /* NaN comes through */
            if (!(err <= bound))
                return isnan(most) ? INFINITY : most;
        }
    }
    return most;
}

static void check_product(struct gpu *g, const struct matrix *m, uint32_t n_tok, bool unpacked)
{
    std::vector<half> x = tokens(n_tok, m->w.k, 100 + n_tok), y = multiply(g, m, x, n_tok);
    double most = worst(y, m, x, n_tok, unpacked);
    char name[32];

    wfmt_name(m->w.fmt, name, sizeof name);
    if (!(most <= 1))
        test_note("%s m %u n %u k %u: error is %.3g of its bound", name, n_tok, m->w.n, m->w.k, most);
    CU_ASSERT(most <= 1);
}

/* --- Products. */
struct size { uint32_t n, k; };

static void check_sizes(int n_sm, const std::vector<struct size> &sizes, const std::vector<uint32_t> &tok)
{
    struct gpu g = open_gpu(n_sm, true);

    for (struct wfmt f : formats)
        for (struct size s : sizes) {
            struct matrix m = load_matrix(&g, f, s.n, s.k);

            for (uint32_t n_tok : tok)
                check_product(&g, &m, n_tok, false);
            gpu_weight_free(&g, &m.w);
        }
    close_gpu(&g);
}
/* TSan is 20 times slower: it gets one shape for every kernel, which is all that it can tell apart. */
static bool too_slow(void)
{
    if (EMU_TSAN)
        test_skip("under TSan the smaller shapes cover every kernel");
    return EMU_TSAN;
}
/* k shorter than a stage, than half a stage; last groups of 32 and 64; n that ends inside a panel, a chunk, a pair. */
static void small(void)
{
    if (EMU_TSAN)
        return check_sizes(6, { { 96, 160 }, { 96, 64 } /* one range */ }, { 2, 15, 17, 33, 130 });
    check_sizes(6, { { 32, 32 }, { 96, 160 }, { 40, 96 }, { 130, 64 }, { 33, 128 }, { 1, 224 } },
                { 1, 2, 5, 8, 15, 16, 17, 33, 64, 65, 130 });
}
static void model_sizes(void)
{
    if (too_slow())
        return;
    check_sizes(6, { { 576, 576 } }, { 1, 16, 33, 130 });
    check_sizes(6, { { 960, 576 } }, { 8, 65 });
}
/* Many SMs and few tiles: up to 5 ranges of k. */
static void split(void)
{
    if (!too_slow())
        check_sizes(40, { { 64, 1408 }, { 288, 704 } }, { 1, 8, 17, 64, 70 });
}

static void schedules(void)
{
    each_schedule([] { check_sizes(40, { { 160, 544 } }, { 7, 40 }); });
}

/* Limits so small that a product takes several launches and a matrix is unpacked block by block. */
static void cut(void)
{
    if (too_slow())
        return;
    struct gpu g = open_gpu(40, true);
    struct matmul *mm = static_cast<struct matmul *>(g.matmul);

    mm->part_bytes = 1, mm->unpack_bytes = 1;
    for (struct wfmt f : formats) {
        struct matrix m = load_matrix(&g, f, 160, 544);

        g.exec.exact = true;
        check_product(&g, &m, 150, false);
        g.exec.exact = false;
        check_product(&g, &m, 300, true);
        gpu_weight_free(&g, &m.w);
    }
    close_gpu(&g);
}

/* Not exact: cuBLAS for f16, and for integers beyond 256 tokens; ours below. */
static void not_exact(void)
{
    struct gpu g = open_gpu(6, false);

    for (struct wfmt f : formats) {
        struct matrix m = load_matrix(&g, f, 97, 160);

        for (uint32_t n_tok : { 1u, 16u, 70u, 257u, 300u })
            check_product(&g, &m, n_tok, true);
        gpu_weight_free(&g, &m.w);
    }
    close_gpu(&g);
}

/* Tokens against weights that repeat after half of k: every fourth value is large and meets its opposite half of k later, so
 * the result is small, the sums on the way are not, and another order of them gives other bits. */
static std::vector<half> cancelling(uint32_t m, uint32_t k)
{
    std::vector<half> x = tokens(m, k, 5);

    for (uint32_t i = 0; i < m * k; i++)
        if (i % 4 == 0)
            x[i] = __float2half_rn((i % k < k / 2 ? 1 : -1) * value_of(6, i / k * k + i % (k / 2), 2048));
    return x;
}

/* A row's bits: alone, and at any place of any batch, so through every tile size. */
static void check_batches(struct gpu *g, const struct matrix *m)
{
    const uint32_t k = m->w.k, n = m->w.n, most = 150;
    std::vector<half> x = cancelling(most, k), all = multiply(g, m, x, most);
    unsigned bad = 0;
    char name[32];

    for (uint32_t n_tok : { 1u, 2u, 5u, 9u, 16u, 20u, 41u, 64u, 100u })
        for (uint32_t first : { 0u, 3u, 50u }) {
            std::vector<half> part(x.begin() + (long)(first * k), x.begin() + (long)((first + n_tok) * k));
            std::vector<half> y = multiply(g, m, part, n_tok);

            bad += memcmp(y.data(), &all[(size_t)first * n], (size_t)n_tok * n * sizeof(half)) != 0;
        }
    wfmt_name(m->w.fmt, name, sizeof name);
    if (bad)
        test_note("%s n %u k %u: %u of 27 batches differ from the batch of 150", name, n, k, bad);
    CU_ASSERT_EQUAL(bad, 0);
}
static void batches(void)
{
    if (too_slow())
        return;
    for (int n_sm : { 1, 40 }) {
        struct gpu g = open_gpu(n_sm, true);

        for (struct wfmt f : formats) {
            struct matrix m = load_matrix(&g, f, 64, 1024, 512);

            check_batches(&g, &m);
            gpu_weight_free(&g, &m.w);
        }
        close_gpu(&g);
    }
}

/* What a product may read: weights and scales once, tokens once for each 128 channels; no bank conflict. */
static void traffic(void)
{
    struct gpu g = open_gpu(6, true);

    for (struct wfmt f : formats) {
        struct matrix m = load_matrix(&g, f, 288, 416);
        bool groups = fmt_is_nibble(f.fmt);
        size_t scales = groups ? pack_panels(288) * pack_panel_scales(f, 416) : 0, body = pack_panels(288) * pack_panel_body(f, 416);

        for (uint32_t n_tok : { 1u, 8u, 16u }) {
            emu_counters_reset();
            multiply(&g, &m, tokens(n_tok, 416, 3), n_tok);
            CU_ASSERT_EQUAL(emu_counters()->async_bytes, body + scales + 3 * (size_t)n_tok * 416 * 2);
            CU_ASSERT_EQUAL(emu_counters()->ldsm_conflicts, 0);
            CU_ASSERT(emu_counters()->ldsm > 0);
        }
        gpu_weight_free(&g, &m.w);
    }
    close_gpu(&g);
}

/* Scratch for max_m is enough for every m below it, and bounded. */
static void scratch(void)
{
    struct gpu g = open_gpu(132, true);
    const struct size sizes[] = { { 32, 32 }, { 576, 576 }, { 4096, 4096 }, { 4096, 14336 }, { 28672, 4096 }, { 128256, 4096 } };

    for (struct wfmt f : formats)
        for (struct size s : sizes) {
            struct weight w = {};
            size_t top, most = 0;

            w.fmt = f, w.n = s.n, w.k = s.k;
            for (uint32_t m = 1; m <= 2100; m++) {
                size_t need = gpu_matmul_scratch(&g, &w, m);

                CU_ASSERT_FATAL(need >= most);
                most = need > most ? need : most;
            }
            top = gpu_matmul_scratch(&g, &w, 1 << 20);
            CU_ASSERT(most <= top);
            CU_ASSERT(top <= SCRATCH);
        }
    close_gpu(&g);
}

/* --- Embedding and unpacking. */
static void embedding(void)
{
    struct gpu g = open_gpu(6, true);
    const uint32_t tok[] = { 0, 95, 31, 32, 63, 7, 96, 8, UINT32_MAX, 16 }, n = sizeof tok / sizeof *tok, k = 160;
    uint32_t *dtok = device_new<uint32_t>(n);

    put(dtok, tok, n);
    for (struct wfmt f : formats) {
        struct matrix m = load_matrix(&g, f, 96, k);
        half *dx = device_new<half>(n * k);
        std::vector<half> x(n * k);
        unsigned bad = 0;

        gpu_embed(&g, dx, &m.w, dtok, n);
        cudaStreamSynchronize(g.stream);
        get(x.data(), dx, n * k);
        for (uint32_t i = 0; i < n * k; i++) {
            float got = __half2float(x[i]);

            bad += tok[i / k] < 96 ? __half_as_ushort(x[i]) != f16_from_f32(m.value[(size_t)tok[i / k] * k + i % k]) : !isnan(got);
        }
        CU_ASSERT_EQUAL(bad, 0);
        cudaFree(dx);
        gpu_weight_free(&g, &m.w);
    }
    cudaFree(dtok);
    close_gpu(&g);
}

static void unpacking(void)
{
    struct gpu g = open_gpu(6, false);
    const uint32_t n = 200, k = 160, row0 = 64, rows = 101;

    for (struct wfmt f : formats) {
        if (!fmt_is_nibble(f.fmt) && !fmt_is_byte(f.fmt))
            continue;
        struct matrix m = load_matrix(&g, f, n, k);
        half *d = device_new<half>(rows * k);
        std::vector<half> x(rows * k);
        unsigned bad = 0;

        CU_ASSERT_EQUAL(gpu_unpack(d, &m.w, row0, rows, g.stream), cudaSuccess);
        cudaStreamSynchronize(g.stream);
        get(x.data(), d, rows * k);
        for (uint32_t i = 0; i < rows * k; i++)
            bad += __half_as_ushort(x[i]) != f16_from_f32(m.value[(size_t)row0 * k + i]);
        CU_ASSERT_EQUAL(bad, 0);
        cudaFree(d);
        gpu_weight_free(&g, &m.w);
    }
    close_gpu(&g);
}

/* --- What cannot be, and NaN. */
static int bad_row(void *self, uint32_t row, float *out, struct err *e)
{
    uint32_t k = *static_cast<uint32_t *>(self);

    if (row == 40)
        return err_set(e, EXIT_USAGE, "row 40 is not there");
    memset(out, 0, k * sizeof *out);
    return 0;
}
static void refused(void)
{
    struct gpu g = open_gpu(6, true);
    struct { struct wfmt f; uint32_t n, k; const char *why; } cases[] = {
        { { FMT_F32, 0 }, 32, 32, "cannot be" },        { { FMT_F16, 0 }, 32, 48, "cannot be" },
        { { FMT_INT4, 16 }, 32, 32, "cannot be" },      { { FMT_INT4Z, 0 }, 32, 32, "cannot be" },
        { { FMT_INT8, 0 }, 0, 32, "cannot be" },        { { FMT_N, 0 }, 32, 32, "cannot be" },
        { { FMT_F16, 0 }, UINT32_MAX, UINT32_MAX - 31, "cannot be" },
        { { FMT_INT8, 0 }, 1u << 31, 1u << 16, "no device memory" },
        { { FMT_INT4, 64 }, 64, 96, "row 40" },
    };
    size_t before = emu_device_bytes();

    for (auto &c : cases) {
        struct weight w = {};
        struct err e = {};

        w.fmt = c.f, w.n = c.n, w.k = c.k;
        CU_ASSERT_EQUAL(gpu_weight_load(&g, &w, { bad_row, &c.k }, &e), -1);
        CU_ASSERT_PTR_NULL(w.data);
        if (!strstr(e.text, c.why))
            test_note("got \"%s\", expected \"%s\"", e.text, c.why);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, c.why));
    }
    CU_ASSERT_EQUAL(emu_device_bytes(), before);
    close_gpu(&g);
}

/* NaN and Inf among tokens reach their own row only; NaN among weights reaches its own column only. */
static int nan_row(void *self, uint32_t row, float *out, struct err *)
{
    uint32_t k = *static_cast<uint32_t *>(self);

    for (uint32_t i = 0; i < k; i++)
        out[i] = row == 33 && i == k - 1 ? NAN : 0.5f;
    return 0;
}
static void not_finite(void)
{
    struct gpu g = open_gpu(40, true);
    uint32_t k = 544, n = 72, n_tok = 20;

    for (struct wfmt f : formats) {
        std::vector<half> x((size_t)n_tok * k, __float2half_rn(1.0f)), y;
        struct matrix m = {};
        struct err e = {};
        unsigned bad = 0;

        x[7 * k + 3] = __float2half_rn(INFINITY);
        m.w.fmt = f, m.w.n = n, m.w.k = k;
        CU_ASSERT_EQUAL_FATAL(gpu_weight_load(&g, &m.w, { nan_row, &k }, &e), 0);
        y = multiply(&g, &m, x, n_tok);
        for (uint32_t i = 0; i < n_tok * n; i++) {
            float v = __half2float(y[i]);

            bad += i % n == 33 ? !isnan(v) : i / n == 7 ? isfinite(v) : !isfinite(v);
        }
        CU_ASSERT_EQUAL(bad, 0);
        gpu_weight_free(&g, &m.w);
    }
    close_gpu(&g);
}

static const struct test tests[] = {
    { "products of small and ragged shapes", small },
    { "products of a model's shapes", model_sizes },
    { "products with k in ranges", split },
    { "products under every schedule", schedules },
    { "products in several launches", cut },
    { "products by cuBLAS and unpacked weights", not_exact },
    { "a row has the same bits in every batch", batches },
    { "weights are read once, no bank conflict", traffic },
    { "scratch is enough and bounded", scratch },
    { "embedding", embedding },
    { "unpacking", unpacking },
    { "what cannot be loaded says why", refused },
    { "NaN stays where it belongs", not_finite },
    { NULL, NULL }
};
extern "C" const struct suite suite_emu_matmul;
const struct suite suite_emu_matmul = { "emu_matmul", tests, 300 };
