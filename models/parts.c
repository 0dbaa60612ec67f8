#include "models/parts.h"

#include <math.h>

bool role_is_layer(enum role role) { return role != ROLE_HEAD && role != ROLE_EMBED; }

enum part part_of(const struct model_shape *s, enum role role, uint32_t *row)
{
    uint32_t q = s->n_head * s->head_dim, kv = s->n_kv_head * s->head_dim;

    if (role == ROLE_O)
        return PART_O;
    if (role == ROLE_DOWN)
        return PART_DOWN;
    if (role == ROLE_GATE_UP) {
        if (*row < s->ffn)
            return PART_GATE;
        *row -= s->ffn;
        return PART_UP;
    }
    if (*row < q)
        return PART_Q;
    *row -= q;
    if (*row < kv)
        return PART_K;
    *row -= kv;
    return PART_V;
}

void part_size(const struct model_shape *s, enum part p, uint32_t *n, uint32_t *k)
{
    uint32_t q = s->n_head * s->head_dim, kv = s->n_kv_head * s->head_dim;

    *k = s->dim;
    switch (p) {
    case PART_Q: *n = q; break;
    case PART_K:
    case PART_V: *n = kv; break;
    case PART_GATE:
    case PART_UP: *n = s->ffn; break;
    case PART_O: *n = s->dim; *k = q; break;
    default: *n = s->dim; *k = s->ffn; break;
    }
}

int row_finite(const float *x, uint32_t k, uint32_t *at)
{
    for (*at = 0; *at < k; ++*at)
        if (!isfinite(x[*at]))
            return -1;
    return 0;
}
