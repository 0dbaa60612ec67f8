/* build.c - a tokenizer from its parts, whatever file they came from.
 *
 * Tokens are kept as the bytes they stand for, merges as a table from two ids to a rank and an id.
 * The parts come from a file that nobody checked: every count, id and spelling is judged here, once
 * for all formats. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "text/vocab.h"

struct build {
    struct tokenizer *t;
    const struct tokenizer_parts *p;
    struct err *e;
    char *spell;                   /* [2 * TOKEN_MAX] a merge's two sides as bytes */
};

/* Outside text fit for a message: printable, at most 40 characters, in quotes. */
static const char *quoted(const struct token_text *s, char buf[48])
{
    size_t n = 0;

    buf[n++] = '\'';
    for (size_t i = 0; i < s->n && i < 40; i++)
        buf[n++] = s->p[i] >= 32 && s->p[i] < 127 ? s->p[i] : '?';
    buf[n++] = '\'';
    buf[n] = 0;
    return buf;
}

static int nomem(const struct build *b)
{
    return err_set(b->e, EXIT_RUN_FAILED, "%.300s: out of memory for the tokenizer", b->p->path);
}

/* Bytes 33..126, 161..172, 174..255 stand for themselves; the others are U+0100 on, in order. */
static int alphabet_byte(uint32_t cp)
{
    if ((cp >= 33 && cp <= 126) || (cp >= 161 && cp <= 172) || (cp >= 174 && cp <= 255))
        return (int)cp;
    if (cp < 256 || cp > 323)
        return -1;
    cp -= 256;
    return cp <= 32 ? (int)cp : cp <= 66 ? (int)cp - 33 + 127 : 173;
}

int64_t alphabet_bytes(const char *p, size_t n, char *out)
{
    int64_t k = 0;
    unsigned used;

    for (size_t i = 0; i < n; i += used) {
        int byte = alphabet_byte(utf8_next(p + i, n - i, &used));

        if (byte < 0)
            return -1;
        out[k++] = (char)byte;
    }
    return k;
}

static int check_counts(const struct build *b)
{
    const struct tokenizer_parts *p = b->p;

    if (!p->n_token || p->n_token > VOCAB_MAX)
        return err_set(b->e, EXIT_USAGE, "%.300s: tokenizer: %" PRIu32 " tokens; expected 1 to %d",
                       p->path, p->n_token, VOCAB_MAX);
    if (p->n_merge > 2 * VOCAB_MAX)
        return err_set(b->e, EXIT_USAGE,
                       "%.300s: tokenizer: %" PRIu32 " merges; expected at most %d", p->path,
                       p->n_merge, 2 * VOCAB_MAX);
    if (p->n_prefix > ENDS_MAX || p->n_suffix > ENDS_MAX)
        return err_set(b->e, EXIT_USAGE,
                       "%.300s: tokenizer: more than %d special tokens around a text", p->path,
                       ENDS_MAX);
    if ((unsigned)p->pretok >= PRETOK_N)
        return err_set(b->e, EXIT_USAGE, "%.300s: tokenizer: no pre-tokenizer of number %d",
                       p->path, (int)p->pretok);
    return 0;
}

static int check_id(const struct build *b, const char *what, int64_t id, bool may_lack)
{
    if (id == TOKEN_NONE && may_lack)
        return 0;
    if (id >= 0 && id < b->p->n_token && b->t->token[id].p)
        return 0;
    return err_set(b->e, EXIT_USAGE, "%.300s: tokenizer: %s is id %" PRId64
                   ", but the vocabulary has no such token (ids below %" PRIu32 ")", b->p->path,
                   what, id, b->p->n_token);
}

/* One block for the bytes of all tokens. */
static int copy_tokens(struct build *b)
{
    const struct tokenizer_parts *p = b->p;
    struct tokenizer *t = b->t;
    uint64_t total = 0;
    char *at, buf[48];

    for (uint32_t i = 0; i < p->n_token; i++) {
        if (p->token[i].n >= TOKEN_MAX)
            return err_set(b->e, EXIT_USAGE, "%.300s: tokenizer: token %" PRIu32 " has %zu bytes; "
                           "expected fewer than %d", p->path, i, p->token[i].n, TOKEN_MAX);
        total += p->token[i].n + 1;
    }
    if (!(t->token = ARENA_NEW(&t->arena, struct token, p->n_token)) ||
        !(at = arena_get(&t->arena, total, 1)))
        return nomem(b);
    t->n_token = p->n_token;
    for (uint32_t i = 0; i < p->n_token; i++) {
        struct token *k = &t->token[i];
        int64_t n = -1;

        if (!p->token[i].p)
            continue;
        *k = (struct token){ at, (uint32_t)p->token[i].n, p->kind[i], true };
        if (k->kind == TOKEN_PLAIN && (n = alphabet_bytes(p->token[i].p, k->n, at)) >= 0)
            k->n = (uint32_t)n;
        else if (k->n)
            memcpy(at, p->token[i].p, k->n);
        k->is_text = k->n && (k->kind == TOKEN_ADDED || (k->kind == TOKEN_PLAIN && n >= 0));
        if (k->kind > TOKEN_SPECIAL || (k->kind != TOKEN_PLAIN && !k->n))
            return err_set(b->e, EXIT_USAGE, "%.300s: tokenizer: token %" PRIu32 " %s: an added "
                           "token must have a text", p->path, i, quoted(&p->token[i], buf));
        at += k->n + 1;
    }
    return 0;
}

static uint64_t room_for(uint64_t n)
{
    uint64_t size = 16;

    while (size < 2 * n)
        size *= 2;
    return size;
}

int32_t vocab_find(const struct tokenizer *t, const char *p, size_t n, bool text_only)
{
    for (uint64_t i = hash64_bytes(1, p, n);; i++) {
        uint32_t id = t->by_text[i & t->mask_text];
        const struct token *k;

        if (!id)
            return TOKEN_NONE;
        k = &t->token[id - 1];
        if (k->n == n && !memcmp(k->p, p, n) && (k->is_text || !text_only))
            return (int32_t)(id - 1);
    }
}

/* Equal bytes may stand twice in a GGUF (padding): the first is the one that text gives. */
static int index_tokens(struct build *b)
{
    struct tokenizer *t = b->t;

    t->mask_text = room_for(t->n_token) - 1;
    if (!(t->by_text = ARENA_NEW(&t->arena, uint32_t, t->mask_text + 1)))
        return nomem(b);
    for (uint32_t i = 0; i < t->n_token; i++) {
        const struct token *k = &t->token[i];
        uint64_t at;

        if (!k->p || !k->n || (k->kind == TOKEN_PLAIN && !k->is_text) ||
            vocab_find(t, k->p, k->n, k->is_text) != TOKEN_NONE)
            continue;
        for (at = hash64_bytes(1, k->p, k->n); t->by_text[at & t->mask_text]; at++)
            ;
        t->by_text[at & t->mask_text] = i + 1;
    }
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;

        t->byte_id[i] = vocab_find(t, &byte, 1, true);
    }
    return 0;
}

static int refuse_merge(const struct build *b, uint32_t i, const struct token_text *s,
                        const char *what)
{
    char buf[48];

    return err_set(b->e, EXIT_USAGE, "%.300s: tokenizer: merge %" PRIu32 ": %s%s is no plain token "
                   "of the vocabulary; the file is damaged, or not a byte-level BPE", b->p->path, i,
                   what, quoted(s, buf));
}

static int add_merge(struct build *b, uint32_t i)
{
    const struct token_text *s = &b->p->merge[2 * (size_t)i];
    struct tokenizer *t = b->t;
    int32_t id[3];
    int64_t n[2];
    uint64_t key;

    for (int k = 0; k < 2; k++) {
        char *at = b->spell + (k ? n[0] : 0);

        n[k] = s[k].n && s[k].n < TOKEN_MAX ? alphabet_bytes(s[k].p, s[k].n, at) : -1;
        id[k] = n[k] > 0 ? vocab_find(t, at, (size_t)n[k], true) : TOKEN_NONE;
        if (id[k] == TOKEN_NONE)
            return refuse_merge(b, i, &s[k], "");
    }
    id[2] = vocab_find(t, b->spell, (size_t)(n[0] + n[1]), true);
    if (id[2] == TOKEN_NONE)
        return refuse_merge(b, i, &s[1], "the left side with ");
    key = (uint64_t)(uint32_t)id[0] << 32 | (uint32_t)id[1];
    for (uint64_t at = mix64(key);; at++) {
        struct pair *p = &t->pair[at & t->mask_pair];

        if (!p->rank || p->key == key) {       /* a pair that stands twice: the last counts */
            *p = (struct pair){ key, i + 1, (uint32_t)id[2] };
            return 0;
        }
    }
}

static int add_merges(struct build *b)
{
    struct tokenizer *t = b->t;

    t->mask_pair = room_for(b->p->n_merge) - 1;
    if (!(t->pair = ARENA_NEW(&t->arena, struct pair, t->mask_pair + 1)))
        return nomem(b);
    for (uint32_t i = 0; i < b->p->n_merge; i++)
        if (add_merge(b, i))
            return -1;
    return 0;
}

/* By bytes, what begins another before it, equal ones by id. */
static int by_bytes(const void *x, const void *y, void *tokens)
{
    const uint32_t i = *(const uint32_t *)x, j = *(const uint32_t *)y;
    const struct token *a = (const struct token *)tokens + i, *b = (const struct token *)tokens + j;
    int c = memcmp(a->p, b->p, a->n < b->n ? a->n : b->n);

    if (c || a->n != b->n)
        return c ? c : a->n < b->n ? -1 : 1;
    return i < j ? -1 : i > j;
}

static int list_added(struct build *b)
{
    struct tokenizer *t = b->t;
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->n_token; i++) {
        const struct token *k = &t->token[i];

        if (k->kind != TOKEN_PLAIN && k->n > ADDED_MAX)
            return err_set(b->e, EXIT_USAGE, "%.300s: tokenizer: token %" PRIu32 " has %" PRIu32 " bytes; expected at "
                           "most %d of an added or special one", b->p->path, i, k->n, ADDED_MAX);
        t->n_added += k->kind != TOKEN_PLAIN;
    }
    if (!(t->added = ARENA_NEW(&t->arena, uint32_t, t->n_added)))
        return nomem(b);
    for (uint32_t i = 0; i < t->n_token; i++)
        if (t->token[i].kind != TOKEN_PLAIN)
            t->added[n++] = i;
    qsort_r(t->added, n, sizeof *t->added, by_bytes, t->token);
    n = 0;
    for (unsigned c = 0; c < 256; c++) {
        t->first[c] = n;
        while (n < t->n_added && (unsigned char)t->token[t->added[n]].p[0] == c)
            n++;
    }
    t->first[256] = n;
    return 0;
}

static int take_ids(struct build *b)
{
    const struct tokenizer_parts *p = b->p;
    struct tokenizer *t = b->t;

    if (check_id(b, "bos", p->bos, true) || check_id(b, "eos", p->eos, true) ||
        check_id(b, "unk", p->unk, true))
        return -1;
    t->bos = (int32_t)p->bos;
    t->eos = (int32_t)p->eos;
    t->unk = (int32_t)p->unk;
    for (t->n_prefix = 0; t->n_prefix < p->n_prefix; t->n_prefix++) {
        if (check_id(b, "a token before a text", p->prefix[t->n_prefix], false))
            return -1;
        t->prefix[t->n_prefix] = p->prefix[t->n_prefix];
    }
    for (t->n_suffix = 0; t->n_suffix < p->n_suffix; t->n_suffix++) {
        if (check_id(b, "a token after a text", p->suffix[t->n_suffix], false))
            return -1;
        t->suffix[t->n_suffix] = p->suffix[t->n_suffix];
    }
    return 0;
}

static int fill(struct build *b)
{
    static const char *const names[PRETOK_N] = { "gpt2", "smollm", "llama3", "qwen2" };
    const struct tokenizer_parts *p = b->p;
    struct tokenizer *t = b->t;

    t->pretok = p->pretok;
    t->nfc = p->nfc;
    t->ignore_merges = p->ignore_merges;
    if (p->chat_template && chat_take(t, p->chat_template, p->n_chat_template))
        return nomem(b);
    snprintf(t->about, sizeof t->about, "%s, %" PRIu32 " tokens, %.200s", names[p->pretok],
             p->n_token, p->path);
    if (!(b->spell = arena_get(&t->arena, 2, TOKEN_MAX)) ||
        !(t->word = ARENA_NEW(&t->arena, struct word, N_WORD)))
        return nomem(b);
    return copy_tokens(b) || index_tokens(b) || add_merges(b) || list_added(b) || take_ids(b) ? -1
                                                                                              : 0;
}

int tokenizer_build(struct tokenizer **t, const struct tokenizer_parts *p, struct err *e)
{
    struct build b = { .p = p, .e = e };

    *t = NULL;
    if (check_counts(&b))
        return -1;
    if (!(b.t = calloc(1, sizeof *b.t)))
        return nomem(&b);
    if (fill(&b)) {
        tokenizer_free(b.t);
        return -1;
    }
    *t = b.t;
    return 0;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    free(t->scratch.symbol);
    free(t->scratch.heap);
    arena_free(&t->arena);
    free(t);
}
