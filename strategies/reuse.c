/* reuse.c - see reuse.h. */
#include "strategies/reuse.h"

#include "base/hash.h"
#include "strategies/queues.h"

int reuse_open(struct reuse *u, uint32_t most, struct arena *a, struct err *e)
{
    *u = (struct reuse){ .key = ARENA_NEW(a, uint64_t, most), .most = most };
    return u->key ? 0 : err_set(e, EXIT_RUN_FAILED, "out of memory for %u blocks under way", most);
}

/* Names the whole block that holds token `at` of r; false when r has no whole block there (its last known
 * token is computed in any case). */
static bool block_key(const struct kv *kv, const struct request *r, uint32_t at, uint64_t *key)
{
    uint32_t n = kv_block_tokens(kv), i = at / n, part;
    uint64_t id[64];

    if ((uint64_t)(i + 1) * n > req_known(r) - 1)
        return false;
    *key = hash64(0x7265757365, i);
    for (uint32_t from = 0; from < n; from += part) {
        part = min_u32(n - from, 64);
        kv->env.identities(kv->env.identities_self, r, i * n + from, part, id);
        for (uint32_t k = 0; k < part; k++)
            *key = hash64(*key, id[k]);
    }
    return true;
}

void reuse_begin(struct reuse *u, const struct kv *kv, const struct queue *running)
{
    u->n = 0;
    if (!u->most || !kv->ops->peek)
        return;
    for (const struct request *r = running->head; r && u->n < u->most; r = r->next)
        if (req_todo(r) > 1 && block_key(kv, r, r->n_kv, &u->key[u->n]))
            u->n++;
}

bool reuse_skip(struct reuse *u, struct kv *kv, const struct request *r)
{
    uint64_t key;

    if (!u->most || !kv->ops->peek || !block_key(kv, r, req_known(r) - kv_todo(kv, r), &key))
        return false;
    for (uint32_t i = 0; i < u->n; i++)
        if (u->key[i] == key)
            return true;
    if (u->n < u->most)
        u->key[u->n++] = key;
    return false;
}
