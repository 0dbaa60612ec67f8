/* test_parity.c - the forward pass against Hugging Face transformers.
 *
 * tests/fixtures/parity (made by make.py there) holds small random checkpoints and what transformers computes in F32 for
 * each: logits of a prompt, 64 greedy tokens, logits after them. The ref device with F32 weights and an F32 cache
 * must give the same logits within 1e-4, in one step and token by token, and the same tokens. */
#include <jansson.h>
#include <stdio.h>

#include "base/home.h"
#include "models/load.h"
#include "tests/kernels.h"

enum { MOST = 128, SLOTS = 128 };

struct pass {
    struct model_files files;
    struct device dev;
    struct model model;
    struct kv_pool kv;
    struct err e;
};

static int pass_open(struct pass *p, const char *path, const struct device_ops *ops, enum fmt weights,
                     enum fmt cache)
{
    const struct model_shape *s = &p->files.shape;
    struct wfmt *fmt;
    int rc;

    memset(p, 0, sizeof *p);
    if (model_find(&p->files, path, 1, &p->e))
        return -1;
    p->dev = open_on(ops, NULL, 1);
    fmt = calloc((size_t)ROLE_N * s->n_layer, sizeof *fmt);
    for (uint32_t i = 0; i < ROLE_N * s->n_layer; i++)
        fmt[i].fmt = weights;
    rc = model_open(&p->model, &p->dev, s, fmt, &p->files.source, &p->e) ||
         model_room(&p->model, MOST, MOST, &p->e) ||
         dev_kv_open(&p->dev, &p->kv, s->n_layer, s->n_kv_head, s->head_dim, cache, SLOTS, &p->e)
         ? -1 : 0;
    free(fmt);
    return rc;
}

static void pass_close(struct pass *p)
{
    if (p->dev.ops) {
        model_close(&p->model);
        dev_kv_close(&p->dev, &p->kv);
        dev_close(&p->dev);
    }
    model_files_close(&p->files);
}

/* n tokens of one sequence from position `from`; picks after each; their logits stay in the model. */
static void step(struct pass *p, const uint32_t *tok, uint32_t n, uint32_t from, uint32_t *next)
{
    static const uint32_t table[] = { 0 };
    uint32_t pos[MOST], row[MOST], seq[2] = { 0, n }, len = from + n, block = SLOTS, start[2] = { 0, 1 };
    struct batch b = { .n_tok = n, .n_seq = 1, .n_row = n, .n_table = 1, .tok = tok, .pos = pos,
                       .slot = pos, .seq_start = seq, .kv_len = &len, .block_tokens = &block,
                       .table_start = start, .table = table, .row = row };

    CU_ASSERT_FATAL(n <= MOST && len <= SLOTS);
    for (uint32_t i = 0; i < n; i++) {
        pos[i] = from + i;
        row[i] = i;
    }
    if (model_step(&p->model, &p->kv, &b, next, &p->e)) {
        test_note("%s", p->e.text);
        CU_FAIL_FATAL("step failed");
    }
}

/* ---- what was expected ---- */
static json_t *expected(const char *name)
{
    char path[4096];
    json_t *j;

    snprintf(path, sizeof path, "%s/tests/fixtures/parity/%s.json", home_dir(), name);
    j = json_load_file(path, 0, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(j);
    return j;
}

static uint32_t tokens(json_t *j, const char *key, uint32_t out[MOST])
{
    json_t *list = json_object_get(j, key), *v;
    size_t i;

    CU_ASSERT_FATAL(json_array_size(list) > 0 && json_array_size(list) <= MOST);
    json_array_foreach(list, i, v)
        out[i] = (uint32_t)json_integer_value(v);
    return (uint32_t)json_array_size(list);
}

/* Largest difference of row i of the last step's logits from a list. */
static double difference(struct pass *p, uint32_t i, json_t *list)
{
    uint32_t vocab = p->files.shape.vocab;
    float *x = malloc((size_t)vocab * sizeof *x);
    const char *at = p->model.logits;
    double most = 0;

    CU_ASSERT_EQUAL_FATAL(json_array_size(list), vocab);
    p->dev.ops->get(&p->dev, x, at + (size_t)i * vocab * p->dev.ops->act_bytes, vocab);
    for (uint32_t t = 0; t < vocab; t++) {
        double d = fabs((double)x[t] - json_number_value(json_array_get(list, t)));

        most = d > most || isnan(d) ? d : most;
    }
    free(x);
    return most;
}

static void close_to(const char *what, double most, double limit)
{
    if (!(most < limit))
        test_note("%s: largest difference of a logit %.3g, limit %.3g", what, most, limit);
    CU_ASSERT(most < limit);
}

static void same_tokens(const char *name, const uint32_t *a, const uint32_t *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (a[i] != b[i]) {
            test_note("%s: token %u is %u; expected %u", name, i, a[i], b[i]);
            CU_FAIL("tokens differ");
            return;
        }
}

/* Prompt in one step, then one token a step, as expected by NAME.json. */
static void follow(struct pass *p, const char *name, json_t *want, double limit)
{
    uint32_t prompt[MOST], next[MOST], out[MOST], ref[MOST], last;
    uint32_t n = tokens(want, "prompt", prompt), n_out = tokens(want, "tokens", ref);
    double most = 0;

    step(p, prompt, n, 0, next);
    for (uint32_t i = 0; i < n; i++)
        most = fmax(most, difference(p, i, json_array_get(json_object_get(want, "logits"), i)));
    close_to(name, most, limit);
    for (uint32_t i = 0; i < n_out; i++) {
        out[i] = last = i ? next[0] : next[n - 1];
        step(p, &last, 1, n + i, next);
    }
    same_tokens(name, out, ref, n_out);
    close_to(name, difference(p, 0, json_object_get(want, "last")), limit);
}

static void agrees(const char *file, const char *name)
{
    char path[4096];
    json_t *want = expected(name);
    struct pass p;

    snprintf(path, sizeof path, "%s/tests/fixtures/parity/%s", home_dir(), file);
    if (pass_open(&p, path, &device_ref, FMT_F32, FMT_F32)) {
        test_note("%s", p.e.text);
        CU_FAIL("not loaded");
    } else {
        CU_ASSERT_FALSE(p.files.source.is_synthetic);
        follow(&p, file, want, 1e-4);
    }
    pass_close(&p);
    json_decref(want);
}

static void llama(void) { agrees("llama", "llama"); }
static void mistral(void) { agrees("mistral", "mistral"); }
static void qwen2(void) { agrees("qwen2", "qwen2"); }
static void qwen3(void) { agrees("qwen3", "qwen3"); }
static void awq(void) { agrees("llama-awq", "llama-awq"); }
static void gptq(void) { agrees("llama-gptq", "llama-gptq"); }
static void gguf_llama(void) { agrees("llama.gguf", "llama"); }
static void gguf_qwen2(void) { agrees("qwen2.gguf", "qwen2"); }
static void gguf_qwen3(void) { agrees("qwen3.gguf", "qwen3"); }
static void gguf_mixed(void) { agrees("mixed.gguf", "mixed"); }

/* The comparison itself must be able to fail: another checkpoint's expectations do not fit. */
static void differs(void)
{
    json_t *want = expected("mistral");
    uint32_t prompt[MOST], next[MOST], n = tokens(want, "prompt", prompt);
    char path[4096];
    struct pass p;

    snprintf(path, sizeof path, "%s/tests/fixtures/parity/llama-gptq", home_dir());
    CU_ASSERT_FATAL(!pass_open(&p, path, &device_ref, FMT_F32, FMT_F32));
    step(&p, prompt, n, 0, next);
    CU_ASSERT(difference(&p, n - 1, json_array_get(json_object_get(want, "logits"), n - 1)) > 0.1);
    pass_close(&p);
    json_decref(want);
}

/* ---- the real model, when `make model MODEL=smollm2-135m` has fetched it ---- */
/* false: skipped, with the reason. */
static bool real_is_here(struct pass *p)
{
    char path[4096];
    enum model_kind kind;

    memset(p, 0, sizeof *p);
    CU_ASSERT_FATAL(!model_locate("smollm2-135m", &kind, path, sizeof path, &p->e));
    if (kind == MODEL_SHAPE)
        test_skip("SmolLM2-135M is not here; fetch it with: make model MODEL=smollm2-135m");
    return kind != MODEL_SHAPE;
}

/* Opens it on a device with weights and cache in these formats. */
static bool open_real(struct pass *p, const struct device_ops *ops, enum fmt weights, enum fmt cache)
{
    if (!real_is_here(p))
        return false;
    if (pass_open(p, "smollm2-135m", ops, weights, cache)) {
        test_note("%s", p->e.text);
        CU_FAIL_FATAL("the real model does not load");
    }
    return true;
}

/* Prompt of case i, then its tokens as long as they are picked: how many were. */
static uint32_t continues(struct pass *p, json_t *c, uint32_t most)
{
    uint32_t prompt[MOST], next[MOST], ref[MOST], last;
    uint32_t n = tokens(c, "prompt", prompt), n_out = tokens(c, "tokens", ref), i;

    step(p, prompt, n, 0, next);
    last = next[n - 1];
    for (i = 0; i < n_out && i < most && last == ref[i]; i++) {
        step(p, &last, 1, n + i, next);
        last = next[0];
    }
    return i;
}

/* The largest logits that transformers has after the prompt of a case, in the last row of the step. */
static double top_difference(struct pass *p, json_t *c)
{
    uint32_t prompt[MOST], next[MOST], n = tokens(c, "prompt", prompt), vocab = p->files.shape.vocab;
    json_t *top = json_object_get(c, "top"), *logits = json_object_get(c, "logits");
    float *x = malloc((size_t)vocab * sizeof *x);
    const char *at = p->model.logits;
    double most = 0;

    step(p, prompt, n, 0, next);
    p->dev.ops->get(&p->dev, x, at + (size_t)(n - 1) * vocab * p->dev.ops->act_bytes, vocab);
    CU_ASSERT(json_array_size(top) == 8);
    for (size_t i = 0; i < json_array_size(top); i++)
        most = fmax(most, fabs((double)x[json_integer_value(json_array_get(top, i))] -
                               json_number_value(json_array_get(logits, i))));
    free(x);
    return most;
}

/* F32 throughout: the logits and the tokens of transformers' F32 reading of the same file. */
static void real_ref(void)
{
    json_t *all, *c;
    struct pass p;

    if (!open_real(&p, &device_ref, FMT_F32, FMT_F32))
        return;
    CU_ASSERT_FALSE(p.files.source.is_synthetic);
    CU_ASSERT_PTR_NOT_NULL(strstr(p.files.source.about, "Q4_1"));
    all = expected("smollm2");
    c = json_array_get(json_object_get(all, "cases"), 1);
    close_to("smollm2-135m", top_difference(&p, c), 1e-3);
    CU_ASSERT_EQUAL(continues(&p, c, 12), 12);
    pass_close(&p);
    json_decref(all);
}

/* The cpu device in F16: the same text; the recorded gaps (0.05 and more) are wider than what F16 loses. */
static void real_cpu(void)
{
    json_t *all, *c;
    struct pass p;
    size_t i;

    if (!open_real(&p, &device_cpu, FMT_F16, FMT_F16))
        return;
    all = expected("smollm2");
    json_array_foreach(json_object_get(all, "cases"), i, c) {
        uint32_t n = continues(&p, c, 32);

        if (n != 32)
            test_note("case %zu: %u of 32 tokens as expected", i, n);
        CU_ASSERT_EQUAL(n, 32);
    }
    pass_close(&p);
    json_decref(all);
}

/* The shape under models/shapes, which stands in when the model is not there, is the real one's. */
static void real_shape(void)
{
    struct model_shape s;
    char path[4096];
    struct pass p;

    if (!real_is_here(&p))
        return;
    CU_ASSERT_FATAL(!model_find(&p.files, "smollm2-135m", 1, &p.e));
    snprintf(path, sizeof path, "%s/models/shapes/smollm2-135m.json", home_dir());
    CU_ASSERT(!shape_load(&s, path, &p.e));
    CU_ASSERT(s.n_layer == p.files.shape.n_layer && s.dim == p.files.shape.dim);
    CU_ASSERT(s.n_head == p.files.shape.n_head && s.n_kv_head == p.files.shape.n_kv_head);
    CU_ASSERT(s.head_dim == p.files.shape.head_dim && s.ffn == p.files.shape.ffn);
    CU_ASSERT(s.vocab == p.files.shape.vocab && s.max_context == p.files.shape.max_context);
    CU_ASSERT(s.rope_theta == p.files.shape.rope_theta && s.norm_eps == p.files.shape.norm_eps);
    CU_ASSERT(s.tied == p.files.shape.tied && !strcmp(s.name, p.files.shape.name));
    pass_close(&p);
}

const struct suite suite_parity = { .name = "parity", .timeout_s = 600, .tests = (const struct test[]){
    { "llama (bf16, three shards, Llama 3 RoPE)", llama },
    { "mistral (f32, older config.json)", mistral },
    { "qwen2 (f16, bias, tied)", qwen2 },
    { "qwen3 (bf16, q/k norm)", qwen3 },
    { "awq (zero points, linear RoPE)", awq },
    { "gptq (symmetric)", gptq },
    { "gguf llama (bf16, Q and K reordered, rope_freqs)", gguf_llama },
    { "gguf qwen2 (f16, bias)", gguf_qwen2 },
    { "gguf qwen3 (bf16)", gguf_qwen3 },
    { "gguf of eight formats", gguf_mixed },
    { "another model's logits do not pass", differs },
    { "SmolLM2-135M, ref, f32: transformers' logits and tokens", real_ref },
    { "SmolLM2-135M, cpu, f16: the recorded text", real_cpu },
    { "SmolLM2-135M: its shape file", real_shape },
    { 0 },
} };
