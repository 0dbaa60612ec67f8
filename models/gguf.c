/* gguf.c - walks a GGUF file once: header, metadata, tensor list. What the metadata say is in gguf_kv.c.
 *
 * Every count is compared with the bytes that are left before anything is allocated or multiplied: an entry
 * has a least size, so memory is bounded by a small multiple of the file. */
#include "models/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "models/quants.h"

enum { KV_LEAST = 8 + 1 + 4 + 1, TENSOR_LEAST = 8 + 1 + 4 + 8 + 4 + 8 };   /* bytes of an entry */

struct reader { struct gguf *g; uint64_t at; struct err *e; };

static const unsigned char type_bytes[GGUF_TYPE_N] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

#define LL(x) ((unsigned long long)(x))
#define REFUSE(r, where, fmt, ...)                                                                   \
    err_set((r)->e, EXIT_USAGE, "%s: offset %llu: " fmt, (r)->g->map.path, LL(where), __VA_ARGS__)

static uint64_t left(const struct reader *r) { return r->g->map.size - r->at; }

static int need(struct reader *r, uint64_t n, const char *what)
{
    if (n <= left(r))
        return 0;
    return REFUSE(r, r->at, "%s of %llu bytes, but only %llu are left; the file is cut short or damaged, "
                  "fetch it again", what, LL(n), LL(left(r)));
}

static int read_u32(struct reader *r, const char *what, uint32_t *out)
{
    if (need(r, 4, what))
        return -1;
    *out = le32(r->g->map.data + r->at);
    r->at += 4;
    return 0;
}

static int read_u64(struct reader *r, const char *what, uint64_t *out)
{
    if (need(r, 8, what))
        return -1;
    *out = le64(r->g->map.data + r->at);
    r->at += 8;
    return 0;
}

static int read_str(struct reader *r, const char *what, struct gguf_str *out)
{
    if (read_u64(r, what, &out->n) || need(r, out->n, what))
        return -1;
    out->p = (const char *)r->g->map.data + r->at;
    r->at += out->n;
    return 0;
}

/* A name of 1 to max bytes without NUL: names are compared with C strings. */
static int read_name(struct reader *r, const char *what, uint64_t max, struct gguf_str *out)
{
    uint64_t at = r->at;

    if (read_str(r, what, out))
        return -1;
    if (!out->n || out->n > max || memchr(out->p, 0, out->n))
        return REFUSE(r, at, "%s of %llu bytes; expected 1 to %llu bytes without NUL", what, LL(out->n),
                      LL(max));
    return 0;
}

static int read_header(struct reader *r)
{
    struct gguf *g = r->g;

    if (left(r) < 4 || memcmp(g->map.data, "GGUF", 4))
        return REFUSE(r, 0, "does not begin with '%s'; this is not a GGUF file", "GGUF");
    r->at = 4;
    if (read_u32(r, "version", &g->version))
        return -1;
    if (!(g->version & 0xffff) && g->version)
        return REFUSE(r, 4, "version 0x%08x: a big-endian file; expected little-endian, convert it again",
                      g->version);
    if (g->version < 2 || g->version > 3)
        return REFUSE(r, 4, "version %u; expected 2 or 3, convert the model again", g->version);
    if (read_u64(r, "tensor count", &g->n_tensor) || read_u64(r, "key count", &g->n_kv))
        return -1;
    if (g->n_tensor > left(r) / TENSOR_LEAST)
        return REFUSE(r, 8, "tensor count %llu: more than the file's %llu bytes can hold; it is damaged, "
                      "fetch it again", LL(g->n_tensor), LL(g->map.size));
    if (g->n_kv > left(r) / KV_LEAST)
        return REFUSE(r, 16, "key count %llu: more than the file's %llu bytes can hold; it is damaged, "
                      "fetch it again", LL(g->n_kv), LL(g->map.size));
    return 0;
}

static int read_array(struct reader *r, struct gguf_kv *kv)
{
    char shown[MAP_SHOW];
    uint64_t at = r->at, least;
    struct gguf_str s;
    uint32_t item;

    map_show(kv->key.p, kv->key.n, shown);
    if (read_u32(r, "item type", &item) || read_u64(r, "array length", &kv->n))
        return -1;
    if (item >= GGUF_TYPE_N || item == GGUF_ARRAY)
        return REFUSE(r, at, "key '%s': array of type %u%s; expected numbers, bools or strings", shown, item,
                      item == GGUF_ARRAY ? " (array)" : "");
    kv->item = (enum gguf_type)item;
    least = item == GGUF_STRING ? 8 : type_bytes[item];
    if (kv->n > left(r) / least)
        return REFUSE(r, at + 4, "key '%s': array of %llu items, but only %llu bytes are left; the file is cut "
                      "short or damaged, fetch it again", shown, LL(kv->n), LL(left(r)));
    kv->at = r->at;
    if (item != GGUF_STRING)
        r->at += kv->n * least;
    for (uint64_t i = 0; item == GGUF_STRING && i < kv->n; i++)
        if (read_str(r, "string in an array", &s))
            return -1;
    return 0;
}

static int read_kv(struct reader *r, struct gguf_kv *kv)
{
    char shown[MAP_SHOW];
    struct gguf_str s;
    uint64_t at;
    uint32_t type;
    int rc = 0;

    if (read_name(r, "key", 65535, &kv->key))
        return -1;
    at = r->at;
    if (read_u32(r, "value type", &type))
        return -1;
    if (type >= GGUF_TYPE_N)
        return REFUSE(r, at, "key '%s': value type %u; expected 0 to %d",
                      map_show(kv->key.p, kv->key.n, shown), type, GGUF_TYPE_N - 1);
    kv->type = kv->item = (enum gguf_type)type;
    kv->n = 1;
    kv->at = r->at;
    if (type == GGUF_ARRAY)
        rc = read_array(r, kv);
    else if (type == GGUF_STRING)
        rc = read_str(r, "string value", &s);
    else if (!(rc = need(r, type_bytes[type], "value")))
        r->at += type_bytes[type];
    kv->end = r->at;
    return rc;
}

/* ---- finding by name, and no name twice ---- */
static int compare_str(const struct gguf_str *a, const struct gguf_str *b)
{
    int c = memcmp(a->p, b->p, a->n < b->n ? a->n : b->n);

    return c ? c : (a->n > b->n) - (a->n < b->n);
}

static int kv_order(const void *a, const void *b)
{
    return compare_str(&(*(const struct gguf_kv *const *)a)->key,
                       &(*(const struct gguf_kv *const *)b)->key);
}

static int tensor_order(const void *a, const void *b)
{
    return compare_str(&(*(const struct gguf_tensor *const *)a)->name,
                       &(*(const struct gguf_tensor *const *)b)->name);
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
    struct gguf_kv want = { .key = { key, strlen(key) } };
    const struct gguf_kv *p = &want, **at;

    at = bsearch(&p, g->kv_by_name, (size_t)g->n_kv, sizeof p, kv_order);
    return at ? *at : NULL;
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name)
{
    struct gguf_tensor want = { .name = { name, strlen(name) } };
    const struct gguf_tensor *p = &want, **at;

    at = bsearch(&p, g->tensor_by_name, (size_t)g->n_tensor, sizeof p, tensor_order);
    return at ? *at : NULL;
}

static int index_kv(struct reader *r)
{
    struct gguf *g = r->g;
    char shown[MAP_SHOW];

    for (uint64_t i = 0; i < g->n_kv; i++)
        g->kv_by_name[i] = &g->kv[i];
    qsort(g->kv_by_name, (size_t)g->n_kv, sizeof *g->kv_by_name, kv_order);
    for (uint64_t i = 1; i < g->n_kv; i++)
        if (!kv_order(&g->kv_by_name[i - 1], &g->kv_by_name[i]))
            return REFUSE(r, g->kv_by_name[i]->at, "key '%s' stands twice; the file is damaged",
                          map_show(g->kv_by_name[i]->key.p, g->kv_by_name[i]->key.n, shown));
    return 0;
}

static int read_kvs(struct reader *r)
{
    struct gguf *g = r->g;

    g->kv = ARENA_NEW(&g->arena, struct gguf_kv, g->n_kv);
    g->kv_by_name = ARENA_NEW(&g->arena, const struct gguf_kv *, g->n_kv);
    if (!g->kv || !g->kv_by_name)
        return err_set(r->e, EXIT_RUN_FAILED, "%s: out of memory for %llu keys", g->map.path, LL(g->n_kv));
    for (uint64_t i = 0; i < g->n_kv; i++)
        if (read_kv(r, &g->kv[i]))
            return -1;
    return index_kv(r);
}

static int read_alignment(struct reader *r)
{
    const struct gguf_kv *kv = gguf_find(r->g, "general.alignment");
    uint32_t v = 32;

    if (kv && kv->type != GGUF_U32)
        return REFUSE(r, kv->at, "key '%s': value type %d; expected 4 (u32)", "general.alignment", kv->type);
    if (kv)
        v = le32(r->g->map.data + kv->at);
    if (kv && (v < 8 || v & (v - 1)))
        return REFUSE(r, kv->at, "key '%s': %u; expected a power of two of at least 8",
                      "general.alignment", v);
    r->g->alignment = v;
    return 0;
}

/* ---- tensors ---- */
static int read_dims(struct reader *r, struct gguf_tensor *t, const char *name, uint64_t *n)
{
    uint64_t at = r->at;

    if (read_u32(r, "dimension count", &t->n_dim))
        return -1;
    if (t->n_dim < 1 || t->n_dim > 4)
        return REFUSE(r, at, "tensor '%s': %u dimensions; expected 1 to 4", name, t->n_dim);
    *n = 1;
    for (uint32_t i = 0; i < 4; i++)
        t->dim[i] = 1;
    for (uint32_t i = 0; i < t->n_dim; i++) {
        at = r->at;
        if (read_u64(r, "dimension", &t->dim[i]))
            return -1;
        if (!t->dim[i] || t->dim[i] > INT64_MAX)
            return REFUSE(r, at, "tensor '%s': dimension %u is %lld; expected at least 1", name, i,
                          (long long)t->dim[i]);
        if (!mul_u64(*n, t->dim[i], n) || *n > INT64_MAX)
            return REFUSE(r, at, "tensor '%s': more than 2^63 values; the file is damaged", name);
    }
    return 0;
}

static int size_of(struct reader *r, uint64_t at, struct gguf_tensor *t, const char *name, uint64_t n)
{
    const char *known;
    const struct quant_info *q = quant_find(t->type, &known);

    if (!q)
        return REFUSE(r, at, "tensor '%s': type %u (%s) is not supported; expected F32 F16 BF16 Q4_0 Q4_1 Q5_0 "
                      "Q5_1 Q8_0 Q2_K to Q6_K IQ4_NL IQ4_XS, choose another file of this model", name, t->type,
                      known ? known : "unknown");
    if (t->dim[0] % q->block)
        return REFUSE(r, at, "tensor '%s': rows of %llu values; expected a multiple of %u (%s)", name,
                      LL(t->dim[0]), q->block, q->name);
    if (!mul_u64(n / q->block, q->bytes, &t->bytes))
        return REFUSE(r, at, "tensor '%s': %llu values of %s overflow; the file is damaged", name, LL(n),
                      q->name);
    return 0;
}

/* data holds the offset until the place of the data is known. */
static int read_tensor(struct reader *r, struct gguf_tensor *t, uint64_t *offset)
{
    char name[MAP_SHOW];
    uint64_t at, n = 0;

    if (read_name(r, "tensor name", 64, &t->name))
        return -1;
    map_show(t->name.p, t->name.n, name);
    if (read_dims(r, t, name, &n))
        return -1;
    at = r->at;
    if (read_u32(r, "tensor type", &t->type) || size_of(r, at, t, name, n))
        return -1;
    at = r->at;
    if (read_u64(r, "tensor offset", offset))
        return -1;
    if (*offset % r->g->alignment)
        return REFUSE(r, at, "tensor '%s': offset %llu; expected a multiple of the alignment, %llu", name,
                      LL(*offset), LL(r->g->alignment));
    return 0;
}

static int place_tensor(struct reader *r, struct gguf_tensor *t, uint64_t offset)
{
    uint64_t room = r->g->map.size - r->g->data_at;
    char name[MAP_SHOW];

    if (offset > room || t->bytes > room - offset)
        return REFUSE(r, r->g->data_at, "tensor '%s': %llu bytes at data offset %llu end beyond the data's %llu; "
                      "the file is cut short, fetch it again", map_show(t->name.p, t->name.n, name),
                      LL(t->bytes), LL(offset), LL(room));
    t->data = r->g->map.data + r->g->data_at + offset;
    return 0;
}

static int data_order(const void *a, const void *b)
{
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a;
    const struct gguf_tensor *y = *(const struct gguf_tensor *const *)b;

    return (x->data > y->data) - (x->data < y->data);
}

static int check_tensors(struct reader *r)
{
    struct gguf *g = r->g;
    const struct gguf_tensor **t = g->tensor_by_name;
    char a[MAP_SHOW], b[MAP_SHOW];

    for (uint64_t i = 0; i < g->n_tensor; i++)
        t[i] = &g->tensor[i];
    qsort(t, (size_t)g->n_tensor, sizeof *t, data_order);
    for (uint64_t i = 1; i < g->n_tensor; i++)
        if (t[i]->data < t[i - 1]->data + t[i - 1]->bytes)
            return REFUSE(r, (uint64_t)(t[i]->data - g->map.data), "tensors '%s' and '%s' overlap; the file is "
                          "damaged", map_show(t[i - 1]->name.p, t[i - 1]->name.n, a),
                          map_show(t[i]->name.p, t[i]->name.n, b));
    qsort(t, (size_t)g->n_tensor, sizeof *t, tensor_order);
    for (uint64_t i = 1; i < g->n_tensor; i++)
        if (!tensor_order(&t[i - 1], &t[i]))
            return REFUSE(r, g->data_at, "tensor '%s' stands twice; the file is damaged",
                          map_show(t[i]->name.p, t[i]->name.n, a));
    return 0;
}

static int read_tensors(struct reader *r)
{
    struct gguf *g = r->g;
    uint64_t *offset = ARENA_NEW(&g->arena, uint64_t, g->n_tensor), pad;

    g->tensor = ARENA_NEW(&g->arena, struct gguf_tensor, g->n_tensor);
    g->tensor_by_name = ARENA_NEW(&g->arena, const struct gguf_tensor *, g->n_tensor);
    if (!offset || !g->tensor || !g->tensor_by_name)
        return err_set(r->e, EXIT_RUN_FAILED, "%s: out of memory for %llu tensors", g->map.path,
                       LL(g->n_tensor));
    for (uint64_t i = 0; i < g->n_tensor; i++)
        if (read_tensor(r, &g->tensor[i], &offset[i]))
            return -1;
    pad = (g->alignment - r->at % g->alignment) % g->alignment;
    if (pad > left(r) && g->n_tensor)
        return need(r, pad, "padding before the data");
    g->data_at = r->at + (pad > left(r) ? 0 : pad);         /* without tensors the padding may be missing */
    for (uint64_t i = 0; i < g->n_tensor; i++)
        if (place_tensor(r, &g->tensor[i], offset[i]))
            return -1;
    return check_tensors(r);
}

static int gguf_read(struct gguf *g, struct err *e)
{
    struct reader r = { .g = g, .e = e };

    if (!read_header(&r) && !read_kvs(&r) && !read_alignment(&r) && !read_tensors(&r))
        return 0;
    gguf_close(g);
    return -1;
}

int gguf_open(struct gguf *g, const char *path, struct err *e)
{
    memset(g, 0, sizeof *g);
    return map_open(&g->map, path, INT64_MAX, e) ? -1 : gguf_read(g, e);
}

int gguf_open_bytes(struct gguf *g, const void *data, uint64_t size, const char *name, struct err *e)
{
    memset(g, 0, sizeof *g);
    return map_bytes(&g->map, data, size, name, e) ? -1 : gguf_read(g, e);
}

bool gguf_begins(const char *path)
{
    struct map m;
    bool yes = !map_open(&m, path, INT64_MAX, NULL) && m.size >= 4 && !memcmp(m.data, "GGUF", 4);

    map_close(&m);
    return yes;
}

void gguf_close(struct gguf *g)
{
    arena_free(&g->arena);
    map_close(&g->map);
    memset(g, 0, sizeof *g);
}
