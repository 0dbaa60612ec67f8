/* tokenizer_files.c - finds and reads tokenizer.json and what stands beside it.
 *
 * tokenizer_config.json may name bos and eos and hold the chat template; chat_template.jinja may
 * hold the template instead. Both may be missing. Files come from outside: size and type are
 * checked before anything is read. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text/json_parts.h"

enum { FILE_MAX = 64 << 20 };

/* 1: there is no such file. */
static int open_file(struct map *m, const char *path, struct err *e)
{
    return access(path, F_OK) && errno == ENOENT ? 1 : map_open(m, path, FILE_MAX, e);
}

/* An object from a file. 1: there is no such file. */
static int read_object(const char *path, json_t **out, struct err *e)
{
    json_error_t je;
    struct map m;
    int rc = open_file(&m, path, e);

    if (rc)
        return rc;
    *out = json_loadb(m.size ? (const char *)m.data : "", (size_t)m.size, JSON_REJECT_DUPLICATES, &je);
    map_close(&m);
    if (!*out) {
        for (char *s = je.text; *s; s++)       /* the library quotes the input as it is */
            *s = *s < 32 || *s > 126 ? '?' : *s;
        return err_set(e, EXIT_USAGE, "%.300s: line %d: not valid JSON: %.200s", path, je.line,
                       je.text);
    }
    if (json_is_object(*out))
        return 0;
    return err_set(e, EXIT_USAGE, "%.300s: expected a JSON object", path);
}

/* The path of a file in the folder of tokenizer.json. */
static const char *beside(struct load *l, const char *name)
{
    const char *slash = strrchr(l->path, '/');
    size_t n = slash ? (size_t)(slash - l->path) + 1 : 0;

    snprintf(l->beside, sizeof l->beside, "%.*s%s", (int)n, l->path, name);
    return l->beside;
}

/* "bos_token": a text, or an object with "content". */
static int take_end(struct load *l, const char *key, int64_t *id)
{
    const json_t *v = member(l->config, key);
    const char *text;
    size_t n;

    if (json_is_object(v))
        v = member(v, "content");
    if (!v)
        return 0;
    n = json_string_length(v);
    if (!(text = json_string_value(v)))
        return err_set(l->e, EXIT_USAGE, "%.300s: %s: expected a text, or an object with content",
                       l->beside, key);
    for (uint32_t i = 0; i < l->p.n_token; i++)
        if (l->p.token[i].p && l->p.token[i].n == n && !memcmp(l->p.token[i].p, text, n)) {
            *id = i;
            return 0;
        }
    return err_set(l->e, EXIT_USAGE, "%.300s: %s: tokenizer.json has no such token", l->beside,
                   key);
}

/* "chat_template": a text, or a list of named ones, of which "default" counts. */
static int take_chat(struct load *l)
{
    const json_t *v = member(l->config, "chat_template");

    for (size_t i = 0; json_is_array(v) && i < json_array_size(v); i++) {
        const json_t *one = json_array_get(v, i);
        const char *name = json_string_value(member(one, "name"));

        if (name && !strcmp(name, "default"))
            v = member(one, "template");
    }
    if (!v || json_is_array(v))
        return 0;
    if (!json_is_string(v))
        return err_set(l->e, EXIT_USAGE, "%.300s: chat_template: expected a text, or a list of "
                       "templates with names", l->beside);
    l->p.chat_template = json_string_value(v);
    l->p.n_chat_template = json_string_length(v);
    return 0;
}

static int read_beside(struct load *l)
{
    int rc = read_object(beside(l, "tokenizer_config.json"), &l->config, l->e);

    if (rc < 0)
        return -1;
    if (!rc && (take_end(l, "bos_token", &l->p.bos) || take_end(l, "eos_token", &l->p.eos) ||
                take_chat(l)))
        return -1;
    if (l->p.bos == TOKEN_NONE && l->p.n_prefix)
        l->p.bos = l->p.prefix[0];
    if ((rc = open_file(&l->jinja, beside(l, "chat_template.jinja"), l->e)))
        return rc < 0 ? -1 : 0;
    l->p.chat_template = l->jinja.size ? (const char *)l->jinja.data : "";
    l->p.n_chat_template = (size_t)l->jinja.size;
    return 0;
}

static int read_all(struct load *l)
{
    int rc = read_object(l->path, &l->root, l->e);

    if (rc > 0)
        return err_set(l->e, EXIT_USAGE,
                       "%.300s: no such file; expected a Hugging Face tokenizer.json", l->path);
    return rc || json_parts(l) || read_beside(l) ? -1 : 0;
}

int tokenizer_load_json(struct tokenizer **t, const char *path, struct err *e)
{
    struct load l = { .e = e, .p = { .bos = TOKEN_NONE, .eos = TOKEN_NONE, .unk = TOKEN_NONE } };
    struct stat st;
    bool is_folder = !stat(path, &st) && S_ISDIR(st.st_mode);
    int n = snprintf(l.path, sizeof l.path, "%s%s", path, is_folder ? "/tokenizer.json" : ""),
        rc = -1;

    *t = NULL;
    l.p.path = l.path;
    if (n < 0 || (size_t)n + 32 > sizeof l.path)
        err_set(e, EXIT_USAGE, "%.300s: the path is too long", path);
    else if (!read_all(&l))
        rc = tokenizer_build(t, &l.p, e);
    map_close(&l.jinja);
    json_decref(l.root);
    json_decref(l.config);
    arena_free(&l.arena);
    return rc;
}
