/* test_load.c - what MODEL= may name, the accessors of GGUF metadata, the decoders of every stored format, and models
 * whose files do not fit what they claim. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/home.h"
#include "models/gguf.h"
#include "models/load.h"
#include "models/quants.h"
#include "models/safetensors.h"
#include "tests/assemble.h"
#include "tests/files.h"
#include "tests/test.h"

static const char *fixture(const char *name)
{
    static char path[4096];

    snprintf(path, sizeof path, "%s/tests/fixtures/parity/%s", home_dir(), name);
    return path;
}

static struct bytes read_all(const char *path)
{
    struct bytes b = { 0 };
    struct err e = { 0 };
    struct map m;

    if (map_open(&m, path, 1 << 30, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("no such fixture");
    }
    bytes_add(&b, m.data, (size_t)m.size);
    map_close(&m);
    return b;
}

static void refused(const char *what, const char *words, int rc, struct err *e)
{
    CU_ASSERT_EQUAL(rc, -1);
    CU_ASSERT_PTR_NULL(strchr(e->text, '\n'));
    if (!strstr(e->text, words)) {
        test_note("%s: expected \"%s\" in: %s", what, words, e->text);
        CU_FAIL("wrong words");
    }
    *e = (struct err){ 0 };
}

/* ---- maps ---- */
static void maps(void)
{
    char path[4096], shown[MAP_SHOW];
    struct err e = { 0 };
    struct map m;

    snprintf(path, sizeof path, "%s/f", test_dir());
    file_write(path, "abc", 3);
    CU_ASSERT_FATAL(!map_open(&m, path, 3, &e));
    CU_ASSERT(m.size == 3 && !memcmp(m.data, "abc", 3) && !strcmp(m.path, path));
    map_close(&m);
    refused("too large", "3 bytes; expected at most 2", map_open(&m, path, 2, &e), &e);
    file_write(path, "", 0);
    CU_ASSERT_FATAL(!map_open(&m, path, 3, &e));
    CU_ASSERT(m.size == 0 && m.data == NULL);
    map_close(&m);
    CU_ASSERT_STRING_EQUAL(map_show("a\nb\377", 4, shown), "a?b?");
    CU_ASSERT_STRING_EQUAL(map_show("", 0, shown), "");
    memset(path, 'x', 200);
    CU_ASSERT(strlen(map_show(path, 200, shown)) == MAP_SHOW - 1 && strstr(shown, "xx...") != NULL);
}

/* ---- decoders ---- */
/* quants.bin: blocks and what the public gguf package makes of them, bit for bit. */
static void decoders(void)
{
    struct bytes b = read_all(fixture("quants.bin"));
    float out[512];
    int n = 0;

    for (size_t at = 0; at + 12 <= b.n; n++) {
        uint32_t type = le32(b.p + at), count = le32(b.p + at + 4), bytes = le32(b.p + at + 8);
        const struct quant_info *q = quant_find(type, NULL);
        const unsigned char *want = b.p + at + 12 + bytes;

        CU_ASSERT_FATAL(q && count <= 512 && count % q->block == 0);
        CU_ASSERT_EQUAL(count / q->block * q->bytes, bytes);
        quant_row((enum quant)type, b.p + at + 12, count, out);
        for (uint32_t i = 0; i < count; i++) {
            float w;

            memcpy(&w, want + 4 * i, 4);
            if (out[i] != w) {
                test_note("%s, value %u: %.9g; expected %.9g", q->name, i, (double)out[i], (double)w);
                CU_FAIL("decoded otherwise");
                break;
            }
        }
        at += 12 + bytes + 4 * (size_t)count;
    }
    CU_ASSERT_EQUAL(n, 15);
    bytes_free(&b);
}

/* By hand: one word of AWQ and of GPTQ. Nibble i of AWQ's word is output 0 2 4 6 1 3 5 7. */
static void packings(void)
{
    unsigned char q[8 * 4] = { 0 }, z[4] = { 0x11, 0x11, 0x11, 0x11 }, s[16];
    struct packed4 p = { .packing = PACKED_AWQ, .n = 8, .k = 8, .group = 8, .q = q, .z = z, .s = s };
    static const float awq[8] = { 0, 4, 1, 5, 2, 6, 3, 7 };
    float out[64];

    for (int i = 0; i < 8; i++) {
        s[2 * i] = 0;
        s[2 * i + 1] = 0x3c;                            /* 1.0 */
        memcpy(q + 4 * i, "\x10\x32\x54\x76", 4);       /* nibbles 0 1 2 ... 7 */
    }
    packed4_rows(&p, 0, out);
    for (int n = 0; n < 8; n++)
        for (int k = 0; k < 8; k++)
            CU_ASSERT(out[8 * n + k] == awq[n] - 1);
    p.packing = PACKED_GPTQ;
    p.zeros = ZERO_EACH_LESS;
    packed4_rows(&p, 0, out);
    for (int n = 0; n < 8; n++)
        for (int k = 0; k < 8; k++)
            CU_ASSERT(out[8 * n + k] == (float)(k - 2));
    z[0] = 0x1f;                                        /* output 0 stored as 15, output 1 as 1 */
    packed4_rows(&p, 0, out);
    CU_ASSERT(out[0] == 0 && out[8] == -2 && out[16] == -2);
    p.zeros = ZERO_WORD_LESS;                           /* 0 and 3: 3 was stored less one and less the borrow */
    packed4_rows(&p, 0, out);
    CU_ASSERT(out[0] == 0 && out[8] == -3 && out[16] == -2);
}

/* ---- GGUF metadata ---- */
static struct gguf open_program(const char *program, struct bytes *b)
{
    static const struct macros none = { .n = 0 };
    struct err e = { 0 };
    struct gguf g;

    CU_ASSERT_FATAL(assemble(b, &none, program));
    if (gguf_open_bytes(&g, b->p, b->n, "case.gguf", &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("refused");
    }
    return g;
}

static void numbers(void)
{
    struct bytes b = { 0 };
    struct gguf g = open_program("r:GGUF 4:3 8:0 8:9 s:u8 4:0 1:200 s:i8 4:1 1:-2 s:i16 4:3 2:-3 s:u32 4:4 4:-1 s:i64 "
                                 "4:11 8:-5 s:u64 4:10 8:-1 s:f32 4:6 x:0000c03f s:f64 4:12 x:000000000000f8bf s:yes "
                                 "4:7 1:1", &b);
    struct err e = { 0 };
    int64_t v;
    double d;
    bool yes = false;

    CU_ASSERT(!gguf_int(&g, "u8", 0, 255, &v, &e) && v == 200);
    CU_ASSERT(!gguf_int(&g, "i8", -9, 9, &v, &e) && v == -2);
    CU_ASSERT(!gguf_int(&g, "i16", -9, 9, &v, &e) && v == -3);
    CU_ASSERT(!gguf_int(&g, "u32", 0, UINT32_MAX, &v, &e) && v == UINT32_MAX);
    CU_ASSERT(!gguf_int(&g, "i64", -9, 9, &v, &e) && v == -5);
    CU_ASSERT(!gguf_real(&g, "f32", 0, 9, &d, &e) && d == 1.5);
    CU_ASSERT(!gguf_real(&g, "f64", -9, 9, &d, &e) && d == -1.5);
    CU_ASSERT(!gguf_real(&g, "u8", 0, 999, &d, &e) && d == 200);
    CU_ASSERT(!gguf_bool(&g, "yes", &yes, &e) && yes);
    refused("u64", "key 'u64': 9223372036854775807 is outside", gguf_int(&g, "u64", 0, 9, &v, &e), &e);
    refused("min", "key 'i8': -2 is outside 0 to 9", gguf_int(&g, "i8", 0, 9, &v, &e), &e);
    refused("f32", "key 'f32' is f32; expected a whole number", gguf_int(&g, "f32", 0, 9, &v, &e), &e);
    refused("bool", "key 'u8' is u8; expected a bool", gguf_bool(&g, "u8", &yes, &e), &e);
    refused("none", "key 'x' is missing", gguf_int(&g, "x", 0, 9, &v, &e), &e);
    CU_ASSERT_PTR_NULL(gguf_find(&g, "x"));
    CU_ASSERT_PTR_NULL(gguf_find(&g, "u"));
    CU_ASSERT_PTR_NOT_NULL(gguf_find(&g, "u8"));
    gguf_close(&g);
    bytes_free(&b);
}

static void lists(void)
{
    struct bytes b = { 0 };
    struct gguf g = open_program("r:GGUF 4:3 8:0 8:4 s:t 4:9 4:8 8:3 s:ab s: s:c s:i 4:9 4:5 8:2 4:-7 4:8 s:f 4:9 4:6 "
                                 "8:1 x:0000c03f s:one 4:8 s:text", &b);
    struct err e = { 0 };
    struct gguf_list l;
    struct gguf_str s;
    int64_t v;
    double d;

    CU_ASSERT_FATAL(!gguf_list_open(&l, &g, "t", GGUF_STRING, &e));
    CU_ASSERT(l.n == 3 && !gguf_next_int(&l, &v) && !gguf_next_real(&l, &d));
    CU_ASSERT(gguf_next_str(&l, &s) && gguf_is(s, "ab"));
    CU_ASSERT(gguf_next_str(&l, &s) && gguf_is(s, ""));
    CU_ASSERT(gguf_next_str(&l, &s) && gguf_is(s, "c") && !gguf_is(s, "cc"));
    CU_ASSERT(!gguf_next_str(&l, &s));
    CU_ASSERT_FATAL(!gguf_list_open(&l, &g, "i", GGUF_I64, &e));
    CU_ASSERT(!gguf_next_str(&l, &s) && gguf_next_int(&l, &v) && v == -7);
    CU_ASSERT(gguf_next_int(&l, &v) && v == 8 && !gguf_next_int(&l, &v));
    CU_ASSERT_FATAL(!gguf_list_open(&l, &g, "f", GGUF_F64, &e));
    CU_ASSERT(gguf_next_real(&l, &d) && d == 1.5 && !gguf_next_real(&l, &d));
    CU_ASSERT(!gguf_text(&g, "one", &s, &e) && gguf_is(s, "text"));
    refused("narrow", "key 'i' is an array of i32; expected an array of f32",
            gguf_list_open(&l, &g, "i", GGUF_F32, &e), &e);
    refused("text", "key 'one' is string; expected an array of string",
            gguf_list_open(&l, &g, "one", GGUF_STRING, &e), &e);
    refused("list", "key 't' is an array of string; expected a string", gguf_text(&g, "t", &s, &e), &e);
    gguf_close(&g);
    bytes_free(&b);
}

/* ---- what MODEL= may name ---- */
static void copy_to(const char *from, const char *dir, const char *name)
{
    struct bytes b = read_all(from);
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
    expect_kind(fixture("llama"), MODEL_HF, "llama", "llama: safetensors, BF16");
    expect_kind(fixture("qwen2/"), MODEL_HF, "qwen2", "qwen2: safetensors, F16");
    expect_kind(fixture("llama-awq"), MODEL_HF, "llama-awq", "llama-awq: safetensors, AWQ 4-bit, groups of 32 (already "
                "quantised, decoded here), rest F16");
    expect_kind(fixture("qwen2.gguf"), MODEL_GGUF, "qwen2", "qwen2: GGUF, F16");
    expect_kind(fixture("mixed.gguf"), MODEL_GGUF, "mixed",
                "mixed: GGUF, Q4_0+Q4_1+Q8_0+Q6_K+Q4_K, embedding F16 (already quantised "
                "in the file)");
    copy_to(fixture("qwen2.gguf"), dir, "odd-name");
    snprintf(path, sizeof path, "%s/odd-name", dir);
    expect_kind(path, MODEL_GGUF, "odd-name", "odd-name: GGUF, F16");
    snprintf(store, sizeof store, "%s/store", dir);
    mkdir(store, 0700);
    snprintf(path, sizeof path, "%s/real", store);
    mkdir(path, 0700);
    copy_to(fixture("qwen2.gguf"), path, "x.gguf");
    copy_to(fixture("qwen2.gguf"), store, "tiny.gguf");
    setenv("SERVELAB_MODELS", store, 1);
    expect_kind("real", MODEL_GGUF, "real", "x: GGUF, F16");
    expect_kind("tiny", MODEL_GGUF, "tiny", "tiny: GGUF, F16");      /* a fetched model goes before its shape */
    unsetenv("SERVELAB_MODELS");
}

static void unknown(void)
{
    struct model_files f;
    struct err e = { 0 };
    char path[4200];

    refused("near", "did you mean 'tiny'", model_find(&f, "tinny", 1, &e), &e);
    refused("store", "make model MODEL=NAME", model_find(&f, "no-such-model", 1, &e), &e);
    refused("empty", "model name is empty", model_find(&f, "", 1, &e), &e);
    refused("path", "no such file or folder", model_find(&f, "no/such", 1, &e), &e);
    refused("folder", "neither config.json nor a single .gguf file", model_find(&f, test_dir(), 1, &e), &e);
    snprintf(path, sizeof path, "%s/model.safetensors", fixture("mistral"));
    refused("weights", "give the folder that holds both", model_find(&f, path, 1, &e), &e);
    snprintf(path, sizeof path, "%s/a.gguf", test_dir());
    file_write(path, "", 0);
    refused("empty file", "does not begin with 'GGUF'", model_find(&f, path, 1, &e), &e);
    snprintf(path, sizeof path, "%s/b.gguf", test_dir());
    file_write(path, "", 0);
    refused("two files", "neither config.json nor a single .gguf", model_find(&f, test_dir(), 1, &e), &e);
    snprintf(path, sizeof path, "%s/config.json", test_dir());
    file_write(path, "{}", 2);
    refused("no type", "field 'model_type'", model_find(&f, test_dir(), 1, &e), &e);
}

/* ---- files that do not fit what they claim ---- */
/* A snapshot in the test's folder: a fixture's weights, its config with one text replaced by another. */
static int altered(const char *name, const char *from, const char *to, struct err *e)
{
    char path[4200], config[4096], *at;
    struct model_files f;
    struct bytes b;
    int rc;

    snprintf(path, sizeof path, "%s/model.safetensors", fixture(name));
    copy_to(path, test_dir(), "model.safetensors");
    snprintf(path, sizeof path, "%s/config.json", fixture(name));
    b = read_all(path);
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

    CU_ASSERT_EQUAL(altered("mistral", "mistral", "mistral", &e), 0);
    refused("layers", "tensor 'model.layers.2.self_attn.q_proj.weight' is missing",
            altered("mistral", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", &e), &e);
    refused("fewer", "has no place in a mistral model of 1 layers",
            altered("mistral", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", &e), &e);
    refused("vocab", "tensor 'model.embed_tokens.weight': shape [64, ...]; expected [65, 32]",
            altered("mistral", "\"vocab_size\": 64", "\"vocab_size\": 65", &e), &e);
    refused("heads", "tensor 'model.layers.0.self_attn.q_proj.weight': shape [64, ...]; expected [128, 32]",
            altered("mistral", "\"num_attention_heads\": 2", "\"num_attention_heads\": 4", &e), &e);
    refused("family", "tensor 'model.layers.0.self_attn.q_proj.bias' is missing",
            altered("mistral", "\"mistral\"", "\"qwen2\"", &e), &e);
    refused("family", "tensor 'model.layers.0.self_attn.k_proj.bias' has no place in a llama model",
            altered("qwen2", "\"model_type\": \"qwen2\"", "\"model_type\": \"llama\"", &e), &e);
    refused("norms", "norm.weight' has no place in a llama model",
            altered("qwen3", "\"model_type\": \"qwen3\"", "\"model_type\": \"llama\"", &e), &e);
    refused("head", "tensor 'lm_head.weight' is missing",
            altered("qwen2", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", &e), &e);
    CU_ASSERT_EQUAL(altered("mistral", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true", &e), 0);
    refused("packing", "tensor 'model.layers.0.self_attn.q_proj.qweight': shape [32, ...]; expected [4, 64]",
            altered("llama-awq", "\"awq\"", "\"gptq\"", &e), &e);
    refused("group", "tensor 'model.layers.0.self_attn.q_proj.qzeros': shape [2, ...]; expected [1, 8]",
            altered("llama-gptq", "\"group_size\": 16", "\"group_size\": 32", &e), &e);
    refused("plain", "tensor 'model.layers.0.self_attn.q_proj.weight' is missing",
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
    b = read_all(path);
    b.p[at + 4] = 1;
    file_write(path, b.p, b.n);
    refused("g_idx", "tensor 'model.layers.1.mlp.up_proj.g_idx', entry 1: group 1; expected 0",
            model_find(&f, test_dir(), 1, &e), &e);
    bytes_free(&b);
}

/* One byte of a GGUF's names or numbers changed. */
static void gguf_altered(const char *file, const char *text, size_t skip, unsigned char value,
                         const char *words)
{
    struct bytes b = read_all(fixture(file));
    struct err e = { 0 };
    struct model_files f;
    char path[4096];

    b.p[find(&b, text) + skip] = value;
    snprintf(path, sizeof path, "%s/m.gguf", test_dir());
    file_write(path, b.p, b.n);
    refused(text, words, model_find(&f, path, 1, &e), &e);
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
    struct bytes b = read_all(fixture("llama.gguf"));
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
    refused("NaN", "tensor 'blk.1.ffn_down.weight', row 3, column 5: not a finite number",
            f.source.row(f.source.self, ROLE_DOWN, 1, 3, row, &e), &e);
    model_files_close(&f);
    bytes_free(&b);
}

/* Q4_1 held as int4z with groups of 32 is the same numbers: both are u s + m with f16 s and m. Blocks use their whole
 * range in this file, so that the scale is found again. */
static void q4_1_as_int4z(void)
{
    const struct wfmt f = { FMT_INT4Z, 32 };
    struct model_files m;
    struct err e = { 0 };
    float row[256], back[256];
    uint16_t scale[16];
    uint8_t q[128];
    int apart = 0;

    CU_ASSERT_FATAL(!model_find(&m, fixture("mixed.gguf"), 1, &e) && m.shape.dim == 256);
    for (uint32_t r = 256; r < 256 + 64; r++) {                 /* the rows of K */
        CU_ASSERT_FATAL(!m.source.row(m.source.self, ROLE_QKV, 0, r, row, &e));
        row_encode(f, row, 256, q, scale);
        row_decode(f, q, scale, 256, back);
        for (int i = 0; i < 256; i++)
            apart += !(back[i] - row[i] <= 1e-6f && row[i] - back[i] <= 1e-6f);
    }
    if (apart)
        test_note("%d of 16384 values differ", apart);
    CU_ASSERT_EQUAL(apart, 0);
    model_files_close(&m);
}

const struct suite suite_load = { .name = "load", .tests = (const struct test[]){
    { "maps", maps },
    { "decoders of every format", decoders },
    { "AWQ and GPTQ words", packings },
    { "GGUF numbers", numbers },
    { "GGUF lists", lists },
    { "what MODEL= may name", kinds },
    { "what it may not", unknown },
    { "snapshots that do not fit", snapshots },
    { "GPTQ in activation order", activation_order },
    { "GGUF models that do not fit", gguf_models },
    { "a weight that is not finite", not_finite },
    { "Q4_1 held as int4z is the same", q4_1_as_int4z },
    { 0 },
} };
