/* memory.cu - the CUDA device's memory: what the seam asks for, scratch, pinned images; numbers to and from it.
 *
 * Every block given out is remembered with its size, so that a graph knows how many rows its buffers have room
 * for. Running out is no error here: the seam asks for less, or says what does not fit.
 *
 * What must stay true: device memory that goes away or moves drops the recorded graphs first. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/matmul.h"
#include "kernels/cuda/step.h"

namespace {

enum { LEAST_IMAGE = 1 << 20 };

struct gpu *gpu_of(const struct device *d) { return static_cast<struct gpu *>(d->self); }

bool remember(struct gpu_host *h, void *at, uint64_t bytes)
{
    if (h->n_block == h->cap_block) {
        uint32_t cap = h->cap_block ? 2 * h->cap_block : 64;
        struct gpu_host::block *more = static_cast<struct gpu_host::block *>(realloc(h->block, cap * sizeof *more));

        if (!more)
            return false;
        h->block = more;
        h->cap_block = cap;
    }
    h->block[h->n_block++] = { static_cast<unsigned char *>(at), bytes };
    return true;
}

/* NULL when there is none: no error, dev_kv_open asks for less. */
void *alloc(struct device *d, uint64_t bytes)
{
    void *p = NULL;

    if (cudaMalloc(&p, bytes) == cudaSuccess && remember(gpu_of(d)->host, p, bytes))
        return p;
    cudaGetLastError();
    cudaFree(p);
    return NULL;
}

void release(struct device *d, void *p)
{
    struct gpu *g = gpu_of(d);
    struct gpu_host *h = g->host;

    graph_drop_all(g);
    for (uint32_t i = 0; i < h->n_block; i++)
        if (h->block[i].at == p) {
            h->block[i] = h->block[--h->n_block];
            break;
        }
    gpu_check(g, cudaFree(p), "free", 0, 0, 0);
}

void *host_alloc(struct device *d, uint64_t bytes)
{
    void *p = NULL;

    (void)d;
    if (cudaHostAlloc(&p, bytes, cudaHostAllocDefault) == cudaSuccess)
        return p;
    cudaGetLastError();
    return NULL;
}

void host_release(struct device *d, void *p)
{
    gpu_check(gpu_of(d), cudaFreeHost(p), "free of host memory", 0, 0, 0);
}

int load_weight(struct device *d, struct weight *w, struct row_source src, struct err *e)
{
    return gpu_weight_load(gpu_of(d), w, src, e);
}

void free_weight(struct device *d, struct weight *w)
{
    graph_drop_all(gpu_of(d));
    gpu_weight_free(gpu_of(d), w);
}

void put(struct device *d, void *act, const float *x, size_t n)
{
    struct gpu *g = gpu_of(d);
    uint16_t *half = static_cast<uint16_t *>(malloc(n * sizeof *half));

    step_settle(g);
    if (!half) {
        gpu_fail(g, "cuda: out of memory for %zu values", n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        half[i] = f16_from_f32(x[i]);
    if (gpu_check(g, cudaMemcpyAsync(act, half, n * sizeof *half, cudaMemcpyHostToDevice, g->stream), "put",
                  (uint32_t)n, 0, 0))
        gpu_check(g, cudaStreamSynchronize(g->stream), "put", (uint32_t)n, 0, 0);
    free(half);
}

void get(struct device *d, float *x, const void *act, size_t n)
{
    struct gpu *g = gpu_of(d);
    uint16_t *half = static_cast<uint16_t *>(calloc(n ? n : 1, sizeof *half));

    step_settle(g);
    if (!half) {
        gpu_fail(g, "cuda: out of memory for %zu values", n);
        return;
    }
    if (gpu_check(g, cudaMemcpyAsync(half, act, n * sizeof *half, cudaMemcpyDeviceToHost, g->stream), "get",
                  (uint32_t)n, 0, 0))
        gpu_check(g, cudaStreamSynchronize(g->stream), "get", (uint32_t)n, 0, 0);
    for (size_t i = 0; i < n; i++)
        x[i] = f32_from_f16(half[i]);
    free(half);
}

size_t at_least_double(size_t had, size_t bytes, size_t least)
{
    size_t want = bytes < least ? least : bytes;

    return want < 2 * had ? 2 * had : want;
}

} // namespace

void memory_ops(struct device_ops *o)
{
    o->alloc = alloc, o->release = release, o->host_alloc = host_alloc, o->host_release = host_release;
    o->weight = load_weight, o->weight_free = free_weight, o->put = put, o->get = get;
}

uint64_t bytes_behind(const struct gpu *g, const void *p)
{
    const unsigned char *at = static_cast<const unsigned char *>(p);
    const struct gpu_host *h = g->host;

    for (uint32_t i = 0; i < h->n_block; i++)
        if (at >= h->block[i].at && at < h->block[i].at + h->block[i].bytes)
            return (uint64_t)(h->block[i].at + h->block[i].bytes - at);
    return 0;
}

bool scratch_room(struct gpu *g, size_t bytes)
{
    void *more = NULL;

    if (bytes <= g->scratch_bytes)
        return !g->err.code;
    graph_drop_all(g);
    gpu_check(g, cudaStreamSynchronize(g->stream), "scratch", 0, 0, 0);
    cudaFree(g->scratch);
    g->scratch = NULL;
    g->scratch_bytes = 0;
    if (!gpu_check(g, cudaMalloc(&more, bytes), "scratch of an operation, KiB", (uint32_t)(bytes >> 10), 0, 0))
        return false;
    g->scratch = more;
    g->scratch_bytes = bytes;
    return !g->err.code;
}

void image_free(struct image *i)
{
    cudaFreeHost(i->host);
    cudaFree(i->device);
    *i = { NULL, NULL, 0 };
}

bool image_room(struct gpu *g, struct image *i, size_t bytes)
{
    size_t want = at_least_double(i->bytes, bytes, LEAST_IMAGE);
    void *host = NULL, *device = NULL;

    if (bytes <= i->bytes)
        return !g->err.code;
    graph_drop_all(g);
    gpu_check(g, cudaStreamSynchronize(g->stream), "staging", 0, 0, 0);
    image_free(i);
    if (!gpu_check(g, cudaHostAlloc(&host, want, cudaHostAllocDefault), "pinned memory, KiB", (uint32_t)(want >> 10),
                   0, 0))
        return false;
    i->host = static_cast<unsigned char *>(host);
    if (!gpu_check(g, cudaMalloc(&device, want), "staging memory, KiB", (uint32_t)(want >> 10), 0, 0))
        return false;
    i->device = static_cast<unsigned char *>(device);
    i->bytes = want;
    return !g->err.code;
}
