/* test_load.c - what MODEL= may name, and models whose files do not fit what they claim. What the files are made of:
 * test_stored.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/gguf.h"
#include "models/load.h"
#include "models/quants.h"
#include "models/safetensors.h"
#include "tests/files.h"
#include "tests/model_bytes.h"
#include "tests/peer.h"
#include "tests/test.h"

/* ---- what MODEL= may name ---- */
static void copy_to(const char *from, const char *dir, const char *name)
{
    struct bytes b = bytes_of(from);
    char path[4200];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    file_write(path, b.p, b.n);
    bytes_free(&b);
}

static void expect_kind(const char *name, enum model_kind want, const char *called, const char *about)
{
    struct model_files f;
    struct err e = { 0 };
    char sum[SHA256_HEX] = "";

    if (model_find(&f, name, 3, &e)) {
        test_note("%s: %s", name, e.text);
        CU_FAIL("not found");
        return;
    }
    CU_ASSERT_EQUAL(f.kind, want);
    CU_ASSERT_STRING_EQUAL(f.shape.name, called);
    CU_ASSERT_STRING_EQUAL(f.source.about, about);
    CU_ASSERT_EQUAL(f.source.is_synthetic, want == MODEL_SHAPE);
    CU_ASSERT(!model_files_sha256(&f, sum, &e) && strlen(sum) == 64);
    model_files_close(&f);
}

static void kinds(void)
{
    char dir[3000], store[3100], path[4096];

    snprintf(dir, sizeof dir, "%s", test_dir());
    expect_kind("tiny", MODEL_SHAPE, "tiny", "synthetic weights, seed 3");
    expect_kind(parity_path("llama"), MODEL_HF, "llama", "llama: safetensors, BF16");
    expect_kind(parity_path("qwen2/"), MODEL_HF, "qwen2", "qwen2: safetensors, F16");
    expect_kind(parity_path("llama-awq"), MODEL_HF, "llama-awq",
                "llama-awq: safetensors, AWQ 4-bit, groups of 32 (already quantised, decoded here), rest F16");
    expect_kind(parity_path("qwen2.gguf"), MODEL_GGUF, "qwen2", "qwen2: GGUF, F16");
    expect_kind(parity_path("mixed.gguf"), MODEL_GGUF, "mixed",
                "mixed: GGUF, Q4_0+Q4_1+Q8_0+Q6_K+Q4_K, embedding F16 (already quantised "
                "in the file)");
    copy_to(parity_path("qwen2.gguf"), dir, "odd-name");
    snprintf(path, sizeof path, "%s/odd-name", dir);
    expect_kind(path, MODEL_GGUF, "odd-name", "odd-name: GGUF, F16");
    snprintf(store, sizeof store, "%s/store", dir);
    mkdir(store, 0700);
    snprintf(path, sizeof path, "%s/real", store);
    mkdir(path, 0700);
    copy_to(parity_path("qwen2.gguf"), path, "x.gguf");
    copy_to(parity_path("qwen2.gguf"), store, "tiny.gguf");
    setenv("SERVELAB_MODELS", store, 1);
    expect_kind("real", MODEL_GGUF, "real", "x: GGUF, F16");
    expect_kind("tiny", MODEL_GGUF, "tiny", "tiny: GGUF, F16");      /* a fetched model goes before its shape */
    unsetenv("SERVELAB_MODELS");
}

/* One layer of zeros: V in F16, the other matrices in BF16, the embedding as given. */
static void write_zeros(const char *path, uint32_t embedding)
{
    static const struct macros none = { .n = 0 };
    static const char *const vectors[] = { "output_norm", "blk.0.attn_norm", "blk.0.ffn_norm" };
    static const char *const matrices[] = { "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up",
                                            "ffn_down" };
    char p[4096];
    size_t n;
    uint32_t at = 256;
    struct bytes b = { 0 };

    n = (size_t)snprintf(p, sizeof p, "r:GGUF 4:3 8:11 8:7 s:general.architecture 4:8 s:llama "
                         "s:llama.block_count 4:4 4:1 s:llama.embedding_length 4:4 4:32 "
                         "s:llama.attention.head_count 4:4 4:1 "
                         "s:llama.feed_forward_length 4:4 4:32 s:llama.context_length 4:4 4:64 "
                         "s:llama.attention.layer_norm_rms_epsilon 4:6 x:acc52737 "
                         "s:token_embd.weight 4:2 8:32 8:2 4:%u 8:0", embedding);
    for (int i = 0; i < 3; i++, at += 128)
        n += (size_t)snprintf(p + n, sizeof p - n, " s:%s.weight 4:1 8:32 4:0 8:%u", vectors[i], at);
    for (int i = 0; i < 7; i++, at += 2048)
        n += (size_t)snprintf(p + n, sizeof p - n, " s:blk.0.%s.weight 4:2 8:32 8:32 4:%d 8:%u", matrices[i],
                              i == 2 ? QUANT_F16 : QUANT_BF16, at);
    snprintf(p + n, sizeof p - n, " pad:32 z:%u", at);
    CU_ASSERT_FATAL(assemble(&b, &none, p));
    file_write(path, b.p, b.n);
    bytes_free(&b);
}

/* What was quantised is said, the embedding alone too, and every format is named: F16 beside BF16. */
static void what_it_says(void)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/m.gguf", test_dir());
    write_zeros(path, QUANT_F32);
    expect_kind(path, MODEL_GGUF, "m", "m: GGUF, BF16+F16, embedding F32");
    write_zeros(path, QUANT_Q8_0);
    expect_kind(path, MODEL_GGUF, "m", "m: GGUF, BF16+F16, embedding Q8_0 (already quantised in the file)");
}

static void unknown(void)
{
    struct model_files f;
    struct err e = { 0 };
    char path[4200];

    expect_refused("near", "did you mean 'tiny'", model_find(&f, "tinny", 1, &e), &e);
    expect_refused("store", "make model MODEL=NAME", model_find(&f, "no-such-model", 1, &e), &e);
    expect_refused("empty", "model name is empty", model_find(&f, "", 1, &e), &e);
    expect_refused("path", "no such file or folder", model_find(&f, "no/such", 1, &e), &e);
    expect_refused("folder", "neither config.json nor a single .gguf file", model_find(&f, test_dir(), 1, &e), &e);
    snprintf(path, sizeof path, "%s/model.safetensors", parity_path("mistral"));
    expect_refused("weights", "give the folder that holds both", model_find(&f, path, 1, &e), &e);
    snprintf(path, sizeof path, "%s/a.gguf", test_dir());
    file_write(path, "", 0);
    expect_refused("empty file", "does not begin with 'GGUF'", model_find(&f, path, 1, &e), &e);
    snprintf(path, sizeof path, "%s/b.gguf", test_dir());
    file_write(path, "", 0);
    expect_refused("two files", "neither config.json nor a single .gguf", model_find(&f, test_dir(), 1, &e), &e);
    snprintf(path, sizeof path, "%s/config.json", test_dir());
    file_write(path, "{}", 2);
    expect_refused("no type", "field 'model_type'", model_find(&f, test_dir(), 1, &e), &e);
    snprintf(path, sizeof path, "%s/c.gguf", test_dir());
    CU_ASSERT_FATAL(!symlink("c.gguf", path));
    expect_refused("link to itself", "no such file or folder", model_find(&f, path, 1, &e), &e);
    expect_refused("device", "not a regular file", model_find(&f, "/dev/zero", 1, &e), &e);
    for (int i = 0; i < 2; i++) {                               /* a fifo is not waited for */
        snprintf(path, sizeof path, "%s/fifo%s", test_dir(), i ? ".gguf" : "");
        CU_ASSERT_FATAL(!mkfifo(path, 0600));
        expect_refused("fifo", "not a regular file", model_find(&f, path, 1, &e), &e);
    }
}

/* ---- files that do not fit what they claim ---- */
/* A snapshot in the test's folder: a fixture's weights, its config with one text replaced by another. */
static int altered(const char *name, const char *from, const char *to, struct err *e)
{
    char path[4200], config[4096], *at;
    struct model_files f;
    struct bytes b;
    int rc;

    snprintf(path, sizeof path, "%s/model.safetensors", parity_path(name));
    copy_to(path, test_dir(), "model.safetensors");
    snprintf(path, sizeof path, "%s/config.json", parity_path(name));
    b = bytes_of(path);
    bytes_add(&b, "", 1);
    at = strstr((char *)b.p, from);
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    snprintf(config, sizeof config, "%.*s%s%s", (int)(at - (char *)b.p), (char *)b.p, to,
             at + strlen(from));
    bytes_free(&b);
    snprintf(path, sizeof path, "%s/config.json", test_dir());
    file_write(path, config, strlen(config));
    rc = model_find(&f, test_dir(), 1, e);
    if (!rc)
        model_files_close(&f);
    return rc;
}

static void snapshots(void)
{
    struct err e = { 0 };
    struct model_files f;
    char path[4096], sum[SHA256_HEX];

    CU_ASSERT_EQUAL(altered("mistral", "mistral", "mistral", &e), 0);
    snprintf(path, sizeof path, "%s/beside.safetensors", test_dir());
    CU_ASSERT(!mkfifo(path, 0600) && !model_find(&f, test_dir(), 1, &e) && !model_files_sha256(&f, sum, &e));
    CU_ASSERT_EQUAL_FATAL(e.code, 0);
    model_files_close(&f);
    expect_refused("layers", "tensor 'model.layers.2.self_attn.q_proj.weight' is missing",
                   altered("mistral", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", &e), &e);
    expect_refused("fewer", "has no place in a mistral model of 1 layers",
                   altered("mistral", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", &e), &e);
    expect_refused("vocab", "tensor 'model.embed_tokens.weight': shape [64, ...]; expected [65, 32]",
                   altered("mistral", "\"vocab_size\": 64", "\"vocab_size\": 65", &e), &e);
    expect_refused("heads", "tensor 'model.layers.0.self_attn.q_proj.weight': shape [64, ...]; expected [128, 32]",
                   altered("mistral", "\"num_attention_heads\": 2", "\"num_attention_heads\": 4", &e), &e);
    expect_refused("family", "tensor 'model.layers.0.self_attn.q_proj.bias' is missing",
                   altered("mistral", "\"mistral\"", "\"qwen2\"", &e), &e);
    expect_refused("family", "tensor 'model.layers.0.self_attn.k_proj.bias' has no place in a llama model",
                   altered("qwen2", "\"model_type\": \"qwen2\"", "\"model_type\": \"llama\"", &e), &e);
    expect_refused("norms", "norm.weight' has no place in a llama model",
                   altered("qwen3", "\"model_type\": \"qwen3\"", "\"model_type\": \"llama\"", &e), &e);
    expect_refused("head", "tensor 'lm_head.weight' is missing",
                   altered("qwen2", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", &e), &e);
    CU_ASSERT_EQUAL(altered("mistral", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true", &e), 0);
    expect_refused("packing", "tensor 'model.layers.0.self_attn.q_proj.qweight': shape [32, ...]; expected [4, 64]",
                   altered("llama-awq", "\"awq\"", "\"gptq\"", &e), &e);
    expect_refused("group", "tensor 'model.layers.0.self_attn.q_proj.qzeros': shape [2, ...]; expected [1, 8]",
                   altered("llama-gptq", "\"group_size\": 16", "\"group_size\": 32", &e), &e);
    expect_refused("plain", "tensor 'model.layers.0.self_attn.q_proj.weight' is missing",
                   altered("llama-gptq", "\"quantization_config\"", "\"was_quantised\"", &e), &e);
}

static size_t find(const struct bytes *b, const char *text)
{
    const void *at = memmem(b->p, b->n, text, strlen(text));

    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    return (size_t)((const unsigned char *)at - b->p);
}

/* GPTQ's g_idx in another order: desc_act, whatever config.json says. */
static void activation_order(void)
{
    struct err e = { 0 };
    struct model_files f;
    const struct st_tensor *t;
    struct safetensors s;
    struct bytes b;
    char path[4096];
    size_t at;

    CU_ASSERT_EQUAL_FATAL(altered("llama-gptq", "gptq", "gptq", &e), 0);
    CU_ASSERT_EQUAL_FATAL(safetensors_open(&s, test_dir(), &e), 0);
    t = safetensors_find(&s, "model.layers.1.mlp.up_proj.g_idx");
    CU_ASSERT_PTR_NOT_NULL_FATAL(t);
    at = (size_t)(t->data - s.file[0].data);
    safetensors_close(&s);
    snprintf(path, sizeof path, "%s/model.safetensors", test_dir());
    b = bytes_of(path);
    b.p[at + 4] = 1;
    file_write(path, b.p, b.n);
    expect_refused("g_idx", "tensor 'model.layers.1.mlp.up_proj.g_idx', entry 1: group 1; expected 0",
                   model_find(&f, test_dir(), 1, &e), &e);
    bytes_free(&b);
}

/* One byte of a GGUF's names or numbers changed. */
static void gguf_altered(const char *file, const char *text, size_t skip, unsigned char value,
                         const char *words)
{
    struct bytes b = bytes_of(parity_path(file));
    struct err e = { 0 };
    struct model_files f;
    char path[4096];

    b.p[find(&b, text) + skip] = value;
    snprintf(path, sizeof path, "%s/m.gguf", test_dir());
    file_write(path, b.p, b.n);
    expect_refused(text, words, model_find(&f, path, 1, &e), &e);
    bytes_free(&b);
}

static void gguf_models(void)
{
    gguf_altered("llama.gguf", "blk.0.attn_q.weight", 4, '7', "tensor 'blk.0.attn_q.weight' is missing");
    gguf_altered("llama.gguf", "blk.1.ffn_up.weight", 0, 'x', "tensor 'blk.1.ffn_up.weight' is missing");
    gguf_altered("llama.gguf", "llama.block_count", 21, 1, "tensor 'blk.1.");
    gguf_altered("llama.gguf", "llama.attention.head_count", 30, 4, "expected 32 x 128 by the metadata");
    gguf_altered("llama.gguf", "rope_freqs.weight", 0, 'R', "tensor 'Rope_freqs.weight' has no place");
    gguf_altered("qwen2.gguf", "blk.0.attn_k.bias", 12, 'B', "tensor 'blk.0.attn_k.bias' is missing");
    gguf_altered("qwen3.gguf", "blk.1.attn_q_norm.weight", 0, 'B', "tensor 'blk.1.attn_q_norm.weight' is missing");
}

/* A weight that is no number is named when its row is read. */
static void not_finite(void)
{
    struct err e = { 0 };
    struct model_files f;
    const struct gguf_tensor *t;
    struct bytes b = bytes_of(parity_path("llama.gguf"));
    struct gguf g;
    char path[4096];
    float row[64];

    CU_ASSERT_EQUAL_FATAL(gguf_open_bytes(&g, b.p, b.n, "m", &e), 0);
    t = gguf_find_tensor(&g, "blk.1.ffn_down.weight");
    CU_ASSERT_PTR_NOT_NULL_FATAL(t);
    memcpy(b.p + (t->data - b.p) + 2 * (3 * 32 + 5), "\xc0\x7f", 2);     /* row 3, column 5: a BF16 NaN */
    gguf_close(&g);
    snprintf(path, sizeof path, "%s/m.gguf", test_dir());
    file_write(path, b.p, b.n);
    CU_ASSERT_FATAL(!model_find(&f, path, 1, &e));
    CU_ASSERT(!f.source.row(f.source.self, ROLE_DOWN, 1, 2, row, &e));
    expect_refused("NaN", "tensor 'blk.1.ffn_down.weight', row 3, column 5: not a finite number",
                   f.source.row(f.source.self, ROLE_DOWN, 1, 3, row, &e), &e);
    model_files_close(&f);
    bytes_free(&b);
}

/* A weight that bf16 and f32 hold and f16 does not is named, where it would become infinite. */
static void beyond_f16(void)
{
    static const struct wfmt f16 = { FMT_F16, 0 }, bf16 = { FMT_BF16, 0 };
    static const float large = -1e6f;
    struct err e = { 0 };
    const struct st_tensor *t;
    struct safetensors s;
    struct bytes b;
    struct peer p;
    char path[4096];
    size_t at;

    CU_ASSERT_EQUAL_FATAL(altered("mistral", "mistral", "mistral", &e), 0);
    CU_ASSERT_EQUAL_FATAL(safetensors_open(&s, test_dir(), &e), 0);
    t = safetensors_find(&s, "model.layers.1.mlp.up_proj.weight");
    CU_ASSERT_FATAL(t && t->type == ST_F32);
    at = (size_t)(t->data - s.file[0].data);
    safetensors_close(&s);
    snprintf(path, sizeof path, "%s/model.safetensors", test_dir());
    b = bytes_of(path);
    memcpy(b.p + at + 4 * 7, &large, 4);
    file_write(path, b.p, b.n);
    bytes_free(&b);
    expect_refused("f16", "layer 1, gate_up, row 32, column 7: -1e+06; f16 ends at 65504",
                   peer_open(&p, test_dir(), &device_ref, f16, FMT_F16), &p.e);
    peer_close(&p);
    CU_ASSERT_EQUAL(peer_open(&p, test_dir(), &device_ref, bf16, FMT_F16), 0);
    peer_close(&p);
}

const struct suite suite_load = { .name = "load", .tests = (const struct test[]){
    { "what MODEL= may name", kinds },
    { "what it says of itself", what_it_says },
    { "what it may not", unknown },
    { "snapshots that do not fit", snapshots },
    { "GPTQ in activation order", activation_order },
    { "GGUF models that do not fit", gguf_models },
    { "a weight that is not finite", not_finite },
    { "a weight beyond f16", beyond_f16 },
    { 0 },
} };
