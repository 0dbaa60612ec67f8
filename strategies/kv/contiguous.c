/* contiguous.c - one reservation per sequence, made whole at admission, as engines before paging did.
 *
 * fit=max reserves the longest sequence that the server accepts (FasterTransformer, "Orca (Max)" of the
 * PagedAttention paper); fit=pow2 the prompt plus the output rounded up to a power of two ("Orca
 * (Pow2)"); fit=exact the true length ("Orca (Oracle)"). pow2 and exact read the recorded output length,
 * which no real server knows. First fit over a list of free extents, in units of KV_GRAIN tokens, so
 * external fragmentation is real.
 * What must stay true: extents are sorted, disjoint and never adjacent. */
#include <string.h>

#include "strategies/strategy.h"

enum { KV_GRAIN = 16 };                /* kernels are fastest on whole tiles */
enum fit { FIT_MAX, FIT_POW2, FIT_EXACT };

struct extent { uint32_t start, len; };
struct state {
    struct extent *free;               /* [n], sorted by start */
    uint32_t n, cap, n_slot, held, n_held;
    enum fit fit;
};

static const struct knob knobs[] = {
    { "fit", "max|pow2|exact", FIT_MAX, 0, 0,
      "what is reserved: the longest legal sequence, the output rounded up (oracle), the truth (oracle)" },
    { 0 },
};

static int open(struct kv *kv, struct arena *a, struct err *e)
{
    struct state *y = kv->self;

    y->n_slot = kv->env.n_slot / KV_GRAIN * KV_GRAIN;
    y->cap = y->n_slot / KV_GRAIN + 1;
    y->fit = (enum fit)params_int(&kv->env.params, "fit");
    y->free = ARENA_NEW(a, struct extent, y->cap);
    if (!y->free)
        return err_set(e, EXIT_RUN_FAILED, "contiguous: out of memory");
    y->free[0] = (struct extent){ 0, y->n_slot };
    y->n = y->n_slot > 0;
    return 0;
}

/* Slots to reserve for a sequence; the last token's K and V are never needed. */
static uint64_t wanted(const struct kv *kv, const struct request *r)
{
    const struct state *y = kv->self;
    uint64_t n = kv->env.max_len, out = 1;

    if (y->fit == FIT_EXACT)
        n = (uint64_t)r->n_prompt + r->oracle_n_out - 1;
    if (y->fit == FIT_POW2) {
        while (out < r->oracle_n_out)
            out *= 2;
        n = r->n_prompt + out;
    }
    return (n + KV_GRAIN - 1) / KV_GRAIN * KV_GRAIN;
}

static const char *refuse(struct kv *kv, const struct request *r, uint32_t n_tok)
{
    struct state *y = kv->self;
    uint64_t n = wanted(kv, r);

    if (n_tok > n)
        return "is longer than its reservation";
    return n <= y->n_slot ? NULL : "its reservation is larger than the KV pool";
}

static int grow(struct kv *kv, struct request *r, uint32_t n_tok)
{
    struct state *y = kv->self;
    uint64_t need = wanted(kv, r);
    uint32_t i = 0;

    if (r->n_block || n_tok > need)
        return -1;
    while (i < y->n && y->free[i].len < need)
        i++;
    if (i == y->n || kv_table_room(kv, r, 1))
        return -1;
    r->block[0] = y->free[i].start;
    r->block_tokens = (uint32_t)need;
    r->n_block = 1;
    y->free[i].start += (uint32_t)need;
    y->free[i].len -= (uint32_t)need;
    if (!y->free[i].len)
        memmove(y->free + i, y->free + i + 1, (--y->n - i) * sizeof *y->free);
    y->held += (uint32_t)need;
    y->n_held++;
    return 0;
}

static void drop(struct kv *kv, struct request *r)
{
    struct state *y = kv->self;
    uint32_t i = 0, start, len;

    if (!r->n_block)
        return;
    start = r->block[0];
    len = r->block_tokens;
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
    y->held -= len;
    y->n_held--;
    r->n_block = 0;
}

static struct kv_count count(const struct kv *kv)
{
    const struct state *y = kv->self;

    return (struct kv_count){ .blocks_total = y->n_slot / KV_GRAIN,
                              .blocks_used = y->held / KV_GRAIN, .slots_held = y->held };
}

const struct kv_ops kv_contiguous = {
    .name = "contiguous", .about = "one reservation per sequence, made whole at admission (pre-vLLM)",
    .knobs = knobs, .state_bytes = sizeof(struct state), .oracle = true,
    .open = open, .refuse = refuse, .grow = grow, .drop = drop, .count = count,
};
