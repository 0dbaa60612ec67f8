/* kv_oracle.h - a naive world in which a memory manager is driven: it keeps for every KV slot, on
 * the device and on the host, which token's K and V lie there, carries moves out, and looks
 * everything up in O(n). K and V depend on all tokens up to theirs, so a slot holds a hash of that
 * prefix. */
#ifndef TESTS_KV_ORACLE_H
#define TESTS_KV_ORACLE_H

#include "strategies/strategy.h"

enum { KV_N_REQ = 16, KV_MAX_LEN = 96, KV_MAX_SEQ = 32 };

struct kv_req {
    uint64_t id[KV_MAX_LEN];           /* identities of its tokens, those it will produce too */
    uint64_t prefix[KV_MAX_LEN];       /* hash of tokens [0, i] */
    uint32_t n_out;                    /* tokens it will produce */
    uint32_t slice;                    /* tokens planned in this step */
};

struct kv_world {
    struct kv kv;
    struct arena arena;
    struct rng rng;
    struct request r[KV_N_REQ];
    struct kv_req q[KV_N_REQ];
    struct plan plan;
    struct slice slice[KV_MAX_SEQ];
    uint32_t n_slot, n_host, next_id;
    uint64_t *slot, *host;             /* prefix hash that lies there; 0: nothing */
    uint32_t *owners;                  /* scratch */
    uint64_t *seen;                    /* every prefix that was ever computed: the infinite cache */
    size_t n_seen, cap_seen;
    uint64_t steps, admitted, refused, preempted, swapped, hits;   /* what a run came across */
    char name[128], wrong[256];        /* wrong: the first thing that was, or "" */
};

/* Memory for n_slot and n_host tokens; knobs as ":k=v" or "". */
int  kv_world_open(struct kv_world *w, const struct kv_ops *ops, const char *knobs, uint32_t n_slot,
                   uint32_t n_host, uint64_t seed, struct err *e);
/* One step: random admissions, growths, preemptions; moves, writes, reads through every table; what
 * has run is sealed, what has ended is dropped and replaced. -1: something is wrong. */
int  kv_world_step(struct kv_world *w);
/* Drops everything: nothing may be used any more. -1: something is. */
int  kv_world_end(struct kv_world *w);
void kv_world_close(struct kv_world *w);

/* A fresh request in place i, with a prompt that often begins (or is) like another's. */
void kv_world_renew(struct kv_world *w, uint32_t i);
/* Leading tokens of r that have ever been computed. */
uint32_t kv_world_known(const struct kv_world *w, const struct request *r);
/* r has run up to n_kv tokens: into the infinite cache, sealed. */
void kv_world_sealed(struct kv_world *w, struct request *r);

#endif
