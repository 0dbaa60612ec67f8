#include "harness/check.h"

#include <string.h>

/* Slots are looked at in units of `grain`: what divides every block's start and size. */
static uint32_t common(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

static uint32_t grain_of(uint32_t grain, const struct request *r)
{
    if (!r->n_block)
        return grain;
    grain = common(grain, r->block_tokens);
    for (uint32_t b = 0; b < r->n_block && grain > 1; b++)
        grain = common(grain, r->block[b]);
    return grain;
}

static void clear(struct checker *c, uint32_t grain)
{
    c->grain = grain ? grain : 1;
    memset(c->owner, 0, (c->n_slot / c->grain + 1) * sizeof *c->owner);
}

static int owned_once(struct checker *c, const struct kv *kv, const struct request *r, uint32_t i,
                      uint64_t *held, struct err *e)
{
    uint32_t *owner = c->owner, n_slot = c->n_slot;

    if (r->n_kv > req_room(r))
        return err_set(e, EXIT_RUN_FAILED,
                       "memory manager %s: request %u has %u tokens in room for "
                       "%llu",
                       kv->ops->name, r->id, r->n_kv, (unsigned long long)req_room(r));
    for (uint32_t b = 0; b < r->n_block; b++) {
        if (r->block[b] > n_slot || r->block_tokens > n_slot - r->block[b])
            return err_set(e, EXIT_RUN_FAILED,
                           "memory manager %s: request %u: block %u lies outside "
                           "the pool",
                           kv->ops->name, r->id, b);
        for (uint32_t t = 0; t < r->block_tokens; t += c->grain) {
            uint32_t slot = r->block[b] + t, *o = &owner[slot / c->grain];

            if (*o == i + 1)
                return err_set(e, EXIT_RUN_FAILED, "memory manager %s: KV slot %u stands twice "
                               "in the table of request %u", kv->ops->name, slot, r->id);
            *held += *o ? 0 : c->grain;        /* shared slots count once */
            *o = i + 1;
        }
    }
    return 0;
}

bool checker_room(struct checker *c, uint32_t n_slot, uint32_t max_len, uint32_t poison,
                  struct arena *a)
{
    *c = (struct checker){ .owner = ARENA_NEW(a, uint32_t, n_slot + 1), .n_slot = n_slot,
                           .max_len = max_len, .poison = poison };
    return c->owner != NULL;
}

static int legal(const struct checker *c, const struct sched *s, const struct kv *kv,
                 const struct request *r, struct err *e)
{
    if (!s->ops->oracle && r->oracle_n_out != c->poison)
        return err_set(e, EXIT_RUN_FAILED,
                       "request %u: scheduler %s is no oracle and could read its output length",
                       r->id, s->ops->name);
    if (req_known(r) > c->max_len || r->n_kv >= req_known(r))
        return err_set(e, EXIT_RUN_FAILED,
                       "request %u: %u tokens are known (at most %u are legal), %u "
                       "of them resident: one must be to do",
                       r->id, req_known(r), c->max_len, r->n_kv);
    if (r->n_host && (r->n_block || r->n_kv))
        return err_set(e, EXIT_RUN_FAILED,
                       "memory manager %s: request %u is swapped out and holds %u "
                       "blocks",
                       kv->ops->name, r->id, r->n_block);
    return 0;
}

static int holders_true(const struct kv *kv, uint32_t n_hold, struct err *e)
{
    for (const struct request *r = kv->holder; r; r = r->hold_next) {
        if (!r->n_block)
            return err_set(e, EXIT_RUN_FAILED,
                           "request %u stands among the holders of KV and has none", r->id);
        if (!n_hold--)
            break;
    }
    return n_hold ? err_set(e, EXIT_RUN_FAILED,
                            "memory manager %s: the list of holders of KV is not "
                            "that of the requests with blocks",
                            kv->ops->name)
                  : 0;
}

/* Recomputing all that is known, several times over, is patience enough. */
static int progress(struct checker *c, const struct sched *s, uint64_t done, uint64_t known,
                    struct err *e)
{
    c->since = done > c->best ? 0 : c->since + 1;
    c->best = done > c->best ? done : c->best;
    if (c->since <= 64 + 4 * known)
        return 0;
    return err_set(e, EXIT_RUN_FAILED,
                   "scheduler %s: %llu steps brought nothing new (preempted and "
                   "admitted in turn?)",
                   s->ops->name, (unsigned long long)c->since);
}

int check_step(struct checker *c, const struct sched *s, const struct kv *kv,
               struct request *const *active, uint32_t n_active, uint64_t done, struct err *e)
{
    struct kv_count n = kv->ops->count(kv);
    uint64_t held = 0, known = 0;
    uint32_t n_hold = 0, grain = 0;

    if (s->n_waiting + s->n_running != n_active)
        return err_set(e, EXIT_RUN_FAILED, "scheduler %s: %u waiting + %u running, but %u requests "
                       "are in flight", s->ops->name, s->n_waiting, s->n_running, n_active);
    for (uint32_t i = 0; i < n_active; i++)
        grain = grain_of(grain, active[i]);
    clear(c, grain);
    for (uint32_t i = 0; i < n_active; i++) {
        if (legal(c, s, kv, active[i], e) ||
            owned_once(c, kv, active[i], i, &held, e))
            return -1;
        n_hold += active[i]->n_block > 0;
        known += req_known(active[i]);
    }
    if (held != n.slots_held || n.blocks_used > n.blocks_total)
        return err_set(e, EXIT_RUN_FAILED, "memory manager %s: counts %llu slots held, tables hold "
                       "%llu", kv->ops->name, (unsigned long long)n.slots_held,
                       (unsigned long long)held);
    return holders_true(kv, n_hold, e) || progress(c, s, done, known, e) ? -1 : 0;
}

int check_plan(const struct sched *s, const struct plan *p, struct err *e)
{
    uint64_t why = 0, n_tok = 0;

    for (int i = 0; i < WHY_N; i++)
        why += p->why[i];
    if (why != s->n_waiting)
        return err_set(e, EXIT_RUN_FAILED,
                       "scheduler %s: gave reasons for %llu waiting requests of "
                       "%u",
                       s->ops->name, (unsigned long long)why, s->n_waiting);
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

int check_writes(struct checker *c, const struct kv *kv, const struct plan *p, struct err *e)
{
    uint32_t grain = 0;

    for (const struct request *r = kv->holder; r; r = r->hold_next)
        grain = grain_of(grain, r);
    clear(c, grain);
    for (const struct request *r = kv->holder; r; r = r->hold_next)
        for (uint32_t b = 0; b < r->n_block; b++)
            for (uint32_t t = 0; t < r->block_tokens; t += c->grain)
                c->owner[(r->block[b] + t) / c->grain]++;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct request *r = p->slice[i].r;

        for (uint32_t k = r->n_kv; k < r->n_kv + p->slice[i].n; k++)
            if (c->owner[(r->block[k / r->block_tokens] + k % r->block_tokens) / c->grain] != 1)
                return err_set(e, EXIT_RUN_FAILED,
                               "memory manager %s: request %u would write token %u "
                               "into a KV slot that others read",
                               kv->ops->name, r->id, k);
    }
    return 0;
}

int check_idle(const struct sched *s, const struct plan *p, uint64_t now_ns, struct err *e)
{
    if (p->wake_ns > now_ns)
        return 0;
    return err_set(e, EXIT_RUN_FAILED,
                   "scheduler %s is stuck: an empty plan with %u requests waiting and "
                   "%u running, and no time to wake",
                   s->ops->name, s->n_waiting, s->n_running);
}

/* ---- a manager that nobody uses ---- */

enum { N_PROBE = 64 };

static void probe_identities(void *self, const struct request *r, uint32_t from, uint32_t n,
                             uint64_t *out)
{
    (void)self;
    for (uint32_t i = 0; i < n; i++)
        out[i] = (uint64_t)r->id << 32 | (from + i);           /* like nobody's */
}

/* How many of the longest requests it takes; when `swap`, how many host memory takes. */
static uint32_t capacity(struct kv *kv, bool swap)
{
    struct request r[N_PROBE];
    struct plan p = { 0 };
    uint32_t n = 0, len = kv->env.max_len, took;

    memset(r, 0, sizeof r);
    for (uint32_t i = 0; i < N_PROBE; i++)
        r[i] = (struct request){ .id = 0xffffff00u + i, .max_new = 1, .oracle_n_out = 1 };
    for (r[0].n_prompt = len; len && kv->ops->refuse(kv, &r[0], len); r[0].n_prompt = --len)
        ;
    for (; len && n < N_PROBE; n++) {
        r[n].n_prompt = len;
        if (kv_admit(kv, &r[n], len))
            break;
        r[n].n_kv = len;
        if (swap)
            plan_preempt(&p, kv, &r[n], YIELD_SWAP);
        if (swap && !r[n].n_host)
            break;
    }
    for (took = n, n = 0; n < N_PROBE; n++)
        kv_drop(kv, &r[n]);
    return took;
}

int check_drained(struct kv *kv, struct arena *a, struct err *e)
{
    struct kv fresh;
    int rc = 0;

    kv->env.identities = probe_identities;
    kv->env.length = NULL;             /* probes say it themselves */
    if (kv_open(&fresh, kv->ops, &kv->env, a, e))
        return -1;
    for (int swap = 0; !rc && swap <= (kv->ops->swap_out ? 1 : 0); swap++) {
        uint32_t want = capacity(&fresh, swap), got = capacity(kv, swap);

        if (want != got)
            rc = err_set(e, EXIT_RUN_FAILED,
                         "memory manager %s: after the last request left, %s takes %u of "
                         "the longest requests, fresh it took %u",
                         kv->ops->name, swap ? "host memory" : "the pool", got, want);
    }
    kv_close(&fresh);
    return rc;
}
