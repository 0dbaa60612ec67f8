#include "models/model_json.h"

#include <string.h>

enum { DEEPEST = 64 };

/* Where nesting passes DEEPEST, or n. The parser recurses; its own limit is 2048. Brackets inside strings do not
 * count; text that is not JSON is the parser's to refuse. */
static uint64_t too_deep(const unsigned char *p, uint64_t n)
{
    bool text = false;
    int depth = 0;

    for (uint64_t i = 0; i < n; i++) {
        if (text && p[i] == '\\')
            i++;
        else if (p[i] == '"')
            text = !text;
        else if (!text && (p[i] == '{' || p[i] == '[') && ++depth > DEEPEST)
            return i;
        else if (!text && (p[i] == '}' || p[i] == ']'))
            depth--;
    }
    return n;
}

json_t *model_json(const struct map *m, uint64_t at, uint64_t n, struct err *e)
{
    const unsigned char *p = m->data ? m->data + at : (const unsigned char *)"", *nul;
    uint64_t deep = too_deep(p, n);
    char shown[MAP_SHOW];
    json_error_t je;
    json_t *root;

    if (deep < n)
        return err_set(e, EXIT_USAGE, "%s: offset %llu: nested deeper than %d; expected plain settings",
                       m->path, (unsigned long long)(at + deep), DEEPEST), NULL;
    if ((nul = memchr(p, 0, (size_t)n)))
        return err_set(e, EXIT_USAGE, "%s: offset %llu: a NUL byte in JSON text; expected text, padded with "
                       "blanks if at all", m->path, (unsigned long long)(at + (uint64_t)(nul - p))), NULL;
    root = json_loadb((const char *)p, (size_t)n, JSON_REJECT_DUPLICATES, &je);
    if (!root)
        return err_set(e, EXIT_USAGE, "%s: offset %llu (line %d): not valid JSON: %s", m->path,
                       (unsigned long long)(at + (uint64_t)(je.position > 0 ? je.position : 0)), je.line,
                       map_show(je.text, strlen(je.text), shown)), NULL;
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(e, EXIT_USAGE, "%s: offset %llu: expected a JSON object", m->path,
                       (unsigned long long)at), NULL;
    }
    return root;
}

json_t *model_json_file(const char *path, uint64_t max, struct err *e)
{
    json_t *root = NULL;
    struct map m;

    if (map_open(&m, path, max, e))
        return NULL;
    root = model_json(&m, 0, m.size, e);
    map_close(&m);
    return root;
}
