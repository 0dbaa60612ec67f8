#include "models/scaled.h"

#include <stdio.h>
#include <string.h>

int scaled_of(enum role role)
{
    return role == ROLE_QKV ? SCALED_QKV : role == ROLE_GATE_UP ? SCALED_GATE_UP
         : role == ROLE_DOWN ? SCALED_DOWN : SCALED_N;
}

enum role scaled_role(int which)
{
    static const enum role role[SCALED_N] = { ROLE_QKV, ROLE_GATE_UP, ROLE_DOWN };

    return role[which];
}

uint32_t scales_width(const struct scales *s, int which)
{
    return which == SCALED_DOWN ? s->ffn : s->dim;
}

float *scales_at(const struct scales *s, int which, uint32_t layer)
{
    return s->s[which] + (size_t)layer * scales_width(s, which);
}

int scales_init(struct scales *s, const struct model_shape *shape, struct err *e)
{
    memset(s, 0, sizeof *s);
    s->n_layer = shape->n_layer;
    s->dim = shape->dim;
    s->ffn = shape->ffn;
    s->alpha = ARENA_NEW(&s->arena, float, (size_t)s->n_layer * SCALED_N);
    for (int w = 0; w < SCALED_N; w++) {
        size_t n = (size_t)s->n_layer * scales_width(s, w);

        s->s[w] = ARENA_NEW(&s->arena, float, n);
        if (!s->s[w] || !s->alpha) {
            scales_free(s);
            return err_set(e, EXIT_RUN_FAILED, "out of memory for the scales of %u layers", shape->n_layer);
        }
        for (size_t i = 0; i < n; i++)
            s->s[w][i] = 1;
    }
    return 0;
}

void scales_free(struct scales *s)
{
    arena_free(&s->arena);
    memset(s, 0, sizeof *s);
}

/* ---- between a loader and a device ---- */

static int scaled_row(void *self, enum role role, uint32_t layer, uint32_t row, float *out, struct err *e)
{
    const struct scaled *y = self;
    int which = scaled_of(role);

    if (y->inner.row(y->inner.self, role, layer, row, out, e))
        return -1;
    if (which == SCALED_N)
        return 0;
    for (uint32_t j = 0; j < scales_width(y->scales, which); j++)
        out[j] *= scales_at(y->scales, which, layer)[j];
    if (role == ROLE_GATE_UP && row >= y->shape.ffn) {         /* up: its output is an input of down */
        float s = scales_at(y->scales, SCALED_DOWN, layer)[row - y->shape.ffn];

        for (uint32_t j = 0; j < y->shape.dim; j++)
            out[j] /= s;
    }
    return 0;
}

static int scaled_gain(void *self, uint32_t layer, enum gain which, float *out, struct err *e)
{
    const struct scaled *y = self;
    int of = which == GAIN_ATTENTION ? SCALED_QKV : which == GAIN_FFN ? SCALED_GATE_UP : SCALED_N;

    if (y->inner.gain(y->inner.self, layer, which, out, e))
        return -1;
    for (uint32_t j = 0; of != SCALED_N && j < y->shape.dim; j++)
        out[j] /= scales_at(y->scales, of, layer)[j];
    return 0;
}

void source_scaled(struct weight_source *src, struct scaled *state, const struct model_shape *shape,
                   const struct weight_source *inner, const struct scales *s)
{
    *state = (struct scaled){ *inner, *shape, s };
    *src = (struct weight_source){ scaled_row, scaled_gain, state, inner->is_synthetic, "" };
    snprintf(src->about, sizeof src->about, "%.90s; AWQ scales for %.40s", inner->about, s->precision);
}
