/* model_pass.h - steps of made-up tokens, for benchmarks of whole forward passes. Nothing here reads a clock. */
#ifndef HARNESS_MODEL_PASS_H
#define HARNESS_MODEL_PASS_H

#include "models/model.h"

enum { PASS_TOK = 512, PASS_SEQ = 32, PASS_LEN = 1024, PASS_BLOCK = 16 };       /* at most, and tokens of a block */

/* n tokens more for each of n_seq sequences, from sequence `first` on, that hold depth; n_seq * n <= PASS_TOK,
 * first + n_seq <= PASS_SEQ, depth + n <= PASS_LEN. */
struct pass { uint32_t first, n_seq, depth, n; };
/* Sequences stand one behind the other in a pool of PASS_SEQ * PASS_LEN slots, PASS_LEN each, in blocks. */
int pass_step(struct model *m, struct kv_pool *kv, const struct pass *p, struct err *e);

#endif
