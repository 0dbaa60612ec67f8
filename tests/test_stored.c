/* test_stored.c - what model files are made of: mapped files, the decoders of every stored format, the accessors of
 * GGUF metadata. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/gguf.h"
#include "models/gguf_config.h"
#include "models/load.h"
#include "models/quants.h"
#include "tests/files.h"
#include "tests/model_bytes.h"
#include "tests/test.h"

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
    expect_refused("too large", "3 bytes; expected at most 2", map_open(&m, path, 2, &e), &e);
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
    struct bytes b = bytes_of(parity_path("quants.bin"));
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

    CU_ASSERT_FATAL(!model_find(&m, parity_path("mixed.gguf"), 1, &e) && m.shape.dim == 256);
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
    expect_refused("u64", "key 'u64': 9223372036854775807 is outside", gguf_int(&g, "u64", 0, 9, &v, &e), &e);
    expect_refused("min", "key 'i8': -2 is outside 0 to 9", gguf_int(&g, "i8", 0, 9, &v, &e), &e);
    expect_refused("f32", "key 'f32' is f32; expected a whole number", gguf_int(&g, "f32", 0, 9, &v, &e), &e);
    expect_refused("bool", "key 'u8' is u8; expected a bool", gguf_bool(&g, "u8", &yes, &e), &e);
    expect_refused("none", "key 'x' is missing", gguf_int(&g, "x", 0, 9, &v, &e), &e);
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
    expect_refused("narrow", "key 'i' is an array of i32; expected an array of f32",
                   gguf_list_open(&l, &g, "i", GGUF_F32, &e), &e);
    expect_refused("text", "key 'one' is string; expected an array of string",
                   gguf_list_open(&l, &g, "one", GGUF_STRING, &e), &e);
    expect_refused("list", "key 't' is an array of string; expected a string", gguf_text(&g, "t", &s, &e), &e);
    gguf_close(&g);
    bytes_free(&b);
}

/* As llama.cpp reads them (llama-model.cpp, load_hparams): a factor needs no type, "none" switches it off, the newer of
 * its two names counts. */
static void rope_scalings(void)
{
    static const struct { const char *keys; int n; enum rope_scaling want; float factor; } cases[] = {
        { "", 0, ROPE_PLAIN, 0 },
        { "s:llama.rope.scaling.factor 4:6 x:00000040", 1, ROPE_LINEAR, 2 },
        { "s:llama.rope.scale_linear 4:6 x:00008040", 1, ROPE_LINEAR, 4 },
        { "s:llama.rope.scaling.factor 4:6 x:00000040 s:llama.rope.scale_linear 4:6 x:00008040", 2, ROPE_LINEAR, 2 },
        { "s:llama.rope.scaling.factor 4:6 x:00000040 s:llama.rope.scaling.type 4:8 s:linear", 2, ROPE_LINEAR, 2 },
        { "s:llama.rope.scaling.factor 4:6 x:00000040 s:llama.rope.scaling.type 4:8 s:none", 2, ROPE_PLAIN, 0 },
        { "s:llama.rope.scale_linear 4:6 x:00000040 s:llama.rope.scaling.type 4:8 s:none", 2, ROPE_PLAIN, 0 },
        { "s:llama.rope.scaling.attn_factor 4:6 x:0000803f", 1, ROPE_PLAIN, 0 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes b = { 0 };
        struct err e = { 0 };
        struct model_shape s;
        struct gguf g;
        char program[1000];
        bool paired;

        snprintf(program, sizeof program, "r:GGUF 4:3 8:1 8:%d s:general.architecture 4:8 s:llama s:llama.block_count "
                 "4:4 4:1 s:llama.embedding_length 4:4 4:32 s:llama.attention.head_count 4:4 4:1 "
                 "s:llama.feed_forward_length 4:4 4:32 s:llama.context_length 4:4 4:64 "
                 "s:llama.attention.layer_norm_rms_epsilon 4:6 x:acc52737 %s s:token_embd.weight 4:2 8:32 8:2 4:0 8:0 "
                 "pad:32 z:256", 7 + cases[i].n, cases[i].keys);
        g = open_program(program, &b);
        if (gguf_config(&g, &s, &paired, &e))
            test_note("%s: %s", cases[i].keys, e.text);
        CU_ASSERT(!e.code && s.rope_scaling == cases[i].want && s.rope_factor == cases[i].factor);
        gguf_close(&g);
        bytes_free(&b);
    }
}

const struct suite suite_stored = { .name = "stored", .tests = (const struct test[]){
    { "maps", maps },
    { "decoders of every format", decoders },
    { "AWQ and GPTQ words", packings },
    { "Q4_1 held as int4z is the same", q4_1_as_int4z },
    { "GGUF numbers", numbers },
    { "GGUF lists", lists },
    { "GGUF rope scalings", rope_scalings },
    { 0 },
} };
