/* environment.h - the machine a run was measured on, and whether it was quiet. */
#ifndef HARNESS_ENVIRONMENT_H
#define HARNESS_ENVIRONMENT_H

#include "results/recorder.h"

struct environment {
    char hostname[128], os[128], kernel[160], cpu_model[128], governor[64], compiler[128];
    struct environment_row row;        /* points into the fields above */
};
void environment_read(struct environment *x);

struct quiet { double steal_ticks, busy_ticks, total_ticks, own_s; };
void quiet_read(struct quiet *q);
/* Share of the machine's time that others used or the hypervisor stole between a and b; -1: unknown. */
double quiet_others(const struct quiet *a, const struct quiet *b);
int64_t peak_host_bytes(void);

#endif
