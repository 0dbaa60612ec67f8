#include "models/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "models/model_json.h"
#include "models/st_index.h"

enum { HEADER_MOST = 100000000 };      /* bytes; the format's own limit */

const char *const st_type_name[ST_TYPE_N] = {
    "F32", "F16", "BF16", "I32", "I64", "F64", "I16", "I8", "U8", "U16", "U32", "U64", "BOOL",
    "F8_E4M3", "F8_E5M2"
};
static const unsigned char type_bytes[ST_TYPE_N] = { 4, 2, 2, 4, 8, 8, 2, 1, 1, 2, 4, 8, 1, 1, 1 };

#define LL(x) ((unsigned long long)(x))

/* One tensor of a header being read: t and where its data stand, relative to the data's begin. */
struct entry { struct st_tensor *t; uint64_t begin, end; };
struct reader {
    struct safetensors *s;
    const struct map *m;
    char name[MAP_SHOW];               /* of the tensor being read, for messages */
    struct err *e;
};

#define REFUSE(r, fmt, ...)                                                                          \
    err_set((r)->e, EXIT_USAGE, "%s: header, tensor '%s': " fmt, (r)->m->path, (r)->name, __VA_ARGS__)

static int read_type(struct reader *r, json_t *v, struct st_tensor *t)
{
    const char *text = json_string_value(v);
    char shown[MAP_SHOW];

    for (int i = 0; text && i < ST_TYPE_N; i++)
        if (!strcmp(text, st_type_name[i])) {
            t->type = (enum st_type)i;
            return 0;
        }
    return REFUSE(r, "field 'dtype': %s; expected F32, F16, BF16, I32 or another of the format's types",
                  text ? map_show(text, strlen(text), shown) : "missing or not text");
}

static int read_whole(struct reader *r, const char *field, json_t *v, uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return REFUSE(r, "field '%s': expected whole numbers of at least 0", field);
    *out = (uint64_t)json_integer_value(v);
    return 0;
}

static int read_shape(struct reader *r, json_t *v, struct st_tensor *t)
{
    size_t n = json_array_size(v);

    if (!json_is_array(v) || n > ST_DIMS)
        return REFUSE(r, "field 'shape': expected a list of at most %d numbers", ST_DIMS);
    t->n_dim = (uint32_t)n;
    t->bytes = type_bytes[t->type];
    for (uint32_t i = 0; i < n; i++) {
        if (read_whole(r, "shape", json_array_get(v, i), &t->dim[i]))
            return -1;
        if (!mul_u64(t->bytes, t->dim[i], &t->bytes))
            return REFUSE(r, "field 'shape': more than 2^64 %s; the file is damaged", "bytes");
    }
    return 0;
}

static int read_span(struct reader *r, json_t *v, uint64_t room, struct entry *x)
{
    if (json_array_size(v) != 2)
        return REFUSE(r, "field '%s': expected [begin, end]", "data_offsets");
    if (read_whole(r, "data_offsets", json_array_get(v, 0), &x->begin) ||
        read_whole(r, "data_offsets", json_array_get(v, 1), &x->end))
        return -1;
    if (x->begin > x->end || x->end > room)
        return REFUSE(r, "field 'data_offsets': [%llu, %llu]; expected begin <= end <= %llu, the data's bytes; the "
                      "file is cut short or damaged, fetch it again", LL(x->begin), LL(x->end), LL(room));
    if (x->end - x->begin != x->t->bytes)
        return REFUSE(r, "field 'data_offsets': %llu bytes; expected %llu by dtype and shape",
                      LL(x->end - x->begin), LL(x->t->bytes));
    return 0;
}

static int read_tensor(struct reader *r, const char *key, json_t *v, uint64_t data_at, struct entry *x)
{
    map_show(key, strlen(key), r->name);
    if (json_object_size(v) != 3)
        return REFUSE(r, "expected an object of '%s', 'shape' and 'data_offsets'", "dtype");
    if (read_type(r, json_object_get(v, "dtype"), x->t) ||
        read_shape(r, json_object_get(v, "shape"), x->t) ||
        read_span(r, json_object_get(v, "data_offsets"), r->m->size - data_at, x))
        return -1;
    x->t->name = arena_str(&r->s->arena, key);
    x->t->file = r->m;
    if (!x->t->name)
        return err_set(r->e, EXIT_RUN_FAILED, "%s: out of memory", r->m->path);
    x->t->data = x->t->bytes ? r->m->data + data_at + x->begin : NULL;
    return 0;
}

static int check_metadata(struct reader *r, json_t *meta)
{
    const char *key;
    json_t *v;

    memcpy(r->name, "__metadata__", 13);
    if (!json_is_object(meta))
        return REFUSE(r, "%s", "expected an object of texts");
    json_object_foreach(meta, key, v)
        if (!json_is_string(v))
            return REFUSE(r, "%s", "expected texts only");
    return 0;
}

static int by_begin(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* Every byte of the data belongs to exactly one tensor. */
static int check_cover(struct reader *r, struct entry *x, size_t n, uint64_t room)
{
    uint64_t at = 0;

    qsort(x, n, sizeof *x, by_begin);
    for (size_t i = 0; i < n; at = x[i++].end)
        if (x[i].begin != at) {
            map_show(x[i].t->name, strlen(x[i].t->name), r->name);
            return REFUSE(r, "begins at data offset %llu; expected %llu, where the one before ends (%s)",
                          LL(x[i].begin), LL(at), x[i].begin < at ? "they overlap" : "a hole");
        }
    if (at != room)
        return err_set(r->e, EXIT_USAGE, "%s: %llu bytes after the last tensor's data; expected none, the file is "
                       "damaged", r->m->path, LL(room - at));
    return 0;
}

static int read_entries(struct reader *r, json_t *root, uint64_t data_at)
{
    size_t n = json_object_size(root) - (json_object_get(root, "__metadata__") != NULL), i = 0;
    struct entry *x;
    const char *key;
    json_t *v;
    int rc = 0;

    if (n > r->s->room - r->s->n)
        return err_set(r->e, EXIT_USAGE, "%s: header: %zu tensors; expected at most %d in a model", r->m->path,
                       n, ST_TENSORS);
    x = calloc(n + 1, sizeof *x);
    if (!x)
        return err_set(r->e, EXIT_RUN_FAILED, "%s: out of memory for %zu tensors", r->m->path, n);
    json_object_foreach(root, key, v) {
        if (!strcmp(key, "__metadata__")) {
            rc = rc ? rc : check_metadata(r, v);
            continue;
        }
        x[i].t = &r->s->tensor[r->s->n + i];
        rc = rc ? rc : read_tensor(r, key, v, data_at, &x[i]);
        i++;
    }
    rc = rc ? rc : check_cover(r, x, n, r->m->size - data_at);
    r->s->n += rc ? 0 : (uint32_t)n;
    free(x);
    return rc;
}

/* Adds the tensors of one file. */
static int read_file(struct safetensors *s, const struct map *m, struct err *e)
{
    struct reader r = { .s = s, .m = m, .e = e };
    uint64_t n = m->size < 8 ? 0 : le64(m->data);
    json_t *root;
    int rc;

    if (m->size < 8)
        return err_set(e, EXIT_USAGE, "%s: %llu bytes; expected a header's length of 8 bytes and a header",
                       m->path, LL(m->size));
    if (n < 2 || n > HEADER_MOST || n > m->size - 8)
        return err_set(e, EXIT_USAGE, "%s: offset 0: header of %llu bytes; expected 2 to %llu; this is not a "
                       "safetensors file, or it is cut short: fetch it again", m->path, LL(n),
                       LL(m->size - 8 < HEADER_MOST ? m->size - 8 : HEADER_MOST));
    if (m->data[8] != '{')
        return err_set(e, EXIT_USAGE, "%s: offset 8: header does not begin with '{'; this is not a safetensors "
                       "file", m->path);
    root = model_json(m, 8, n, e);
    if (!root)
        return -1;
    rc = read_entries(&r, root, 8 + n);
    json_decref(root);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

const struct st_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    struct st_tensor want = { .name = name };

    return s->n ? bsearch(&want, s->tensor, s->n, sizeof want, by_name) : NULL;
}

/* All files' tensors in one order; a name in two files is refused (in one, the JSON parser did). */
static int sort_names(struct safetensors *s, struct err *e)
{
    char name[MAP_SHOW];

    qsort(s->tensor, s->n, sizeof *s->tensor, by_name);
    for (uint32_t i = 1; i < s->n; i++)
        if (!strcmp(s->tensor[i - 1].name, s->tensor[i].name))
            return err_set(e, EXIT_USAGE, "%s: header, tensor '%s': stands in %s too; expected one place",
                           s->tensor[i].file->path,
                           map_show(s->tensor[i].name, strlen(s->tensor[i].name), name),
                           s->tensor[i - 1].file->path);
    return 0;
}

/* Room for the tensors that the headers can hold at most: an entry takes 50 bytes and more. */
static int make_room(struct safetensors *s, struct err *e)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < s->n_file; i++)
        most += s->file[i].size / 50 + 1;
    s->room = most < ST_TENSORS ? (uint32_t)most : ST_TENSORS;
    s->tensor = ARENA_NEW(&s->arena, struct st_tensor, s->room);
    return s->tensor ? 0 : err_set(e, EXIT_RUN_FAILED, "%s: out of memory", s->file[0].path);
}

static int read_files(struct safetensors *s, struct err *e)
{
    int rc = make_room(s, e);

    for (uint32_t i = 0; !rc && i < s->n_file; i++)
        rc = read_file(s, &s->file[i], e);
    return rc ? rc : sort_names(s, e);
}

int safetensors_open(struct safetensors *s, const char *folder, struct err *e)
{
    memset(s, 0, sizeof *s);
    if (!st_index_files(s, folder, e) && !read_files(s, e) && !st_index_check(s, folder, e))
        return 0;
    safetensors_close(s);
    return -1;
}

int safetensors_open_bytes(struct safetensors *s, const void *data, uint64_t size, const char *name,
                           struct err *e)
{
    memset(s, 0, sizeof *s);
    s->file = ARENA_NEW(&s->arena, struct map, 1);
    if (!s->file)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    s->n_file = 1;
    if (!map_bytes(s->file, data, size, name, e) && !read_files(s, e))
        return 0;
    safetensors_close(s);
    return -1;
}

void safetensors_close(struct safetensors *s)
{
    for (uint32_t i = 0; i < s->n_file; i++)
        map_close(&s->file[i]);
    json_decref(s->index);
    arena_free(&s->arena);
    memset(s, 0, sizeof *s);
}
