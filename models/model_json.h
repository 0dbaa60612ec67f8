/* model_json.h - JSON that came with a model: not deeply nested, no key twice, no NUL; errors on one line.
 *
 * base/json.h refuses unknown keys; a model's files have many that do not matter here. */
#ifndef MODELS_MODEL_JSON_H
#define MODELS_MODEL_JSON_H

#include <jansson.h>

#include "base/map.h"

/* Bytes [at, at + n) of the file as an object; the caller decrefs. NULL with file and place in e. */
json_t *model_json(const struct map *m, uint64_t at, uint64_t n, struct err *e);
/* The same of a whole file of at most max bytes. */
json_t *model_json_file(const char *path, uint64_t max, struct err *e);

#endif
