/* validity.h - when a run counts: the rules of docs/METRICS.md, each with its reason in words. */
#ifndef HARNESS_VALIDITY_H
#define HARNESS_VALIDITY_H

#include "harness/replay.h"

struct validity { const char *word; char reasons[600]; };     /* word: valid, suspect, invalid */

/* others: share of the machine that others used, -1 when unknown (virtual clocks pass 0). */
void validity_judge(struct validity *v, const struct replay_conf *c, const struct replay_result *r,
                    bool is_virtual, enum pace pace, double others);

#endif
