/* tokenizer.c - libFuzzer target: what comes from outside into text/ and its GGUF loader.
 *
 * The first byte chooses: 0 text against a pre-tokenizer and a small vocabulary (words cover the
 * text, decoding gives the repaired text back, a stream gives what decoding gives), 1 a
 * tokenizer.json, 2 a GGUF file, 3 a chat template. A property that does not hold aborts, as a
 * crash does.
 *
 * Run: .ci/fuzz 60 tokenizer. Seeds: tests/fuzz/make_tokenizer.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "models/tokenizer_gguf.h"
#include "text/vocab.h"

#define HOLDS(x) do { if (!(x)) { fprintf(stderr, "does not hold: %s\n", #x); abort(); } } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All bytes, pairs of letters and blanks, one special and one added token. */
static struct tokenizer *small(enum pretok kind)
{
    static char spell[256][4];
    static struct token_text token[264], merge[8];
    static uint8_t kinds[264];
    static const char *const pairs[][2] = {
        { "t", "h" }, { "e", "r" }, { "\xc4\xa0", "t" }, { "a", "a" }
    };
    static char joined[4][8];
    struct tokenizer_parts p = { .path = "fuzz",
                                 .pretok = kind,
                                 .nfc = kind == PRETOK_QWEN2,
                                 .ignore_merges = kind == PRETOK_LLAMA3,
                                 .token = token,
                                 .kind = kinds,
                                 .merge = merge,
                                 .bos = -1,
                                 .eos = -1,
                                 .unk = -1 };
    struct tokenizer *t;
    struct err e = { 0 };
    unsigned high = 256;

    for (unsigned b = 0; b < 256; b++) {
        bool own = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

        token[b] = (struct token_text){ spell[b], utf8_put(own ? b : high++, spell[b]) };
    }
    p.n_token = 256;
    for (unsigned i = 0; i < 4; i++) {
        merge[2 * i] = (struct token_text){ pairs[i][0], strlen(pairs[i][0]) };
        merge[2 * i + 1] = (struct token_text){ pairs[i][1], strlen(pairs[i][1]) };
        snprintf(joined[i], sizeof joined[i], "%s%s", pairs[i][0], pairs[i][1]);
        token[p.n_token++] = (struct token_text){ joined[i], strlen(joined[i]) };
    }
    p.n_merge = 4;
    kinds[p.n_token] = TOKEN_SPECIAL;
    token[p.n_token++] = (struct token_text){ "<|end|>", 7 };
    kinds[p.n_token] = TOKEN_ADDED;
    token[p.n_token++] = (struct token_text){ "<x>", 3 };
    HOLDS(!tokenizer_build(&t, &p, &e));
    return t;
}

static void fuzz_text(const char *text, size_t n)
{
    static struct tokenizer *kinds[PRETOK_N];
    enum pretok kind = n ? (enum pretok)((unsigned char)text[0] % PRETOK_N) : PRETOK_GPT2;
    struct text_out want = { 0 }, got = { 0 }, parts = { 0 };
    struct token_ids ids = { 0 };
    struct decode_stream s;
    struct err e = { 0 };

    if (!kinds[kind])
        kinds[kind] = small(kind);
    HOLDS(!tokenizer_encode(kinds[kind], text, n, n & 1, &ids, &e));
    HOLDS(!tokenizer_decode(kinds[kind], ids.id, ids.n, DECODE_SPECIAL, &got, &e));
    HOLDS(!utf8_repair(text, n, &want) && utf8_valid(got.p, got.n) == got.n);
    if (kind != PRETOK_QWEN2)
        HOLDS(got.n == want.n && (!got.n || !memcmp(got.p, want.p, got.n)));
    decode_start(&s, kinds[kind], DECODE_SPECIAL);
    for (size_t i = 0; i < ids.n; i++)
        HOLDS(!decode_push(&s, ids.id[i], &parts, &e));
    HOLDS(!decode_end(&s, &parts, &e));
    HOLDS(parts.n == got.n && (!got.n || !memcmp(parts.p, got.p, got.n)));
    token_ids_free(&ids);
    text_out_free(&want);
    text_out_free(&got);
    text_out_free(&parts);
}

/* What was accepted must work. */
static void use(struct tokenizer *t)
{
    static const char text[] = "It's 123 \xc3\xa9\xcc\x81\n <x>\xff";
    struct chat_turn turn = { "user", text };
    struct token_ids ids = { 0 };
    struct text_out out = { 0 };
    struct err e = { 0 };

    HOLDS(!tokenizer_encode(t, text, sizeof text, ENCODE_ENDS | ENCODE_SPECIAL, &ids, &e));
    HOLDS(!tokenizer_decode(t, ids.id, ids.n, 0, &out, &e));
    HOLDS(utf8_valid(out.p, out.n) == out.n);
    if (chat_encode(t, &turn, 1, &ids, &e))
        HOLDS(e.code && e.text[0]);
    for (size_t i = 0; i < ids.n; i++)
        HOLDS(ids.id[i] < tokenizer_vocab(t));
    token_ids_free(&ids);
    text_out_free(&out);
    tokenizer_free(t);
}

static void fuzz_json(const char *text, size_t n)
{
    int fd = memfd_create("tokenizer.json", 0);
    struct tokenizer *t;
    struct err e = { 0 };
    char path[64];

    HOLDS(fd >= 0 && write(fd, text, n) == (ssize_t)n);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (tokenizer_load_json(&t, path, &e))
        HOLDS(!t && e.code == EXIT_USAGE && e.text[0] && !strchr(e.text, '\n'));
    else
        use(t);
    close(fd);
}

static void fuzz_gguf(const char *text, size_t n)
{
    struct tokenizer *t;
    struct err e = { 0 };
    struct gguf g;

    if (gguf_open_bytes(&g, text, n, "fuzz.gguf", &e))
        return;
    if (tokenizer_from_gguf(&t, &g, &e))
        HOLDS(!t && e.code == EXIT_USAGE && e.text[0] && !strchr(e.text, '\n'));
    else
        use(t);
    gguf_close(&g);
}

static void fuzz_template(const char *text, size_t n)
{
    struct token_text system;
    enum chat_form form = chat_recognise(text, n, &system);

    HOLDS(form >= CHAT_UNKNOWN && form < CHAT_N);
    HOLDS(!system.p || (form != CHAT_UNKNOWN && system.p > text && system.n <= (size_t)(text + n - system.p)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1;

    if (!size)
        return 0;
    switch (data[0] % 4) {
    case 0: fuzz_text(text, size - 1); break;
    case 1: fuzz_json(text, size - 1); break;
    case 2: fuzz_gguf(text, size - 1); break;
    default: fuzz_template(text, size - 1);
    }
    return 0;
}
