/* loaded.h - models on a device, one per set of weight formats, kept while memory allows. Precisions with awq=on get
 * scaled weights (models/scaled.h) from a file that loaded_scales read. */
#ifndef HARNESS_LOADED_H
#define HARNESS_LOADED_H

#include "models/scaled.h"
#include "strategies/strategy.h"

struct loaded { struct model model; char prec[64]; bool is_open; };
struct loaded_set {
    struct device *dev;
    struct model_shape shape;
    struct weight_source source;
    bool has_scales;
    struct scales scales;
    struct scaled scaled;              /* names scales: a set is not copied */
    struct weight_source scaled_source;
    struct arena arena;
    struct loaded *slot;               /* [n] */
    size_t n;
};
int loaded_open(struct loaded_set *s, struct device *d, const struct model_shape *shape,
                uint64_t seed, struct err *e);
/* The same with weights from elsewhere; what src names must outlive the set. */
int loaded_open_from(struct loaded_set *s, struct device *d, const struct model_shape *shape,
                     const struct weight_source *src);
/* Reads AWQ scales for the set's model (sha256: of its file, or NULL). After loaded_open. */
int loaded_scales(struct loaded_set *s, const char *path, const char *sha256, struct err *e);
/* Whether a strategy's precision asks for scales, and where its weights come from. NULL: it does, and there are
 * none. */
bool loaded_wants_scales(const struct strategy *st);
const struct weight_source *loaded_source(const struct loaded_set *s, const struct strategy *st, struct err *e);
/* Scales are read where they are asked for, by one of the n strategies, and asked for where they are given. path:
 * --scales or NULL; who: what ought to have asked, for the message. */
int loaded_scales_for(struct loaded_set *s, const struct strategy *st, size_t n, const char *path, const char *sha256,
                      const char *who, struct err *e);
/* The model with a strategy's weight formats, loading it if needed. NULL on error. */
struct model *loaded_get(struct loaded_set *s, const struct strategy *st, struct err *e);
void loaded_close(struct loaded_set *s);

#endif
