/* check.h - what must hold after every step, whatever the strategy: on in tests and in `servelab
 * dst`.
 *
 * Conservation of requests and KV slots, lengths, nobody writes what others read, no idle server
 * while work waits, and progress: preemption must not eat what it makes room for. */
#ifndef HARNESS_CHECK_H
#define HARNESS_CHECK_H

#include "strategies/strategy.h"

#ifdef SERVELAB_CHECK
enum { CHECK_ALWAYS = 1 };
#else
enum { CHECK_ALWAYS = 0 };
#endif

struct checker {
    uint32_t *owner, n_slot;       /* [n_slot + 1] scratch, one for `grain` slots */
    uint32_t grain;
    uint32_t max_len, poison;      /* poison: what a scheduler that is no oracle must see as output length */
    uint64_t best, since;          /* most tokens ever known to be done; steps without a new one */
};
bool checker_room(struct checker *c, uint32_t n_slot, uint32_t max_len, uint32_t poison, struct arena *a);

/* Requests: waiting + running = active; known tokens within max_len, at least one to do; the output
 * length hidden from who is no oracle. Blocks:
 * tables lie in the pool and cover n_kv, sums agree with the manager's own count, the list of
 * holders is true. Progress: `done` (tokens run, each once) rises before long. -1 with e naming the
 * culprit. */
int check_step(struct checker *c, const struct sched *s, const struct kv *kv,
               struct request *const *active, uint32_t n_active, uint64_t done, struct err *e);
/* Before a step: every slot that it writes belongs to one request alone (copy-on-write). */
int check_writes(struct checker *c, const struct kv *kv, const struct plan *p, struct err *e);
/* Plan: limits, no request twice, 1 <= n <= req_todo, KV room, and every waiting request has a
 * reason. */
int check_plan(const struct sched *s, const struct plan *p, struct err *e);
/* An empty plan: somebody could run, as all that were let in fit alone, unless a time to wake was
 * asked for. */
int check_idle(const struct sched *s, const struct plan *p, uint64_t now_ns, struct err *e);
/* Everybody has left: the manager must give as much, to the device and to host memory, as a fresh
 * one. */
int check_drained(struct kv *kv, struct arena *a, struct err *e);

#endif
