/* test_emulator.cc - the emulator itself: its primitives against plain definitions, schedules,
 * counters. What it must catch is in test_emu_faults.cc, its CUDA runtime in test_emu_runtime.cc.
 * Kernels are as small as what they show. */
#include <vector>

#include "kernels/cuda/prims.h"
#include "kernels/format.h"
#include "tests/emu/emu_test.h"

static float value_at(unsigned i) { return (float)((int)(i * 2654435761u >> 20) % 64) / 32.0f; }

/* --- mma and ldmatrix: C = A B with A [16][16], B stored [n][k] or [k][n], through shared memory.
 */
template <bool BF16, bool TRANS>
__global__ void k_tile(float *c, const uint16_t *a, const uint16_t *b)
{
    DYN_SHARED(uint16_t, s);
    uint32_t fa[4], fb[2], l = threadIdx.x;
    float d[4] = { 0, 0, 0, 0 };

    for (unsigned i = l; i < 256; i += 32)
        s[i] = a[i];
    for (unsigned i = l; i < 128; i += 32)
        s[256 + i] = b[i];
    warp_sync();
    ldsm_x4(fa, s + (l % 16) * 16 + l / 16 * 8);
    if (TRANS)
        ldsm_x2_trans(fb, s + 256 + (l % 16) * 8);
    else
        ldsm_x2(fb, s + 256 + (l % 8) * 16 + l / 8 % 2 * 8);
    if (BF16)
        mma_bf16(d, fa, fb);
    else
        mma_f16(d, fa, fb);
    for (unsigned i = 0; i < 4; i++)
        c[(l / 4 + i / 2 * 8) * 8 + l % 4 * 2 + i % 2] = d[i];
}

template <bool BF16, bool TRANS> static void tile_case(void)
{
    float *c = device_new<float>(128);
    uint16_t *a = device_new<uint16_t>(256), *b = device_new<uint16_t>(128), ha[256], hb[128];
    float hc[128];
    unsigned bad = 0;

    for (unsigned i = 0; i < 256; i++)
        ha[i] = BF16 ? __bfloat16_as_ushort(__float2bfloat16_rn(value_at(i)))
                     : __half_as_ushort(__float2half_rn(value_at(i)));
    for (unsigned k = 0; k < 16; k++)
        for (unsigned n = 0; n < 8; n++) {
            float v = value_at(1000 + k * 8 + n);

            hb[TRANS ? k * 8 + n : n * 16 + k] = BF16 ? __bfloat16_as_ushort(__float2bfloat16_rn(v))
                                                      : __half_as_ushort(__float2half_rn(v));
        }
    put(a, ha, 256);
    put(b, hb, 128);
    CU_ASSERT_EQUAL(LAUNCH((k_tile<BF16, TRANS>), 1, 32, 768, 0, c, a, b), cudaSuccess);
    get(hc, c, 128);
    for (unsigned m = 0; m < 16; m++)
        for (unsigned n = 0; n < 8; n++) {
            float want = 0;

            for (unsigned k = 0; k < 16; k++)
                want += value_at(m * 16 + k) * value_at(1000 + k * 8 + n);
            bad += hc[m * 8 + n] != want;          /* small multiples of 1/32: exact */
        }
    CU_ASSERT_EQUAL(bad, 0);
    cudaFree(a), cudaFree(b), cudaFree(c);
}
static void tiles(void)
{
    each_schedule([] {
        tile_case<false, false>();
        tile_case<false, true>();
        tile_case<true, false>();
        tile_case<true, true>();
    });
}

/* --- Warp calls: each against its definition. */
__global__ void k_warp(uint32_t *out)
{
    uint32_t l = threadIdx.x, *o = out + l * 12;

    o[0] = warp_xor(l, 5);
    o[1] = warp_idx(l * 3, 7);
    o[2] = warp_up(l, 4);
    o[3] = warp_down(l, 9);
    o[4] = warp_ballot(l % 3 == 0);
    o[5] = warp_any(l == 40) * 2 + warp_all(l < 64);
    o[6] = (uint32_t)warp_sum((float)(l % 32));
    o[7] = (uint32_t)warp_max((float)(l % 32));
    o[8] = (uint32_t)lanes_sum<4>((float)l);
    o[9] = (uint32_t)(warp_xor((uint64_t)l << 40, 1) >> 40);
    o[10] = prmt(0x03020100u, 0x07060504u, 0x7105u);
    o[11] = lop3_and_or(0xabcdu, 0xf0f0u, 0x64006400u);
}
static void warp_calls(void)
{
    each_schedule([] {
        uint32_t *out = device_new<uint32_t>(64 * 12), o[64 * 12], bad = 0;

        CU_ASSERT_EQUAL(LAUNCH(k_warp, 1, 64, 0, 0, out), cudaSuccess);
        get(o, out, 64 * 12);
        for (uint32_t i = 0; i < 64; i++) {
            uint32_t l = i % 32, base = i - l, ballot = 0;

            for (uint32_t j = 0; j < 32; j++)
                ballot |= (uint32_t)((base + j) % 3 == 0) << j;
            bad += o[i * 12] != base + (l ^ 5);
            bad += o[i * 12 + 1] != (base + 7) * 3;
            bad += o[i * 12 + 2] != (l < 4 ? i : i - 4);
            bad += o[i * 12 + 3] != (l > 22 ? i : i + 9);
            bad += o[i * 12 + 4] != ballot;
            bad += o[i * 12 + 5] != (i < 32 ? 1u : 3u);
            bad += o[i * 12 + 6] != 496 || o[i * 12 + 7] != 31;
            bad += o[i * 12 + 8] != i / 4 * 16 + 6;
            bad += o[i * 12 + 9] != (i ^ 1);
            bad += o[i * 12 + 10] != 0x07010005u || o[i * 12 + 11] != 0x6400e4c0u;
        }
        CU_ASSERT_EQUAL(bad, 0);
        cudaFree(out);
    });
}

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

/* --- The number formats of the primitives: every byte, exactly. */
__global__ void k_bytes(float *out)
{
    __half2 h[2];
    uint32_t i = threadIdx.x, q = i * 0x01010101u;

    s8x4_to_h2(q, h);
    out[i] = h2_floats(h[0]).x + h2_floats(h[1]).y - h2_floats(h[0]).y;
    fp8x4_to_h2(q, h);
    out[256 + i] = h2_floats(h[1]).x;
    out[512 + i] = (float)(floats_to_fp8x2(h2_floats(h[0]).x, 1000) & 0xff);
}
static void formats(void)
{
    float *out = device_new<float>(768), h[768];

    CU_ASSERT_EQUAL(LAUNCH(k_bytes, 1, 256, 0, 0, out), cudaSuccess);
    get(h, out, 768);
    for (unsigned i = 0; i < 256; i++) {
        float want = f32_from_fp8((uint8_t)i);

        CU_ASSERT(h[i] == (float)(int8_t)i);
        CU_ASSERT(h[256 + i] == want || (isnan(want) && isnan(h[256 + i])));
        CU_ASSERT(h[512 + i] == (float)i || isnan(want));
    }
    cudaFree(out);
}

static const struct test tests[] = {
    { "tiles", tiles },
    { "warp calls", warp_calls },
    { "async copies", async_copies },
    { "blocks", blocks },
    { "schedules", schedules },
    { "counters", counters },
    { "formats", formats },
    { NULL, NULL }
};
extern "C" {
extern const struct suite suite_emulator;
const struct suite suite_emulator = { "emulator", tests, 120 };
}
