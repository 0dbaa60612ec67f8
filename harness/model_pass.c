#include "harness/model_pass.h"

int pass_step(struct model *m, struct kv_pool *kv, const struct pass *p, struct err *e)
{
    uint32_t tok[PASS_TOK], pos[PASS_TOK], slot[PASS_TOK], row[PASS_SEQ], next[PASS_SEQ];
    uint32_t start[PASS_SEQ + 1], len[PASS_SEQ], bt[PASS_SEQ], tstart[PASS_SEQ + 1];
    uint32_t table[PASS_SEQ * PASS_LEN / PASS_BLOCK], at = 0, n_table = 0;

    for (uint32_t s = 0; s < p->n_seq; s++) {
        uint32_t own = (p->first + s) * PASS_LEN;

        start[s] = at;
        tstart[s] = n_table;
        len[s] = p->depth + p->n;
        bt[s] = PASS_BLOCK;
        for (uint32_t k = 0; k * PASS_BLOCK < len[s]; k++)
            table[n_table++] = own + k * PASS_BLOCK;
        for (uint32_t i = 0; i < p->n; i++, at++) {
            tok[at] = ((p->first + s) * 7919 + p->depth + i * 31) % m->shape.vocab;
            pos[at] = p->depth + i;
            slot[at] = own + p->depth + i;
        }
        row[s] = at - 1;
    }
    start[p->n_seq] = at;
    tstart[p->n_seq] = n_table;
    struct batch b = { .n_tok = at, .n_seq = p->n_seq, .n_row = p->n_seq, .n_table = n_table, .tok = tok, .pos = pos,
                       .slot = slot, .seq_start = start, .kv_len = len, .block_tokens = bt, .table_start = tstart,
                       .table = table, .row = row };

    return model_step(m, kv, &b, next, e);
}
