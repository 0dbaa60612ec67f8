/* hooks.h - what the device suites (C) ask of the emulator (C++): its size, its counters, failures on request.
 *
 * The names are weak: where the suites run on a GPU there is no emulator, and what needs it is skipped. */
#ifndef EMU_HOOKS_H
#define EMU_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hook_count { uint64_t launches, graphs_made, graph_launches; };

#define WEAK __attribute__((weak))
WEAK void hook_device(int cc, int n_sm, size_t memory);    /* 0, 0, 0: as it was at the start */
WEAK void hook_order(int order, uint64_t seed);            /* 0 ascending, 1 descending, 2 random */
WEAK struct hook_count hook_counts(void);                 /* since the last hook_reset */
WEAK void hook_reset(void);
WEAK size_t hook_device_bytes(void);                       /* device memory not yet freed */
/* The call of `api` after `after` further ones fails once, as out of memory or as a failed launch. */
enum hook_failure { HOOK_NO_MEMORY, HOOK_LAUNCH_FAILED };
WEAK void hook_fail(const char *api, uint64_t after, enum hook_failure how);
WEAK void hook_fail_none(void);
static inline bool emulated(void) { return hook_counts != NULL; }

#ifdef __cplusplus
}
#endif

#endif
