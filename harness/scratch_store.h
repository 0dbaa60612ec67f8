/* scratch_store.h - a throw-away database with one open run, for benchmarks that log. */
#ifndef HARNESS_SCRATCH_STORE_H
#define HARNESS_SCRATCH_STORE_H

#include "results/recorder.h"

struct scratch_store { struct recorder *rec; char path[64]; };

int  scratch_store_open(struct scratch_store *s, bool keep_in_memory, struct err *e);
void scratch_store_close(struct scratch_store *s);         /* also after a failed open; deletes the file */

#endif
