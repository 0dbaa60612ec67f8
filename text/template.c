/* template.c - which chat form a model's template is.
 *
 * A template is a program in Jinja from outside: it is not run but compared with those that are known. The older ones
 * are compared whole. The newer ones carry sections for tools, which a plain chat never enters; those are stepped over,
 * and what a plain chat does run is compared word for word, so a template that answers otherwise is no match.
 * The patterns are of SmolLM2-Instruct, Qwen2-Instruct, Qwen2.5 (base, Instruct, Coder, Math), Qwen3 and Llama 3.0
 * to 3.3 Instruct, and of ChatML without a system text of its own. Of Llama 3.1 and later, only the expressions that
 * write something are compared. Mistral's are absent: their tokenizers are not byte-level BPE of a known kind.
 *
 * In a pattern, SKIP stands for any text up to what follows, and SYSTEM for the form's own system text, which is
 * taken from the template. Blanks and comments between tags that strip them ({%- and {{-) do not count. */
#include <string.h>

#include "text/vocab.h"

#define SKIP "\1"
#define SYSTEM "\2"

#define CHATML_TURNS                                                                            \
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% " \
    "endfor %}"                                                                                 \
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
#define DEFAULT_SYSTEM(text)                                                               \
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}" \
    "{{ '<|im_start|>system\n" text "<|im_end|>\n' }}{% endif %}"

#define TOOLS_OR "{%- if tools %}" SKIP "{%- else %}"
#define QWEN25_SYSTEM                                                       \
    "{%- if messages[0]['role'] == 'system' %}"                             \
    "{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}" \
    "{%- else %}{{- '<|im_start|>system\n" SYSTEM "<|im_end|>\n' }}{%- endif %}{%- endif %}"
#define QWEN25_TURNS                                                                              \
    "{%- for message in messages %}"                                                              \
    "{%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) or "    \
    "(message.role == \"assistant\" and not message.tool_calls) %}"                               \
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"         \
    "{%- elif message.role == \"assistant\" %}" SKIP                                              \
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"

#define QWEN3_SYSTEM                                                                                 \
    "{%- if messages[0].role == 'system' %}"                                                         \
    "{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{%- endif %}{%- endif %}" SKIP
#define QWEN3_TURNS                                                                              \
    "{%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) %}"    \
    "{{- '<|im_start|>' + message.role + '\n' + " SKIP "content + '<|im_end|>' + '\n' }}"        \
    "{%- elif message.role == \"assistant\" %}" SKIP ".split('</think>')[-1].lstrip('\n') %}" SKIP \
    "{%- if loop.index0 > ns.last_query_index %}" SKIP                                           \
    "{%- else %}{{- '<|im_start|>' + message.role + '\n' + content }}{%- endif %}" SKIP          \
    "{%- endfor %}"
#define QWEN3_ANSWER                                                                    \
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"                   \
    "{%- if enable_thinking is defined and enable_thinking is false %}"                 \
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"

#define LLAMA3_TURNS                                                                             \
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "      \
    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | "   \
    "trim + "                                                                                    \
    "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}" \
    "{{ content }}{% endfor %}"
#define LLAMA3_ANSWER "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
#define LLAMA31                                                                                \
    "{{- bos_token }}" SKIP "date_string = \"26 Jul 2024\"" SKIP                               \
    "system_message = messages[0]['content']|trim" SKIP "system_message = \"\"" SKIP           \
    "{{- \"<|start_header_id|>system<|end_header_id|>\n\n\" }}" SKIP                           \
    "{{- \"Cutting Knowledge Date: December 2023\n\" }}{{- \"Today Date: \" + date_string + "  \
    "\"\n\n\" }}" SKIP "{{- system_message }}{{- \"<|eot_id|>\" }}" SKIP                       \
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ "                  \
    "message['content'] | trim + '<|eot_id|>' }}" SKIP "{%- if add_generation_prompt %}"       \
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"

static const struct { enum chat_form form; const char *text; } templates[] = {
    { CHAT_SMOLLM2, DEFAULT_SYSTEM("You are a helpful AI assistant named SmolLM, trained by Hugging Face") CHATML_TURNS },
    { CHAT_QWEN2, DEFAULT_SYSTEM("You are a helpful assistant.") CHATML_TURNS },
    { CHAT_CHATML, DEFAULT_SYSTEM(SYSTEM) CHATML_TURNS },
    { CHAT_CHATML, "{% for message in messages %}" CHATML_TURNS },
    { CHAT_QWEN25, TOOLS_OR QWEN25_SYSTEM QWEN25_TURNS },
    { CHAT_QWEN3, TOOLS_OR QWEN3_SYSTEM QWEN3_TURNS QWEN3_ANSWER },
    { CHAT_LLAMA3, LLAMA3_TURNS "{% if add_generation_prompt %}" LLAMA3_ANSWER "{% endif %}" },
    { CHAT_LLAMA3, LLAMA3_TURNS LLAMA3_ANSWER },
    { CHAT_LLAMA31, LLAMA31 },
};

enum { TEMPLATE_MAX = 1 << 16, SYSTEM_MAX = 4096 };        /* bytes; longer ones are not known */

struct text { const char *p; size_t n; };

static bool stands(const struct text *t, size_t i, const char *word)
{
    size_t n = strlen(word);

    return i <= t->n && t->n - i >= n && !memcmp(t->p + i, word, n);
}

/* Past blanks and comments that a tag with '-' strips. */
static size_t past_blanks(const struct text *t, size_t i)
{
    for (;;) {
        while (i < t->n && (t->p[i] == ' ' || t->p[i] == '\n' || t->p[i] == '\t' || t->p[i] == '\r'))
            i++;
        if (!stands(t, i, "{#-"))
            return i;
        while (i < t->n && !stands(t, i, "#}"))
            i++;
        i = i < t->n ? i + 2 : i;
    }
}

/* A system text inside quotes, up to the end of its turn. The bytes used, or 0. */
static size_t take_system(const struct text *t, size_t i, struct token_text *system)
{
    size_t n = 0;

    for (; n < SYSTEM_MAX && i + n < t->n && !stands(t, i + n, "<|im_end|>"); n++) {
        const char *c = t->p + i + n;

        if (*c == '\'')
            return 0;                              /* put together from several, or another text */
        if (*c == '\\' && (i + ++n >= t->n || !memchr("n\\'\"", c[1], 4)))
            return 0;
    }
    *system = (struct token_text){ t->p + i, n };
    return stands(t, i + n, "<|im_end|>") ? n : 0;
}

/* A pattern up to its end or the next SKIP. *at moves past what it matched. A line end may be spelled. */
static bool piece(const char *pattern, size_t n, const struct text *t, size_t *at, struct token_text *system)
{
    size_t i = *at;

    for (size_t k = 0; k < n; k++) {
        const char *want = pattern + k;

        if (k && n - k > 2 && *want == '{' && want[2] == '-')
            i = past_blanks(t, i);
        if (*want == *SYSTEM) {
            size_t used = take_system(t, i, system);

            if (!used)
                return false;
            i += used;
        } else if (*want == '\n' && stands(t, i, "\\n")) {
            i += 2;
        } else if (i < t->n && t->p[i] == *want) {
            i++;
        } else {
            return false;
        }
    }
    *at = i;
    return true;
}

/* The first piece begins the template, the last ends it, the others follow in order. */
static bool same(const char *pattern, const struct text *t, struct token_text *system)
{
    size_t at = pattern[2] == '-' ? past_blanks(t, 0) : 0;
    bool first = true;

    for (;; first = false) {
        size_t n = strcspn(pattern, SKIP), end = at;
        bool last = !pattern[n], found = piece(pattern, n, t, &end, system) && (!last || end == t->n);

        for (; !found && !first && at < t->n; found = piece(pattern, n, t, &end, system) && (!last || end == t->n))
            end = ++at;
        if (!found || last)
            return found;
        at = end;
        pattern += n + 1;
    }
}

enum chat_form chat_recognise(const char *text, size_t n, struct token_text *system)
{
    struct text t = { text, n };

    while (t.n && (text[t.n - 1] == '\n' || text[t.n - 1] == ' '))
        t.n--;
    for (size_t i = 0; t.n <= TEMPLATE_MAX && i < sizeof templates / sizeof *templates; i++) {
        *system = (struct token_text){ 0 };
        if (same(templates[i].text, &t, system))
            return templates[i].form;
    }
    *system = (struct token_text){ 0 };
    return CHAT_UNKNOWN;
}

/* As it stands in quotes: \n, \\, \' and \" are one character each. */
int chat_take(struct tokenizer *t, const char *text, size_t n)
{
    struct token_text raw;
    char *to;

    t->form = chat_recognise(text, n, &raw);
    if (!raw.p)
        return 0;
    if (!(to = arena_get(&t->arena, raw.n + 1, 1)))
        return -1;
    t->system = to;
    for (size_t i = 0; i < raw.n; i++)
        *to++ = raw.p[i] != '\\' ? raw.p[i] : raw.p[++i] == 'n' ? '\n' : raw.p[i];
    *to = 0;
    return 0;
}
