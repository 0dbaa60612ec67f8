/* test_awq.c - AWQ scales: they leave the function as it is, they gain where channels are loud, what cannot be
 * calibrated is refused; and what they gain on the real model where it was fetched. Their files are
 * test_awq_files.c's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/calibrate.h"
#include "harness/quality.h"
#include "harness/text_file.h"
#include "models/load.h"
#include "models/tokenizer_gguf.h"
#include "tests/lab.h"
#include "tests/test.h"

enum { N_TOK = 600, N = 24, IDS = 512 };

static void text_of(uint32_t *tok, uint32_t vocab)
{
    for (uint32_t i = 0; i < N_TOK; i++)
        tok[i] = (uint32_t)(hash64(7, i / 3) % vocab);
}

static void strategy_of(struct strategy *st, const char *prec)
{
    struct err e = { 0 };
    char text[100];

    snprintf(text, sizeof text, "continuous+paged+%s", prec);
    CU_ASSERT_EQUAL_FATAL(strategy_parse(st, text, &e), 0);
}

/* Logits of every position of one sequence of N tokens. */
static void logits_of(struct device *d, struct model *m, float *out)
{
    uint32_t tok[N_TOK], pos[N], start[2] = { 0, N }, table_start[2] = { 0, 1 }, n = N, bt = 32, table = 0, next[N];
    const struct model_shape *s = &m->shape;
    struct err e = { 0 };
    struct kv_pool kv;

    text_of(tok, s->vocab);
    for (uint32_t i = 0; i < N; i++)
        pos[i] = i;
    struct batch b = { .n_tok = N, .n_seq = 1, .n_row = N, .n_table = 1, .tok = tok, .pos = pos, .slot = pos,
                       .seq_start = start, .kv_len = &n, .block_tokens = &bt, .table_start = table_start,
                       .table = &table, .row = pos };
    CU_ASSERT_EQUAL_FATAL(model_room(m, N, N, &e), 0);
    CU_ASSERT_EQUAL_FATAL(dev_kv_open(d, &kv, s->n_layer, s->n_kv_head, s->head_dim, FMT_F16, 32, &e), 0);
    CU_ASSERT_EQUAL_FATAL(model_step(m, &kv, &b, next, &e), 0);
    d->ops->get(d, out, m->logits, (size_t)N * s->vocab);
    dev_kv_close(d, &kv);
}

static void logits_with(struct device *d, const struct model_shape *s, enum fmt fmt, const struct weight_source *src,
                        float *out)
{
    struct wfmt f[ROLE_N * 8];
    struct err e = { 0 };
    struct model m;

    for (size_t i = 0; i < sizeof f / sizeof *f; i++)
        f[i] = (struct wfmt){ fmt, fmt == FMT_INT4 ? 32 : 0 };
    CU_ASSERT_EQUAL_FATAL(model_open(&m, d, s, f, src, &e), 0);
    logits_of(d, &m, out);
    model_close(&m);
}

static double furthest(const float *a, const float *b, size_t n)
{
    double far = 0;

    for (size_t i = 0; i < n; i++)
        far = fmax(far, fabs((double)a[i] - b[i]));
    return far;
}

/* Any scales at all; three kinds of layers. */
static void function_stays(void)
{
    static float want[N * IDS], got[N * IDS];

    for (int kind = 0; kind < 3; kind++) {
        struct weight_source src, with;
        struct scaled state;
        struct scales s;
        struct arena a = { 0 };
        struct lab l;
        size_t n;

        CU_ASSERT_EQUAL_FATAL(lab_open(&l, "ref", "tiny", 64, NULL, NULL, PACE_SKIP), 0);
        l.shape.ffn = 160;                     /* so that a mixed-up dim and ffn show */
        l.shape.qkv_bias = kind == 1;
        l.shape.qk_norm = kind == 2;
        l.shape.tied = kind != 1;
        n = (size_t)N * l.shape.vocab;
        CU_ASSERT_EQUAL_FATAL(source_synth(&src, &l.shape, 3, &a, &l.e), 0);
        CU_ASSERT_EQUAL_FATAL(scales_init(&s, &l.shape, &l.e), 0);
        for (int w = 0; w < SCALED_N; w++)
            for (uint32_t i = 0; i < s.n_layer * scales_width(&s, w); i++)
                s.s[w][i] = expf((float)(hash64((uint64_t)w, i) % 1000) / 250.0f - 2.0f);      /* 0.14 to 7.4 */
        source_scaled(&with, &state, &l.shape, &src, &s);
        CU_ASSERT_PTR_NOT_NULL(strstr(with.about, "AWQ"));
        logits_with(&l.dev, &l.shape, FMT_F32, &src, want);
        logits_with(&l.dev, &l.shape, FMT_F32, &with, got);
        CU_ASSERT(furthest(want, got, n) < 1e-4);
        if (furthest(want, got, n) >= 1e-4)
            test_note("kind %d: logits differ by %g", kind, furthest(want, got, n));
        logits_with(&l.dev, &l.shape, FMT_INT4, &src, want);    /* another rounding: the scales are really there */
        logits_with(&l.dev, &l.shape, FMT_INT4, &with, got);
        CU_ASSERT(furthest(want, got, n) > 1e-2);
        scales_free(&s);
        arena_free(&a);
        lab_close(&l);
    }
}

/* ---- a model with loud channels ---- */

struct loud { struct weight_source inner; struct model_shape shape; };

static bool is_loud(uint32_t channel) { return channel % 41 == 5; }    /* 3 of 128 */

/* Weights of o are on the grid of int4 g64 (-8 in each group, c a power of two): it has no scales and loses nothing. */
static int loud_row(void *self, enum role role, uint32_t layer, uint32_t row, float *out, struct err *e)
{
    const struct loud *y = self;
    int rc = y->inner.row(y->inner.self, role, layer, row, out, e);

    if (role == ROLE_GATE_UP && row >= y->shape.ffn && is_loud(row - y->shape.ffn))
        for (uint32_t i = 0; i < y->shape.dim; i++)
            out[i] *= 12;
    for (uint32_t i = 0; role == ROLE_O && i < y->shape.n_head * y->shape.head_dim; i++)
        out[i] = (i % 64 ? (float)(hash64(hash64(layer, row), i) % 16) - 8 : -8.0f) / 32;
    return rc;
}

static int loud_gain(void *self, uint32_t layer, enum gain which, float *out, struct err *e)
{
    const struct loud *y = self;
    int rc = y->inner.gain(y->inner.self, layer, which, out, e);

    for (uint32_t i = 0; i < y->shape.dim && (which == GAIN_ATTENTION || which == GAIN_FFN); i++)
        out[i] *= is_loud(i) ? 12 : 1;
    return rc;
}

struct loud_lab { struct lab l; struct loud loud; struct arena arena; };

static void open_loud(struct loud_lab *x)
{
    struct weight_source src = { loud_row, loud_gain, &x->loud, true, "synthetic weights with loud channels" };

    memset(x, 0, sizeof *x);
    CU_ASSERT_EQUAL_FATAL(lab_open(&x->l, "cpu", "tiny", 64, NULL, NULL, PACE_SKIP), 0);
    loaded_close(&x->l.models);
    x->loud.shape = x->l.shape;
    CU_ASSERT_EQUAL_FATAL(source_synth(&x->loud.inner, &x->l.shape, 1, &x->arena, &x->l.e), 0);
    CU_ASSERT_EQUAL_FATAL(loaded_open_from(&x->l.models, &x->l.dev, &x->l.shape, &src), 0);
}

static void close_loud(struct loud_lab *x)
{
    lab_close(&x->l);
    arena_free(&x->arena);
}

static void sign(struct scales *s)
{
    snprintf(s->precision, sizeof s->precision, "int4");
    snprintf(s->text, sizeof s->text, "a \"made-up\" text");
    memset(s->model_sha256, 'a', SHA256_HEX - 1);
    memset(s->text_sha256, 'b', SHA256_HEX - 1);
}

static void found(struct loud_lab *x, const char *prec, struct scales *s, struct calibrate_report *r)
{
    struct calibrate_conf c = { .window = 32, .n_window = 8 };
    uint32_t tok[N_TOK];
    struct strategy st;

    text_of(tok, x->l.shape.vocab);
    strategy_of(&st, prec);
    CU_ASSERT_EQUAL_FATAL(calibrate(&x->l.models, &st, tok, N_TOK, &c, s, r, &x->l.e), 0);
    sign(s);
}

/* Scales of one half of a text, through a file, measured on the other half; the head, which has no scales, stays
 * F16. */
static void loud_channels_gain(void)
{
    static const char *const names[] = { "f16", "mixed:layers=0", "mixed:layers=0:awq=on" };
    struct quality_conf c = { .window = 32, .stride = 16, .n_window = 12, .n_prompt = 2, .prompt_len = 8, .n_new = 4 };
    uint32_t tok[N_TOK];
    struct calibrate_report r;
    struct strategy st[3];
    struct quality q[3];
    struct loud_lab x;
    struct scales s;
    char path[4200];

    open_loud(&x);
    found(&x, "int4", &s, &r);
    CU_ASSERT_EQUAL(r.n_tok, 256);
    for (int w = 0; w < SCALED_N; w++) {
        CU_ASSERT(r.alpha[w] > 0.05 && r.after[w] > 0 && r.after[w] < 0.8 * r.before[w]);
        CU_ASSERT(fmaxf(scales_at(&s, w, 0)[5] / scales_at(&s, w, 0)[6],
                        scales_at(&s, w, 1)[5] / scales_at(&s, w, 1)[6]) > 1.2f);      /* 5 is loud, 6 is not */
    }
    snprintf(path, sizeof path, "%s/awq.json", test_dir());
    CU_ASSERT_EQUAL_FATAL(scales_write(&s, path, &x.l.e), 0);
    for (int i = 0; i < 3; i++)
        strategy_of(&st[i], names[i]);
    text_of(tok, x.l.shape.vocab);
    CU_ASSERT_PTR_NULL(loaded_source(&x.l.models, &st[2], NULL));
    CU_ASSERT_EQUAL_FATAL(loaded_scales(&x.l.models, path, s.model_sha256, &x.l.e), 0);
    CU_ASSERT_EQUAL_FATAL(quality_measure(&x.l.models, st, 3, tok + 280, N_TOK - 280, &c, q, &x.l.e), 0);
    test_note("KL of int4 layers %.4f, with scales %.4f", q[1].kl.mean, q[2].kl.mean);
    CU_ASSERT(q[2].kl.mean < 0.85 * q[1].kl.mean);
    CU_ASSERT_EQUAL(q[2].weight_bytes, q[1].weight_bytes);
    for (int w = 0; w < SCALED_N; w++)         /* the file holds every bit of the scales */
        CU_ASSERT_EQUAL(memcmp(s.s[w], x.l.models.scales.s[w], sizeof(float) * s.n_layer * scales_width(&s, w)), 0);
    CU_ASSERT_STRING_EQUAL(x.l.models.scales.text, s.text);
    CU_ASSERT(fabsf(s.alpha[1] - x.l.models.scales.alpha[1]) < 1e-3f);
    scales_free(&s);
    close_loud(&x);
}

/* How far two lists of scales are from coming of the same activations: s = |x|^alpha times a constant. */
static double apart(const float *a, double alpha, const float *b, double beta, uint32_t n)
{
    double lo = INFINITY, hi = -INFINITY;

    for (uint32_t i = 0; i < n; i++) {
        double d = log((double)a[i]) / alpha - log((double)b[i]) / beta;

        lo = fmin(lo, d);
        hi = fmax(hi, d);
    }
    return hi - lo;
}

/* Each layer's scales come of its own activations, and all windows of the text have a part in them. */
static void layers_and_windows(void)
{
    struct calibrate_conf c = { .window = 32, .n_window = 1 };
    struct calibrate_report r;
    uint32_t tok[N_TOK];
    struct strategy st;
    struct loud_lab x;
    struct scales s[2];
    int n[2] = { 0, 0 };

    open_loud(&x);
    text_of(tok, x.l.shape.vocab);
    strategy_of(&st, "int4");
    for (int i = 0; i < 2; i++, c.n_window = 8)
        CU_ASSERT_EQUAL_FATAL(calibrate(&x.l.models, &st, tok, N_TOK, &c, &s[i], &r, &x.l.e), 0);
    for (int w = 0; w < SCALED_N; w++) {
        uint32_t k = scales_width(&s[1], w);
        const float *a = s[1].alpha + w, *few = s[0].alpha + w;

        if (a[0] > 0 && a[SCALED_N] > 0 && ++n[0])
            CU_ASSERT(apart(scales_at(&s[1], w, 0), (double)a[0], scales_at(&s[1], w, 1), (double)a[SCALED_N], k) > 0.05);
        if (a[0] > 0 && few[0] > 0 && ++n[1])
            CU_ASSERT(apart(scales_at(&s[1], w, 0), (double)a[0], scales_at(&s[0], w, 0), (double)few[0], k) > 0.05);
    }
    CU_ASSERT(n[0] > 0 && n[1] > 0);
    scales_free(&s[0]);
    scales_free(&s[1]);
    close_loud(&x);
}

/* ---- the estimate against ||X (W - Q(W s) / s)||^2 in full ---- */

enum { DIM = 128, ROWS = 256, SEEN_MAX = 1024 };
struct seen { struct device *d; float x[2][SEEN_MAX * DIM]; uint32_t n[2]; };

static void keep(void *self, enum role role, uint32_t layer, const void *act, uint32_t n_tok)
{
    struct seen *y = self;

    if (role != ROLE_QKV || y->n[layer] + n_tok > SEEN_MAX)
        return;
    y->d->ops->get(y->d, y->x[layer] + (size_t)y->n[layer] * DIM, act, (size_t)n_tok * DIM);
    y->n[layer] += n_tok;
}

static double error_in_full(const struct loud_lab *x, const struct seen *y, uint32_t layer, const float *s)
{
    struct wfmt f = { FMT_INT4, 64 };
    float w[DIM], t[DIM];
    uint8_t q[DIM];
    uint16_t scale[8];
    double sum = 0;

    for (uint32_t r = 0; r < ROWS; r++) {
        CU_ASSERT_EQUAL_FATAL(loud_row((void *)(uintptr_t)&x->loud, ROLE_QKV, layer, r, w, NULL), 0);
        for (uint32_t i = 0; i < DIM; i++)
            t[i] = w[i] * (s ? s[i] : 1);
        row_encode(f, t, DIM, q, scale);
        row_decode(f, q, scale, DIM, t);
        for (uint32_t n = 0; n < y->n[layer]; n++) {
            double dot = 0;

            for (uint32_t i = 0; i < DIM; i++)
                dot += ((double)w[i] - t[i] / (s ? s[i] : 1)) * y->x[layer][n * DIM + i];
            sum += dot * dot;
        }
    }
    return sum / y->n[layer];
}

static void estimate_is_near(void)
{
    static struct seen y;
    static float logits[N * IDS];
    double before = 0, after = 0;
    struct calibrate_report r;
    struct loud_lab x;
    struct strategy st;
    struct scales s;
    struct model *m;

    open_loud(&x);
    CU_ASSERT_EQUAL_FATAL(x.l.shape.dim, DIM);
    found(&x, "int4", &s, &r);
    strategy_of(&st, "f16");
    m = loaded_get(&x.l.models, &st, &x.l.e);
    y.d = &x.l.dev;
    m->watch = keep;
    m->watch_self = &y;
    logits_of(&x.l.dev, m, logits);
    m->watch = NULL;
    CU_ASSERT_EQUAL(y.n[0], N);
    for (uint32_t l = 0; l < 2; l++) {
        before += error_in_full(&x, &y, l, NULL);
        after += error_in_full(&x, &y, l, scales_at(&s, SCALED_QKV, l));
    }
    test_note("qkv error left: estimated %.3f, in full %.3f", r.after[0] / r.before[0], after / before);
    CU_ASSERT(after < 0.8 * before);
    CU_ASSERT(before < 1.5 * r.before[0] && r.before[0] < 1.5 * before);
    CU_ASSERT(after < 1.5 * r.after[0] && r.after[0] < 1.5 * after);
    scales_free(&s);
    close_loud(&x);
}

static void refusals(void)
{
    static const char *const prec[] = { "f16", "mixed:low=int8:high=f16", "int4" };
    static const char *const words[] = { "nothing to scale", "", "one window needs 601" };
    struct calibrate_conf c = { .window = 32, .n_window = 2 };
    struct calibrate_report r;
    uint32_t tok[N_TOK];
    struct loud_lab x;
    struct strategy st;
    struct scales s;
    struct lab sim;

    open_loud(&x);
    text_of(tok, x.l.shape.vocab);
    for (int i = 0; i < 3; i += 2) {
        x.l.e = (struct err){ 0 };
        strategy_of(&st, prec[i]);
        c.window = i == 2 ? N_TOK + 1 : 32;
        CU_ASSERT_EQUAL(calibrate(&x.l.models, &st, tok, N_TOK, &c, &s, &r, &x.l.e), -1);
        CU_ASSERT_PTR_NOT_NULL(strstr(x.l.e.text, words[i]));
    }
    x.l.e = (struct err){ 0 };
    strategy_of(&st, "int4:awq=on");
    CU_ASSERT_PTR_NULL(loaded_get(&x.l.models, &st, &x.l.e));
    CU_ASSERT_PTR_NOT_NULL(strstr(x.l.e.text, "needs --scales"));
    close_loud(&x);
    CU_ASSERT_EQUAL_FATAL(lab_open(&sim, "sim", "tiny", 64, NULL, "cpu", PACE_SKIP), 0);
    CU_ASSERT_EQUAL(calibrate(&sim.models, &st, tok, N_TOK, &c, &s, &r, &sim.e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(sim.e.text, "computes no activations"));
    lab_close(&sim);
}

/* ---- the real model ---- */

static int book(const char *name, struct tokenizer *t, struct token_ids *ids)
{
    char path[4300], sha[SHA256_HEX];
    struct err e = { 0 };

    snprintf(path, sizeof path, "%s/text/%s", test_shared(), name);
    if (text_file_tokens(path, t, ids, sha, &e)) {
        test_skip("%s", e.text);
        return -1;
    }
    return 0;
}

static int measure(struct model_files *f, const struct token_ids *one, const struct token_ids *two, struct quality q[3],
                   struct err *e)
{
    static const char *const names[] = { "f16", "int4", "int4:awq=on" };
    struct calibrate_conf c = { .window = 256, .n_window = 3, .max_row = 96 };
    struct quality_conf qc = { .window = 160, .stride = 128, .n_window = 4, .n_prompt = 2, .prompt_len = 8,
                               .n_new = 2 };
    struct device_conf conf = { .pace = PACE_SKIP };
    struct loaded_set set = { 0 };
    struct device d = { 0 };
    struct calibrate_report r;
    struct strategy st[3];
    struct scales s = { 0 };
    char path[4200];
    int rc;

    snprintf(path, sizeof path, "%s/awq.json", test_dir());
    for (int i = 0; i < 3; i++)
        strategy_of(&st[i], names[i]);
    if (dev_open(&d, device_find("cpu", e), &conf, e))
        return -1;
    rc = loaded_open_from(&set, &d, &f->shape, &f->source) ||
         calibrate(&set, &st[1], one->id, one->n, &c, &s, &r, e) ? -1 : 0;
    if (!rc) {
        sign(&s);
        rc = scales_write(&s, path, e) || loaded_scales(&set, path, NULL, e) ||
             quality_measure(&set, st, 3, two->id + 2000, two->n - 2000, &qc, q, e) ? -1 : 0;
    }
    scales_free(&s);
    loaded_close(&set);
    dev_close(&d);
    return rc;
}

static void real_model(void)
{
    struct token_ids one = { 0 }, two = { 0 };
    struct model_files f;
    struct tokenizer *t = NULL;
    struct quality q[3];
    struct err e = { 0 };

    if (!test_shared()) {
        test_skip("no recorded texts: ../shared is not here");
        return;
    }
    if (is_sanitized) {
        test_skip("minutes under a sanitizer; the plain build runs it");
        return;
    }
    if (model_find(&f, "smollm2-135m", 1, &e) || f.kind == MODEL_SHAPE) {
        test_skip("no real model: 'make model MODEL=smollm2-135m' fetches it");
        model_files_close(&f);
        return;
    }
    CU_ASSERT_EQUAL_FATAL(tokenizer_open(&t, f.path, &e), 0);
    if (!book("origin_of_species.txt", t, &one) && !book("pride_and_prejudice.txt", t, &two)) {
        int rc = measure(&f, &one, &two, q, &e);

        if (rc)
            test_note("%s", e.text);
        CU_ASSERT_EQUAL_FATAL(rc, 0);
        test_note("loss of int4 %.1f %%, with scales %.1f %%; KL %.3f and %.3f", q[1].loss_pct.mean, q[2].loss_pct.mean,
                  q[1].kl.mean, q[2].kl.mean);
        CU_ASSERT(q[2].kl.mean < 0.9 * q[1].kl.mean);
        CU_ASSERT(q[2].loss_pct.mean < q[1].loss_pct.mean);
    }
    token_ids_free(&one);
    token_ids_free(&two);
    tokenizer_free(t);
    model_files_close(&f);
}

static const struct test tests[] = {
    { "scales alone leave the logits as they are", function_stays },
    { "loud channels: int4 loses less with scales", loud_channels_gain },
    { "each layer and every window", layers_and_windows },
    { "the estimated error is near the one in full", estimate_is_near },
    { "what cannot be calibrated is refused", refusals },
    { "int4 of the real model loses less with scales", real_model },
    { 0 },
};
const struct suite suite_awq = { "awq", tests, 600 };
