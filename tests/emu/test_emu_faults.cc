/* test_emu_faults.cc - what the emulator must catch, each in a process of its own: faults that end
 * it with a report in every build, accesses outside of memory under SAN=1, races under TSAN=1; and
 * that the correct forms are silent. This process launches nothing itself: TSan does not work in a
 * child forked after fibers were made. */
#include "kernels/cuda/prims.h"
#include "tests/emu/emu_test.h"

/* --- What must end the process with a report. */
__global__ void k_divergent(float *out)
{
    if (threadIdx.x < 32)
        block_sync();
    else
        block_sync();
    out[threadIdx.x] = 1;
}
__global__ void k_split_warp(float *out)
{
    out[threadIdx.x] = 1;
    if (threadIdx.x < 16)
        out[threadIdx.x] = warp_xor(1.0f, 1);
}
__global__ void k_part_warp(float *out) { out[threadIdx.x] = warp_xor(1.0f, 1); }
__global__ void k_crossed(float *out)
{
    if (threadIdx.x < 32)
        block_sync();
    else if (threadIdx.x < 48)
        warp_sync();
    else
        out[threadIdx.x] = warp_xor(1.0f, 1);
}
__global__ void k_misaligned(float *out)
{
    DYN_SHARED(char, s);
    uint32_t r[4];

    ldsm_x4(r, s + 8 * lane_id());
    out[threadIdx.x] = (float)r[0];
}
__global__ void k_beyond(float *out)
{
    DYN_SHARED(char, s);

    cp_async16(s + 16 * threadIdx.x, out);
}
__global__ void k_twice(float *out)
{
    DYN_SHARED(char, s);

    cp_async16(s + 16 * threadIdx.x, out);
    cp_commit();
    cp_async16(s + 16 * threadIdx.x, out + 4);     /* the first may land last */
    cp_wait<0>();
}
template <class K>
static void check_report(K *kernel, unsigned threads, size_t smem, const char *want)
{
    float *some = device_new<float>(256);
    struct child c = in_child([=] {
        emu_streams_lazy(false);
        (void)LAUNCH(kernel, 1, threads, smem, 0, some);
    });

    if (!c.died || !strstr(c.text, want))
        test_note("wanted \"%s\", got: %s", want, c.text);
    CU_ASSERT(c.died);
    CU_ASSERT(strstr(c.text, want) != NULL);
    cudaFree(some);
}
static void reports(void)
{
    check_report(k_divergent, 64, 0, "divergent barrier");
    check_report(k_split_warp, 32, 0, "lanes of its warp wait in a shuffle");
    check_report(k_crossed, 64, 0, "different calls");
    check_report(k_misaligned, 32, 512, "is not a multiple of 16");
    check_report(k_beyond, 32, 496, "byte 496 of 496 bytes of shared memory");
    check_report(k_twice, 32, 512, "byte 0 of shared memory is still being copied to");
    check_report(k_part_warp, 48, 0, "mask 0000ffff");
}


/* --- Accesses outside of memory: the kernel's line under SAN=1. */
__global__ void k_shared_over(float *out)
{
    DYN_SHARED(float, s);

    s[threadIdx.x + 1] = 1;
    out[threadIdx.x] = 1;
}
__global__ void k_global_over(float *out) { out[threadIdx.x + 225] = 1; }
__global__ void k_vector_over(float *out)
{
    uint4 v = ld_global_16(reinterpret_cast<char *>(out) + threadIdx.x * 4);

    st_16(out, v);
}
static void outside(void)
{
    check_report(k_vector_over, 32, 0, "is not a multiple of 16");
    if (!EMU_ASAN) {
        test_skip("needs SAN=1");
        return;
    }
    check_report(k_shared_over, 32, 128, "test_emu_faults.cc:");
    check_report(k_global_over, 32, 0, "heap-buffer-overflow");
}

/* --- Races: a kernel template whose argument says whether the needed synchronisation is there. */
template <bool SYNC> __global__ void k_block_race(float *out)
{
    DYN_SHARED(float, s);

    s[threadIdx.x] = 1;
    if (SYNC)
        block_sync();
    out[blockIdx.x * 64 + threadIdx.x] = s[(threadIdx.x + 40) % blockDim.x];
}
template <bool SYNC> __global__ void k_warp_race(float *out)
{
    DYN_SHARED(float, s);

    s[threadIdx.x] = warp_xor(1.0f, 1);            /* a shuffle orders no memory */
    if (SYNC)
        warp_sync();
    out[blockIdx.x * 64 + threadIdx.x] = s[threadIdx.x ^ 3];
}
template <bool SYNC> __global__ void k_reuse_race(float *out)
{
    DYN_SHARED(float, s);

    for (int i = 0; i < 2; i++) {
        cp_async4(s + threadIdx.x, out + threadIdx.x);
        cp_commit();
        cp_wait<0>();
        block_sync();
        out[threadIdx.x + 64 * (i + 1)] = s[63 - threadIdx.x];
        if (SYNC)
            block_sync(); /* before the next copy overwrites what others still read */
    }
}
template <bool SYNC> __global__ void k_grid_race(float *out)
{
    uint32_t *counter = reinterpret_cast<uint32_t *>(out + 255);
    bool last = false;

    out[blockIdx.x * 64 + threadIdx.x] = 1;
    if (SYNC)
        thread_fence();                            /* as in last_arriver */
    block_sync();
    if (threadIdx.x == 0)
        last = atomic_inc_u32(counter, 1) == 1;
    last = block_any(last);
    if (!last)
        return;
    thread_fence();
    out[128 + threadIdx.x] = out[63 - threadIdx.x] + out[127 - threadIdx.x];
}
static struct child race_child(void (*kernel)(float *), unsigned blocks, enum emu_order order)
{
    float *out = device_new<float>(256);
    struct child c;

    CU_ASSERT_EQUAL(cudaMemset(out, 0, 256 * sizeof *out), cudaSuccess);
    c = in_child([=] {
        emu_schedule(order, 3);
        (void)LAUNCH(kernel, blocks, 64, 256, 0, out);
    });
    cudaFree(out);
    return c;
}
static void check_race(void (*wrong)(float *), void (*right)(float *), unsigned blocks)
{
    for (int o = EMU_ASCENDING; o <= EMU_RANDOM; o++) {
        struct child bad = race_child(wrong, blocks, (enum emu_order)o),
                     good = race_child(right, blocks, (enum emu_order)o);

        CU_ASSERT(bad.died);
        CU_ASSERT(strstr(bad.text, "data race") != NULL &&
                  strstr(bad.text, "test_emu_faults.cc") != NULL);
        if (good.died)
            test_note("the correct form was reported: %s", good.text);
        CU_ASSERT(!good.died);
    }
}
static void races(void)
{
    if (!EMU_TSAN) {
        test_skip("needs TSAN=1");
        return;
    }
    check_race(k_block_race<false>, k_block_race<true>, 2);
    check_race(k_warp_race<false>, k_warp_race<true>, 2);
    check_race(k_reuse_race<false>, k_reuse_race<true>, 1);
    check_race(k_grid_race<false>, k_grid_race<true>, 2);
}

/* --- Without TSan the same faults show as numbers: NaN under at least one schedule. */
template <class K> static bool wrong_somewhere(K *kernel)
{
    bool wrong = false;

    for (int o = EMU_ASCENDING; o <= EMU_RANDOM; o++) {
        float *out = device_new<float>(256);
        struct child c = in_child([=] {
            float h[64];

            emu_schedule((enum emu_order)o, 3);
            (void)LAUNCH(kernel, 1, 64, 256, 0, out);
            get(h, out, 64);
            for (int i = 0; i < 64; i++)
                if (h[i] != 1)
                    _exit(3);
        });

        wrong |= c.died;
        cudaFree(out);
    }
    return wrong;
}
static void numbers(void)
{
    if (EMU_TSAN) {
        test_skip("TSan reports these itself");
        return;
    }
    CU_ASSERT(wrong_somewhere(k_block_race<false>));
    CU_ASSERT(!wrong_somewhere(k_block_race<true>));
    CU_ASSERT(wrong_somewhere(k_warp_race<false>));
    CU_ASSERT(!wrong_somewhere(k_warp_race<true>));
}

static const struct test tests[] = {
    { "reports", reports },
    { "outside", outside },
    { "races", races },
    { "numbers", numbers },
    { NULL, NULL }
};
extern "C" {
extern const struct suite suite_emu_faults;
const struct suite suite_emu_faults = { "emu_faults", tests, 120 };
}
