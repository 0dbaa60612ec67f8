/* test_awq_files.c - files of AWQ scales are input from outside: one that was written is read back, and what is wrong,
 * cut, of another model or too large is refused with the place. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/scaled.h"
#include "tests/files.h"
#include "tests/test.h"

static void refused(const struct model_shape *shape, const char *path, const char *sha, const char *words)
{
    struct err e = { 0 };
    struct scales s;

    CU_ASSERT_EQUAL(scales_read(&s, path, shape, sha, &e), -1);
    CU_ASSERT_EQUAL(e.code, EXIT_USAGE);
    if (!strstr(e.text, words))
        test_note("expected \"%s\" in: %s", words, e.text);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, words));
}

static void hostile_files(void)
{
    static const struct { const char *from, *to, *words; } bad[] = {
        { "awq-scales/1", "awq-scales/2", "expected awq-scales/1" },
        { "{\"schema\"", "[\"schema\"", "line 1" },
        { "\"tokens\": 1", "\"tokens\": 0", "'tokens'" },
        { "\"tokens\": 1", "\"tokens\": 1.5", "whole" },
        { "\"tokens\": 1", "\"tokens\": 1, \"tokens\": 1", "duplicate" },
        { "\"tokens\": 1", "\"token\": 1", "unknown field" },
        { "\"tokens\": 1,", "\"tokens\": 1, \"more\": 2,", "unknown field" },
        { "aaaa\"", "aaaG\"", "SHA-256" },
        { "\"text\": \"a ", "\"text\": \"a\\u001b[2J", "control characters" },
        { "\"text\": \"a ", "\"text\": \"a\\u0000", "line" },
        { "\"precision\": \"int4\"", "\"precision\": 4", "'precision'" },
        { "\"qkv\": [\n  [1,", "\"qkv\": [\n  [", "qkv[0]: expected a list of 128" },
        { "\"qkv\": [\n  [1,", "\"qkv\": [\n  [1,1,", "qkv[0]: expected a list of 128" },
        { "\"qkv\": [\n  [1,", "\"qkv\": [\n  [0,", "qkv[0][0]: expected a number" },
        { "\"qkv\": [\n  [1,", "\"qkv\": [\n  [-1,", "qkv[0][0]: expected a number" },
        { "\"qkv\": [\n  [1,", "\"qkv\": [\n  [1e30,", "qkv[0][0]: expected a number" },
        { "\"qkv\": [\n  [1,", "\"qkv\": [\n  [1e999,", "line" },
        { "\"qkv\": [\n  [1,", "\"qkv\": [\n  [NaN,", "line" },
        { "\"qkv\": [\n  [1,", "\"qkv\": [\n  [\"1\",", "qkv[0][0]: expected a number" },
        { "\"qkv\": [\n  [1,", "\"qkv\": [\n  [[1],", "qkv[0][0]: expected a number" },
        { "\"qkv\": [\n  [1,", "\"qkv\": [\n  7, [1,", "qkv: 3 layers" },
        { "\"gate_up\": [", "\"gate_up\": [], \"x\": [", "unknown field" },
        { "\"alpha\": [\n  [0,", "\"alpha\": [\n  [2,", "alpha[0][0]: expected a number from 0 to 1" },
        { "\"down\": ", "\"down\": 1, \"qqq\": ", "unknown field" },
    };
    struct model_shape shape, other;
    struct err e = { 0 };
    struct scales s, back;
    char path[4200], file[4200], sha[SHA256_HEX] = "";
    char *text, *copy;
    size_t n;

    CU_ASSERT_EQUAL_FATAL(shape_load(&shape, "tiny", &e), 0);
    CU_ASSERT_EQUAL_FATAL(scales_init(&s, &shape, &e), 0);
    s.n_tok = 1;
    snprintf(s.precision, sizeof s.precision, "int4");
    snprintf(s.text, sizeof s.text, "a \"made-up\" text");
    memset(s.model_sha256, 'a', SHA256_HEX - 1);
    memset(s.text_sha256, 'b', SHA256_HEX - 1);
    snprintf(path, sizeof path, "%s/good.json", test_dir());
    snprintf(file, sizeof file, "%s/bad.json", test_dir());
    CU_ASSERT_EQUAL_FATAL(scales_write(&s, path, &e), 0);
    CU_ASSERT_EQUAL_FATAL(scales_read(&back, path, &shape, s.model_sha256, &e), 0);
    scales_free(&back);
    text = file_read(path, &n);
    copy = malloc(n + 200);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *at = strstr(text, bad[i].from);

        CU_ASSERT_PTR_NOT_NULL_FATAL(at);
        snprintf(copy, n + 200, "%.*s%s%s", (int)(at - text), text, bad[i].to, at + strlen(bad[i].from));
        file_write(file, copy, strlen(copy));
        refused(&shape, file, NULL, bad[i].words);
    }
    for (size_t cut = 0; cut < n - 2; cut += n / 23) {         /* cut anywhere */
        file_write(file, text, cut);
        refused(&shape, file, NULL, "line");
    }
    memset(sha, 'c', SHA256_HEX - 1);
    refused(&shape, path, sha, "scales of another model");
    other = shape;
    other.ffn += 32;
    refused(&other, path, NULL, "down[0]: expected a list of 160");
    other = shape;
    other.n_layer++;
    refused(&other, path, NULL, "2 layers, but the model has 3");
    refused(&shape, test_dir(), NULL, "expected a file");
    refused(&shape, "no/such/file", NULL, "servelab calibrate");
    copy = realloc(copy, 1 << 20);
    memset(copy, ' ', 1 << 20);
    file_write(file, copy, 1 << 20);
    refused(&shape, file, NULL, "at most");
    CU_ASSERT_EQUAL(scales_write(&s, test_dir(), &e), -1);
    free(text), free(copy);
    scales_free(&s);
}

static const struct test tests[] = {
    { "hostile scale files are refused", hostile_files },
    { 0 },
};
const struct suite suite_awq_files = { "awq_files", tests, 60 };
