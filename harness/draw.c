#include "harness/draw.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *draw_word(const char *words, struct rng *r)
{
    uint64_t n = 1;

    for (const char *p = words; *p; p++)
        n += *p == '|';
    for (uint64_t i = rng_below(r, n); i; i--)
        words = strchr(words, '|') + 1;
    return words;
}

static int64_t draw_number(const struct knob *k, struct rng *r, int64_t most)
{
    double lo = log((double)(k->min > 0 ? k->min : 1));
    double hi = log((double)(k->max < most ? k->max : most > k->min ? most : k->min));
    int64_t v = (int64_t)exp(lo + rng_unit(r) * (hi - lo));

    if (k->min <= 0 && !rng_below(r, 8))
        return k->min;
    return v < k->min ? k->min : v > k->max ? k->max : v;
}

void draw_knobs(const struct knob *k, struct rng *r, int64_t most, char *out, size_t n)
{
    size_t used = 0;

    out[0] = 0;
    for (; k && k->name; k++) {
        const char *w;
        int len;

        if (rng_below(r, 2))
            continue;
        w = k->words ? draw_word(k->words, r) : NULL;
        len = w ? snprintf(out + used, n - used, ":%s=%.*s", k->name, (int)strcspn(w, "|"), w)
                : snprintf(out + used, n - used, ":%s=%lld", k->name,
                           (long long)draw_number(k, r, most));
        if (used + (size_t)len >= n)
            out[used] = 0;
        else
            used += (size_t)len;
    }
}
