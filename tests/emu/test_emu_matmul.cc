/* test_emu_matmul.cc - products of the cuda device, in the emulator: every format, tile and way against
 * sums in double over the weights that row_decode gives, and in exact mode bit for bit against itself. */
#include "tests/emu/matrix.h"

struct size { uint32_t n, k; };

static void check_sizes(int n_sm, const std::vector<struct size> &sizes,
                        const std::vector<uint32_t> &tok)
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
/* TSan is 20 times slower: it gets one shape for every kernel, which is all that it can tell
 * apart. */
static bool too_slow(void)
{
    if (EMU_TSAN)
        test_skip("under TSan the smaller shapes cover every kernel");
    return EMU_TSAN;
}
/* k shorter than a stage, than half a stage; last groups of 32 and 64; n that ends inside a panel,
 * a chunk, a pair. */
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

/* Tokens against weights that repeat after half of k: every fourth value is large and meets its
 * opposite half of k later, so the result is small, the sums on the way are not, and another order
 * of them gives other bits. */
static std::vector<half> cancelling(uint32_t m, uint32_t k)
{
    std::vector<half> x = tokens(m, k, 5);

    for (uint32_t i = 0; i < m * k; i++)
        if (i % 4 == 0)
            x[i] = __float2half_rn((i % k < k / 2 ? 1 : -1) *
                                   value_of(6, i / k * k + i % (k / 2), 2048));
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
            std::vector<half> part(x.begin() + (long)(first * k),
                                   x.begin() + (long)((first + n_tok) * k));
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

/* What a product may read: weights and scales once, tokens once for each 128 channels; no bank
 * conflict. */
static void traffic(void)
{
    if (EMU_GPU) {
        test_skip("only the emulator counts bytes and conflicts");
        return;
    }
#if !EMU_GPU
    struct gpu g = open_gpu(6, true);

    for (struct wfmt f : formats) {
        struct matrix m = load_matrix(&g, f, 288, 416);
        bool groups = fmt_is_nibble(f.fmt);
        size_t scales = groups ? pack_panels(288) * pack_panel_scales(f, 416) : 0,
               body = pack_panels(288) * pack_panel_body(f, 416);

        for (uint32_t n_tok : { 1u, 8u, 16u }) {
            emu_counters_reset();
            multiply(&g, &m, tokens(n_tok, 416, 3), n_tok);
            CU_ASSERT_EQUAL(emu_counters()->async_bytes,
                            body + scales + 3 * (size_t)n_tok * 416 * 2);
            CU_ASSERT_EQUAL(emu_counters()->ldsm_conflicts, 0);
            CU_ASSERT(emu_counters()->ldsm > 0);
        }
        gpu_weight_free(&g, &m.w);
    }
    close_gpu(&g);
#endif
}

/* Scratch for max_m is enough for every m below it, and bounded. */
static void scratch(void)
{
    struct gpu g = open_gpu(132, true);
    const struct size sizes[] = { { 32, 32 },      { 576, 576 },    { 4096, 4096 },
                                  { 4096, 14336 }, { 28672, 4096 }, { 128256, 4096 } };

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
    { NULL, NULL }
};
extern "C" const struct suite suite_emu_matmul;
const struct suite suite_emu_matmul = { "emu_matmul", tests, 300 };
