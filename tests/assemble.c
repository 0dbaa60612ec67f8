#include "tests/assemble.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/home.h"

void bytes_add(struct bytes *b, const void *p, size_t n)
{
    if (b->n + n > b->room) {
        b->room = (b->n + n) * 2 + 64;
        b->p = realloc(b->p, b->room);
        if (!b->p)
            abort();
    }
    if (n && p)
        memcpy(b->p + b->n, p, n);
    else if (n)
        memset(b->p + b->n, 0, n);
    b->n += n;
}

void bytes_free(struct bytes *b)
{
    free(b->p);
    *b = (struct bytes){ 0 };
}

static void add_number(struct bytes *b, uint64_t v, size_t width)
{
    for (size_t i = 0; i < width; i++, v >>= 8)
        bytes_add(b, &(unsigned char){ (unsigned char)v }, 1);
}

static uint64_t number(const char *text)
{
    return *text == '-' ? (uint64_t)strtoll(text, NULL, 0) : strtoull(text, NULL, 0);
}

static bool add_hex(struct bytes *b, const char *text)
{
    unsigned v;

    for (; text[0] && text[1] && sscanf(text, "%2x", &v) == 1; text += 2)
        bytes_add(b, &(unsigned char){ (unsigned char)v }, 1);
    return !*text;
}

static bool add_repeated(struct bytes *b, const char *arg)
{
    const char *text = strchr(arg, ':');
    uint64_t n = number(arg);

    for (; text && n; n--)
        bytes_add(b, text + 1, strlen(text + 1));
    return text != NULL;
}

static bool add_word(struct bytes *b, const struct macros *m, const char *word)
{
    const char *arg = strchr(word, ':');

    if (*word == '@') {
        for (int i = 0; i < m->n; i++)
            if (!strcmp(m->name[i], word))
                return assemble(b, m, m->text[i]);
        return false;
    }
    if (!arg++)
        return false;
    if (strchr("1248", *word) && word[1] == ':') {
        add_number(b, number(arg), (size_t)(*word - '0'));
        return true;
    }
    if (!strncmp(word, "rep:", 4))
        return add_repeated(b, arg);
    if (!strncmp(word, "x:", 2))
        return add_hex(b, arg);
    if (!strncmp(word, "z:", 2))
        bytes_add(b, NULL, (size_t)number(arg));
    else if (!strncmp(word, "pad:", 4))
        bytes_add(b, NULL, (size_t)((0 - (uint64_t)b->n) % number(arg)));
    else if (strchr("rsj", *word) && word[1] == ':') {
        if (*word != 'r')
            add_number(b, strlen(arg), 8);
        bytes_add(b, arg, strlen(arg));
    } else
        return false;
    return true;
}

bool assemble(struct bytes *b, const struct macros *m, const char *words)
{
    char *copy = strdup(words), *save = NULL;
    bool good = copy != NULL;

    for (char *w = copy ? strtok_r(copy, " ", &save) : NULL; good && w; w = strtok_r(NULL, " ", &save))
        good = add_word(b, m, w);
    free(copy);
    return good;
}

/* Cuts a line at its tabs; false when it has too few. */
static bool cut(char *line, char **second, char **third)
{
    line[strcspn(line, "\n")] = 0;
    *second = strchr(line, '\t');
    if (*second)
        *(*second)++ = 0;
    *third = *second ? strchr(*second, '\t') : NULL;
    if (*third)
        *(*third)++ = 0;
    return *second != NULL;
}

int malicious_each(const char *table,
                   void (*each)(const char *name, const char *words, const char *program,
                                const struct macros *m))
{
    char path[4096], *line = NULL, *second, *third;
    struct macros m = { .n = 0 };
    size_t room = 0;
    int n = 0;
    FILE *f;

    snprintf(path, sizeof path, "%s/tests/malicious/%s", home_dir(), table);
    if (!(f = fopen(path, "r")))
        return -1;
    while (getline(&line, &room, f) > 0) {
        if (*line == '#' || !cut(line, &second, &third))
            continue;
        if (*line == '@' && m.n < MACROS) {
            m.name[m.n] = strdup(line);
            m.text[m.n++] = strdup(second);
        } else if (third) {
            each(line, second, third, &m);
            n++;
        }
    }
    for (int i = 0; i < m.n; i++) {
        free(m.name[i]);
        free(m.text[i]);
    }
    free(line);
    fclose(f);
    return n;
}
