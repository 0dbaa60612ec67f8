/* choice.h - what a strategy means to a device and a model: cache format, weight formats, launch. */
#ifndef HARNESS_CHOICE_H
#define HARNESS_CHOICE_H

#include "kernels/device.h"
#include "strategies/strategy.h"

enum fmt choice_kv(const struct strategy *s);          /* of cached K and V */
struct exec choice_exec(const struct strategy *s);     /* how steps are launched */
/* Formats of all matrices, [layer * ROLE_N + role], as model_open takes them; malloc'ed. NULL: no memory, e says so. */
struct wfmt *choice_formats(const struct strategy *s, uint32_t n_layer, struct err *e);

#endif
