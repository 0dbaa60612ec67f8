/* attend.c - attention over the KV pool through block tables, for single queries and for prompts.
 *
 * Query heads that share a KV head (GQA) are rows of one tile, so each K and V is loaded once for
 * all of them; prefill adds up to 16 queries to the rows. Positions are taken in chunks of 128 that
 * start at multiples of 128 from position 0: scores, softmax and weighted sum of V of a chunk are
 * computed alone, then chunks are merged in ascending order (online softmax: Milakov and Gimelshein
 * 2018, FlashAttention).
 *
 * With int8 and fp8 the codes take the place of K and V in these sums; the scale of a position's K
 * multiplies the finished score, that of its V the probability (after their sum was taken).
 *
 * What must stay true: the operations for one query depend on positions only. Whether the query
 * is a decode, part of a chunk or of a whole prompt, how blocks lie in the pool, and how chunks
 * were shared among threads changes nothing: the bits are the same. */
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/attend.h"

static size_t room_bytes(uint32_t rows, uint32_t hd)
{
    return (size_t)rows * (3 * hd + ATTEND_CHUNK) * 4 + (size_t)(rows + 15) / 16 * 256 +
           (size_t)ATTEND_CHUNK * (hd * (2 * 4 + 2 * 2) + 2 * 2);
}

struct room attend_room(void *p, uint32_t rows, uint32_t hd)
{
    struct room r;
    size_t n = (size_t)rows * hd, pad = (size_t)(rows + 15) / 16 * 16;

    r.q = p;
    r.part = r.q + n;
    r.acc = r.part + n;
    r.s = r.acc + n;
    r.m = r.s + (size_t)rows * ATTEND_CHUNK;
    r.l = r.m + pad;
    r.pm = r.l + pad;
    r.pl = r.pm + pad;
    r.k = r.pl + pad;
    r.v = r.k + (size_t)ATTEND_CHUNK * hd;
    r.gather = (uint8_t *)(r.v + (size_t)ATTEND_CHUNK * hd);
    return r;
}

/* One logical tile copied together, for blocks that do not lie on tile borders. */
static const uint8_t *gather_tile(const struct attend *a, uint32_t seq, uint32_t head,
                                  uint32_t pos, uint32_t n, uint8_t *out)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = batch_slot(a->b, seq, pos + i);

        kv_move(&a->lay, kv_tile(a->kv, a->layer, head, slot), slot % KV_TILE, out, i);
    }
    return out;
}

struct chunk attend_chunk(const struct attend *a, uint32_t seq, uint32_t head, uint32_t chunk,
                          uint32_t end, uint8_t *scratch)
{
    const struct batch *b = a->b;
    uint32_t p0 = chunk * ATTEND_CHUNK, bt = b->block_tokens[seq];
    struct chunk k = { .n = min_u32(ATTEND_CHUNK, end - p0) };

    for (uint32_t i = 0; i * KV_TILE < k.n; i++) {
        uint32_t p = p0 + i * KV_TILE, n = min_u32(KV_TILE, k.n - i * KV_TILE);
        uint32_t slot = batch_slot(b, seq, p), in_block = bt - p % bt;

        if (slot % KV_TILE == 0 && in_block >= n)
            k.tile[i] = kv_tile(a->kv, a->layer, head, slot);
        else
            k.tile[i] = gather_tile(a, seq, head, p, n, scratch + i * a->lay.tile_bytes);
    }
    return k;
}

/* s[r][p] = q[r] . k[p], straight from the pool: for few rows. The struct is filled once: clearing
 * it for each tile would take a tenth of the time. */
static void scores_few(const struct attend *a, const struct chunk *k, const struct room *r,
                       uint32_t row0, uint32_t mr)
{
    uint32_t most = a->isa->ns_f[mr], n_tile = ceil_div_u32(k->n, KV_TILE);
    struct ftile t = { .mr = mr, .k = a->hd, .ldx = a->hd, .ldb = LANES, .ldy = ATTEND_CHUNK,
                       .x = r->q + (size_t)row0 * a->hd };

    for (uint32_t i = 0; i < n_tile; i += t.ns) {
        /* past the last tile a strip reads the last again: its scores are never looked at */
        t.ns = n_tile - i >= most ? most : a->isa->ns_min;
        for (uint32_t s = 0; s < t.ns; s++) {
            const uint8_t *tile = k->tile[min_u32(i + s, n_tile - 1)];

            take_k(a, &t, s, tile, tile);
        }
        t.y = r->s + (size_t)row0 * ATTEND_CHUNK + (size_t)i * LANES;
        t.n_col = t.ns * LANES;
        a->isa->tile[a->lay.el](&t);
    }
}

/* part[r] = sum over p of s[r][p] * v[p], tile after tile, straight from the pool. */
static void values_few(const struct attend *a, const struct chunk *k, const struct room *r,
                       uint32_t row0, uint32_t mr)
{
    uint32_t most = a->isa->ns_f[mr], n_strip = a->hd / LANES;
    struct ftile t = { .mr = mr, .ldx = ATTEND_CHUNK, .ldb = a->hd, .ldy = a->hd };

    for (uint32_t d = 0; d < n_strip; d += t.ns) {
        t.ns = n_strip - d >= most ? most : a->isa->ns_min;
        if (t.ns > n_strip - d)            /* odd strip left over: step back and do one twice */
            d = n_strip - t.ns;
        t.n_col = t.ns * LANES;
        t.y = r->part + (size_t)row0 * a->hd + (size_t)d * LANES;
        for (uint32_t i = 0; i * KV_TILE < k->n; i++) {
            const uint8_t *v = (const uint8_t *)tile_v(&a->lay, k->tile[i]) + (size_t)d * LANES * a->lay.size;

            t.k = min_u32(KV_TILE, k->n - i * KV_TILE);
            t.x = r->s + (size_t)row0 * ATTEND_CHUNK + (size_t)i * KV_TILE;
            t.add = i > 0;
            for (uint32_t s = 0; s < t.ns; s++)
                t.b[s] = v + (size_t)s * LANES * a->lay.size;
            a->isa->tile[a->lay.el](&t);
        }
    }
}

/* One query of one KV head's group, one chunk: leaves part, m, l of each of the n_rep rows. */
static void few_chunk(const struct attend *a, const struct chunk *k, const struct room *r, float *m,
                      float *l)
{
    uint32_t most = a->isa->mr_f;

    for (uint32_t i = 0; i < a->n_rep; i += most)
        scores_few(a, k, r, i, min_u32(most, a->n_rep - i));
    for (uint32_t i = 0; i < a->n_rep; i++) {
        float *s = r->s + (size_t)i * ATTEND_CHUNK;

        m[i] = a->isa->top(s, k->n);
        l[i] = a->isa->softmax(s, k->n, k->n, m[i]);
        scale_row(a, k, s);
    }
    for (uint32_t i = 0; i < a->n_rep; i += most)
        values_few(a, k, r, i, min_u32(most, a->n_rep - i));
}

void attend_fold(const struct attend *a, float *acc, float *m, float *l, const float *part,
                 const float *pm, const float *pl, uint32_t rows, bool first)
{
    if (first) {
        memcpy(acc, part, (size_t)rows * a->hd * sizeof *acc);
        memcpy(m, pm, rows * sizeof *m);
        memcpy(l, pl, rows * sizeof *l);
    } else {
        a->isa->merge(acc, m, l, part, pm, pl, rows, a->hd);
    }
}

void attend_load_q(const struct attend *a, const struct unit *u, float *q)
{
    for (uint32_t i = 0; i < u->n; i++)
        a->isa->scale(q + (size_t)i * a->n_rep * a->hd,
                      a->qkv + (size_t)(u->row + i) * a->ld + (size_t)u->head * a->n_rep * a->hd,
                      a->q_scale, (size_t)a->n_rep * a->hd);
}

static void decode_whole(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct attend *a = arg;
    struct room r = attend_room(cpu_mine(a->c, thread), a->n_rep, a->hd);

    for (uint32_t i = i0; i < i1; i++) {
        const struct unit *u = a->unit + i;
        uint32_t end = a->b->pos[u->row] + 1;

        attend_load_q(a, u, r.q);
        for (uint32_t c = 0; c * ATTEND_CHUNK < end; c++) {
            struct chunk k = attend_chunk(a, u->seq, u->head, c, end, r.gather);

            few_chunk(a, &k, &r, r.pm, r.pl);
            attend_fold(a, r.acc, r.m, r.l, r.part, r.pm, r.pl, a->n_rep, c == 0);
        }
        for (uint32_t j = 0; j < a->n_rep; j++)
            a->isa->scale(y_at(a, u->row, u->head * a->n_rep + j), r.acc + (size_t)j * a->hd,
                          1.0f / r.l[j], a->hd);
    }
}

/* One chunk of one query: the part goes to shared memory, decode_merge folds them in order. */
static void decode_part(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct attend *a = arg;
    struct room r = attend_room(cpu_mine(a->c, thread), a->n_rep, a->hd);

    for (uint32_t i = i0; i < i1; i++) {
        const struct unit *u = a->unit + i;
        float *out = a->part + i * a->part_size;
        struct chunk k = attend_chunk(a, u->seq, u->head, u->chunk, a->b->pos[u->row] + 1, r.gather);

        attend_load_q(a, u, r.q);
        r.part = out;
        few_chunk(a, &k, &r, out + (size_t)a->n_rep * a->hd,
                  out + (size_t)a->n_rep * a->hd + a->n_rep);
    }
}

/* Units of a query follow each other, chunks ascending. room: [n_rep][hd + 2] */
static void decode_merge(const struct attend *a, uint32_t n_unit, float *room)
{
    size_t n = (size_t)a->n_rep * a->hd;
    float *m = room + n, *l = m + a->n_rep;

    for (uint32_t i = 0, k; i < n_unit; i = k) {
        const struct unit *u = a->unit + i;

        for (k = i; k < n_unit && (k == i || a->unit[k].chunk); k++) {
            const float *p = a->part + k * a->part_size;

            attend_fold(a, room, m, l, p, p + n, p + n + a->n_rep, a->n_rep, k == i);
        }
        for (uint32_t j = 0; j < a->n_rep; j++)
            a->isa->scale(y_at(a, u->row, u->head * a->n_rep + j), room + (size_t)j * a->hd, 1.0f / l[j], a->hd);
    }
}

/* Units in order of sequence, KV head, then chunk, or query tile from the last, which sees most: what threads take
 * from each other in the end is small. Counts when out is NULL. */
static uint32_t list_units(const struct attend *a, bool prefill_, bool split, struct unit *out)
{
    const struct batch *b = a->b;
    uint32_t n = 0;

    for (uint32_t s = 0; s < b->n_seq; s++) {
        uint32_t row = b->seq_start[s], rows = b->seq_start[s + 1] - row;
        uint32_t step = prefill_ ? QUERY_TILE : 1, parts;

        if (rows == 0 || (rows > 1) != prefill_)
            continue;
        parts = prefill_ ? ceil_div_u32(rows, step) : split ? b->pos[row] / ATTEND_CHUNK + 1 : 1;
        for (uint32_t i = 0; i < a->kv->n_head * parts; i++, n++) {
            uint32_t p = prefill_ ? parts - 1 - i % parts : i % parts;

            if (out)
                out[n] = (struct unit){ .seq = s, .row = prefill_ ? row + p * step : row,
                                        .n = prefill_ ? min_u32(step, rows - p * step) : 1,
                                        .head = i / parts, .chunk = prefill_ ? 0 : p };
        }
    }
    return n;
}

void cpu_attend(struct cpu *c, float *y, const float *qkv, const struct kv_pool *kv, uint32_t layer,
                const struct batch *b, uint32_t n_q, bool is_prefill)
{
    uint32_t hd = kv->head_dim, n_rep = n_q / kv->n_head, n_unit;
    uint32_t rows = is_prefill ? QUERY_TILE * n_rep : n_rep;
    struct attend a = { .c = c, .isa = c->isa, .y = y, .qkv = qkv, .kv = kv, .b = b, .layer = layer,
                        .lay = kv_layout(kv), .n_q = n_q, .n_rep = n_rep, .hd = hd,
                        .ld = (n_q + 2 * kv->n_head) * hd,
                        .part_size = (size_t)(n_rep * (hd + 2) + 15) / 16 * 16,
                        .q_scale = 1.0f / sqrtf((float)hd) };
    bool split;
    size_t units_size, part_bytes;

    n_unit = list_units(&a, is_prefill, false, NULL);
    split = !is_prefill && c->n_thread > 1 && n_unit < 4 * (uint32_t)c->n_thread;
    if (split)
        n_unit = list_units(&a, false, true, NULL);
    units_size = ((size_t)n_unit * sizeof *a.unit + 63) / 64 * 64;
    part_bytes = split ? (n_unit + 1) * a.part_size * sizeof(float) : 0;
    if (!cpu_scratch(c, units_size + part_bytes, room_bytes(rows, hd)))
        return;
    a.unit = c->shared.p;
    list_units(&a, is_prefill, split, c->shared.p);
    a.part = (float *)(void *)((char *)c->shared.p + units_size);
    cpu_for(c, n_unit, 1, true, is_prefill ? attend_many : split ? decode_part : decode_whole, &a);
    if (split)
        decode_merge(&a, n_unit, a.part + n_unit * a.part_size);
}
