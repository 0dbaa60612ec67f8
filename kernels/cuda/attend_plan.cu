/* attend_plan.cu - who computes which part of a step's attention: host only, once per step, for all
 * layers.
 *
 * Decode: the units (64 tokens of one sequence and KV head) of all sequences stand in one line,
 * block c takes units [c * share, (c + 1) * share): balanced to one unit whatever the lengths
 * (stream-K; Lean Attention, Sanovar et al. 2024). line[s] is where sequence s begins; everything
 * else follows from it on the device. Prefill: row tiles of 128 packed rows, rests of at most 64 as
 * tiles of 64, most keys first, so that the short ones fill the end (FlashAttention-2's order under
 * a causal mask).
 *
 * What must stay true: a sequence of more than one row has no unit on the line, one of one row
 * no item. */
#include "kernels/cuda/attend_tile.h"

#include <stdlib.h>

int attend_check(const struct attend_shape *s, struct err *e)
{
    if (s->fmt != FMT_F16 && s->fmt != FMT_INT8 && s->fmt != FMT_FP8)
        return err_set(e, EXIT_USAGE, "cuda: a KV cache in %s is not known; f16, int8 or fp8 are",
                       fmt_name(s->fmt));
    if (s->hd < 16 || s->hd > 256 || s->hd % 16)
        return err_set(e, EXIT_USAGE,
                       "cuda: head_dim %u: attention takes multiples of 16 up to 256 (64 and 128 "
                       "at full speed)",
                       s->hd);
    if (!s->n_kv || !s->n_q || s->n_q % s->n_kv || s->n_q > 1024)
        return err_set(
            e, EXIT_USAGE,
            "cuda: %u query heads over %u KV heads: a whole multiple and at most 1024 is expected",
            s->n_q, s->n_kv);
    return 0;
}

uint32_t split_blocks(const struct gpu *g, const struct attend_shape *s)
{
    size_t smem = split_smem((int)(s->hd * (s->fmt == FMT_F16 ? 2 : 1)));
    /* An SM has 1 KB more than a block may ask for, and takes 1 KB per block for itself. */
    size_t fit = (g->smem_max + 1024) / (smem + 1024), most = (size_t)split_most((int)s->hd);

    if (!attend_fast(s->hd))
        return 0;
    fit = fit < 1 ? 1 : fit > most ? most : fit;
    return (uint32_t)fit * (uint32_t)g->n_sm;
}

size_t attend_scratch_bytes(const struct gpu *g, const struct attend_shape *s)
{
    return (size_t)2 * split_blocks(g, s) * SPLIT_ROWS * (s->hd + 2) * sizeof(float);
}

size_t attend_plan_bytes(const struct attend_shape *s, uint32_t max_tok, uint32_t max_seq)
{
    uint64_t items = ((uint64_t)max_tok * attend_group(s) / 64 + 2 * (uint64_t)max_seq + 2);
    uint64_t bytes = sizeof(struct attend_plan) + ((uint64_t)max_seq + 1) * sizeof(uint32_t) + 16
                     + items * sizeof(struct attend_item);

    return bytes < UINT32_MAX ? (size_t)(bytes + 15) / 16 * 16 : 0;
}

size_t attend_plan_used(const void *image)
{
    return static_cast<const struct attend_plan *>(image)->bytes;
}

static uint32_t seq_rows(const struct batch *b, uint32_t s)
{
    return b->seq_start[s + 1] - b->seq_start[s];
}

/* Units of sequence s on the line of one head. */
static uint32_t seq_units(const struct batch *b, uint32_t s, uint32_t tile)
{
    return seq_rows(b, s) == 1 ? (uint32_t)(((uint64_t)b->kv_len[s] + tile - 1) / tile) : 0;
}

static uint64_t line_length(const struct batch *b, uint32_t heads, uint32_t tile)
{
    uint64_t sum = 0;

    for (uint32_t s = 0; s < b->n_seq; s++)
        sum += (uint64_t)seq_units(b, s, tile) * heads;
    return sum;
}

static void plan_decode(struct attend_plan *p, const struct gpu *g, const struct attend_shape *sh,
                        const struct batch *b)
{
    uint32_t *line = const_cast<uint32_t *>(plan_line(p)), heads = attend_units(sh);
    uint32_t blocks = split_blocks(g, sh);

    p->tile = SPLIT_TILE;
    while (line_length(b, heads, p->tile) >= 1u << 31)
        p->tile *= 2;
    line[0] = 0;
    for (uint32_t s = 0; s < p->n_seq; s++) {
        bool real = s < b->n_seq;

        line[s + 1] = line[s] + (real ? seq_units(b, s, p->tile) * heads : 0);
        p->n_pad += !real || (seq_rows(b, s) == 1 && !b->kv_len[s]);
        p->n_decode += !real || seq_rows(b, s) == 1;
    }
    p->total = line[p->n_seq];
    p->share = blocks ? (p->total + blocks - 1) / blocks : p->total;
    if (p->share < SPLIT_MIN)
        p->share = SPLIT_MIN;
}

/* Row tiles of one sequence: of 128 rows while more than 64 are left, the rest of 64. With item
 * NULL: counts. */
static void seq_items(struct attend_plan *p, const struct batch *b, uint32_t seq, uint32_t group,
                      struct attend_item *const item[2])
{
    uint64_t rows = (uint64_t)seq_rows(b, seq) * group, at = 0;
    uint32_t before = b->kv_len[seq] - seq_rows(b, seq);

    while (at < rows) {
        int which = rows - at > 64 ? 0 : 1;
        uint64_t end = at + (which ? 64 : 128);
        uint32_t i = p->n_item[which]++;

        end = end < rows ? end : rows;
        if (item)
            item[which][i] = {seq, (uint32_t)at, before + (uint32_t)((end - 1) / group) + 1, 0};
        at = end;
    }
}

static void all_items(struct attend_plan *p, const struct batch *b, uint32_t group,
                      struct attend_item *const item[2])
{
    p->n_item[0] = p->n_item[1] = 0;
    for (uint32_t s = 0; s < b->n_seq; s++)
        if (seq_rows(b, s) > 1 && b->kv_len[s] >= seq_rows(b, s))
            seq_items(p, b, s, group, item);
}

static int most_keys_first(const void *a, const void *b)
{
    const struct attend_item *x = static_cast<const struct attend_item *>(a);
    const struct attend_item *y = static_cast<const struct attend_item *>(b);

    if (x->n_key != y->n_key)
        return x->n_key > y->n_key ? -1 : 1;
    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    return x->row0 < y->row0 ? -1 : x->row0 > y->row0;
}

static void plan_prefill(struct attend_plan *p, const struct attend_shape *sh,
                         const struct batch *b)
{
    uint32_t at = (uint32_t)(sizeof *p + ((size_t)p->n_seq + 1) * sizeof(uint32_t) + 15) / 16 * 16;
    char *image = reinterpret_cast<char *>(p);
    struct attend_item *item[2];

    all_items(p, b, attend_group(sh), NULL);
    p->item_at[0] = at;
    p->item_at[1] = at + p->n_item[0] * (uint32_t)sizeof **item;
    p->bytes = p->item_at[1] + p->n_item[1] * (uint32_t)sizeof **item;
    for (int i = 0; i < 2; i++)
        item[i] = reinterpret_cast<struct attend_item *>(image + p->item_at[i]);
    all_items(p, b, attend_group(sh), item);
    for (int i = 0; i < 2; i++)
        qsort(item[i], p->n_item[i], sizeof *item[i], most_keys_first);
}

void attend_plan_make(void *image, const struct gpu *g, const struct attend_shape *s,
                      const struct batch *b, uint32_t n_seq_padded)
{
    struct attend_plan *p = static_cast<struct attend_plan *>(image);

    memset(p, 0, sizeof *p);
    p->n_seq = n_seq_padded > b->n_seq ? n_seq_padded : b->n_seq;
    plan_decode(p, g, s, b);
    plan_prefill(p, s, b);
}
