/* pretokenize.c - where a text is cut into words before merging: four regular expressions as
 * scanners.
 *
 * GPT-2 (Radford et al. 2019):
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * SmolLM2: every number on its own first, then GPT-2's in each piece between, which ends there. The
 * reference tells these numbers by Unicode 17, those of the expressions by 16.
 * Llama 3 (its tokenizer.json; after tiktoken's cl100k):
 *   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
 *    ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * Qwen2: the same with \p{N} alone.
 *
 * Alternatives are tried in their order at each place, as the regular expressions would, and they
 * cover every character. Stays true: a character is looked at a constant number of times, so a line
 * of a million blanks is as cheap as text. */
#include "text/vocab.h"

struct scan {
    const char *p;
    size_t n;
    bool number_ends;              /* SmolLM2: a number ends the piece */
};
struct look { enum char_class cls; uint32_t cp; unsigned n; };

/* Numbers that Unicode 17 added: Tolong Siki's digits and three others. */
static bool is_new_number(uint32_t cp)
{
    return (cp >= 0x11de0 && cp <= 0x11de9) || (cp >= 0x16ff4 && cp <= 0x16ff6);
}

static struct look look(const struct scan *s, size_t i)
{
    struct look l = { CHAR_END, 0, 0 };

    if (i >= s->n)
        return l;
    l.cp = utf8_next(s->p + i, s->n - i, &l.n);
    l.cls = l.cp < UTF8_BAD ? char_class(l.cp) : CHAR_OTHER;
    if (s->number_ends && (l.cls == CHAR_NUMBER || is_new_number(l.cp)))
        l.cls = CHAR_END;
    return l;
}

/* The end of the run of one class that begins at i, at most `most` characters. */
static size_t run(const struct scan *s, size_t i, enum char_class cls, size_t most)
{
    struct look l;

    while (most-- && (l = look(s, i)).cls == cls)
        i += l.n;
    return i;
}

static bool is_line(uint32_t cp)
{
    return cp == '\r' || cp == '\n';
}

/* \s*[\r\n]+ (when lines), \s+(?!\S), \s+ from a blank at 0. */
static size_t blanks(const struct scan *s, bool lines)
{
    size_t end = 0, last = 0, line = 0;
    struct look l;

    while ((l = look(s, end)).cls == CHAR_SPACE) {
        last = end;
        end += l.n;
        if (is_line(l.cp))
            line = end;
    }
    if (lines && line)
        return line;
    return l.cls == CHAR_END || !last ? end : last; /* the last blank goes with the word after it */
}

/* U+017F folds to s: (?i:'s) takes it, in every engine with Unicode case folding. */
static uint32_t fold(uint32_t cp, bool any_case)
{
    if (!any_case)
        return cp;
    return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp == 0x17f ? 's' : cp;
}

/* 's 't 're 've 'm 'll 'd: the end, or 0. */
static size_t contraction(const struct scan *s, bool any_case)
{
    struct look a, b;
    uint32_t x, y;

    if (s->p[0] != '\'')
        return 0;
    a = look(s, 1);
    b = look(s, 1 + a.n);
    x = fold(a.cp, any_case);
    y = fold(b.cp, any_case);
    if (a.n && (x == 's' || x == 't' || x == 'm' || x == 'd'))
        return 1 + a.n;
    if (b.n && ((x == 'r' && y == 'e') || (x == 'v' && y == 'e') || (x == 'l' && y == 'l')))
        return 1 + a.n + b.n;
    return 0;
}

static size_t next_gpt2(const struct scan *s)
{
    size_t end = contraction(s, false), from;
    struct look l = look(s, 0);

    if (end)
        return end;
    from = l.cp == ' ' ? 1 : 0;
    if (from && (look(s, 1).cls == CHAR_END || look(s, 1).cls == CHAR_SPACE))
        from = 0;
    l = look(s, from);
    return l.cls == CHAR_SPACE ? blanks(s, false) : run(s, from, l.cls, SIZE_MAX);
}

static size_t next_lines(const struct scan *s, size_t most_digits)
{
    struct look l = look(s, 0), after = look(s, l.n);
    size_t end = contraction(s, true);

    if (end)
        return end;
    if (l.cls == CHAR_LETTER)
        return run(s, 0, CHAR_LETTER, SIZE_MAX);
    if (l.cls == CHAR_NUMBER)
        return run(s, 0, CHAR_NUMBER, most_digits);
    if (after.cls == CHAR_LETTER && !is_line(l.cp))
        return run(s, l.n, CHAR_LETTER, SIZE_MAX);
    if (l.cls == CHAR_SPACE && (l.cp != ' ' || after.cls != CHAR_OTHER))
        return blanks(s, true);
    end = run(s, l.cls == CHAR_SPACE ? 1 : 0, CHAR_OTHER, SIZE_MAX);
    while (end < s->n && is_line((unsigned char)s->p[end]))
        end++;
    return end;
}

size_t pretok_next(enum pretok kind, const char *p, size_t n)
{
    struct scan s = { p, n, false };
    struct look l;

    switch (kind) {
    case PRETOK_SMOLLM:
        l = look(&s, 0);
        s.number_ends = true;
        return l.cls == CHAR_NUMBER || is_new_number(l.cp) ? l.n : next_gpt2(&s);
    case PRETOK_LLAMA3: return next_lines(&s, 3);
    case PRETOK_QWEN2: return next_lines(&s, 1);
    default: return next_gpt2(&s);
    }
}
