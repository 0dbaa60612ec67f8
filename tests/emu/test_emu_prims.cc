/* test_emu_prims.cc - the names of kernels/cuda/prims.h against their plain definitions, in kernels as small as what they
 * show; number formats are in test_emu_halves.cc.
 *
 * Run under emulation, and, compiled by nvcc (.ci/cuda-test.mk), as the first thing on a GPU: there it is not the kernels
 * that are tested but whether the PTX means what prims.h says, so that a misread fragment, selector or size is named
 * here and not guessed from logits. What must stay true: nothing here knows the emulator. */
#include "kernels/cuda/prims.h"
#include "kernels/format.h"
#include "tests/emu/emu_test.h"

static float value_at(unsigned i) { return (float)((int)(i * 2654435761u >> 20) % 64) / 32.0f; }

/* --- mma and ldmatrix: D = A B; A [16][16] stored [m][k] or [k][m], B stored [n][k] or [k][n], through shared memory. */
enum { FILL = 1000 };                      /* where B's values begin */

template <bool BF16, bool TRANS_A, bool TRANS_B>
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
    if (TRANS_A)
        ldsm_x4_trans(fa, s + (l / 16 * 8 + l % 8) * 16 + l / 8 % 2 * 8);
    else
        ldsm_x4(fa, s + (l % 16) * 16 + l / 16 * 8);
    if (TRANS_B)
        ldsm_x2_trans(fb, s + 256 + (l % 16) * 8);
    else
        ldsm_x2(fb, s + 256 + (l % 8) * 16 + l / 8 % 2 * 8);
    for (int twice = 0; twice < 2; twice++)            /* d is added to */
        if (BF16)
            mma_bf16(d, fa, fb);
        else
            mma_f16(d, fa, fb);
    for (unsigned i = 0; i < 4; i++)
        c[(l / 4 + i / 2 * 8) * 8 + l % 4 * 2 + i % 2] = d[i];
}

template <bool BF16> static uint16_t bits_of(float v)
{
    return BF16 ? __bfloat16_as_ushort(__float2bfloat16_rn(v)) : __half_as_ushort(__float2half_rn(v));
}

/* nan: row 3 of A and column 5 of B are NaN, which reaches that row and that column and nothing else. */
template <bool BF16, bool TRANS_A, bool TRANS_B> static void tile_case(bool nan)
{
    float *c = device_new<float>(128), hc[128];
    uint16_t *a = device_new<uint16_t>(256), *b = device_new<uint16_t>(128), ha[256], hb[128];
    unsigned bad = 0;

    for (unsigned m = 0; m < 16; m++)
        for (unsigned k = 0; k < 16; k++)
            ha[TRANS_A ? k * 16 + m : m * 16 + k] = nan && m == 3 ? 0x7fff : bits_of<BF16>(value_at(m * 16 + k));
    for (unsigned k = 0; k < 16; k++)
        for (unsigned n = 0; n < 8; n++)
            hb[TRANS_B ? k * 8 + n : n * 16 + k] =
                nan && n == 5 ? 0x7fff : bits_of<BF16>(value_at(FILL + k * 8 + n));
    put(a, ha, 256);
    put(b, hb, 128);
    CU_ASSERT_EQUAL(LAUNCH((k_tile<BF16, TRANS_A, TRANS_B>), 1, 32, 768, 0, c, a, b), cudaSuccess);
    get(hc, c, 128);
    for (unsigned m = 0; m < 16; m++)
        for (unsigned n = 0; n < 8; n++) {
            float want = 0;                            /* small multiples of 1/1024: exact in any order */

            for (unsigned k = 0; k < 16; k++)
                want += 2 * value_at(m * 16 + k) * value_at(FILL + k * 8 + n);
            bad += nan && (m == 3 || n == 5) ? !isnan(hc[m * 8 + n]) : hc[m * 8 + n] != want;
        }
    if (bad)
        test_note("%s, A %s, B %s%s: %u of 128 wrong", BF16 ? "bf16" : "f16", TRANS_A ? "[k][m]" : "[m][k]",
                  TRANS_B ? "[k][n]" : "[n][k]", nan ? ", NaN" : "", bad);
    CU_ASSERT_EQUAL(bad, 0);
    cudaFree(a), cudaFree(b), cudaFree(c);
}
static void tiles(void)
{
    each_schedule([] {
        for (int nan = 0; nan < 2; nan++) {
            tile_case<false, false, false>(nan);
            tile_case<false, false, true>(nan);
            tile_case<false, true, false>(nan);
            tile_case<false, true, true>(nan);
            tile_case<true, false, false>(nan);
            tile_case<true, true, true>(nan);
        }
    });
}

/* Subnormal halves count in full: decode_fp8 relies on it. */
__global__ void k_small(float *out)
{
    uint32_t a[4] = { 0x00010001u, 0x00010001u, 0, 0 }, b[2] = { 0x3c003c00u, 0 };
    float d[4] = { 0, 0, 0, 0 };

    mma_f16(d, a, b);
    out[threadIdx.x] = d[0];
}
static void small(void)
{
    float *out = device_new<float>(32), h[32];

    CU_ASSERT_EQUAL(LAUNCH(k_small, 1, 32, 0, 0, out), cudaSuccess);
    get(h, out, 32);
    for (int i = 0; i < 32; i++)
        CU_ASSERT(h[i] == 8 * 0x1p-24f);
    cudaFree(out);
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
    o[9] = (uint32_t)(warp_xor((unsigned long long)l << 40, 1) >> 40);
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

/* --- Copies of every size through a ring of three groups, read by another thread of the block; zeros where pred is false,
 * whatever lay there. */
enum { COPY_THREADS = 64, COPY_ROUNDS = 7 };

template <int SIZE> PRIM void copy_one(unsigned char *to, const unsigned char *from, bool pred)
{
    if (SIZE == 4)
        cp_async4(to, from, pred);
    else if (SIZE == 8)
        cp_async8(to, from, pred);
    else if (SIZE == 16)
        cp_async16(to, from, pred);
    else
        cp_async16_once(to, from, pred);
}
template <int SIZE> __global__ void k_copies(unsigned char *out, const unsigned char *in)
{
    constexpr int BYTES = SIZE > 16 ? 16 : SIZE, STAGE = BYTES * COPY_THREADS;
    DYN_SHARED(unsigned char, s);
    uint32_t t = threadIdx.x, other = COPY_THREADS - 1 - t;

    for (int i = 0; i < 3 * BYTES; i++)
        s[t * 3 * BYTES + i] = 0xee;
    block_sync();
    for (int i = 0; i < 2; i++) {
        copy_one<SIZE>(s + i * STAGE + t * BYTES, in + i * STAGE + t * BYTES, (t + i) % 3 != 0);
        cp_commit();
    }
    for (int i = 0; i < COPY_ROUNDS; i++) {
        cp_wait<1>();
        block_sync();
        if (i + 2 < COPY_ROUNDS)
            copy_one<SIZE>(s + (i + 2) % 3 * STAGE + t * BYTES, in + (i + 2) * STAGE + t * BYTES, (t + i + 2) % 3 != 0);
        cp_commit();
        for (int j = 0; j < BYTES; j++)
            out[i * STAGE + (int)other * BYTES + j] = s[i % 3 * STAGE + (int)other * BYTES + j];
    }
}
template <int SIZE> static void copies_of(void)
{
    enum { BYTES = SIZE > 16 ? 16 : SIZE, STAGE = BYTES * COPY_THREADS, ALL = STAGE * COPY_ROUNDS };
    unsigned char *in = device_new<unsigned char>(ALL), *out = device_new<unsigned char>(ALL), h[ALL], got[ALL];
    unsigned bad = 0;

    for (int i = 0; i < ALL; i++)
        h[i] = (unsigned char)(i * 7 + i / 251);
    put(in, h, ALL);
    CU_ASSERT_EQUAL(LAUNCH(k_copies<SIZE>, 1, COPY_THREADS, 3 * STAGE, 0, out, in), cudaSuccess);
    get(got, out, ALL);
    for (int i = 0; i < ALL; i++)
        bad += got[i] != ((i % STAGE / BYTES + i / STAGE) % 3 ? h[i] : 0);
    if (bad)
        test_note("cp_async of %d: %u of %d bytes wrong", SIZE, bad, (int)ALL);
    CU_ASSERT_EQUAL(bad, 0);
    cudaFree(in), cudaFree(out);
}
static void copies(void)
{
    each_schedule([] {
        copies_of<4>();
        copies_of<8>();
        copies_of<16>();
        copies_of<17>();                               /* 16, once */
    });
}

/* --- The last arriver sees what all blocks wrote; atomics lose nothing; the counter is 0 again. */
__global__ void k_last(uint32_t *total, uint32_t *part, uint32_t *counter, uint32_t round)
{
    uint32_t b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z), n = gridDim.x * gridDim.y * gridDim.z;
    uint32_t sum = 0;

    st_global(part + b * blockDim.x + threadIdx.x, (b * 100 + threadIdx.x) ^ round);
    if (!last_arriver(counter, n))
        return;
    for (uint32_t i = threadIdx.x; i < n * blockDim.x; i += blockDim.x)
        sum += ld_global(part + i);
    atomic_add_u32(total, sum);
    atomic_max_u32(total + 1, sum);
    atomic_or_u32(total + 2, 1u << threadIdx.x % 32);
}
static void last_arrivers(void)
{
#ifdef __CUDACC__
    static const dim3 grid(50, 20, 4);
    enum { ROUNDS = 50 };
#else
    static const dim3 grid(3, 2, 2);
    enum { ROUNDS = 2 };
#endif
    each_schedule([] {
        uint32_t n = grid.x * grid.y * grid.z, *u = device_new<uint32_t>(4 + n * 64), hu[4], want = 0;

        CU_ASSERT_EQUAL(cudaMemset(u, 0, 16), cudaSuccess);
        for (uint32_t r = 0; r < ROUNDS; r++)
            CU_ASSERT_EQUAL(LAUNCH(k_last, grid, 64, 0, 0, u, u + 4, u + 3, r), cudaSuccess);
        get(hu, u, 4);
        for (uint32_t r = 0; r < ROUNDS; r++)
            for (uint32_t b = 0; b < n; b++)
                for (uint32_t t = 0; t < 64; t++)
                    want += (b * 100 + t) ^ r;
        CU_ASSERT_EQUAL(hu[0], want);
        CU_ASSERT(hu[1] > 0);
        CU_ASSERT_EQUAL(hu[2], UINT32_MAX);
        CU_ASSERT_EQUAL(hu[3], 0);
        cudaFree(u);
    });
}

/* --- Loads, stores, arithmetic. */
__global__ void k_loads(uint4 *out, const uint4 *in)
{
    uint32_t t = threadIdx.x;
    uint4 a = ld_stream_16(in + t), b = ld_global_16(in + t);

    st_16(out + t, make_uint4(a.x, b.y, a.z, b.w));
}
__global__ void k_floats(float *out, const float *in)
{
    uint32_t t = threadIdx.x;
    float x = in[t];

    out[t] = fast_exp2(x);
    out[64 + t] = fast_rcp(x);
    out[128 + t] = fast_rsqrt(fabsf(x));
    out[192 + t] = h2_floats(h2_pack(x, -x)).y;
}
static bool within(float got, double want, int ulps) { return fabs((double)got - want) <= ulps * 0x1p-23 * fabs(want); }

static void arithmetic(void)
{
    float *f = device_new<float>(64), *o = device_new<float>(256), in[64], h[256];
    uint4 *a = device_new<uint4>(64), *b = device_new<uint4>(64);
    uint32_t words[256], got[256];

    for (uint32_t i = 0; i < 256; i++)
        words[i] = i * 2654435761u;
    CU_ASSERT_EQUAL_FATAL(cudaMemcpy(a, words, sizeof words, cudaMemcpyHostToDevice), cudaSuccess);
    CU_ASSERT_EQUAL(LAUNCH(k_loads, 1, 64, 0, 0, b, a), cudaSuccess);
    CU_ASSERT_EQUAL_FATAL(cudaMemcpy(got, b, sizeof got, cudaMemcpyDeviceToHost), cudaSuccess);
    CU_ASSERT(!memcmp(got, words, sizeof got));
    for (int i = 0; i < 64; i++)
        in[i] = i == 63 ? -INFINITY : (float)(i - 31) * 1.37f + 0.011f;
    put(f, in, 64);
    CU_ASSERT_EQUAL(LAUNCH(k_floats, 1, 64, 0, 0, o, f), cudaSuccess);
    get(h, o, 256);
    for (int i = 0; i < 63; i++) {
        CU_ASSERT(within(h[i], exp2((double)in[i]), 4));
        CU_ASSERT(within(h[64 + i], 1.0 / (double)in[i], 2));
        CU_ASSERT(within(h[128 + i], 1.0 / sqrt(fabs((double)in[i])), 4));
        CU_ASSERT(h[192 + i] == f32_from_f16(f16_from_f32(-in[i])));
    }
    CU_ASSERT(h[63] == 0);                             /* what a masked score becomes */
    cudaFree(a), cudaFree(b), cudaFree(f), cudaFree(o);
}

static const struct test tests[] = {
    { "tiles: mma and ldmatrix", tiles },
    { "mma of subnormal halves", small },
    { "warp calls", warp_calls },
    { "asynchronous copies of every size", copies },
    { "last arrivers and atomics", last_arrivers },
    { "loads, stores, approximations", arithmetic },
    { NULL, NULL }
};
extern "C" {
extern const struct suite suite_emu_prims;
const struct suite suite_emu_prims = { "emu_prims", tests, 120 };
}
