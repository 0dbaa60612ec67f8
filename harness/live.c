#include "harness/live.h"

#include <stdlib.h>
#include <string.h>

static struct live *live_new(struct live_pool *p)
{
    struct live *l;

    if (p->n_all == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 64;
        struct live **all = realloc(p->all, cap * sizeof *all);

        if (!all)
            return NULL;
        p->all = all;
        p->cap = cap;
    }
    l = calloc(1, sizeof *l);
    if (l)
        p->all[p->n_all++] = l;
    return l;
}

struct live *live_get(struct live_pool *p, bool with_tokens, bool with_deltas, uint32_t n_out)
{
    struct live *l = p->free;
    struct request kept;

    if (l)
        p->free = l->next_free;
    else if (!(l = live_new(p)))
        return NULL;
    kept = l->r;
    memset(l, 0, sizeof *l);
    l->r.block = kept.block;                   /* block tables are kept: their memory is the run's */
    l->r.cap_block = kept.cap_block;
    l->r.replay = l;
    l->admitted_ns = l->first_ns = l->last_ns = l->preempted_at = NEVER;
    l->slot = NO_SLOT;
    if (with_tokens)
        l->out = malloc(n_out * sizeof *l->out);
    if (with_deltas)
        l->delta_us = malloc(n_out * sizeof *l->delta_us);
    if ((with_tokens && !l->out) || (with_deltas && !l->delta_us)) {
        live_put(p, l);
        return NULL;
    }
    return l;
}

void live_put(struct live_pool *p, struct live *l)
{
    free(l->out);
    free(l->delta_us);
    l->out = l->delta_us = NULL;
    l->next_free = p->free;
    p->free = l;
}

void live_pool_free(struct live_pool *p)
{
    for (size_t i = 0; i < p->n_all; i++) {
        free(p->all[i]->out);
        free(p->all[i]->delta_us);
        free(p->all[i]);
    }
    free(p->all);
    memset(p, 0, sizeof *p);
}

void live_planned(struct live *l, uint64_t now_ns)
{
    if (l->admitted_ns == NEVER)
        l->admitted_ns = now_ns;
    if (l->fresh)
        l->cached += l->r.n_kv - l->swapped;
    l->fresh = false;
    l->swapped = 0;
    if (l->preempted_at != NEVER) {
        uint64_t gap = now_ns - l->preempted_at;

        l->preempted_ns += gap;
        if (l->first_ns == NEVER)
            l->prefill_preempted_ns += gap;
        l->preempted_at = NEVER;
    }
}

void live_preempted(struct live *l, uint64_t now_ns)
{
    l->preempted_at = now_ns;
    l->fresh = true;
    l->swapped = l->r.n_host;
}

uint32_t live_ran(struct live *l, uint32_t n)
{
    struct request *r = &l->r;
    uint32_t again = r->n_kv < l->high_kv ? min_u32(n, l->high_kv - r->n_kv) : 0;

    l->recomputed += again;
    r->n_kv += n;
    l->high_kv = max_u32(l->high_kv, r->n_kv);
    return again;
}

void live_token(struct live *l, uint64_t now_ns, uint32_t token)
{
    uint64_t gap = now_ns - (l->first_ns == NEVER ? l->arrive_ns : l->last_ns);

    if (l->first_ns == NEVER)
        l->first_ns = now_ns;
    else if (gap > l->itl_max_ns)
        l->itl_max_ns = gap;
    l->last_ns = now_ns;
    if (l->delta_us)
        l->delta_us[l->r.n_out] = (uint32_t)(gap / 1000 > UINT32_MAX ? UINT32_MAX : gap / 1000);
    if (l->out) {
        l->out[l->r.n_out] = token;
        l->hash = hash64(l->hash, token);
    }
    l->r.n_out++;
}

static int64_t when(uint64_t t) { return t == NEVER ? NS_NONE : (int64_t)t; }

int live_record(const struct live *l, const struct trace *t, struct recorder *rec, const char *status,
                const char *reason, bool with_hash, struct err *e)
{
    const struct trace_more *more = l->in->more;
    bool done = !strcmp(status, "finished");
    char id[24];
    struct request_row row = {
        .request_id = l->r.id, .trace_request_id = trace_id(t, l->r.id, id),
        .session_id = more ? more->session : NULL, .turn_index = more ? more->turn : 0,
        .arrival_ns = (int64_t)l->arrive_ns, .injected_ns = when(l->injected_ns),
        .admitted_ns = when(l->admitted_ns), .first_token_ns = when(l->first_ns),
        .finish_ns = done ? when(l->last_ns) : NS_NONE,
        .prompt_tokens = l->r.n_prompt, .cached_tokens = l->cached, .output_tokens = l->r.n_out,
        .target_output_tokens = l->in->n_out,
        .slot = l->slot == NO_SLOT ? -1 : (int64_t)l->slot, .preempt_count = l->r.n_preempt,
        .preempted_ns = (int64_t)l->preempted_ns,
        .prefill_preempted_ns = (int64_t)l->prefill_preempted_ns,
        .recomputed_tokens = l->recomputed, .itl_max_ns = (int64_t)l->itl_max_ns,
        .status = status, .finish_reason = reason, .has_hash = with_hash && done,
        .output_hash = l->hash, .delta_us = l->delta_us, .n_delta = l->delta_us ? l->r.n_out : 0,
    };

    return recorder_request(rec, &row, e);
}
