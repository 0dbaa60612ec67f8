/* side.h - a model with synthetic weights and a KV pool on one device, and one step of it. */
#ifndef EMU_SIDE_H
#define EMU_SIDE_H

#include "tests/emu/device.h"

enum { N_SLOT = 1024, MAX_TOK = 96, MAX_ROW = 8 };

/* A model and a pool on one device. */
struct side { struct device dev; struct model m; struct kv_pool kv; struct weight_source src; struct arena arena; };

static inline void side_open(struct side *s, const struct device_ops *ops, const struct model_shape *shape,
                      struct wfmt f, enum fmt kv)
{
    struct wfmt fmt[2 * ROLE_N];
    struct err e = { 0 };

    memset(s, 0, sizeof *s);
    for (int i = 0; i < 2 * ROLE_N; i++)
        fmt[i] = f;
    s->dev = open_device(ops);
    if (source_synth(&s->src, shape, 3, &s->arena, &e) ||
        model_open(&s->m, &s->dev, shape, fmt, &s->src, &e) || model_room(&s->m, MAX_TOK, MAX_ROW, &e) ||
        dev_kv_open(&s->dev, &s->kv, shape->n_layer, shape->n_kv_head, shape->head_dim, kv, N_SLOT, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("the model did not open");
    }
}

static inline void side_close(struct side *s)
{
    dev_kv_close(&s->dev, &s->kv);
    model_close(&s->m);
    arena_free(&s->arena);
    dev_close(&s->dev);
}

static inline void side_exec(struct side *s, bool fused, bool graph, bool exact)
{
    struct exec x = { .fused = fused, .graph = graph, .exact = exact };
    struct err e = { 0 };

    CU_ASSERT_EQUAL_FATAL(dev_exec(&s->dev, &x, &e), 0);
}

/* One step; logits [n_row, vocab] for the caller to free. */
static inline float *side_step(struct side *s, const struct batch *b, uint32_t *next)
{
    struct err e = { 0 };

    if (model_step(&s->m, &s->kv, b, next, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("the step failed");
    }
    return down(&s->dev, s->m.logits, (size_t)b->n_row * s->m.shape.vocab);
}

#endif
