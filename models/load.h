/* load.h - finds what MODEL= names and opens it: shape and where its weights come from.
 *
 *   a folder       a Hugging Face snapshot (config.json and safetensors), or one holding a single .gguf file
 *   FILE.gguf      one GGUF file
 *   FILE.json      a shape: synthetic weights
 *   a bare name    NAME or NAME.gguf under $SERVELAB_MODELS, then under models/store (downloaded, outside git),
 *                  then models/shapes/NAME.json
 *
 * Weights stay in the mapped file; rows are decoded to floats as the device asks for them. */
#ifndef MODELS_LOAD_H
#define MODELS_LOAD_H

#include "base/hash.h"
#include "models/model.h"

enum model_kind { MODEL_SHAPE, MODEL_HF, MODEL_GGUF };

struct model_files {
    enum model_kind kind;          /* MODEL_SHAPE: the weights are synthetic */
    char path[4096];               /* the shape, the snapshot's folder or the .gguf: the tokenizer is there too */
    struct model_shape shape;
    struct weight_source source;   /* valid until model_files_close */
    void *self;                    /* the loader's state */
    struct arena arena;            /* of a synthetic source */
};
/* seed: of synthetic weights. 0, or -1 with one line that names the file, the place and the way out. */
int  model_find(struct model_files *f, const char *name, uint64_t seed, struct err *e);
void model_files_close(struct model_files *f);
/* SHA-256 of the file that holds the weights (or of the shape), or of the list of the sums of several. */
int  model_files_sha256(const struct model_files *f, char out[SHA256_HEX], struct err *e);

/* Only looks: where NAME is and of which kind. */
int  model_locate(const char *name, enum model_kind *kind, char *path, size_t n, struct err *e);

/* The loaders of a kind. shape and source are filled; *self is given back to the matching close. */
int  load_hf(const char *folder, struct model_shape *shape, struct weight_source *src, struct err *e);
void load_hf_close(void *self);
int  load_gguf(const char *path, struct model_shape *shape, struct weight_source *src, struct err *e);
void load_gguf_close(void *self);

/* Bounds and multiples that every shape must keep, whatever it was read from (as models/shape.c). */
int  shape_bounds(const struct model_shape *s, const char *path, struct err *e);

#endif
