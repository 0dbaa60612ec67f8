/* flight.c - see flight.h. Must stay true: active[l->active_index] is l; no slot is given to two. */
#include "harness/flight.h"

#include <stdlib.h>
#include <string.h>

bool flight_open(struct flight *f, uint32_t max_seq, struct arena *a)
{
    f->n_slot_word = max_seq / 64 + 1;
    f->slot_used = ARENA_NEW(a, uint64_t, f->n_slot_word);
    return f->slot_used != NULL;
}

void flight_close(struct flight *f)
{
    free(f->active);
}

int flight_add(struct flight *f, struct live *l, struct err *e)
{
    if (f->n == f->cap) {
        uint32_t cap = f->cap ? f->cap * 2 : 256;
        struct request **active = realloc(f->active, cap * sizeof *active);

        if (!active)
            return err_set(e, EXIT_RUN_FAILED, "out of memory for %u requests in flight", cap);
        f->active = active;
        f->cap = cap;
    }
    l->active_index = f->n;
    f->active[f->n++] = &l->r;
    return 0;
}

static void slot_free(struct flight *f, const struct live *l)
{
    if (l->slot != NO_SLOT)
        f->slot_used[l->slot / 64] &= ~(UINT64_C(1) << (l->slot % 64));
}

void flight_leave(struct flight *f, const struct live *l)
{
    slot_free(f, l);
    f->n--;
    f->active[l->active_index] = f->active[f->n];
    ((struct live *)f->active[l->active_index]->replay)->active_index = l->active_index;
}

void flight_seat(struct flight *f, struct live *l)
{
    for (uint32_t w = 0; w < f->n_slot_word; w++)
        if (~f->slot_used[w]) {
            uint32_t bit = (uint32_t)__builtin_ctzll(~f->slot_used[w]);

            f->slot_used[w] |= UINT64_C(1) << bit;
            l->slot = w * 64 + bit;
            return;
        }
}

void flight_unseat(struct flight *f, struct live *l)
{
    slot_free(f, l);
    l->slot = NO_SLOT;
}

uint32_t flight_tenant(struct flight *f, const char *name)
{
    if (!name)
        name = "";
    for (uint32_t i = 0; i < f->n_tenant; i++)
        if (!strcmp(f->tenant[i], name))
            return i;
    if (f->n_tenant == FLIGHT_TENANTS)
        return FLIGHT_TENANTS - 1;
    f->tenant[f->n_tenant] = name;
    return f->n_tenant++;
}
