#include "harness/preset.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/home.h"
#include "base/params.h"

struct text { const char *key; char *out; size_t size; bool optional; };

static int text_field(const char *path, json_t *root, const struct text *t, struct err *e)
{
    json_t *v = json_object_get(root, t->key);

    if (!v && t->optional)
        return 0;
    if (!json_is_string(v) || !json_string_length(v) ||
        (size_t)snprintf(t->out, t->size, "%s", json_string_value(v)) >= t->size)
        return err_set(e, EXIT_USAGE, "%s: field '%s': expected text shorter than %zu bytes", path,
                       t->key, t->size);
    return 0;
}

static int read_year(struct preset *p, const char *path, json_t *root, struct err *e)
{
    json_t *v = json_object_get(root, "year");

    if (!v)
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 1990 || json_integer_value(v) > 2100)
        return err_set(e, EXIT_USAGE, "%s: field 'year': expected a whole number from 1990 to 2100", path);
    p->year = (int)json_integer_value(v);
    return 0;
}

/* An engine's preset has all of its fields, another none of them: half a source is no source. */
static int engine_is_whole(const struct preset *p, const char *path, struct err *e)
{
    const struct { const char *key; bool given; } field[] = {
        { "engine", *p->engine }, { "version", *p->version }, { "year", p->year },
        { "engine_command", *p->engine_command }, { "differs", *p->differs },
    };

    for (size_t i = 1; i < sizeof field / sizeof *field; i++)
        if (field[i].given != field[0].given)
            return err_set(e, EXIT_USAGE, "%s: field '%s' is missing: engine, version, year, engine_command "
                           "and differs go together", path, field[field[0].given ? i : 0].key);
    if (*p->engine && p->n != 1)
        return err_set(e, EXIT_USAGE, "%s: field 'strategies': an engine's preset is one strategy, not %zu",
                       path, p->n);
    return 0;
}

static int known_keys(const char *path, json_t *root, struct err *e)
{
    static const char *const keys[] = { "schema", "name", "about", "source", "engine", "version", "year",
                                        "engine_command", "differs", "strategies" };
    const char *key;
    json_t *v;

    json_object_foreach(root, key, v) {
        size_t i = 0, n = sizeof keys / sizeof *keys;
        const char *near = nearest_name(key, keys, n);

        while (i < n && strcmp(key, keys[i]))
            i++;
        if (i == n)
            return err_set(e, EXIT_USAGE, "%s: unknown field '%s'%s%s%s", path, key,
                           near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    return 0;
}

static int read_strategies(struct preset *p, const char *path, json_t *root, struct err *e)
{
    json_t *list = json_object_get(root, "strategies"), *v;
    size_t i;

    if (!json_is_array(list) || !json_array_size(list) || json_array_size(list) > STRATEGIES_MAX)
        return err_set(e, EXIT_USAGE, "%s: field 'strategies': expected a list of 1 to %d strategy texts",
                       path, STRATEGIES_MAX);
    json_array_foreach(list, i, v) {
        if (!json_is_string(v) || json_string_length(v) >= sizeof p->strategy[0])
            return err_set(e, EXIT_USAGE, "%s: strategies[%zu]: expected a strategy text", path, i);
        strcpy(p->strategy[p->n++], json_string_value(v));
    }
    return 0;
}

static int read_preset(struct preset *p, const char *path, json_t *root, struct err *e)
{
    char schema[32];
    const struct text texts[] = {
        { "schema", schema, sizeof schema, false }, { "name", p->name, sizeof p->name, false },
        { "about", p->about, sizeof p->about, false }, { "source", p->source, sizeof p->source, false },
        { "engine", p->engine, sizeof p->engine, true }, { "version", p->version, sizeof p->version, true },
        { "engine_command", p->engine_command, sizeof p->engine_command, true },
        { "differs", p->differs, sizeof p->differs, true },
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (text_field(path, root, &texts[i], e))
            return -1;
    if (strcmp(schema, "preset/1"))
        return err_set(e, EXIT_USAGE, "%s: field 'schema': '%s'; expected 'preset/1'", path, schema);
    if (known_keys(path, root, e) || read_year(p, path, root, e) || read_strategies(p, path, root, e))
        return -1;
    return engine_is_whole(p, path, e);
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

/* A preset of one strategy is the name by which that is asked for, and shown; a list's name is none. */
static int append(struct strategy *s, size_t *n, const char *text, const char *preset, bool alone, struct err *e)
{
    if (*n == STRATEGIES_MAX)
        return err_set(e, EXIT_USAGE, "more than %d strategies in one experiment", STRATEGIES_MAX);
    if (strategy_parse(&s[*n], text, e))
        return -1;
    for (size_t i = 0; i < *n; i++)
        if (!strcmp(s[i].name, s[*n].name))
            return err_set(e, EXIT_USAGE, "strategy '%s' stands twice in one experiment", s[i].name);
    snprintf(s[*n].preset, sizeof s->preset, "%s", preset);
    snprintf(s[*n].label, sizeof s->label, "%s", alone ? preset : "");
    ++*n;
    return 0;
}

/* "paged" or "paged:block=32": what kind of part that is, or NULL. */
static const char *part_kind(const char *text)
{
    char name[64];

    snprintf(name, sizeof name, "%.*s", (int)strcspn(text, ":"), text);
    for (size_t i = 0; sched_registry[i]; i++)
        if (!strcmp(name, sched_registry[i]->name))
            return "scheduler";
    for (size_t i = 0; kv_registry[i]; i++)
        if (!strcmp(name, kv_registry[i]->name))
            return "memory manager";
    for (size_t i = 0; prec_registry[i]; i++)
        if (!strcmp(name, prec_registry[i]->name))
            return "precision";
    return NULL;
}

static int append_preset(struct strategy *s, size_t *n, const char *name, struct err *e)
{
    struct preset *p;
    char path[4096];
    int rc = -1;

    snprintf(path, sizeof path, "%s/strategies/presets/%s.json", home_dir(), name);
    if (part_kind(name) && access(path, F_OK))
        return err_set(e, EXIT_USAGE, "strategy '%s': that is one part, a %s; expected scheduler+memory+precision, "
                       "such as continuous+paged+f16, or a preset; 'servelab list' shows all", name, part_kind(name));
    if (!(p = malloc(sizeof *p)))
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    if (!home_find("strategy or preset", "strategies/presets", name, ".json", path, sizeof path, e))
        rc = preset_load(p, path, e);
    for (size_t i = 0; !rc && i < p->n; i++)
        rc = append(s, n, p->strategy[i], p->name, p->n == 1, e);
    free(p);
    return rc;
}

int strategies_parse(struct strategy *s, size_t *n, const char *text, struct err *e)
{
    char *copy = strdup(text), *save = NULL;
    int rc = copy ? 0 : err_set(e, EXIT_RUN_FAILED, "out of memory");

    for (char *p = copy ? strtok_r(copy, ",", &save) : NULL; !rc && p; p = strtok_r(NULL, ",", &save))
        rc = strchr(p, '+') ? append(s, n, p, "", false, e) : append_preset(s, n, p, e);
    free(copy);
    if (!rc && !*n)
        return err_set(e, EXIT_USAGE, "no strategy was given");
    return rc;
}
