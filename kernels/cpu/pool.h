/* pool.h - threads of the cpu device: one job at a time, joined in well under a microsecond. */
#ifndef KERNELS_CPU_POOL_H
#define KERNELS_CPU_POOL_H

#include <stdint.h>

/* Does units [i0, i1) of a job; thread is 0 for the caller, 1.. for the pool's. */
typedef void cpu_work(void *arg, int thread, uint32_t i0, uint32_t i1);

enum { THREAD_MAX = 256 };
struct cpu_pool;
struct cpu_pool *pool_open(int n_thread);  /* the caller counts as one; NULL: out of memory */
void pool_close(struct cpu_pool *p);
/* Covers every unit of [0, n) once by calls of fn in steps of `step`; returns when all is done. */
void pool_run(struct cpu_pool *p, uint32_t n, uint32_t step, cpu_work *fn, void *arg);

#endif
