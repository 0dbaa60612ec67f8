/* json_parts.h - what tokenizer_json.c and tokenizer_files.c share: a tokenizer.json on its way
 * into parts. */
#ifndef TEXT_JSON_PARTS_H
#define TEXT_JSON_PARTS_H

#include <jansson.h>

#include "base/map.h"
#include "text/vocab.h"

struct load {
    struct tokenizer_parts p;
    struct arena arena;            /* spans and kinds; texts stay in the JSON values */
    json_t *root, *config;         /* tokenizer.json; tokenizer_config.json or NULL */
    char path[4096], beside[4096]; /* of tokenizer.json; of the file beside it that is being read */
    struct map jinja;              /* chat_template.jinja, or nothing */
    struct err *e;
};

/* A member that is there and not null. */
static inline const json_t *member(const json_t *v, const char *key)
{
    const json_t *one = json_object_get(v, key);

    return json_is_null(one) ? NULL : one;
}

/* One line: file, what, the value got (may be NULL), and what was expected. Always -1. */
int json_refuse(const struct load *l, const char *what, const char *got, const char *want);
/* Fills l->p from l->root. */
int json_parts(struct load *l);

#endif
