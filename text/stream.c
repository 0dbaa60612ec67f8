/* stream.c - ids to text, token by token, never half a character.
 *
 * A token's bytes may end inside a character: they are held until the next token completes it, or
 * shows that nothing will. Bytes that are no UTF-8 become U+FFFD, one for each maximal part, so
 * that the stream gives the same text however the bytes are cut into tokens. */
#include "text/vocab.h"

static const char bad[] = "\xef\xbf\xbd";

void decode_start(struct decode_stream *s, const struct tokenizer *t, unsigned flags)
{
    *s = (struct decode_stream){ .t = t, .flags = flags };
}

/* One byte more for what is held. 1: taken; 0: the byte stands for itself, what was held was no
 * character; -1: out of memory. */
static int complete(struct decode_stream *s, char byte, struct text_out *out)
{
    unsigned used;
    uint32_t cp;

    s->held[s->n_held++] = (unsigned char)byte;
    cp = utf8_next((const char *)s->held, s->n_held, &used);
    if (cp == UTF8_CUT)
        return 1;
    used = s->n_held;
    s->n_held = 0;
    if (cp == UTF8_BAD)
        return out_add(out, bad, 3) ? -1 : 0;
    return out_add(out, (const char *)s->held, used) ? -1 : 1;
}

static int feed(struct decode_stream *s, const char *p, size_t n, struct text_out *out)
{
    while (n && s->n_held) {
        int taken = complete(s, *p, out);

        if (taken < 0)
            return -1;
        p += taken;
        n -= (size_t)taken;
    }
    while (n) {
        size_t ok = utf8_valid(p, n);
        unsigned used = 0;
        uint32_t cp = ok < n ? utf8_next(p + ok, n - ok, &used) : 0;

        if (ok && out_add(out, p, ok))
            return -1;
        if (cp == UTF8_BAD && out_add(out, bad, 3))
            return -1;
        for (unsigned i = 0; cp == UTF8_CUT && i < used; i++)
            s->held[s->n_held++] = (unsigned char)p[ok + i];
        p += ok + used;
        n -= ok + used;
    }
    return 0;
}

int decode_push(struct decode_stream *s, uint32_t id, struct text_out *out, struct err *e)
{
    size_t n;
    const char *p = tokenizer_bytes(s->t, id, &n);

    if (tokenizer_is_special(s->t, id) && !(s->flags & DECODE_SPECIAL))
        return 0;
    if (!p) {                                  /* an id without a text is shown, not swallowed */
        p = bad;
        n = 3;
    }
    return feed(s, p, n, out) ? err_set(e, EXIT_RUN_FAILED, "tokenizer: out of memory for text")
                              : 0;
}

int decode_end(struct decode_stream *s, struct text_out *out, struct err *e)
{
    bool has = s->n_held > 0;

    s->n_held = 0;
    if (has && out_add(out, bad, 3))
        return err_set(e, EXIT_RUN_FAILED, "tokenizer: out of memory for text");
    return 0;
}

int tokenizer_decode(const struct tokenizer *t, const uint32_t *id, size_t n, unsigned flags,
                     struct text_out *out, struct err *e)
{
    struct decode_stream s;

    decode_start(&s, t, flags);
    for (size_t i = 0; i < n; i++)
        if (decode_push(&s, id[i], out, e))
            return -1;
    return decode_end(&s, out, e);
}
