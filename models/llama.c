/* llama.c - the forward pass of a Llama-family model, straight down.
 *
 * Pre-norm residual blocks (Touvron et al. 2023): x += attend(norm(x)); x += ffn(norm(x)). The residual
 * add is part of the next norm. Only rows that yield a token reach the head. */
#include "models/model.h"

/* A product; whoever calibrates sees its input. */
static void product(struct model *m, void *out, const void *in, const struct weight *w, enum role role, uint32_t layer,
                    uint32_t n)
{
    if (m->watch)
        m->watch(m->watch_self, role, layer, in, n);
    dev_matmul(m->dev, out, in, w, n);
}

static void layer_step(struct model *m, uint32_t l, struct kv_pool *kv, const struct batch *b)
{
    const struct model_shape *s = &m->shape;
    const struct layer *y = &m->layer[l];
    struct device *d = m->dev;

    dev_norm(d, m->y, m->x, l ? m->y : NULL, y->gain[GAIN_ATTENTION], b->n_tok, s->dim, s->norm_eps);
    product(m, m->qkv, m->y, &y->qkv, ROLE_QKV, l, b->n_tok);
    dev_rope_store(d, m->qkv, kv, l, b, &y->rope);
    dev_attend(d, m->att, m->qkv, kv, l, b, s->n_head);
    product(m, m->y, m->att, &y->o, ROLE_O, l, b->n_tok);
    dev_norm(d, m->y, m->x, m->y, y->gain[GAIN_FFN], b->n_tok, s->dim, s->norm_eps);
    product(m, m->gate_up, m->y, &y->gate_up, ROLE_GATE_UP, l, b->n_tok);
    dev_swiglu(d, m->ffn, m->gate_up, b->n_tok, s->ffn);
    product(m, m->y, m->ffn, &y->down, ROLE_DOWN, l, b->n_tok);
}

int model_step(struct model *m, struct kv_pool *kv, const struct batch *b, uint32_t *next,
               struct err *e)
{
    const struct model_shape *s = &m->shape;
    const struct weight *embed = s->tied ? &m->head : &m->embed;
    struct device *d = m->dev;
    uint32_t skip;

    dev_begin(d, b);
    dev_embed(d, m->x, embed, b->tok, b->n_tok);
    for (uint32_t l = 0; l < s->n_layer; l += skip) {
        skip = d->ops->computes ? 1 : m->layer[l].n_same;
        dev_times(d, skip);                     /* equal layers cost the same: charged in one visit */
        layer_step(m, l, kv, b);
    }
    dev_times(d, 1);
    dev_norm(d, m->y, m->x, m->y, m->norm_final, b->n_tok, s->dim, s->norm_eps);
    dev_gather(d, m->picked, m->y, b->row, b->n_row, s->dim);
    product(m, m->logits, m->picked, &m->head, ROLE_HEAD, 0, b->n_row);
    dev_pick(d, next, m->logits, b->n_row, s->vocab);
    return dev_end(d, e);
}
