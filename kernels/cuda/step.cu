/* step.cu - the operations of the seam, and where a step begins and ends.
 *
 * An operation is checked, written down as a struct call, and run; or collected until end() when the step
 * is to be a graph (graph.cu). Inside a step the batch's arrays are already on the device; an operation
 * outside (tests, benchmarks) brings its own and waits for the one before.
 *
 * What must stay true: after the first failure nothing is launched until end() has reported it; tokens
 * reach the caller only in end(), after the stream is done (outside a step: in pick itself). */
#include "kernels/cuda/step.h"

namespace {

struct gpu *gpu_of(const struct device *d) { return static_cast<struct gpu *>(d->self); }

/* ---- calls come in ---- */

/* Rows of an operation inside a step that takes part in its recording. */
bool records(struct gpu *g, struct call *c)
{
    struct gpu_host *h = g->host;

    if (!h->recording)
        return false;
    if (c->rows != h->b->n_tok) {          /* not a step's usual shape: no graph, but the same result */
        step_settle(g);
        return false;
    }
    c->rows = ALL_ROWS;
    if (!calls_add(&h->calls, c))
        gpu_fail(g, "cuda: out of memory for the list of a step's operations");
    return true;
}

void submit(struct gpu *g, struct call c)
{
    if (g->err.code || records(g, &c) || g->err.code)
        return;
    if (scratch_room(g, call_scratch(g, &c, c.rows)) && call_plan(g, &c))
        call_run(g, &c);
}

/* The batch on the device: the step's own, or one that an operation outside a step brings. */
bool at_hand(struct gpu *g, const struct batch *b)
{
    struct gpu_host *h = g->host;

    if (h->b == b && (h->recording || h->put == b))
        return true;
    step_settle(g);
    return gpu_check(g, cudaStreamSynchronize(g->stream), "batch", b->n_tok, b->n_seq, 0) &&
           batch_put(g, b, b->n_tok);
}

/* c reads tokens or rows. Those of the step lie on the device; others are brought for this one operation. */
void submit_with(struct gpu *g, const struct call &c, bool own, const uint32_t *x, uint32_t n)
{
    struct gpu_host *h = g->host;
    struct gpu_batch kept;

    if (g->err.code)
        return;
    if (own) {
        if (at_hand(g, h->b))
            submit(g, c);
        return;
    }
    step_settle(g);
    kept = h->batch;
    h->batch.tok = h->batch.row = lone_put(g, x, n);
    submit(g, c);
    h->batch = kept;
}

void embed(struct device *d, void *x, const struct weight *w, const uint32_t *tok, uint32_t n)
{
    struct gpu *g = gpu_of(d);
    const struct batch *b = g->host->b;
    struct call c = {};

    for (uint32_t i = 0; i < n; i++)
        if (tok[i] >= w->n) {
            gpu_fail(g, "cuda: embed in step %llu: token %u of row %u is beyond the vocabulary of %u",
                     (unsigned long long)g->step, tok[i], i, w->n);
            return;
        }
    c.kind = CALL_EMBED, c.rows = n, c.y = x, c.w = w;
    if (n)
        submit_with(g, c, b && tok == b->tok, tok, n);
}

/* Widths that 16-byte accesses can move. */
bool width_fits(struct gpu *g, const char *what, uint32_t n, uint32_t dim)
{
    if (dim % 8)
        gpu_fail(g, "cuda: %s (%u x %u) in step %llu: widths must be multiples of 8 on this device", what, n, dim,
                 (unsigned long long)g->step);
    return dim % 8 == 0 && n;
}

void norm(struct device *d, void *y, void *x, const void *delta, const void *gain, uint32_t n, uint32_t dim,
          float eps)
{
    struct call c = {};

    c.kind = CALL_NORM, c.rows = n, c.y = y, c.x = x, c.in = delta, c.gain = gain, c.dim = dim, c.eps = eps;
    if (width_fits(gpu_of(d), "norm", n, dim))
        submit(gpu_of(d), c);
}

void matmul(struct device *d, void *y, const void *x, const struct weight *w, uint32_t m)
{
    struct call c = {};

    c.kind = CALL_MATMUL, c.rows = m, c.y = y, c.in = x, c.w = w;
    if (m)
        submit(gpu_of(d), c);
}

/* FNV-1a over 64-bit words: another table at the same address must be another graph. */
uint32_t rope_mark(const struct rope *r)
{
    uint64_t h = 0xcbf29ce484222325u, word;

    for (uint32_t i = 0; i < r->half && i < ROPE_MAX; i++) {
        memcpy(&word, &r->freq[i], sizeof word);
        h = (h ^ word) * 0x100000001b3u;
    }
    h = (h ^ (uintptr_t)r->bias) * 0x100000001b3u;
    h = (h ^ (uintptr_t)r->q_gain) * 0x100000001b3u;
    h = (h ^ (uintptr_t)r->k_gain) * 0x100000001b3u;
    return (uint32_t)(h >> 32) ^ (uint32_t)h;
}

/* Once per step: the kernels know the pool's shape, and nothing is stored beyond it. */
bool pool_fits(struct gpu *g, const struct kv_pool *kv, const struct batch *b, uint32_t n_q)
{
    struct attend_shape s = { n_q, kv->n_head, kv->head_dim, kv->fmt };

    if (g->host->b == b && g->host->checked)
        return true;
    if (attend_check(&s, &g->err))
        return false;
    for (uint32_t t = 0; t < b->n_tok; t++)
        if (b->slot[t] >= kv->n_slot) {
            gpu_fail(g, "cuda: rope_store in step %llu: slot %u of row %u is beyond the pool of %u",
                     (unsigned long long)g->step, b->slot[t], t, kv->n_slot);
            return false;
        }
    g->host->checked = g->host->b == b;
    return true;
}

void rope_store(struct device *d, void *qkv, struct kv_pool *kv, uint32_t layer, const struct batch *b,
                const struct rope *r)
{
    struct gpu *g = gpu_of(d);
    struct call c = {};

    if (g->err.code || !b->n_tok || !at_hand(g, b) || !pool_fits(g, kv, b, r->n_q))
        return;
    c.kind = CALL_ROPE_STORE, c.rows = b->n_tok, c.y = qkv, c.kv = kv, c.layer = layer, c.rope = r;
    c.n_q = r->n_q, c.eps = r->eps, c.mark = rope_mark(r);
    submit(g, c);
}

void attend(struct device *d, void *y, const void *qkv, const struct kv_pool *kv, uint32_t layer,
            const struct batch *b, uint32_t n_q, bool prefill)
{
    struct gpu *g = gpu_of(d);
    struct call c = {};

    if (g->err.code || !b->n_tok || !at_hand(g, b))
        return;
    c.kind = CALL_ATTEND, c.rows = b->n_tok, c.y = y, c.in = qkv, c.kv = kv, c.layer = layer, c.n_q = n_q;
    c.prefill = prefill;
    submit(g, c);
}

void swiglu(struct device *d, void *y, const void *gate_up, uint32_t n, uint32_t f)
{
    struct call c = {};

    c.kind = CALL_SWIGLU, c.rows = n, c.y = y, c.in = gate_up, c.dim = f;
    if (width_fits(gpu_of(d), "swiglu", n, f))
        submit(gpu_of(d), c);
}

void gather(struct device *d, void *y, const void *x, const uint32_t *row, uint32_t n_row, uint32_t dim)
{
    struct gpu *g = gpu_of(d);
    const struct batch *b = g->host->b;
    struct call c = {};

    c.kind = CALL_GATHER, c.rows = n_row, c.y = y, c.in = x, c.dim = dim;
    if (width_fits(g, "gather", n_row, dim))
        submit_with(g, c, b && row == b->row, row, n_row);
}

void hand_picked(struct gpu *g)
{
    struct gpu_host *h = g->host;

    if (h->n_pick && !g->err.code)
        memcpy(h->pick_to, h->picked.host, h->n_pick * sizeof *h->pick_to);
    h->n_pick = 0;
}

void pick(struct device *d, uint32_t *tok, const void *logits, uint32_t n_row, uint32_t vocab)
{
    struct gpu *g = gpu_of(d);
    struct gpu_host *h = g->host;
    uint32_t most = graph_size(n_row) > n_row ? graph_size(n_row) : n_row;
    struct call c = {};

    if (g->err.code || !n_row || !image_room(g, &h->picked, most * sizeof *tok))
        return;
    c.kind = CALL_PICK, c.rows = n_row, c.in = logits, c.dim = vocab;
    h->pick_to = tok;
    h->n_pick = n_row;
    submit(g, c);
    if (h->b)
        return;
    gpu_check(g, cudaStreamSynchronize(g->stream), "pick", n_row, vocab, 0);
    hand_picked(g);
}

void move(struct device *d, const struct kv_pool *from, const struct kv_pool *to, const uint32_t *src,
          const uint32_t *dst, const uint32_t *n_tok, uint32_t n)
{
    struct gpu *g = gpu_of(d);

    step_settle(g);
    if (!g->err.code)
        gpu_kv_move(g, from, to, src, dst, n_tok, n);
}

void copy(struct device *d, struct kv_pool *kv, const uint32_t *src, const uint32_t *dst, const uint32_t *n_tok,
          uint32_t n)
{
    move(d, kv, kv, src, dst, n_tok, n);
}

void swap(struct device *d, const struct kv_pool *from, struct kv_pool *to, const uint32_t *src,
          const uint32_t *dst, const uint32_t *n_tok, uint32_t n)
{
    move(d, from, to, src, dst, n_tok, n);
}

/* ---- a step ---- */

void begin(struct device *d, const struct batch *b)
{
    struct gpu *g = gpu_of(d);
    struct gpu_host *h = g->host;

    g->step++;
    h->b = b;
    h->put = NULL;
    h->planned = h->checked = h->timed = false;
    h->n_pick = h->calls.n = 0;
    h->recording = false;
    d->step_pad_rows = 0;
    d->step_device_ns = 0;
    if (h->dead_step)
        gpu_fail(g, "cuda: the device failed in step %llu and cannot go on: start the program again",
                 (unsigned long long)h->dead_step - 1);
    if (g->err.code)
        return;
    h->recording = graph_suits(g, b);
    if (!h->recording && b->n_tok)
        batch_put(g, b, b->n_tok);
}

void clock_step(struct device *d)
{
    struct gpu_host *h = gpu_of(d)->host;
    float ms = 0;

    if (!gpu_of(d)->err.code && cudaEventElapsedTime(&ms, h->from, h->until) == cudaSuccess)
        d->step_device_ns = (uint64_t)((double)ms * 1e6);
}

/* Reports the failure once. Afterwards the device either goes on, with its counters as they must be, or every
 * further step says that it cannot. */
int report(struct gpu *g, struct err *e)
{
    struct gpu_host *h = g->host;
    cudaError_t rc;

    if (!g->err.code)
        return 0;
    err_set(e, g->err.code, "%s", g->err.text);
    if (h->dead_step)
        return -1;
    memset(&g->err, 0, sizeof g->err);
    rc = cudaMemsetAsync(g->counter, 0, g->n_counter * sizeof *g->counter, g->stream);
    if (rc == cudaSuccess)
        rc = cudaStreamSynchronize(g->stream);
    if (rc != cudaSuccess)
        h->dead_step = g->step + 1;
    cudaGetLastError();
    return -1;
}

/* What failed on the device itself is only known here, unless each operation was waited for. */
void wait_for_step(struct gpu *g, const struct batch *b)
{
    cudaError_t rc = cudaStreamSynchronize(g->stream);

    if (rc != cudaSuccess)
        gpu_fail(g, "cuda: work of step %llu (%u tokens, %u sequences, %u rows): %s; SERVELAB_CUDA_SYNC=1 names "
                 "the operation", (unsigned long long)g->step, b ? b->n_tok : 0, b ? b->n_seq : 0,
                 b ? b->n_row : 0, cudaGetErrorString(rc));
}

int end(struct device *d, struct err *e)
{
    struct gpu *g = gpu_of(d);
    struct gpu_host *h = g->host;
    const struct batch *b = h->b;

    if (b && h->recording && !g->err.code) {
        graph_run(g);
        d->step_pad_rows = g->err.code ? 0 : h->rows - b->n_tok;
    }
    if (h->timed && !g->err.code)
        gpu_check(g, cudaEventRecord(h->until, g->stream), "end", b->n_tok, b->n_seq, b->n_row);
    if (!h->dead_step)
        wait_for_step(g, b);
    hand_picked(g);
    if (h->timed)
        clock_step(d);
    h->b = h->put = NULL;
    h->recording = h->planned = h->timed = false;
    return report(g, e);
}

} // namespace

void step_settle(struct gpu *g)
{
    struct gpu_host *h = g->host;

    if (!h->recording)
        return;
    h->recording = false;
    if (!batch_put(g, h->b, h->b->n_tok))
        return;
    for (uint32_t i = 0; i < h->calls.n && !g->err.code; i++)
        if (scratch_room(g, call_scratch(g, &h->calls.call[i], h->rows)) && call_plan(g, &h->calls.call[i]))
            call_run(g, &h->calls.call[i]);
    h->calls.n = 0;
}

void step_ops(struct device_ops *o)
{
    o->begin = begin, o->end = end;
    o->embed = embed, o->norm = norm, o->matmul = matmul, o->rope_store = rope_store, o->attend = attend;
    o->swiglu = swiglu, o->gather = gather, o->pick = pick, o->copy = copy, o->swap = swap;
}
