/* call.cu - what one operation launches, what memory it touches, what scratch it needs.
 *
 * The same for an operation that runs at once and for one of a recorded step; fused or not is decided here.
 * Unfused pairs give the bits of the fused kernel (rows.h), so that only time differs. */
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/step.h"

namespace {

__half *half_at(void *p) { return static_cast<__half *>(p); }
const __half *half_at(const void *p) { return static_cast<const __half *>(p); }

struct attend_shape shape_of(const struct call *c)
{
    return { c->n_q, c->kv->n_head, c->kv->head_dim, c->kv->fmt };
}

void run_norm(struct gpu *g, const struct call *c, uint32_t rows)
{
    const __half *delta = half_at(c->in);

    if (delta && !g->exec.fused) {
        gpu_add(g, half_at(c->x), delta, rows, c->dim);
        delta = NULL;
    }
    gpu_norm(g, half_at(c->y), half_at(c->x), delta, half_at(c->gain), rows, c->dim, c->eps);
}

void run_swiglu(struct gpu *g, const struct call *c, uint32_t rows)
{
    if (g->exec.fused) {
        gpu_swiglu(g, half_at(c->y), half_at(c->in), rows, c->dim);
        return;
    }
    gpu_silu(g, half_at(c->y), half_at(c->in), rows, c->dim);
    gpu_mul_up(g, half_at(c->y), half_at(c->in), rows, c->dim);
}

void run_pick(struct gpu *g, const struct call *c, uint32_t rows)
{
    const struct image *p = &g->host->picked;
    uint32_t *tok = reinterpret_cast<uint32_t *>(p->device);

    gpu_pick(g, tok, half_at(c->in), rows, c->dim);
    gpu_check(g, cudaMemcpyAsync(p->host, tok, rows * sizeof *tok, cudaMemcpyDeviceToHost, g->stream),
              "tokens from the device", rows, 0, 0);
}

void run_attend(struct gpu *g, const struct call *c)
{
    const struct gpu_host *h = g->host;

    gpu_attend(g, half_at(c->y), half_at(c->in), c->kv, c->layer, &h->batch, h->plan.host, h->plan.device,
               c->n_q, c->prefill != 0);
}

void run_kind(struct gpu *g, const struct call *c, uint32_t rows)
{
    const struct gpu_batch *b = &g->host->batch;

    switch (c->kind) {
    case CALL_EMBED: gpu_embed(g, half_at(c->y), c->w, b->tok, rows); break;
    case CALL_NORM: run_norm(g, c, rows); break;
    case CALL_MATMUL: gpu_matmul(g, half_at(c->y), half_at(c->in), c->w, rows); break;
    case CALL_ROPE_STORE: gpu_rope_store(g, half_at(c->y), c->kv, c->layer, b, c->rope); break;
    case CALL_ATTEND: run_attend(g, c); break;
    case CALL_SWIGLU: run_swiglu(g, c, rows); break;
    case CALL_GATHER: gpu_gather(g, half_at(c->y), half_at(c->in), b->row, rows, c->dim); break;
    case CALL_PICK: run_pick(g, c, rows); break;
    }
}

const char *name_of(enum call_kind kind)
{
    static const char *const name[] = {
        "embed", "norm", "matmul", "rope_store", "attend", "swiglu", "gather", "pick"
    };

    return name[kind];
}

/* Widths of a row of y, x and in, in halves; 0: the operation has none there. */
struct widths { uint64_t y, x, in; };

struct widths widths_of(const struct call *c)
{
    uint64_t dim = c->dim, hd = c->kv ? c->kv->head_dim : 0, heads = c->kv ? c->n_q + 2 * (uint64_t)c->kv->n_head : 0;

    switch (c->kind) {
    case CALL_EMBED: return { c->w->k, 0, 0 };
    case CALL_NORM: return { dim, dim, c->in ? dim : 0 };
    case CALL_MATMUL: return { c->w->n, 0, c->w->k };
    case CALL_ROPE_STORE: return { heads * hd, 0, 0 };
    case CALL_ATTEND: return { c->n_q * hd, 0, heads * hd };
    case CALL_SWIGLU: return { dim, 0, 2 * dim };
    case CALL_GATHER: return { dim, 0, dim };
    case CALL_PICK: return { 0, 0, dim };
    }
    return { 0, 0, 0 };
}

uint64_t rows_behind(const struct gpu *g, const void *p, uint64_t width)
{
    return width ? bytes_behind(g, p) / (width * sizeof(__half)) : UINT32_MAX;
}

} // namespace

uint64_t call_room(const struct gpu *g, const struct call *c)
{
    struct widths w = widths_of(c);
    uint64_t y = rows_behind(g, c->y, w.y), x = rows_behind(g, c->x, w.x), in = rows_behind(g, c->in, w.in);

    return y < x ? (y < in ? y : in) : (x < in ? x : in);
}

size_t call_scratch(const struct gpu *g, const struct call *c, uint32_t rows)
{
    struct attend_shape s;

    switch (c->kind) {
    case CALL_MATMUL: return gpu_matmul_scratch(g, c->w, rows);
    case CALL_PICK: return gpu_pick_scratch(g, rows, c->dim);
    case CALL_ATTEND: return s = shape_of(c), attend_scratch_bytes(g, &s);
    default: return 0;
    }
}

bool call_plan(struct gpu *g, const struct call *c)
{
    struct attend_shape s;

    if (c->kind != CALL_ATTEND)
        return true;
    s = shape_of(c);
    return plan_put(g, g->host->put, &s);
}

void call_run(struct gpu *g, const struct call *c)
{
    uint32_t rows = c->rows == ALL_ROWS ? g->host->rows : c->rows;

    if (g->err.code)
        return;
    run_kind(g, c, rows);
    if (g->host->sync_each && !g->host->capturing)
        gpu_check(g, cudaStreamSynchronize(g->stream), name_of(c->kind), rows, c->w ? c->w->n : c->dim,
                  c->w ? c->w->k : 0);
}
