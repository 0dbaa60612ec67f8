/* test_emu_runtime.cc - the emulated CUDA runtime: memory, launches, streams, events, graphs,
 * cuBLAS's GEMM. */
#include <cublas_v2.h>

#include "kernels/cuda/prims.h"
#include "tests/emu/emu_test.h"

/* --- The runtime: memory that runs out, launches that cannot be, failures on demand. */
__global__ void k_add(float *x, float v) { x[threadIdx.x] += v; }
static void runtime(void)
{
    void *p, *q;
    size_t unused, total;
    int n;

    emu_device(80, 3, 1 << 20);
    CU_ASSERT_EQUAL(cudaMalloc(&p, 1 << 19), cudaSuccess);
    CU_ASSERT_EQUAL(cudaMalloc(&q, (1 << 19) + 1), cudaErrorMemoryAllocation);
    CU_ASSERT_EQUAL(cudaGetLastError(), cudaErrorMemoryAllocation);
    CU_ASSERT_EQUAL(cudaGetLastError(), cudaSuccess);
    CU_ASSERT_EQUAL(cudaMemGetInfo(&unused, &total), cudaSuccess);
    CU_ASSERT_EQUAL(unused, 1 << 19);
    CU_ASSERT_EQUAL(cudaMemcpy(static_cast<char *>(p) + 8, p, 1 << 19, cudaMemcpyDeviceToDevice),
                    cudaErrorInvalidValue);
    CU_ASSERT_EQUAL(cudaFree(static_cast<char *>(p) + 8), cudaErrorInvalidValue);
    CU_ASSERT_EQUAL(cudaFree(p), cudaSuccess);
    CU_ASSERT_EQUAL(emu_device_bytes(), 0);
    CU_ASSERT_EQUAL(LAUNCH(k_add, 1, 1025, 0, 0, nullptr, 1), cudaErrorInvalidConfiguration);
    CU_ASSERT_EQUAL(LAUNCH(k_add, 0, 32, 0, 0, nullptr, 1), cudaErrorInvalidConfiguration);
    CU_ASSERT_EQUAL(LAUNCH(k_add, 1, 32, 49153, 0, nullptr, 1), cudaErrorInvalidValue);
    CU_ASSERT_EQUAL(kernel_smem(k_add, 166913), cudaErrorInvalidValue);
    CU_ASSERT_EQUAL(kernel_smem(k_add, 80000), cudaSuccess);
    CU_ASSERT_EQUAL(kernel_blocks_per_sm(&n, k_add, 256, 80000), cudaSuccess);
    CU_ASSERT_EQUAL(n, 2);
    emu_fail("cudaMalloc", 1, cudaErrorMemoryAllocation);
    CU_ASSERT_EQUAL(cudaMalloc(&p, 16), cudaSuccess);
    CU_ASSERT_EQUAL(cudaMalloc(&q, 16), cudaErrorMemoryAllocation);
    CU_ASSERT_EQUAL(cudaMalloc(&q, 16), cudaSuccess);
    cudaFree(p), cudaFree(q);
    emu_device(90, 0, 1 << 20);
    CU_ASSERT_EQUAL(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    CU_ASSERT_EQUAL(n, 0);
    emu_device(90, 6, (size_t)2 << 30);
}

/* --- Streams: pinned memory is read when the copy runs, pageable memory when it is called. */
static void streams(void)
{
    float *x = device_new<float>(32), *pinned, pageable[32], h[32];
    cudaStream_t s;
    cudaEvent_t from, to;
    float ms = -1;

    CU_ASSERT_EQUAL(cudaStreamCreate(&s), cudaSuccess);
    CU_ASSERT_EQUAL(cudaMallocHost(&pinned, sizeof h), cudaSuccess);
    cudaEventCreate(&from), cudaEventCreate(&to);
    for (int i = 0; i < 32; i++)
        pinned[i] = pageable[i] = 1;
    CU_ASSERT_EQUAL(cudaEventElapsedTime(&ms, from, to), cudaErrorInvalidResourceHandle);
    CU_ASSERT_EQUAL(cudaEventRecord(from, s), cudaSuccess);
    CU_ASSERT_EQUAL(cudaMemcpyAsync(x, pinned, sizeof h, cudaMemcpyHostToDevice, s), cudaSuccess);
    pinned[0] = 5;                                 /* too early: this is what is copied */
    CU_ASSERT_EQUAL(LAUNCH(k_add, 1, 32, 0, s, x, 2), cudaSuccess);
    CU_ASSERT_EQUAL(cudaEventRecord(to, s), cudaSuccess);
    CU_ASSERT_EQUAL(cudaEventElapsedTime(&ms, from, to), cudaErrorNotReady);
    CU_ASSERT_EQUAL(cudaStreamSynchronize(s), cudaSuccess);
    CU_ASSERT_EQUAL(cudaEventElapsedTime(&ms, from, to), cudaSuccess);
    CU_ASSERT(ms >= 0);
    get(h, x, 32);
    CU_ASSERT(h[0] == 7 && h[1] == 3);
    CU_ASSERT_EQUAL(cudaMemcpyAsync(x, pageable, sizeof h, cudaMemcpyHostToDevice, s), cudaSuccess);
    pageable[0] = 5;
    get(h, x, 32);
    CU_ASSERT(h[0] == 1);
    cudaEventDestroy(from), cudaEventDestroy(to);
    cudaFreeHost(pinned), cudaFree(x), cudaStreamDestroy(s);
}

/* --- Graphs: nothing runs at capture, everything at each launch; what breaks a capture. */
static void graphs(void)
{
    float *x = device_new<float>(32), h[32];
    cudaGraphExec_t exec;
    cudaGraph_t graph;
    cudaStream_t s;
    void *p;

    CU_ASSERT_EQUAL(cudaStreamCreate(&s), cudaSuccess);
    CU_ASSERT_EQUAL(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal), cudaSuccess);
    CU_ASSERT_EQUAL(cudaMemsetAsync(x, 0, sizeof h, s), cudaSuccess);
    for (int i = 1; i < 4; i++)
        CU_ASSERT_EQUAL(LAUNCH(k_add, 1, 32, 0, s, x, (float)i), cudaSuccess);
    CU_ASSERT_EQUAL(cudaStreamEndCapture(s, &graph), cudaSuccess);
    CU_ASSERT_EQUAL(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    get(h, x, 32);
    CU_ASSERT(isnan(h[0]));
    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL(cudaGraphLaunch(exec, s), cudaSuccess);
    CU_ASSERT_EQUAL(LAUNCH(k_add, 1, 32, 0, s, x, 10.0f), cudaSuccess);
    CU_ASSERT_EQUAL(cudaGraphExecDestroy(exec), cudaSuccess);
    CU_ASSERT_EQUAL(cudaGraphDestroy(graph), cudaSuccess);
    CU_ASSERT_EQUAL(cudaStreamSynchronize(s), cudaSuccess);
    get(h, x, 32);
    CU_ASSERT(h[0] == 16 && h[31] == 16);

    for (int i = 0; i < 4; i++) {
        CU_ASSERT_EQUAL(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal), cudaSuccess);
        CU_ASSERT_NOT_EQUAL(i == 0   ? cudaMalloc(&p, 16)
                            : i == 1 ? cudaStreamSynchronize(s)
                            : i == 2 ? cudaDeviceSynchronize()
                                     : cudaMemcpy(h, x, 16, cudaMemcpyDeviceToHost),
                            cudaSuccess);
        CU_ASSERT_EQUAL(LAUNCH(k_add, 1, 32, 0, s, x, 1.0f), cudaErrorStreamCaptureInvalidated);
        CU_ASSERT_EQUAL(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
        CU_ASSERT_PTR_NULL(graph);
    }
    cudaGetLastError();
    CU_ASSERT_EQUAL(LAUNCH(k_add, 1, 32, 0, s, x, 1.0f), cudaSuccess);
    get(h, x, 32);
    CU_ASSERT(h[0] == 17);
    cudaStreamDestroy(s), cudaFree(x);
}

static float value_at(unsigned i) { return (float)((int)(i * 2654435761u >> 20) % 64) / 32.0f; }

/* --- cuBLAS's GEMM, both operands either way, against the definition. */
static void gemm(void)
{
    enum { M = 5, N = 7, K = 33 };
    __half *a = device_new<__half>(M * K), *b = device_new<__half>(K * N),
           *c = device_new<__half>(M * N), h[M * N];
    __half ha[M * K], hb[K * N];
    cublasHandle_t blas;
    float one = 1, zero = 0;

    CU_ASSERT_EQUAL(cublasCreate(&blas), CUBLAS_STATUS_SUCCESS);
    for (int form = 0; form < 4; form++) {
        bool ta = form & 1, tb = form & 2;
        unsigned bad = 0;

        for (int k = 0; k < K; k++) {
            for (int i = 0; i < M; i++)
                ha[ta ? i * K + k : k * M + i] = __float2half_rn(value_at((unsigned)(i * K + k)));
            for (int j = 0; j < N; j++)
                hb[tb ? k * N + j : j * K + k] =
                    __float2half_rn(value_at((unsigned)(500 + j * K + k)));
        }
        put(a, ha, M * K);
        put(b, hb, K * N);
        CU_ASSERT_EQUAL(cublasGemmEx(blas, ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                                     tb ? CUBLAS_OP_T : CUBLAS_OP_N, M, N, K, &one, a, CUDA_R_16F,
                                     ta ? K : M, b, CUDA_R_16F, tb ? N : K, &zero, c, CUDA_R_16F, M,
                                     CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                        CUBLAS_STATUS_SUCCESS);
        get(h, c, M * N);
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) {
                float want = 0;

                for (int k = 0; k < K; k++)
                    want += value_at((unsigned)(i * K + k)) * value_at((unsigned)(500 + j * K + k));
                bad += __half2float(h[j * M + i]) != __half2float(__float2half_rn(want));
            }
        CU_ASSERT_EQUAL(bad, 0);
    }
    cublasDestroy(blas);
    cudaFree(a), cudaFree(b), cudaFree(c);
}

static const struct test tests[] = {
    { "runtime", runtime },
    { "streams", streams },
    { "graphs", graphs },
    { "gemm", gemm },
    { NULL, NULL }
};
extern "C" {
extern const struct suite suite_emu_runtime;
const struct suite suite_emu_runtime = { "emu_runtime", tests, 120 };
}
