/* json.h - reading small configuration files strictly: unknown keys and wrong types are refused. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum json_kind { JSON_K_REAL, JSON_K_INT, JSON_K_BOOL, JSON_K_TEXT, JSON_K_ARRAY };
struct json_field {
    const char *key;               /* NULL ends a table */
    enum json_kind kind;
    void *out;                     /* double *, uint64_t *, bool *, char[size], json_t ** (owned by the caller) */
    double min, max;               /* numbers: legal range */
    size_t size;                   /* text: room */
    bool optional;
};
/* Loads `path`, an object with exactly these fields. The first problem is one line in e. */
int json_read_fields(const char *path, const struct json_field *fields, struct err *e);
/* The same of text [n] that was read from `path` before. */
int json_text_fields(const char *path, const char *text, size_t n, const struct json_field *fields, struct err *e);

#endif
