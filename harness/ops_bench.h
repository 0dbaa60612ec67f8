/* ops_bench.h - `servelab bench kernels --device D`: a device's operations at the shapes of whole models, against roofs
 * that are measured in the same run. */
#ifndef HARNESS_OPS_BENCH_H
#define HARNESS_OPS_BENCH_H

#include <stdbool.h>

#include "kernels/device.h"

struct ops_bench_conf {
    const char *only;              /* matmul, decode, prefill, rows; NULL: all */
    bool quick, json;              /* quick: tiny shapes, to see that everything runs */
};
int ops_bench(const struct device_ops *ops, const struct ops_bench_conf *c, struct err *e);

#endif
