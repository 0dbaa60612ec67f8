/* dst.h - deterministic simulation testing: from one seed a strategy, a server and a workload, run
 * on the shadow device, checked after every step and against what each request must produce alone.
 *
 * After VOPR of TigerBeetle and swarm testing (Groce et al. 2012): each seed leaves most features
 * out, so that rare combinations of the others are reached. A seed draws the same case on every
 * machine as long as the registered parts and their knobs are the same. */
#ifndef HARNESS_DST_H
#define HARNESS_DST_H

#include "harness/loaded.h"
#include "harness/replay.h"
#include "kernels/shadow/shadow.h"

enum relation { REL_NONE, REL_TWICE, REL_SHIFTED, REL_AMPLE, REL_N };

struct dst_case {
    uint64_t seed;
    char strategy[256];
    uint32_t kv_slots, host_slots, max_len, max_new;
    struct shadow_faults faults;
    uint32_t stop_after;           /* requests that leave before the stop signal; 0: none */
    uint64_t max_ns;               /* the run is cut then; 0: never */
    enum relation relation;        /* what is compared beyond the run itself */
    struct trace trace;
};
/* only: NULL, or the name of a scheduler or memory manager that must take part. */
int  dst_draw(struct dst_case *c, uint64_t seed, const char *only, struct err *e);
void dst_draw_trace(struct trace *t, uint32_t max_len, struct rng *r);
void dst_print(const struct dst_case *c);
void dst_case_free(struct dst_case *c);

/* reach: over all runs, how much was really exercised (cached: tokens that nobody had to run). */
struct dst_lab {
    struct device dev;
    struct model_shape shape;
    struct loaded_set models;
    struct dst_reach { uint64_t steps, preemptions, finished, cached, copies, swaps; } reach;
};
int  dst_open(struct dst_lab *l, struct err *e);
void dst_close(struct dst_lab *l);

/* 0: all holds; 1: the strategy refuses its knobs; -1: e says what does not hold. */
int  dst_check(struct dst_lab *l, const struct dst_case *c, struct err *e);
/* Makes the trace of a failing case as small as it stays failing; each try in a process of its own.
 * Returns the number of tries. */
int  dst_shrink(struct dst_lab *l, struct dst_case *c);
/* dst_check in a child: also 0 or -1 when that crashes or hangs. */
int  dst_check_apart(struct dst_lab *l, const struct dst_case *c, struct err *e);

#endif
