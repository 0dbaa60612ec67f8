/* micro_batch.c - see micro_batch.h. */
#include "strategies/micro_batch.h"

struct micro_batch micro_batch_open(struct sched *s)
{
    const struct params *k = &s->env.params;
    struct micro_batch m = { .share = { SHARE_FCFS, 1, 0 }, .chunked = params_int(k, "chunked") != 0 };

    if (m.chunked)
        m.share = (struct share_rule){ (enum share)params_int(k, "share"), (uint32_t)params_int(k, "unit"), 0 };
    s->max_tok = max_u32((uint32_t)params_int(k, "budget"), m.share.unit);
    s->max_seq = min_u32((uint32_t)params_int(k, "batch"), s->max_tok);
    return m;
}

uint32_t micro_batch_ask(const struct micro_batch *m, const struct sched *s, uint32_t todo, uint32_t left)
{
    if (!m->chunked && todo > left && todo <= s->max_tok)
        return 0;
    return share_ask(&m->share, todo, left);
}
