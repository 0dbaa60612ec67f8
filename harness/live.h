/* live.h - the loop's own record of a request in flight, and its row when it ends. */
#ifndef HARNESS_LIVE_H
#define HARNESS_LIVE_H

#include "harness/replay.h"

struct live {
    struct request r;                  /* what strategies see */
    const struct trace_req *in;        /* what the trace says; never shown to strategies */
    struct live *next_free;
    uint32_t active_index;             /* where it stands in the loop's list */
    uint64_t stamp;                    /* step in which it was planned last: nobody twice in a plan */
    uint64_t arrive_ns, injected_ns, admitted_ns, first_ns, last_ns;   /* NEVER: not yet */
    uint64_t preempted_at;             /* NEVER: it is not preempted now */
    uint64_t preempted_ns, prefill_preempted_ns, itl_max_ns;
    bool fresh;                        /* it will be admitted next, first or again */
    uint32_t swapped;                  /* tokens that lie in host memory then */
    uint32_t cached;                   /* tokens that caches spared it, over all admissions */
    uint32_t high_kv, recomputed;      /* most tokens it ever had resident; run again since */
    uint32_t slot;                     /* batch slot, for the timeline */
    uint32_t *out, *delta_us;          /* [in->n_out] each, or NULL */
    uint64_t hash;
};

#define NEVER UINT64_MAX
#define NO_SLOT UINT32_MAX

/* Recycles records: memory follows the requests in flight, not the length of the trace. */
struct live_pool { struct live *free; struct live **all; size_t n_all, cap; };

struct live *live_get(struct live_pool *p, bool with_tokens, bool with_deltas, uint32_t n_out);
void live_put(struct live_pool *p, struct live *l);
void live_pool_free(struct live_pool *p);
/* What happens to it, in this order: planned (first, or again after it was preempted), run, given a token. */
void live_planned(struct live *l, uint64_t now_ns);
uint32_t live_ran(struct live *l, uint32_t n);     /* n tokens more are resident; returns how many of them again */
void live_token(struct live *l, uint64_t now_ns, uint32_t token);
void live_preempted(struct live *l, uint64_t now_ns);  /* it lost its KV; its batch slot is the caller's */

int live_record(const struct live *l, const struct trace *t, struct recorder *rec, const char *status,
                const char *reason, bool with_hash, struct err *e);

#endif
