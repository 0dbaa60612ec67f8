#include "harness/escape.h"

#include "base/plain.h"

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
