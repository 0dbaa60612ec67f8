#include "tests/kv_oracle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 2, 3)))
static int wrong(struct kv_world *w, const char *fmt, ...)
{
    va_list ap;

    if (w->wrong[0])
        return -1;
    va_start(ap, fmt);
    vsnprintf(w->wrong, sizeof w->wrong, fmt, ap);
    va_end(ap);
    return -1;
}

static uint32_t index_of(const struct kv_world *w, const struct request *r)
{
    return (uint32_t)(r - w->r);
}

static void ids(void *self, const struct request *r, uint32_t from, uint32_t n, uint64_t *out)
{
    struct kv_world *w = self;

    memcpy(out, w->q[index_of(w, r)].id + from, n * sizeof *out);
}

/* ---- the infinite cache: a hash set ---- */

static uint64_t *seen_at(const struct kv_world *w, uint64_t h)
{
    size_t i = h & (w->cap_seen - 1);

    while (w->seen[i] && w->seen[i] != h)
        i = (i + 1) & (w->cap_seen - 1);
    return &w->seen[i];
}

static void see(struct kv_world *w, uint64_t h)
{
    if (*seen_at(w, h))
        return;
    *seen_at(w, h) = h;
    if (++w->n_seen * 2 > w->cap_seen) {
        uint64_t *old = w->seen;
        size_t cap = w->cap_seen;

        w->cap_seen *= 2;
        w->seen = calloc(w->cap_seen, sizeof *w->seen);
        for (size_t i = 0; i < cap; i++)
            if (old[i])
                *seen_at(w, old[i]) = old[i];
        free(old);
    }
}

uint32_t kv_world_known(const struct kv_world *w, const struct request *r)
{
    const struct kv_req *q = &w->q[index_of(w, r)];
    uint32_t n = 0;

    while (n < req_known(r) && *seen_at(w, q->prefix[n]))
        n++;
    return n;
}

void kv_world_sealed(struct kv_world *w, struct request *r)
{
    for (uint32_t i = 0; i < r->n_kv; i++)
        see(w, w->q[index_of(w, r)].prefix[i]);
    if (w->kv.ops->seal)
        w->kv.ops->seal(&w->kv, r);
}

/* ---- requests ---- */

/* Groups of 7 tokens come in two kinds until the prompt becomes its own; some repeat another. */
void kv_world_renew(struct kv_world *w, uint32_t i)
{
    struct kv_req *q = &w->q[i];
    struct request *r = &w->r[i];
    uint32_t like = (uint32_t)rng_below(&w->rng, KV_N_REQ), same = 0, id = w->next_id++;
    uint64_t h = 1;
    bool own = false;

    *r = (struct request){ .id = id, .block = r->block, .cap_block = r->cap_block };
    r->n_prompt = 1 + (uint32_t)rng_below(&w->rng, KV_MAX_LEN * 2 / 3);
    r->priority = (int32_t)rng_below(&w->rng, 4) * (int32_t)rng_below(&w->rng, 2);
    if (like != i && w->q[like].n_out && rng_below(&w->rng, 3) == 0)
        same = r->n_prompt = w->r[like].n_prompt;
    q->n_out = 1 + (uint32_t)rng_below(&w->rng, KV_MAX_LEN / 3 - 1);
    r->oracle_n_out = r->max_new = q->n_out;
    for (uint32_t k = 0; k < KV_MAX_LEN; k++) {
        if (k % 7 == 0)
            own = own || rng_below(&w->rng, 5) == 0;
        q->id[k] = k < same ? w->q[like].id[k]
                   : own || k >= r->n_prompt ? hash64(id, k)
                   : k % 7 ? q->id[k - 1] + 1 : 1000 * rng_below(&w->rng, 2);
        q->prefix[k] = h = hash64(h, q->id[k]) | 1;
    }
}

/* ---- opening ---- */

int kv_world_open(struct kv_world *w, const struct kv_ops *ops, const char *knobs, uint32_t n_slot,
                  uint32_t n_host, uint64_t seed, struct err *e)
{
    struct kv_env env = { .n_slot = n_slot, .n_host_slot = n_host, .max_len = KV_MAX_LEN,
                          .identities = ids, .identities_self = w };

    memset(w, 0, sizeof *w);
    snprintf(w->name, sizeof w->name, "%s%s, %u slots, %u on the host, seed %llu", ops->name, knobs,
             n_slot, n_host, (unsigned long long)seed);
    rng_seed(&w->rng, seed);
    w->n_slot = n_slot;
    w->n_host = n_host;
    w->cap_seen = 1024;
    w->seen = calloc(w->cap_seen, sizeof *w->seen);
    w->slot = ARENA_NEW(&w->arena, uint64_t, n_slot);
    w->host = ARENA_NEW(&w->arena, uint64_t, n_host);
    w->owners = ARENA_NEW(&w->arena, uint32_t, n_slot);
    w->plan = (struct plan){ .slice = w->slice, .max_seq = KV_MAX_SEQ, .max_tok = 1 << 20 };
    for (uint32_t i = 0; i < KV_N_REQ; i++)
        kv_world_renew(w, i);
    if (params_parse(&env.params, ops->knobs, ops->name, knobs[0] ? knobs + 1 : "", e))
        return -1;
    return kv_open(&w->kv, ops, &env, &w->arena, e);
}

void kv_world_close(struct kv_world *w)
{
    kv_close(&w->kv);
    arena_free(&w->arena);
    free(w->seen);
}

/* ---- what must hold at any time ---- */

static int check_tables(struct kv_world *w, const char *after)
{
    struct kv_count c = w->kv.ops->count(&w->kv);
    uint64_t held = 0, shared = 0;

    memset(w->owners, 0, w->n_slot * sizeof *w->owners);
    for (uint32_t i = 0; i < KV_N_REQ; i++) {
        const struct request *r = &w->r[i];

        if (r->n_block && r->n_kv > req_room(r))
            return wrong(w, "%s: %u tokens in room for %llu", after, r->n_kv,
                         (unsigned long long)req_room(r));
        for (uint64_t k = 0; k < req_room(r); k++) {
            uint32_t s = r->block[k / r->block_tokens] + (uint32_t)(k % r->block_tokens);

            if (s >= w->n_slot)
                return wrong(w, "%s: slot %u lies outside", after, s);
            *(w->owners[s]++ ? &shared : &held) += 1;
        }
    }
    if (held != c.slots_held || shared != c.shared_tokens || c.blocks_used > c.blocks_total)
        return wrong(w, "%s: counts %llu held, %llu shared; tables say %llu and %llu", after,
                     (unsigned long long)c.slots_held, (unsigned long long)c.shared_tokens,
                     (unsigned long long)held, (unsigned long long)shared);
    return 0;
}

struct before { struct request r; struct kv_count c; uint32_t moves; };

static struct before snapshot(const struct kv_world *w, const struct request *r)
{
    return (struct before){ *r, w->kv.ops->count(&w->kv), w->kv.out.n + w->kv.copy.n + w->kv.in.n };
}

static int check_unchanged(struct kv_world *w, const struct request *r, const struct before *was)
{
    struct kv_count c = w->kv.ops->count(&w->kv);

    if (memcmp(&c, &was->c, sizeof c) || r->n_block != was->r.n_block || r->n_kv != was->r.n_kv ||
        r->n_host != was->r.n_host || r->kv != was->r.kv ||
        w->kv.out.n + w->kv.copy.n + w->kv.in.n != was->moves)
        return wrong(w, "a refusal changed something");
    return 0;
}

/* ---- planning ---- */

static uint32_t chunk(struct kv_world *w, uint32_t todo)
{
    return rng_below(&w->rng, 3) ? todo : 1 + (uint32_t)rng_below(&w->rng, todo);
}

static int admit(struct kv_world *w, struct request *r)
{
    uint32_t most = req_known(r) - kv_todo(&w->kv, r), n = chunk(w, req_known(r) - most);
    struct before was = snapshot(w, r);
    bool swapped = r->n_host > 0;
    uint64_t hits;

    if (most >= req_known(r) || (!swapped && most > kv_world_known(w, r)))
        return wrong(w, "a hit of %u tokens of %u, %u ever computed", most, req_known(r),
                     kv_world_known(w, r));
    if (kv_admit(&w->kv, r, most + n)) {
        w->refused++;
        return check_unchanged(w, r, &was);
    }
    hits = w->kv.ops->count(&w->kv).hit_tokens - was.c.hit_tokens;
    if (r->n_kv > most || (swapped && r->n_kv < most) || hits != (swapped ? 0 : r->n_kv))
        return wrong(w, "%u tokens resident after admission, %u promised, %llu counted", r->n_kv,
                     most, (unsigned long long)hits);
    w->admitted++;
    w->hits += hits;
    return plan_add(&w->plan, r, n) ? wrong(w, "admitted without room") : 0;
}

static bool is_planned(const struct kv_world *w, const struct request *r)
{
    for (uint32_t i = 0; i < w->plan.n; i++)
        if (w->plan.slice[i].r == r)
            return true;
    return false;
}

static int grow(struct kv_world *w, struct request *r)
{
    uint32_t n = chunk(w, req_todo(r));
    struct before was = snapshot(w, r);

    if (kv_grow(&w->kv, r, r->n_kv + n)) {
        w->refused++;
        return check_unchanged(w, r, &was);
    }
    return plan_add(&w->plan, r, n) ? wrong(w, "grown without room") : 0;
}

static int plan_one(struct kv_world *w)
{
    struct request *r = &w->r[rng_below(&w->rng, KV_N_REQ)];

    if (rng_below(&w->rng, 12) == 0 && r->n_block) {
        plan_preempt(&w->plan, &w->kv, r, rng_below(&w->rng, 2) ? YIELD_SWAP : YIELD_RECOMPUTE);
        w->preempted++;
        w->swapped += r->n_host > 0;
        return r->n_block ? wrong(w, "preempted, yet it holds blocks")
               : check_tables(w, "preempted");
    }
    if (is_planned(w, r) || w->plan.n == w->plan.max_seq)
        return 0;
    if (r->n_block ? grow(w, r) : admit(w, r))
        return -1;
    return check_tables(w, "planned");
}

/* ---- the step itself ---- */

/* Moves of one kind happen at once: no slot may be written twice, nor read and written. */
static int move(struct kv_world *w, struct kv_moves *m, const uint64_t *from, uint64_t *to,
                uint32_t n_from, uint32_t n_to, const char *what)
{
    uint8_t *used = calloc(n_to + 1, 1);
    uint64_t *was = malloc((n_from + 1) * sizeof *was);
    int rc = 0;

    memcpy(was, from, n_from * sizeof *was);
    for (uint32_t i = 0; i < m->n && !rc; i++)
        for (uint32_t k = 0; k < m->move[i].n && !rc; k++) {
            uint32_t a = m->move[i].from + k, b = m->move[i].to + k;

            if (a >= n_from || b >= n_to)
                rc = wrong(w, "%s: %u to %u lies outside", what, a, b);
            else if (used[b] || (from == to && used[a]))
                rc = wrong(w, "%s: %u to %u meets another move", what, a, b);
            else if (!was[a])
                rc = wrong(w, "%s: nothing lies in %u", what, a);
            else {
                used[b] = 1;
                to[b] = was[a];
            }
        }
    m->n = 0;
    free(used);
    free(was);
    return rc;
}

static int run(struct kv_world *w)
{
    if (move(w, &w->kv.out, w->slot, w->host, w->n_slot, w->n_host, "out") ||
        move(w, &w->kv.copy, w->slot, w->slot, w->n_slot, w->n_slot, "copy") ||
        move(w, &w->kv.in, w->host, w->slot, w->n_host, w->n_slot, "in") ||
        check_tables(w, "moved"))
        return -1;
    for (uint32_t i = 0; i < w->plan.n; i++) {
        struct request *r = w->plan.slice[i].r;

        for (uint32_t k = r->n_kv; k < r->n_kv + w->plan.slice[i].n; k++) {
            uint32_t s = r->block[k / r->block_tokens] + k % r->block_tokens;

            if (w->owners[s] != 1)
                return wrong(w, "a write to a slot with %u owners", w->owners[s]);
            w->slot[s] = w->q[index_of(w, r)].prefix[k];
        }
    }
    return 0;
}

static int check_content(struct kv_world *w, const char *when)
{
    for (uint32_t i = 0; i < KV_N_REQ; i++) {
        const struct request *r = &w->r[i];

        for (uint32_t k = 0; r->n_block && k < r->n_kv; k++)
            if (w->slot[r->block[k / r->block_tokens] + k % r->block_tokens] != w->q[i].prefix[k])
                return wrong(w, "%s: token %u of request %u is not what lies in its slot", when, k,
                             r->id);
    }
    return 0;
}

static int settle(struct kv_world *w)
{
    for (uint32_t i = 0; i < w->plan.n; i++) {
        struct request *r = w->plan.slice[i].r;

        r->n_kv += w->plan.slice[i].n;
        kv_world_sealed(w, r);
        if (req_todo(r) == 0)
            r->n_out++;
        if (r->n_out < w->q[index_of(w, r)].n_out)
            continue;
        kv_drop(&w->kv, r);
        if (r->kv || r->n_block)
            return wrong(w, "dropped, yet it holds something");
        kv_world_renew(w, index_of(w, r));
    }
    return check_tables(w, "settled") || check_content(w, "settled") ? -1 : 0;
}

int kv_world_step(struct kv_world *w)
{
    uint32_t n = 1 + (uint32_t)rng_below(&w->rng, 2 * KV_N_REQ);

    w->plan.n = w->plan.n_tok = 0;
    while (n--)
        if (plan_one(w))
            return -1;
    if (!w->plan.n)
        return 0;                              /* as in the loop: moves wait for a step */
    w->steps++;
    return run(w) || settle(w) ? -1 : 0;
}

int kv_world_end(struct kv_world *w)
{
    struct kv_count c;

    for (uint32_t i = 0; i < KV_N_REQ; i++)
        kv_drop(&w->kv, &w->r[i]);
    c = w->kv.ops->count(&w->kv);
    if (c.blocks_used || c.slots_held || c.shared_tokens || w->kv.holder)
        return wrong(w, "%u blocks are still used at the end", c.blocks_used);
    return 0;
}
