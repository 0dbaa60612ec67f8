/* test_malicious.c - model files that must be refused, each with its words (tests/malicious), files cut at every byte
 * and files with single bytes changed. Under SAN=1 this is also a small fuzz run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/home.h"
#include "models/gguf.h"
#include "models/gguf_config.h"
#include "models/hf_config.h"
#include "models/load.h"
#include "models/safetensors.h"
#include "models/tokenizer_gguf.h"
#include "tests/assemble.h"
#include "tests/test.h"

/* A refusal is one line with the file's name and the words. */
static void check(const char *name, const char *words, const char *file, int rc, const struct err *e)
{
    if (!strcmp(words, "ok")) {
        if (rc)
            test_note("%s: refused: %s", name, e->text);
        CU_ASSERT_EQUAL(rc, 0);
        return;
    }
    if (!rc)
        test_note("%s was accepted", name);
    CU_ASSERT_FATAL(rc == -1);
    CU_ASSERT_EQUAL(e->code, EXIT_USAGE);
    CU_ASSERT_PTR_NULL(strpbrk(e->text, "\n\r\033"));
    CU_ASSERT_PTR_NOT_NULL(strstr(e->text, file));
    if (!strstr(e->text, words)) {
        test_note("%s: expected \"%s\" in: %s", name, words, e->text);
        CU_FAIL("wrong words");
    }
}

static struct bytes make(const char *name, const char *program, const struct macros *m)
{
    struct bytes b = { 0 };

    if (!assemble(&b, m, program)) {
        test_note("%s: not a program", name);
        CU_FAIL_FATAL("a word of the table means nothing");
    }
    return b;
}

static void gguf_case(const char *name, const char *words, const char *program, const struct macros *m)
{
    struct bytes b = make(name, program, m);
    struct err e = { 0 };
    struct gguf g;
    int rc = gguf_open_bytes(&g, b.p, b.n, "case.gguf", &e);

    check(name, words, "case.gguf", rc, &e);
    if (!rc)
        gguf_close(&g);
    bytes_free(&b);
}

static void gguf_files(void) { CU_ASSERT(malicious_each("gguf.tsv", gguf_case) > 60); }

static void gguf_model_case(const char *name, const char *words, const char *program,
                            const struct macros *m)
{
    struct bytes b = make(name, program, m);
    struct err e = { 0 };
    struct model_shape s;
    struct weight_source src;
    struct gguf g;
    char path[4096];
    FILE *f;

    if (gguf_open_bytes(&g, b.p, b.n, "case.gguf", &e))         /* well formed: that is the point */
        test_note("%s: %s", name, e.text);
    else
        gguf_close(&g);
    CU_ASSERT_EQUAL_FATAL(e.code, 0);
    snprintf(path, sizeof path, "%s/case.gguf", test_dir());
    f = fopen(path, "wb");
    CU_ASSERT_FATAL(f && fwrite(b.p, 1, b.n, f) == b.n && !fclose(f));
    check(name, words, "case.gguf", load_gguf(path, &s, &src, &e), &e);
    bytes_free(&b);
}

static void gguf_models(void) { CU_ASSERT(malicious_each("gguf-model.tsv", gguf_model_case) > 25); }

/* What is accepted must serve: any text in, valid UTF-8 out. */
static void use_tokenizer(struct tokenizer *t)
{
    static const char text[] = "abba \xc3\xff<0x-1>";
    struct token_ids ids = { 0 };
    struct text_out out = { 0 };
    struct err e = { 0 };

    CU_ASSERT(!tokenizer_encode(t, text, sizeof text, ENCODE_SPECIAL | ENCODE_ENDS, &ids, &e));
    CU_ASSERT(ids.n >= 3 && ids.id[0] < tokenizer_vocab(t));
    CU_ASSERT(!tokenizer_decode(t, ids.id, ids.n, 0, &out, &e) && out.n >= 4 && !memcmp(out.p, "abba", 4));
    token_ids_free(&ids);
    text_out_free(&out);
    tokenizer_free(t);
}

static void gguf_vocab_case(const char *name, const char *words, const char *program, const struct macros *m)
{
    struct bytes b = make(name, program, m);
    struct tokenizer *t;
    struct err e = { 0 };
    struct gguf g;
    int rc;

    if (gguf_open_bytes(&g, b.p, b.n, "case.gguf", &e))         /* well formed: that is the point */
        test_note("%s: %s", name, e.text);
    CU_ASSERT_EQUAL_FATAL(e.code, 0);
    rc = tokenizer_from_gguf(&t, &g, &e);
    check(name, words, "case.gguf", rc, &e);
    CU_ASSERT(!rc == !!t);
    gguf_close(&g);
    bytes_free(&b);                            /* a tokenizer keeps nothing of its file */
    if (!rc)
        use_tokenizer(t);
}

static void gguf_vocabularies(void) { CU_ASSERT(malicious_each("gguf-vocab.tsv", gguf_vocab_case) > 45); }

static void safetensors_case(const char *name, const char *words, const char *program,
                             const struct macros *m)
{
    struct bytes b = make(name, program, m);
    struct err e = { 0 };
    struct safetensors s;
    int rc = safetensors_open_bytes(&s, b.p, b.n, "case.safetensors", &e);

    check(name, words, "case.safetensors", rc, &e);
    if (!rc)
        safetensors_close(&s);
    bytes_free(&b);
}

static void safetensors_files(void)
{
    CU_ASSERT(malicious_each("safetensors.tsv", safetensors_case) > 50);
}

static void put(const char *name, const void *p, size_t n, char path[4096])
{
    FILE *f;

    snprintf(path, 4096, "%s/%s", test_dir(), name);
    f = fopen(path, "wb");
    CU_ASSERT_FATAL(f && fwrite(p, 1, n, f) == n && !fclose(f));
}

/* ~, $ and % stand for the fields of a plain Llama: all, all but its type, all but type's sizes; ^ for CRLF. */
static void config_case(const char *name, const char *words, const char *program, const struct macros *m)
{
    static const char sizes[] = "\"hidden_size\":64,\"num_attention_heads\":2,";
    static const char rest[] = "\"num_hidden_layers\":2,\"intermediate_size\":64,\"vocab_size\":8,"
                               "\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5";
    static const char type[] = "\"model_type\":\"llama\",";
    struct hf_config c;
    struct bytes b = { 0 };
    struct err e = { 0 };
    char path[4096];

    (void)m;
    for (; *program; program++) {
        if (*program == '~' || *program == '%')
            bytes_add(&b, type, sizeof type - 1);
        if (*program == '~' || *program == '$')
            bytes_add(&b, sizes, sizeof sizes - 1);
        if (strchr("~$%", *program))
            bytes_add(&b, rest, sizeof rest - 1);
        else
            bytes_add(&b, *program == '^' ? "\r\n" : program, *program == '^' ? 2 : 1);
    }
    put("config.json", b.p, b.n, path);
    check(name, words, "config.json", hf_config_read(&c, path, &e), &e);
    bytes_free(&b);
}

static void configs(void) { CU_ASSERT(malicious_each("config.tsv", config_case) > 55); }

static void index_case(const char *name, const char *words, const char *program, const struct macros *m)
{
    struct safetensors s;
    struct err e = { 0 };
    char path[4096];
    int rc;

    (void)m;
    put("model.safetensors.index.json", program, strlen(program), path);
    rc = safetensors_open(&s, test_dir(), &e);
    check(name, words, test_dir(), rc, &e);
    if (!rc)
        safetensors_close(&s);
}

static void indexes(void)
{
    static const struct macros none = { .n = 0 };
    static const char *const file[] = { "one.safetensors", "two.safetensors" };
    static const char *const text[] = {
        "j:{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}} z:4",
        "j:{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}} z:4",
    };
    char path[4096];

    for (int i = 0; i < 2; i++) {
        struct bytes b = make(file[i], text[i], &none);

        put(file[i], b.p, b.n, path);
        bytes_free(&b);
    }
    CU_ASSERT(malicious_each("index.tsv", index_case) > 12);
}

/* ---- too large to stand in a table ---- */
/* 10^5 tensors are refused by number, and quickly. */
static void many_tensors(void)
{
    struct bytes b = { 0 };
    struct safetensors s;
    struct err e = { 0 };
    char one[100];

    bytes_add(&b, NULL, 8);
    for (int i = 0; i < 100000; i++) {
        int n = snprintf(one, sizeof one, "%c\"%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                         i ? ',' : '{', i, i, i + 1);

        bytes_add(&b, one, (size_t)n);
    }
    bytes_add(&b, "}", 1);
    for (size_t i = 0, n = b.n - 8; i < 8; i++, n >>= 8)
        b.p[i] = (unsigned char)n;
    bytes_add(&b, NULL, 100000);
    check("100000 tensors", "100000 tensors; expected at most 65536", "case",
          safetensors_open_bytes(&s, b.p, b.n, "case", &e), &e);
    bytes_free(&b);
}

/* A settings file of 1 GB (sparse) is refused by its size, before a byte is read. */
static void huge_config(void)
{
    struct hf_config c;
    struct err e = { 0 };
    char path[4096];

    put("config.json", "{", 1, path);
    CU_ASSERT_FATAL(!truncate(path, 1 << 30));
    check("1 GB", "1073741824 bytes; expected at most 4194304", "config.json",
          hf_config_read(&c, path, &e), &e);
}

/* Not regular files: refused instead of waited for. */
static void odd_files(void)
{
    struct err e = { 0 };
    char path[4096];
    struct gguf g;

    snprintf(path, sizeof path, "%s/fifo.gguf", test_dir());
    CU_ASSERT_FATAL(!mkfifo(path, 0600));
    check("fifo", "not a regular file", "fifo.gguf", gguf_open(&g, path, &e), &e);
    e = (struct err){ 0 };
    check("folder", "not a regular file", test_dir(), gguf_open(&g, test_dir(), &e), &e);
    e = (struct err){ 0 };
    check("none", "No such file", "/none.gguf", gguf_open(&g, "/none.gguf", &e), &e);
}

/* ---- damage ---- */
static struct bytes fixture(const char *name)
{
    struct bytes b = { 0 };
    struct err e = { 0 };
    struct map m;
    char path[4096];

    snprintf(path, sizeof path, "%s/tests/fixtures/parity/%s", home_dir(), name);
    CU_ASSERT_FATAL(!map_open(&m, path, 1 << 30, &e));
    bytes_add(&b, m.data, (size_t)m.size);
    map_close(&m);
    return b;
}

/* Copies, so that a sanitizer sees one byte too many. */
static int open_gguf(const unsigned char *p, size_t n, struct err *e)
{
    unsigned char *copy = malloc(n + !n);
    struct gguf g;
    int rc;

    memcpy(copy, p, n);
    rc = gguf_open_bytes(&g, copy, n, "cut", e);
    if (!rc)
        gguf_close(&g);
    free(copy);
    return rc;
}

static int open_safetensors(const unsigned char *p, size_t n, struct err *e)
{
    unsigned char *copy = malloc(n + !n);
    struct safetensors s;
    int rc;

    memcpy(copy, p, n);
    rc = safetensors_open_bytes(&s, copy, n, "cut", e);
    if (!rc)
        safetensors_close(&s);
    free(copy);
    return rc;
}

/* Every prefix of the head, and a sample of the rest: none is accepted. */
static void cut_everywhere(const char *name, int (*open)(const unsigned char *, size_t, struct err *))
{
    struct bytes b = fixture(name);
    struct err e = { 0 };

    CU_ASSERT_EQUAL(open(b.p, b.n, &e), 0);
    for (size_t n = 0; n < b.n; n += n < 4000 ? 1 : 331) {
        e = (struct err){ 0 };
        if (!open(b.p, n, &e)) {
            test_note("%s: accepted when cut at byte %zu of %zu", name, n, b.n);
            CU_FAIL("accepted");
            break;
        }
        CU_ASSERT(e.code == EXIT_USAGE && strstr(e.text, "cut"));
    }
    bytes_free(&b);
}

static void cut_files(void)
{
    cut_everywhere("llama.gguf", open_gguf);
    cut_everywhere("llama-gptq/model.safetensors", open_safetensors);
}

/* Single bytes of the head changed: accepted or refused with words, never out of bounds. */
static void flip_bytes(const char *name, size_t head,
                       int (*open)(const unsigned char *, size_t, struct err *))
{
    struct bytes b = fixture(name);
    size_t refused = 0;
    struct rng r;

    rng_seed(&r, 7);
    for (int i = 0; i < 3000; i++) {
        size_t at = rng_below(&r, head);
        unsigned char was = b.p[at];
        struct err e = { 0 };

        b.p[at] ^= (unsigned char)(1u << rng_below(&r, 8));
        if (open(b.p, b.n, &e)) {
            refused++;
            CU_ASSERT(e.code == EXIT_USAGE && *e.text);
        }
        b.p[at] = was;
    }
    CU_ASSERT(refused > 1000);
    bytes_free(&b);
}

static void flipped(void)
{
    flip_bytes("llama.gguf", 2000, open_gguf);
    flip_bytes("llama-gptq/model.safetensors", 4000, open_safetensors);
}

const struct suite suite_malicious = { .name = "malicious", .timeout_s = 120, .tests = (const struct test[]){
    { "GGUF files", gguf_files },
    { "GGUF models", gguf_models },
    { "GGUF vocabularies", gguf_vocabularies },
    { "safetensors files", safetensors_files },
    { "config.json", configs },
    { "the index of shards", indexes },
    { "100000 tensors", many_tensors },
    { "a settings file of 1 GB", huge_config },
    { "fifo, folder, nothing", odd_files },
    { "cut at every byte", cut_files },
    { "bytes flipped", flipped },
    { 0 },
} };
