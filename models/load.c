#include "models/load.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/home.h"
#include "models/gguf.h"

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n > m && !strcmp(s + n - m, end);
}

int shape_bounds(const struct model_shape *s, const char *path, struct err *e)
{
    if (s->dim % 32 || s->ffn % 32)
        return err_set(e, EXIT_USAGE, "%s: hidden size %u and feed-forward size %u; expected multiples of 32, choose "
                       "another model", path, s->dim, s->ffn);
    if (s->head_dim < 16 || s->head_dim > 512 || s->head_dim % 16 || (s->n_head * s->head_dim) % 32)
        return err_set(e, EXIT_USAGE, "%s: heads of %u values; expected 16 to 512, a multiple of 16, and %u of them a "
                       "multiple of 32; choose another model", path, s->head_dim, s->n_head);
    if (!s->n_kv_head || s->n_head % s->n_kv_head)
        return err_set(e, EXIT_USAGE, "%s: %u heads over %u KV heads; expected a multiple, choose another model",
                       path, s->n_head, s->n_kv_head);
    return 0;
}

static bool is_kind(const char *path, mode_t kind)
{
    struct stat st;

    return !stat(path, &st) && (st.st_mode & S_IFMT) == kind;
}

/* The only .gguf file of a folder into path; -1 when there is none or are several. */
static int only_gguf(const char *folder, char *path, size_t n)
{
    DIR *d = opendir(folder);
    struct dirent *f;
    int found = 0;

    while (d && (f = readdir(d)))
        if (f->d_name[0] != '.' && ends_in(f->d_name, ".gguf")) {
            found++;
            if ((size_t)snprintf(path, n, "%s/%s", folder, f->d_name) >= n)
                found = 2;
        }
    if (d)
        closedir(d);
    return found == 1 ? 0 : -1;
}

static int locate_folder(const char *folder, enum model_kind *kind, char *path, size_t n, struct err *e)
{
    char config[4200];

    snprintf(config, sizeof config, "%s/config.json", folder);
    if (!access(config, F_OK)) {
        *kind = MODEL_HF;
        return (size_t)snprintf(path, n, "%s", folder) < n
               ? 0 : err_set(e, EXIT_USAGE, "path is too long: '%.80s...'", folder);
    }
    *kind = MODEL_GGUF;
    if (!only_gguf(folder, path, n))
        return 0;
    return err_set(e, EXIT_USAGE, "%s: neither config.json nor a single .gguf file; expected a Hugging Face snapshot's "
                   "folder, or give the path of one file", folder);
}

static int locate_path(const char *name, enum model_kind *kind, char *path, size_t n, struct err *e)
{
    if (is_kind(name, S_IFDIR))
        return locate_folder(name, kind, path, n, e);
    if (access(name, R_OK))
        return err_set(e, EXIT_USAGE, "%s: no such file or folder; expected a Hugging Face snapshot's folder, a .gguf "
                       "file or a shape (.json)", name);
    if (ends_in(name, ".safetensors"))
        return err_set(e, EXIT_USAGE, "%s: weights without config.json; give the folder that holds both", name);
    if (!is_kind(name, S_IFREG))
        return err_set(e, EXIT_USAGE, "%s: not a regular file; give a snapshot's folder, a .gguf file or a shape "
                       "(.json)", name);
    *kind = ends_in(name, ".gguf") || gguf_begins(name) ? MODEL_GGUF : MODEL_SHAPE;
    return (size_t)snprintf(path, n, "%s", name) < n
           ? 0 : err_set(e, EXIT_USAGE, "path is too long: '%.80s...'", name);
}

/* 1 when NAME or NAME.gguf stands under the folder, and at is its path. */
static int in_store(const char *store, const char *name, char *at, size_t n)
{
    if (!store || !*store || (size_t)snprintf(at, n, "%s/%s", store, name) >= n)
        return 0;
    if (!access(at, F_OK))
        return 1;
    return (size_t)snprintf(at, n, "%s/%s.gguf", store, name) < n && !access(at, F_OK);
}

int model_locate(const char *name, enum model_kind *kind, char *path, size_t n, struct err *e)
{
    struct err unknown = { 0 };
    char store[4096], at[4096];

    if (!*name)
        return err_set(e, EXIT_USAGE, "model name is empty; give a name, a folder or a file");
    if (strchr(name, '/') || !access(name, F_OK))
        return locate_path(name, kind, path, n, e);
    if (in_store(getenv("SERVELAB_MODELS"), name, at, sizeof at))
        return locate_path(at, kind, path, n, e);
    if ((size_t)snprintf(store, sizeof store, "%s/models/store", home_dir()) < sizeof store &&
        in_store(store, name, at, sizeof at))
        return locate_path(at, kind, path, n, e);
    *kind = MODEL_SHAPE;
    if (!home_find("model", "models/shapes", name, ".json", path, n, &unknown))
        return 0;
    return err_set(e, unknown.code, "%s; nor is it under models/store (make model MODEL=NAME) or $SERVELAB_MODELS",
                   unknown.text);
}

/* A model found by its name is called so, not after its file. */
static void call_it(struct model_files *f, const char *name)
{
    if (f->kind != MODEL_SHAPE && !strchr(name, '/') && access(name, F_OK))
        snprintf(f->shape.name, sizeof f->shape.name, "%.63s", name);
}

int model_find(struct model_files *f, const char *name, uint64_t seed, struct err *e)
{
    int rc;

    memset(f, 0, sizeof *f);
    if (model_locate(name, &f->kind, f->path, sizeof f->path, e))
        return -1;
    if (f->kind == MODEL_HF)
        rc = load_hf(f->path, &f->shape, &f->source, e);
    else if (f->kind == MODEL_GGUF)
        rc = load_gguf(f->path, &f->shape, &f->source, e);
    else
        rc = shape_load(&f->shape, f->path, e) || source_synth(&f->source, &f->shape, seed, &f->arena, e)
             ? -1 : 0;
    f->self = f->source.self;
    if (rc)
        model_files_close(f);
    else
        call_it(f, name);
    return rc;
}

void model_files_close(struct model_files *f)
{
    if (f->kind == MODEL_HF)
        load_hf_close(f->self);
    if (f->kind == MODEL_GGUF)
        load_gguf_close(f->self);
    arena_free(&f->arena);
    memset(f, 0, sizeof *f);
}

/* ---- which bytes were run ---- */
static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum { HASH_FILES = 1100 };            /* more than ST_FILES shards, config and index */

/* Files of a snapshot that decide what is computed, sorted; malloc'ed names. */
static size_t snapshot_files(const char *folder, char **names)
{
    DIR *d = opendir(folder);
    struct dirent *f;
    size_t n = 0;
    char path[4600];

    while (d && n < HASH_FILES && (f = readdir(d)))
        if ((!strcmp(f->d_name, "config.json") || ends_in(f->d_name, ".safetensors")) &&
            (size_t)snprintf(path, sizeof path, "%s/%s", folder, f->d_name) < sizeof path && is_kind(path, S_IFREG)) {
            names[n] = strdup(f->d_name);
            n += names[n] != NULL;
        }
    if (d)
        closedir(d);
    qsort(names, n, sizeof *names, by_text);
    return n;
}

/* As sha256sum prints a list: "SUM  NAME\n" per file, hashed again. */
static int snapshot_sha256(const char *folder, char out[SHA256_HEX], struct err *e)
{
    char *names[HASH_FILES], path[4600], sum[SHA256_HEX], *text = NULL;
    size_t n = snapshot_files(folder, names), len = 0;
    FILE *f = open_memstream(&text, &len);
    int rc = f ? 0 : err_set(e, EXIT_RUN_FAILED, "out of memory");

    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        rc = rc ? rc : sha256_file(path, sum, e);
        if (!rc)
            fprintf(f, "%s  %s\n", sum, names[i]);
        free(names[i]);
    }
    if (f)
        fclose(f);
    if (!rc)
        sha256_hex(text, len, out);
    free(text);
    return rc;
}

int model_files_sha256(const struct model_files *f, char out[SHA256_HEX], struct err *e)
{
    return f->kind == MODEL_HF ? snapshot_sha256(f->path, out, e) : sha256_file(f->path, out, e);
}
