/* st_index.h - which safetensors files a snapshot has, by itself or by its index. */
#ifndef MODELS_ST_INDEX_H
#define MODELS_ST_INDEX_H

#include "models/safetensors.h"

/* Maps the files into s->file; keeps the index, if there is one, in s->index. */
int st_index_files(struct safetensors *s, const char *folder, struct err *e);
/* The index and the files' headers must name the same tensors in the same files. */
int st_index_check(const struct safetensors *s, const char *folder, struct err *e);

#endif
