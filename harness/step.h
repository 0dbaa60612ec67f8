/* step.h - what a step was like while it ran: its row, taken before its results free anything. */
#ifndef HARNESS_STEP_H
#define HARNESS_STEP_H

#include "results/recorder.h"
#include "strategies/strategy.h"

/* Everything but the step's index and times. `counted` is the manager's count at the step before: hits and
 * evictions are logged as differences. */
void step_describe(struct step_row *row, const struct sched *s, const struct kv *kv,
                   const struct plan *p, struct kv_count *counted);

#endif
