/* emu_fiber.h - fibers: stacks that one host thread switches between; private to the emulator's
 * runtime. */
#ifndef EMU_FIBER_H
#define EMU_FIBER_H

#include <stddef.h>

struct fiber;                          /* pooled: one that has ended its run starts the next */
extern struct fiber *const fiber_main; /* the host thread's own stack */

/* Fiber number i, made on first use; runs fiber_run(i) each time it is switched to with nothing
 * under way. */
struct fiber *fiber_get(unsigned i);
void fiber_run(unsigned i); /* given by emu_block.cc; afterwards fiber_done(i) is switched to */
struct fiber *fiber_done(unsigned i);
void fiber_switch(struct fiber *from, struct fiber *to);

/* What TSan is told; nothing in other builds. Objects are any addresses. */
bool tsan_here(void);
void tsan_acquire(void *object);
void tsan_release(void *object);
void tsan_pause(void);                 /* accesses until tsan_resume are nobody's */
void tsan_resume(void);

#endif
