/* test_text_files.c - a tokenizer's files are input from outside: what is wrong, too large or cut is refused with the
 * place, and so are turns that a chat template cannot say. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/home.h"
#include "models/tokenizer_gguf.h"
#include "tests/files.h"
#include "tests/test.h"
#include "text/vocab.h"

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
    { "\xef\xbb\xbf{" MODEL PRE "}", "not valid JSON" },
    { "{" MODEL PRE ",\"x\":\"\\ud800\"}", "not valid JSON" },
    { "{" MODEL PRE ",\"x\":\"\\u0000\"}", "not valid JSON" },
    { "{" MODEL PRE ",\"x\":1e400}", "not valid JSON: real number overflow" },
    { "{\"model\":{\"vocab\":{\"a\":111111111111111111111111111111111111111111111111111111111111}}}",
      "too big integer" },
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
        file_put("tokenizer.json", refused[i].text, path);
        check_refused(path, refused[i].words);
    }
    check_refused("/nowhere/tokenizer.json", "no such file; expected a Hugging Face tokenizer.json");
    check_refused("/dev/null", "not a regular file");
    file_put("tokenizer.json", "{" MODEL PRE "}", path);
    file_put("tokenizer_config.json", "{\"bos_token\":\"<s>\"}", path);
    check_refused(test_dir(), "bos_token: tokenizer.json has no such token");
    file_put("tokenizer_config.json", "{\"eos_token\":[]}", path);
    check_refused(test_dir(), "eos_token: expected a text");
    file_put("tokenizer_config.json", "{\"chat_template\":5}", path);
    check_refused(test_dir(), "chat_template: expected a text");
}

/* A fifo is refused instead of waited for, and a folder or 1 GB (sparse) under the name of each file. */
static void odd_files(void)
{
    static const char *const names[] = { "tokenizer.json", "tokenizer_config.json", "chat_template.jinja" };
    char path[4096];

    for (int i = 0; i < 3; i++) {
        file_put("tokenizer.json", "{" MODEL PRE "}", path);
        snprintf(path, sizeof path, "%s/%s", test_dir(), names[i]);
        unlink(path);
        CU_ASSERT_FATAL(!mkfifo(path, 0600));
        check_refused(test_dir(), "not a regular file");
        CU_ASSERT_FATAL(!unlink(path) && !mkdir(path, 0700));
        check_refused(test_dir(), "not a regular file");
        CU_ASSERT_FATAL(!rmdir(path));
        file_put(names[i], "{", path);
        CU_ASSERT_FATAL(!truncate(path, 1 << 30));
        check_refused(test_dir(), "1073741824 bytes; expected at most 67108864");
        unlink(path);
    }
}

/* The parser recurses: nesting ends before the stack does. */
static void deep_nesting(void)
{
    static char text[200003];
    char path[4096];

    memset(text, '[', sizeof text - 1);
    memcpy(text, "{\"a\":", 5);
    file_put("tokenizer.json", text, path);
    check_refused(path, "not valid JSON: maximum parsing depth");
}

/* Counts that no model has. */
static void refuses_too_many(void)
{
    static const struct token_text token = { "a", 1 };
    static const uint8_t kind;
    struct tokenizer_parts p = { .path = "parts", .token = &token, .kind = &kind, .bos = -1, .eos = -1, .unk = -1 };
    struct tokenizer *t;
    struct err e = { 0 };

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
    text = file_read(path, &n);
    for (size_t k = 0; k < n; k += k < 3000 || k + 200 > n ? 13 : 1009) {
        struct err e = { 0 };
        char was = text[k];

        text[k] = 0;
        file_put("tokenizer.json", text, path);
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
        file_put("tokenizer.json", "{" MODEL PRE "}", path);
        file_put("tokenizer_config.json", config, path);
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

static const struct test tests[] = {
    { "refuses", refuses },
    { "odd_files", odd_files },
    { "deep_nesting", deep_nesting },
    { "refuses_too_many", refuses_too_many },
    { "cut_files", cut_files },
    { "chat_refuses", chat_refuses },
    { NULL, NULL },
};
const struct suite suite_text_files = { "text_files", tests, 120 };
