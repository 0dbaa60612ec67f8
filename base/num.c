#include "base/num.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int parse_int(const char *text, int64_t min, int64_t max, int64_t *out)
{
    char *end;
    long long v;

    if (!isdigit((unsigned char)text[0]) && !(text[0] == '-' && isdigit((unsigned char)text[1])))
        return -1;
    errno = 0;
    v = strtoll(text, &end, 10);
    if (errno || *end || v < min || v > max)
        return -1;
    *out = v;
    return 0;
}

int parse_real(const char *text, double min, double max, double *out)
{
    char *end;
    double v;

    if (text[strspn(text, "0123456789.eE+-")] || !strpbrk(text, "0123456789"))
        return -1;
    errno = 0;
    v = strtod(text, &end);
    if (*end || !isfinite(v) || v < min || v > max)
        return -1;
    *out = v;
    return 0;
}

int parse_bytes(const char *text, uint64_t *out)
{
    static const struct { const char *unit; double factor; } units[] = {
        { "", 1 }, { "B", 1 }, { "KiB", 0x1p10 }, { "MiB", 0x1p20 }, { "GiB", 0x1p30 },
        { "kB", 1e3 }, { "MB", 1e6 }, { "GB", 1e9 },
    };
    size_t n = strspn(text, "0123456789.");
    char digits[32];
    double v;

    if (n == 0 || n >= sizeof digits)
        return -1;
    memcpy(digits, text, n);
    digits[n] = 0;
    if (parse_real(digits, 0, 1e15, &v))
        return -1;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcmp(text + n, units[i].unit)) {
            v *= units[i].factor;
            if (v > 1e17)
                return -1;
            *out = (uint64_t)v;
            return 0;
        }
    return -1;
}
