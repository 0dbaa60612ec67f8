/* test_pretokenize.c - where texts are cut before merging, by hand from the regular expressions that text/pretokenize.c
 * quotes: one table, cuts shown as bars. And what a tokenizer.json may ask for around and inside words that none of the
 * recorded models does: ids before and after a text, a token for unknown bytes. */
#include <stdio.h>
#include <string.h>

#include "models/tokenizer_gguf.h"
#include "tests/files.h"
#include "tests/test.h"
#include "text/vocab.h"

static const struct { enum pretok kind; const char *cut; } rows[] = {
    { PRETOK_GPT2, "I|'ll| go|  | 2|nd" }, { PRETOK_GPT2, "a| \n|\n|b" }, { PRETOK_GPT2, "x|!!|1| ?!|   " },
    { PRETOK_GPT2, "I|'|LL|,| 12345" }, { PRETOK_GPT2, "a|\t|b" },
    { PRETOK_LLAMA3, "123|456|7|a| |8" }, { PRETOK_LLAMA3, "\r|abc" }, { PRETOK_LLAMA3, "\n|abc" }, { PRETOK_LLAMA3, "\tabc|!abc| abc" },
    { PRETOK_LLAMA3, "a|!\r\n\n|b" }, { PRETOK_LLAMA3, "a|!\r|b" }, { PRETOK_LLAMA3, "a| \n\n| b" }, { PRETOK_LLAMA3, "a|  \r\n|  | b" },
    { PRETOK_LLAMA3, "I|'LL|'\xc5\xbf|'S|'re" }, { PRETOK_LLAMA3, "a|   " }, { PRETOK_LLAMA3, "x| !!\n| y" },
    { PRETOK_QWEN2, "1|2|3|a|!\r\n|b" }, { PRETOK_QWEN2, "I|'Ve|\r|abc" },
    { PRETOK_SMOLLM, "ab|1|2| |3| c" }, { PRETOK_SMOLLM, "a|  |4| x" }, 
    { PRETOK_SMOLLM, "\xf0\x96\xbf\xb6|\xf0\x96\xbf\xb6" },      /* U+16FF6, a number of Unicode 17 */
    { PRETOK_GPT2, "\xf0\x96\xbf\xb6\xf0\x96\xbf\xb6" },
};

static void cuts(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[100] = "", got[200] = "";
        size_t n = 0, k;

        for (const char *p = rows[i].cut; *p; p++)
            if (*p != '|')
                text[n++] = *p;
        for (size_t at = 0; at < n; at += k) {
            k = pretok_next(rows[i].kind, text + at, n - at);
            CU_ASSERT_FATAL(k > 0 && k <= n - at);
            snprintf(got + strlen(got), sizeof got - strlen(got), "%s%.*s", at ? "|" : "", (int)k, text + at);
        }
        if (strcmp(got, rows[i].cut))
            test_note("row %zu: cut as %s; expected %s", i, got, rows[i].cut);
        CU_ASSERT_STRING_EQUAL(got, rows[i].cut);
    }
}

#define SPECIAL(id) "{\"SpecialToken\":{\"id\":\"" id "\",\"type_id\":0}}"
static const char small[] =
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"?\":3},\"merges\":[\"a b\"]%s},"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
    "\"added_tokens\":[{\"id\":4,\"content\":\"<s>\",\"special\":true},{\"id\":5,\"content\":\"</s>\",\"special\":true}],"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[" SPECIAL("<s>") ",{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
    SPECIAL("</s>") "," SPECIAL("<s>") "],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[4]},"
    "\"</s>\":{\"id\":\"</s>\",\"ids\":[5]}}}}";

static void encodes(const char *model, unsigned flags, const uint32_t *want, size_t n)
{
    struct token_ids ids = { 0 };
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    char path[4096], text[1000];

    snprintf(text, sizeof text, small, model);
    file_put("tokenizer.json", text, path);
    if (tokenizer_open(&t, path, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("refused");
    }
    CU_ASSERT_EQUAL_FATAL(tokenizer_encode(t, "abzab", 5, flags, &ids, &e), 0);
    CU_ASSERT_EQUAL_FATAL(ids.n, n);
    CU_ASSERT_EQUAL(memcmp(ids.id, want, n * sizeof *want), 0);
    token_ids_free(&ids);
    tokenizer_free(t);
}

/* z has no token: left out, or the unknown one, as the reference does. */
static void ends_and_unknown(void)
{
    encodes("", 0, (const uint32_t[]){ 2, 2 }, 2);
    encodes(",\"unk_token\":\"?\"", 0, (const uint32_t[]){ 2, 3, 2 }, 3);
    encodes("", ENCODE_ENDS, (const uint32_t[]){ 4, 2, 2, 5, 4 }, 5);
    encodes(",\"unk_token\":\"?\"", ENCODE_ENDS, (const uint32_t[]){ 4, 2, 3, 2, 5, 4 }, 6);
}

static const struct test tests[] = { { "cuts by hand", cuts }, { "ends and unknown bytes", ends_and_unknown }, { 0 } };
const struct suite suite_pretokenize = { "pretokenize", tests, 0 };
