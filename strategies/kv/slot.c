/* slot.c - a few slots of equal share, each remembering what it last held, as llama.cpp's
 * server (engines.md 1.5).
 *
 * A request takes the free slot whose tokens begin most like its own, if that beginning is more
 * than 10 % of what it knows; otherwise the slot that has been free longest. Either way the
 * common beginning stays and the rest of the slot's memory is written over. At least one token
 * is computed again. A sequence never moves and never outgrows its slot.
 * Differences: llama.cpp refuses what is longer than a slot's share; here there are as many
 * slots as asked for or as the server's longest sequence leaves room for, whichever is fewer.
 * Context shift, chunk reuse and the unified buffer are not modelled.
 * What must stay true: a slot's first n tokens are those whose K and V it holds. */
#include "strategies/strategy.h"

enum { CHUNK = 64 };                   /* identities asked for at once */

struct place { uint64_t *ids, freed; uint32_t n; bool used; };
struct state {
    struct place *place;               /* [n] */
    uint32_t n, share, n_used;
    uint32_t similarity;               /* percent */
    uint64_t clock, hits, evicted;
    uint64_t *want;                    /* [share] first n_want identities of request want_id */
    uint32_t want_id, n_want;
    const struct request *found_for;   /* attach's result, for the grow that follows */
    uint32_t found;
};

static const struct knob knobs[] = {
    { "slots", NULL, 4, 1, 1024, "slots at most; fewer if the longest sequence needs more room" },
    { "similarity", NULL, 10, 0, 100, "percent of known tokens that must match to prefer a slot" },
    { 0 },
};

static int open(struct kv *kv, struct arena *a, struct err *e)
{
    struct state *y = kv->self;
    uint32_t n = (uint32_t)params_int(&kv->env.params, "slots");

    y->similarity = (uint32_t)params_int(&kv->env.params, "similarity");
    y->n = max_u32(1, min_u32(n, kv->env.n_slot / max_u32(kv->env.max_len, 1)));
    y->share = kv->env.n_slot / y->n;
    y->want_id = UINT32_MAX;
    y->place = ARENA_NEW(a, struct place, y->n);
    y->want = ARENA_NEW(a, uint64_t, y->share + CHUNK);
    for (uint32_t i = 0; y->place && i < y->n; i++)
        if (!(y->place[i].ids = ARENA_NEW(a, uint64_t, y->share)))
            y->place = NULL;
    if (!y->place || !y->want)
        return err_set(e, EXIT_RUN_FAILED, "slot: out of memory for %u slots", y->n);
    return 0;
}

static const char *refuse(struct kv *kv, const struct request *r, uint32_t n_tok)
{
    (void)r;
    return n_tok <= ((struct state *)kv->self)->share ? NULL : "is longer than a slot's share";
}

/* r's token i; what was asked for stays, as a blocked request asks at every step. */
static uint64_t token(const struct kv *kv, const struct request *r, uint32_t i)
{
    struct state *y = kv->self;

    if (y->want_id != r->id) {
        y->want_id = r->id;
        y->n_want = 0;
    }
    while (y->n_want <= i) {
        uint32_t n = min_u32(CHUNK, req_known(r) - y->n_want);

        kv->env.identities(kv->env.identities_self, r, y->n_want, n, y->want + y->n_want);
        y->n_want += n;
    }
    return y->want[i];
}

static uint32_t common(const struct kv *kv, const struct request *r, const struct place *p)
{
    uint32_t n = 0, most = min_u32(p->n, req_known(r) - 1);

    while (n < most && p->ids[n] == token(kv, r, n))
        n++;
    return n;
}

/* The slot that r would get, or n when none is free; *same: tokens that stay. */
static uint32_t choose(const struct kv *kv, const struct request *r, bool look, uint32_t *same)
{
    const struct state *y = kv->self;
    uint32_t best = y->n, oldest = y->n, most = 0;

    for (uint32_t i = 0; i < y->n; i++) {
        const struct place *p = &y->place[i];
        uint32_t n = p->used || !look ? 0 : common(kv, r, p);

        if (p->used)
            continue;
        if (oldest == y->n || p->freed < y->place[oldest].freed)
            oldest = i;
        if (n > most && (uint64_t)n * 100 > (uint64_t)req_known(r) * y->similarity) {
            most = n;
            best = i;
        }
    }
    best = best == y->n ? oldest : best;
    *same = best < y->n && look ? common(kv, r, &y->place[best]) : 0;
    return best;
}

static uint32_t peek(struct kv *kv, const struct request *r)
{
    uint32_t same;

    choose(kv, r, true, &same);
    return same;
}

/* The slot is taken by the grow that follows, so that an admission that fails leaves no trace. */
static void attach(struct kv *kv, struct request *r)
{
    struct state *y = kv->self;

    y->found = choose(kv, r, true, &r->n_kv);
    y->found_for = r;
}

static int grow(struct kv *kv, struct request *r, uint32_t n_tok)
{
    struct state *y = kv->self;
    uint32_t same = 0, at = y->found;
    struct place *p;

    if (y->found_for == r)
        same = r->n_kv;
    else if (!r->n_block)
        at = choose(kv, r, false, &same);
    y->found_for = NULL;
    if (r->n_block || at == y->n || n_tok > y->share || kv_table_room(kv, r, 1))
        return -1;
    p = &y->place[at];
    y->evicted += p->n && !same;
    y->hits += same;
    y->n_used++;
    p->used = true;
    p->n = same;
    r->block[0] = at * y->share;
    r->block_tokens = y->share;
    r->n_block = 1;
    r->kv = p;
    return 0;
}

static void seal(struct kv *kv, struct request *r)
{
    struct place *p = r->kv;

    if (p->n < r->n_kv)
        kv->env.identities(kv->env.identities_self, r, p->n, r->n_kv - p->n, p->ids + p->n);
    p->n = r->n_kv;
}

static void drop(struct kv *kv, struct request *r)
{
    struct state *y = kv->self;
    struct place *p = r->kv;

    if (!p)
        return;
    p->used = false;
    p->freed = ++y->clock;
    y->n_used--;
    r->kv = NULL;
    r->n_block = 0;
}

static struct kv_count count(const struct kv *kv)
{
    const struct state *y = kv->self;

    return (struct kv_count){ .blocks_total = y->n, .blocks_used = y->n_used,
                              .slots_held = (uint64_t)y->n_used * y->share, .hit_tokens = y->hits,
                              .evicted_blocks = y->evicted };
}

const struct kv_ops kv_slot = {
    .name = "slot", .about = "slots of equal share that keep the longest common prefix (llama.cpp)",
    .knobs = knobs, .state_bytes = sizeof(struct state),
    .open = open, .refuse = refuse, .attach = attach, .peek = peek, .grow = grow, .seal = seal,
    .drop = drop, .count = count,
};
