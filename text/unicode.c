/* unicode.c - UTF-8 in and out, and character classes by binary search in ranges.
 *
 * Stays true: no byte is read beyond the end given, whatever the bytes are. */
#include <stdlib.h>
#include <string.h>

#include "text/unicode.h"
#include "text/unicode_data.h"

/* How many bytes a character has by its first one, and what its second may be (Unicode, table 3-7).
 */
static unsigned lead(unsigned char c, unsigned char *low, unsigned char *high)
{
    *low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    *high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    return c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
}

uint32_t utf8_next(const char *p, size_t n, unsigned *used)
{
    const unsigned char *s = (const unsigned char *)p;
    unsigned char low, high;
    unsigned size;
    uint32_t cp;

    *used = 1;
    if (s[0] < 0x80)
        return s[0];
    if (!(size = lead(s[0], &low, &high)))
        return UTF8_BAD;
    cp = s[0] & (0xffu >> (size + 1));
    for (; *used < size; (*used)++) {
        if (*used >= n)
            return UTF8_CUT;
        if (s[*used] < low || s[*used] > high)
            return UTF8_BAD;
        cp = cp << 6 | (s[*used] & 0x3f);
        low = 0x80;
        high = 0xbf;
    }
    return cp;
}

unsigned utf8_put(uint32_t cp, char out[4])
{
    static const unsigned char mark[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    unsigned n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;

    for (unsigned i = n; i-- > 1; cp >>= 6)
        out[i] = (char)(0x80 | (cp & 0x3f));
    out[0] = (char)(mark[n > 1 ? n : 0] | cp);
    return n;
}

size_t utf8_valid(const char *p, size_t n)
{
    unsigned used;
    size_t i = 0;

    while (i < n && utf8_next(p + i, n - i, &used) < UTF8_BAD)
        i += used;
    return i;
}

int out_add(struct text_out *out, const char *p, size_t n)
{
    if (n >= out->cap - out->n || !out->p) {
        size_t cap = out->n + n + out->n / 2 + 64;
        char *q = cap > n ? realloc(out->p, cap) : NULL;

        if (!q)
            return -1;
        out->p = q;
        out->cap = cap;
    }
    if (n)
        memcpy(out->p + out->n, p, n);
    out->n += n;
    out->p[out->n] = 0;
    return 0;
}

int utf8_repair(const char *p, size_t n, struct text_out *out)
{
    unsigned used;

    while (n) {
        size_t ok = utf8_valid(p, n);

        if (out_add(out, p, ok))
            return -1;
        p += ok;
        n -= ok;
        if (!n)
            break;
        utf8_next(p, n, &used);
        if (out_add(out, "\xef\xbf\xbd", 3))
            return -1;
        p += used;
        n -= used;
    }
    return 0;
}

static bool in_ranges(const uint32_t *range, unsigned n, uint32_t cp)
{
    unsigned low = 0;

    while (n) {                                /* the last range that begins at or before cp */
        unsigned half = (n + 1) / 2;

        if (range[2 * (low + half - 1)] <= cp) {
            low += half;
            n -= half;
        } else {
            n = half - 1;
        }
    }
    return low && cp <= range[2 * low - 1];
}

static bool is_space(uint32_t cp)
{
    return (cp >= 9 && cp <= 13) || cp == 0x20 || cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f ||
           cp == 0x205f || cp == 0x3000;
}

enum char_class char_class(uint32_t cp)
{
    if (is_space(cp))
        return CHAR_SPACE;
    if (cp < 0x80)
        return (cp | 0x20) >= 'a' && (cp | 0x20) <= 'z' ? CHAR_LETTER
               : cp >= '0' && cp <= '9'                 ? CHAR_NUMBER
                                                        : CHAR_OTHER;
    if (in_ranges(unicode_letter, unicode_size.n_letter, cp))
        return CHAR_LETTER;
    return in_ranges(unicode_number, unicode_size.n_number, cp) ? CHAR_NUMBER : CHAR_OTHER;
}
