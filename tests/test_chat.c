/* test_chat.c - templates of real checkpoints, with sections for tools: recognised by what a plain chat runs, rendered
 * as Jinja renders them (tests/fixtures/chat/make.py), refused as soon as a plain chat would run something else. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/home.h"
#include "tests/files.h"
#include "tests/test.h"
#include "text/tokenizer.h"

#define QWEN "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
#define MATH "Please reason step by step, and put your final answer within \\\\boxed{}."

static const struct kind { const char *name, *file, *form, *vocabulary, *from, *to; } kinds[] = {
    { "qwen2.5", "qwen2.5", "qwen2.5", "qwen2", NULL, NULL },
    { "qwen2.5-math", "qwen2.5", "qwen2.5", "qwen2", QWEN, MATH },
    { "qwen3", "qwen3", "qwen3", "qwen2", NULL, NULL },
    { "llama3.1", "llama3.1", "llama3.1", "llama3", NULL, NULL },
};
enum { N_KIND = sizeof kinds / sizeof *kinds };

static char *fixture(const char *folder, const char *name, const char *end, size_t *n)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/tests/fixtures/%s/%s%s", home_dir(), folder, name, end);
    return file_read(path, n);
}

/* Every `from` by `to`; malloc'ed. */
static char *replaced(const char *text, const char *from, const char *to)
{
    size_t n = 0, size = 0, step = strlen(from), more = strlen(to);
    char *out;

    for (const char *p = text; (p = strstr(p, from)); p += step)
        n++;
    CU_ASSERT_FATAL(n > 0);
    out = malloc(strlen(text) + n * more + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    for (const char *p; (p = strstr(text, from)); text = p + step) {
        memcpy(out + size, text, (size_t)(p - text));
        memcpy(out + size + (p - text), to, more);
        size += (size_t)(p - text) + more;
    }
    strcpy(out + size, text);
    return out;
}

/* A small vocabulary with this template beside it. */
static struct tokenizer *open_with(const char *vocabulary, const char *template)
{
    struct tokenizer *t;
    struct err e = { 0 };
    char path[4096], *json;
    size_t n;

    json = fixture("tokenizer", vocabulary, "/tokenizer.json", &n);
    file_put("tokenizer.json", json, path);
    free(json);
    json = fixture("tokenizer", vocabulary, "/tokenizer_config.json", &n);
    file_put("tokenizer_config.json", json, path);
    free(json);
    file_put("chat_template.jinja", template, path);
    if (tokenizer_load_json(&t, test_dir(), &e))
        test_note("%s", e.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(t);
    return t;
}

static struct tokenizer *open_kind(const struct kind *k)
{
    size_t n;
    char *text = fixture("chat", k->file, ".jinja", &n), *other = k->from ? replaced(text, k->from, k->to) : NULL;
    struct tokenizer *t = open_with(k->vocabulary, other ? other : text);

    free(other);
    free(text);
    return t;
}

static json_t *expected(void)
{
    size_t n;
    char *text = fixture("chat", "expected", ".json", &n);
    json_t *all = json_loads(text, 0, NULL);

    free(text);
    CU_ASSERT_FATAL(json_array_size(all) == 4);
    return all;
}

static size_t take_turns(const json_t *list, struct chat_turn turn[8])
{
    size_t n = json_array_size(list);

    CU_ASSERT_FATAL(n && n <= 8);
    for (size_t i = 0; i < n; i++)
        turn[i] = (struct chat_turn){ json_string_value(json_array_get(json_array_get(list, i), 0)),
                                      json_string_value(json_array_get(json_array_get(list, i), 1)) };
    return n;
}

/* As text, and as ids that decode to it: no text of a turn became a special token. */
static void check_chat(struct tokenizer *t, const json_t *one, const char *kind)
{
    const char *want = json_string_value(json_object_get(json_object_get(one, "text"), kind));
    struct chat_turn turn[8];
    struct token_ids ids = { 0 };
    struct text_out text = { 0 }, back = { 0 };
    struct err e = { 0 };
    size_t n = take_turns(json_object_get(one, "turns"), turn);

    CU_ASSERT_FATAL(want && !chat_text(t, turn, n, &text, &e) && !chat_encode(t, turn, n, &ids, &e));
    if (strcmp(text.p, want))
        test_note("%s: \"%s\", expected \"%s\"", kind, text.p, want);
    CU_ASSERT_STRING_EQUAL(text.p, want);
    CU_ASSERT_FATAL(!tokenizer_decode(t, ids.id, ids.n, DECODE_SPECIAL, &back, &e));
    CU_ASSERT_STRING_EQUAL(back.p, want);
    text_out_free(&text);
    text_out_free(&back);
    token_ids_free(&ids);
}

static void renders_as_jinja(void)
{
    json_t *all = expected();

    for (size_t k = 0; k < N_KIND; k++) {
        struct tokenizer *t = open_kind(&kinds[k]);

        CU_ASSERT_PTR_NOT_NULL_FATAL(tokenizer_chat_form(t));
        CU_ASSERT_STRING_EQUAL(tokenizer_chat_form(t), kinds[k].form);
        for (size_t i = 0; i < json_array_size(all); i++)
            check_chat(t, json_array_get(all, i), kinds[k].name);
        tokenizer_free(t);
    }
    json_decref(all);
}

/* The prompt as Meta's documentation of Llama 3.1 prints it, for a system and a user turn. */
static void llama_as_documented(void)
{
    static const struct chat_turn turns[] = { { "system", "You are a helpful assistant" },
                                              { "user", "What is the capital of France?" } };
    struct tokenizer *t = open_kind(&kinds[3]);
    struct text_out text = { 0 };
    struct err e = { 0 };

    CU_ASSERT_FATAL(!chat_text(t, turns, 2, &text, &e));
    CU_ASSERT_STRING_EQUAL(text.p, "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
                                   "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
                                   "You are a helpful assistant<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
                                   "What is the capital of France?<|eot_id|>"
                                   "<|start_header_id|>assistant<|end_header_id|>\n\n");
    CU_ASSERT(tokenizer_ends(t, (uint32_t)tokenizer_find(t, "<|eot_id|>")));
    text_out_free(&text);
    tokenizer_free(t);
}

/* What a plain chat runs was changed (form NULL: not known any more), or only what tools run, or how it is laid out. */
static void one_change(void)
{
    static const struct { int kind; const char *from, *to, *form; } cases[] = {
        { 0, "message.content + '<|im_end|>'", "message.content + '<|im_end|> '", NULL },
        { 0, "'\\n' + message.content + '<|im_end|>'", "'\\n' + message.content|trim + '<|im_end|>'", NULL },
        { 0, "<|im_start|>assistant\\n' }}", "<|im_start|>assistant\\n<think>\\n' }}", NULL },
        { 0, "system\\n" QWEN, "system\\n' + today + '", NULL },
        { 0, "system\\n" QWEN, "system\\nIt\\'s", "qwen2.5" },
        { 0, "system\\n" QWEN, "system\\nIt\\x27s", NULL },
        { 0, "{%- if tools %}", "{{- bos_token }}{%- if tools %}", NULL },
        { 0, "<tool_response>", "<answer of a tool>", "qwen2.5" },
        { 0, "{%- for message in messages %}", "\t{#- turns #}\n\n{%- for message in messages %}", "qwen2.5" },
        { 0, "{%- for message in messages %}", "words{%- for message in messages %}", NULL },
        { 0, "{%- for message in messages %}", "{# turns #}{%- for message in messages %}", NULL },
        { 0, "    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}", "    {{- '<|im_start|>assistant\\n' }}", NULL },
        { 0, "    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
          "    {{- '<|im_start|>assistant\n' }}\n{%- endif %}more", NULL },
        { 0, "\\n", "\n", "qwen2.5" },
        { 2, "not(message.content.startswith", "not (message.content.startswith", "qwen3" },
        { 2, "enable_thinking is false", "enable_thinking is true", NULL },
        { 2, ".split('</think>')[-1].lstrip('\\n')", ".split('</think>')[-1]", NULL },
        { 3, "26 Jul 2024", "27 Jul 2024", NULL },
        { 3, "December 2023", "December 2024", NULL },
        { 3, "message['content'] | trim + ", "message['content'] + ", NULL },
        { 3, "{{- system_message }}", "{{- system_message|upper }}", NULL },
        { 3, "a tool said: ", "", "llama3.1" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n;
        const struct kind *k = &kinds[cases[i].kind];
        char *text = fixture("chat", k->file, ".jinja", &n), *other = replaced(text, cases[i].from, cases[i].to);
        struct tokenizer *t = open_with(k->vocabulary, other);
        const char *form = tokenizer_chat_form(t);

        if (!form != !cases[i].form || (form && strcmp(form, cases[i].form))) {
            test_note("case %zu, '%s' for '%s': form %s", i, cases[i].to, cases[i].from, form ? form : "none");
            CU_FAIL("another form");
        }
        tokenizer_free(t);
        free(other);
        free(text);
    }
}

#define TURNS "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}" \
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
#define ALL "{% for message in messages %}"
#define SYSTEM(text) "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n" text "<|im_end|>\n' }}{% endif %}"

/* The older templates are compared whole, up to their last byte; a system text is what its quotes say. */
static void chatml_whole(void)
{
    static const struct { const char *template, *form, *system; } cases[] = {
        { ALL TURNS, "chatml", "" }, { ALL TURNS "\n", "chatml", "" }, { ALL TURNS "more", NULL, NULL },
        { ALL TURNS "{{ 'more' }}", NULL, NULL }, { ALL SYSTEM("Be kind.") TURNS, "chatml", "Be kind." },
        { ALL SYSTEM("It\\'s \\\\ \\\"x\\\"\\nnew") TURNS, "chatml", "It's \\ \"x\"\nnew" },
        { ALL SYSTEM("Be kind.") TURNS "more", NULL, NULL }, { "more" ALL TURNS, NULL, NULL },
    };
    static const struct chat_turn turn = { "user", "a" };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer *t = open_with("qwen2", cases[i].template);
        const char *form = tokenizer_chat_form(t);
        struct text_out text = { 0 };
        struct err e = { 0 };
        char want[200];

        if (!form != !cases[i].form || (form && strcmp(form, cases[i].form))) {
            test_note("case %zu: form %s", i, form ? form : "none");
            CU_FAIL("another form");
        } else if (form) {
            snprintf(want, sizeof want, "%s%s%s<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n",
                     *cases[i].system ? "<|im_start|>system\n" : "", cases[i].system, *cases[i].system ? "<|im_end|>\n" : "");
            CU_ASSERT_EQUAL(chat_text(t, &turn, 1, &text, &e), 0);
            CU_ASSERT(text.n == strlen(want) && !memcmp(text.p, want, text.n));
        }
        text_out_free(&text);
        tokenizer_free(t);
    }
}

static void qwen3_answers_users(void)
{
    static const struct chat_turn turns[] = { { "user", "a" }, { "assistant", "b" } };
    struct tokenizer *t = open_kind(&kinds[2]);
    struct text_out text = { 0 };
    struct err e = { 0 };

    CU_ASSERT(chat_text(t, turns, 2, &text, &e) == -1 && e.code == EXIT_USAGE && strstr(e.text, "answers a user"));
    text_out_free(&text);
    tokenizer_free(t);
}

/* Long, and made to be walked over again and again: known or not, it takes no time. */
static void hostile_is_quick(void)
{
    static const char *const units[] = { "{{- system_message }}{#- ", "{%- else %}   \n", "{#-", "{%- if tools %}",
                                         "\\",
                                         "{%- if tools %}{%- else %}{%- if messages[0]['role'] == 'system' %}" };

    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t unit = strlen(units[i]), n = 65000 / unit * unit;
        char *text = malloc(n + 40);
        struct tokenizer *t;

        CU_ASSERT_PTR_NOT_NULL_FATAL(text);
        strcpy(text, i & 1 ? "{%- if tools %}" : "{{- bos_token }}");
        for (size_t at = 0, from = strlen(text); at < n; at += unit)
            strcpy(text + from + at, units[i]);
        t = open_with("qwen2", text);
        CU_ASSERT_PTR_NULL(tokenizer_chat_form(t));
        tokenizer_free(t);
        free(text);
    }
}

static const struct test tests[] = {
    { "renders_as_jinja", renders_as_jinja }, { "llama_as_documented", llama_as_documented },
    { "one_change", one_change }, { "chatml_whole", chatml_whole }, { "qwen3_answers_users", qwen3_answers_users },
    { "hostile_is_quick", hostile_is_quick }, { NULL, NULL },
};
const struct suite suite_chat = { "chat", tests, 60 };
