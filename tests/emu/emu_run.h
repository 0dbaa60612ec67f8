/* emu_run.h - what the emulator's own sources share. */
#ifndef EMU_RUN_H
#define EMU_RUN_H

#include "tests/emu/emu.h"

/* emu_block.cc */
extern struct emu_counts emu_count;
void emu_grid(const char *name, dim3 grid, dim3 block, size_t smem,
              const std::function<void()> &body);
void emu_order_set(enum emu_order o, uint64_t seed);
[[noreturn]] void emu_abort(struct emu_where w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* emu_stream.cc: work that a stream will do, in the order of the calls */
cudaError_t emu_push(cudaStream_t s, std::function<void()> work);
void emu_drain(void);
bool emu_capturing(cudaStream_t s);
/* Is a call that no capture allows made while one is under way? Then that capture is lost. */
bool emu_capture_broken(void);

/* emu_cuda.cc: remembers a failure for cudaGetLastError */
cudaError_t emu_error(cudaError_t e);
/* The failure that a test asked for at this call of an API, else success. */
cudaError_t emu_injected(const char *api);
bool emu_is_pinned(const void *p);

/* emu_mma.cc: slots of the 32 lanes, 12 words each: a[4], b[2], d[4]; d is replaced */
void emu_mma_f16(unsigned char (*slot)[48]);
void emu_mma_bf16(unsigned char (*slot)[48]);

#endif
