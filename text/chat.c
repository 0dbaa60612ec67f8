/* chat.c - a conversation as the prompt that a chat model was tuned on.
 *
 * Models come with a template in a language of its own (Jinja), which is a program from outside: it
 * is not interpreted but recognised by its text (template.c), and then done here. A template that is
 * not known is refused, and so is what the forms have besides turns of system, user and assistant:
 * tools, images.
 *
 * Llama 3.1 and later open with two dates. The second is the day of asking where the template can
 * know it; here it is always the template's own fallback, so that a prompt is the same every day.
 *
 * Stays true: special tokens come from the form alone. A turn that writes "<|im_end|>" gets its
 * letters, where rendering to text and encoding that would let it end its own turn. */
#include <string.h>

#include "text/vocab.h"

static const struct form {
    const char *name, *system, *start, *middle, *end, *gap, *turn_end;
} forms[CHAT_N] = {
    [CHAT_SMOLLM2] = { "smollm2", "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
                       "<|im_start|>", NULL, "\n", "\n", "<|im_end|>" },
    [CHAT_QWEN2] = { "qwen2", "You are a helpful assistant.", "<|im_start|>", NULL, "\n", "\n", "<|im_end|>" },
    [CHAT_QWEN25] = { "qwen2.5", NULL, "<|im_start|>", NULL, "\n", "\n", "<|im_end|>" },
    [CHAT_QWEN3] = { "qwen3", NULL, "<|im_start|>", NULL, "\n", "\n", "<|im_end|>" },
    [CHAT_CHATML] = { "chatml", NULL, "<|im_start|>", NULL, "\n", "\n", "<|im_end|>" },
    [CHAT_LLAMA3] = { "llama3", NULL, "<|start_header_id|>", "<|end_header_id|>", "\n\n", "",
                      "<|eot_id|>" },
    [CHAT_LLAMA31] = { "llama3.1", "", "<|start_header_id|>", "<|end_header_id|>", "\n\n", "",
                       "<|eot_id|>" },
};
#define LLAMA31_DATES "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

const char *tokenizer_chat_form(const struct tokenizer *t)
{
    return forms[t->form].name;
}

int32_t chat_end(const struct tokenizer *t)
{
    return forms[t->form].turn_end ? tokenizer_find(t, forms[t->form].turn_end) : TOKEN_NONE;
}

/* Where the prompt goes: ids, with text held back until the next mark, since words may not be cut
 * at the seams of its parts; or text alone. */
struct prompt {
    struct tokenizer *t;           /* NULL: text only */
    const struct tokenizer *names;
    struct text_out *text;
    struct token_ids *ids;
    struct err *e;
};

static int nomem(const struct prompt *p)
{
    return err_set(p->e, EXIT_RUN_FAILED, "tokenizer: out of memory for a chat prompt");
}

static int put(struct prompt *p, const char *s, size_t n)
{
    return out_add(p->text, s, n) ? nomem(p) : 0;
}

static int put_str(struct prompt *p, const char *s)
{
    return put(p, s, strlen(s));
}

static int flush(struct prompt *p)
{
    if (p->t && p->text->n && encode_text(p->t, p->text->p, p->text->n, false, p->ids))
        return nomem(p);
    if (p->t)
        p->text->n = 0;
    return 0;
}

static int mark_id(struct prompt *p, int32_t id, const char *name)
{
    size_t n;
    const char *bytes;

    if (id == TOKEN_NONE)
        return err_set(p->e, EXIT_USAGE,
                       "%s: its chat form needs the token %s, which the vocabulary "
                       "lacks; give the prompt as text instead",
                       p->names->about, name);
    bytes = tokenizer_bytes(p->names, (uint32_t)id, &n);
    if (!p->t)
        return put(p, bytes, n);
    return flush(p) || (ids_add(p->ids, (uint32_t)id) && nomem(p)) ? -1 : 0;
}

static int mark(struct prompt *p, const char *name)
{
    return mark_id(p, tokenizer_find(p->names, name), name);
}

/* As Jinja's trim: Unicode blanks at both ends. */
static void trim(const char **s, size_t *n)
{
    unsigned used;
    size_t end = 0;

    while (*n && char_class(utf8_next(*s, *n, &used)) == CHAR_SPACE) {
        *s += used;
        *n -= used;
    }
    for (size_t i = 0; i < *n; i += used)
        if (char_class(utf8_next(*s + i, *n - i, &used)) != CHAR_SPACE)
            end = i + used;
    *n = end;
}

static int header(struct prompt *p, const struct form *f, const char *role)
{
    return mark(p, f->start) || put_str(p, role) || (f->middle && mark(p, f->middle)) ||
           put_str(p, f->end) ? -1 : 0;
}

/* What was thought before an answer is not shown again (Qwen3). */
static const char *answer(const char *text)
{
    static const char end[] = "</think>";

    for (const char *at; (at = strstr(text, end)); text += strspn(text, "\n"))
        text = at + sizeof end - 1;
    return text;
}

static int turn(struct prompt *p, const struct form *f, const char *role, const char *text, bool opens)
{
    enum chat_form form = p->names->form;
    size_t n;

    if (form == CHAT_QWEN3 && !strcmp(role, "assistant"))
        text = answer(text);
    n = strlen(text);
    if (form == CHAT_LLAMA3 || form == CHAT_LLAMA31)
        trim(&text, &n);
    return header(p, f, role) || (opens && form == CHAT_LLAMA31 && put_str(p, LLAMA31_DATES)) || put(p, text, n) ||
           mark(p, f->turn_end) || put_str(p, f->gap) ? -1 : 0;
}

int chat_check(const struct tokenizer *t, struct err *e)
{
    if (t->form == CHAT_NONE)
        return err_set(e, EXIT_USAGE, "%s: has no chat template: a base model; give the prompt as "
                       "text, without chat", t->about);
    if (t->form != CHAT_UNKNOWN)
        return 0;
    return err_set(e, EXIT_USAGE, "%s: its chat template is not one of those known (smollm2, qwen2, qwen2.5, qwen3, "
                   "chatml, llama3, llama3.1), and templates are not interpreted; give the prompt as text, with the "
                   "special tokens in it", t->about);
}

static int check(const struct tokenizer *t, const struct chat_turn *turns, size_t n, struct err *e)
{
    static const char *const roles[] = { "system", "user", "assistant" };

    if (chat_check(t, e))
        return -1;
    if (!n)
        return err_set(e, EXIT_USAGE, "%s: a chat needs at least one turn", t->about);
    for (size_t i = 0; i < n; i++) {
        bool known = false;

        for (size_t k = 0; k < 3; k++)
            known |= !strcmp(turns[i].role, roles[k]);
        if (!known)
            return err_set(e, EXIT_USAGE, "chat turn %zu: role '%.40s'; expected system, user or "
                           "assistant", i + 1, turns[i].role);
    }
    if (t->form == CHAT_QWEN3 && strcmp(turns[n - 1].role, "user"))
        return err_set(e, EXIT_USAGE, "chat turn %zu: role '%.40s'; the form qwen3 answers a user: the last turn must "
                       "be one", n, turns[n - 1].role);
    return 0;
}

static int render(struct prompt *p, const struct chat_turn *turns, size_t n)
{
    const struct form *f = &forms[p->names->form];
    const char *system = p->names->system ? p->names->system : f->system;

    if (check(p->names, turns, n, p->e))
        return -1;
    if ((p->names->form == CHAT_LLAMA3 || p->names->form == CHAT_LLAMA31) && mark_id(p, p->names->bos, "bos"))
        return -1;
    if (system && strcmp(turns[0].role, "system") && turn(p, f, "system", system, true))
        return -1;
    for (size_t i = 0; i < n; i++)
        if (turn(p, f, turns[i].role, turns[i].text, !i && !strcmp(turns[i].role, "system")))
            return -1;
    return header(p, f, "assistant") || flush(p) ? -1 : 0;
}

int chat_text(const struct tokenizer *t, const struct chat_turn *turns, size_t n,
              struct text_out *out, struct err *e)
{
    struct prompt p = { .names = t, .text = out, .e = e };

    return render(&p, turns, n);
}

int chat_encode(struct tokenizer *t, const struct chat_turn *turns, size_t n, struct token_ids *out,
                struct err *e)
{
    struct text_out held = { 0 };
    struct prompt p = { .t = t, .names = t, .text = &held, .ids = out, .e = e };
    int rc = render(&p, turns, n);

    text_out_free(&held);
    return rc;
}
