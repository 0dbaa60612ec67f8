/* gguf_kv.c - reads single values and arrays of a GGUF file's metadata; gguf_open has checked all bounds. */
#include <math.h>
#include <string.h>

#include "models/gguf.h"

#define LL(x) ((unsigned long long)(x))

static const char *const type_name[GGUF_TYPE_N] = {
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"
};
static const unsigned char type_bytes[GGUF_TYPE_N] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

bool gguf_is(struct gguf_str s, const char *text)
{
    return s.n == strlen(text) && !memcmp(s.p, text, s.n);
}

static bool is_int(enum gguf_type t)
{
    return t <= GGUF_I32 || t == GGUF_U64 || t == GGUF_I64;
}

static bool is_real(enum gguf_type t) { return t == GGUF_F32 || t == GGUF_F64; }

static int64_t int_at(const unsigned char *p, enum gguf_type t)
{
    uint64_t u;

    switch (t) {
    case GGUF_U8: return p[0];
    case GGUF_I8: return (signed char)p[0];
    case GGUF_U16: return le16(p);
    case GGUF_I16: return (int16_t)le16(p);
    case GGUF_U32: return le32(p);
    case GGUF_I32: return (int32_t)le32(p);
    case GGUF_I64: return (int64_t)le64(p);
    default:
        u = le64(p);
        return u > INT64_MAX ? INT64_MAX : (int64_t)u;
    }
}

static double real_at(const unsigned char *p, enum gguf_type t)
{
    uint32_t bits = t == GGUF_F32 ? le32(p) : 0;
    uint64_t wide = t == GGUF_F64 ? le64(p) : 0;
    double d;
    float f;

    if (is_int(t))
        return (double)int_at(p, t);
    memcpy(&f, &bits, sizeof f);
    memcpy(&d, &wide, sizeof d);
    return t == GGUF_F32 ? (double)f : d;
}

static const struct gguf_kv *must(const struct gguf *g, const char *key, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (!kv)
        err_set(e, EXIT_USAGE, "%s: key '%s' is missing; convert the model again", g->map.path, key);
    return kv;
}

static int wrong_type(const struct gguf *g, const struct gguf_kv *kv, const char *key, const char *want,
                      struct err *e)
{
    return err_set(e, EXIT_USAGE, "%s: offset %llu: key '%s' is %s%s; expected %s", g->map.path, LL(kv->at),
                   key, kv->type == GGUF_ARRAY ? "an array of " : "", type_name[kv->item], want);
}

int gguf_int(const struct gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
             struct err *e)
{
    const struct gguf_kv *kv = must(g, key, e);
    int64_t v;

    if (!kv)
        return -1;
    if (!is_int(kv->type))
        return wrong_type(g, kv, key, "a whole number", e);
    v = int_at(g->map.data + kv->at, kv->type);
    if (v < min || v > max)
        return err_set(e, EXIT_USAGE, "%s: offset %llu: key '%s': %lld is outside %lld to %lld", g->map.path,
                       LL(kv->at), key, (long long)v, (long long)min, (long long)max);
    *out = v;
    return 0;
}

int gguf_real(const struct gguf *g, const char *key, double min, double max, double *out, struct err *e)
{
    const struct gguf_kv *kv = must(g, key, e);
    double v;

    if (!kv)
        return -1;
    if (!is_int(kv->type) && !is_real(kv->type))
        return wrong_type(g, kv, key, "a number", e);
    v = real_at(g->map.data + kv->at, kv->type);
    if (!(v >= min && v <= max))                /* NaN too */
        return err_set(e, EXIT_USAGE, "%s: offset %llu: key '%s': %g is outside %g to %g", g->map.path,
                       LL(kv->at), key, v, min, max);
    *out = v;
    return 0;
}

int gguf_bool(const struct gguf *g, const char *key, bool *out, struct err *e)
{
    const struct gguf_kv *kv = must(g, key, e);

    if (!kv)
        return -1;
    if (kv->type != GGUF_BOOL || g->map.data[kv->at] > 1)
        return wrong_type(g, kv, key, "a bool, 0 or 1", e);
    *out = g->map.data[kv->at];
    return 0;
}

int gguf_text(const struct gguf *g, const char *key, struct gguf_str *out, struct err *e)
{
    const struct gguf_kv *kv = must(g, key, e);

    if (!kv)
        return -1;
    if (kv->type != GGUF_STRING)
        return wrong_type(g, kv, key, "a string", e);
    out->n = kv->end - kv->at - 8;
    out->p = (const char *)g->map.data + kv->at + 8;
    return 0;
}

int gguf_list_open(struct gguf_list *l, const struct gguf *g, const char *key, enum gguf_type item,
                   struct err *e)
{
    const struct gguf_kv *kv = must(g, key, e);
    char want[40] = "an array of ";

    if (!kv)
        return -1;
    if (kv->type != GGUF_ARRAY || !(kv->item == item || (item == GGUF_I64 && is_int(kv->item)) ||
                                    (item == GGUF_F64 && is_real(kv->item))))
        return wrong_type(g, kv, key, strcat(want, type_name[item]), e);
    *l = (struct gguf_list){ .g = g, .item = kv->item, .n = kv->n, .at = kv->at };
    return 0;
}

bool gguf_next_str(struct gguf_list *l, struct gguf_str *out)
{
    if (l->i >= l->n || l->item != GGUF_STRING)
        return false;
    out->n = le64(l->g->map.data + l->at);
    out->p = (const char *)l->g->map.data + l->at + 8;
    l->at += 8 + out->n;
    l->i++;
    return true;
}

bool gguf_next_int(struct gguf_list *l, int64_t *out)
{
    if (l->i >= l->n || !(is_int(l->item) || l->item == GGUF_BOOL))
        return false;
    *out = l->item == GGUF_BOOL ? l->g->map.data[l->at] : int_at(l->g->map.data + l->at, l->item);
    l->at += type_bytes[l->item];
    l->i++;
    return true;
}

bool gguf_next_real(struct gguf_list *l, double *out)
{
    if (l->i >= l->n || !(is_int(l->item) || is_real(l->item)))
        return false;
    *out = real_at(l->g->map.data + l->at, l->item);
    l->at += type_bytes[l->item];
    l->i++;
    return true;
}
