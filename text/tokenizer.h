/* tokenizer.h - text to token ids and back: byte-level BPE as GPT-2, SmolLM2, Llama 3 and Qwen2 use
 * it.
 *
 * Text is cut into words by the model's pre-tokenizer, each word's bytes are merged by rank
 * (Sennrich et al. 2016; bytes: Radford et al. 2019), and the ids are those of Hugging Face's
 * tokenizers for the same tokenizer.json. Text from outside may hold anything: bytes that are no
 * UTF-8 count as U+FFFD (one for each maximal part, as Unicode recommends), NUL is a byte like
 * others, and special tokens are text unless asked for.
 *
 * Sources: tokenizer.json (here) and GGUF metadata (models/tokenizer_gguf.h), both through
 * tokenizer_build. A tokenizer remembers words that it has seen: one thread at a time. */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { TOKEN_NONE = -1, VOCAB_MAX = 1 << 20 };

/* ---- what grows; start from { 0 } ---- */
struct token_ids { uint32_t *id; size_t n, cap; };
struct text_out { char *p; size_t n, cap; };           /* p[n] is 0 once anything was added */
void token_ids_free(struct token_ids *ids);
void text_out_free(struct text_out *out);

/* ---- opening ---- */
struct tokenizer;
/* path: a folder with tokenizer.json, or the file itself. tokenizer_config.json beside it may name
 * bos, eos and the chat template. */
int  tokenizer_load_json(struct tokenizer **t, const char *path, struct err *e);
void tokenizer_free(struct tokenizer *t);              /* NULL is fine */

uint32_t tokenizer_vocab(const struct tokenizer *t); /* largest id + 1; the model's may be larger */
int32_t tokenizer_bos(const struct tokenizer *t);      /* TOKEN_NONE: has none */
int32_t tokenizer_eos(const struct tokenizer *t);
/* Ends an answer: eos, or the chat form's end of a turn. */
bool tokenizer_ends(const struct tokenizer *t, uint32_t id);
const char *tokenizer_about(const struct tokenizer *t);        /* "smollm, 49152 tokens, FILE" */
/* The id of a token by its text ("<|im_end|>"), or TOKEN_NONE. */
int32_t tokenizer_find(const struct tokenizer *t, const char *text);
/* A token's bytes, not ended by NUL, perhaps part of a character; NULL: no such id. */
const char *tokenizer_bytes(const struct tokenizer *t, uint32_t id, size_t *n);
bool tokenizer_is_special(const struct tokenizer *t, uint32_t id);

/* ---- encoding: appends to out ---- */
enum {
    ENCODE_SPECIAL = 1,            /* special tokens written in the text become their ids */
    ENCODE_ENDS = 2                /* what the model wants around a text (bos), if anything */
};
int tokenizer_encode(struct tokenizer *t, const char *text, size_t n, unsigned flags,
                     struct token_ids *out, struct err *e);

/* ---- decoding ---- */
enum { DECODE_SPECIAL = 1 };       /* show special tokens; otherwise they are left out */
/* All at once: appends valid UTF-8; bytes that are none become U+FFFD. */
int tokenizer_decode(const struct tokenizer *t, const uint32_t *id, size_t n, unsigned flags,
                     struct text_out *out, struct err *e);
/* Token by token: what is appended is whole characters only, and the sum of all pushes and the end
 * is what tokenizer_decode gives for all ids. */
struct decode_stream {
    const struct tokenizer *t;
    unsigned flags;
    unsigned char held[4];         /* the beginning of a character that is not complete */
    unsigned n_held;
};
void decode_start(struct decode_stream *s, const struct tokenizer *t, unsigned flags);
int  decode_push(struct decode_stream *s, uint32_t id, struct text_out *out, struct err *e);
int  decode_end(struct decode_stream *s, struct text_out *out, struct err *e);

/* ---- chat ---- */
struct chat_turn { const char *role, *text; };         /* "system", "user", "assistant" */
/* The form that the template's text was recognised as ("smollm2", "qwen2", "qwen2.5", "qwen3", "chatml",
 * "llama3", "llama3.1"), or NULL. */
const char *tokenizer_chat_form(const struct tokenizer *t);
/* 0, or -1 with the reason: the model has no template, or one that is not known. */
int chat_check(const struct tokenizer *t, struct err *e);
/* The prompt of a conversation, ending where the model answers. Refused with a reason when the
 * model has no template or one that is not known: no template language is interpreted. chat_encode
 * takes special tokens from the form only: those that stand in a turn's text are text. */
int chat_text(const struct tokenizer *t, const struct chat_turn *turn, size_t n,
              struct text_out *out, struct err *e);
int chat_encode(struct tokenizer *t, const struct chat_turn *turn, size_t n, struct token_ids *out,
                struct err *e);

/* ---- from parts: what a loader of another format fills; all of it is copied and checked ---- */
enum pretok { PRETOK_GPT2, PRETOK_SMOLLM, PRETOK_LLAMA3, PRETOK_QWEN2, PRETOK_N };
enum token_kind { TOKEN_PLAIN, TOKEN_ADDED, TOKEN_SPECIAL };   /* ADDED: whole in text, always */
struct token_text { const char *p; size_t n; };
struct tokenizer_parts {
    const char *path;              /* names the file in messages */
    enum pretok pretok;
    bool nfc;                      /* text is normalised to NFC first (Qwen2) */
    bool ignore_merges;            /* a word that is a token needs no merges (Llama 3) */
    uint32_t n_token;
    /* [n_token] PLAIN: in GPT-2's byte alphabet. p NULL: no such id */
    const struct token_text *token;
    const uint8_t *kind;               /* [n_token] enum token_kind */
    uint32_t n_merge;
    const struct token_text *merge;    /* [2 * n_merge]: left and right of each, best first */
    int64_t bos, eos, unk;             /* TOKEN_NONE: none */
    const int32_t *prefix, *suffix;    /* ENCODE_ENDS: ids before and after a text */
    uint32_t n_prefix, n_suffix;
    const char *chat_template;         /* NULL: none */
    size_t n_chat_template;
};
int tokenizer_build(struct tokenizer **t, const struct tokenizer_parts *p, struct err *e);

#endif
