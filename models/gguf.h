/* gguf.h - a GGUF file (versions 2 and 3, little-endian): metadata and tensors, every count and offset checked.
 *
 * Layout: "GGUF", u32 version, u64 n_tensor, u64 n_kv; n_kv times key (string), u32 type, value; n_tensor times name
 * (string), u32 n_dim, u64 dim[n_dim], u32 type, u64 offset; padding to general.alignment; data. A string
 * is u64 length and bytes, without NUL. dim[0] runs fastest: a matrix [n, k] has dim {k, n}.
 *
 * gguf_open walks everything once. What it accepted stays in bounds: the accessors below cannot fail on a
 * truncated file. Text comes from outside: not NUL-terminated, not promised to be UTF-8. */
#ifndef MODELS_GGUF_H
#define MODELS_GGUF_H

#include "base/arena.h"
#include "base/map.h"

enum gguf_type {                   /* numbers as in the file */
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING,
    GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64, GGUF_TYPE_N
};
struct gguf_str { const char *p; uint64_t n; };

struct gguf_kv {
    struct gguf_str key;
    enum gguf_type type;
    enum gguf_type item;           /* of an array; arrays of arrays are refused */
    uint64_t n;                    /* items of an array; otherwise 1 */
    uint64_t at, end;              /* where the (first) value starts, where the last ends, in the file */
};
struct gguf_tensor {
    struct gguf_str name;
    uint32_t type;                 /* enum quant (models/quants.h) */
    uint32_t n_dim;                /* 1..4 */
    uint64_t dim[4];               /* >= 1; 1 beyond n_dim */
    uint64_t bytes;
    const unsigned char *data;     /* [bytes], inside the map */
};
struct gguf {
    struct map map;
    uint32_t version;
    uint64_t alignment, data_at;
    uint64_t n_kv, n_tensor;
    struct gguf_kv *kv;            /* [n_kv] in file order */
    struct gguf_tensor *tensor;    /* [n_tensor] in file order */
    const struct gguf_kv **kv_by_name;             /* sorted, for finding */
    const struct gguf_tensor **tensor_by_name;
    struct arena arena;
};
int  gguf_open(struct gguf *g, const char *path, struct err *e);
/* The same of bytes in memory, which must outlive g. */
int  gguf_open_bytes(struct gguf *g, const void *data, uint64_t size, const char *name, struct err *e);
void gguf_close(struct gguf *g);
/* Whether a regular file begins as GGUF files do: downloads keep odd names. */
bool gguf_begins(const char *path);

/* NULL when there is no such key (tensor). */
const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name);

/* The value of a key that must be there, have a fitting type and lie in [min, max]; -1 with file, key, value and
 * what was expected. Any integer type passes for int, any number for real. Ask gguf_find first for an
 * optional key. */
int gguf_int(const struct gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
             struct err *e);
int gguf_real(const struct gguf *g, const char *key, double min, double max, double *out, struct err *e);
int gguf_bool(const struct gguf *g, const char *key, bool *out, struct err *e);
int gguf_text(const struct gguf *g, const char *key, struct gguf_str *out, struct err *e);

/* Walks an array. item: GGUF_STRING, GGUF_F32, GGUF_I32 ... Integer kinds of any width pass when item is
 * GGUF_I64, either float kind when item is GGUF_F64; otherwise the item type must be equal. */
struct gguf_list { const struct gguf *g; enum gguf_type item; uint64_t n, i, at; };
int gguf_list_open(struct gguf_list *l, const struct gguf *g, const char *key, enum gguf_type item,
                   struct err *e);
/* The next item; false after the last. Use the one that fits the item type. u64 items beyond INT64_MAX are
 * clamped to it. */
bool gguf_next_str(struct gguf_list *l, struct gguf_str *out);
bool gguf_next_int(struct gguf_list *l, int64_t *out);
bool gguf_next_real(struct gguf_list *l, double *out);
/* Whether a string of the file equals a C string. */
bool gguf_is(struct gguf_str s, const char *text);

#endif
