/* emu_device.cc - the cuda device of the emulated build: the plug-in's table, linked in instead of
 * opened. A build of some kernels only (CU_SRC=... of .ci/emu.mk) has none: a device that cannot be
 * found by name, and a gpu_check that keeps the first failure without the step. */
#include "kernels/cuda/gpu.h"

extern "C" {
const struct device_ops *servelab_device(void) __attribute__((weak));
extern const struct device_ops device_cuda;
const struct device_ops device_cuda = servelab_device ? *servelab_device() : device_ops();
}

__attribute__((weak)) bool gpu_check(struct gpu *g, cudaError_t rc, const char *operation,
                                     uint32_t m, uint32_t n, uint32_t k)
{
    if (rc != cudaSuccess)
        err_set(&g->err, EXIT_RUN_FAILED, "cuda: %s (%u x %u x %u): %s", operation, m, n, k,
                cudaGetErrorString(rc));
    return rc == cudaSuccess;
}
