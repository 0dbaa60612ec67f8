/* profile.h - what the sim device knows of a machine: a JSON file under kernels/sim/profiles. */
#ifndef KERNELS_SIM_PROFILE_H
#define KERNELS_SIM_PROFILE_H

#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "kernels/device.h"

/* Measured times of one operation at one shape: ns over x, linear between points. Below the first point the time
 * is the first one's; above the last one the last rate holds (validity.md: extrapolate the efficiency). */
struct sim_table {
    enum op op;
    enum fmt fmt;
    uint32_t n, k;                         /* as in struct op_cost */
    enum sim_by { BY_ROWS, BY_BYTES, BY_FLOPS } by;    /* what x counts */
    uint32_t n_point;
    double *x, *ns;                        /* ascending x */
};
extern const char *const sim_by_name[3];

struct sim_profile {
    char name[48], about[200];
    double flops, bandwidth;               /* peak FLOP/s and bytes/s */
    double flop_efficiency, byte_efficiency;   /* share of peak that kernels reach, in (0, 1] */
    double int_ops, int_efficiency;        /* of integer weights, on machines that multiply them as
                                              integers (cpu: W8A8, W4A8); 0: as floats (W4A16) */
    double link_bandwidth;                 /* bytes/s to host memory, each way (swap) */
    double launch_ns;                      /* fixed cost of one operation */
    uint64_t host_step_ns, host_seq_ns;    /* scheduling: per step and per sequence in it */
    double graph_launch_ns;                /* the same when a step is replayed as a graph; 0: no graphs */
    uint64_t mem_bytes;
    /* Optional measured tables ("ops"), written by `servelab profile`; what they lack is charged by the roofline. */
    struct sim_table *table;
    uint32_t n_table;
    char *text, sha256[SHA256_HEX];        /* the file as it was read: valid JSON, NUL at the end; its sum */
    bool is_own;                           /* it is not one of those under kernels/sim/profiles */
};

/* NAME under kernels/sim/profiles (without .json), or a path. Unknown keys are refused. */
int  profile_load(struct sim_profile *p, const char *name, struct err *e);
void profile_free(struct sim_profile *p);
/* Time of an operation by its table, or a negative number when there is none for its shape. */
double profile_lookup(const struct sim_profile *p, enum op op, const struct op_cost *c);

#endif
