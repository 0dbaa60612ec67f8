/* ordered.h - what schedulers share that admit by a key instead of by arrival: a whole step, with preemption. */
#ifndef STRATEGIES_ORDERED_H
#define STRATEGIES_ORDERED_H

#include "strategies/queues.h"

/* A scheduler that steps as sched/chunked.c does, but admits the smallest key first; the first member of
 * its state. The running requests are kept by key: the last one yields when memory is out. When
 * `preemptive`, it also yields to a waiting request with a strictly smaller key that lacks a seat or KV. */
struct heap { struct request **at; uint32_t n; };  /* smallest first: by r->rank, then r->id */
struct ordered {
    struct heap waiting;
    struct queue running, yielded;
    uint64_t (*key)(const struct request *r);      /* may fall while r runs, not while it waits */
    enum yield yield;
    bool preemptive;
};
int  ordered_open(struct sched *s, uint64_t (*key)(const struct request *r), struct arena *a,
                  struct err *e);      /* knobs: batch, budget, preempt, preemptive */
void ordered_arrive(struct sched *s, struct request *r);
void ordered_plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p);
void ordered_finish(struct sched *s, struct request *r);

#endif
