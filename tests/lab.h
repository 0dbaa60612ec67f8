/* lab.h - a small laboratory for tests: a device, a model, a KV pool, traces made on the spot. */
#ifndef TESTS_LAB_H
#define TESTS_LAB_H

#include "harness/draw.h"
#include "harness/loaded.h"
#include "harness/replay.h"
#include "strategies/strategy.h"

struct lab {
    struct device dev;
    struct model_shape shape;
    struct loaded_set models;
    struct kv_pool kv;
    struct err e;
};
/* isa: NULL, or one of cpu's; profile: NULL, or one of sim's (name or path). 0, or -1 with l->e. */
int  lab_open(struct lab *l, const char *device, const char *model, uint32_t n_slot, const char *isa,
              const char *profile, enum pace pace);
void lab_close(struct lab *l);

/* What came of each request. */
struct lab_out { uint64_t *hash; uint32_t *n_out; uint64_t *wait_ns, *ttft_ns, *e2e_ns; uint32_t n; };
struct lab_run_conf {
    const char *strategy;
    const struct trace *trace;
    uint32_t kv_slots, max_len;        /* 0: the whole pool; 0: 1024 */
    struct recorder *recorder;
    enum log_level log;
};
/* out may be NULL; its arrays are allocated here, freed by lab_out_free. */
int  lab_run(struct lab *l, const struct lab_run_conf *c, struct replay_result *res,
             struct lab_out *out);
void lab_out_free(struct lab_out *o);

/* n requests with prompts in [1, max_prompt], outputs in [1, max_out], mean gap in us; every prompt token
 * has a block identity, so that a request's tokens do not depend on its row. Half of them share prefixes. */
void lab_trace(struct trace *t, uint32_t n, uint32_t max_prompt, uint32_t max_out, double gap_us,
               uint64_t seed);
/* The hash of each request's tokens when it runs alone, into want [t->n]: what every strategy must give. A failure ends
 * the test. */
void lab_alone(struct lab *l, const struct trace *t, const char *prec, uint32_t max_len, uint64_t *want);
/* How many requests get other tokens than that, said in a note; all of them, and a failure, when the run fails.
 * preempted: how often a request lost its KV is added, or NULL. */
uint32_t lab_differing(struct lab *l, const struct lab_run_conf *c, const uint64_t *want, uint64_t *preempted);
/* A trace of one request of t (arrays are shared; do not free). */
struct trace lab_solo(const struct trace *t, uint32_t i);

#endif
