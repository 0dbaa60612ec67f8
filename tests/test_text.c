/* test_text.c - what must hold of text/ for any vocabulary: merging against a plain implementation,
 * streams against the whole, scanners and UTF-8 against every byte. Files that must be refused are
 * test_text_files.c's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

/* ---- added tokens: the list that is narrowed against "try each, keep the longest" ---- */
static void added_equal_plain_ones(void)
{
    enum { MANY = 60, LONG = 300 };
    struct rng r;
    unsigned bad = 0, found = 0;

    rng_seed(&r, 17);
    for (int round = 0; round < 300; round++) {
        static char text[MANY][8];
        struct token_text token[MANY + 2] = { { "a", 1 }, { "b", 1 } };
        uint8_t kind[MANY + 2] = { TOKEN_PLAIN, TOKEN_PLAIN };
        struct tokenizer_parts p = { .path = "toy", .n_token = 2, .token = token, .kind = kind,
                                     .bos = -1, .eos = -1, .unk = -1 };
        struct token_ids got = { 0 };
        struct tokenizer *t;
        struct err e = { 0 };
        char s[LONG];
        size_t n = 0;

        for (uint32_t i = 0, many = (uint32_t)rng_below(&r, MANY); i < many; i++, p.n_token++) {
            token[p.n_token] = (struct token_text){ text[i], 1 + rng_below(&r, sizeof text[i]) };
            kind[p.n_token] = TOKEN_ADDED;
            for (size_t k = 0; k < token[p.n_token].n; k++)
                text[i][k] = (char)('a' + rng_below(&r, 2));
        }
        for (int i = 0; i < LONG; i++)
            s[i] = (char)('a' + rng_below(&r, 2));
        CU_ASSERT_FATAL(!tokenizer_build(&t, &p, &e) && !tokenizer_encode(t, s, LONG, 0, &got, &e));
        for (size_t at = 0; at < LONG; n++) {
            uint32_t want = s[at] == 'b';
            size_t best = 0;

            for (uint32_t i = 2; i < p.n_token; i++)
                if (token[i].n > best && token[i].n <= LONG - at && !memcmp(token[i].p, s + at, token[i].n)) {
                    want = i;
                    best = token[i].n;
                }
            bad += n >= got.n || got.id[n] != want;
            found += best > 0;
            at += best ? best : 1;
        }
        bad += n != got.n;
        token_ids_free(&got);
        tokenizer_free(t);
    }
    CU_ASSERT_EQUAL(bad, 0);
    CU_ASSERT(found > 10000);
}

/* ---- sizes that only an attacker has: the time must follow the text, not text times tokens ---- */
static uint64_t cpu_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A vocabulary of nothing but added tokens, all like what the text repeats but for their last letters. */
static void added_without_end(void)
{
    enum { MANY = VOCAB_MAX, ROOM = 24, LONG = 1 << 20 };
    struct token_text *token = calloc(MANY, sizeof *token);
    uint8_t *kind = malloc(MANY);
    char *text = malloc((size_t)MANY * ROOM), *s = malloc(LONG);
    struct tokenizer_parts p = { .path = "toy", .n_token = MANY, .token = token, .kind = kind,
                                 .bos = -1, .eos = -1, .unk = -1 };
    struct token_ids got = { 0 };
    struct tokenizer *t;
    struct err e = { 0 };
    uint64_t before = cpu_ms();

    CU_ASSERT_FATAL(token && kind && text && s);
    memset(kind, TOKEN_ADDED, MANY);
    kind[0] = TOKEN_PLAIN;
    token[0] = (struct token_text){ "a", 1 };
    for (uint32_t i = 1; i < MANY; i++) {
        char *at = text + (size_t)i * ROOM;

        token[i] = (struct token_text){ at, (size_t)snprintf(at, ROOM, "aaaaaaaaaaaa%u", i) };
    }
    memset(s, 'a', LONG);
    CU_ASSERT_FATAL(!tokenizer_build(&t, &p, &e) && !tokenizer_encode(t, s, LONG, 0, &got, &e));
    CU_ASSERT(got.n == LONG && got.id[0] == 0);
    before = cpu_ms() - before;
    test_note("2^20 added tokens, 1 MiB of one letter: %u ms", (unsigned)before);
    CU_ASSERT(before < 30000);
    token_ids_free(&got);
    tokenizer_free(t);
    free(token);
    free(kind);
    free(text);
    free(s);
}

/* One word of 256 KiB, as many blanks, line ends, marks in the wrong order: for every pre-tokenizer. */
static void long_texts(void)
{
    static const char *const unit[] = { "a", " ", "\n", " \n", "'", "1", "\xcc\x95\xcc\x80", "\xff", "<|",
                                        "\xe4\xb8\xad" };
    static const char *const kinds[] = { "gpt2", "llama3", "qwen2" };
    enum { LONG = 1 << 18 };
    char *s = malloc(LONG);
    uint64_t most = 0;

    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    for (size_t k = 0; k < 3; k++) {
        struct tokenizer *t = open_fixture(kinds[k]);

        for (size_t u = 0; u < sizeof unit / sizeof *unit; u++) {
            struct token_ids got = { 0 };
            struct err e = { 0 };
            uint64_t before = cpu_ms();

            for (size_t i = 0, n = strlen(unit[u]); i < LONG; i++)
                s[i] = unit[u][i % n];
            CU_ASSERT(!tokenizer_encode(t, s, LONG, ENCODE_SPECIAL, &got, &e) && got.n);
            before = cpu_ms() - before;
            most = before > most ? before : most;
            token_ids_free(&got);
        }
        tokenizer_free(t);
    }
    test_note("256 KiB of the same: at most %u ms", (unsigned)most);
    CU_ASSERT(most < 10000);
    free(s);
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

static const struct test tests[] = {
    { "merges_equal_plain_ones", merges_equal_plain_ones },
    { "added_equal_plain_ones", added_equal_plain_ones },
    { "added_without_end", added_without_end },
    { "long_texts", long_texts },
    { "stream_equals_whole", stream_equals_whole },
    { "stream_holds_half_characters", stream_holds_half_characters },
    { "utf8_of_every_character", utf8_of_every_character },
    { "nfc_of_every_character", nfc_of_every_character },
    { "words_cover_anything", words_cover_anything },
    { NULL, NULL },
};
const struct suite suite_text = { "text", tests, 120 };
