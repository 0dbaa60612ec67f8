/* test_parity.c - the forward pass against Hugging Face transformers.
 *
 * tests/fixtures/parity (made by make.py there) holds small random checkpoints and what transformers computes in F32
 * for each: logits of a prompt, 64 greedy tokens, logits after them. The ref device with F32 weights and an F32 cache
 * must give the same logits within 1e-4, in one step and token by token, and the same tokens. */
#include <stdio.h>

#include "base/home.h"
#include "tests/peer.h"

static const struct wfmt f32 = { FMT_F32, 0 }, f16 = { FMT_F16, 0 };

static void agrees(const char *file, const char *name)
{
    char path[4096];
    json_t *want;
    struct peer p;

    snprintf(path, sizeof path, "parity/%s", name);
    want = expected(path);
    snprintf(path, sizeof path, "%s/tests/fixtures/parity/%s", home_dir(), file);
    if (peer_exact(&p, path)) {
        CU_ASSERT_FALSE(p.files.source.is_synthetic);
        peer_follow(&p, file, want, 1e-4);
    }
    peer_close(&p);
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
    json_t *want = expected("parity/mistral");
    uint32_t prompt[PEER_MOST], next[PEER_MOST], n = token_list(json_object_get(want, "prompt"), prompt);
    char path[4096];
    struct peer p;

    snprintf(path, sizeof path, "%s/tests/fixtures/parity/llama-gptq", home_dir());
    CU_ASSERT_FATAL(!peer_open(&p, path, &device_ref, f32, FMT_F32));
    peer_step(&p, prompt, n, 0, next);
    CU_ASSERT(peer_difference(&p, n - 1, json_array_get(json_object_get(want, "logits"), n - 1)) > 0.1);
    peer_close(&p);
    json_decref(want);
}

/* ---- the real model, when `make model MODEL=smollm2-135m` has fetched it ---- */
/* F32 throughout: the logits and the tokens of transformers' F32 reading of the same file. */
static void real_ref(void)
{
    json_t *all, *c;
    struct peer p;

    if (!peer_real(&p, &device_ref, f32, FMT_F32))
        return;
    CU_ASSERT_FALSE(p.files.source.is_synthetic);
    CU_ASSERT_PTR_NOT_NULL(strstr(p.files.source.about, "Q4_1"));
    all = expected("parity/smollm2");
    c = json_array_get(json_object_get(all, "cases"), 1);
    close_to("smollm2-135m", peer_top_difference(&p, c, json_object_get(c, "prompt")), 1e-3);
    CU_ASSERT_EQUAL(peer_continues(&p, c, json_object_get(c, "prompt"), 12), 12);
    peer_close(&p);
    json_decref(all);
}

/* The cpu device in F16: the same text; the recorded gaps (0.05 and more) are wider than what F16 loses. */
static void real_cpu(void)
{
    json_t *all, *c;
    struct peer p;
    size_t i;

    if (!peer_real(&p, &device_cpu, f16, FMT_F16))
        return;
    all = expected("parity/smollm2");
    json_array_foreach(json_object_get(all, "cases"), i, c) {
        uint32_t n = peer_continues(&p, c, json_object_get(c, "prompt"), 32);

        if (n != 32)
            test_note("case %zu: %u of 32 tokens as expected", i, n);
        CU_ASSERT_EQUAL(n, 32);
    }
    peer_close(&p);
    json_decref(all);
}

/* The shape under models/shapes, which stands in when the model is not there, is the real one's. */
static void real_shape(void)
{
    struct model_shape s;
    char path[4096];
    struct peer p;

    if (!peer_real(&p, &device_cpu, f16, FMT_F16))
        return;
    snprintf(path, sizeof path, "%s/models/shapes/smollm2-135m.json", home_dir());
    CU_ASSERT(!shape_load(&s, path, &p.e));
    CU_ASSERT(s.n_layer == p.files.shape.n_layer && s.dim == p.files.shape.dim);
    CU_ASSERT(s.n_head == p.files.shape.n_head && s.n_kv_head == p.files.shape.n_kv_head);
    CU_ASSERT(s.head_dim == p.files.shape.head_dim && s.ffn == p.files.shape.ffn);
    CU_ASSERT(s.vocab == p.files.shape.vocab && s.max_context == p.files.shape.max_context);
    CU_ASSERT(s.rope_theta == p.files.shape.rope_theta && s.norm_eps == p.files.shape.norm_eps);
    CU_ASSERT(s.tied == p.files.shape.tied && !strcmp(s.name, p.files.shape.name));
    peer_close(&p);
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
