/* test_text_gguf.c - a tokenizer from the metadata of a GGUF file: the same tokens as from tokenizer.json. What is
 * refused stands in tests/malicious/gguf-vocab.tsv. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/home.h"
#include "models/tokenizer_gguf.h"
#include "tests/test.h"
#include "text/vocab.h"

struct bytes { unsigned char p[1 << 20]; size_t n; };

static void put(struct bytes *b, uint64_t v, unsigned n)
{
    CU_ASSERT_FATAL(b->n + n < sizeof b->p);
    for (; n--; v >>= 8)
        b->p[b->n++] = (unsigned char)v;
}

static void put_text(struct bytes *b, const char *s)
{
    put(b, strlen(s), 8);
    for (; *s; s++)
        put(b, (unsigned char)*s, 1);
}

static void put_key(struct bytes *b, const char *key, enum gguf_type type)
{
    put_text(b, key);
    put(b, type, 4);
}

static void put_list(struct bytes *b, const char *key, enum gguf_type item, uint64_t n)
{
    put_key(b, key, GGUF_ARRAY);
    put(b, item, 4);
    put(b, n, 8);
}

/* The vocabulary of a tokenizer.json as the metadata of a GGUF file. */
static void write_gguf(struct bytes *b, const json_t *root, const char *pre, uint32_t bos)
{
    const json_t *model = json_object_get(root, "model"),
                 *merges = json_object_get(model, "merges");
    json_t *vocab = json_object_get(model, "vocab"), *id;
    const char *text, **name = calloc(1 << 16, sizeof *name);
    uint32_t n = 0;
    uint8_t kind[1 << 16] = { 0 };

    CU_ASSERT_PTR_NOT_NULL_FATAL(name);
    json_object_foreach(vocab, text, id) {
        name[json_integer_value(id)] = text;
        n += 1;
    }
    for (size_t i = 0; i < json_array_size(json_object_get(root, "added_tokens")); i++) {
        const json_t *one = json_array_get(json_object_get(root, "added_tokens"), i);
        json_int_t at = json_integer_value(json_object_get(one, "id"));

        name[at] = json_string_value(json_object_get(one, "content"));
        kind[at] = json_is_true(json_object_get(one, "special")) ? 3 : 4;
        n += at >= n;
    }
    put(b, 0x46554747, 4);
    put(b, 3, 4);
    put(b, 0, 8);
    put(b, 6, 8);
    put_key(b, "tokenizer.ggml.bos_token_id", GGUF_U32);
    put(b, bos, 4);
    put_key(b, "tokenizer.ggml.model", GGUF_STRING);
    put_text(b, "gpt2");
    put_key(b, "tokenizer.ggml.pre", GGUF_STRING);
    put_text(b, pre);
    put_list(b, "tokenizer.ggml.tokens", GGUF_STRING, n);
    for (uint32_t i = 0; i < n; i++)
        put_text(b, name[i]);
    put_list(b, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (uint32_t i = 0; i < n; i++)
        put(b, kind[i] ? kind[i] : 1, 4);
    put_list(b, "tokenizer.ggml.merges", GGUF_STRING, json_array_size(merges));
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *one = json_array_get(merges, i);
        char both[4096];

        if (json_is_string(one))
            snprintf(both, sizeof both, "%s", json_string_value(one));
        else
            snprintf(both, sizeof both, "%s %s", json_string_value(json_array_get(one, 0)),
                     json_string_value(json_array_get(one, 1)));
        put_text(b, both);
    }
    free(name);
}

static void gguf_equals_json(void)
{
    static const char *const kinds[][2] = { { "gpt2", "gpt-2" },
                                            { "llama3", "llama-bpe" },
                                            { "qwen2", "qwen2" } };
    static const char text[] =
        "It's 12345 caf\xc3\xa9 cafe\xcc\x81\n\n  <|im_end|> <tool_call> <|eot_id|>x\xff";

    for (size_t i = 0; i < 3; i++) {
        struct tokenizer *a = NULL, *b = NULL;
        struct token_ids x = { 0 }, y = { 0 };
        struct bytes *file = calloc(1, sizeof *file);
        struct err e = { 0 };
        struct gguf g;
        char path[4096];
        json_t *root;

        snprintf(path, sizeof path, "%s/tests/fixtures/tokenizer/%s/tokenizer.json", home_dir(),
                 kinds[i][0]);
        root = json_load_file(path, 0, NULL);
        CU_ASSERT_FATAL(root && file && !tokenizer_open(&a, path, &e));
        write_gguf(file, root, kinds[i][1], tokenizer_bos(a) < 0 ? 0 : (uint32_t)tokenizer_bos(a));
        CU_ASSERT_FATAL(!gguf_open_bytes(&g, file->p, file->n, "made.gguf", &e));
        if (tokenizer_from_gguf(&b, &g, &e))
            test_note("%s", e.text);
        gguf_close(&g);
        CU_ASSERT_PTR_NOT_NULL_FATAL(b);
        for (unsigned flags = 0; flags < 4; flags++) {
            CU_ASSERT_FATAL(!tokenizer_encode(a, text, sizeof text, flags, &x, &e));
            CU_ASSERT_FATAL(!tokenizer_encode(b, text, sizeof text, flags, &y, &e));
        }
        CU_ASSERT(x.n == y.n && !memcmp(x.id, y.id, x.n * sizeof *x.id));
        token_ids_free(&x);
        token_ids_free(&y);
        tokenizer_free(a);
        tokenizer_free(b);
        json_decref(root);
        free(file);
    }
}

static const struct test tests[] = {
    { "gguf_equals_json", gguf_equals_json },
    { NULL, NULL },
};
const struct suite suite_text_gguf = { "text_gguf", tests, 120 };
