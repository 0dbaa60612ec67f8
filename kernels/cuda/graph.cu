/* graph.cu - decode steps as CUDA graphs, recorded once at a padded size and replayed (as TensorRT-LLM, vLLM
 * and SGLang do).
 *
 * A step suits when every sequence has exactly one row and every row yields a token. Its calls are collected,
 * and at the end of the step compared, byte by byte, with those of the graphs recorded at that size: equal
 * calls on equal addresses are the same work, so the graph is launched; otherwise the calls are run once with
 * the stream recording, and that graph is launched. Nothing above the device knows.
 *
 * Sizes: 1, 2, 4, 8, then multiples of 8 to 64, of 16 to 256, of 32 to 512; larger steps run as they are. Where the
 * buffers end before the padded size, the largest size that they have room for is taken.
 *
 * Relaxed capture: a library that loads a kernel or asks for memory at its first call is not refused in the middle
 * of a recording (our own calls do neither: the emulator takes every capture as global).
 *
 * What must stay true: whatever differs between two steps of a graph lies in the arrays and the plan that
 * stage.cu copies; whoever frees or moves memory that calls may point at drops all graphs. */
#include <stdlib.h>

#include "kernels/cuda/step.h"

namespace {

enum { MOST_ROWS = 512, MOST_GRAPHS = 256 };

uint32_t round_up(uint32_t n, uint32_t to) { return (n + to - 1) / to * to; }

uint32_t rows_fitting(const struct gpu *g, const struct calls *l, uint32_t want)
{
    uint64_t least = want;

    for (uint32_t i = 0; i < l->n; i++) {
        uint64_t room = call_room(g, &l->call[i]);

        least = room < least ? room : least;
    }
    return (uint32_t)least;
}

bool same_calls(const struct calls *a, const struct calls *b)
{
    return a->n == b->n && !memcmp(a->call, b->call, a->n * sizeof *a->call);
}

struct graph *find(struct gpu_host *h, uint32_t size)
{
    for (uint32_t i = 0; i < h->n_graph; i++)
        if (h->graph[i].size == size && same_calls(&h->graph[i].calls, &h->calls))
            return &h->graph[i];
    return NULL;
}

/* The batch and its plan to their fixed places, at this many rows. */
bool bring(struct gpu *g, uint32_t rows)
{
    struct gpu_host *h = g->host;

    if (!batch_put(g, h->b, rows))
        return false;
    for (uint32_t i = 0; i < h->calls.n; i++)
        if (h->calls.call[i].kind == CALL_ATTEND)
            return call_plan(g, &h->calls.call[i]);        /* one attention shape in a step: the same for all */
    return true;
}

bool scratch_for_all(struct gpu *g, uint32_t rows)
{
    const struct calls *l = &g->host->calls;
    size_t most = 0;

    for (uint32_t i = 0; i < l->n; i++) {
        size_t need = call_scratch(g, &l->call[i], rows);

        most = need > most ? need : most;
    }
    return scratch_room(g, most);
}

/* Runs the calls with the stream recording. NULL: failed, and said so. */
cudaGraphExec_t record(struct gpu *g, uint32_t rows)
{
    struct gpu_host *h = g->host;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    cudaError_t rc;

    if (!gpu_check(g, cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeRelaxed), "graph: begin", rows,
                   h->calls.n, 0))
        return NULL;
    h->capturing = true;
    for (uint32_t i = 0; i < h->calls.n; i++)
        call_run(g, &h->calls.call[i]);
    h->capturing = false;
    rc = cudaStreamEndCapture(g->stream, &graph);
    if (gpu_check(g, rc, "graph: end", rows, h->calls.n, 0) && !g->err.code)       /* a call may have failed */
        gpu_check(g, cudaGraphInstantiate(&exec, graph, 0), "graph: make", rows, h->calls.n, 0);
    if (graph)
        cudaGraphDestroy(graph);
    return exec;
}

bool graph_room(struct gpu_host *h)
{
    uint32_t cap = h->cap_graph ? 2 * h->cap_graph : 16;
    struct graph *more;

    if (h->n_graph < h->cap_graph)
        return true;
    more = static_cast<struct graph *>(realloc(h->graph, cap * sizeof *more));
    if (!more)
        return false;
    h->graph = more;
    h->cap_graph = cap;
    return true;
}

bool copy_calls(struct calls *to, const struct calls *from)
{
    for (uint32_t i = 0; i < from->n; i++)
        if (!calls_add(to, &from->call[i]))
            return false;
    return true;
}

struct graph *make(struct gpu *g, uint32_t size, uint32_t rows)
{
    struct gpu_host *h = g->host;
    struct graph made = { size, rows, { NULL, 0, 0 }, NULL };

    if (h->n_graph >= MOST_GRAPHS)
        graph_drop_all(g);
    if (!graph_room(h) || !copy_calls(&made.calls, &h->calls))
        gpu_fail(g, "cuda: out of memory for a recorded step of %u operations", h->calls.n);
    else
        made.exec = record(g, rows);
    if (!made.exec) {
        free(made.calls.call);
        return NULL;
    }
    h->graph[h->n_graph] = made;
    return &h->graph[h->n_graph++];
}

} // namespace

uint32_t graph_size(uint32_t rows)
{
    uint32_t size = rows <= 2 ? rows : rows <= 4 ? 4 : rows <= 64 ? round_up(rows, 8) :
                    rows <= 256 ? round_up(rows, 16) : round_up(rows, 32);

    return size <= MOST_ROWS ? size : 0;
}

bool graph_suits(const struct gpu *g, const struct batch *b)
{
    return g->exec.graph && !g->host->sync_each && b->n_tok && b->n_seq == b->n_tok && b->n_row == b->n_tok && graph_size(b->n_tok);
}

bool calls_add(struct calls *l, const struct call *c)
{
    if (l->n == l->cap) {
        uint32_t cap = l->cap ? 2 * l->cap : 64;
        struct call *more = static_cast<struct call *>(realloc(l->call, cap * sizeof *more));

        if (!more)
            return false;
        l->call = more;
        l->cap = cap;
    }
    l->call[l->n++] = *c;
    return true;
}

void graph_run(struct gpu *g)
{
    struct gpu_host *h = g->host;
    uint32_t size = graph_size(h->b->n_tok);
    struct graph *known = find(h, size);
    uint32_t rows = known ? known->rows : rows_fitting(g, &h->calls, size);

    if (rows < h->b->n_tok) {
        gpu_fail(g, "cuda: step %llu of %u rows does not fit its buffers", (unsigned long long)g->step, h->b->n_tok);
        return;
    }
    if (!bring(g, rows) || (!known && !scratch_for_all(g, rows)))
        return;
    known = find(h, size);                 /* bringing may have moved a buffer and dropped all graphs */
    if (!known)
        known = make(g, size, rows);
    if (known)
        gpu_check(g, cudaGraphLaunch(known->exec, g->stream), "graph: launch", rows, h->calls.n, 0);
}

void graph_drop_all(struct gpu *g)
{
    struct gpu_host *h = g->host;

    if (h->n_graph)
        cudaStreamSynchronize(g->stream);
    for (uint32_t i = 0; i < h->n_graph; i++) {
        cudaGraphExecDestroy(h->graph[i].exec);
        free(h->graph[i].calls.call);
    }
    h->n_graph = 0;
}
