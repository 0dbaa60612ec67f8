#include "base/plain.h"

#include <stdarg.h>
#include <stdint.h>

int utf8_len(const unsigned char *p)
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

char *plain(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p;) {
        int n = utf8_len(p);

        if (n == 0 || (*p < ' ' && *p != '\n' && *p != '\t') || *p == 127)
            *p = '?';
        else if (n == 2 && p[0] == 0xc2 && p[1] < 0xa0)      /* C1: a CSI in one letter */
            p[0] = p[1] = '?';
        p += n ? n : 1;
    }
    return text;
}

void print_plain(FILE *out, const char *fmt, ...)
{
    char line[4000];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    fputs(plain(line), out);
}
