#include "harness/escape.h"

#include <stdbool.h>
#include <stdint.h>

/* Bytes of the UTF-8 letter at p, or 0 when it is none (overlong, surrogate, cut off, beyond
 * Unicode). */
static int utf8_len(const unsigned char *p)
{
    int n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 :
            p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
    uint32_t c = n < 2 ? p[0] : p[0] & (0xffu >> (n + 1));

    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if ((n == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) ||
        (n == 4 && (c < 0x10000 || c > 0x10ffff)))
        return 0;
    return n;
}

void escape_html(FILE *out, const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    while (*p) {
        int n = utf8_len(p);

        switch (*p) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '"': fputs("&quot;", out); break;
        case '\'': fputs("&#39;", out); break;
        default:
            if (n == 0 || (*p < ' ' && *p != '\n' && *p != '\t') || *p == 127)
                fputs("\xef\xbf\xbd", out);
            else
                fwrite(p, 1, (size_t)n, out);
        }
        p += n ? n : 1;
    }
}
