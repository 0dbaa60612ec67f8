/* kernels.h - what the kernel tests share: devices, matrices, comparisons. */
#ifndef TESTS_KERNELS_H
#define TESTS_KERNELS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "kernels/cpu/cpu.h"
#include "tests/test.h"

extern const struct device_ops device_cpu, device_ref;

static const struct cpu_isa *const isas[] = {
    &cpu_isa_scalar, &cpu_isa_avx2, &cpu_isa_avx512, &cpu_isa_avx512bf16
};
enum { N_ISA = sizeof isas / sizeof *isas };

static const struct wfmt formats[] = {
    { FMT_F32, 0 }, { FMT_F16, 0 }, { FMT_BF16, 0 }, { FMT_BF16_A16, 0 }, { FMT_FP8, 0 }, { FMT_INT8, 0 },
    { FMT_INT4, 32 }, { FMT_INT4, 64 }, { FMT_INT4, 128 }, { FMT_INT4, GROUP_ROW },
    { FMT_INT4Z, 32 }, { FMT_INT4Z, 64 }, { FMT_INT4Z, 128 }, { FMT_INT4Z, GROUP_ROW },
    { FMT_INT8_A32, 0 }, { FMT_INT4_A32, 64 }, { FMT_INT4Z_A32, 32 }, { FMT_INT4_A32, GROUP_ROW }
};
enum { N_FORMAT = sizeof formats / sizeof *formats };

/* The cpu device multiplies it as integers, by activations in int8. */
static inline bool is_dots(struct wfmt f) { return fmt_takes_a8(f.fmt); }
/* Inputs that share an activation scale then. */
static inline uint32_t act_group(struct wfmt f)
{
    return f.group == 0 || f.group == GROUP_ROW ? ACT_GROUP : f.group;
}
static inline const char *name_of(struct wfmt f)
{
    static _Thread_local char name[32];

    wfmt_name(f, name, sizeof name);
    return name;
}

static inline struct device open_on(const struct device_ops *ops, const char *isa, int n_thread)
{
    struct device_conf conf = { .isa = isa, .n_thread = n_thread };
    struct device d;
    struct err e = { 0 };

    if (dev_open(&d, ops, &conf, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("device did not open");
    }
    return d;
}

/* Rotation with theta 10000, no bias, no norm. */
static inline struct rope plain_rope(uint32_t n_q, uint32_t hd)
{
    struct rope r = { .n_q = n_q, .half = hd / 2 };

    for (uint32_t i = 0; i < r.half; i++)
        r.freq[i] = pow(10000, -(double)i / r.half);
    return r;
}

static inline float *floats(size_t n, uint64_t seed, double size)
{
    float *x = aligned_alloc(64, (n * sizeof *x + 127) / 64 * 64);
    struct rng r;

    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(rng_normal(&r) * size);
    return x;
}

/* Activations that int8 holds exactly with scale 2^-7, whatever the group: tests then see
 * arithmetic only. */
static inline float *grid_floats(size_t n, uint64_t seed)
{
    float *x = floats(n, seed, 1);
    struct rng r;

    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(i % 32 == 5 ? -127 : (int)rng_below(&r, 255) - 127) * 0x1p-7f;
    return x;
}

struct matrix { const float *w; uint32_t k; };

static inline int matrix_row(void *self, uint32_t row, float *out, struct err *e)
{
    const struct matrix *m = self;

    (void)e;
    memcpy(out, m->w + (size_t)row * m->k, m->k * sizeof *out);
    return 0;
}

static inline struct weight load(struct device *d, struct wfmt f, uint32_t n, uint32_t k,
                                 const float *w)
{
    struct matrix m = { w, k };
    struct weight out;
    struct err e = { 0 };

    if (dev_weight(d, &out, f, n, k, (struct row_source){ matrix_row, &m }, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("weight not loaded");
    }
    return out;
}

static inline bool same(const float *a, const float *b, size_t n)
{
    return memcmp(a, b, n * sizeof *a) == 0;
}

/* Largest |a - b| / bound; bound[i] > 0. */
static inline double worst(const float *a, const float *b, const double *bound, size_t n)
{
    double most = 0;

    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]) / bound[i];

        most = d > most || isnan(d) ? d : most;
    }
    return most;
}

#endif
