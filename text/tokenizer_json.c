/* tokenizer_json.c - Hugging Face's tokenizer.json (and what stands beside it) as parts of a
 * tokenizer.
 *
 * The file describes a pipeline of many possible steps. Those that byte-level BPE models use are
 * known here, and everything else is refused by name: a step left out would give other ids without
 * a word. jansson parses; types, ranges and ids are judged here and in build.c. */
#include <string.h>

#include "text/json_parts.h"

int json_refuse(const struct load *l, const char *what, const char *got, const char *want)
{
    return err_set(l->e, EXIT_USAGE, "%.300s: %s%s%.60s%s; %s", l->path, what, got ? " '" : "",
                   got ? got : "", got ? "'" : "", want);
}

static int nomem(const struct load *l)
{
    return err_set(l->e, EXIT_RUN_FAILED, "%.300s: out of memory for the tokenizer", l->path);
}

static const char *type_of(const json_t *v)
{
    return json_string_value(member(v, "type"));
}

static bool is_type(const json_t *v, const char *type)
{
    return type_of(v) && !strcmp(type_of(v), type);
}

/* ---- vocabulary ---- */
static int set_token(struct load *l, const char *text, size_t n, const json_t *id, uint8_t kind,
                     const char *where)
{
    struct token_text *token = (struct token_text *)(uintptr_t)l->p.token;
    uint8_t *kinds = (uint8_t *)(uintptr_t)l->p.kind;
    json_int_t i = json_integer_value(id);

    if (!json_is_integer(id) || i < 0 || i >= VOCAB_MAX)
        return json_refuse(l, where, text, "its id must be a whole number from 0 to 1048575");
    if (token[i].p && (kind == TOKEN_PLAIN || token[i].n != n || memcmp(token[i].p, text, n)))
        return json_refuse(l, where, text, "its id is another token's");
    token[i] = (struct token_text){ text, n };
    kinds[i] = kind;
    if ((uint64_t)i >= l->p.n_token)
        l->p.n_token = (uint32_t)i + 1;
    return 0;
}

static int take_vocab(struct load *l, const json_t *model)
{
    json_t *vocab = (json_t *)(uintptr_t)member(model, "vocab"), *id;
    const char *text;

    if (!json_is_object(vocab) || !json_object_size(vocab))
        return json_refuse(l, "model.vocab", NULL, "expected an object of tokens and their ids");
    if (!(l->p.token = ARENA_NEW(&l->arena, struct token_text, VOCAB_MAX)) ||
        !(l->p.kind = ARENA_NEW(&l->arena, uint8_t, VOCAB_MAX)))
        return nomem(l);
    json_object_foreach(vocab, text, id)
        if (set_token(l, text, strlen(text), id, TOKEN_PLAIN, "model.vocab:"))
            return -1;
    return 0;
}

static int take_added_one(struct load *l, const json_t *one, const json_t *vocab)
{
    static const char *const unknown[] = { "single_word", "lstrip", "rstrip" };
    const json_t *text = member(one, "content"), *id = member(one, "id"), *known;

    if (!json_is_string(text) || !json_string_length(text))
        return json_refuse(l, "added_tokens", NULL,
                           "each needs a content, a text that is not empty");
    for (size_t i = 0; i < 3; i++)
        if (json_is_true(member(one, unknown[i])))
            return json_refuse(l, "added_tokens:", json_string_value(text),
                       "single_word, lstrip and rstrip are not supported");
    if (l->p.nfc && json_is_true(member(one, "normalized")))
        return json_refuse(l, "added_tokens:", json_string_value(text),
                   "a normalized added token together with a normalizer is not supported");
    known = json_object_get(vocab, json_string_value(text));
    if (known && json_integer_value(known) != json_integer_value(id))
        return json_refuse(l, "added_tokens:", json_string_value(text),
                           "model.vocab gives it another id");
    return set_token(l, json_string_value(text), json_string_length(text), id,
                     json_is_true(member(one, "special")) ? TOKEN_SPECIAL : TOKEN_ADDED,
                     "added_tokens:");
}

static int take_added(struct load *l)
{
    const json_t *list = member(l->root, "added_tokens");
    const json_t *vocab = member(member(l->root, "model"), "vocab");

    if (list && !json_is_array(list))
        return json_refuse(l, "added_tokens", NULL, "expected a list");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (take_added_one(l, json_array_get(list, i), vocab))
            return -1;
    return 0;
}

/* ---- merges: "a b" or ["a","b"] ---- */
static int take_merge(struct load *l, const json_t *one, struct token_text side[2])
{
    const char *text = json_string_value(one), *blank = text ? strchr(text, ' ') : NULL;

    if (json_array_size(one) == 2 && json_is_string(json_array_get(one, 0)) &&
        json_is_string(json_array_get(one, 1))) {
        for (size_t k = 0; k < 2; k++) {
            const json_t *s = json_array_get(one, k);

            side[k] = (struct token_text){ json_string_value(s), json_string_length(s) };
        }
        return 0;
    }
    if (!blank || strchr(blank + 1, ' '))
        return json_refuse(l, "model.merges:", text,
                           "expected two tokens with a space between, or a list of two");
    side[0] = (struct token_text){ text, (size_t)(blank - text) };
    side[1] = (struct token_text){ blank + 1, strlen(blank + 1) };
    return 0;
}

static int take_merges(struct load *l, const json_t *model)
{
    const json_t *list = member(model, "merges");
    size_t n = json_array_size(list);
    struct token_text *side;

    if (!json_is_array(list) || n > 2 * VOCAB_MAX)
        return json_refuse(l, "model.merges", NULL, "expected a list of at most 2097152 merges");
    if (!(side = ARENA_NEW(&l->arena, struct token_text, 2 * n)))
        return nomem(l);
    for (size_t i = 0; i < n; i++)
        if (take_merge(l, json_array_get(list, i), side + 2 * i))
            return -1;
    l->p.merge = side;
    l->p.n_merge = (uint32_t)n;
    return 0;
}

static int take_unk(struct load *l, const json_t *model)
{
    const json_t *unk = member(model, "unk_token"), *id;

    if (!unk)
        return 0;
    id = json_object_get(member(model, "vocab"), json_is_string(unk) ? json_string_value(unk) : "");
    if (!json_is_integer(id))
        return json_refuse(l, "model.unk_token", json_string_value(unk),
                           "expected a token of model.vocab");
    l->p.unk = json_integer_value(id);
    return 0;
}

static int take_model(struct load *l)
{
    static const char *const unknown[] = { "byte_fallback", "fuse_unk" };
    static const char *const texts[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    const json_t *model = member(l->root, "model");

    if (!json_is_object(model))
        return json_refuse(l, "model", NULL, "expected an object; is this a tokenizer.json?");
    if (type_of(model) && !is_type(model, "BPE"))
        return json_refuse(l, "model.type", type_of(model), "only BPE is supported");
    for (size_t i = 0; i < 2; i++)
        if (json_is_true(member(model, unknown[i])))
            return json_refuse(l, "model:", unknown[i],
                               "is not supported: only byte-level BPE without it is");
    for (size_t i = 0; i < 2; i++)
        if (member(model, texts[i]) && (!json_is_string(member(model, texts[i])) ||
                                        json_string_length(member(model, texts[i]))))
            return json_refuse(l, "model:", texts[i],
                               "is not supported: only byte-level BPE without it is");
    if (json_number_value(member(model, "dropout")) > 0)
        return json_refuse(l, "model:", "dropout",
                           "is not supported: ids would be drawn by chance");
    l->p.ignore_merges = json_is_true(member(model, "ignore_merges"));
    return take_vocab(l, model) || take_merges(l, model) || take_unk(l, model) ? -1 : 0;
}

/* ---- the steps before the model ---- */
static int take_normalizer(struct load *l)
{
    const json_t *v = member(l->root, "normalizer");

    if (is_type(v, "Sequence") && json_array_size(member(v, "normalizers")) == 0)
        v = NULL;
    if (is_type(v, "Sequence") && json_array_size(member(v, "normalizers")) == 1)
        v = json_array_get(member(v, "normalizers"), 0);
    if (v && !is_type(v, "NFC"))
        return json_refuse(l, "normalizer", type_of(v) ? type_of(v) : "?",
                           "only NFC or none is supported");
    l->p.nfc = v != NULL;
    return 0;
}

#define LINES(digits) \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
static const struct {
    enum pretok pretok;
    const char *regex;
} regexes[] = {
    { PRETOK_GPT2,
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+" },
    { PRETOK_LLAMA3, LINES("{1,3}") },
    { PRETOK_QWEN2, LINES("") },
};

static int take_split(struct load *l, const json_t *v)
{
    const char *regex = json_string_value(member(member(v, "pattern"), "Regex"));
    const char *behavior = json_string_value(member(v, "behavior"));

    if (!behavior || strcmp(behavior, "Isolated") || json_is_true(member(v, "invert")))
        return json_refuse(l, "pre_tokenizer Split: behavior", behavior,
                           "only Isolated, not inverted, is supported");
    for (size_t i = 0; regex && i < sizeof regexes / sizeof *regexes; i++)
        if (!strcmp(regex, regexes[i].regex)) {
            l->p.pretok = regexes[i].pretok;
            return 0;
        }
    return json_refuse(l, "pre_tokenizer Split: pattern", regex ? regex : "?",
               "only the regular expressions of GPT-2, Llama 3 and Qwen2 are known");
}

/* ByteLevel, alone or last; before it Split, or Digits one by one. */
static int take_pretokenizer(struct load *l)
{
    const json_t *v = member(l->root, "pre_tokenizer"), *list = member(v, "pretokenizers");
    const json_t *before = NULL, *last = v;
    size_t n = json_array_size(list);

    if (is_type(v, "Sequence")) {
        last = n ? json_array_get(list, n - 1) : NULL;
        before = n == 2 ? json_array_get(list, 0) : NULL;
    }
    if (!is_type(last, "ByteLevel") || n > 2)
        return json_refuse(l, "pre_tokenizer", type_of(v) ? type_of(v) : "?",
                   "only ByteLevel is supported, alone or after one Split or Digits");
    if (json_is_true(member(last, "add_prefix_space")))
        return json_refuse(l, "pre_tokenizer ByteLevel:", "add_prefix_space", "is not supported");
    if (before && is_type(before, "Split") && json_is_false(member(last, "use_regex")))
        return take_split(l, before);
    if (json_is_false(member(last, "use_regex")))
        return json_refuse(l, "pre_tokenizer ByteLevel:", "use_regex false",
                           "is only known after a Split");
    if (before && !(is_type(before, "Digits") && json_is_true(member(before, "individual_digits"))))
        return json_refuse(
            l, "pre_tokenizer", type_of(before) ? type_of(before) : "?",
            "before ByteLevel only a Split without use_regex, or Digits with individual_digits, "
            "is supported");
    l->p.pretok = before ? PRETOK_SMOLLM : PRETOK_GPT2;
    return 0;
}

/* ---- what stands around a text ---- */
static int take_special(struct load *l, const json_t *step, const json_t *all, int32_t *to,
                        uint32_t *n)
{
    const json_t *name = member(member(step, "SpecialToken"), "id");
    const json_t *ids =
        member(json_is_string(name) ? member(all, json_string_value(name)) : NULL, "ids");

    if (!json_array_size(ids) || *n + json_array_size(ids) > ENDS_MAX)
        return json_refuse(l, "post_processor", json_string_value(name),
                           "its special token has no ids, or too many");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);

        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= VOCAB_MAX)
            return json_refuse(l, "post_processor", json_string_value(name),
                               "an id is no token id");
        to[(*n)++] = (int32_t)json_integer_value(id);
    }
    return 0;
}

static int take_template(struct load *l, const json_t *v)
{
    int32_t *ends = ARENA_NEW(&l->arena, int32_t, 2 * ENDS_MAX);
    const json_t *list = member(v, "single"), *all = member(v, "special_tokens");
    bool seen = false;

    if (!ends)
        return nomem(l);
    l->p.prefix = ends;
    l->p.suffix = ends + ENDS_MAX;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *step = json_array_get(list, i);

        if (member(step, "Sequence") && !seen)
            seen = true;
        else if (!member(step, "SpecialToken"))
            return json_refuse(l, "post_processor TemplateProcessing", NULL,
                       "expected one Sequence and SpecialTokens in single");
        else if (take_special(l, step, all, seen ? ends + ENDS_MAX : ends,
                              seen ? &l->p.n_suffix : &l->p.n_prefix))
            return -1;
    }
    return seen ? 0
                : json_refuse(l, "post_processor TemplateProcessing", NULL,
                              "its single has no Sequence");
}

static int take_post(struct load *l, const json_t *v)
{
    const json_t *list = member(v, "processors");

    if (!v || is_type(v, "ByteLevel"))         /* changes offsets, not ids */
        return 0;
    if (is_type(v, "TemplateProcessing"))
        return l->p.prefix ? json_refuse(l, "post_processor", "TemplateProcessing", "stands twice")
                           : take_template(l, v);
    if (!is_type(v, "Sequence") || !json_is_array(list))
        return json_refuse(l, "post_processor", type_of(v) ? type_of(v) : "?",
                   "only ByteLevel and TemplateProcessing are supported");
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (is_type(json_array_get(list, i), "Sequence"))
            return json_refuse(l, "post_processor", "Sequence", "stands inside a Sequence");
        if (take_post(l, json_array_get(list, i)))
            return -1;
    }
    return 0;
}

int json_parts(struct load *l)
{
    return take_normalizer(l) || take_model(l) || take_added(l) || take_pretokenizer(l) ||
           take_post(l, member(l->root, "post_processor")) ? -1 : 0;
}
