/* emu_fiber.cc - fibers with a hand-made stack switch (x86-64; elsewhere ucontext, nine times
 * slower).
 *
 * Compiled without sanitizers into one object that serves all builds: their fiber calls are weak
 * symbols. Stacks are mapped once, with a page below that faults, and kept: creating a TSan fiber
 * costs hundreds of microseconds. TSan switches carry no ordering; only what the kernel does orders
 * its memory. */
#include "tests/emu/emu_fiber.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#if defined(__x86_64__) && !defined(EMU_UCONTEXT)
#define EMU_SWITCH 1                   /* EMU_UCONTEXT: the other way, to try it here */
#else
#include <ucontext.h>
#endif

#define WEAK __attribute__((weak))
extern "C" {
void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size) WEAK;
void __sanitizer_finish_switch_fiber(void *save, const void **bottom_old, size_t *size_old) WEAK;
void *__tsan_get_current_fiber(void) WEAK;
void *__tsan_create_fiber(unsigned flags) WEAK;
void __tsan_switch_to_fiber(void *fiber, unsigned flags) WEAK;
void __tsan_acquire(void *addr) WEAK;
void __tsan_release(void *addr) WEAK;
void __tsan_ignore_thread_begin(void) WEAK;
void __tsan_ignore_thread_end(void) WEAK;
void AnnotateIgnoreReadsBegin(const char *f, int l) WEAK;
void AnnotateIgnoreReadsEnd(const char *f, int l) WEAK;
void AnnotateIgnoreWritesBegin(const char *f, int l) WEAK;
void AnnotateIgnoreWritesEnd(const char *f, int l) WEAK;
void emu_fiber_switch(void **save, void *load);
void emu_fiber_start(void);
}

enum { STACK = 256 * 1024, GUARD = 4096, MAX_FIBERS = 2048 };

struct fiber {
    unsigned index;
    void *sp;                          /* where it stopped */
    char *stack; /* lowest usable byte; NULL: the host thread's, not known yet */
    const void *bottom;
    size_t size;
    void *tsan, *asan;
#ifndef EMU_SWITCH
    ucontext_t context;
#endif
};
static struct fiber own, pool[MAX_FIBERS];
static struct fiber *switched_from;
struct fiber *const fiber_main = &own;

#ifdef EMU_SWITCH
/* Saves the six registers that a call must preserve, and the stack pointer; loads the other's. */
asm(".text\n"
    ".globl emu_fiber_switch\n.hidden emu_fiber_switch\n.type emu_fiber_switch,@function\n"
    "emu_fiber_switch:\n"
    "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq "
    "%r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
    "    ret\n"
    ".size emu_fiber_switch,.-emu_fiber_switch\n"
    ".globl emu_fiber_start\n.hidden emu_fiber_start\n.type emu_fiber_start,@function\n"
    "emu_fiber_start:\n" /* r12: the fiber, r13: its first function */
    "    movq %r12, %rdi\n    xorl %ebp, %ebp\n    callq *%r13\n    ud2\n"
    ".size emu_fiber_start,.-emu_fiber_start\n");
#endif

/* The arriving side of a switch. */
static void arrived(struct fiber *self)
{
    if (__sanitizer_finish_switch_fiber) {
        const void *bottom;
        size_t size;

        __sanitizer_finish_switch_fiber(self->asan, &bottom, &size);
        if (switched_from == fiber_main && !fiber_main->bottom)
            fiber_main->bottom = bottom, fiber_main->size = size;
    }
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
    if (from == to)
        return;
    if (__tsan_switch_to_fiber) {
        if (!from->tsan)
            from->tsan = __tsan_get_current_fiber();
        __tsan_switch_to_fiber(to->tsan, 1);
    }
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(&from->asan, to->bottom, to->size);
    switched_from = from;
#ifdef EMU_SWITCH
    emu_fiber_switch(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
    arrived(from);
}

static void fiber_loop(struct fiber *self)
{
    arrived(self);
    for (;;) {
        fiber_run(self->index);
        fiber_switch(self, fiber_done(self->index));
    }
}

#ifdef EMU_SWITCH
static void fiber_prepare(struct fiber *f)
{
    void **sp = reinterpret_cast<void **>(f->stack + STACK);

    *--sp = nullptr;
    *--sp = nullptr;                   /* 16-byte aligned at the call in emu_fiber_start */
    *--sp = reinterpret_cast<void *>(emu_fiber_start);
    *--sp = nullptr;                                           /* rbp */
    *--sp = nullptr;                                           /* rbx */
    *--sp = f;                                                 /* r12 */
    *--sp = reinterpret_cast<void *>(fiber_loop);              /* r13 */
    *--sp = nullptr;                                           /* r14 */
    *--sp = nullptr;                                           /* r15 */
    f->sp = sp;
}
#else
static void fiber_enter(unsigned hi, unsigned lo)
{
    fiber_loop(reinterpret_cast<struct fiber *>((size_t)hi << 16 << 16 | lo));
}
static void fiber_prepare(struct fiber *f)
{
    size_t at = reinterpret_cast<size_t>(f);

    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = nullptr;
    makecontext(&f->context, reinterpret_cast<void (*)()>(fiber_enter), 2,
                (unsigned)(at >> 16 >> 16), (unsigned)at);
}
#endif

struct fiber *fiber_get(unsigned i)
{
    struct fiber *f = &pool[i];
    void *map;

    if (i >= MAX_FIBERS) {
        fprintf(stderr, "emu: fiber %u of %d\n", i, MAX_FIBERS);
        abort();
    }
    if (f->stack)
        return f;
    map = mmap(nullptr, STACK + GUARD, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED || mprotect(map, GUARD, PROT_NONE)) {
        perror("emu: a fiber's stack");
        abort();
    }
    f->index = i;
    f->stack = static_cast<char *>(map) + GUARD;
    f->bottom = f->stack;
    f->size = STACK;
    if (__tsan_create_fiber)
        f->tsan = __tsan_create_fiber(0);
    fiber_prepare(f);
    return f;
}

bool tsan_here(void) { return __tsan_switch_to_fiber != nullptr; }
void tsan_acquire(void *object)
{
    if (__tsan_acquire)
        __tsan_acquire(object);
}
void tsan_release(void *object)
{
    if (__tsan_release)
        __tsan_release(object);
}
void tsan_pause(void)
{
    if (tsan_here()) {
        AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
        AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    }
}
void tsan_resume(void)
{
    if (tsan_here()) {
        AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
        AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    }
}
