/* sched_drive.h - two ways to look at a scheduler: driven by hand, step by step, with a few requests and no
 * device; or inside a run, by a spy that stands between the loop and the scheduler. */
#ifndef TESTS_SCHED_DRIVE_H
#define TESTS_SCHED_DRIVE_H

#include "tests/lab.h"

enum { DRIVE_REQ = 32 };
struct drive {
    struct arena arena;
    struct sched sched;
    struct kv kv;
    struct plan plan;
    struct slice slice[256];
    struct request r[DRIVE_REQ];
    uint32_t n_req, finished[DRIVE_REQ], n_finished;   /* ids in order of finishing */
};
/* text: scheduler and knobs, such as "chunked:budget=8"; kv: "paged", "prefix" or any with a knob `block`.
 * Prompts of requests with the same tenant above 0 are equal, as far as they go. */
void drive_open_on(struct drive *d, const char *text, const char *kv, uint32_t n_block,
                   uint32_t block_tokens);
static inline void drive_open(struct drive *d, const char *text, uint32_t n_block, uint32_t block_tokens)
{
    drive_open_on(d, text, "paged", n_block, block_tokens);
}
/* A request of n_prompt tokens that will produce n_out. More may be set in d->r[id] before. Returns its id. */
uint32_t drive_arrive(struct drive *d, uint32_t n_prompt, uint32_t n_out);
void drive_plan(struct drive *d, uint64_t now_ns);     /* asks for a plan; checks its sums */
void drive_settle(struct drive *d);                    /* does what it says */
static inline void drive_step(struct drive *d) { drive_plan(d, 0); drive_settle(d); }
uint32_t drive_slice(const struct drive *d, uint32_t id);      /* tokens planned for it; 0: none */
void drive_close(struct drive *d);

enum { SPY_REQ = 4096 };
struct spy {
    struct sched_ops ops;              /* first: the loop sees this one */
    const struct sched_ops *real;
    void (*after)(struct spy *y, const struct sched *s, const struct plan *p, struct kv *kv);
    void *self;
    bool held[SPY_REQ];                /* had blocks before this plan */
    uint64_t admitted[SPY_REQ];        /* number of its latest admission, from 1 */
    uint64_t n_admitted, broken;       /* broken: what `after` found wrong */
    uint32_t now_admitted;             /* by this plan */
    uint64_t ttft_ns[SPY_REQ], e2e_ns[SPY_REQ], served[16];
    uint32_t n_preempt[SPY_REQ], finished[SPY_REQ], n_finished;
    struct replay_result res;
};
struct spy_conf {
    const char *strategy;
    const struct trace *trace;
    uint32_t kv_slots, max_len, max_new;
    void (*after)(struct spy *y, const struct sched *s, const struct plan *p, struct kv *kv);
    void *self;
};
/* The caller frees what comes back. The run must succeed. */
struct spy *spy_run(struct lab *l, const struct spy_conf *c);

#endif
