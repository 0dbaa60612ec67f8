/* safetensors.h - tensors of a Hugging Face snapshot: one file, or several named by an index.
 *
 * Layout of a file: u64 length of a JSON header; the header, {"name": {"dtype", "shape", "data_offsets":
 * [begin, end]}, "__metadata__": {text: text}}; data. As the format's own reader, this one wants the spans to cover the
 * data exactly, without hole, overlap or tail, and dtype times shape to equal the span. */
#ifndef MODELS_SAFETENSORS_H
#define MODELS_SAFETENSORS_H

#include "base/arena.h"
#include "base/map.h"

enum st_type {
    ST_F32, ST_F16, ST_BF16, ST_I32, ST_I64, ST_F64, ST_I16, ST_I8, ST_U8, ST_U16, ST_U32, ST_U64,
    ST_BOOL, ST_F8_E4M3, ST_F8_E5M2, ST_TYPE_N
};
extern const char *const st_type_name[ST_TYPE_N];

enum { ST_DIMS = 8, ST_TENSORS = 65536, ST_FILES = 1024 };    /* the most of each that is accepted */
struct st_tensor {
    const char *name;
    const struct map *file;
    enum st_type type;
    uint32_t n_dim;
    uint64_t dim[ST_DIMS];         /* dim[n_dim - 1] runs fastest */
    uint64_t bytes;
    const unsigned char *data;     /* [bytes], at any alignment */
};
struct safetensors {
    struct map *file;              /* [n_file] */
    struct st_tensor *tensor;      /* [n] by name */
    uint32_t n_file, n, room;      /* room: of tensor */
    struct json_t *index;          /* weight_map, while there is one */
    struct arena arena;
};
/* model.safetensors of a folder, else the files that model.safetensors.index.json names. */
int  safetensors_open(struct safetensors *s, const char *folder, struct err *e);
/* One file's bytes, which must outlive s (tests, fuzzing). */
int  safetensors_open_bytes(struct safetensors *s, const void *data, uint64_t size, const char *name,
                            struct err *e);
void safetensors_close(struct safetensors *s);
const struct st_tensor *safetensors_find(const struct safetensors *s, const char *name);   /* or NULL */

#endif
