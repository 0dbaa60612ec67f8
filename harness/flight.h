/* flight.h - who is in flight: a list in which everybody knows its place, the batch slots that are taken, and the
 * numbers of tenants. For replay.c. */
#ifndef HARNESS_FLIGHT_H
#define HARNESS_FLIGHT_H

#include "harness/live.h"

enum { FLIGHT_TENANTS = 1024 };        /* further ones share the last number */

struct flight {
    struct request **active;           /* [n], in no order */
    uint32_t n, cap;
    uint64_t *slot_used;               /* bitmap of batch slots */
    uint32_t n_slot_word;
    const char *tenant[FLIGHT_TENANTS];
    uint32_t n_tenant;
};

bool flight_open(struct flight *f, uint32_t max_seq, struct arena *a);     /* false: out of memory */
void flight_close(struct flight *f);
int  flight_add(struct flight *f, struct live *l, struct err *e);
void flight_leave(struct flight *f, const struct live *l);     /* out of the list; its slot is free, but still known */
void flight_seat(struct flight *f, struct live *l);            /* it has none: the first free slot */
void flight_unseat(struct flight *f, struct live *l);
/* Tenants are numbered as they appear; requests without one (NULL) are a tenant of their own. */
uint32_t flight_tenant(struct flight *f, const char *name);

#endif
