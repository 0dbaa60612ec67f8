/* hooks.cc - see hooks.h. */
#include "tests/emu/hooks.h"

#include "tests/emu/emu.h"

void hook_device(int cc, int n_sm, size_t memory)
{
    if (cc)
        emu_device(cc, n_sm, memory);
    else
        emu_device(90, 6, (size_t)2 << 30);
}

void hook_order(int order, uint64_t seed)
{
    emu_schedule(order == 0 ? EMU_ASCENDING : order == 1 ? EMU_DESCENDING : EMU_RANDOM, seed);
}

struct hook_count hook_counts(void)
{
    const struct emu_counts *c = emu_counters();

    return { c->launches, c->graphs_made, c->graph_launches };
}

void hook_reset(void) { emu_counters_reset(); }
size_t hook_device_bytes(void) { return emu_device_bytes(); }

void hook_fail(const char *api, uint64_t after, enum hook_failure how)
{
    emu_fail(api, after, how == HOOK_NO_MEMORY ? cudaErrorMemoryAllocation : cudaErrorLaunchFailure);
}

void hook_fail_none(void) { emu_fail(NULL, 0, cudaSuccess); }
