/* llama.c - the forward pass of a Llama-family model, straight down.
 *
 * Pre-norm residual blocks (Touvron et al. 2023): x += attend(norm(x)); x += ffn(norm(x)). The residual
 * add is part of the next norm. Only rows that yield a token reach the head. */
#include "models/model.h"

static void layer_step(struct model *m, uint32_t l, struct kv_pool *kv, const struct batch *b)
{
    const struct model_shape *s = &m->shape;
    const struct layer *y = &m->layer[l];
    struct device *d = m->dev;

    dev_norm(d, m->y, m->x, l ? m->y : NULL, y->gain[GAIN_ATTENTION], b->n_tok, s->dim, s->norm_eps);
    dev_matmul(d, m->qkv, m->y, &y->qkv, b->n_tok);
    dev_rope_store(d, m->qkv, kv, l, b, &y->rope);
    dev_attend(d, m->att, m->qkv, kv, l, b, s->n_head);
    dev_matmul(d, m->y, m->att, &y->o, b->n_tok);
    dev_norm(d, m->y, m->x, m->y, y->gain[GAIN_FFN], b->n_tok, s->dim, s->norm_eps);
    dev_matmul(d, m->gate_up, m->y, &y->gate_up, b->n_tok);
    dev_swiglu(d, m->ffn, m->gate_up, b->n_tok, s->ffn);
    dev_matmul(d, m->y, m->ffn, &y->down, b->n_tok);
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
    dev_matmul(d, m->logits, m->picked, &m->head, b->n_row);
    dev_pick(d, next, m->logits, b->n_row, s->vocab);
    return dev_end(d, e);
}
