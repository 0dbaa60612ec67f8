/* vocab.h - what the files of text/ share among themselves: the tables of a tokenizer and the steps
 * of encoding. Nobody above includes it, tests aside. */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include "base/arena.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

enum {
    TOKEN_MAX = 1 << 16,           /* bytes of one token */
    ENDS_MAX = 8,                  /* ids before or after a text */
    WORD_MAX = 40, WORD_IDS = 12,  /* longer words are not remembered */
    N_WORD = 1 << 14,
    ADDED_MAX = 1 << 10            /* bytes of an added or special token: looked for at every place of a text */
};
#define ENCODE_MAX ((size_t)1 << 30)           /* bytes of one text */

struct token { const char *p; uint32_t n; uint8_t kind; bool is_text; }; /* is_text: no special */
struct pair { uint64_t key; uint32_t rank, id; };  /* key: left, right; rank 0: free */

/* A word and its ids. One place per hash: what comes later takes it over, so memory is bounded. */
struct word { uint8_t n_byte, n_id; char byte[WORD_MAX]; uint32_t id[WORD_IDS]; };

struct symbol { uint32_t id; int32_t before, after; };     /* -1: none */
struct merge { uint32_t rank; int32_t at; uint32_t id; };
struct scratch { struct symbol *symbol; struct merge *heap; size_t cap; };

enum chat_form {
    CHAT_NONE, CHAT_UNKNOWN, CHAT_SMOLLM2, CHAT_QWEN2, CHAT_QWEN25, CHAT_QWEN3, CHAT_CHATML, CHAT_LLAMA3,
    CHAT_LLAMA31, CHAT_N
};

struct tokenizer {
    struct arena arena;            /* tokens, tables */
    enum pretok pretok;
    bool nfc, ignore_merges;
    uint32_t n_token;
    struct token *token;           /* [n_token]; p NULL: no such id */
    uint32_t *by_text;             /* [mask_text + 1] id + 1; 0: free */
    uint64_t mask_text, mask_pair;
    struct pair *pair;             /* [mask_pair + 1] */
    int32_t byte_id[256];          /* TOKEN_NONE: the vocabulary lacks this byte */
    uint32_t *added;               /* [n_added] ids by their bytes, what begins another before it */
    uint32_t n_added, first[257];  /* those that begin with byte b: first[b] .. first[b + 1] */
    int32_t bos, eos, unk;
    int32_t prefix[ENDS_MAX], suffix[ENDS_MAX];
    uint32_t n_prefix, n_suffix;
    enum chat_form form;
    const char *system;            /* the template's own system text, or NULL: the form's */
    char about[256];
    struct word *word;             /* [N_WORD] */
    struct scratch scratch;
};

/* The id of a token's bytes in text, or TOKEN_NONE. Only plain and added tokens when text_only. */
int32_t vocab_find(const struct tokenizer *t, const char *p, size_t n, bool text_only);
const struct pair *vocab_pair(const struct tokenizer *t, uint32_t left, uint32_t right);

/* GPT-2's byte alphabet: characters that stand for bytes in a token's spelling. Writes the bytes,
 * at most n of them; -1 when a character stands for none. */
int64_t alphabet_bytes(const char *p, size_t n, char *out);

/* Bytes of the first word of valid UTF-8, n >= 1; at least 1. */
size_t pretok_next(enum pretok kind, const char *p, size_t n);
/* Appends a word's ids. -1: out of memory. */
int bpe_word(struct tokenizer *t, const char *p, size_t n, struct token_ids *out);
int ids_add(struct token_ids *out, uint32_t id);       /* -1: out of memory */

/* *system: as the template spells it, in its text; p NULL: it has none that varies. */
enum chat_form chat_recognise(const char *text, size_t n, struct token_text *system);
int chat_take(struct tokenizer *t, const char *text, size_t n);    /* -1: out of memory */
/* The form's end of a turn, or TOKEN_NONE. */
int32_t chat_end(const struct tokenizer *t);
/* Text without its special tokens' meaning and without ends. */
int encode_text(struct tokenizer *t, const char *text, size_t n, bool special,
                struct token_ids *out);

#endif
