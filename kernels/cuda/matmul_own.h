/* matmul_own.h - what matmul.cu and unpack.cu share; tests make the limits small. */
#ifndef KERNELS_CUDA_MATMUL_OWN_H
#define KERNELS_CUDA_MATMUL_OWN_H

#include <cublas_v2.h>

#include "kernels/cuda/pack.h"

/* g->matmul. */
struct matmul {
    cublasHandle_t blas;
    void *workspace;
    size_t part_bytes;   /* partial sums of one launch, about: more tokens take several launches */
    size_t unpack_bytes; /* halves made of packed weights at a time, to stay in L2 until cuBLAS
                            reads them */
};

/* out [n_row, k] = rows row0 .. row0 + n_row - 1 of w, integers and fp8, rounded to half; row0 a
 * multiple of 32. */
cudaError_t gpu_unpack(half *out, const struct weight *w, uint32_t row0, uint32_t n_row,
                       cudaStream_t s);

#endif
