#include "harness/check.h"

#include <string.h>

static int owned_once(const struct kv *kv, const struct request *r, uint32_t i, uint32_t *owner,
                      uint32_t n_slot, uint64_t *held, struct err *e)
{
    if (r->n_kv > req_room(r))
        return err_set(e, EXIT_RUN_FAILED, "memory manager %s: request %u has %u tokens in room for "
                       "%llu", kv->ops->name, r->id, r->n_kv, (unsigned long long)req_room(r));
    for (uint32_t b = 0; b < r->n_block; b++) {
        if (r->block[b] > n_slot || r->block_tokens > n_slot - r->block[b])
            return err_set(e, EXIT_RUN_FAILED, "memory manager %s: request %u: block %u lies outside "
                           "the pool", kv->ops->name, r->id, b);
        for (uint32_t t = 0; t < r->block_tokens; t++) {
            uint32_t slot = r->block[b] + t;

            for (uint32_t b2 = 0; b2 < b && owner[slot] == i + 1; b2++)
                if (slot >= r->block[b2] && slot < r->block[b2] + r->block_tokens)
                    return err_set(e, EXIT_RUN_FAILED, "memory manager %s: KV slot %u stands twice "
                                   "in the table of request %u", kv->ops->name, slot, r->id);
            *held += !owner[slot];             /* shared slots count once */
            owner[slot] = i + 1;
        }
    }
    return 0;
}

int check_step(const struct sched *s, const struct kv *kv, struct request *const *active,
               uint32_t n_active, uint32_t *owner, uint32_t n_slot, struct err *e)
{
    struct kv_count c = kv->ops->count(kv);
    uint64_t held = 0;

    if (s->n_waiting + s->n_running != n_active)
        return err_set(e, EXIT_RUN_FAILED, "scheduler %s: %u waiting + %u running, but %u requests "
                       "are in flight", s->ops->name, s->n_waiting, s->n_running, n_active);
    memset(owner, 0, n_slot * sizeof *owner);
    for (uint32_t i = 0; i < n_active; i++)
        if (owned_once(kv, active[i], i, owner, n_slot, &held, e))
            return -1;
    if (held != c.slots_held || c.blocks_used > c.blocks_total)
        return err_set(e, EXIT_RUN_FAILED, "memory manager %s: counts %llu slots held, tables hold "
                       "%llu", kv->ops->name, (unsigned long long)c.slots_held,
                       (unsigned long long)held);
    return 0;
}

int check_plan(const struct sched *s, const struct plan *p, struct err *e)
{
    uint64_t why = 0, n_tok = 0;

    for (int i = 0; i < WHY_N; i++)
        why += p->why[i];
    if (why != s->n_waiting)
        return err_set(e, EXIT_RUN_FAILED, "scheduler %s: gave reasons for %llu waiting requests of "
                       "%u", s->ops->name, (unsigned long long)why, s->n_waiting);
    for (uint32_t i = 0; i < p->n; i++) {
        const struct slice *x = &p->slice[i];

        n_tok += x->n;
        if (!x->n || x->n > req_todo(x->r) || (uint64_t)x->r->n_kv + x->n > req_room(x->r))
            return err_set(e, EXIT_RUN_FAILED, "scheduler %s: request %u was planned for %u tokens "
                           "with %u to do and KV room for %llu", s->ops->name, x->r->id, x->n,
                           req_todo(x->r), (unsigned long long)(req_room(x->r) - x->r->n_kv));
    }
    if (p->n > p->max_seq || n_tok > p->max_tok || n_tok != p->n_tok)
        return err_set(e, EXIT_RUN_FAILED, "scheduler %s: a plan of %u sequences and %llu tokens "
                       "passes its limits %u and %u", s->ops->name, p->n, (unsigned long long)n_tok,
                       p->max_seq, p->max_tok);
    return 0;
}

int check_writes(const struct kv *kv, const struct plan *p, uint32_t *owner, uint32_t n_slot,
                 struct err *e)
{
    memset(owner, 0, n_slot * sizeof *owner);
    for (const struct request *r = kv->holder; r; r = r->hold_next)
        for (uint32_t b = 0; b < r->n_block; b++)
            for (uint32_t t = 0; t < r->block_tokens; t++)
                owner[r->block[b] + t]++;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct request *r = p->slice[i].r;

        for (uint32_t k = r->n_kv; k < r->n_kv + p->slice[i].n; k++)
            if (owner[r->block[k / r->block_tokens] + k % r->block_tokens] != 1)
                return err_set(e, EXIT_RUN_FAILED, "memory manager %s: request %u would write token %u "
                               "into a KV slot that others read", kv->ops->name, r->id, k);
    }
    return 0;
}
