/* text_file.h - a text given on the command line, as tokens of a model. */
#ifndef HARNESS_TEXT_FILE_H
#define HARNESS_TEXT_FILE_H

#include "base/hash.h"
#include "text/tokenizer.h"

/* Reads a regular file of at most 256 MiB, its sum into sha. ids: token_ids_free. */
int text_file_tokens(const char *path, struct tokenizer *t, struct token_ids *ids, char sha[SHA256_HEX], struct err *e);

#endif
