/* prims.h - the names behind which everything stands that only a GPU can do: the contract of the kernels.
 *
 * Kernels are plain CUDA C++17 that uses nothing else of PTX and no other device intrinsic, so that the same
 * sources compile with nvcc (bodies below) and with g++ or clang++, where tests/emu runs them block by block
 * on the CPU. All names need only sm_80; what newer chips do faster is chosen inside.
 *
 * Rules that both sides rely on:
 *   - No static __shared__ arrays, no __constant__ or __device__ variables: shared memory is DYN_SHARED only.
 *   - Names marked WARP are called by all 32 lanes of a warp together, from the same line; blocks are
 *     multiples of 32 threads and no thread returns before its warp's last WARP call.
 *   - Only block_sync and warp_sync order memory between threads; a shuffle or an mma does not.
 *   - Blocks may run one after another: none waits for another. Work that was split is finished by
 *     the last arriver (last_arriver).
 *   - threadIdx, blockIdx, blockDim, gridDim, __restrict__, __launch_bounds__, dim3, float4, __half2float,
 *     __floats2half2_rn ... are the toolkit's own on both sides.
 *
 * Fragments of m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"), lane = threadIdx % 32, g = lane / 4,
 * t = lane % 4; a register holds two elements, the lower column (a, d) or row (b) in the low half:
 *   a[0] = A[g][2t, 2t+1]      a[1] = A[g+8][2t, 2t+1]    a[2] = A[g][2t+8, 2t+9]   a[3] = A[g+8][2t+8, 2t+9]
 *   b[0] = B[2t, 2t+1][g]      b[1] = B[2t+8, 2t+9][g]
 *   d[0], d[1] = D[g][2t, 2t+1]                           d[2], d[3] = D[g+8][2t, 2t+1]
 * so d of one product, packed with h2_pack and h2_bits, is a of the next (S = Q K^T, then P V). */
#ifndef KERNELS_CUDA_PRIMS_H
#define KERNELS_CUDA_PRIMS_H

#include <cuda_runtime.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

template <class T> struct prim_same { typedef T type; };      /* an argument that decides no template's T */

/* What must be said by macro:
 *   DYN_SHARED(type, name);   `type *name` at the start of the block's dynamic shared memory, 128-byte aligned
 *   LAUNCH(kernel, grid, block, smem_bytes, stream, args...)   an expression: cudaSuccess or the launch's error;
 *                             a kernel with commas in parentheses: LAUNCH((k<1, 2>), ...)
 *   PRIM                      what every device function of ours is: inline, of the device */
#ifdef __CUDACC__
#define PRIM __device__ __forceinline__
#define DYN_SHARED(type, name) \
    extern __shared__ __align__(128) unsigned char dyn_shared_bytes[]; \
    type *name = reinterpret_cast<type *>(dyn_shared_bytes)
#define LAUNCH(kernel, grid, block, smem, stream, ...) \
    (kernel<<<(grid), (block), (smem), (stream)>>>(__VA_ARGS__), cudaGetLastError())

/* --- Tensor cores. WARP. d (16 x 8, f32) += a (16 x 16) * b (16 x 8). */
PRIM void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};" : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
PRIM void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};" : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* --- ldmatrix. WARP. Reads four (x4) or two (x2) 8 x 8 matrices of 16-bit elements from shared memory. Lane l
 * passes the address of row l % 8 of matrix l / 8 (16 bytes, 16-byte aligned; x2: lanes 0..15 count, the others
 * pass any valid row). r[i] = elements [g][2t, 2t+1] of matrix i; with _trans [2t, 2t+1][g].
 * A (row-major [16][k]): x4 with matrices (rows 0-7, k 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15) = a[0..3].
 * B stored [n][k]: ldsm_x2 of (n 0-7, k 0-7), (k 8-15) = b; B stored [k][n]: the same by _trans.
 * The 8 rows of a matrix should fall into 8 different 16-byte columns modulo 128 bytes (emu counts conflicts). */
PRIM uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }
PRIM void ldsm_x4(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
PRIM void ldsm_x4_trans(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
PRIM void ldsm_x2(uint32_t (&r)[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
PRIM void ldsm_x2_trans(uint32_t (&r)[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}

/* --- Asynchronous copies, global to shared. dst and src aligned to the size; pred false: zeros are stored and
 * src is not read (it need not be valid). Copies issued by a thread since its last cp_commit form a group;
 * cp_wait<N> waits until all but the thread's last N groups are there. Visible to other threads only after
 * cp_wait and block_sync (or warp_sync). _once: read once, leaves L2 first (weights); others stay cached. */
PRIM uint64_t l2_evict_first()
{
    uint64_t policy;

    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
PRIM void cp_async16(void *dst, const void *src, bool pred = true)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared_address(dst)), "l"(__cvta_generic_to_global(src)), "r"(pred ? 16 : 0) : "memory");
}
PRIM void cp_async16_once(void *dst, const void *src, bool pred = true)
{
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;"
                 :: "r"(shared_address(dst)), "l"(__cvta_generic_to_global(src)), "r"(pred ? 16 : 0),
                 "l"(l2_evict_first()) : "memory");
}
PRIM void cp_async8(void *dst, const void *src, bool pred = true)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;"
                 :: "r"(shared_address(dst)), "l"(__cvta_generic_to_global(src)), "r"(pred ? 8 : 0) : "memory");
}
PRIM void cp_async4(void *dst, const void *src, bool pred = true)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :: "r"(shared_address(dst)), "l"(__cvta_generic_to_global(src)), "r"(pred ? 4 : 0) : "memory");
}
PRIM void cp_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> PRIM void cp_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory"); }

/* --- Global memory. ld_global/st_global: any plain type of 1, 2, 4, 8 or 16 bytes, naturally aligned; the
 * _16 forms move uint4. ld_stream_16: not kept in L1, first to leave L2; the data must not change while the
 * kernel runs. Plain dereferences are as good on a GPU; only these are counted by the emulator. */
template <class T> PRIM T ld_global(const T *p) { return *p; }
template <class T> PRIM void st_global(T *p, typename prim_same<T>::type v) { *p = v; }
PRIM uint4 ld_global_16(const void *p) { return *static_cast<const uint4 *>(p); }
PRIM void st_16(void *p, uint4 v) { *static_cast<uint4 *>(p) = v; }
PRIM uint4 ld_stream_16(const void *p)
{
    uint4 v;

    asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0,%1,%2,%3}, [%4], %5;"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(__cvta_generic_to_global(p)), "l"(l2_evict_first()));
    return v;
}

/* --- Threads. */
PRIM void block_sync() { __syncthreads(); }                       /* every thread of the block that has not returned */
PRIM bool block_any(bool p) { return __syncthreads_or(p) != 0; }  /* block_sync, and whether any passed true */
PRIM void warp_sync() { __syncwarp(); }                           /* WARP; orders memory between its lanes */
PRIM void thread_fence() { __threadfence(); }
PRIM uint32_t lane_id() { return threadIdx.x & 31u; }             /* blocks are one-dimensional */

/* WARP. v of lane (own ^ mask), of lane `lane`, of lane own - n or own + n (own v where there is none).
 * T: any type of 4 or 8 bytes. */
template <class T> PRIM T warp_xor(T v, int mask) { return __shfl_xor_sync(~0u, v, mask); }
template <class T> PRIM T warp_idx(T v, int lane) { return __shfl_sync(~0u, v, lane); }
template <class T> PRIM T warp_up(T v, int n) { return __shfl_up_sync(~0u, v, (unsigned)n); }
template <class T> PRIM T warp_down(T v, int n) { return __shfl_down_sync(~0u, v, (unsigned)n); }
PRIM bool warp_any(bool p) { return __any_sync(~0u, p) != 0; }
PRIM bool warp_all(bool p) { return __all_sync(~0u, p) != 0; }
PRIM uint32_t warp_ballot(bool p) { return __ballot_sync(~0u, p); }

/* Old value of *p. atomic_inc: *p = old >= last ? 0 : old + 1. Relaxed: they order no other memory. */
PRIM uint32_t atomic_add_u32(uint32_t *p, uint32_t v) { return atomicAdd(p, v); }
PRIM uint32_t atomic_inc_u32(uint32_t *p, uint32_t last) { return atomicInc(p, last); }
PRIM uint32_t atomic_or_u32(uint32_t *p, uint32_t v) { return atomicOr(p, v); }
PRIM uint32_t atomic_max_u32(uint32_t *p, uint32_t v) { return atomicMax(p, v); }

/* --- Arithmetic. fast_*: 2 ulp or so; fast_exp2(-inf) is 0. */
PRIM float fast_exp2(float x)
{
    float y;

    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
PRIM float fast_rsqrt(float x) { return rsqrtf(x); }
PRIM float fast_rcp(float x) { return __frcp_rn(x); }
PRIM uint32_t lop3_and_or(uint32_t x, uint32_t mask, uint32_t bits)    /* (x & mask) | bits */
{
    uint32_t y;

    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(x), "r"(mask), "r"(bits));
    return y;
}
/* Byte i of the result is byte (sel >> 4i) & 7 of the eight bytes b:a (a low). */
PRIM uint32_t prmt(uint32_t a, uint32_t b, uint32_t sel) { return __byte_perm(a, b, sel); }
PRIM __half2 h2_fma(__half2 a, __half2 b, __half2 c) { return __hfma2(a, b, c); }    /* rounded once */
PRIM __half2 h2_add(__half2 a, __half2 b) { return __hadd2(a, b); }
PRIM __half2 h2_sub(__half2 a, __half2 b) { return __hsub2(a, b); }
PRIM __half2 h2_mul(__half2 a, __half2 b) { return __hmul2(a, b); }
#else
/* The emulator's bodies of all these names: every C++ source of its build is compiled with
 * -include tests/emu/emu.h (.ci/emu.mk), because nothing in kernels/ may include what is in tests/. */
#ifndef EMU_H
#error "prims.h: not nvcc, and no emulator: compile with -include tests/emu/emu.h, as `make test-emu` does"
#endif
#endif

/* --- Made of the above, the same on both sides. */

/* Bits of a half2, and back; two floats rounded to nearest even, the first in the low half. */
PRIM uint32_t h2_bits(__half2 h)
{
    uint32_t u;

    memcpy(&u, &h, sizeof u);
    return u;
}
PRIM __half2 bits_h2(uint32_t u)
{
    __half2 h;

    memcpy(static_cast<void *>(&h), &u, sizeof h);
    return h;
}
PRIM __half2 h2_pack(float lo, float hi) { return __floats2half2_rn(lo, hi); }
PRIM uint32_t h2_pack_bits(float lo, float hi) { return h2_bits(h2_pack(lo, hi)); }
PRIM float2 h2_floats(__half2 h) { return __half22float2(h); }

/* Sum or greatest over aligned groups of N lanes (2, 4, 8, 16, 32), in every lane; WARP. NaN: max drops it. */
template <int N> PRIM float lanes_sum(float v)
{
#pragma unroll
    for (int m = N / 2; m; m >>= 1)
        v += warp_xor(v, m);
    return v;
}
template <int N> PRIM float lanes_max(float v)
{
#pragma unroll
    for (int m = N / 2; m; m >>= 1)
        v = fmaxf(v, warp_xor(v, m));
    return v;
}
PRIM float warp_sum(float v) { return lanes_sum<32>(v); }
PRIM float warp_max(float v) { return lanes_max<32>(v); }

/* Called by all threads of a block after its part of some work shared by n blocks is written: true in all
 * threads of the block that comes last, which may then read all parts. *counter is 0 before and after. */
PRIM bool last_arriver(uint32_t *counter, uint32_t n)
{
    bool last = false;

    thread_fence();
    block_sync();
    if (threadIdx.x == 0)
        last = atomic_inc_u32(counter, n - 1) == n - 1;
    last = block_any(last);
    if (last)
        thread_fence();
    return last;
}

/* Four signed bytes, or four stored as value + 128, to halves, exactly: 0x64xx is 1024 + xx. */
PRIM void b8x4_to_h2(uint32_t q, __half2 (&out)[2])
{
    const __half2 bias = bits_h2(0x64806480u);     /* 1152 = 1024 + 128 */

    out[0] = h2_sub(bits_h2(prmt(q, 0x64646464u, 0x4140u)), bias);
    out[1] = h2_sub(bits_h2(prmt(q, 0x64646464u, 0x4342u)), bias);
}
PRIM void s8x4_to_h2(uint32_t q, __half2 (&out)[2]) { b8x4_to_h2(q ^ 0x80808080u, out); }

/* FP8 E4M3, as kernels/format.h has it: two or four to halves, exactly; two floats to FP8, nearest even,
 * beyond 448 becomes 448, NaN stays. The first is for chips without the instruction (before 8.9): exponent and
 * mantissa in their places, bias 7 to 15 by times 256; 0x7f, whose seven bits carry over, is NaN. */
PRIM __half2 fp8x2_to_h2_by_hand(uint16_t q)
{
    uint32_t b = prmt(q, 0, 0x1404u), h = (b & 0x80008000u) | ((b & 0x7f007f00u) >> 1);
    uint32_t nan = ((b & 0x7f007f00u) + 0x01000100u) & 0x80008000u;

    return h2_mul(bits_h2(h | (nan >> 15) * 0x7fffu), bits_h2(0x5c005c00u));
}
PRIM __half2 fp8x2_to_h2(uint16_t q)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
    return __half2(__nv_cvt_fp8x2_to_halfraw2(q, __NV_E4M3));
#else
    return fp8x2_to_h2_by_hand(q);
#endif
}
PRIM void fp8x4_to_h2(uint32_t q, __half2 (&out)[2])
{
    out[0] = fp8x2_to_h2((uint16_t)q);
    out[1] = fp8x2_to_h2((uint16_t)(q >> 16));
}
PRIM uint16_t floats_to_fp8x2(float lo, float hi)
{
    return (uint16_t)__nv_cvt_float2_to_fp8x2(make_float2(lo, hi), __NV_SATFINITE, __NV_E4M3);
}

/* Host side: allows a kernel more dynamic shared memory than 48 KB; and how many blocks fit on one SM. */
template <class K> inline cudaError_t kernel_smem(K *kernel, size_t bytes)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                (int)bytes);
}
template <class K> inline cudaError_t kernel_blocks_per_sm(int *n, K *kernel, int block, size_t smem)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(n, reinterpret_cast<const void *>(kernel), block, smem);
}

#endif
