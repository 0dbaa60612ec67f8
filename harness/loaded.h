/* loaded.h - models on a device, one per set of weight formats, kept while memory allows. */
#ifndef HARNESS_LOADED_H
#define HARNESS_LOADED_H

#include "models/model.h"
#include "strategies/strategy.h"

struct loaded { struct model model; char prec[64]; bool is_open; };
struct loaded_set {
    struct device *dev;
    struct model_shape shape;
    struct weight_source source;
    struct arena arena;
    struct loaded *slot;               /* [n] */
    size_t n;
};
int loaded_open(struct loaded_set *s, struct device *d, const struct model_shape *shape,
                uint64_t seed, struct err *e);
/* The same with weights from elsewhere; what src names must outlive the set. */
int loaded_open_from(struct loaded_set *s, struct device *d, const struct model_shape *shape,
                     const struct weight_source *src);
/* The model with a strategy's weight formats, loading it if needed. NULL on error. */
struct model *loaded_get(struct loaded_set *s, const struct strategy *st, struct err *e);
void loaded_close(struct loaded_set *s);

#endif
