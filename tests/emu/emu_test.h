/* emu_test.h - what the suites written in C++ share: device arrays, child processes, all schedules.
 *
 * The suites of primitives, products, cache and attention are also compiled by nvcc and run on a GPU
 * (.ci/cuda-test.mk): there a GPU has its own schedule, and what only the emulator counts is not asked (COUNTED). */
#ifndef EMU_TEST_H
#define EMU_TEST_H

#include <functional>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __CUDACC__
#include "tests/emu/emu.h"
#endif
extern "C" {
#include "tests/test.h"
}

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define EMU_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EMU_TSAN 1
#endif
#endif
#ifndef EMU_ASAN
#define EMU_ASAN 0
#endif
#ifndef EMU_TSAN
#define EMU_TSAN 0
#endif

#ifdef __CUDACC__
#define EMU_GPU 1
#define COUNTED(actual, expected) ((void)0)
inline void emu_device(int, int, size_t) {}
inline size_t emu_device_bytes(void) { return 0; }
inline void emu_counters_reset(void) {}
#else
#define EMU_GPU 0
#define COUNTED(actual, expected) CU_ASSERT_EQUAL(actual, expected)
#endif

/* Fresh memory is NaN, as under emulation. */
template <class T> T *device_new(size_t n)
{
    T *p = nullptr;

    CU_ASSERT_EQUAL_FATAL(cudaMalloc(&p, n * sizeof(T)), cudaSuccess);
    if (EMU_GPU && n)
        CU_ASSERT_EQUAL_FATAL(cudaMemset(p, 0xff, n * sizeof(T)) || cudaDeviceSynchronize(), 0);
    return p;
}
/* On a GPU what a copy from pageable memory leaves under way is not waited for by a stream that does not block. */
template <class T> void put(T *device, const T *host, size_t n)
{
    CU_ASSERT_EQUAL_FATAL(cudaMemcpy(device, host, n * sizeof(T), cudaMemcpyHostToDevice),
                          cudaSuccess);
    if (EMU_GPU)
        CU_ASSERT_EQUAL_FATAL(cudaDeviceSynchronize(), cudaSuccess);
}
template <class T> void get(T *host, const T *device, size_t n)
{
    CU_ASSERT_EQUAL_FATAL(cudaMemcpy(host, device, n * sizeof(T), cudaMemcpyDeviceToHost),
                          cudaSuccess);
}

#ifdef __CUDACC__
inline void each_schedule(const std::function<void()> &f) { f(); }         /* a GPU has its own */
#else
/* Runs f under every order of threads and blocks. */
inline void each_schedule(const std::function<void()> &f)
{
    emu_schedule(EMU_ASCENDING, 0);
    f();
    emu_schedule(EMU_DESCENDING, 0);
    f();
    for (uint64_t seed = 1; seed <= 2; seed++) {
        emu_schedule(EMU_RANDOM, seed);
        f();
    }
    emu_schedule(EMU_ASCENDING, 0);
}

/* What a function did to a process of its own: ended otherwise than by returning, and said what.
 * Under TSan only while the calling process has launched nothing: TSan is blind in a child forked
 * after fibers were made. */
struct child { bool died; char text[6000]; };
inline struct child in_child(const std::function<void()> &f)
{
    struct child c = { false, "" };
    size_t n = 0;
    ssize_t got;
    int fd[2], status = 0;
    char rest[512];
    pid_t pid;

    CU_ASSERT_FATAL(!EMU_TSAN || !emu_counters()->launches);
    CU_ASSERT_EQUAL_FATAL(pipe(fd), 0);
    fflush(NULL);
    pid = fork();
    CU_ASSERT_FATAL(pid >= 0);
    if (pid == 0) {
        dup2(fd[1], 2);
        close(fd[0]);
        f();
        emu_counters();                /* what is still queued */
        exit(0);
    }
    close(fd[1]);
    while ((got = n + 1 < sizeof c.text ? read(fd[0], c.text + n, sizeof c.text - 1 - n) :
                                          read(fd[0], rest, sizeof rest)) > 0)
        if (n + 1 < sizeof c.text)
            n += (size_t)got;
    c.text[n] = 0;
    close(fd[0]);
    waitpid(pid, &status, 0);
    c.died = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    return c;
}
#endif

#endif
