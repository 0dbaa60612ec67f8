/* emu_blas.cc - cuBLAS's GEMM for the emulated device: the same call, a plain loop, summed in f32.
 *
 * As its manual says: setting the stream takes the caller's workspace away, a workspace is 256-byte aligned
 * device memory; a recording without one would hold allocations of its own, which is refused here. */
#include <cublas_v2.h>
#include <vector>

#include "tests/emu/emu_run.h"

struct cublasContext { cudaStream_t stream; bool workspace; };

cublasStatus_t cublasCreate(cublasHandle_t *h)
{
    *h = new cublasContext();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t h)
{
    emu_drain();
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t h, cudaStream_t s)
{
    h->stream = s;
    h->workspace = false;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace(cublasHandle_t h, void *p, size_t)
{
    if (reinterpret_cast<uintptr_t>(p) % 256)
        return CUBLAS_STATUS_INVALID_VALUE;
    h->workspace = p != nullptr;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasGetVersion(cublasHandle_t, int *v)
{
    *v = CUBLAS_VERSION;
    return CUBLAS_STATUS_SUCCESS;
}
const char *cublasGetStatusString(cublasStatus_t s)
{
    return s == CUBLAS_STATUS_SUCCESS ? "success" : "an error";
}

static bool known(cudaDataType t) { return t == CUDA_R_16F || t == CUDA_R_16BF || t == CUDA_R_32F; }
static float load(const void *p, cudaDataType t, size_t i)
{
    return t == CUDA_R_32F ? static_cast<const float *>(p)[i] :
           t == CUDA_R_16F ? __half2float(static_cast<const __half *>(p)[i]) :
                             __bfloat162float(static_cast<const __nv_bfloat16 *>(p)[i]);
}
static void store(void *p, cudaDataType t, size_t i, float v)
{
    if (t == CUDA_R_32F)
        static_cast<float *>(p)[i] = v;
    else if (t == CUDA_R_16F)
        static_cast<__half *>(p)[i] = __float2half_rn(v);
    else
        static_cast<__nv_bfloat16 *>(p)[i] = __float2bfloat16_rn(v);
}

struct gemm {
    bool ta, tb;
    size_t m, n, k, lda, ldb, ldc;
    float alpha, beta;
    const void *a, *b;
    void *c;
    cudaDataType at, bt, ct;
};
static void gemm_run(const gemm &g)
{
    std::vector<float> row(g.m * g.k), col(g.k);

    for (size_t i = 0; i < g.m; i++)
        for (size_t k = 0; k < g.k; k++)
            row[i * g.k + k] = load(g.a, g.at, g.ta ? k + i * g.lda : i + k * g.lda);
    for (size_t j = 0; j < g.n; j++) {
        for (size_t k = 0; k < g.k; k++)
            col[k] = load(g.b, g.bt, g.tb ? j + k * g.ldb : k + j * g.ldb);
        for (size_t i = 0; i < g.m; i++) {
            float sum = 0;

            for (size_t k = 0; k < g.k; k++)
                sum += row[i * g.k + k] * col[k];
            sum *= g.alpha;
            if (g.beta != 0)
                sum += g.beta * load(g.c, g.ct, i + j * g.ldc);
            store(g.c, g.ct, i + j * g.ldc, sum);
        }
    }
}
cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m,
                            int n, int k, const void *alpha, const void *a, cudaDataType at,
                            int lda, const void *b, cudaDataType bt, int ldb, const void *beta,
                            void *c, cudaDataType ct, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t)
{
    gemm g = { ta != CUBLAS_OP_N, tb != CUBLAS_OP_N, (size_t)m, (size_t)n, (size_t)k, (size_t)lda,
               (size_t)ldb, (size_t)ldc, 0, 0, a, b, c, at, bt, ct };

    if (m < 0 || n < 0 || k < 0 || lda < (g.ta ? k : m) || ldb < (g.tb ? n : k) || ldc < m)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!known(at) || !known(bt) || !known(ct) ||
        (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (emu_capturing(h->stream) && !h->workspace)
        return CUBLAS_STATUS_ALLOC_FAILED;
    memcpy(&g.alpha, alpha, sizeof g.alpha);
    memcpy(&g.beta, beta, sizeof g.beta);
    return emu_push(h->stream, [g] { gemm_run(g); }) == cudaSuccess ? CUBLAS_STATUS_SUCCESS :
                                                                     CUBLAS_STATUS_EXECUTION_FAILED;
}
