/* timed.cu - for benchmarks: device time of recorded calls, and the roofs of this GPU.
 *
 * Calls are recorded into one CUDA graph and replayed between two events, so that launching costs what it costs
 * in a recorded step and nothing of the host is in the time. Before each replay L2 is overwritten several times, which
 * also keeps the GPU busy until the host has handed in the graph: one of 200 nodes may take longer to launch
 * than L2 to be overwritten once. Roofs are measured in the
 * same way: a large copy, a streaming read, a large product by the vendor's library, a bare loop of the tensor-core
 * instruction that our kernels use, and launches of a kernel that does nothing. Sizes follow the memory there is, so that the
 * emulated device runs the same code. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cuda/matmul.h"
#include "kernels/cuda/step.h"
#include "kernels/cuda/timed.h"

namespace {

struct gpu *gpu_of(struct device *d) { return static_cast<struct gpu *>(d->self); }

/* ---- recording and replaying ---- */

struct recording {
    cudaGraphExec_t exec;
    cudaEvent_t from, until;
    void *flush;
    size_t flush_bytes;
};

bool record(struct gpu *g, struct recording *r, void (*work)(void *, uint32_t), void *arg, uint32_t repeat)
{
    cudaGraph_t graph = NULL;

    if (!gpu_check(g, cudaStreamSynchronize(g->stream), "timed: before", repeat, 0, 0) ||
        !gpu_check(g, cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeRelaxed), "timed: begin", repeat, 0, 0))
        return false;
    g->host->capturing = true;
    for (uint32_t i = 0; i < repeat; i++)
        work(arg, i);
    g->host->capturing = false;
    if (gpu_check(g, cudaStreamEndCapture(g->stream, &graph), "timed: end", repeat, 0, 0))
        gpu_check(g, cudaGraphInstantiate(&r->exec, graph, 0), "timed: make", repeat, 0, 0);
    if (graph)
        cudaGraphDestroy(graph);
    return !g->err.code;
}

bool open(struct gpu *g, struct recording *r)
{
    int l2 = 0;

    *r = { NULL, NULL, NULL, NULL, 0 };
    if (!gpu_check(g, cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, 0), "L2 size", 0, 0, 0))
        return false;
    r->flush_bytes = 2 * static_cast<size_t>(l2 > 0 ? l2 : 1);
    return gpu_check(g, cudaMalloc(&r->flush, r->flush_bytes), "timed: flush buffer", 0, 0, 0) &&
           gpu_check(g, cudaEventCreate(&r->from), "event", 0, 0, 0) &&
           gpu_check(g, cudaEventCreate(&r->until), "event", 0, 0, 0);
}

void close(struct recording *r)
{
    if (r->exec)
        cudaGraphExecDestroy(r->exec);
    if (r->from)
        cudaEventDestroy(r->from);
    if (r->until)
        cudaEventDestroy(r->until);
    cudaFree(r->flush);
}

enum { FLUSHES = 5 };                       /* of 2 L2: about 200 us on an H200 (computed) */

/* ns of one replay, L2 cold. */
bool replay(struct gpu *g, struct recording *r, double *ns)
{
    float ms = 0;

    for (int i = 0; i < FLUSHES; i++)
        if (!gpu_check(g, cudaMemsetAsync(r->flush, i, r->flush_bytes, g->stream), "timed: flush", 0, 0, 0))
            return false;
    if (!gpu_check(g, cudaEventRecord(r->from, g->stream), "event", 0, 0, 0) ||
        !gpu_check(g, cudaGraphLaunch(r->exec, g->stream), "timed: launch", 0, 0, 0) ||
        !gpu_check(g, cudaEventRecord(r->until, g->stream), "event", 0, 0, 0) ||
        !gpu_check(g, cudaEventSynchronize(r->until), "timed: wait", 0, 0, 0) ||
        !gpu_check(g, cudaEventElapsedTime(&ms, r->from, r->until), "event", 0, 0, 0))
        return false;
    *ns = static_cast<double>(ms) * 1e6;
    return true;
}

bool timed(struct gpu *g, void (*work)(void *, uint32_t), void *arg, uint32_t repeat, uint32_t rounds, double *out)
{
    struct recording r;
    bool good = open(g, &r) && record(g, &r, work, arg, repeat) && replay(g, &r, out);     /* one to warm up */

    for (uint32_t i = 0; good && i < rounds; i++) {
        good = replay(g, &r, out + i);
        out[i] /= repeat;
    }
    close(&r);
    return good;
}

/* ---- what roofs run ---- */

__global__ void nothing(uint32_t) {}

/* Sums all of x; the sum is stored only if it is a number that no sum is, which the compiler cannot know. */
__global__ void read_all(const uint4 *x, size_t n, uint32_t *out)
{
    uint32_t sum = 0;
    size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;

#pragma unroll 8
    for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
        uint4 v = ld_stream_16(x + i);

        sum |= v.x | v.y | v.z | v.w;
    }
    if (sum == 0xffffffffu)
        *out = sum;
}

/* 8 independent chains a warp: enough to hide the latency of the instruction. */
__global__ void mma_loop(uint32_t rounds, float *out)
{
    float d[8][4] = {};
    uint32_t a[4] = { 0x3c003c00u, 0x38003800u, threadIdx.x, 0x34003400u }, b[2] = { 0x3c003800u, 0x2c002c00u };

    for (uint32_t i = 0; i < rounds; i++)
#pragma unroll
        for (int c = 0; c < 8; c++)
            mma_f16(d[c], a, b);
    for (int c = 0; c < 8; c++)
        if (d[c][0] + d[c][1] + d[c][2] + d[c][3] == -1.0f)
            *out = d[c][0];
}

struct roof_work {
    struct gpu *g;
    unsigned char *a, *b;
    size_t bytes;
    uint32_t rounds, size;
    struct weight w;
};

void copy_once(void *arg, uint32_t)
{
    struct roof_work *r = static_cast<struct roof_work *>(arg);

    gpu_check(r->g, cudaMemcpyAsync(r->b, r->a, r->bytes, cudaMemcpyDeviceToDevice, r->g->stream), "roof: copy", 0, 0, 0);
}

void read_once(void *arg, uint32_t)
{
    struct roof_work *r = static_cast<struct roof_work *>(arg);

    gpu_check(r->g, LAUNCH(read_all, static_cast<unsigned>(r->g->n_sm * 8), 256, 0, r->g->stream,
                           reinterpret_cast<const uint4 *>(r->a), r->bytes / 16, reinterpret_cast<uint32_t *>(r->b)),
              "roof: read", 0, 0, 0);
}

void loop_once(void *arg, uint32_t)
{
    struct roof_work *r = static_cast<struct roof_work *>(arg);

    gpu_check(r->g, LAUNCH(mma_loop, static_cast<unsigned>(r->g->n_sm * 4), 128, 0, r->g->stream, r->rounds,
                           reinterpret_cast<float *>(r->b)), "roof: mma loop", 0, 0, 0);
}

void launch_once(void *arg, uint32_t)
{
    struct roof_work *r = static_cast<struct roof_work *>(arg);

    gpu_check(r->g, LAUNCH(nothing, 1, 32, 0, r->g->stream, r->rounds), "roof: launch", 0, 0, 0);
}

void product_once(void *arg, uint32_t)
{
    struct roof_work *r = static_cast<struct roof_work *>(arg);

    gpu_matmul(r->g, reinterpret_cast<half *>(r->b), reinterpret_cast<const half *>(r->a), &r->w, r->size);
}

int random_row(void *self, uint32_t row, float *out, struct err *)
{
    const uint32_t *k = static_cast<const uint32_t *>(self);
    uint64_t u = (row + 1) * 0x9e3779b97f4a7c15u;

    for (uint32_t i = 0; i < *k; i++) {
        u = u * 6364136223846793005u + 1442695040888963407u;
        out[i] = static_cast<float>(u >> 40) * 0x1p-24f - 0.5f;
    }
    return 0;
}

/* Operands of random halves: the same numbers as weights have. On the device's own stream: what cudaMemcpy leaves under
 * way is not waited for by a stream that does not block. */
bool random_halves(struct gpu *g, unsigned char *to, uint32_t rows, uint32_t k)
{
    float *x = static_cast<float *>(malloc(k * sizeof *x));
    uint16_t *h = static_cast<uint16_t *>(malloc(k * sizeof *h));
    bool good = x && h;

    for (uint32_t r = 0; good && r < rows; r++) {
        random_row(&k, r + 7, x, NULL);
        for (uint32_t i = 0; i < k; i++)
            h[i] = f16_from_f32(x[i]);
        good = gpu_check(g, cudaMemcpyAsync(to + static_cast<size_t>(r) * k * 2, h, k * 2, cudaMemcpyHostToDevice,
                                            g->stream), "roof: operands", rows, k, 0) &&
               gpu_check(g, cudaStreamSynchronize(g->stream), "roof: operands", rows, k, 0);
    }
    free(x);
    free(h);
    return good;
}

double product_flops(struct gpu *g, struct roof_work *r, struct err *e)
{
    struct row_source src = { random_row, &r->size };
    struct exec was = g->exec;
    double ns[9], flops = 0;

    r->w.fmt = { FMT_F16, 0 };
    r->w.n = r->w.k = r->size;
    if (gpu_weight_load(g, &r->w, src, e))
        return 0;
    g->exec.exact = false;                      /* the vendor's library */
    if (random_halves(g, r->a, r->size, r->size) && scratch_room(g, gpu_matmul_scratch(g, &r->w, r->size))) {
        product_once(r, 0);                     /* it chooses its kernel the first time */
        if (timed(g, product_once, r, 1, 9, ns)) {
            double best = ns[0];

            for (int i = 1; i < 9; i++)
                best = ns[i] < best ? ns[i] : best;
            flops = 2.0 * r->size * r->size * r->size / best * 1e9;
        }
    }
    g->exec = was;
    gpu_weight_free(g, &r->w);
    return flops;
}

double measure(struct gpu *g, enum dev_roof which, struct roof_work *r, struct err *e)
{
    double ns[9], best;

    switch (which) {
    case DEV_ROOF_COPY: timed(g, copy_once, r, 2, 9, ns); break;
    case DEV_ROOF_READ: timed(g, read_once, r, 2, 9, ns); break;
    case DEV_ROOF_LOOP: timed(g, loop_once, r, 1, 9, ns); break;
    case DEV_ROOF_LAUNCH: timed(g, launch_once, r, 200, 9, ns); break;
    default: return product_flops(g, r, e);
    }
    if (g->err.code)
        return 0;
    best = ns[0];
    for (int i = 1; i < 9; i++)
        best = ns[i] < best ? ns[i] : best;
    if (which == DEV_ROOF_LAUNCH)
        return best;
    if (which == DEV_ROOF_LOOP)
        return 2.0 * 16 * 8 * 16 * 8 * r->rounds * 4.0 * 4 * g->n_sm / best * 1e9;
    return static_cast<double>(r->bytes) * (which == DEV_ROOF_COPY ? 2 : 1) / best * 1e9;
}

} // namespace

int gpu_timed(struct device *d, void (*work)(void *, uint32_t), void *arg, uint32_t repeat, uint32_t rounds,
              double *out, struct err *e)
{
    struct gpu *g = gpu_of(d);

    step_settle(g);
    if (!g->err.code) {
        work(arg, 0);                           /* room for scratch, a choice of kernel: before recording */
        timed(g, work, arg, repeat, rounds, out);
    }
    return g->err.code ? err_set(e, g->err.code, "%s", g->err.text) : 0;
}

double gpu_roof(struct device *d, enum dev_roof which, struct err *e)
{
    struct gpu *g = gpu_of(d);
    struct roof_work r = {};
    size_t free_bytes = 0, all = 0;
    double value = 0;
    bool large;

    step_settle(g);
    if (!gpu_check(g, cudaMemGetInfo(&free_bytes, &all), "free memory", 0, 0, 0)) {
        err_set(e, g->err.code, "%s", g->err.text);
        return 0;
    }
    large = free_bytes >= static_cast<size_t>(6) << 30;
    r.g = g;
    r.bytes = large ? static_cast<size_t>(2) << 30 : static_cast<size_t>(1) << 16;
    r.size = large ? 8192 : 64;
    r.rounds = large ? 4096 : 2;
    if (gpu_check(g, cudaMalloc(reinterpret_cast<void **>(&r.a), r.bytes), "roof: memory", 0, 0, 0) &&
        gpu_check(g, cudaMalloc(reinterpret_cast<void **>(&r.b), r.bytes), "roof: memory", 0, 0, 0) &&
        gpu_check(g, cudaMemsetAsync(r.a, 0x11, r.bytes, g->stream), "roof: memory", 0, 0, 0))
        value = measure(g, which, &r, e);
    cudaFree(r.a);
    cudaFree(r.b);
    if (g->err.code)
        err_set(e, g->err.code, "%s", g->err.text);
    return g->err.code ? 0 : value;
}
