/* roof.h - what the machine can do at most, measured in the same rounds as what is judged by it. */
#ifndef HARNESS_ROOF_H
#define HARNESS_ROOF_H

#include "kernels/cpu/cpu.h"

enum roof { ROOF_READ, ROOF_FMA, ROOF_DOT, ROOF_N };   /* memory read, F32 multiply-add, int8 dot */

/* One pass of a loop that does nothing useful, fast. big: bytes to read, far larger than the caches.
 * Returns seconds. */
double roof_run(struct cpu *cpu, enum roof kind, uint32_t n_thread, const char *big, size_t bytes);
/* What such a pass does: bytes, FLOPs or integer operations. */
double roof_work(const struct cpu *cpu, enum roof kind, size_t bytes);

double bench_seconds(void);
double bench_median(const double *t, int n);           /* n <= 64 */

#endif
