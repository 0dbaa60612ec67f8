/* scaled.h - scales per input channel that make weights lose less when they are rounded to few bits.
 *
 * AWQ (Lin et al. 2024): channels that meet large activations matter most; multiplying their weights by s_j > 1 and
 * dividing their activations by the same s_j leaves the function as it is and the rounding error of that channel smaller.
 * The division costs nothing at run time, since it is folded into what makes the activation:
 *   qkv      W[:, j] *= s_j, gain[j] of the attention norm /= s_j
 *   gate_up  the same with the norm before it
 *   down     W[:, j] *= s_j, row j of up (row ffn + j of gate_up) /= s_j
 *   o        left as it is: with grouped queries one row of v feeds several columns of o, so a scale per column cannot be
 *            folded (AWQ leaves it out there too)
 *   head     left as it is: a tied head is the embedding as well
 * harness/calibrate.h finds scales, a file carries them (JSON, schema awq-scales/1), and source_scaled puts them
 * between a loader and a device. Scales of another model of the same shape lose nothing but their use. */
#ifndef MODELS_SCALED_H
#define MODELS_SCALED_H

#include "base/hash.h"
#include "models/model.h"

enum { SCALED_QKV, SCALED_GATE_UP, SCALED_DOWN, SCALED_N };
/* Scales are normalised by sqrt(largest * smallest); files may hold no scale beyond these. */
#define SCALE_MIN 1e-3
#define SCALE_MAX 1e3

struct scales {
    uint32_t n_layer, dim, ffn;
    float *s[SCALED_N];                    /* [n_layer, dim], [n_layer, dim], [n_layer, ffn] */
    float *alpha;                          /* [n_layer, SCALED_N] the exponents that made them, 0: none */
    char precision[64];                    /* "int4": what they were found for */
    char model_sha256[SHA256_HEX];         /* model_files_sha256 */
    char text[128], text_sha256[SHA256_HEX];       /* what they were calibrated on */
    uint32_t n_tok;                        /* tokens of it */
    struct arena arena;
};

/* Which of the three a role is, SCALED_N: none. */
int scaled_of(enum role role);
enum role scaled_role(int which);
/* Inputs of that matrix. */
uint32_t scales_width(const struct scales *s, int which);
float *scales_at(const struct scales *s, int which, uint32_t layer);

/* All ones. 0, or -1 when memory is out. */
int  scales_init(struct scales *s, const struct model_shape *shape, struct err *e);
/* Refuses what does not fit the shape, or the model when sha256 is given (NULL: not asked). */
int  scales_read(struct scales *s, const char *path, const struct model_shape *shape, const char *sha256, struct err *e);
/* Over an existing file only when it is a regular one; a half-written file does not stay. */
int  scales_write(const struct scales *s, const char *path, struct err *e);
void scales_free(struct scales *s);

/* Weights of `inner` with the scales in them. state and what it names must outlive src. */
struct scaled { struct weight_source inner; struct model_shape shape; const struct scales *scales; };
void source_scaled(struct weight_source *src, struct scaled *state, const struct model_shape *shape,
                   const struct weight_source *inner, const struct scales *s);

#endif
