/* text_file.h - a text given on the command line, as tokens of a model, and a model that can read it. */
#ifndef HARNESS_TEXT_FILE_H
#define HARNESS_TEXT_FILE_H

#include "base/hash.h"
#include "models/load.h"
#include "text/tokenizer.h"

/* Reads a regular file of at most 256 MiB, its sum into sha. ids: token_ids_free. */
int text_file_tokens(const char *path, struct tokenizer *t, struct token_ids *ids, char sha[SHA256_HEX], struct err *e);
/* model_find of a real model (a shape's synthetic weights read nothing) whose context holds n tokens. verb, window: for
 * the message. */
int text_model_find(struct model_files *f, const char *name, const char *verb, int64_t window, int64_t n,
                    struct err *e);

#endif
