#include "harness/preset.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/home.h"

static int text_field(const char *path, json_t *root, const char *key, char *out, size_t n,
                      struct err *e)
{
    json_t *v = json_object_get(root, key);

    if (!json_is_string(v) || (size_t)snprintf(out, n, "%s", json_string_value(v)) >= n)
        return err_set(e, EXIT_USAGE, "%s: field '%s': expected text shorter than %zu bytes", path,
                       key, n);
    return 0;
}

static int read_preset(struct preset *p, const char *path, json_t *root, struct err *e)
{
    json_t *list = json_object_get(root, "strategies"), *v;
    char schema[32];
    size_t i;

    if (text_field(path, root, "schema", schema, sizeof schema, e) ||
        text_field(path, root, "name", p->name, sizeof p->name, e) ||
        text_field(path, root, "about", p->about, sizeof p->about, e) ||
        text_field(path, root, "source", p->source, sizeof p->source, e))
        return -1;
    if (strcmp(schema, "preset/1"))
        return err_set(e, EXIT_USAGE, "%s: field 'schema': '%s'; expected 'preset/1'", path, schema);
    if (!json_is_array(list) || !json_array_size(list) || json_array_size(list) > STRATEGIES_MAX ||
        json_object_size(root) != 5)
        return err_set(e, EXIT_USAGE, "%s: expected the fields schema, name, about, source and "
                       "strategies, a list of 1 to %d strategy texts", path, STRATEGIES_MAX);
    json_array_foreach(list, i, v) {
        if (!json_is_string(v) || json_string_length(v) >= sizeof p->strategy[0])
            return err_set(e, EXIT_USAGE, "%s: strategies[%zu]: expected a strategy text", path, i);
        strcpy(p->strategy[p->n++], json_string_value(v));
    }
    return 0;
}

int preset_load(struct preset *p, const char *path, struct err *e)
{
    json_error_t je;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &je);
    int rc;

    memset(p, 0, sizeof *p);
    if (!root)
        return err_set(e, EXIT_USAGE, "%s: line %d: %s", path, je.line, je.text);
    rc = json_is_object(root) ? read_preset(p, path, root, e)
                              : err_set(e, EXIT_USAGE, "%s: expected one JSON object", path);
    json_decref(root);
    return rc;
}

static int append(struct strategy *s, size_t *n, const char *text, const char *preset, struct err *e)
{
    if (*n == STRATEGIES_MAX)
        return err_set(e, EXIT_USAGE, "more than %d strategies in one experiment", STRATEGIES_MAX);
    if (strategy_parse(&s[*n], text, e))
        return -1;
    for (size_t i = 0; i < *n; i++)
        if (!strcmp(s[i].name, s[*n].name))
            return err_set(e, EXIT_USAGE, "strategy '%s' stands twice in one experiment", s[i].name);
    snprintf(s[*n].preset, sizeof s->preset, "%s", preset);
    ++*n;
    return 0;
}

static int append_preset(struct strategy *s, size_t *n, const char *name, struct err *e)
{
    struct preset *p = malloc(sizeof *p);
    char path[4096];
    int rc = -1;

    if (!p)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    if (!home_find("strategy or preset", "strategies/presets", name, ".json", path, sizeof path, e))
        rc = preset_load(p, path, e);
    for (size_t i = 0; !rc && i < p->n; i++)
        rc = append(s, n, p->strategy[i], p->name, e);
    free(p);
    return rc;
}

int strategies_parse(struct strategy *s, size_t *n, const char *text, struct err *e)
{
    char *copy = strdup(text), *save = NULL;
    int rc = copy ? 0 : err_set(e, EXIT_RUN_FAILED, "out of memory");

    for (char *p = copy ? strtok_r(copy, ",", &save) : NULL; !rc && p; p = strtok_r(NULL, ",", &save))
        rc = strchr(p, '+') ? append(s, n, p, "", e) : append_preset(s, n, p, e);
    free(copy);
    if (!rc && !*n)
        return err_set(e, EXIT_USAGE, "no strategy was given");
    return rc;
}
