/* attend_many.c - attention of prompts: tiles of 16 queries and all query heads of their KV head.
 *
 * With that many rows K and V of a chunk are widened once and the rows sweep over them, as in matmul.c; the chain of
 * operations for a query is that of attend.c. */
#include "base/num.h"
#include "kernels/cpu/attend.h"

/* Rows [r0, rows) times `cols` columns, widened operands; rows in equal tiles. */
static void sweep(const struct cpu_isa *isa, struct ftile t, uint32_t r0, uint32_t rows,
                  const float *x, float *y)
{
    uint32_t n = rows - r0, n_tile = ceil_div_u32(n, isa->mr_f);

    for (uint32_t i = 0; i < n_tile; i++) {
        uint32_t a = r0 + n * i / n_tile, b = r0 + n * (i + 1) / n_tile;

        t.mr = b - a;
        t.x = x + (size_t)a * t.ldx;
        t.y = y + (size_t)a * t.ldy;
        isa->tile[EL_F32](&t);
    }
}

static void scores_many(const struct attend *a, const struct chunk *k, const struct room *r,
                        uint32_t r0, uint32_t rows)
{
    uint32_t n_tile = ceil_div_u32(k->n, KV_TILE), ns = a->isa->ns_min;
    size_t tile = (size_t)a->hd * KV_TILE;

    for (uint32_t i = 0; i < n_tile; i++)
        a->isa->widen[a->lay.el](r->k + i * tile, k->tile[i], tile);
    for (uint32_t i = 0; i < n_tile; i += ns) {
        struct ftile t = { .ns = ns, .k = a->hd, .ldx = a->hd, .ldb = LANES, .ldy = ATTEND_CHUNK,
                           .n_col = ns * LANES };

        for (uint32_t s = 0; s < ns; s++) {    /* a strip past the last reads it again, unused */
            uint32_t at = min_u32(i + s, n_tile - 1);

            take_k(a, &t, s, k->tile[at], r->k + at * tile);
        }
        sweep(a->isa, t, r0, rows, r->q, r->s + (size_t)i * LANES);
    }
}

static void values_many(const struct attend *a, const struct chunk *k, const struct room *r,
                        uint32_t r0, uint32_t rows)
{
    uint32_t n_strip = a->hd / LANES, ns = a->isa->ns_min;
    size_t tile = (size_t)a->hd * KV_TILE;

    for (uint32_t i = 0; i * KV_TILE < k->n; i++)
        a->isa->widen[a->lay.el](r->v + i * tile, tile_v(&a->lay, k->tile[i]),
                                 min_u32(KV_TILE, k->n - i * KV_TILE) * a->hd);
    for (uint32_t d = 0; d < n_strip; d += ns) {
        struct ftile t = { .ns = ns, .k = k->n, .ldx = ATTEND_CHUNK, .ldb = a->hd, .ldy = a->hd,
                           .n_col = ns * LANES };

        d = min_u32(d, n_strip - ns);      /* odd strip left over: one is done twice */
        for (uint32_t s = 0; s < ns; s++)
            t.b[s] = r->v + (size_t)(d + s) * LANES;
        sweep(a->isa, t, r0, rows, r->s, r->part + (size_t)d * LANES);
    }
}

/* One chunk for all rows of a query tile. Queries ascend: those that see none of it come first. */
static void many_chunk(const struct attend *a, const struct unit *u, uint32_t c,
                       const struct room *r)
{
    const uint32_t *pos = a->b->pos + u->row;
    uint32_t p0 = c * ATTEND_CHUNK, first = 0, rows = u->n * a->n_rep, r0;
    struct chunk k = attend_chunk(a, u->seq, u->head, c, pos[u->n - 1] + 1, r->gather);

    while (pos[first] < p0)
        first++;
    r0 = first * a->n_rep;
    scores_many(a, &k, r, r0, rows);
    for (uint32_t i = r0; i < rows; i++)       /* all tops first: the next row need not wait for its own */
        r->pm[i] = a->isa->top(r->s + (size_t)i * ATTEND_CHUNK, min_u32(k.n, pos[i / a->n_rep] + 1 - p0));
    for (uint32_t i = r0; i < rows; i++) {
        float *s = r->s + (size_t)i * ATTEND_CHUNK;

        r->pl[i] = a->isa->softmax(s, min_u32(k.n, pos[i / a->n_rep] + 1 - p0), k.n, r->pm[i]);
        scale_row(a, &k, s);
    }
    values_many(a, &k, r, r0, rows);
    attend_fold(a, r->acc + (size_t)r0 * a->hd, r->m + r0, r->l + r0, r->part + (size_t)r0 * a->hd, r->pm + r0,
                r->pl + r0, rows - r0, c == 0);
}

void attend_many(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct attend *a = arg;

    for (uint32_t i = i0; i < i1; i++) {
        const struct unit *u = a->unit + i;
        uint32_t rows = u->n * a->n_rep, end = a->b->pos[u->row + u->n - 1] + 1;
        struct room r = attend_room(cpu_mine(a->c, thread), QUERY_TILE * a->n_rep, a->hd);

        attend_load_q(a, u, r.q);
        for (uint32_t c = 0; c * ATTEND_CHUNK < end; c++)
            many_chunk(a, u, c, &r);
        for (uint32_t j = 0; j < rows; j++)
            a->isa->scale(y_at(a, u->row + j / a->n_rep, u->head * a->n_rep + j % a->n_rep),
                          r.acc + (size_t)j * a->hd, 1.0f / r.l[j], a->hd);
    }
}
