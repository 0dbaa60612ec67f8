/* draw.h - knobs drawn from a part's own table, for tests that must know no strategy. */
#ifndef HARNESS_DRAW_H
#define HARNESS_DRAW_H

#include "base/hash.h"
#include "base/params.h"

/* Writes ":k=v..." or "": each knob with probability one half, numbers log-uniform up to `most`. A
 * knob that no longer fits `out` is left at its default. */
void draw_knobs(const struct knob *k, struct rng *r, int64_t most, char *out, size_t n);

#endif
