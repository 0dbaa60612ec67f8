/* tokenizer_gguf.h - the tokenizer that a model's files hold, of whatever kind they are. */
#ifndef MODELS_TOKENIZER_GGUF_H
#define MODELS_TOKENIZER_GGUF_H

#include "models/gguf.h"
#include "text/tokenizer.h"

/* From the metadata of an open file; g may be closed afterwards. */
int tokenizer_from_gguf(struct tokenizer **t, const struct gguf *g, struct err *e);
/* path: a .gguf file (known by its first bytes), a snapshot's folder, or a tokenizer.json. What
 * struct model_files.path names has its tokenizer there; a shape (.json) has none and is refused.
 */
int tokenizer_open(struct tokenizer **t, const char *path, struct err *e);

#endif
