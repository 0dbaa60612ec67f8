/* calibrate.h - finds AWQ scales for a model and a precision from a text (models/scaled.h: what they are).
 *
 * The f16 model reads windows of the text; of the input of each qkv, gate_up and down product, mean |x_j| and mean
 * x_j^2 are kept per channel. Then, per layer and role, s_j = mean|x_j|^alpha (normalised by sqrt(largest * smallest))
 * for the alpha of 0, 0.1 .. 1 that makes
 *     sum over rows and channels of mean(x_j^2) * (W_ij - decode(encode(W_i s))_j / s_j)^2
 * least: the diagonal of ||X (W - Q(W s) / s)||^2. What it leaves out, products of errors of two channels, has mean 0
 * as long as rounding errors of channels are independent. alpha 0 is in the grid, so no product gets worse by this
 * measure. AWQ's own search takes the error of a whole block's output instead, and clips weights after it; neither is
 * done here.
 *
 * Any device that computes will do: activations are read through the seam. */
#ifndef HARNESS_CALIBRATE_H
#define HARNESS_CALIBRATE_H

#include "harness/loaded.h"
#include "models/scaled.h"

struct calibrate_conf {
    uint32_t window, n_window;             /* tokens of each, at most how many, spread evenly over the text */
    uint32_t max_row;                      /* rows of a matrix that judge alpha, spread evenly; 0: all */
    void (*progress)(void *self, uint32_t done, uint32_t all);     /* may be NULL; windows, then layers */
    void *self;
};
struct calibrate_report {
    uint32_t n_tok;
    /* per role, over all layers: the sum above without scales and with them, and the mean alpha */
    double before[SCALED_N], after[SCALED_N], alpha[SCALED_N];
};
/* st: its precision is what the scales are for. out is made here (scales_free); its names and sums are the caller's to
 * fill. 0, or -1 with e: no device that computes, a text shorter than a window, a precision that rounds nothing. */
int calibrate(struct loaded_set *models, const struct strategy *st, const uint32_t *tok, size_t n_tok,
              const struct calibrate_conf *c, struct scales *out, struct calibrate_report *report, struct err *e);

#endif
