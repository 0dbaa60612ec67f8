/* profile.h - what the sim device knows of a machine: a JSON file under kernels/sim/profiles. */
#ifndef KERNELS_SIM_PROFILE_H
#define KERNELS_SIM_PROFILE_H

#include <stdint.h>

#include "base/err.h"

struct sim_profile {
    char name[48], about[200];
    double flops, bandwidth;               /* peak FLOP/s and bytes/s */
    double flop_efficiency, byte_efficiency;   /* share of peak that kernels reach, in (0, 1] */
    double int_ops, int_efficiency;        /* of integer weights, on machines that multiply them as
                                              integers (cpu: W8A8, W4A8); 0: as floats (W4A16) */
    double link_bandwidth;                 /* bytes/s to host memory, each way (swap) */
    double launch_ns;                      /* fixed cost of one operation */
    uint64_t host_step_ns, host_seq_ns;    /* scheduling: per step and per sequence in it */
    uint64_t mem_bytes;
};

/* NAME under kernels/sim/profiles (without .json), or a path. Unknown keys are refused. */
int profile_load(struct sim_profile *p, const char *name, struct err *e);

#endif
