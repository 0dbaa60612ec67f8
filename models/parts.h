/* parts.h - a checkpoint's matrices and how they make up the fused ones that the forward pass multiplies by. */
#ifndef MODELS_PARTS_H
#define MODELS_PARTS_H

#include "models/model.h"

enum part { PART_Q, PART_K, PART_V, PART_O, PART_GATE, PART_UP, PART_DOWN, PART_LAYER_N };

/* The part that holds row *row of a layer's fused matrix; *row becomes the row in that part. */
enum part part_of(const struct model_shape *s, enum role role, uint32_t *row);
/* Rows (outputs) and columns (inputs) of a part. */
void part_size(const struct model_shape *s, enum part p, uint32_t *n, uint32_t *k);
/* Where a fused row is read from; roles that are not a layer's: the embedding table or the head. */
bool role_is_layer(enum role role);
/* 0 when all k values are finite; else -1 and which is not. */
int  row_finite(const float *x, uint32_t k, uint32_t *at);

#endif
