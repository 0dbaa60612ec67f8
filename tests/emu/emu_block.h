/* emu_block.h - the block that runs: its threads, warps and waiting. Private to emu_block.cc and
 * emu_calls.cc, which are compiled without sanitizers. */
#ifndef EMU_BLOCK_H
#define EMU_BLOCK_H

#include "tests/emu/emu_fiber.h"
#include "tests/emu/emu_run.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

enum { MAX_THREADS = 1024, WARP = 32, SLOT = 48 };
enum state { READY, AT_BARRIER, AT_WARP, RETURNED };

struct thread {
    struct emu_thread self;
    struct fiber *fiber;
    enum state state;
    struct emu_where where;
    uint64_t group;                    /* cp.async groups committed */
    struct emu_copy *copy;             /* queue, oldest first */
    unsigned n_copy, first_copy, cap_copy;
    unsigned char parity;              /* of its next warp call */
};
struct warp {
    uint32_t live, arrived;            /* sets of lanes */
    enum emu_call call;
    struct emu_where where;
    alignas(16) unsigned char slot[2][WARP][SLOT];
};
struct block {
    const char *name;
    const std::function<void()> *body;
    unsigned n, live, n_warp, at_barrier, now;
    unsigned ready[MAX_THREADS], head, n_ready;
    struct emu_where barrier;
    bool any, result;
    unsigned char parity;
    bool atomic; /* a thread of this block did an atomic: a fence now acquires */
    char start, end, fence;            /* addresses for TSan; and those of this block alone: */
    char (*order)[2];                  /* [0]: of the barrier, [1 + i]: of warp i */
    unsigned char *shared, *under_way; /* the second: of each 4 bytes, whether a copy is */
    size_t shared_bytes;
};
extern struct thread thread[MAX_THREADS];
extern struct warp warp[MAX_THREADS / WARP];
extern struct block blk;
extern const char *const call_name[EMU_CALL_N];

/* Threads from..to-1 that are in a state can run again; the calling thread waits until it can. */
void wake(unsigned from, unsigned to, enum state s);
void wait_for(unsigned me);

#endif
