/* emu_cuda.cc - the emulated CUDA runtime: one made-up device, its memory, copies and launches.
 *
 * Device memory is made of heap blocks, so that ASan sees every access outside of them, freshly
 * filled with NaN; the device's size is enforced, so that running out of it can be tested.
 * Prototypes are the toolkit's. */
#include <algorithm>
#include <map>
#include <stdlib.h>
#include <vector>

#include "tests/emu/emu_run.h"

enum : size_t { FILL_WHOLE = 16u << 20, FILL_ENDS = 1u << 20 };

static struct { int cc, n_sm; size_t memory, used; } dev = { 90, 6, (size_t)2 << 30, 0 };
static std::map<const char *, size_t> device_block, pinned_block;
static std::map<const void *, int> kernel_shared;
static cudaError_t last_error;

void emu_device(int cc, int n_sm, size_t memory)
{
    emu_drain();
    dev.cc = cc;
    dev.n_sm = n_sm;
    dev.memory = memory;
}
size_t emu_device_bytes(void) { return dev.used; }
const struct emu_counts *emu_counters(void)
{
    emu_drain();
    return &emu_count;
}
void emu_counters_reset(void)
{
    emu_drain();
    emu_count = {};
}
cudaError_t emu_error(cudaError_t e)
{
    if (e != cudaSuccess)
        last_error = e;
    return e;
}
static struct { const char *api; uint64_t after; cudaError_t rc; } injected;
void emu_fail(const char *api, uint64_t after, cudaError_t rc) { injected = { api, after, rc }; }
cudaError_t emu_injected(const char *api)
{
    if (!injected.api || strcmp(injected.api, api) || injected.after-- > 0)
        return cudaSuccess;
    injected.api = nullptr;
    return emu_error(injected.rc);
}
cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last_error;

    last_error = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError(void) { return last_error; }
const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureImplicit:
        return "operation would make the legacy stream depend on a capturing blocking stream";
    default: return "an emulated CUDA error";
    }
}
const char *cudaGetErrorName(cudaError_t e)
{
    return e == cudaSuccess                 ? "cudaSuccess"
           : e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
           : e == cudaErrorInvalidValue     ? "cudaErrorInvalidValue"
                                            : "cudaError";
}

/* --- The device. */
/* 227, 163 or 99 KB (CUDA programming guide, "Technical Specifications per Compute Capability"). */
static int shared_max(void)
{
    return dev.cc >= 90 && dev.cc < 120 ? 232448 : dev.cc == 80 || dev.cc == 87 ? 166912 : 101376;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = dev.n_sm > 0;
    return *n ? cudaSuccess : emu_error(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int i)
{
    return i || dev.n_sm <= 0 ? emu_error(cudaErrorInvalidDevice) : cudaSuccess;
}
cudaError_t cudaGetDevice(int *i)
{
    *i = 0;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *v)
{
    *v = dev.n_sm > 0 ? CUDART_VERSION : 0;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v)
{
    *v = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaDeviceReset(void) { return cudaDeviceSynchronize(); }
cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int i)
{
    if (i || dev.n_sm <= 0)
        return emu_error(cudaErrorInvalidDevice);
    switch (a) {
    case cudaDevAttrComputeCapabilityMajor: *v = dev.cc / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *v = dev.cc % 10; break;
    case cudaDevAttrMultiProcessorCount: *v = dev.n_sm; break;
    case cudaDevAttrMaxThreadsPerBlock: *v = 1024; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *v = 2048; break;
    case cudaDevAttrWarpSize: *v = 32; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *v = 49152; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = shared_max(); break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *v = shared_max() + 1024; break;
    case cudaDevAttrL2CacheSize: *v = 1 << 20; break;
    case cudaDevAttrMemoryPoolsSupported: *v = 0; break;
    default: return emu_error(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int i)
{
    if (i || dev.n_sm <= 0)
        return emu_error(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated sm_%d", dev.cc);
    p->totalGlobalMem = dev.memory;
    p->sharedMemPerBlock = 49152;
    p->sharedMemPerBlockOptin = (size_t)shared_max();
    p->sharedMemPerMultiprocessor = (size_t)shared_max() + 1024;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    p->multiProcessorCount = dev.n_sm;
    p->major = dev.cc / 10;
    p->minor = dev.cc % 10;
    p->l2CacheSize = 1 << 20;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *unused, size_t *total)
{
    *unused = dev.memory > dev.used ? dev.memory - dev.used : 0;
    *total = dev.memory;
    return cudaSuccess;
}

/* --- Memory. */
static bool inside(const std::map<const char *, size_t> &blocks, const void *p, size_t n)
{
    const char *at = static_cast<const char *>(p);
    auto next = blocks.upper_bound(at);

    if (next == blocks.begin())
        return false;
    --next;
    return (size_t)(at - next->first) <= next->second &&
           n <= next->second - (size_t)(at - next->first);
}
bool emu_is_pinned(const void *p) { return inside(pinned_block, p, 1); }

static void *block_new(size_t n)
{
    void *p = nullptr;

    if (posix_memalign(&p, 256, n))
        return nullptr;
    if (n <= FILL_WHOLE) {
        memset(p, 0xff, n);
    } else {
        memset(p, 0xff, FILL_ENDS);
        memset(static_cast<char *>(p) + n - FILL_ENDS, 0xff, FILL_ENDS);
    }
    return p;
}
cudaError_t cudaMalloc(void **p, size_t n)
{
    if (cudaError_t e = emu_injected("cudaMalloc"))
        return e;
    *p = nullptr;
    if (emu_capture_broken())
        return emu_error(cudaErrorStreamCaptureUnsupported);
    emu_drain();
    if (!n)
        return cudaSuccess;
    if (n > dev.memory || dev.used > dev.memory - n || !(*p = block_new(n)))
        return emu_error(cudaErrorMemoryAllocation);
    device_block[static_cast<char *>(*p)] = n;
    dev.used += n;
    return cudaSuccess;
}
static cudaError_t block_free(std::map<const char *, size_t> &blocks, void *p, size_t *n)
{
    auto at = blocks.find(static_cast<char *>(p));

    if (emu_capture_broken())
        return emu_error(cudaErrorStreamCaptureUnsupported);
    emu_drain();
    if (at == blocks.end())
        return emu_error(cudaErrorInvalidValue);
    *n = at->second;
    blocks.erase(at);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaFree(void *p)
{
    size_t n = 0;
    cudaError_t e = p ? block_free(device_block, p, &n) : cudaSuccess;

    dev.used -= n;
    return e;
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned int)
{
    if (cudaError_t e = emu_injected("cudaHostAlloc"))
        return e;
    *p = nullptr;
    if (emu_capture_broken())
        return emu_error(cudaErrorStreamCaptureUnsupported);
    if (!(*p = block_new(n ? n : 1)))
        return emu_error(cudaErrorMemoryAllocation);
    pinned_block[static_cast<char *>(*p)] = n;
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t n) { return cudaHostAlloc(p, n, 0); }
cudaError_t cudaFreeHost(void *p)
{
    size_t n;

    return p ? block_free(pinned_block, p, &n) : cudaSuccess;
}
cudaError_t cudaHostRegister(void *p, size_t n, unsigned int)
{
    pinned_block[static_cast<char *>(p)] = n;
    return cudaSuccess;
}
cudaError_t cudaHostUnregister(void *p)
{
    emu_drain();
    return pinned_block.erase(static_cast<char *>(p)) ? cudaSuccess
                                                      : emu_error(cudaErrorHostMemoryNotRegistered);
}
cudaError_t cudaHostGetDevicePointer(void **d, void *h, unsigned int)
{
    *d = h;
    return emu_is_pinned(h) ? cudaSuccess : emu_error(cudaErrorInvalidValue);
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p)
{
    memset(a, 0, sizeof *a);
    a->type = inside(device_block, p, 1) ? cudaMemoryTypeDevice :
              emu_is_pinned(p) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    return cudaSuccess;
}

/* --- Copies. Whether each side lies where the call says is checked; CUDA finds it out later. */
static bool sides(const void *dst, const void *src, size_t n, cudaMemcpyKind kind)
{
    bool to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;

    return !n || ((!to || inside(device_block, dst, n)) && (!from || inside(device_block, src, n)));
}
struct rect { void *dst; size_t dpitch; const void *src; size_t spitch, width, height; };
static void rect_copy(const rect &r)
{
    for (size_t i = 0; i < r.height; i++)
        memmove(static_cast<char *>(r.dst) + i * r.dpitch,
                static_cast<const char *>(r.src) + i * r.spitch, r.width);
    emu_count.copy_bytes += r.width * r.height;
}
static bool on_device(const void *p) { return inside(device_block, p, 1); }

static cudaError_t rect_push(const rect &r, cudaMemcpyKind kind, cudaStream_t s)
{
    size_t dn = r.height ? (r.height - 1) * r.dpitch + r.width : 0,
           sn = r.height ? (r.height - 1) * r.spitch + r.width : 0;

    if (!r.width || !r.height)
        return cudaSuccess;
    if (r.width > r.dpitch || r.width > r.spitch || !sides(r.dst, r.src, 1, kind) ||
        (on_device(r.dst) && !inside(device_block, r.dst, dn)) ||
        (on_device(r.src) && !inside(device_block, r.src, sn)))
        return emu_error(cudaErrorInvalidValue);
    if (emu_capturing(s))
        return emu_push(s, [r] { rect_copy(r); });
    if (!on_device(r.src) && !emu_is_pinned(r.src)) { /* pageable: taken before the call returns */
        std::vector<char> bytes(static_cast<const char *>(r.src),
                                static_cast<const char *>(r.src) + sn);

        return emu_push(s, [r, bytes] {
            rect q = r;

            q.src = bytes.data();
            rect_copy(q);
        });
    }
    cudaError_t e = emu_push(s, [r] { rect_copy(r); });
    if (e == cudaSuccess && !on_device(r.dst) && !emu_is_pinned(r.dst))
        emu_drain(); /* pageable: there when the call returns */
    return e;
}
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, cudaMemcpyKind kind,
                            cudaStream_t s)
{
    if (cudaError_t e = emu_injected("cudaMemcpyAsync"))
        return e;
    return rect_push({ dst, n, src, n, n, 1 }, kind, s);
}
cudaError_t cudaMemcpy(void *dst, const void *src, size_t n, cudaMemcpyKind kind)
{
    if (cudaError_t e = emu_injected("cudaMemcpy"))
        return e;
    cudaError_t e = rect_push({ dst, n, src, n, n, 1 }, kind, nullptr);

    if (e == cudaSuccess)
        emu_drain();
    return e;
}
cudaError_t cudaMemcpy2DAsync(void *dst, size_t dpitch, const void *src, size_t spitch,
                              size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t s)
{
    return rect_push({ dst, dpitch, src, spitch, width, height }, kind, s);
}
cudaError_t cudaMemcpy2D(void *dst, size_t dpitch, const void *src, size_t spitch, size_t width,
                         size_t height, cudaMemcpyKind kind)
{
    cudaError_t e = rect_push({ dst, dpitch, src, spitch, width, height }, kind, nullptr);

    if (e == cudaSuccess)
        emu_drain();
    return e;
}
cudaError_t cudaMemsetAsync(void *p, int v, size_t n, cudaStream_t s)
{
    if (cudaError_t e = emu_injected("cudaMemsetAsync"))
        return e;
    if (n && !inside(device_block, p, n) && !inside(pinned_block, p, n))
        return emu_error(cudaErrorInvalidValue);
    return emu_push(s, [p, v, n] {
        memset(p, v, n);
        emu_count.copy_bytes += n;
    });
}
cudaError_t cudaMemset(void *p, int v, size_t n) { return cudaMemsetAsync(p, v, n, nullptr); }

/* --- Kernels. */
static int shared_allowed(const void *kernel)
{
    auto at = kernel_shared.find(kernel);

    return at == kernel_shared.end() ? 49152 : std::max(49152, at->second);
}
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute a, int v)
{
    if (a == cudaFuncAttributePreferredSharedMemoryCarveout)
        return cudaSuccess;
    if (a != cudaFuncAttributeMaxDynamicSharedMemorySize || v < 0 || v > shared_max())
        return emu_error(cudaErrorInvalidValue);
    kernel_shared[kernel] = v;
    return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *a, const void *kernel)
{
    memset(a, 0, sizeof *a);
    a->maxThreadsPerBlock = 1024;
    a->maxDynamicSharedSizeBytes = shared_allowed(kernel);
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *kernel, int block,
                                                          size_t smem)
{
    if (block <= 0 || block > 1024 || smem > (size_t)shared_allowed(kernel))
        return emu_error(cudaErrorInvalidValue);
    *n = std::min(2048 / block, (int)(((size_t)shared_max() + 1024) / (smem + 1024)));
    return cudaSuccess;
}
cudaError_t emu_launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t smem,
                       cudaStream_t stream, std::function<void()> body)
{
    uint64_t threads = (uint64_t)block.x * block.y * block.z;

    if (cudaError_t e = emu_injected("launch"))
        return e;
    if (!threads || threads > 1024 || !grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu ||
        grid.y > 65535 || grid.z > 65535 || block.z > 64)
        return cudaErrorInvalidConfiguration;
    if (smem > (size_t)shared_allowed(kernel))
        return cudaErrorInvalidValue;
    return emu_push(stream,
                    [name, grid, block, smem, body] { emu_grid(name, grid, block, smem, body); });
}
