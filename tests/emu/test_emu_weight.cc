/* test_emu_weight.cc - weights of the cuda device, in the emulator: embedding and unpacking bit for bit
 * against row_decode, what cannot be loaded, and what NaN and Inf do. */
#include "tests/emu/matrix.h"

/* Rows `tok` of a matrix of n_row rows, loaded and embedded: bits that are not row_decode's. */
static unsigned embedded_wrong(struct gpu *g, struct wfmt f, uint32_t n_row, uint32_t k,
                               const std::vector<uint32_t> &tok)
{
    uint32_t n = (uint32_t)tok.size(), *dtok = device_new<uint32_t>(n);
    struct matrix m = load_matrix(g, f, n_row, k);
    half *dx = device_new<half>(n * k);
    std::vector<half> x(n * k);
    unsigned bad = 0;

    put(dtok, tok.data(), n);
    gpu_embed(g, dx, &m.w, dtok, n);
    cudaStreamSynchronize(g->stream);
    get(x.data(), dx, n * k);
    for (uint32_t i = 0; i < n * k; i++)
        bad += tok[i / k] < n_row ? __half_as_ushort(x[i]) !=
                                        f16_from_f32(m.value[(size_t)tok[i / k] * k + i % k])
                                  : !isnan(__half2float(x[i]));
    cudaFree(dx);
    cudaFree(dtok);
    gpu_weight_free(g, &m.w);
    return bad;
}

static void embedding(void)
{
    struct gpu g = open_gpu(6, true);

    for (struct wfmt f : formats)
        CU_ASSERT_EQUAL(embedded_wrong(&g, f, 96, 160, { 0, 95, 31, 32, 63, 7, 96, 8, UINT32_MAX, 16 }),
                        0);
    close_gpu(&g);
}

/* Large enough that several threads pack it (weight.cu), the last with fewer rows; and so large that
 * it is packed in two parts. */
static void packed_by_threads(void)
{
    const struct { struct wfmt f; uint32_t n, k; } big[] = {
        { { FMT_F16, 0 }, 517, 544 },     { { FMT_FP8, 0 }, 517, 544 },  { { FMT_INT8, 0 }, 517, 544 },
        { { FMT_INT4, 32 }, 517, 544 },   { { FMT_INT4Z, 64 }, 517, 544 }, { { FMT_INT4, 128 }, 70, 262144 },
    };
    struct gpu g = open_gpu(6, true);

    for (auto &b : big) {
        std::vector<uint32_t> tok;

        for (uint32_t r = b.n - 1; r < b.n; r -= b.k > 1000 ? 23 : 7)
            tok.push_back(r);
        CU_ASSERT_EQUAL(embedded_wrong(&g, b.f, b.n, b.k, tok), 0);
    }
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

/* NaN and Inf among tokens reach their own row only; NaN among weights reaches its own column
 * only. */
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
    { "embedding", embedding },
    { "matrices packed by several threads", packed_by_threads },
    { "unpacking", unpacking },
    { "what cannot be loaded says why", refused },
    { "NaN stays where it belongs", not_finite },
    { NULL, NULL }
};
extern "C" const struct suite suite_emu_weight;
const struct suite suite_emu_weight = { "emu_weight", tests, 60 };
