/* read_all.h - every row and vector that a loader serves, into exact allocations, so that one that is too long is seen.
 * Errors (weights that are not finite) are legal. */
#ifndef TESTS_FUZZ_READ_ALL_H
#define TESTS_FUZZ_READ_ALL_H

#include <stdlib.h>

#include "models/model.h"

static inline void read_all(const struct model_shape *s, const struct weight_source *src)
{
    uint32_t q = s->n_head * s->head_dim, rows = q + 2 * s->n_kv_head * s->head_dim;
    const struct { enum role role; uint32_t n, k; } part[] = {
        { ROLE_QKV, rows, s->dim }, { ROLE_O, s->dim, q }, { ROLE_GATE_UP, 2 * s->ffn, s->dim },
        { ROLE_DOWN, s->dim, s->ffn }, { ROLE_HEAD, s->vocab, s->dim }, { ROLE_EMBED, s->vocab, s->dim },
    };

    for (uint32_t l = 0; l < s->n_layer; l++) {
        for (int p = 0; p < 6; p++) {
            float *x = malloc(part[p].k * sizeof *x);

            for (uint32_t r = 0; r < part[p].n; r++)
                src->row(src->self, part[p].role, l, r, x, NULL);
            free(x);
        }
        for (int g = 0; g < GAIN_N; g++) {
            uint32_t n = gain_length(s, (enum gain)g);
            float *x = malloc(n * sizeof *x);

            if ((g != GAIN_QKV_BIAS || s->qkv_bias) && ((g != GAIN_Q && g != GAIN_K) || s->qk_norm))
                src->gain(src->self, l, (enum gain)g, x, NULL);
            free(x);
        }
    }
}

#endif
