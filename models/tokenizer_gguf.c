/* tokenizer_gguf.c - a tokenizer from GGUF metadata (llama.cpp's keys, tokenizer.ggml.*).
 *
 * tokens, token_type and merges are arrays; `pre` names the pre-tokenizer, by llama.cpp's names.
 * What Hugging Face's pipeline says elsewhere and GGUF does not is filled in from the name: Qwen2
 * normalises to NFC, Llama 3 takes whole words that are tokens, and wants bos where the file is
 * silent (so llama.cpp). Counts and ids are checked here before anything is allocated, spellings in
 * text/build.c. */
#include "models/tokenizer_gguf.h"

#include <inttypes.h>
#include <string.h>

enum gguf_token { T_NORMAL = 1, T_UNKNOWN, T_CONTROL, T_USER, T_UNUSED, T_BYTE };

struct load {
    const struct gguf *g;
    struct tokenizer_parts p;
    struct arena arena;
    int32_t ends[2];               /* bos before, eos after a text */
    struct err *e;
};

static const struct pre { const char *name; enum pretok pretok; } pres[] = {
    { "gpt-2", PRETOK_GPT2 }, { "smollm", PRETOK_SMOLLM }, { "llama-bpe", PRETOK_LLAMA3 },
    { "llama3", PRETOK_LLAMA3 }, { "llama-v3", PRETOK_LLAMA3 }, { "qwen2", PRETOK_QWEN2 },
};

static int refuse(const struct load *l, const char *key, struct gguf_str got, const char *want)
{
    char show[MAP_SHOW];

    return err_set(l->e, EXIT_USAGE, "%.300s: %s '%s': %s", l->g->map.path, key,
                   map_show(got.p, got.n, show), want);
}

static int take_pre(struct load *l)
{
    struct gguf_str model, pre;

    if (gguf_text(l->g, "tokenizer.ggml.model", &model, l->e))
        return -1;
    if (!gguf_is(model, "gpt2"))
        return refuse(l, "tokenizer.ggml.model", model,
                      "only byte-level BPE ('gpt2') is supported");
    if (gguf_text(l->g, "tokenizer.ggml.pre", &pre, l->e))
        return -1;
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++)
        if (gguf_is(pre, pres[i].name)) {
            l->p.pretok = pres[i].pretok;
            l->p.nfc = l->p.pretok == PRETOK_QWEN2;
            l->p.ignore_merges = l->p.pretok == PRETOK_LLAMA3;
            return 0;
        }
    return refuse(l, "tokenizer.ggml.pre", pre,
                  "this pre-tokenizer is not known; gpt-2, smollm, llama-bpe and qwen2 are");
}

static int take_tokens(struct load *l)
{
    struct token_text *token;
    struct gguf_list list;
    struct gguf_str s;
    uint32_t n = 0;

    if (gguf_list_open(&list, l->g, "tokenizer.ggml.tokens", GGUF_STRING, l->e))
        return -1;
    if (!list.n || list.n > VOCAB_MAX)
        return err_set(l->e, EXIT_USAGE,
                       "%.300s: tokenizer.ggml.tokens: %" PRIu64 " tokens; expected "
                       "1 to %d",
                       l->g->map.path, list.n, VOCAB_MAX);
    if (!(token = ARENA_NEW(&l->arena, struct token_text, list.n)))
        return err_set(l->e, EXIT_RUN_FAILED, "%.300s: out of memory", l->g->map.path);
    while (n < list.n && gguf_next_str(&list, &s))
        token[n++] = (struct token_text){ s.p, s.n };
    l->p.token = token;
    l->p.n_token = n;
    return 0;
}

/* Control tokens are special, user-defined ones are cut out of any text. No list: all plain. */
static int take_kinds(struct load *l)
{
    uint8_t *kind = ARENA_NEW(&l->arena, uint8_t, l->p.n_token);
    struct gguf_list list;
    int64_t v;

    if (!kind)
        return err_set(l->e, EXIT_RUN_FAILED, "%.300s: out of memory", l->g->map.path);
    l->p.kind = kind;
    if (!gguf_find(l->g, "tokenizer.ggml.token_type"))
        return 0;
    if (gguf_list_open(&list, l->g, "tokenizer.ggml.token_type", GGUF_I64, l->e))
        return -1;
    if (list.n != l->p.n_token)
        return err_set(l->e, EXIT_USAGE, "%.300s: tokenizer.ggml.token_type: %" PRIu64
                       " entries for %" PRIu32 " tokens; expected one each", l->g->map.path, list.n,
                       l->p.n_token);
    for (uint32_t i = 0; gguf_next_int(&list, &v); i++) {
        if (v < T_NORMAL || v > T_BYTE)
            return err_set(l->e, EXIT_USAGE, "%.300s: tokenizer.ggml.token_type: token %" PRIu32
                           " has type %" PRId64 "; expected 1 to %d", l->g->map.path, i, v, T_BYTE);
        kind[i] = v == T_CONTROL || v == T_UNKNOWN ? TOKEN_SPECIAL : v == T_USER ? TOKEN_ADDED
                                                                                 : TOKEN_PLAIN;
    }
    return 0;
}

/* "left right" */
static int take_merges(struct load *l)
{
    struct token_text *side;
    struct gguf_list list;
    struct gguf_str s;
    uint32_t n = 0;

    if (gguf_list_open(&list, l->g, "tokenizer.ggml.merges", GGUF_STRING, l->e))
        return -1;
    if (list.n > 2 * VOCAB_MAX)
        return err_set(l->e, EXIT_USAGE,
                       "%.300s: tokenizer.ggml.merges: %" PRIu64 " merges; expected "
                       "at most %d",
                       l->g->map.path, list.n, 2 * VOCAB_MAX);
    if (!(side = ARENA_NEW(&l->arena, struct token_text, 2 * list.n)))
        return err_set(l->e, EXIT_RUN_FAILED, "%.300s: out of memory", l->g->map.path);
    for (; n < list.n && gguf_next_str(&list, &s); n++) {
        const char *blank = s.n ? memchr(s.p, ' ', s.n) : NULL;

        if (!blank || memchr(blank + 1, ' ', s.n - (size_t)(blank + 1 - s.p)))
            return refuse(l, "tokenizer.ggml.merges", s,
                          "expected two tokens with a space between");
        side[2 * n] = (struct token_text){ s.p, (size_t)(blank - s.p) };
        side[2 * n + 1] = (struct token_text){ blank + 1, s.n - (size_t)(blank + 1 - s.p) };
    }
    l->p.merge = side;
    l->p.n_merge = n;
    return 0;
}

static int take_id(struct load *l, const char *key, int64_t *out)
{
    *out = TOKEN_NONE;
    return gguf_find(l->g, key) ? gguf_int(l->g, key, 0, (int64_t)l->p.n_token - 1, out, l->e) : 0;
}

/* Whether the model wants bos (eos) around a text. */
static int take_end(struct load *l, const char *key, bool otherwise, int64_t id, int32_t *to,
                    uint32_t *n)
{
    bool add = otherwise;

    if (gguf_find(l->g, key) && gguf_bool(l->g, key, &add, l->e))
        return -1;
    if (!add || id == TOKEN_NONE)
        return 0;
    *to = (int32_t)id;
    *n = 1;
    return 0;
}

static int take_ends(struct load *l)
{
    bool llama3 = l->p.pretok == PRETOK_LLAMA3;

    l->p.prefix = l->ends;
    l->p.suffix = l->ends + 1;
    l->p.unk = TOKEN_NONE; /* names an end-of-text token where nothing is unknown */
    return take_id(l, "tokenizer.ggml.bos_token_id", &l->p.bos) ||
                   take_id(l, "tokenizer.ggml.eos_token_id", &l->p.eos) ||
                   take_end(l, "tokenizer.ggml.add_bos_token", llama3, l->p.bos, &l->ends[0],
                            &l->p.n_prefix) ||
                   take_end(l, "tokenizer.ggml.add_eos_token", false, l->p.eos, &l->ends[1],
                            &l->p.n_suffix)
               ? -1
               : 0;
}

static int take_chat(struct load *l)
{
    struct gguf_str s;

    if (!gguf_find(l->g, "tokenizer.chat_template"))
        return 0;
    if (gguf_text(l->g, "tokenizer.chat_template", &s, l->e))
        return -1;
    l->p.chat_template = s.p;
    l->p.n_chat_template = s.n;
    return 0;
}

int tokenizer_from_gguf(struct tokenizer **t, const struct gguf *g, struct err *e)
{
    struct load l = { .g = g, .e = e, .p = { .path = g->map.path } };
    int rc = take_pre(&l) || take_tokens(&l) || take_kinds(&l) || take_merges(&l) ||
                     take_ends(&l) || take_chat(&l)
                 ? -1
                 : tokenizer_build(t, &l.p, e);

    if (rc)
        *t = NULL;
    arena_free(&l.arena);
    return rc;
}

int tokenizer_open(struct tokenizer **t, const char *path, struct err *e)
{
    struct gguf g;
    int rc;

    *t = NULL;
    if (!gguf_begins(path))                    /* a folder, or no file of ours */
        return tokenizer_load_json(t, path, e);
    if (gguf_open(&g, path, e))
        return -1;
    rc = tokenizer_from_gguf(t, &g, e);
    gguf_close(&g);
    return rc;
}
