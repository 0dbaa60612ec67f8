/* replay.h - the loop: arrivals -> plan -> batch -> step -> count, hand out tokens, finish -> record.
 *
 * Latency counts from the intended arrival. The clock is read only here. Open loop: requests arrive when
 * the trace says (times divided by rate_scale), whatever the server does. */
#ifndef HARNESS_REPLAY_H
#define HARNESS_REPLAY_H

#include <signal.h>
#include <stdatomic.h>

#include "models/model.h"
#include "results/recorder.h"
#include "strategies/strategy.h"

struct replay_progress {           /* written by the loop, read by whoever draws; never waited for */
    atomic_uint_fast64_t requests_done, tokens_run, tokens_out, preemptions;   /* run: once each */
    atomic_uint running, waiting;
};

struct replay_done {
    const struct request *r;
    const char *status, *reason;       /* as in request_row */
    const uint32_t *tokens;            /* [r->n_out]; NULL on a device that does not compute */
    uint64_t hash;                     /* of the tokens */
    uint64_t arrive_ns, admitted_ns, first_ns, last_ns;    /* UINT64_MAX: never happened */
};

struct replay_conf {
    const struct trace *trace;
    const struct strategy *strategy;
    struct model *model;
    struct kv_pool *kv_pool;
    uint32_t kv_slots;             /* <= kv_pool->n_slot: slots the memory manager may hand out */
    uint32_t max_len;              /* longest sequence accepted */
    uint32_t host_slots;           /* tokens of host memory to swap to; 0: none */
    uint32_t max_new;              /* output limit that clients declare; 0: exactly what they will use */
    double rate_scale;             /* > 0; multiplies the arrival rate */
    uint64_t seed;
    enum log_level log;
    struct recorder *recorder;     /* NULL: nothing is logged */
    const volatile sig_atomic_t *stop;     /* NULL, or becomes non-zero: end after this step */
    struct replay_progress *progress;      /* NULL: none */
    uint64_t max_ns;               /* stop after this much time of the device's clock; 0: never */
    bool check;                    /* conservation, progress ... at every step (check.h); always in test builds */
    uint32_t poison;               /* what those who are no oracle read as output length; 0: ORACLE_POISON */
    /* tests and benchmarks: called as each request leaves, whatever its status */
    void (*on_done)(void *self, const struct replay_done *d);
    void *on_done_self;
};

struct replay_result {
    uint64_t n_finished, n_rejected, n_failed, n_censored;     /* sum = requests of the trace */
    uint64_t steps, tokens_in, tokens_out, preemptions, recomputed_tokens;
    uint64_t start_ns, end_ns;                 /* of the device's clock */
    uint64_t first_arrival_ns, window_end_ns;  /* since start: the window of throughput: to the last finish or arrival */
    uint64_t idle_ns;                          /* nothing to do: gained, slept or simulated */
    uint64_t host_ns, device_ns;               /* sums over steps */
    uint64_t late_max_ns;                      /* worst lateness of an arrival that nobody held up */
    uint64_t peak_slots_held;
    uint32_t kv_blocks_total;
    bool was_stopped;
};

/* 0, or -1 with e filled: the scheduler is stuck or broke a rule, the device failed, the log failed. */
int replay_run(const struct replay_conf *c, struct replay_result *res, struct err *e);

#endif
