#include "base/params.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

static size_t edit_distance(const char *a, const char *b)
{
    size_t row[65], n = strlen(b);

    if (n > 64)
        return 99;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diag = row[0];

        row[0] = i + 1;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diag + (a[i] != b[j - 1]);

            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diag = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

const char *nearest_name(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    size_t len = strlen(word), best_d = len / 2 < 2 ? 2 : len / 2;

    for (size_t i = 0; i < n; i++) {
        size_t d = edit_distance(word, names[i]);

        if (len > 1 && !strncmp(word, names[i], len))
            d = 0;                              /* a prefix is as near as can be */
        if (d <= best_d && (!best || d < best_d)) {
            best = names[i];
            best_d = d;
        }
    }
    return best;
}

static size_t knob_count(const struct knob *table)
{
    size_t n = 0;

    while (table && table[n].name)
        n++;
    return n;
}

/* The i-th word of "a|b|c" into out; false past the end. */
static bool word_at(const char *words, int64_t i, char out[32])
{
    size_t n;

    for (; i > 0; i--) {
        words = strchr(words, '|');
        if (!words)
            return false;
        words++;
    }
    n = strcspn(words, "|");
    snprintf(out, 32, "%.*s", (int)n, words);
    return true;
}

/* Sets one knob and its bit in *seen: the same knob twice is a slip of the pen, not a choice. */
static int set_one(struct params *p, const char *owner, const char *key, const char *val,
                   unsigned *seen, struct err *e)
{
    const char *names[PARAMS_MAX];
    size_t n = knob_count(p->knob);
    char w[32];

    for (size_t i = 0; i < n; i++) {
        const struct knob *k = &p->knob[i];

        names[i] = k->name;
        if (strcmp(k->name, key))
            continue;
        if (*seen & 1u << i)
            return err_set(e, EXIT_USAGE, "strategy part '%s': knob %s is given twice", owner, key);
        *seen |= 1u << i;
        if (k->words) {
            for (int64_t j = 0; word_at(k->words, j, w); j++)
                if (!strcmp(w, val)) {
                    p->value[i] = j;
                    return 0;
                }
            return err_set(e, EXIT_USAGE, "strategy part '%s': knob %s=%s: expected one of %s",
                           owner, key, val, k->words);
        }
        if (parse_int(val, k->min, k->max, &p->value[i]))
            return err_set(e, EXIT_USAGE,
                           "strategy part '%s': knob %s=%s: expected a whole number from %lld to "
                           "%lld", owner, key, val, (long long)k->min, (long long)k->max);
        return 0;
    }
    if (!n)
        return err_set(e, EXIT_USAGE, "strategy part '%s' has no knobs, but '%s' was given", owner,
                       key);
    const char *near = nearest_name(key, names, n);

    return err_set(e, EXIT_USAGE, "strategy part '%s': unknown knob '%s'; %s%s%s'servelab list' "
                   "shows all", owner, key, near ? "did you mean '" : "", near ? near : "",
                   near ? "'? " : "");
}

int params_parse(struct params *p, const struct knob *table, const char *owner, const char *text,
                 struct err *e)
{
    size_t n = knob_count(table);
    unsigned seen = 0;

    if (n > PARAMS_MAX)
        abort();
    p->knob = table;
    for (size_t i = 0; i < n; i++)
        p->value[i] = table[i].def;
    while (text && *text) {
        char part[128], *eq;
        size_t len = strcspn(text, ":");

        if (len >= sizeof part)
            return err_set(e, EXIT_USAGE, "strategy part '%s': knob text is too long", owner);
        memcpy(part, text, len);
        part[len] = 0;
        text += len + (text[len] == ':');
        eq = strchr(part, '=');
        if (!eq || eq == part || !eq[1])
            return err_set(e, EXIT_USAGE, "strategy part '%s': '%s': expected knob=value", owner,
                           part);
        *eq = 0;
        if (set_one(p, owner, part, eq + 1, &seen, e))
            return -1;
    }
    return 0;
}

static size_t knob_index(const struct params *p, const char *name)
{
    for (size_t i = 0; p->knob && p->knob[i].name; i++)
        if (!strcmp(p->knob[i].name, name))
            return i;
    fprintf(stderr, "servelab: internal: no knob '%s' was declared\n", name);
    abort();
}

int64_t params_int(const struct params *p, const char *name)
{
    return p->value[knob_index(p, name)];
}

const char *params_word(const struct params *p, const char *name, char out[32])
{
    size_t i = knob_index(p, name);

    if (!p->knob[i].words || !word_at(p->knob[i].words, p->value[i], out))
        abort();
    return out;
}

void params_name(const struct params *p, const char *owner, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "%s", owner);
    char w[32];

    for (size_t i = 0; p->knob && p->knob[i].name && used < size; i++) {
        const struct knob *k = &p->knob[i];

        if (p->value[i] == k->def)
            continue;
        if (k->words) {
            word_at(k->words, p->value[i], w);
            used += (size_t)snprintf(out + used, size - used, ":%s=%s", k->name, w);
        } else {
            used += (size_t)snprintf(out + used, size - used, ":%s=%lld", k->name,
                                     (long long)p->value[i]);
        }
    }
}
