/* params.h - knobs of a strategy: declared in a table, read from text, refused with the nearest name.
 *
 * Text is what follows a strategy part's name: "block=16" or "budget=256:batch=8" (':' separates).
 * A knob is a whole number within [min, max], or one of the words in `words` ("max|pow2|exact"). */
#ifndef BASE_PARAMS_H
#define BASE_PARAMS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct knob {
    const char *name;      /* NULL ends a table */
    const char *words;     /* NULL: a whole number; else the legal words, '|' between them */
    int64_t def, min, max; /* number, or index into words (min and max unused) */
    const char *about;     /* one line, with the unit */
};

enum { PARAMS_MAX = 16 };
struct params {
    const struct knob *knob;        /* the table, may be NULL: no knobs */
    int64_t value[PARAMS_MAX];      /* one per knob of the table */
};

/* Fills p with defaults, then with text (may be NULL or ""). `owner` names the part in messages. */
int params_parse(struct params *p, const struct knob *table, const char *owner, const char *text,
                 struct err *e);
/* The value of a knob that the table declares; asking for another is a programming error (abort). */
int64_t params_int(const struct params *p, const char *name);
const char *params_word(const struct params *p, const char *name, char out[32]);
/* Writes "owner:k=v:k=v" with the knobs that differ from their default, in table order. */
void params_name(const struct params *p, const char *owner, char *out, size_t size);

/* The entry of names[0..n) nearest to word by edit distance, or NULL when none is near. */
const char *nearest_name(const char *word, const char *const *names, size_t n);

#endif
