/* check.h - conservation, checked after every step in builds with SERVELAB_CHECK. */
#ifndef HARNESS_CHECK_H
#define HARNESS_CHECK_H

#include "strategies/strategy.h"

/* Requests: waiting + running = active. Blocks: each held slot has one owner, tables cover n_kv, sums
 * agree with the manager's own count. -1 with e naming the culprit. `owner` is [n_slot] scratch. */
int check_step(const struct sched *s, const struct kv *kv, struct request *const *active,
               uint32_t n_active, uint32_t *owner, uint32_t n_slot, struct err *e);
/* Before a step: every slot that it writes belongs to one request alone (copy-on-write). */
int check_writes(const struct kv *kv, const struct plan *p, uint32_t *owner, uint32_t n_slot,
                 struct err *e);
/* Plan: limits, no request twice, 1 <= n <= req_todo, KV room, and every waiting request has a reason. */
int check_plan(const struct sched *s, const struct plan *p, struct err *e);

#endif
