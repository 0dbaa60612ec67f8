/* test_emu_device_steps.c - whole steps of the cuda device: the forward pass against the reference device, the ways to
 * launch it (fused, graph, exact) against each other, bit for bit. */
#include "tests/emu/side.h"

/* Prompts of different lengths, a chunk beside decodes, a sequence that joins late, decodes only. */
enum { N_SEQ = 4, N_STEP = 7 };
static const uint32_t plan[N_STEP][N_SEQ] = {
    { 20, 33, 5, 0 }, { 1, 17, 1, 1 }, { 1, 1, 1, 9 }, { 1, 1, 1, 1 }, { 1, 0, 1, 1 }, { 1, 1, 1, 1 }, { 0, 0, 1, 0 }
};
static const uint32_t block[] = { 16, 7, 40, 1 };

/* Tokens must agree where the reference's two largest logits are further apart than both may be off. */
static uint32_t tokens_agree(const float *want, const uint32_t *a, const uint32_t *b, uint32_t n, uint32_t vocab,
                             double tol, uint32_t *sure)
{
    uint32_t wrong = 0;

    for (uint32_t r = 0; r < n; r++) {
        float top = -INFINITY, second = -INFINITY;

        for (uint32_t i = 0; i < vocab; i++) {
            float x = want[(size_t)r * vocab + i];

            if (x > top)
                second = top, top = x;
            else if (x > second)
                second = x;
        }
        if (top - second <= 2 * tol)
            continue;
        ++*sure;
        wrong += a[r] != b[r];
    }
    return wrong;
}

/* Logits are near normal with deviation 0.25; tol is what they may be off. */
static void forward_against(const struct device_ops *other, bool rich, struct wfmt f, enum fmt kv, double tol)
{
    struct model_shape shape;
    struct side cuda, ref;
    static struct world w;
    static struct made m;
    uint32_t sure = 0, rows = 0;
    double most = 0;

    small_shape(&shape, rich);
    side_open(&cuda, &device_cuda, &shape, f, kv);
    side_open(&ref, other, &shape, f, kv);
    world_fill(&w, N_SEQ, block, 4, 60, N_SLOT, shape.vocab, 11);
    for (int i = 0; i < N_STEP; i++) {
        uint32_t a[N_SEQ], b[N_SEQ];
        float *got, *want;

        batch_make(&m, &w, plan[i], true);
        got = side_step(&cuda, &m.b, a), want = side_step(&ref, &m.b, b);
        most = fmax(most, worst_of(got, want, (size_t)m.b.n_row * shape.vocab, 0, tol));
        CU_ASSERT_EQUAL(tokens_agree(want, a, b, m.b.n_row, shape.vocab, tol, &sure), 0);
        rows += m.b.n_row;
        free(got), free(want);
        world_advance(&w, plan[i]);
    }
    test_note("%s, KV %s: logits off by %.3g of %.3g; %u of %u tokens compared", fmt_name(f.fmt), fmt_name(kv),
              most, tol, sure, rows);
    CU_ASSERT(most <= 1);
    CU_ASSERT(sure * 5 >= rows);
    side_close(&cuda);
    side_close(&ref);
}

static void forward(bool rich, struct wfmt f, enum fmt kv, double tol)
{
    forward_against(&device_ref, rich, f, kv, tol);
}

/* The cpu device rounds K and V as the GPU does, and nothing else. */
static void forward_cpu(void)
{
    forward_against(&device_cpu, false, (struct wfmt){ FMT_F16, 0 }, FMT_F16, 0.006);
    forward_against(&device_cpu, true, (struct wfmt){ FMT_F16, 0 }, FMT_INT8, 0.03);
}

static void forward_f16(void) { forward(false, (struct wfmt){ FMT_F16, 0 }, FMT_F16, 0.006); }
static void forward_rich(void) { forward(true, (struct wfmt){ FMT_F16, 0 }, FMT_F16, 0.006); }
static void forward_kv(void)
{
    forward(false, (struct wfmt){ FMT_F16, 0 }, FMT_INT8, 0.03);
    forward(true, (struct wfmt){ FMT_F16, 0 }, FMT_FP8, 0.045);
}
static void forward_formats(void)
{
    forward(false, (struct wfmt){ FMT_BF16, 0 }, FMT_F16, 0.03);
    forward(false, (struct wfmt){ FMT_FP8, 0 }, FMT_F16, 0.006);
    forward(true, (struct wfmt){ FMT_INT8, 0 }, FMT_F16, 0.006);
    forward(false, (struct wfmt){ FMT_INT4, 32 }, FMT_INT8, 0.04);
    forward(false, (struct wfmt){ FMT_INT4Z, 64 }, FMT_F16, 0.006);
}

/* ---- ways to launch ---- */

struct record { float *logits[N_STEP]; uint32_t tok[N_STEP][N_SEQ], pad[N_STEP]; };

static void record_free(struct record *r)
{
    for (int i = 0; i < N_STEP; i++)
        free(r->logits[i]);
}

static void run_plan(struct side *s, struct record *r)
{
    static struct world w;
    static struct made m;

    memset(r, 0, sizeof *r);
    world_fill(&w, N_SEQ, block, 4, 60, N_SLOT, s->m.shape.vocab, 11);
    for (int i = 0; i < N_STEP; i++) {
        batch_make(&m, &w, plan[i], true);
        r->logits[i] = side_step(s, &m.b, r->tok[i]);
        r->pad[i] = s->dev.step_pad_rows;
        world_advance(&w, plan[i]);
    }
}

static uint32_t n_row(int step)
{
    uint32_t n = 0;

    for (int s = 0; s < N_SEQ; s++)
        n += plan[step][s] > 0;
    return n;
}

static bool equal_records(const struct record *a, const struct record *b, uint32_t vocab)
{
    bool same = true;

    for (int i = 0; i < N_STEP; i++)
        same &= same_bits(a->logits[i], b->logits[i], (size_t)n_row(i) * vocab) &&
                !memcmp(a->tok[i], b->tok[i], n_row(i) * sizeof(uint32_t));
    return same;
}

/* Exact: all eight... of fused and graph give the same bits, in each KV format. Not exact: the same up to the
 * order of sums, which graphs do not change either. */
static void launches_agree(void)
{
    static const enum fmt kv[] = { FMT_F16, FMT_INT8, FMT_FP8 };
    static const struct wfmt f[] = { { FMT_F16, 0 }, { FMT_INT4, 64 }, { FMT_INT8, 0 } };
    struct model_shape shape;

    small_shape(&shape, true);
    for (int i = 0; i < 3; i++) {
        struct side s;
        struct record first, r;

        side_open(&s, &device_cuda, &shape, f[i], kv[i]);
        side_exec(&s, true, false, true);
        run_plan(&s, &first);
        for (int way = 1; way < 4; way++) {
            side_exec(&s, way & 1, way & 2, true);
            run_plan(&s, &r);
            CU_ASSERT(equal_records(&first, &r, shape.vocab));
            record_free(&r);
        }
        record_free(&first);
        side_exec(&s, true, false, false);
        run_plan(&s, &first);
        side_exec(&s, false, false, false);
        run_plan(&s, &r);
        CU_ASSERT(equal_records(&first, &r, shape.vocab));
        record_free(&r), record_free(&first);
        side_close(&s);
    }
}

/* Exact: a sequence's logits have the same bits alone as in company, whole or in chunks. */
static void batches_do_not_matter(void)
{
    static const uint32_t alone[] = { 33, 17, 1, 1, 1 }, whole[] = { 50, 1, 1, 1 };
    struct model_shape shape;
    struct side s;
    struct record first;
    static struct world w;
    static struct made m;
    float *last = NULL;

    small_shape(&shape, false);
    side_open(&s, &device_cuda, &shape, (struct wfmt){ FMT_INT4, 32 }, FMT_F16);
    side_exec(&s, true, false, true);
    run_plan(&s, &first);                              /* sequence 1 is at 53 tokens after step 5, row 1 */
    for (int way = 0; way < 2; way++) {
        uint32_t n[N_SEQ] = { 0 }, next[N_SEQ];

        world_fill(&w, N_SEQ, block, 4, 60, N_SLOT, shape.vocab, 11);
        for (int i = 0; i < (way ? 4 : 5); i++) {
            n[1] = way ? whole[i] : alone[i];
            batch_make(&m, &w, n, true);
            free(last);
            last = side_step(&s, &m.b, next);
            world_advance(&w, n);
        }
        CU_ASSERT_EQUAL(w.seq[1].len, 53);
        CU_ASSERT(same_bits(last, first.logits[5] + shape.vocab, shape.vocab));
    }
    free(last);
    record_free(&first);
    side_close(&s);
}

static const struct test tests[] = {
    { "forward pass, f16, against the reference", forward_f16 },
    { "the same against the cpu device", forward_cpu },
    { "the same with bias, head norms and a tied head", forward_rich },
    { "the same with int8 and fp8 caches", forward_kv },
    { "the same with bf16, fp8, int8, int4 and int4z weights", forward_formats },
    { "fused or not, graph or not: the same bits", launches_agree },
    { "exact: alone, in company, in chunks: the same bits", batches_do_not_matter },
    { 0 },
};
const struct suite suite_emu_device_steps = { "emu_device_steps", tests, 900 };
