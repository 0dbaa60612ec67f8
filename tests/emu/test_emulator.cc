/* test_emulator.cc - the emulator itself: what it poisons, schedules, counters. What it must catch is in
 * test_emu_faults.cc, its CUDA runtime in test_emu_runtime.cc, the primitives in test_emu_prims.cc.
 * Kernels are as small as what they show. */
#include <vector>

#include "kernels/cuda/prims.h"
#include "tests/emu/emu_test.h"

/* --- Asynchronous copies are there after the right wait, and NaN before. */
template <int KEEP> __global__ void k_async(float *out, const float *in)
{
    DYN_SHARED(float, s);

    for (int i = 0; i < 2; i++) {
        cp_async16(s + i * 4, in + i * 4, threadIdx.x == 0);
        cp_commit();
    }
    cp_wait<KEEP>();
    for (int i = 0; i < 8; i++)
        out[i] = s[i];
}
static void async_copies(void)
{
    float in[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, h[8], *out = device_new<float>(8),
          *src = device_new<float>(8);

    put(src, in, 8);
    CU_ASSERT_EQUAL(LAUNCH((k_async<0>), 1, 1, 32, 0, out, src), cudaSuccess);
    get(h, out, 8);
    CU_ASSERT(memcmp(h, in, sizeof h) == 0);
    CU_ASSERT_EQUAL(LAUNCH((k_async<1>), 1, 1, 32, 0, out, src), cudaSuccess);
    get(h, out, 8);
    CU_ASSERT(memcmp(h, in, 16) == 0);
    for (int i = 4; i < 8; i++)
        CU_ASSERT(isnan(h[i]));
    CU_ASSERT_EQUAL(LAUNCH((k_async<2>), 1, 1, 32, 0, out, src), cudaSuccess);
    get(h, out, 8);
    CU_ASSERT(isnan(h[0]) && isnan(h[7]));
    cudaFree(out), cudaFree(src);
}

/* --- Shared memory is NaN when a block begins, whatever the last one left. */
__global__ void k_stale(float *out)
{
    DYN_SHARED(float, s);

    out[blockIdx.x * 32 + threadIdx.x] = s[threadIdx.x];
    s[threadIdx.x] = 1;
}
/* Atomics, the last arriver, blocks of every index. */
__global__ void k_last(uint32_t *total, uint32_t *part, uint32_t *counter)
{
    uint32_t b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);

    part[b * blockDim.x + threadIdx.x] = b * 100 + threadIdx.x;
    if (!last_arriver(counter, gridDim.x * gridDim.y * gridDim.z) || threadIdx.x)
        return;
    for (uint32_t i = 0; i < gridDim.x * gridDim.y * gridDim.z * blockDim.x; i++)
        *total += part[i];
}
static void blocks(void)
{
    each_schedule([] {
        float *out = device_new<float>(96), h[96];
        uint32_t *u = device_new<uint32_t>(2 + 12 * 40), hu[2], want = 0;

        CU_ASSERT_EQUAL(LAUNCH(k_stale, 3, 32, 128, 0, out), cudaSuccess);
        get(h, out, 96);
        for (int i = 0; i < 96; i++)
            CU_ASSERT(isnan(h[i]));
        CU_ASSERT_EQUAL(cudaMemset(u, 0, 8), cudaSuccess);
        for (int again = 0; again < 2; again++)        /* the counter is 0 again */
            CU_ASSERT_EQUAL(LAUNCH(k_last, dim3(3, 2, 2), 40, 0, 0, u, u + 2, u + 1), cudaSuccess);
        get(hu, u, 2);
        for (uint32_t b = 0; b < 12; b++)
            for (uint32_t t = 0; t < 40; t++)
                want += b * 100 + t;
        CU_ASSERT_EQUAL(hu[0], 2 * want);
        CU_ASSERT_EQUAL(hu[1], 0);
        cudaFree(out), cudaFree(u);
    });
}

/* --- The schedules differ, and each is the same when repeated. */
__global__ void k_order(uint32_t *order, uint32_t *n)
{
    order[atomic_add_u32(n, 1)] = blockIdx.x * 64 + threadIdx.x;
}
static std::vector<uint32_t> order_of(enum emu_order o, uint64_t seed)
{
    uint32_t *order = device_new<uint32_t>(256), *n = device_new<uint32_t>(1);
    std::vector<uint32_t> h(256);

    emu_schedule(o, seed);
    CU_ASSERT_EQUAL(cudaMemset(n, 0, 4), cudaSuccess);
    CU_ASSERT_EQUAL(LAUNCH(k_order, 4, 64, 0, 0, order, n), cudaSuccess);
    get(h.data(), order, 256);
    cudaFree(order), cudaFree(n);
    emu_schedule(EMU_ASCENDING, 0);
    return h;
}
static void schedules(void)
{
    std::vector<uint32_t> up = order_of(EMU_ASCENDING, 0), down = order_of(EMU_DESCENDING, 0);

    for (uint32_t i = 0; i < 256; i++) {
        CU_ASSERT_EQUAL(up[i], i);
        CU_ASSERT_EQUAL(down[i], 255 - i);
    }
    CU_ASSERT(order_of(EMU_RANDOM, 1) == order_of(EMU_RANDOM, 1));
    CU_ASSERT(order_of(EMU_RANDOM, 1) != order_of(EMU_RANDOM, 2));
    CU_ASSERT(order_of(EMU_RANDOM, 1) != up);
}

/* --- What the wrappers count. */
__global__ void k_count(uint4 *out, const uint4 *in)
{
    DYN_SHARED(uint4, s);
    uint32_t r[4], row = lane_id();

    cp_async16(s + row, in + row, row < 24);
    cp_commit();
    cp_wait<0>();
    warp_sync();
    ldsm_x4(r, s + row);                           /* rows side by side: no conflict */
    ldsm_x4(r, s + row % 8 / 4 * 8 + row % 4);     /* two rows in each bank: 4 of 8, four times */
    st_16(out + row, ld_global_16(in + row));
}
static void counters(void)
{
    uint4 *a = device_new<uint4>(32), *b = device_new<uint4>(32);
    const struct emu_counts *c;

    emu_counters_reset();
    CU_ASSERT_EQUAL(LAUNCH(k_count, 1, 32, 512, 0, a, b), cudaSuccess);
    c = emu_counters();
    CU_ASSERT_EQUAL(c->launches, 1);
    CU_ASSERT_EQUAL(c->threads, 32);
    CU_ASSERT_EQUAL(c->async_bytes, 24 * 16);
    CU_ASSERT_EQUAL(c->load_bytes, (24 + 32) * 16);
    CU_ASSERT_EQUAL(c->store_bytes, 32 * 16);
    CU_ASSERT_EQUAL(c->ldsm, 8);
    CU_ASSERT_EQUAL(c->ldsm_conflicts, 16);
    cudaFree(a), cudaFree(b);
}

static const struct test tests[] = {
    { "async copies", async_copies },
    { "blocks", blocks },
    { "schedules", schedules },
    { "counters", counters },
    { NULL, NULL }
};
extern "C" {
extern const struct suite suite_emulator;
const struct suite suite_emulator = { "emulator", tests, 120 };
}
