/* cpu.c - what all operations of the cpu device share: which instruction set, memory, scratch. */
#include "kernels/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const struct cpu_isa *const levels[] = {
#ifdef SERVELAB_X86
    &cpu_isa_avx512bf16, &cpu_isa_avx512, &cpu_isa_avx2,
#endif
    &cpu_isa_scalar
};
enum { N_LEVEL = sizeof levels / sizeof *levels };

bool cpu_isa_here(const struct cpu_isa *isa)
{
#ifdef SERVELAB_X86
    __builtin_cpu_init();
    if (isa == &cpu_isa_avx512bf16)
        return cpu_isa_here(&cpu_isa_avx512) && __builtin_cpu_supports("avx512bf16") && cpu_dp_is_chain();
    if (isa == &cpu_isa_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni");
    if (isa == &cpu_isa_avx2)                  /* every CPU with AVX2 but one (VIA) has F16C */
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return isa == &cpu_isa_scalar;
}

const struct cpu_isa *cpu_isa_find(const char *name, struct err *e)
{
    char here[64] = "";
    bool known = false;

    for (int i = 0; i < N_LEVEL; i++) {
        bool ok = cpu_isa_here(levels[i]), asked = !name || !strcmp(name, levels[i]->name);

        if (ok && asked)
            return levels[i];
        known |= asked;
        if (ok)
            snprintf(here + strlen(here), sizeof here - strlen(here), " %s", levels[i]->name);
    }
    err_set(e, EXIT_USAGE, known ? "instruction set '%s' is not on this CPU; it has:%s"
                                 : "unknown instruction set '%s'; this CPU has:%s", name, here);
    return NULL;
}

void *cpu_alloc(uint64_t bytes)
{
    const uint64_t huge = (uint64_t)2 << 20;
    uint64_t align = bytes >= 2 * huge ? huge : 64, size = (bytes + align - 1) / align * align;
    void *p;

    if (size < bytes || size > SIZE_MAX / 2 || !(p = aligned_alloc(align, size ? size : align)))
        return NULL;
    if (align == huge)
        madvise(p, size, MADV_HUGEPAGE);       /* fewer TLB misses; no matter if refused */
    return p;
}

static bool grow(struct cpu *c, struct cpu_buf *b, size_t n)
{
    if (n <= b->n)
        return true;
    free(b->p);
    b->n = n + n / 4;
    b->p = cpu_alloc(b->n);
    if (!b->p) {
        b->n = 0;
        err_set(&c->err, EXIT_RUN_FAILED, "cpu: no memory for %zu bytes of scratch", n);
    }
    return b->p != NULL;
}

bool cpu_scratch(struct cpu *c, size_t shared, size_t each_thread)
{
    /* odd multiple of a cache line: threads' buffers do not meet in the same cache sets */
    c->thread_stride = (each_thread / 128 * 2 + 3) * 64;
    return grow(c, &c->shared, shared) &&
           grow(c, &c->thread, c->thread_stride * (size_t)c->n_thread);
}

void cpu_for(struct cpu *c, uint32_t n, uint32_t step, bool parallel, cpu_work *fn, void *arg)
{
    if (parallel && c->n_thread > 1 && n > step) {
        pool_run(c->pool, n, step, fn, arg);
        return;
    }
    for (uint32_t i = 0; i < n; i += step) {
        if (n - i <= step) {               /* the last one; i + step could wrap */
            fn(arg, 0, i, n);
            return;
        }
        fn(arg, 0, i, i + step);
    }
}
