#include "harness/model_pass.h"

#include "harness/made_batch.h"

int pass_step(struct model *m, struct kv_pool *kv, const struct pass *p, struct err *e)
{
    struct made_conf c = { .n_seq = p->n_seq, .prefix = p->depth, .rows = p->n, .block = PASS_BLOCK, .own = PASS_LEN,
                           .first = p->first, .n_yield = 1, .vocab = m->shape.vocab };
    uint32_t next[PASS_SEQ];
    struct made_batch x;
    int rc = made_batch(&x, &c, kv->n_slot, e) || model_step(m, kv, &x.b, next, e) ? -1 : 0;

    made_batch_free(&x);
    return rc;
}
