/* stage.cu - a step's batch and its attention plan on the way to the device.
 *
 * All arrays of a batch lie behind each other in one pinned buffer and cross in one asynchronous copy. Where
 * each lies depends on the padded sizes only, the block table comes last: a recorded step finds the next
 * batch at the same addresses. What must stay true: a buffer is written only after the copy before it is
 * done (end() waits; operations outside a step wait themselves), and one that moves drops all graphs. */
#include "kernels/cuda/step.h"

namespace {

enum { ALIGN_WORDS = 4 };                  /* 16 bytes */

size_t words(size_t n) { return (n + ALIGN_WORDS - 1) / ALIGN_WORDS * ALIGN_WORDS; }

/* Takes the next n numbers of the image: where to write them, and in *device where they will be read. */
uint32_t *take(const struct image *i, size_t *at, size_t n, const uint32_t **device)
{
    uint32_t *host = reinterpret_cast<uint32_t *>(i->host) + *at;

    *device = reinterpret_cast<const uint32_t *>(i->device) + *at;
    *at += words(n);
    return host;
}

/* n numbers of x, then `fill` up to `all`. */
void put(const struct image *i, size_t *at, const uint32_t *x, uint32_t n, uint32_t all, uint32_t fill,
         const uint32_t **device)
{
    uint32_t *to = take(i, at, all, device);

    if (n)
        memcpy(to, x, n * sizeof *to);
    for (uint32_t j = n; j < all; j++)
        to[j] = fill;
}

/* Ascending from x[n - 1] + step: row numbers and row starts of the padding. */
void put_rising(const struct image *i, size_t *at, const uint32_t *x, uint32_t n, uint32_t all, uint32_t step,
                const uint32_t **device)
{
    uint32_t *to = take(i, at, all, device);

    if (n)
        memcpy(to, x, n * sizeof *to);
    for (uint32_t j = n; j < all; j++)
        to[j] = j ? to[j - 1] + step : 0;
}

void copy_up(struct gpu *g, const struct image *i, size_t bytes, const char *what, uint32_t m, uint32_t n)
{
    gpu_check(g, cudaMemcpyAsync(i->device, i->host, bytes, cudaMemcpyHostToDevice, g->stream), what, m, n, 0);
}

/* The step's device time starts with its first copy: in a graph that is when all operations are collected. */
void start_clock(struct gpu *g, const struct batch *b)
{
    struct gpu_host *h = g->host;

    if (b == h->b && !h->timed)
        h->timed = gpu_check(g, cudaEventRecord(h->from, g->stream), "begin", b->n_tok, b->n_seq, b->n_row);
}

} // namespace

bool batch_put(struct gpu *g, const struct batch *b, uint32_t rows)
{
    struct gpu_host *h = g->host;
    struct gpu_batch *o = &h->batch;
    const struct image *i = &h->arrays;
    uint32_t more = rows - b->n_tok, n_tok = rows, n_seq = b->n_seq + more, n_row = b->n_row + more;
    size_t at = 0, need = 3 * words(n_tok) + 2 * words(n_seq) + 2 * words((size_t)n_seq + 1) + words(n_row) +
                          words(b->n_table);

    if (!image_room(g, &h->arrays, need * sizeof(uint32_t)))
        return false;
    start_clock(g, b);
    *o = { n_tok, n_seq, n_row, b->n_table, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL };
    put(i, &at, b->tok, b->n_tok, n_tok, 0, &o->tok);
    put(i, &at, b->pos, b->n_tok, n_tok, 0, &o->pos);
    put(i, &at, b->slot, b->n_tok, n_tok, GPU_NO_SLOT, &o->slot);
    put_rising(i, &at, b->seq_start, b->n_seq + 1, n_seq + 1, 1, &o->seq_start);
    put(i, &at, b->kv_len, b->n_seq, n_seq, 0, &o->kv_len);
    put(i, &at, b->block_tokens, b->n_seq, n_seq, KV_TILE, &o->block_tokens);
    put_rising(i, &at, b->table_start, b->n_seq + 1, n_seq + 1, 0, &o->table_start);
    put_rising(i, &at, b->row, b->n_row, n_row, 1, &o->row);
    put(i, &at, b->table, b->n_table, b->n_table, 0, &o->table);
    copy_up(g, i, at * sizeof(uint32_t), "batch to the device", b->n_tok, b->n_seq);
    h->rows = rows;
    h->put = b;
    h->planned = false;
    return !g->err.code;
}

bool plan_put(struct gpu *g, const struct batch *b, const struct attend_shape *s)
{
    struct gpu_host *h = g->host;
    const struct attend_shape *p = &h->plan_shape;
    uint32_t n_seq = h->batch.n_seq;
    size_t need;

    if (attend_check(s, &g->err))
        return false;
    if (h->planned && p->n_q == s->n_q && p->n_kv == s->n_kv && p->hd == s->hd && p->fmt == s->fmt)
        return true;
    need = attend_plan_bytes(s, h->batch.n_tok, n_seq);
    if (!need) {
        gpu_fail(g, "cuda: an attention plan for %u rows and %u sequences overflows", h->batch.n_tok, n_seq);
        return false;
    }
    if (h->planned)                        /* another shape in one step: the copy before must be done */
        gpu_check(g, cudaStreamSynchronize(g->stream), "attention plan", h->batch.n_tok, n_seq, 0);
    if (!image_room(g, &h->plan, need))
        return false;
    attend_plan_make(h->plan.host, g, s, b, n_seq);
    copy_up(g, &h->plan, attend_plan_used(h->plan.host), "attention plan to the device", h->batch.n_tok, n_seq);
    h->plan_shape = *s;
    h->planned = true;
    return !g->err.code;
}

const uint32_t *lone_put(struct gpu *g, const uint32_t *x, uint32_t n)
{
    struct gpu_host *h = g->host;
    size_t bytes = n * sizeof *x;

    if (!gpu_check(g, cudaStreamSynchronize(g->stream), "numbers to the device", n, 0, 0) ||
        !image_room(g, &h->lone, bytes))
        return NULL;
    memcpy(h->lone.host, x, bytes);
    copy_up(g, &h->lone, bytes, "numbers to the device", n, 0);
    return g->err.code ? NULL : reinterpret_cast<const uint32_t *>(h->lone.device);
}
