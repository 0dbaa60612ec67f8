/* validity.h - when a run counts: the rules of docs/METRICS.md, each with its reason in words. */
#ifndef HARNESS_VALIDITY_H
#define HARNESS_VALIDITY_H

#include "harness/replay.h"
#include "kernels/device.h"

struct validity { const char *word; char reasons[600]; };     /* word: valid, suspect, invalid */

/* others: share of the machine that others used, -1 when unknown (virtual clocks pass 0). */
void validity_judge(struct validity *v, const struct replay_conf *c, const struct replay_result *r,
                    bool is_virtual, enum pace pace, double others);
/* After it: operations that a profile of measured tables left to its cost model. From a hundredth of the time on the
 * run is suspect: it is not what its label says. */
void validity_modelled(struct validity *v, const struct charged *c);

#endif
