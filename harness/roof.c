#include "harness/roof.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOOP_ROUNDS = 1000000, PARTS = 16 };
struct job { struct cpu *cpu; enum roof kind; const char *big; size_t bytes; };

static void part(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct job *j = arg;
    const struct cpu_isa *isa = j->cpu->isa;
    size_t size = j->bytes / PARTS / 1024 * 1024;
    volatile double sink;

    (void)thread;
    for (uint32_t i = i0; i < i1; i++)
        sink = j->kind == ROOF_READ ? isa->roof_read(j->big + size * i, size)
             : j->kind == ROOF_FMA ? isa->roof_fma(LOOP_ROUNDS / PARTS)
                                   : isa->roof_dot(LOOP_ROUNDS / PARTS);
    (void)sink;
}

/* Work is cut finer than threads, so that a disturbed thread does not hold up the roof either. */
double roof_run(struct cpu *cpu, enum roof kind, uint32_t n_thread, const char *big, size_t bytes)
{
    struct job j = { cpu, kind, big, bytes };
    double t0 = bench_seconds();

    cpu_for(cpu, PARTS, 1, n_thread > 1, part, &j);
    return bench_seconds() - t0;
}

double roof_work(const struct cpu *cpu, enum roof kind, size_t bytes)
{
    if (kind == ROOF_READ)
        return (double)(bytes / PARTS / 1024 * 1024 * PARTS);
    return PARTS * (kind == ROOF_FMA ? cpu->isa->roof_fma(LOOP_ROUNDS / PARTS)
                                     : cpu->isa->roof_dot(LOOP_ROUNDS / PARTS));
}

double bench_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

double bench_median(const double *t, int n)
{
    double s[64];

    memcpy(s, t, (size_t)n * sizeof *s);
    qsort(s, (size_t)n, sizeof *s, by_value);
    return n % 2 ? s[n / 2] : 0.5 * (s[n / 2 - 1] + s[n / 2]);
}
