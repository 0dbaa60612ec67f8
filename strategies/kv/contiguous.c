/* contiguous.c - one reservation per sequence, made whole at admission, as engines before
 * paging did.
 *
 * fit=max reserves the longest sequence that the server accepts (FasterTransformer, "Orca
 * (Max)" of the PagedAttention paper); fit=pow2 the prompt plus the output rounded up to a
 * power of two ("Orca (Pow2)"); fit=exact the true length ("Orca (Oracle)"). pow2 and exact
 * read the recorded output length, which no real server knows.
 * Where the reservation lies is the allocator's. first: first fit over a list of free extents,
 * in units of KV_GRAIN tokens. buddy: power-of-two blocks, split and joined with their twins,
 * as the paper's three Orca variants use; what a block is larger than its reservation is lost
 * to everybody (external waste, as in the paper's figure 2). alloc=auto is buddy but for
 * fit=max, whose reservations are all alike.
 * What must stay true: extents are sorted, disjoint and never adjacent; no free block's twin is
 * free. */
#include <string.h>

#include "strategies/strategy.h"

enum { KV_GRAIN = 16, N_ORDER = 32 };  /* kernels are fastest on whole tiles */
enum fit { FIT_MAX, FIT_POW2, FIT_EXACT };
enum alloc { ALLOC_AUTO, ALLOC_FIRST, ALLOC_BUDDY };
#define NONE UINT32_MAX

struct extent { uint32_t start, len; };
struct state {
    uint32_t n_slot, held;
    enum fit fit;
    bool buddy;
    struct extent *free;               /* first: [n], sorted by start */
    uint32_t n, cap;
    /* buddy, in grains: free blocks of 2^k grains in a list for each k, by their first grain */
    uint32_t head[N_ORDER], *next, *prev;
    uint8_t *order;                    /* k + 1 where a free block begins, else 0 */
};

static const struct knob knobs[] = {
    { "fit", "max|pow2|exact", FIT_MAX, 0, 0,
      "what is reserved: the longest legal sequence, or the output rounded up or exact (oracles)" },
    { "alloc", "auto|first|buddy", ALLOC_AUTO, 0, 0,
      "where: first fit, or power-of-two blocks; auto: buddy unless fit=max" },
    { 0 },
};

/* ---- buddy ---- */

static void push(struct state *y, uint32_t grain, uint32_t k)
{
    y->order[grain] = (uint8_t)(k + 1);
    y->prev[grain] = NONE;
    y->next[grain] = y->head[k];
    if (y->head[k] != NONE)
        y->prev[y->head[k]] = grain;
    y->head[k] = grain;
}

static void pull(struct state *y, uint32_t grain, uint32_t k)
{
    y->order[grain] = 0;
    *(y->prev[grain] == NONE ? &y->head[k] : &y->next[y->prev[grain]]) = y->next[grain];
    if (y->next[grain] != NONE)
        y->prev[y->next[grain]] = y->prev[grain];
}

static uint32_t order_for(uint64_t n_slot)
{
    uint32_t k = 0;

    while (((uint64_t)KV_GRAIN << k) < n_slot)
        k++;
    return k;
}

/* First slot of a block for `need` slots, or NONE. */
static uint32_t buddy_take(struct state *y, uint32_t need)
{
    uint32_t want = order_for(need), k = want, grain;

    while (k < N_ORDER && y->head[k] == NONE)
        k++;
    if (k == N_ORDER)
        return NONE;
    grain = y->head[k];
    pull(y, grain, k);
    while (k-- > want)
        push(y, grain + (1u << k), k);         /* the upper half stays free */
    return grain * KV_GRAIN;
}

static void buddy_give(struct state *y, uint32_t start, uint32_t need)
{
    uint32_t grain = start / KV_GRAIN, k = order_for(need), n = y->n_slot / KV_GRAIN;

    for (uint32_t twin; twin = grain ^ (1u << k), twin < n && y->order[twin] == k + 1; k++) {
        pull(y, twin, k);
        grain = min_u32(grain, twin);
    }
    push(y, grain, k);
}

/* A pool of any size begins as the blocks of its binary digits, the largest first. */
static int buddy_open(struct state *y, struct arena *a)
{
    uint32_t n = y->n_slot / KV_GRAIN, grain = 0;

    y->next = ARENA_NEW(a, uint32_t, n);
    y->prev = ARENA_NEW(a, uint32_t, n);
    y->order = ARENA_NEW(a, uint8_t, n);
    if (!y->next || !y->prev || !y->order)
        return -1;
    memset(y->head, 0xff, sizeof y->head);
    for (uint32_t k = N_ORDER; k-- > 0;)
        if (n >> k & 1) {
            push(y, grain, k);
            grain += 1u << k;
        }
    return 0;
}

/* ---- first fit ---- */

static int first_open(struct state *y, struct arena *a)
{
    y->cap = y->n_slot / KV_GRAIN + 1;
    y->free = ARENA_NEW(a, struct extent, y->cap);
    if (!y->free)
        return -1;
    y->free[0] = (struct extent){ 0, y->n_slot };
    y->n = y->n_slot > 0;
    return 0;
}

static uint32_t first_take(struct state *y, uint32_t need)
{
    uint32_t i = 0, start;

    while (i < y->n && y->free[i].len < need)
        i++;
    if (i == y->n)
        return NONE;
    start = y->free[i].start;
    y->free[i].start += need;
    y->free[i].len -= need;
    if (!y->free[i].len)
        memmove(y->free + i, y->free + i + 1, (--y->n - i) * sizeof *y->free);
    return start;
}

static void first_give(struct state *y, uint32_t start, uint32_t len)
{
    uint32_t i = 0;

    while (i < y->n && y->free[i].start < start)
        i++;
    memmove(y->free + i + 1, y->free + i, (y->n++ - i) * sizeof *y->free);
    y->free[i] = (struct extent){ start, len };
    if (i + 1 < y->n && start + len == y->free[i + 1].start) {     /* joins the next */
        y->free[i].len += y->free[i + 1].len;
        memmove(y->free + i + 1, y->free + i + 2, (--y->n - i - 1) * sizeof *y->free);
    }
    if (i && y->free[i - 1].start + y->free[i - 1].len == start) { /* joins the one before */
        y->free[i - 1].len += y->free[i].len;
        memmove(y->free + i, y->free + i + 1, (--y->n - i) * sizeof *y->free);
    }
}

/* ---- the manager ---- */

static int open(struct kv *kv, struct arena *a, struct err *e)
{
    struct state *y = kv->self;
    enum alloc alloc = (enum alloc)params_int(&kv->env.params, "alloc");

    y->n_slot = kv->env.n_slot / KV_GRAIN * KV_GRAIN;
    y->fit = (enum fit)params_int(&kv->env.params, "fit");
    y->buddy = alloc == ALLOC_BUDDY || (alloc == ALLOC_AUTO && y->fit != FIT_MAX);
    if (y->buddy ? buddy_open(y, a) : first_open(y, a))
        return err_set(e, EXIT_RUN_FAILED, "contiguous: out of memory");
    return 0;
}

/* Output tokens that r will produce: only the oracle fits ask. */
static uint32_t length(const struct kv *kv, const struct request *r)
{
    return kv->env.length ? kv->env.length(kv->env.length_self, r) : r->oracle_n_out;
}

/* Slots to reserve for a sequence; the last token's K and V are never needed. */
static uint64_t wanted(const struct kv *kv, const struct request *r)
{
    const struct state *y = kv->self;
    uint64_t n = kv->env.max_len, out = 1, most;

    if (y->fit == FIT_EXACT)
        n = (uint64_t)r->n_prompt + length(kv, r) - 1;
    if (y->fit == FIT_POW2) {
        for (most = length(kv, r); out < most; out *= 2)
            ;
        n = r->n_prompt + out;
        if (n > kv->env.max_len)               /* no sequence is longer than the server accepts */
            n = kv->env.max_len;
    }
    return (n + KV_GRAIN - 1) / KV_GRAIN * KV_GRAIN;
}

static const char *refuse(struct kv *kv, const struct request *r, uint32_t n_tok)
{
    struct state *y = kv->self;
    uint64_t n = wanted(kv, r), most = y->n_slot;

    if (n_tok > n)
        return "is longer than its reservation";
    if (y->buddy)                              /* the pool's largest block */
        while (most & (most - 1))
            most &= most - 1;
    return n <= most ? NULL : "its reservation is larger than the KV pool";
}

static int grow(struct kv *kv, struct request *r, uint32_t n_tok)
{
    struct state *y = kv->self;
    uint64_t need = wanted(kv, r);
    uint32_t start;

    if (r->n_block || n_tok > need || need > y->n_slot || kv_table_room(kv, r, 1))
        return -1;
    start = y->buddy ? buddy_take(y, (uint32_t)need) : first_take(y, (uint32_t)need);
    if (start == NONE)
        return -1;
    r->block[0] = start;
    r->block_tokens = (uint32_t)need;
    r->n_block = 1;
    y->held += (uint32_t)need;
    return 0;
}

static void drop(struct kv *kv, struct request *r)
{
    struct state *y = kv->self;

    if (!r->n_block)
        return;
    y->held -= r->block_tokens;
    if (y->buddy)
        buddy_give(y, r->block[0], r->block_tokens);
    else
        first_give(y, r->block[0], r->block_tokens);
    r->n_block = 0;
}

static struct kv_count count(const struct kv *kv)
{
    const struct state *y = kv->self;

    return (struct kv_count){ .blocks_total = y->n_slot / KV_GRAIN,
                              .blocks_used = y->held / KV_GRAIN, .slots_held = y->held };
}

const struct kv_ops kv_contiguous = {
    .name = "contiguous",
    .about = "one reservation per sequence, made whole at admission (pre-vLLM)",
    .knobs = knobs, .state_bytes = sizeof(struct state), .oracle = true,
    .open = open, .refuse = refuse, .grow = grow, .drop = drop, .count = count,
};
