#include "base/json.h"

#include <stdio.h>
#include <string.h>

#include "base/params.h"

static int read_one(const char *path, const struct json_field *f, json_t *v, struct err *e)
{
    double x;

    if (f->kind == JSON_K_TEXT) {
        if (!json_is_string(v) || json_string_length(v) >= f->size)
            return err_set(e, EXIT_USAGE, "%s: field '%s': expected text shorter than %zu bytes",
                           path, f->key, f->size);
        memcpy(f->out, json_string_value(v), json_string_length(v) + 1);
        return 0;
    }
    if (f->kind == JSON_K_BOOL) {
        if (!json_is_boolean(v))
            return err_set(e, EXIT_USAGE, "%s: field '%s': expected true or false", path, f->key);
        *(bool *)f->out = json_is_true(v);
        return 0;
    }
    if (f->kind == JSON_K_ARRAY) {
        if (!json_is_array(v))
            return err_set(e, EXIT_USAGE, "%s: field '%s': expected a list", path, f->key);
        *(json_t **)f->out = json_incref(v);
        return 0;
    }
    if (!json_is_number(v) || (f->kind == JSON_K_INT && !json_is_integer(v)))
        return err_set(e, EXIT_USAGE, "%s: field '%s': expected a %snumber", path, f->key,
                       f->kind == JSON_K_INT ? "whole " : "");
    x = json_number_value(v);
    if (!(x >= f->min && x <= f->max))
        return err_set(e, EXIT_USAGE, "%s: field '%s': %g is outside %g to %g", path, f->key, x,
                       f->min, f->max);
    if (f->kind == JSON_K_INT)
        *(uint64_t *)f->out = (uint64_t)json_integer_value(v);
    else
        *(double *)f->out = x;
    return 0;
}

static int refuse_unknown(const char *path, const struct json_field *fields, json_t *root,
                          struct err *e)
{
    const char *key, *names[64];
    size_t n = 0;
    json_t *v;

    for (; fields[n].key && n < 64; n++)
        names[n] = fields[n].key;
    json_object_foreach(root, key, v) {
        size_t i = 0;

        while (i < n && strcmp(names[i], key))
            i++;
        if (i == n) {
            const char *near = nearest_name(key, names, n);

            return err_set(e, EXIT_USAGE, "%s: unknown field '%s'%s%s%s", path, key,
                           near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
        }
    }
    return 0;
}

/* root: NULL when je says why; freed. */
static int read_root(const char *path, json_t *root, const json_error_t *je, const struct json_field *fields,
                     struct err *e)
{
    int rc = 0;

    if (!root)
        return err_set(e, EXIT_USAGE, "%s: line %d: %s", path, je->line, je->text);
    if (!json_is_object(root))
        rc = err_set(e, EXIT_USAGE, "%s: expected one JSON object", path);
    if (!rc)
        rc = refuse_unknown(path, fields, root, e);
    for (const struct json_field *f = fields; !rc && f->key; f++) {
        json_t *v = json_object_get(root, f->key);

        if (v)
            rc = read_one(path, f, v, e);
        else if (!f->optional)
            rc = err_set(e, EXIT_USAGE, "%s: field '%s' is missing", path, f->key);
    }
    json_decref(root);
    return rc;
}

int json_read_fields(const char *path, const struct json_field *fields, struct err *e)
{
    json_error_t je;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &je);

    return read_root(path, root, &je, fields, e);
}

int json_text_fields(const char *path, const char *text, size_t n, const struct json_field *fields, struct err *e)
{
    json_error_t je;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);

    return read_root(path, root, &je, fields, e);
}
