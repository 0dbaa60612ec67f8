/* timed.h - entries of the seam for benchmarks (see timed and roof in kernels/device.h). */
#ifndef KERNELS_CUDA_TIMED_H
#define KERNELS_CUDA_TIMED_H

#include "kernels/device.h"

int gpu_timed(struct device *d, void (*work)(void *arg, uint32_t i), void *arg, uint32_t repeat, uint32_t rounds,
              double *out, struct err *e);
double gpu_roof(struct device *d, enum dev_roof which, struct err *e);

#endif
