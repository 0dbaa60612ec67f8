/* tokenizer.c - text to ids: repair UTF-8, cut out added tokens, normalise, cut into words, merge.
 * And what a tokenizer can be asked.
 *
 * The order is that of Hugging Face's tokenizers: added tokens are cut out of the text as it came,
 * what stands between them is normalised and cut into words piece by piece, and a piece ends where
 * the next added token begins. A special token that is not asked for stays part of its piece. */
#include <stdlib.h>
#include <string.h>

#include "text/vocab.h"

void token_ids_free(struct token_ids *ids)
{
    free(ids->id);
    *ids = (struct token_ids){ 0 };
}

void text_out_free(struct text_out *out)
{
    free(out->p);
    *out = (struct text_out){ 0 };
}

uint32_t tokenizer_vocab(const struct tokenizer *t) { return t->n_token; }
int32_t tokenizer_bos(const struct tokenizer *t) { return t->bos; }
int32_t tokenizer_eos(const struct tokenizer *t) { return t->eos; }
const char *tokenizer_about(const struct tokenizer *t) { return t->about; }

bool tokenizer_ends(const struct tokenizer *t, uint32_t id)
{
    return (t->eos >= 0 && id == (uint32_t)t->eos) ||
           (chat_end(t) >= 0 && id == (uint32_t)chat_end(t));
}

const char *tokenizer_bytes(const struct tokenizer *t, uint32_t id, size_t *n)
{
    *n = id < t->n_token ? t->token[id].n : 0;
    return id < t->n_token ? t->token[id].p : NULL;
}

bool tokenizer_is_special(const struct tokenizer *t, uint32_t id)
{
    return id < t->n_token && t->token[id].p && t->token[id].kind == TOKEN_SPECIAL;
}

/* The first of added[low..high), which share their first i bytes, whose next is c or above; those that end there come
 * before. */
static uint32_t added_from(const struct tokenizer *t, uint32_t low, uint32_t high, uint32_t i, unsigned c)
{
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct token *k = &t->token[t->added[mid]];

        if (k->n > i && (unsigned char)k->p[i] >= c)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

/* The longest added token that p[0..n) begins with, n >= 1: the list is narrowed byte by byte. */
static int32_t added_at(const struct tokenizer *t, const char *p, size_t n)
{
    unsigned c = (unsigned char)p[0];
    uint32_t low = t->first[c], high = t->first[c + 1];
    int32_t best = TOKEN_NONE;

    for (uint32_t i = 1; low < high; i++) {
        if (t->token[t->added[low]].n == i)
            best = (int32_t)t->added[low];
        if (i == n)
            break;
        c = (unsigned char)p[i];
        low = added_from(t, low, high, i, c);
        high = added_from(t, low, high, i, c + 1);
    }
    return best;
}

int32_t tokenizer_find(const struct tokenizer *t, const char *text)
{
    size_t n = strlen(text);
    int32_t id = n ? added_at(t, text, n) : TOKEN_NONE;

    if (id != TOKEN_NONE && t->token[id].n == n)
        return id;
    return n ? vocab_find(t, text, n, true) : TOKEN_NONE;
}

static int words(struct tokenizer *t, const char *p, size_t n, struct token_ids *out)
{
    while (n) {
        size_t k = pretok_next(t->pretok, p, n);

        if (bpe_word(t, p, k, out))
            return -1;
        p += k;
        n -= k;
    }
    return 0;
}

static int piece(struct tokenizer *t, const char *p, size_t n, struct token_ids *out)
{
    struct text_out nfc = { 0 };
    int rc;

    if (!t->nfc || nfc_plain(p, n))
        return words(t, p, n, out);
    rc = nfc_append(p, n, &nfc) || words(t, nfc.p, nfc.n, out) ? -1 : 0;
    text_out_free(&nfc);
    return rc;
}

/* p is valid UTF-8. */
static int pieces(struct tokenizer *t, const char *p, size_t n, bool special, struct token_ids *out)
{
    size_t from = 0, i = 0;

    while (i < n) {
        int32_t id = added_at(t, p + i, n - i);

        if (id == TOKEN_NONE) {
            i++;
            continue;
        }
        if (special || t->token[id].kind != TOKEN_SPECIAL) {
            if (piece(t, p + from, i - from, out) || ids_add(out, (uint32_t)id))
                return -1;
            from = i + t->token[id].n;
        }
        i += t->token[id].n;
    }
    return piece(t, p + from, n - from, out);
}

int encode_text(struct tokenizer *t, const char *text, size_t n, bool special,
                struct token_ids *out)
{
    struct text_out whole = { 0 };
    int rc;

    if (utf8_valid(text, n) == n)
        return pieces(t, text, n, special, out);
    rc = utf8_repair(text, n, &whole) || pieces(t, whole.p, whole.n, special, out) ? -1 : 0;
    text_out_free(&whole);
    return rc;
}

int tokenizer_encode(struct tokenizer *t, const char *text, size_t n, unsigned flags,
                     struct token_ids *out, struct err *e)
{
    bool ends = flags & ENCODE_ENDS;
    int rc = 0;

    if (n > ENCODE_MAX)
        return err_set(e, EXIT_USAGE, "tokenizer: a text of %zu bytes; at most %zu in one call", n,
                       ENCODE_MAX);
    for (uint32_t i = 0; ends && !rc && i < t->n_prefix; i++)
        rc = ids_add(out, (uint32_t)t->prefix[i]);
    if (!rc)
        rc = encode_text(t, text, n, flags & ENCODE_SPECIAL, out);
    for (uint32_t i = 0; ends && !rc && i < t->n_suffix; i++)
        rc = ids_add(out, (uint32_t)t->suffix[i]);
    return rc ? err_set(e, EXIT_RUN_FAILED, "tokenizer: out of memory for a text of %zu bytes", n)
              : 0;
}
