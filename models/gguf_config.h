/* gguf_config.h - the shape of a model from a GGUF file's metadata, or why it is refused. */
#ifndef MODELS_GGUF_CONFIG_H
#define MODELS_GGUF_CONFIG_H

#include "models/gguf.h"
#include "models/model.h"

/* Fills all but the name. *paired: neighbouring rows of Q and K rotate together (architecture llama). */
int gguf_config(const struct gguf *g, struct model_shape *s, bool *paired, struct err *e);

#endif
