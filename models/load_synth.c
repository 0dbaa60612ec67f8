/* load_synth.c - seeded synthetic weights for a shape, for runs that have no real model.
 *
 * Each weight is a function of (seed, role, layer, row, column) alone, so any row can be made at any time.
 * Values are near normal with variance gain^2 / k, which keeps activations of order one. Queries and keys
 * have gain 2, so that attention is sharp enough for one wrong cached token to change what is picked:
 * the equality tests live on that. The embedding is small against what the layers add, so that a tied
 * head does not simply repeat its input. */
#include <math.h>
#include <stdio.h>

#include "base/hash.h"
#include "models/model.h"

struct synth {
    struct model_shape shape;
    uint64_t seed;
};

static uint32_t role_inputs(const struct model_shape *s, enum role role)
{
    if (role == ROLE_O)
        return s->n_head * s->head_dim;
    return role == ROLE_DOWN ? s->ffn : s->dim;
}

static float role_gain(const struct model_shape *s, enum role role, uint32_t row)
{
    switch (role) {
    case ROLE_QKV:                              /* rows: queries, keys, then values */
        return row < (s->n_head + s->n_kv_head) * s->head_dim ? 2.0f : 1.0f;
    case ROLE_O:
        return 2.0f;
    case ROLE_HEAD:
    case ROLE_EMBED:
        return 0.25f;
    default:
        return 1.0f;
    }
}

/* Four 16-bit uniforms of one hash, summed: bell-shaped, mean 0, variance 1. */
static float bell(uint64_t h)
{
    float sum = (float)(h & 0xffff) + (float)((h >> 16) & 0xffff) + (float)((h >> 32) & 0xffff) +
                (float)(h >> 48);

    return (sum - 131070.0f) * (1.0f / 37837.0f);
}

static int synth_row(void *self, enum role role, uint32_t layer, uint32_t row, float *out,
                     struct err *e)
{
    const struct synth *y = self;
    uint32_t k = role_inputs(&y->shape, role);
    float scale = role_gain(&y->shape, role, row) / sqrtf((float)k);
    uint64_t base;

    (void)e;
    if (role == ROLE_EMBED && y->shape.tied)
        role = ROLE_HEAD;
    base = hash64(hash64(hash64(y->seed, role), layer), row);
    for (uint32_t i = 0; i < k; i++)
        out[i] = bell(mix64(base + i)) * scale;
    return 0;
}

static int synth_gain(void *self, uint32_t layer, enum gain which, float *out, struct err *e)
{
    const struct synth *y = self;
    uint64_t base = hash64(hash64(y->seed ^ 0x67616e, layer), (uint64_t)which);

    (void)e;
    for (uint32_t i = 0; i < gain_length(&y->shape, which); i++)
        out[i] = (which == GAIN_QKV_BIAS ? 0.0f : 1.0f) + 0.1f * bell(mix64(base + i));
    return 0;
}

int source_synth(struct weight_source *src, const struct model_shape *shape, uint64_t seed,
                 struct arena *a, struct err *e)
{
    struct synth *y = ARENA_NEW(a, struct synth, 1);

    if (!y)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    y->shape = *shape;
    y->seed = seed;
    *src = (struct weight_source){ .row = synth_row, .gain = synth_gain, .self = y,
                                   .is_synthetic = true };
    snprintf(src->about, sizeof src->about, "synthetic weights, seed %llu",
             (unsigned long long)seed);
    return 0;
}
