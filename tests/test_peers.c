/* test_peers.c - against other engines and packers, as they themselves compute; llama_cpp.c and make.py in
 * tests/fixtures/peers say how each fixture was made.
 *
 * Checkpoints packed by AutoAWQ, AutoGPTQ and GPTQModel, and a GGUF quantised by llama-quantize: every matrix must
 * have the bits that the package's own decoder gives, and the forward pass the logits and tokens that follow. The real
 * SmolLM2-135M: logits and greedy tokens of llama.cpp, whose F32 run shares nothing with this program but the file. */
#include <stdio.h>

#include "base/home.h"
#include "models/parts.h"
#include "tests/peer.h"

static const struct wfmt f32 = { FMT_F32, 0 }, f16 = { FMT_F16, 0 };

static const char *const module[PART_LAYER_N] = {
    [PART_Q] = "self_attn.q_proj", [PART_K] = "self_attn.k_proj", [PART_V] = "self_attn.v_proj",
    [PART_O] = "self_attn.o_proj", [PART_GATE] = "mlp.gate_proj", [PART_UP] = "mlp.up_proj",
    [PART_DOWN] = "mlp.down_proj"
};

static const char *fixture(const char *name)
{
    static char path[4096];

    snprintf(path, sizeof path, "%s/tests/fixtures/peers/%s", home_dir(), name);
    return path;
}

/* ---- weights, bit for bit ---- */
/* All rows of one part, [n][k], to be freed: parts of a role stand one behind the other. */
static float *part_rows(struct peer *p, enum part part, uint32_t *n, uint32_t *k)
{
    static const enum role role[PART_LAYER_N] = {
        [PART_Q] = ROLE_QKV, [PART_K] = ROLE_QKV, [PART_V] = ROLE_QKV, [PART_O] = ROLE_O,
        [PART_GATE] = ROLE_GATE_UP, [PART_UP] = ROLE_GATE_UP, [PART_DOWN] = ROLE_DOWN
    };
    struct weight_source *src = &p->files.source;
    uint32_t first = 0, rows, cols;
    float *w;

    for (int before = 0; before < (int)part; before++)
        if (role[before] == role[part]) {
            part_size(&p->files.shape, (enum part)before, &rows, &cols);
            first += rows;
        }
    part_size(&p->files.shape, part, n, k);
    w = malloc((size_t)*n * *k * sizeof *w);
    CU_ASSERT_PTR_NOT_NULL_FATAL(w);
    for (uint32_t r = 0; r < *n; r++)
        CU_ASSERT_EQUAL_FATAL(src->row(src->self, role[part], 0, first + r, w + (size_t)r * *k, &p->e), 0);
    return w;
}

static void same_weights(struct peer *p, json_t *want)
{
    char key[64], sum[SHA256_HEX];

    for (int part = 0; part < PART_LAYER_N; part++) {
        uint32_t n, k;
        float *w = part_rows(p, (enum part)part, &n, &k);
        const char *expect;

        snprintf(key, sizeof key, "model.layers.0.%s", module[part]);
        expect = json_string_value(json_object_get(want, key));
        CU_ASSERT_PTR_NOT_NULL_FATAL(expect);
        sha256_hex(w, (size_t)n * k * sizeof *w, sum);
        if (strcmp(sum, expect))
            test_note("%s: %u x %u weights are not those that the package decodes", key, n, k);
        CU_ASSERT_STRING_EQUAL(sum, expect);
        free(w);
    }
}

static void agrees(const char *file, const char *name)
{
    char path[64];
    json_t *want;
    struct peer p;

    snprintf(path, sizeof path, "peers/%s", name);
    want = expected(path);
    if (peer_exact(&p, fixture(file))) {
        same_weights(&p, json_object_get(want, "weights"));
        peer_follow(&p, file, want, 1e-4);
    }
    peer_close(&p);
    json_decref(want);
}

static void autoawq(void)
{
    agrees("autoawq-g32", "autoawq-g32");
    agrees("autoawq-g128", "autoawq-g128");
}

static void autogptq(void)
{
    agrees("autogptq-g32", "autogptq-g32");
    agrees("autogptq-sym-g128", "autogptq-sym-g128");
}

/* Groups whose zero point is 0, which the first checkpoint format cannot hold: two packages, two readings. */
static void zero_at_zero(void)
{
    agrees("autogptq-zero-g32", "autogptq-zero-g32");
    agrees("gptqmodel-v1-g32", "gptqmodel-v1-g32");
}

static void gptqmodel_v2(void) { agrees("gptqmodel-v2-g64", "gptqmodel-v2-g64"); }
static void gguf_kinds(void) { agrees("kinds.gguf", "kinds"); }

static void activation_order(void)
{
    struct model_files f;
    struct err e = { 0 };

    CU_ASSERT_EQUAL(model_find(&f, fixture("autogptq-desc-act-g32"), 1, &e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "field 'desc_act' is true"));
}

/* ---- llama.cpp on the real model ---- */
/* llama.cpp and ref, both F32 throughout: logits of 20 to 38 are equal to six digits. */
static void real_f32(void)
{
    static const size_t cases[] = { 6, 7 };                 /* short prompts: ref is slow */
    json_t *all;
    struct peer p;

    if (!peer_real(&p, &device_ref, f32, FMT_F32))
        return;
    all = expected("peers/llama_cpp");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *c = json_array_get(json_object_get(all, "cases"), cases[i]), *want = json_object_get(c, "f32");
        json_t *prompt = json_object_get(c, "prompt");

        close_to("llama.cpp, F32", peer_top_difference(&p, want, prompt), 1e-4);
        CU_ASSERT_EQUAL(peer_continues(&p, want, prompt, 6), 6);
    }
    peer_close(&p);
    json_decref(all);
}

/* The cpu device in F16 picks what llama.cpp picks in F32: 14 prompts, with and without chat form. The fixture has 48
 * tokens of each, all of which agree; half of them keep the test short, and under a sanitizer a few. */
static void real_f16(void)
{
    const uint32_t want = is_sanitized ? 6 : 24;
    json_t *all, *c;
    struct peer p;
    size_t i;

    if (!peer_real(&p, &device_cpu, f16, FMT_F16))
        return;
    all = expected("peers/llama_cpp");
    CU_ASSERT_EQUAL(json_array_size(json_object_get(all, "cases")), 14);
    json_array_foreach(json_object_get(all, "cases"), i, c) {
        uint32_t n = peer_continues(&p, json_object_get(c, "f32"), json_object_get(c, "prompt"), want);

        if (n != want)
            test_note("case %zu: %u of %u tokens are llama.cpp's", i, n, want);
        CU_ASSERT_EQUAL(n, want);
    }
    peer_close(&p);
    json_decref(all);
}

const struct suite suite_peers = { .name = "peers", .timeout_s = 600, .tests = (const struct test[]){
    { "AutoAWQ: groups of 32 and 128, zero points", autoawq },
    { "AutoGPTQ: first format, with zero points and symmetric", autogptq },
    { "zero points at 0 in the first format, by two packages", zero_at_zero },
    { "GPTQModel: second format", gptqmodel_v2 },
    { "AutoGPTQ: activation order is refused", activation_order },
    { "llama-quantize: Q2_K Q3_K Q5_K Q5_0 Q5_1 IQ4_NL IQ4_XS", gguf_kinds },
    { "SmolLM2-135M, ref, f32: llama.cpp's logits and tokens", real_f32 },
    { "SmolLM2-135M, cpu, f16: llama.cpp's tokens", real_f16 },
    { 0 },
} };
