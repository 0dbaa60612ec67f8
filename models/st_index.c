#include "models/st_index.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/model_json.h"

enum { INDEX_MOST = 64 << 20, PATH_MOST = 4096 };
static const char index_name[] = "model.safetensors.index.json";

static int join(char path[PATH_MOST], const char *folder, const char *name, struct err *e)
{
    if ((size_t)snprintf(path, PATH_MOST, "%s/%s", folder, name) < PATH_MOST)
        return 0;
    return err_set(e, EXIT_USAGE, "path is too long: '%.80s...'", folder);
}

static int one_file(struct safetensors *s, const char *path, struct err *e)
{
    s->file = ARENA_NEW(&s->arena, struct map, 1);
    if (!s->file)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    if (map_open(&s->file[0], path, INT64_MAX, e))
        return -1;
    s->n_file = 1;
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A plain name in the same folder: an index from outside must not reach other files. */
static int check_name(const char *path, const char *key, json_t *v, struct err *e)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+ ";
    const char *name = json_string_value(v);
    char shown[MAP_SHOW], tensor[MAP_SHOW];
    size_t n = name ? strlen(name) : 0;

    if (n > 12 && n < 256 && name[0] != '.' && strspn(name, plain) == n &&
        !strcmp(name + n - 12, ".safetensors"))
        return 0;
    return err_set(e, EXIT_USAGE, "%s: field 'weight_map', tensor '%s': '%s'; expected the name of a .safetensors "
                   "file in the same folder", path, map_show(key, strlen(key), tensor),
                   name ? map_show(name, n, shown) : "not text");
}

/* The distinct file names of the index, sorted. *names is malloc'ed and points into the index. */
static int file_names(const struct safetensors *s, const char *path, const char ***names, size_t *n,
                      struct err *e)
{
    size_t all = json_object_size(s->index), m = 0;
    const char **list = calloc(all + 1, sizeof *list), *key;
    json_t *v;

    *names = list;
    *n = 0;
    if (!list)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    json_object_foreach(s->index, key, v) {
        if (check_name(path, key, v, e))
            return -1;
        list[m++] = json_string_value(v);
    }
    qsort(list, m, sizeof *list, by_text);
    for (size_t i = 0; i < m; i++)
        if (!i || strcmp(list[i], list[i - 1]))
            list[(*n)++] = list[i];
    return 0;
}

static int open_named(struct safetensors *s, const char *folder, const char *path, struct err *e)
{
    const char **names;
    char file[PATH_MOST];
    size_t n;
    int rc = file_names(s, path, &names, &n, e);

    if (!rc && (n < 1 || n > ST_FILES))
        rc = err_set(e, EXIT_USAGE, "%s: field 'weight_map' names %zu files; expected 1 to %d", path, n,
                     ST_FILES);
    if (!rc && !(s->file = ARENA_NEW(&s->arena, struct map, n)))
        rc = err_set(e, EXIT_RUN_FAILED, "out of memory");
    for (size_t i = 0; !rc && i < n; i++) {
        rc = join(file, folder, names[i], e) || map_open(&s->file[i], file, INT64_MAX, e) ? -1 : 0;
        s->n_file += rc ? 0 : 1;
    }
    free(names);
    return rc;
}

int st_index_files(struct safetensors *s, const char *folder, struct err *e)
{
    char path[PATH_MOST];
    json_t *root;

    if (join(path, folder, "model.safetensors", e))
        return -1;
    if (!access(path, F_OK))
        return one_file(s, path, e);
    if (join(path, folder, index_name, e))
        return -1;
    if (access(path, F_OK))
        return err_set(e, EXIT_USAGE, "%s: neither model.safetensors nor %s; expected a snapshot with its weights "
                       "as safetensors (other files of weights are not read)", folder, index_name);
    root = model_json_file(path, INDEX_MOST, e);
    if (!root)
        return -1;
    s->index = json_incref(json_object_get(root, "weight_map"));
    json_decref(root);
    if (!json_is_object(s->index))
        return err_set(e, EXIT_USAGE, "%s: field 'weight_map': expected an object of tensor and file names",
                       path);
    return open_named(s, folder, path, e);
}

/* Equal numbers, and every tensor that a file has is in the index with that file: then the two are the same. */
int st_index_check(const struct safetensors *s, const char *folder, struct err *e)
{
    char shown[MAP_SHOW];

    if (!s->index)
        return 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct st_tensor *t = &s->tensor[i];
        const char *file = json_string_value(json_object_get(s->index, t->name));
        const char *slash = strrchr(t->file->path, '/');

        if (!file || strcmp(file, slash ? slash + 1 : t->file->path))
            return err_set(e, EXIT_USAGE, "%s/%s: field 'weight_map', tensor '%s': %s; expected %s, which has it",
                           folder, index_name, map_show(t->name, strlen(t->name), shown),
                           file ? file : "missing", t->file->path);
    }
    if (json_object_size(s->index) != s->n)
        return err_set(e, EXIT_USAGE, "%s/%s: field 'weight_map' names %zu tensors; its files have %u, fetch "
                       "them again", folder, index_name, json_object_size(s->index), s->n);
    return 0;
}
