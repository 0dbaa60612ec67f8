/* experiment_spec.h - sweep.json of an experiment, checked. Texts live as long as root. */
#ifndef HARNESS_EXPERIMENT_SPEC_H
#define HARNESS_EXPERIMENT_SPEC_H

#include "harness/experiment.h"

struct experiment_part {
    const char *name, *kv, *max_new, *log, *profile, *model, *shared;
    json_t *trace, *rates, *small_rates, *strategies;
    double small, slo_ttft, slo_tpot;
    int max_len, limit;
};
struct experiment_spec {
    json_t *root;
    const char *name, *question, *source, *model, *profile;
    double small;
    struct experiment_part part[EXPERIMENT_PARTS];
    size_t n;
};

int experiment_spec_read(struct experiment_spec *s, const char *path, struct err *e);
/* The folder results/NAME, or a path. An unknown name is refused with the nearest. */
int experiment_find(const char *name, char *from, size_t n, struct err *e);

#endif
