/* emu.h - in place of a GPU: what a .cu source sees when a plain C++17 compiler builds it
 * (-include this file).
 *
 * A kernel's threads are fibers of one host thread, run block by block; a warp call or a barrier
 * switches to the next fiber. The names of kernels/cuda/prims.h have their bodies in emu_prims.h:
 * whatever touches a kernel's memory is inline there, so that ASan, UBSan and TSan see it as done
 * by the kernel's own line; the rest is in emu_*.cc, compiled without sanitizers, because TSan
 * would otherwise report the scheduler itself.
 *
 * What aborts, with a report of every thread: a barrier or warp call not reached by all, lanes of a
 * warp in different calls, misaligned or out-of-range shared addresses of ldmatrix and cp.async,
 * two cp.async under way to one place, misaligned 16-byte accesses. What becomes NaN: shared memory not yet written,
 * asynchronous copies not waited for, fresh device memory. What TSan reports: memory shared without block_sync or
 * warp_sync (inside a block), without thread_fence and an atomic (between blocks).
 *
 * Environment (or the calls below): EMU_SCHEDULE=ascending|descending|random[:SEED],
 * EMU_STREAMS=lazy|eager (lazy, the default: work runs at the next synchronisation, so that
 * forgetting one shows).
 * Not covered: time, occupancy, registers, real memory ordering, the last
 * bits of ex2 and of mma's sums. */
#ifndef EMU_H
#define EMU_H

#include <cuda_runtime.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <tuple>
#include <type_traits>

/* --- For tests. */
enum emu_order { EMU_ASCENDING, EMU_DESCENDING, EMU_RANDOM };
struct emu_counts {
    uint64_t launches, blocks, threads;
    uint64_t load_bytes, store_bytes;     /* global memory, through the wrappers; cp.async is load */
    uint64_t async_bytes;                 /* of them by cp.async, pred true */
    uint64_t ldsm, ldsm_conflicts;        /* 8 x 8 matrices read; rows that meet another's banks */
    uint64_t mma, barriers, warp_calls;
    uint64_t copy_bytes;                  /* cudaMemcpy and cudaMemset */
    uint64_t graphs_made, graph_launches;
};
void emu_schedule(enum emu_order order, uint64_t seed);
void emu_streams_lazy(bool lazy);
/* The made-up device: compute capability (90 = 9.0), SMs, bytes of device memory. Default 90, 6, 2
 * GiB. No SM: no device is found. */
void emu_device(int cc, int n_sm, size_t memory);
const struct emu_counts *emu_counters(void); /* since the last reset; runs what is still queued */
void emu_counters_reset(void);
/* The call of `api` ("cudaMalloc", "cudaMemcpyAsync", "launch", ...: see emu_injected) after
 * `after` further calls fails with rc, once; NULL: none does. */
void emu_fail(const char *api, uint64_t after, cudaError_t rc);
size_t emu_device_bytes(void);                      /* device memory not yet freed */

/* --- The runtime (emu_fiber.cc, emu_block.cc): inside a kernel. */
struct emu_thread {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
};
extern struct emu_thread *emu_self;                 /* the running fiber's */

struct emu_where { const char *file; int line; };
enum emu_call { EMU_WARP_SYNC, EMU_SHFL, EMU_VOTE, EMU_LDSM, EMU_MMA, EMU_CALL_N };

bool emu_block_sync(bool p, emu_where w);
void emu_warp_sync(emu_where w);
void emu_shfl(void *out, const void *in, int bytes, int lane, emu_where w);
uint32_t emu_ballot(bool p, emu_where w);
void emu_mma(float *d, const uint32_t *a, const uint32_t *b, bool bf16, emu_where w);
/* row: the 16 bytes that this lane's address points at; r: n registers */
void emu_ldsm(uint32_t *r, int n, bool trans, const void *at, const uint32_t *row, emu_where w);
void emu_count_load(size_t bytes);
void emu_count_store(size_t bytes);
void emu_fence(void);
void emu_atomic_before(void *p, emu_where w);
void emu_atomic_after(void *p);
void *emu_shared(void);
void emu_check_shared(const void *p, size_t bytes, size_t align, const char *call, emu_where w);
void emu_check_aligned(const void *p, size_t align, const char *call, emu_where w);
struct emu_copy { void *dst; const void *src; int bytes; bool pred; uint64_t group; };
void emu_copy_push(void *dst, const void *src, int bytes, bool pred, emu_where w);
void emu_copy_commit(void);
/* The next copy that a wait for all but `keep` groups ends. */
bool emu_copy_pop(uint64_t keep, struct emu_copy *c);

cudaError_t emu_launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t smem,
                       cudaStream_t stream, std::function<void()> body);
/* An argument as the kernel's parameter; NULL is a number by the time it gets here. */
template <class P, class A> P emu_argument(A a)
{
    if constexpr (std::is_pointer_v<P> && std::is_integral_v<A>)
        return nullptr;
    else
        return static_cast<P>(a);
}
template <class... P, class... A>
cudaError_t emu_enqueue(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t smem,
                        cudaStream_t stream, A... a)
{
    std::tuple<std::decay_t<P>...> args(emu_argument<std::decay_t<P>>(a)...);

    return emu_launch(name, reinterpret_cast<const void *>(kernel), grid, block, smem, stream,
                      [kernel, args] { std::apply(kernel, args); });
}

/* --- The language. */
#undef __shared__
#define __shared__ \
    static_assert(false, "static __shared__ arrays are not used here: DYN_SHARED (prims.h)");
#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif
#define threadIdx (emu_self->thread)
#define blockIdx (emu_self->block)
#define blockDim (emu_self->block_dim)
#define gridDim (emu_self->grid_dim)
#define PRIM inline
#define DYN_SHARED(type, name) type *name = static_cast<type *>(emu_shared())
#define LAUNCH(kernel, grid, block, smem, stream, ...) \
    emu_enqueue(#kernel, kernel, grid, block, smem, stream, ##__VA_ARGS__)

/* CUDA has these without a namespace. */
template <class T> inline T min(T a, T b) { return b < a ? b : a; }
template <class T> inline T max(T a, T b) { return a < b ? b : a; }
inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }

#include "tests/emu/emu_prims.h"

#endif
