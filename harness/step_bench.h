/* step_bench.h - whole decode steps against the bytes that they must read. */
#ifndef HARNESS_STEP_BENCH_H
#define HARNESS_STEP_BENCH_H

#include <stdbool.h>

#include "kernels/device.h"

struct step_bench_conf {
    const char *model;
    const char *precision[4];      /* "f16", "int4:group=128:kv=int8" ..., ended by NULL; compared with the first */
    uint32_t n_seq, ctx, rounds;
    bool json;
};
int step_bench(const struct device_ops *ops, const struct step_bench_conf *c, struct err *e);

#endif
