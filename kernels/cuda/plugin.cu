/* plugin.cu - the CUDA device: opening it, its time, its errors, its table of operations.
 *
 * Built into device_cuda.so, whose one visible name is servelab_device; kernels/cuda/device_cuda.c opens it.
 * One GPU (the first that CUDA_VISIBLE_DEVICES leaves), one stream, one thread. Time is CLOCK_MONOTONIC since
 * open, as on cpu: a step's time is what the host sees until end() has waited for the stream. Memory is in memory.cu.
 *
 * What must stay true: every CUDA call's result goes through gpu_check or is handled where it stands. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/cuda/matmul.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/step.h"
#include "kernels/cuda/timed.h"

bool gpu_check(struct gpu *g, cudaError_t rc, const char *operation, uint32_t m, uint32_t n, uint32_t k)
{
    char shape[64] = "";

    if (rc == cudaSuccess)
        return true;
    cudaGetLastError();                    /* else the next launch would report it again */
    if (m)
        snprintf(shape, sizeof shape, k ? " (%u x %u x %u)" : n ? " (%u x %u)" : " (%u)", m, n, k);
    err_set(&g->err, EXIT_RUN_FAILED, "cuda: %s%s in step %llu: %s%s", operation, shape,
            (unsigned long long)g->step, cudaGetErrorString(rc),
            rc == cudaErrorMemoryAllocation ? "; give less KV (--kv), a smaller model or a smaller batch" : "");
    return false;
}

void gpu_fail(struct gpu *g, const char *fmt, ...)
{
    char text[sizeof g->err.text];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(&g->err, EXIT_RUN_FAILED, "%s", text);
}

/* ---- what is here ---- */

namespace {

enum { LEAST_CC = 80, LEAST_SCRATCH = 1 << 20, MOST_SCRATCH = 128 << 20 };

struct gpu *gpu_of(const struct device *d) { return static_cast<struct gpu *>(d->self); }

int say(char *line, size_t n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int say(char *line, size_t n, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, n, fmt, ap);
    va_end(ap);
    return -1;
}

int no_driver(char *line, size_t n)
{
    int driver = 0, runtime = 0;

    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (!driver)
        return say(line, n, "no NVIDIA driver on this machine (libcuda.so.1 was not found)");
    return say(line, n, "the NVIDIA driver knows CUDA %d.%d, the plug-in needs %d.%d: update the driver, or "
               "build with an older toolkit", driver / 1000, driver % 1000 / 10, runtime / 1000,
               runtime % 1000 / 10);
}

int no_gpu(char *line, size_t n)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");

    return say(line, n, "the NVIDIA driver finds no GPU%s%s%s", visible ? " (CUDA_VISIBLE_DEVICES is '" : "",
               visible ? visible : "", visible ? "')" : "");
}

/* 0 when the first GPU can be used; else -1 and the reason. */
int find_gpu(char *line, size_t n)
{
    int count = 0, major = 0, minor = 0;
    cudaError_t rc = cudaGetDeviceCount(&count);

    if (rc != cudaSuccess)
        cudaGetLastError();
    if (rc == cudaErrorInsufficientDriver)
        return no_driver(line, n);
    if (rc == cudaErrorNoDevice || (rc == cudaSuccess && !count))
        return no_gpu(line, n);
    if (rc == cudaSuccess)
        rc = cudaSetDevice(0);
    if (rc == cudaSuccess)
        rc = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    if (rc == cudaSuccess)
        rc = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
    if (rc != cudaSuccess)
        return say(line, n, "the first GPU cannot be used: %s", cudaGetErrorString(rc));
    if (10 * major + minor < LEAST_CC)
        return say(line, n, "the GPU has compute capability %d.%d; %d.%d or later is needed", major, minor,
                   LEAST_CC / 10, LEAST_CC % 10);
    return 0;
}

int describe(char *line, size_t n)
{
    struct cudaDeviceProp p;
    int driver = 0, runtime = 0;

    if (cudaGetDeviceProperties(&p, 0) != cudaSuccess)
        return say(line, n, "the GPU does not say what it is");
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    snprintf(line, n, "%s, sm_%d%d, %d SMs, %.1f GiB, driver CUDA %d.%d, built for %d.%d", p.name, p.major, p.minor,
             p.multiProcessorCount, (double)p.totalGlobalMem / 0x1p30, driver / 1000, driver % 1000 / 10,
             runtime / 1000, runtime % 1000 / 10);
    return 0;
}

int probe(char *line, size_t n)
{
    return find_gpu(line, n) || describe(line, n) ? -1 : 0;
}

/* ---- opening ---- */

uint64_t clock_ns()
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int attribute(struct gpu *g, enum cudaDeviceAttr which, const char *what)
{
    int value = 0;

    gpu_check(g, cudaDeviceGetAttribute(&value, which, 0), what, 0, 0, 0);
    return value;
}

/* Scratch to begin with: what the largest products take (matmul.h), so that a step does not ask for it when the
 * KV pool has taken all the rest; on a small device a 64th of its memory. */
size_t first_scratch(struct gpu *g)
{
    size_t unused = 0, total = 0;

    gpu_check(g, cudaMemGetInfo(&unused, &total), "memory", 0, 0, 0);
    total /= 64;
    return total < LEAST_SCRATCH ? (size_t)LEAST_SCRATCH : total > MOST_SCRATCH ? (size_t)MOST_SCRATCH : total;
}

void open_gpu(struct gpu *g)
{
    struct gpu_host *h = g->host;
    const char *sync = getenv("SERVELAB_CUDA_SYNC");

    h->t0_ns = clock_ns();
    h->sync_each = sync && *sync && strcmp(sync, "0");
    g->cc = 10 * attribute(g, cudaDevAttrComputeCapabilityMajor, "compute capability") +
            attribute(g, cudaDevAttrComputeCapabilityMinor, "compute capability");
    g->n_sm = attribute(g, cudaDevAttrMultiProcessorCount, "number of SMs");
    g->smem_max = (size_t)attribute(g, cudaDevAttrMaxSharedMemoryPerBlockOptin, "shared memory");
    g->n_counter = GPU_COUNTERS;
    if (gpu_check(g, cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking), "stream", 0, 0, 0) &&
        gpu_check(g, cudaEventCreate(&h->from), "event", 0, 0, 0) &&
        gpu_check(g, cudaEventCreate(&h->until), "event", 0, 0, 0) &&
        gpu_check(g, cudaMalloc(reinterpret_cast<void **>(&g->counter), GPU_COUNTERS * sizeof *g->counter),
                  "counters", GPU_COUNTERS, 0, 0) &&
        gpu_check(g, cudaMemsetAsync(g->counter, 0, GPU_COUNTERS * sizeof *g->counter, g->stream), "counters",
                  GPU_COUNTERS, 0, 0) && scratch_room(g, first_scratch(g)) && gpu_runs(g))
        gpu_check(g, cudaStreamSynchronize(g->stream), "opening", 0, 0, 0);
}

void close(struct device *d)
{
    struct gpu *g = gpu_of(d);
    struct gpu_host *h = g ? g->host : NULL;

    if (!h) {
        free(g);
        d->self = NULL;
        return;
    }
    if (g->stream)
        cudaStreamSynchronize(g->stream);
    graph_drop_all(g);
    gpu_matmul_close(g);
    for (struct image *i : { &h->arrays, &h->plan, &h->lone, &h->picked })
        image_free(i);
    cudaFree(g->scratch);
    cudaFree(g->counter);
    if (h->from)
        cudaEventDestroy(h->from);
    if (h->until)
        cudaEventDestroy(h->until);
    if (g->stream)
        cudaStreamDestroy(g->stream);
    cudaGetLastError();
    free(h->calls.call);
    free(h->graph);
    free(h->block);
    free(h);
    free(g);
    d->self = NULL;
}

int open(struct device *d, const struct device_conf *c, struct err *e)
{
    char line[160];
    size_t free_now = 0, all = 0;
    struct gpu *g;

    (void)c;
    if (find_gpu(line, sizeof line) || describe(line, sizeof line))
        return err_set(e, EXIT_RUN_FAILED, "cuda: %s", line);
    d->self = g = static_cast<struct gpu *>(calloc(1, sizeof *g));
    if (g)
        g->host = static_cast<struct gpu_host *>(calloc(1, sizeof *g->host));
    if (!g || !g->host) {
        close(d);
        return err_set(e, EXIT_RUN_FAILED, "cuda: out of memory");
    }
    g->exec = d->exec;
    open_gpu(g);
    if (!g->err.code && !gpu_attend_open(g, &g->err))
        gpu_matmul_open(g, &g->err);
    if (g->err.code) {
        err_set(e, g->err.code, "%s", g->err.text);
        close(d);
        return -1;
    }
    snprintf(d->label, sizeof d->label, "cuda %.150s", line);
    if (cudaMemGetInfo(&free_now, &all) == cudaSuccess)
        d->mem_bytes = all;
    return 0;
}

int exec(struct device *d, const struct exec *x, struct err *e)
{
    struct gpu *g = gpu_of(d);

    (void)e;
    if (x->fused != g->exec.fused || x->graph != g->exec.graph || x->exact != g->exec.exact)
        graph_drop_all(g);
    g->exec = *x;
    return 0;
}

/* ---- time ---- */

uint64_t now(struct device *d)
{
    const struct gpu_host *h = gpu_of(d)->host;

    return clock_ns() - h->t0_ns + h->skipped_ns;
}

void idle(struct device *d, uint64_t until_ns)
{
    struct gpu_host *h = gpu_of(d)->host;
    uint64_t from = now(d), at = until_ns + h->t0_ns - h->skipped_ns;
    struct timespec t = { (time_t)(at / 1000000000u), (long)(at % 1000000000u) };

    if (until_ns <= from)
        return;
    if (d->pace != PACE_WALL)
        h->skipped_ns += until_ns - from;
    else
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
        }
}

struct device_ops make_ops()
{
    struct device_ops o = {};

    step_ops(&o);
    memory_ops(&o);

    o.abi = DEVICE_ABI, o.name = "cuda", o.about = "an NVIDIA GPU, compute capability 8.0 or later (plug-in)";
    o.computes = true;
    o.act_bytes = sizeof(__half);
    o.weight_fmts = GPU_WEIGHT_FMTS;
    o.kv_fmts = FMT_BIT(FMT_F16) | FMT_BIT(FMT_INT8) | FMT_BIT(FMT_FP8);
    o.open = open, o.close = close, o.probe = probe, o.exec = exec;
    o.now = now, o.idle = idle;
    o.timed = gpu_timed, o.roof = gpu_roof;
    return o;
}

} // namespace

extern "C" __attribute__((visibility("default"))) const struct device_ops *servelab_device(void);
extern "C" const struct device_ops *servelab_device(void)
{
    static const struct device_ops ops = make_ops();

    return &ops;
}
