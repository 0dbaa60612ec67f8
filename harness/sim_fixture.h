/* sim_fixture.h - a large model on the simulated device and a Poisson trace, for benchmarks of the loop and of
 * schedulers. */
#ifndef HARNESS_SIM_FIXTURE_H
#define HARNESS_SIM_FIXTURE_H

#include "harness/loaded.h"
#include "harness/replay.h"

struct sim_fixture {
    struct device dev;
    struct model_shape shape;
    struct loaded_set models;
    struct kv_pool kv;
    struct trace trace;
};
/* Lengths are exponential with these means, at least 1, and wrap at most. */
struct sim_load { uint32_t n; double gap_us; uint32_t mean_prompt, most_prompt, mean_out, most_out; };

/* llama-3.1-8b on a simulated h200 with n_slot tokens of KV memory. 0, or -1 with e; close it also then. */
int  sim_fixture_open(struct sim_fixture *f, uint32_t n_slot, const struct sim_load *load, struct err *e);
void sim_fixture_close(struct sim_fixture *f);
/* Strategy text over the fixture's trace, for replay_run; st outlives the configuration. */
int  sim_fixture_conf(struct sim_fixture *f, const char *text, struct strategy *st, struct replay_conf *c,
                      struct err *e);

#endif
