/* test_text.c - what must hold of text/ for any vocabulary: merging against a plain implementation,
 * streams against the whole, scanners and UTF-8 against every byte, files that must be refused,
 * GGUF against JSON. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/home.h"
#include "models/tokenizer_gguf.h"
#include "tests/test.h"
#include "text/vocab.h"

static struct tokenizer *open_fixture(const char *kind)
{
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    char path[4096];

    snprintf(path, sizeof path, "%s/tests/fixtures/tokenizer/%s", home_dir(), kind);
    if (tokenizer_open(&t, path, &e))
        test_note("%s", e.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(t);
    return t;
}

static char *file_text(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *text = malloc(1 << 20);

    CU_ASSERT_FATAL(f && text);
    *n = fread(text, 1, (1 << 20) - 1, f);
    text[*n] = 0;
    fclose(f);
    return text;
}

/* ---- merging: the heap against "find the best pair, merge it, again" ---- */
enum { LETTERS = 4, MERGES = 40, TOKENS = LETTERS + MERGES };
struct toy {
    char text[TOKENS][64];
    struct token_text token[TOKENS], merge[2 * MERGES];
    uint32_t n;
};

/* Letters a to d, then tokens from two earlier ones each. */
static struct tokenizer *make_toy(struct toy *y, struct rng *r)
{
    static const uint8_t kind[TOKENS];
    struct tokenizer_parts p = { .path = "toy", .token = y->token, .kind = kind, .merge = y->merge,
                                 .bos = -1, .eos = -1, .unk = -1 };
    struct tokenizer *t;
    struct err e = { 0 };

    for (y->n = 0; y->n < TOKENS; y->n++) {
        uint32_t top = y->n < LETTERS ? 1 : y->n, a = (uint32_t)rng_below(r, top);
        uint32_t b = (uint32_t)rng_below(r, top);

        if (y->n < LETTERS) {
            y->text[y->n][0] = (char)('a' + (int)y->n);
            y->text[y->n][1] = 0;
        } else {
            if (strlen(y->text[a]) + strlen(y->text[b]) > 60)
                a = b = y->n % LETTERS;
            strcpy(y->text[y->n], y->text[a]);
            strcat(y->text[y->n], y->text[b]);
        }
        y->token[y->n] = (struct token_text){ y->text[y->n], strlen(y->text[y->n]) };
        if (y->n >= LETTERS) {
            y->merge[2 * p.n_merge] = y->token[a];
            y->merge[2 * p.n_merge++ + 1] = y->token[b];
        }
    }
    p.n_token = y->n;
    CU_ASSERT_FATAL(!tokenizer_build(&t, &p, &e));
    return t;
}

static size_t slow_bpe(const struct tokenizer *t, const char *p, size_t n, uint32_t *id)
{
    for (size_t i = 0; i < n; i++)
        id[i] = (uint32_t)t->byte_id[(unsigned char)p[i]];
    for (;;) {
        const struct pair *best = NULL, *m;
        size_t at = 0;

        for (size_t i = 0; i + 1 < n; i++)
            if ((m = vocab_pair(t, id[i], id[i + 1])) && (!best || m->rank < best->rank)) {
                best = m;
                at = i;
            }
        if (!best)
            return n;
        id[at] = best->id;
        memmove(id + at + 1, id + at + 2, (--n - at - 1) * sizeof *id);
    }
}

static void merges_equal_plain_ones(void)
{
    struct rng r;
    unsigned bad = 0;

    rng_seed(&r, 11);
    for (int round = 0; round < 200; round++) {
        struct toy y;
        struct tokenizer *t = make_toy(&y, &r);

        for (int k = 0; k < 60; k++) {
            uint32_t want[300];
            char word[300];
            struct token_ids got = { 0 };
            size_t n = 1 + rng_below(&r, k % 5 ? 20 : 299), n_want;

            for (size_t i = 0; i < n; i++)
                word[i] = (char)('a' + rng_below(&r, LETTERS));
            n_want = slow_bpe(t, word, n, want);
            for (int again = 0; again < 2;
                 again++, token_ids_free(&got)) { /* then from the cache */
                CU_ASSERT_FATAL(!bpe_word(t, word, n, &got));
                bad += got.n != n_want || memcmp(got.id, want, n_want * sizeof *want);
            }
        }
        tokenizer_free(t);
    }
    CU_ASSERT_EQUAL(bad, 0);
}

/* ---- streams ---- */
/* Any ids at all: the pushes make valid UTF-8 each, and together the whole. */
static void stream_equals_whole(void)
{
    struct tokenizer *t = open_fixture("gpt2");
    struct rng r;
    unsigned bad = 0;

    rng_seed(&r, 5);
    for (int round = 0; round < 2000; round++) {
        struct text_out parts = { 0 }, whole = { 0 }, raw = { 0 }, want = { 0 };
        uint32_t id[40];
        size_t n = 1 + rng_below(&r, 40);
        struct decode_stream s;
        struct err e = { 0 };

        decode_start(&s, t, DECODE_SPECIAL);
        for (size_t i = 0; i < n; i++) {
            size_t before = parts.n, k;
            const char *p;

            id[i] = (uint32_t)rng_below(&r, round % 2 ? 256 : tokenizer_vocab(t));
            p = tokenizer_bytes(t, id[i], &k);
            CU_ASSERT_FATAL(!decode_push(&s, id[i], &parts, &e) && !out_add(&raw, p, k));
            bad += parts.n && utf8_valid(parts.p + before, parts.n - before) != parts.n - before;
        }
        CU_ASSERT_FATAL(!decode_end(&s, &parts, &e) && !utf8_repair(raw.p, raw.n, &want));
        CU_ASSERT_FATAL(!tokenizer_decode(t, id, n, DECODE_SPECIAL, &whole, &e));
        bad += parts.n != whole.n || (whole.n && memcmp(parts.p, whole.p, whole.n));
        bad += want.n != whole.n || (whole.n && memcmp(want.p, whole.p, whole.n));
        text_out_free(&parts);
        text_out_free(&whole);
        text_out_free(&raw);
        text_out_free(&want);
    }
    CU_ASSERT_EQUAL(bad, 0);
    tokenizer_free(t);
}

static void stream_holds_half_characters(void)
{
    struct tokenizer *t = open_fixture("gpt2");
    static const char face[] = "\xf0\x9f\x98\x80";     /* U+1F600 */
    struct text_out out = { 0 };
    struct decode_stream s;
    struct err e = { 0 };

    decode_start(&s, t, 0);
    for (int i = 0; i < 4; i++) {
        CU_ASSERT_EQUAL(out.n, 0);
        CU_ASSERT_FATAL(!decode_push(&s, (uint32_t)t->byte_id[(unsigned char)face[i]], &out, &e));
    }
    CU_ASSERT_STRING_EQUAL(out.p, face);
    CU_ASSERT(!decode_push(&s, (uint32_t)t->byte_id[0xf0], &out, &e));
    CU_ASSERT(!decode_push(&s, (uint32_t)tokenizer_eos(t), &out, &e)); /* special: left out */
    CU_ASSERT_EQUAL(out.n, 4);
    CU_ASSERT(!decode_push(&s, (uint32_t)t->byte_id['x'], &out, &e));
    CU_ASSERT_STRING_EQUAL(out.p, "\xf0\x9f\x98\x80\xef\xbf\xbdx");
    CU_ASSERT(!decode_push(&s, UINT32_MAX, &out, &e) &&
              !decode_push(&s, (uint32_t)t->byte_id[0xe2], &out, &e));
    CU_ASSERT(!decode_end(&s, &out, &e));
    CU_ASSERT_STRING_EQUAL(out.p, "\xf0\x9f\x98\x80\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd");
    text_out_free(&out);
    tokenizer_free(t);
}

/* ---- Unicode ---- */
static void utf8_of_every_character(void)
{
    unsigned bad = 0, used;
    char s[4];

    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        unsigned n = utf8_put(cp, s);
        uint32_t got = utf8_next(s, n, &used);

        if (cp >= 0xd800 && cp <= 0xdfff) {
            bad += got != UTF8_BAD || used != 1;
            continue;
        }
        bad += got != cp || used != n;
        for (unsigned k = 1; k < n; k++)
            bad += utf8_next(s, k, &used) != UTF8_CUT || used != k;
    }
    CU_ASSERT_EQUAL(bad, 0);
}

/* NFC once is NFC for good, and what it leaves alone it leaves alone. */
static void nfc_of_every_character(void)
{
    unsigned bad = 0, changed = 0;

    for (uint32_t cp = 1; cp < 0x110000; cp += cp == 0xd7ff ? 0x801 : 1) {
        struct text_out a = { 0 }, b = { 0 };
        char s[8];
        unsigned n = utf8_put(cp, s);

        n += utf8_put(0x301, s + n);
        CU_ASSERT_FATAL(!nfc_append(s, n, &a) && !nfc_append(a.p, a.n, &b));
        bad += a.n != b.n || memcmp(a.p, b.p, a.n) || utf8_valid(a.p, a.n) != a.n;
        changed += a.n != n || memcmp(a.p, s, n);
        text_out_free(&a);
        text_out_free(&b);
    }
    CU_ASSERT_EQUAL(bad, 0);
    CU_ASSERT(changed > 1000 && changed < 14000);
}

/* Random bytes through all scanners: words cover the text, and the text comes back. */
static void words_cover_anything(void)
{
    static const char *const bits[] = {
        " ",  "\n", "\r",       "'s",           "'LL",      "'",        "a",        "Z",  "0",
        "99", "!",  "\xc3\xa9", "\xe2\x80\x83", "\xcc\x81", "\xd9\xa1", "\xc5\xbf", "\t", "\xff"
    };
    struct rng r;

    rng_seed(&r, 3);
    for (int round = 0; round < 3000; round++) {
        struct text_out raw = { 0 }, text = { 0 };
        size_t n = rng_below(&r, 60);

        for (size_t i = 0; i < n; i++) {
            const char *b = bits[rng_below(&r, sizeof bits / sizeof *bits)];

            CU_ASSERT_FATAL(!out_add(&raw, b, strlen(b)));
        }
        CU_ASSERT_FATAL(!utf8_repair(raw.p, raw.n, &text));
        for (int kind = 0; kind < PRETOK_N; kind++)
            for (size_t i = 0, k; i < text.n; i += k) {
                k = pretok_next((enum pretok)kind, text.p + i, text.n - i);
                CU_ASSERT_FATAL(k > 0 && k <= text.n - i && utf8_valid(text.p + i, k) == k);
            }
        text_out_free(&raw);
        text_out_free(&text);
    }
}

/* ---- files that must be refused ---- */
#define MODEL \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
#define PRE ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define SPLIT(regex, rest)                                                              \
    ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\"," \
    "\"pattern\":{\"Regex\":"                                                           \
    "\"" regex "\"}," rest "},{\"type\":\"ByteLevel\",\"use_regex\":false}]}"
#define ADDED(rest) "{" MODEL PRE ",\"added_tokens\":[{\"id\":3,\"content\":\"<x>\"" rest "}]}"
static const struct { const char *text, *words;
} refused[] = {
    { "", "not valid JSON" },
    { "[]", "expected a JSON object" },
    { "{\"model\":1}", "is this a tokenizer.json?" },
    { "{\"model\":{\"type\":\"BPE\"}}", "model.vocab; expected an object" },
    { "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", "'WordPiece'; only BPE" },
    { "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}",
      "model.vocab; expected an object" },
    { "{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", "'a'; its id must be a whole number" },
    { "{\"model\":{\"vocab\":{\"a\":1048576},\"merges\":[]}}", "from 0 to 1048575" },
    { "{\"model\":{\"vocab\":{\"a\":\"0\"},\"merges\":[]}}", "whole number" },
    { "{\"model\":{\"vocab\":{\"a\":9223372036854775807},\"merges\":[]}}", "whole number" },
    { "{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", "'b'; its id is another token's" },
    { "{\"model\":{\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", "duplicate" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":{}}}", "expected a list" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"ab\"]}}", "two tokens with a space" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a b c\"]}}", "two tokens with a space" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\",1]]}}", "two tokens with a space" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"a\",\"a\"]]}}", "or a list of two" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}" PRE "}",
      "merge 0: the left side with 'a'" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a z\"]}" PRE "}",
      "merge 0: 'z' is no plain token" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"byte_fallback\":true}" PRE "}",
      "byte_fallback" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}" PRE "}",
      "end_of_word" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}" PRE "}", "dropout" },
    { "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"z\"}" PRE "}",
      "unk_token 'z'" },
    { "{" MODEL "}", "pre_tokenizer '?'; only ByteLevel" },
    { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\"}}", "'Metaspace'; only ByteLevel" },
    { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true}}",
      "add_prefix_space" },
    { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":false}}",
      "use_regex false" },
    { "{" MODEL SPLIT("x+", "\"behavior\":\"Isolated\"") "}",
      "'x+'; only the regular expressions" },
    { "{" MODEL SPLIT("x+", "\"behavior\":\"Removed\"") "}", "'Removed'; only Isolated" },
    { "{" MODEL PRE ",\"normalizer\":{\"type\":\"NFKC\"}}", "'NFKC'; only NFC" },
    { "{" MODEL PRE ",\"normalizer\":[]}", "'?'; only NFC" },
    { "{" MODEL PRE ",\"post_processor\":{\"type\":\"BertProcessing\"}}", "'BertProcessing'" },
    { "{" MODEL PRE
      ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
      "\"q\"}}]}}",
      "'q'; its special token has no ids" },
    { "{" MODEL PRE
      ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
      "\"q\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"q\":{\"ids\":[77]}}}}",
      "id 77, but the vocabulary has no such token" },
    { "{" MODEL PRE ",\"added_tokens\":[{\"id\":2,\"content\":\"ab\",\"special\":true}]}",
      "merge 0: the left side with 'b' is no plain token" },
    { "{" MODEL PRE ",\"added_tokens\":{}}", "expected a list" },
    { "{" MODEL PRE ",\"added_tokens\":[{\"id\":3,\"content\":\"\"}]}",
      "a text that is not empty" },
    { "{" MODEL PRE ",\"added_tokens\":[{\"id\":3,\"content\":7}]}", "a text that is not empty" },
    { ADDED(",\"lstrip\":true"), "'<x>'; single_word, lstrip" },
    { "{" MODEL PRE ",\"added_tokens\":[{\"id\":2,\"content\":\"<x>\"}]}",
      "its id is another token's" },
    { "{" MODEL PRE ",\"added_tokens\":[{\"id\":1,\"content\":\"a\"}]}", "gives it another id" },
    { "{" MODEL PRE ",\"added_tokens\":[{\"id\":1048576,\"content\":\"<x>\"}]}", "whole number" },
};

static void write_file(const char *name, const char *text, char path[4096])
{
    FILE *f;

    snprintf(path, 4096, "%s/%s", test_dir(), name);
    f = fopen(path, "wb");
    CU_ASSERT_FATAL(f && fputs(text, f) >= 0 && !fclose(f));
}

static void check_refused(const char *path, const char *words)
{
    struct tokenizer *t;
    struct err e = { 0 };
    int rc = tokenizer_open(&t, path, &e);

    CU_ASSERT(rc == -1 && !t && e.code == EXIT_USAGE && !strchr(e.text, '\n'));
    if (!strstr(e.text, words)) {
        test_note("expected \"%s\" in: %s", words, e.text);
        CU_FAIL("wrong words");
    }
    if (!rc)
        tokenizer_free(t);
}

static void refuses(void)
{
    char path[4096];

    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        write_file("tokenizer.json", refused[i].text, path);
        check_refused(path, refused[i].words);
    }
    check_refused("/nowhere/tokenizer.json", "No such file");
    check_refused("/dev/null", "expected a regular file");
    write_file("tokenizer.json", "{" MODEL PRE "}", path);
    write_file("tokenizer_config.json", "{\"bos_token\":\"<s>\"}", path);
    check_refused(test_dir(), "bos_token: tokenizer.json has no such token");
    write_file("tokenizer_config.json", "{\"eos_token\":[]}", path);
    check_refused(test_dir(), "eos_token: expected a text");
    write_file("tokenizer_config.json", "{\"chat_template\":5}", path);
    check_refused(test_dir(), "chat_template: expected a text");
}

/* Counts that no model has. */
static void refuses_too_many(void)
{
    enum { MANY = ADDED_MAX + 1 };
    static struct token_text token[MANY];
    static uint8_t kind[MANY];
    struct tokenizer_parts p = { .path = "parts", .n_token = MANY, .token = token, .kind = kind,
                                 .bos = -1, .eos = -1, .unk = -1 };
    struct tokenizer *t;
    struct err e = { 0 };

    for (int i = 0; i < MANY; i++) {
        token[i] = (struct token_text){ "<x>", 3 };
        kind[i] = TOKEN_ADDED;
    }
    CU_ASSERT(tokenizer_build(&t, &p, &e) == -1 && !t && strstr(e.text, "16385 added or special"));
    e.code = 0;
    p.n_token = VOCAB_MAX + 1;
    CU_ASSERT(tokenizer_build(&t, &p, &e) == -1 && strstr(e.text, "expected 1 to 1048576"));
    e.code = 0;
    p.n_token = 1;
    p.n_prefix = ENDS_MAX + 1;
    CU_ASSERT(tokenizer_build(&t, &p, &e) == -1 && strstr(e.text, "more than 8 special tokens"));
}

/* Cut anywhere, a file is refused or means something; never a crash. */
static void cut_files(void)
{
    char path[4096], *text;
    struct tokenizer *t;
    size_t n;

    snprintf(path, sizeof path, "%s/tests/fixtures/tokenizer/qwen2/tokenizer.json", home_dir());
    text = file_text(path, &n);
    for (size_t k = 0; k < n; k += k < 3000 || k + 200 > n ? 13 : 1009) {
        struct err e = { 0 };
        char was = text[k];

        text[k] = 0;
        write_file("tokenizer.json", text, path);
        text[k] = was;
        CU_ASSERT(tokenizer_open(&t, path, &e) == -1 && e.code == EXIT_USAGE);
    }
    free(text);
}

static void chat_refuses(void)
{
    static const struct chat_turn odd = { "tool", "x" }, fine = { "user", "x" };
    static const struct {
        const char *config, *words;
        const struct chat_turn *turn;
        size_t n;
    } cases[] = {
        { "{}", "has no chat template", &fine, 1 },
        { "{\"chat_template\":\"{{ messages }}\"}", "not one of those known", &fine, 1 },
        { "{\"chat_template\":\"%s\"}", "needs the token <|im_start|>", &fine, 1 },
        { "{\"chat_template\":\"%s\"}", "role 'tool'", &odd, 1 },
        { "{\"chat_template\":\"%s\"}", "at least one turn", &fine, 0 },
    };
    static const char chatml[] = "{% for message in messages %}{{'<|im_start|>' + message['role'] "
                                 "+ '\\\\n' + message['content'] + "
                                 "'<|im_end|>' + '\\\\n'}}{% endfor %}{% if add_generation_prompt "
                                 "%}{{ '<|im_start|>assistant\\\\n' }}"
                                 "{% endif %}\\n";

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text_out out = { 0 };
        struct tokenizer *t;
        struct err e = { 0 };
        char path[4096], config[1000], *mark;

        snprintf(config, sizeof config, "%s", cases[i].config);
        if ((mark = strstr(config, "%s")))
            snprintf(mark, sizeof config - (size_t)(mark - config), "%s\"}", chatml);
        write_file("tokenizer.json", "{" MODEL PRE "}", path);
        write_file("tokenizer_config.json", config, path);
        CU_ASSERT_FATAL(!tokenizer_open(&t, test_dir(), &e));
        CU_ASSERT(chat_text(t, cases[i].turn, cases[i].n, &out, &e) == -1 && e.code == EXIT_USAGE);
        if (!strstr(e.text, cases[i].words)) {
            test_note("expected \"%s\" in: %s", cases[i].words, e.text);
            CU_FAIL("wrong words");
        }
        text_out_free(&out);
        tokenizer_free(t);
    }
}

/* ---- GGUF ---- */
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
        struct tokenizer *a = open_fixture(kinds[i][0]), *b = NULL;
        struct token_ids x = { 0 }, y = { 0 };
        struct bytes *file = calloc(1, sizeof *file);
        struct err e = { 0 };
        struct gguf g;
        char path[4096];
        json_t *root;

        snprintf(path, sizeof path, "%s/tests/fixtures/tokenizer/%s/tokenizer.json", home_dir(),
                 kinds[i][0]);
        root = json_load_file(path, 0, NULL);
        CU_ASSERT_FATAL(root && file);
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

/* One key changed at a time. */
static void gguf_refuses(void)
{
    static const struct {
        const char *model, *pre, *merge, *words;
        unsigned n_type;
        uint64_t type;
    } cases[] = {
        { "llama", "gpt-2", "a b", "'llama': only byte-level BPE", 3, 1 },
        { "gpt2", "deepseek", "a b", "'deepseek': this pre-tokenizer is not known", 3, 1 },
        { "gpt2", "gpt-2", "ab", "'ab': expected two tokens", 3, 1 },
        { "gpt2", "gpt-2", "a b c", "'a b c': expected two tokens", 3, 1 },
        { "gpt2", "gpt-2", "a z", "merge 0: 'z' is no plain token", 3, 1 },
        { "gpt2", "gpt-2", "a b", "2 entries for 3 tokens", 2, 1 },
        { "gpt2", "gpt-2", "a b", "token 0 has type 7", 3, 7 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes *b = calloc(1, sizeof *b);
        struct tokenizer *t;
        struct err e = { 0 };
        struct gguf g;

        CU_ASSERT_PTR_NOT_NULL_FATAL(b);
        put(b, 0x46554747, 4);
        put(b, 3, 4);
        put(b, 0, 8);
        put(b, 5, 8);
        put_key(b, "tokenizer.ggml.model", GGUF_STRING);
        put_text(b, cases[i].model);
        put_key(b, "tokenizer.ggml.pre", GGUF_STRING);
        put_text(b, cases[i].pre);
        put_list(b, "tokenizer.ggml.tokens", GGUF_STRING, 3);
        put_text(b, "a");
        put_text(b, "b");
        put_text(b, "ab");
        put_list(b, "tokenizer.ggml.token_type", GGUF_I32, cases[i].n_type);
        for (unsigned k = 0; k < cases[i].n_type; k++)
            put(b, cases[i].type, 4);
        put_list(b, "tokenizer.ggml.merges", GGUF_STRING, 1);
        put_text(b, cases[i].merge);
        CU_ASSERT_FATAL(!gguf_open_bytes(&g, b->p, b->n, "made.gguf", &e));
        CU_ASSERT(tokenizer_from_gguf(&t, &g, &e) == -1 && !t && strstr(e.text, "made.gguf"));
        if (!strstr(e.text, cases[i].words)) {
            test_note("expected \"%s\" in: %s", cases[i].words, e.text);
            CU_FAIL("wrong words");
        }
        gguf_close(&g);
        free(b);
    }
}

static const struct test tests[] = {
    { "merges_equal_plain_ones", merges_equal_plain_ones },
    { "stream_equals_whole", stream_equals_whole },
    { "stream_holds_half_characters", stream_holds_half_characters },
    { "utf8_of_every_character", utf8_of_every_character },
    { "nfc_of_every_character", nfc_of_every_character },
    { "words_cover_anything", words_cover_anything },
    { "refuses", refuses },
    { "refuses_too_many", refuses_too_many },
    { "cut_files", cut_files },
    { "chat_refuses", chat_refuses },
    { "gguf_equals_json", gguf_equals_json },
    { "gguf_refuses", gguf_refuses },
    { NULL, NULL },
};
const struct suite suite_text = { "text", tests, 120 };
