/* model_list.c - which models there are, and in which state: every shape by its name, with real weights where a store
 * has them, then what only a store has. Files are opened, not read: headers are checked as a run would check them. */
#include "harness/model_list.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/home.h"
#include "models/load.h"

/* What .ci/model knows; a test holds the two together. */
static const char *const can_fetch[] = { "smollm2-135m" };

enum { NAMES_MAX = 256 };

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n > m && !strcmp(s + n - m, end);
}

/* Bytes of the weights: of one file, or of a snapshot's. */
static uint64_t size_of(const struct model_files *f)
{
    DIR *d = f->kind == MODEL_HF ? opendir(f->path) : NULL;
    char path[4400];
    struct dirent *in;
    struct stat st;
    uint64_t sum = 0;

    if (f->kind != MODEL_HF)
        return stat(f->path, &st) ? 0 : (uint64_t)st.st_size;
    while (d && (in = readdir(d))) {
        snprintf(path, sizeof path, "%s/%s", f->path, in->d_name);
        if (ends_in(in->d_name, ".safetensors") && !stat(path, &st))
            sum += (uint64_t)st.st_size;
    }
    if (d)
        closedir(d);
    return sum;
}

static int shape_text(const struct model_shape *s, char *out, size_t n)
{
    return snprintf(out, n, "%u layers, dim %u, %u heads, %u KV heads, FFN %u, vocab %u", s->n_layer, s->dim, s->n_head,
                    s->n_kv_head, s->ffn, s->vocab);
}

/* A path or a file's own words may be anything: JSON wants UTF-8. */
static json_t *words(const char *text)
{
    json_t *v = json_string(text);

    return v ? v : json_string("(its name is not UTF-8)");
}

static json_t *entry(const char *name, const char *about, const char *state)
{
    json_t *o = json_object();

    json_object_set_new(o, "name", words(name));
    json_object_set_new(o, "about", words(about));
    json_object_set_new(o, "state", json_string(state));
    return o;
}

/* Real weights: `from` is what model_find is asked, a name or a path. */
static json_t *real(const char *name, const char *from)
{
    char about[6000];
    struct model_files f;
    struct err e = { 0 };
    uint64_t bytes;
    json_t *o;
    int n;

    if (model_find(&f, from, 1, &e))
        return entry(name, e.text, "refused");
    bytes = size_of(&f);
    n = shape_text(&f.shape, about, sizeof about);
    snprintf(about + n, sizeof about - (size_t)n, "; fetched, %.1f MB: %s; %s", (double)bytes * 1e-6, f.source.about,
             f.path);
    o = entry(name, about, "fetched");
    json_object_set_new(o, "format", json_string(f.kind == MODEL_GGUF ? "GGUF" : "safetensors"));
    json_object_set_new(o, "bytes", json_integer((json_int_t)bytes));
    json_object_set_new(o, "path", words(f.path));
    model_files_close(&f);
    return o;
}

static json_t *synthetic(const char *name, const char *path)
{
    char about[400], fetch[100] = "";
    struct model_shape s;
    struct err e = { 0 };
    json_t *o;
    int n;

    if (shape_load(&s, path, &e))
        return entry(name, e.text, "refused");
    for (size_t i = 0; i < sizeof can_fetch / sizeof *can_fetch; i++)
        if (!strcmp(name, can_fetch[i]))
            snprintf(fetch, sizeof fetch, "make model MODEL=%s", name);
    n = shape_text(&s, about, sizeof about);
    snprintf(about + n, sizeof about - (size_t)n, "; synthetic weights%s%s%s", *fetch ? "; not fetched: '" : "", fetch,
             *fetch ? "' gets the real ones" : "");
    o = entry(name, about, "synthetic");
    if (*fetch)
        json_object_set_new(o, "fetch", json_string(fetch));
    return o;
}

static bool listed(json_t *list, const char *name)
{
    json_t *o;
    size_t i;

    json_array_foreach(list, i, o)
        if (!strcmp(json_string_value(json_object_get(o, "name")), name))
            return true;
    return false;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What stands in a store and is no shape's name; a folder that holds no model is left out, one that does and cannot be
 * opened says why. */
static void add_store(json_t *list, const char *store)
{
    DIR *d = store && *store ? opendir(store) : NULL;
    char *names[NAMES_MAX], at[4096], path[4096];
    enum model_kind kind;
    struct dirent *in;
    size_t n = 0;

    while (d && n < NAMES_MAX && (in = readdir(d)))
        if (in->d_name[0] != '.' && (names[n] = strdup(in->d_name)))
            n++;
    if (d)
        closedir(d);
    qsort(names, n, sizeof *names, by_text);
    for (size_t i = 0; i < n; i++) {
        struct err e = { 0 };
        int fits = (size_t)snprintf(at, sizeof at, "%s/%s", store, names[i]) < sizeof at;

        if (ends_in(names[i], ".gguf"))
            names[i][strlen(names[i]) - 5] = 0;    /* called so on the command line */
        if (fits && !listed(list, names[i]) && !model_locate(at, &kind, path, sizeof path, &e) && kind != MODEL_SHAPE)
            json_array_append_new(list, real(names[i], at));
        free(names[i]);
    }
}

json_t *model_list(void)
{
    char *names[NAMES_MAX], path[4096];
    size_t n = home_list("models/shapes", ".json", names, NAMES_MAX);
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        enum model_kind kind = MODEL_SHAPE;
        struct err e = { 0 };

        if (model_locate(names[i], &kind, path, sizeof path, &e) || kind == MODEL_SHAPE)
            snprintf(path, sizeof path, "%s/models/shapes/%s.json", home_dir(), names[i]);
        json_array_append_new(list, kind == MODEL_SHAPE ? synthetic(names[i], path) : real(names[i], path));
        free(names[i]);
    }
    add_store(list, getenv("SERVELAB_MODELS"));
    snprintf(path, sizeof path, "%s/models/store", home_dir());
    add_store(list, path);
    return list;
}
