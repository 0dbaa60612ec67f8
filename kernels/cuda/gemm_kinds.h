/* gemm_kinds.h - the products of each weight format as matmul.cu sees them, and what each gemm_*.cu
 * instantiates.
 *
 * Tiles of 8 mt tokens: mt is 1, 2, 4, 8, for rows of halves also 16. The ring is deeper where a
 * stage is small. */
#ifndef KERNELS_CUDA_GEMM_KINDS_H
#define KERNELS_CUDA_GEMM_KINDS_H

#include "kernels/cuda/gemm.h"

struct gemm_kind {
    uint32_t bk, max_mt;
    cudaError_t (*open)(size_t smem_max); /* allows the shared memory that its kernels need */
    cudaError_t (*run)(const struct gemm_args &a, uint32_t mt, uint32_t n_block, cudaStream_t s);
};
extern const struct gemm_kind gemm_f16, gemm_bf16, gemm_int4, gemm_int4z, gemm_int8, gemm_fp8;

template <class W, int MT> cudaError_t gemm_open_one(size_t smem_max)
{
    constexpr int NEED = gemm_ring<W, MT>::BYTES;

    return NEED > smem_max ? cudaErrorInvalidConfiguration : kernel_smem(gemm<W, MT>, NEED);
}
template <class W, int MT>
cudaError_t gemm_run_one(const struct gemm_args &a, uint32_t n_block, cudaStream_t s)
{
    return LAUNCH((gemm<W, MT>), dim3(n_block), dim3(GEMM_THREADS), (gemm_ring<W, MT>::BYTES), s,
                  a);
}
template <class W, bool WIDE> cudaError_t gemm_open(size_t smem_max)
{
    cudaError_t rc = gemm_open_one<W, 1>(smem_max);

    rc = rc ? rc : gemm_open_one<W, 2>(smem_max);
    rc = rc ? rc : gemm_open_one<W, 4>(smem_max);
    rc = rc ? rc : gemm_open_one<W, 8>(smem_max);
    if constexpr (WIDE)
        rc = rc ? rc : gemm_open_one<W, 16>(smem_max);
    return rc;
}
template <class W, bool WIDE>
cudaError_t gemm_run(const struct gemm_args &a, uint32_t mt, uint32_t n_block, cudaStream_t s)
{
    if constexpr (WIDE)
        if (mt == 16)
            return gemm_run_one<W, 16>(a, n_block, s);
    switch (mt) {
    case 1: return gemm_run_one<W, 1>(a, n_block, s);
    case 2: return gemm_run_one<W, 2>(a, n_block, s);
    case 4: return gemm_run_one<W, 4>(a, n_block, s);
    case 8: return gemm_run_one<W, 8>(a, n_block, s);
    default: return cudaErrorInvalidValue;
    }
}

#define GEMM_STRIP(...) __VA_ARGS__
#define GEMM_KIND(name, W, wide)                                     \
    const struct gemm_kind name = { GEMM_STRIP W::BK, wide ? 16 : 8, \
                                    gemm_open<GEMM_STRIP W, wide>, gemm_run<GEMM_STRIP W, wide> };
#endif
