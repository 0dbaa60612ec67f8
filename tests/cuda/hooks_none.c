/* hooks_none.c - tests/emu/hooks.h on a real GPU: there is no emulator to ask. Tests that need one are left out there. */
#include "tests/emu/hooks.h"

void hook_device(int cc, int n_sm, size_t memory) { (void)cc, (void)n_sm, (void)memory; }
void hook_order(int order, uint64_t seed) { (void)order, (void)seed; }
struct hook_counts hook_counts(void) { return (struct hook_counts){ 0 }; }
void hook_reset(void) {}
size_t hook_device_bytes(void) { return 0; }
void hook_fail(const char *api, uint64_t after, enum hook_failure how) { (void)api, (void)after, (void)how; }
void hook_fail_none(void) {}
