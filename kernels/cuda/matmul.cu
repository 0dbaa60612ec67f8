/* matmul.cu - which kernel multiplies: our tensor-core product (gemm.h), or cuBLAS.
 *
 *   exact        always ours, one chain of operations for an element whatever m is
 *   otherwise    f16: cuBLAS. bf16: ours (cuBLAS would need tokens in bf16 and gives no f16)
 *                Integers and fp8: ours up to MATMUL_OURS tokens, where reading weights is what costs;
 *                beyond, a block of rows at a time, small enough to stay in L2, is turned into halves
 *                and handed to cuBLAS
 *
 * Where there are too few tiles to fill the GPU, k is cut in ranges; in exact mode how many depends
 * on the matrix and the GPU alone. */
#include "kernels/cuda/matmul.h"

#include <stdlib.h>

#include "kernels/cuda/gemm_kinds.h"
#include "kernels/cuda/matmul_own.h"

enum {
    MATMUL_OURS = 256,  /* tokens; beyond, unpacking pays (Marlin falls behind from 128 on) */
    MATMUL_RANGE = 256, /* inputs */
    MATMUL_PARTS = 64 << 20,
    MATMUL_UNPACKED = 32 << 20, /* struct matmul; 32 MB: half of an H200's L2 */
    MATMUL_WORKSPACE = 32 << 20 /* of cuBLAS: what it recommends for Hopper */
};

static uint32_t matmul_slots(const struct gpu *g) { return 2 * (uint32_t)g->n_sm; }

static const struct gemm_kind *kind_of(enum fmt f)
{
    switch (f) {
    case FMT_F16: return &gemm_f16;
    case FMT_BF16: return &gemm_bf16;
    case FMT_FP8: return &gemm_fp8;
    case FMT_INT8: return &gemm_int8;
    case FMT_INT4: return &gemm_int4;
    case FMT_INT4Z: return &gemm_int4z;
    default: return NULL;
    }
}

static bool is_packed(const struct weight *w)
{
    return fmt_is_nibble(w->fmt.fmt) || fmt_is_byte(w->fmt.fmt);
}

/* How k is cut for so many tiles: as many ranges as give each of the blocks that run at once (two
 * on an SM) one, but none shorter than RANGE inputs, where its start and end would cost more than
 * the rest. */
static uint32_t cut_k(const struct gpu *g, uint64_t tiles, uint32_t k, uint32_t bk,
                      uint32_t *inputs)
{
    uint64_t most = matmul_slots(g) / tiles;
    uint32_t stages = ceil_div_u32(k, bk),
             n = min_u32(k / MATMUL_RANGE, most < 64 ? (uint32_t)most : 64);
    uint32_t each = ceil_div_u32(stages, n ? n : 1);

    *inputs = each * bk;
    return ceil_div_u32(stages, each);
}

/* How one matrix is multiplied with m tokens. */
struct matmul_plan { uint32_t mt, n_split, split_k, col_tiles, row_tiles /* of one launch */; };

static struct matmul_plan plan_of(const struct gpu *g, const struct weight *w, uint32_t m,
                                  bool exact)
{
    const struct matmul *mm = static_cast<const struct matmul *>(g->matmul);
    const struct gemm_kind *kind = kind_of(w->fmt.fmt);
    struct matmul_plan p = {};
    size_t fit;

    for (p.mt = 1; p.mt < kind->max_mt && 8 * p.mt < m;)
        p.mt *= 2;
    p.col_tiles = ceil_div_u32(w->n, GEMM_N);
    p.row_tiles = ceil_div_u32(m, 8 * p.mt);
    p.n_split =
        cut_k(g, (uint64_t)p.col_tiles * (exact ? 1 : p.row_tiles), w->k, kind->bk, &p.split_k);
    fit = INT32_MAX / ((size_t)p.col_tiles * p.n_split);
    if (p.n_split > 1) {
        size_t parts =
            mm->part_bytes / ((size_t)p.col_tiles * p.n_split * p.mt * GEMM_THREADS * 16);
        size_t counters = g->n_counter / p.col_tiles;

        parts = parts < counters ? parts : counters;
        fit = fit < parts ? fit : parts;
    }
    p.row_tiles = fit < 1 ? 1 : fit < p.row_tiles ? (uint32_t)fit : p.row_tiles;
    return p;
}

/* Rows of the matrix that are turned into halves at a time. */
static uint32_t unpacked_rows(const struct gpu *g, const struct weight *w)
{
    size_t rows = static_cast<const struct matmul *>(g->matmul)->unpack_bytes / ((size_t)w->k * 2) /
                  GEMM_N * GEMM_N;

    return rows < GEMM_N ? (uint32_t)GEMM_N : rows < w->n ? (uint32_t)rows : w->n;
}

/* Partial sums of any m <= max_m: in exact mode bytes grow with m up to the limit of a launch;
 * otherwise k is cut into no more ranges than then, under the same limit. */
static size_t most_parts(const struct gpu *g, const struct weight *w, uint32_t max_m)
{
    const struct matmul *mm = static_cast<const struct matmul *>(g->matmul);
    struct matmul_plan p = plan_of(g, w, max_m, true);
    size_t one = (size_t)p.col_tiles * p.n_split * p.mt * GEMM_THREADS * 16;
    size_t all = ceil_div_u32(max_m, 8 * p.mt) * one,
           cap = one > mm->part_bytes ? one : mm->part_bytes;

    if (p.n_split == 1)
        return 0;                                    /* then no m cuts k */
    return all < cap ? all : cap;
}

size_t gpu_matmul_scratch(const struct gpu *g, const struct weight *w, uint32_t max_m)
{
    size_t halves =
        is_packed(w) && max_m > MATMUL_OURS ? (size_t)unpacked_rows(g, w) * w->k * 2 : 0;
    size_t parts = max_m ? most_parts(g, w, max_m) : 0;

    return halves > parts ? halves : parts;
}

static void blas_failed(struct gpu *g, cublasStatus_t rc, uint32_t m, uint32_t n, uint32_t k)
{
    err_set(&g->err, EXIT_RUN_FAILED, "cuda: matmul (%u x %u x %u) in step %llu: cuBLAS: %s", m, n,
            k, (unsigned long long)g->step, cublasGetStatusString(rc));
}

/* y [m, ldy], n columns of it. cuBLAS counts columns first: y^T = W x^T. */
static void blas_multiply(struct gpu *g, half *y, uint32_t ldy, const half *x, const half *w,
                          uint32_t m, uint32_t n, uint32_t k)
{
    const struct matmul *mm = static_cast<const struct matmul *>(g->matmul);
    const float one = 1, zero = 0;
    cublasStatus_t rc = cublasSetStream(mm->blas, g->stream);

    if (rc == CUBLAS_STATUS_SUCCESS)                 /* setting the stream resets the workspace */
        rc = cublasSetWorkspace(mm->blas, mm->workspace, MATMUL_WORKSPACE);
    if (rc == CUBLAS_STATUS_SUCCESS)
        rc = cublasGemmEx(mm->blas, CUBLAS_OP_T, CUBLAS_OP_N, (int)n, (int)m, (int)k, &one, w,
                          CUDA_R_16F, (int)k, x, CUDA_R_16F, (int)k, &zero, y, CUDA_R_16F, (int)ldy,
                          CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    if (rc != CUBLAS_STATUS_SUCCESS)
        blas_failed(g, rc, m, n, k);
}

static void unpacked_multiply(struct gpu *g, half *y, const half *x, const struct weight *w,
                              uint32_t m)
{
    uint32_t at_once = unpacked_rows(g, w);
    half *rows = static_cast<half *>(g->scratch);

    for (uint32_t row = 0; row < w->n && !g->err.code;) {
        uint32_t n = min_u32(at_once, w->n - row);

        if (gpu_check(g, gpu_unpack(rows, w, row, n, g->stream), "unpack", m, n, w->k))
            blas_multiply(g, y + row, w->n, x, rows, m, n, w->k);
        row += n;
    }
}

static void our_multiply(struct gpu *g, half *y, const half *x, const struct weight *w, uint32_t m)
{
    const struct gemm_kind *kind = kind_of(w->fmt.fmt);
    struct matmul_plan p = plan_of(g, w, m, g->exec.exact);
    struct packed at = packed_of(w);
    struct gemm_args a = {};

    a.w = at.body, a.scale = at.scale, a.n = w->n, a.k = w->k;
    a.part = static_cast<float *>(g->scratch), a.counter = g->counter;
    a.n_split = p.n_split, a.split_k = p.split_k;
    if (fmt_is_nibble(w->fmt.fmt))
        a.group_log2 = (uint32_t)__builtin_ctz(w->fmt.group), a.n_group = pack_groups(w->fmt, w->k);
    for (uint32_t row = 0; row < m && !g->err.code; row += a.m) {
        a.m = p.row_tiles * (size_t)(8 * p.mt) < m - row ? p.row_tiles * 8 * p.mt : m - row;
        a.n_row_tile = ceil_div_u32(a.m, 8 * p.mt);
        a.x = x + (size_t)row * w->k, a.y = y + (size_t)row * w->n;
        gpu_check(g, kind->run(a, p.mt, a.n_row_tile * p.col_tiles * p.n_split, g->stream),
                  "matmul", m, w->n, w->k);
    }
}

void gpu_matmul(struct gpu *g, half *y, const half *x, const struct weight *w, uint32_t m)
{
    if (!m || g->err.code)
        return;
    if (gpu_matmul_scratch(g, w, m) > g->scratch_bytes) {
        err_set(&g->err, EXIT_RUN_FAILED,
                "cuda: matmul (%u x %u x %u) in step %llu: scratch of %zu bytes, needs %zu", m,
                w->n, w->k, (unsigned long long)g->step, g->scratch_bytes,
                gpu_matmul_scratch(g, w, m));
        return;
    }
    if (!g->exec.exact && w->fmt.fmt == FMT_F16)
        blas_multiply(g, y, w->n, x, reinterpret_cast<const half *>(packed_of(w).body), m, w->n,
                      w->k);
    else if (!g->exec.exact && is_packed(w) && m > MATMUL_OURS)
        unpacked_multiply(g, y, x, w, m);
    else
        our_multiply(g, y, x, w, m);
}

static int open_kernels(struct gpu *g, struct err *e)
{
    cudaError_t rc = cudaSuccess;

    for (int f = 0; f < FMT_N && !rc; f++)
        if (GPU_WEIGHT_FMTS & FMT_BIT(f))
            rc = kind_of((enum fmt)f)->open(g->smem_max);
    if (rc)
        return err_set(e, EXIT_RUN_FAILED,
                       "cuda: matmul kernels with %zu bytes of shared memory a block: %s",
                       g->smem_max, cudaGetErrorString(rc));
    return 0;
}

int gpu_matmul_open(struct gpu *g, struct err *e)
{
    struct matmul *mm = static_cast<struct matmul *>(calloc(1, sizeof *mm));
    cublasStatus_t rc;

    g->matmul = mm;
    if (mm)
        mm->part_bytes = MATMUL_PARTS, mm->unpack_bytes = MATMUL_UNPACKED;
    if (!mm || open_kernels(g, e)) {
        gpu_matmul_close(g);
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    }
    if (cudaMalloc(&mm->workspace, MATMUL_WORKSPACE) != cudaSuccess) {
        mm->workspace = NULL;
        gpu_matmul_close(g);
        return err_set(e, EXIT_RUN_FAILED,
                       "cuda: no device memory for the workspace of cuBLAS (%d bytes)",
                       MATMUL_WORKSPACE);
    }
    rc = cublasCreate(&mm->blas);
    if (rc == CUBLAS_STATUS_SUCCESS)                 /* F32 sums stay F32 where cuBLAS splits k */
        rc = cublasSetMathMode(mm->blas, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    if (rc == CUBLAS_STATUS_SUCCESS)
        return 0;
    err_set(e, EXIT_RUN_FAILED, "cuda: cuBLAS cannot be opened: %s", cublasGetStatusString(rc));
    gpu_matmul_close(g);
    return -1;
}

void gpu_matmul_close(struct gpu *g)
{
    struct matmul *mm = static_cast<struct matmul *>(g->matmul);

    if (mm && mm->blas)
        cublasDestroy(mm->blas);
    if (mm && mm->workspace)
        (void)cudaFree(mm->workspace);
    free(mm);
    g->matmul = NULL;
}
