/* model_list.h - the models that MODEL= may name: shapes, and what lies in the stores. */
#ifndef HARNESS_MODEL_LIST_H
#define HARNESS_MODEL_LIST_H

#include <jansson.h>

/* A list of objects: name, about, state ("fetched", "synthetic", "refused"); fetched ones have format ("GGUF",
 * "safetensors"), bytes and path, those that `make model` can fetch but did not have fetch, the command. */
json_t *model_list(void);

#endif
