/* test_emu_kv.cc - what writes the KV pool, on the emulator: rope and store against double
 * precision, stored bytes against row_encode bit for bit, fused against unfused bit for bit;
 * copies and swaps against a plain loop. */
#include <math.h>

#include "tests/emu/attend_ref.h"

/* One case of rope and store: rows at given positions, each at its own slot. */
struct rope_case {
    struct attend_shape s;
    uint32_t wide;
    std::vector<uint32_t> pos, slot;
    std::vector<half> qkv, bias, q_gain, k_gain;
    struct rope r;
    struct rng rng;

    half draw(float scale, float mean = 0)
    {
        return __float2half_rn(mean + scale * (float)rng_normal(&rng));
    }

    rope_case(const struct attend_shape &shape, const std::vector<uint32_t> &at, bool bias_,
              bool norm, uint64_t seed)
        : s(shape), wide((shape.n_q + 2 * shape.n_kv) * shape.hd), pos(at)
    {
        rng_seed(&rng, seed);
        for (uint32_t i = 0; i < at.size(); i++)
            slot.push_back(i == 2 ? GPU_NO_SLOT : (i * 7 + 5) % 48);
        for (size_t i = 0; i < at.size() * wide; i++)
            qkv.push_back(draw(1));
        for (uint32_t i = 0; bias_ && i < wide; i++)
            bias.push_back(draw(0.5f));
        for (uint32_t i = 0; norm && i < s.hd; i++) {
            q_gain.push_back(draw(0.2f, 1));
            k_gain.push_back(draw(0.2f, 1));
        }
        memset(&r, 0, sizeof r);
        r.n_q = s.n_q;
        r.half = s.hd / 2;
        r.eps = 1e-5f;
        for (uint32_t i = 0; i < r.half; i++)
            r.freq[i] = pow(500000.0, -2.0 * i / s.hd);
    }

    /* Values of head h of row t as they should be, in double but for the input. */
    std::vector<double> want(uint32_t t, uint32_t h) const
    {
        bool is_v = h >= s.n_q + s.n_kv;
        const std::vector<half> &gain = h < s.n_q ? q_gain : k_gain;
        std::vector<double> x(s.hd);
        double sum = 0;

        for (uint32_t d = 0; d < s.hd; d++) {
            x[d] = __half2float(qkv[(size_t)t * wide + h * s.hd + d]);
            if (!bias.empty())
                x[d] += __half2float(bias[h * s.hd + d]);
            sum += x[d] * x[d];
        }
        for (uint32_t d = 0; d < s.hd && !gain.empty() && !is_v; d++)
            x[d] *= __half2float(gain[d]) / sqrt(sum / s.hd + (double)r.eps);
        for (uint32_t i = 0; i < r.half && !is_v; i++) {
            double angle = pos[t] * r.freq[i], c = cos(angle), n = sin(angle), a = x[i],
                   b = x[i + r.half];

            x[i] = a * c - b * n;
            x[i + r.half] = b * c + a * n;
        }
        return x;
    }
};

/* A vector in device memory, NULL when it is empty. */
template <class T> struct on_device {
    T *p;

    on_device(const std::vector<T> &v) : p(v.empty() ? nullptr : device_new<T>(v.size()))
    {
        if (p)
            put(p, v.data(), v.size());
    }
    ~on_device() { cudaFree(p); }
};

struct rope_result { std::vector<half> qkv; std::vector<unsigned char> pool; uint64_t launches; };

static struct rope_result rope_run(const struct rope_case &c, bool fused)
{
    struct ref_gpu g;
    struct ref_pool pool(2, c.s, 48);
    on_device<half> qkv(c.qkv), bias(c.bias), qg(c.q_gain), kg(c.k_gain);
    on_device<uint32_t> pos(c.pos), slot(c.slot);
    struct gpu_batch b = {};
    struct rope r = c.r;
    struct rope_result out;

    b.n_tok = (uint32_t)c.pos.size();
    b.pos = pos.p;
    b.slot = slot.p;
    r.bias = bias.p;
    r.q_gain = qg.p;
    r.k_gain = kg.p;
    g.g.exec.fused = fused;
    emu_counters_reset();
    gpu_rope_store(&g.g, qkv.p, &pool.kv, 1, &b, &r);
#if !EMU_GPU
    out.launches = emu_counters()->launches;
#endif
    g.check();
    out.qkv.resize(c.qkv.size());
    get(out.qkv.data(), qkv.p, out.qkv.size());
    pool.download();
    out.pool = pool.host;
    return out;
}

/* Unfused, qkv holds K and V as they were when they were stored: their encoding is what the pool
 * must have, and every other byte of the pool is still poison. */
static void check_stored(const struct rope_case &c, const struct rope_result &got)
{
    struct ref_pool want(2, c.s, 48);
    std::vector<float> x(c.s.hd);

    for (uint32_t t = 0; t < c.pos.size(); t++)
        for (uint32_t w = 0; w < 2 * c.s.n_kv && c.slot[t] != GPU_NO_SLOT; w++) {
            const half *from = got.qkv.data() + (size_t)t * c.wide + (c.s.n_q + w) * c.s.hd;

            for (uint32_t d = 0; d < c.s.hd; d++)
                x[d] = __half2float(from[d]);
            want.encode(want.row(1, c.slot[t], w / c.s.n_kv, w % c.s.n_kv), x.data());
        }
    CU_ASSERT(want.host == got.pool);
}

static void check_rope(const struct rope_case &c)
{
    struct rope_result fused = rope_run(c, true), apart = rope_run(c, false);
    double worst = 0;
    uint32_t differ = 0;

    for (uint32_t t = 0; t < c.pos.size(); t++)
        for (uint32_t h = 0; h < c.s.n_q + 2 * c.s.n_kv && c.slot[t] != GPU_NO_SLOT; h++) {
            std::vector<double> x = c.want(t, h);

            for (uint32_t d = 0; d < c.s.hd; d++) {
                size_t at = (size_t)t * c.wide + h * c.s.hd + d;
                double e = fabs(__half2float(apart.qkv[at]) - x[d]) / (fabs(x[d]) + 1);

                worst = e <= worst ? worst : e;
                if (h < c.s.n_q)
                    differ += __half_as_ushort(apart.qkv[at]) != __half_as_ushort(fused.qkv[at]);
            }
        }
    if (!(worst < 1.5e-3))
        test_note("head_dim %u, %s: worst %g", c.s.hd, fmt_name(c.s.fmt), worst);
    CU_ASSERT(worst < 1.5e-3);                             /* three roundings to half */
    CU_ASSERT_EQUAL(differ, 0);
    CU_ASSERT(fused.pool == apart.pool);
    COUNTED(fused.launches, 1);
    COUNTED(apart.launches, 2u + !c.bias.empty() + !c.q_gain.empty());
    check_stored(c, apart);
}

static void rotated(void)
{
    const std::vector<uint32_t> pos = { 0, 1, 7, 4095, 131071, 1048575, 16777217 };

    check_rope({ { 8, 2, 128, FMT_F16 }, pos, false, false, 1 });
    check_rope({ { 3, 1, 64, FMT_INT8 }, pos, true, false, 2 });
    check_rope({ { 4, 4, 64, FMT_FP8 }, pos, false, true, 3 });
    check_rope({ { 2, 1, 16, FMT_INT8 }, pos, true, true, 4 });
    check_rope({ { 2, 1, 80, FMT_FP8 }, pos, true, true, 5 });
    check_rope({ { 2, 1, 256, FMT_F16 }, pos, true, true, 6 });
    each_schedule([&] { check_rope({ { 4, 2, 32, FMT_INT8 }, { 5, 6, 7, 8 }, true, true, 7 }); });
}

/* The angle itself: a pair (1, 0) at long positions gives cos and sin; half has 2^-11 of
 * precision, so look at many. */
static void angles(void)
{
    struct rope_case c({ 1, 1, 128, FMT_F16 }, { 131071, 999999, 0, 4000000000u }, false, false, 8);
    double worst = 0;

    for (size_t i = 0; i < c.qkv.size(); i++)
        c.qkv[i] = __float2half_rn(i % 128 < 64 ? 1.0f : 0.0f);
    struct rope_result r = rope_run(c, true);
    for (uint32_t t = 0; t < 4; t++)
        for (uint32_t i = 0; i < 64 && t != 2; i++) {
            double angle = c.pos[t] * c.r.freq[i];

            worst = fmax(worst, fabs(__half2float(r.qkv[(size_t)t * c.wide + i]) - cos(angle)));
            worst =
                fmax(worst, fabs(__half2float(r.qkv[(size_t)t * c.wide + 64 + i]) - sin(angle)));
        }
    if (!(worst < 2.6e-4))
        test_note("worst %g", worst);
    CU_ASSERT(worst < 2.6e-4); /* 2^-12, the rounding to half, and a little */
}

/* Edges of the encodings: a head of zeros, the largest half, a NaN, an infinity, subnormals. */
static void odd_values(void)
{
    for (enum fmt f : { FMT_F16, FMT_INT8, FMT_FP8 }) {
        struct rope_case c({ 1, 1, 64, f }, { 0, 0, 0, 0, 0, 0 }, false, false, 9);
        static const uint16_t odd[6] = { 0, 0x7bff, 0, 0x7e00, 0x7c00, 0x0001 };

        for (uint32_t t = 0; t < 6; t++)                   /* position 0: nothing rotates */
            for (uint32_t d = 0; d < 64; d++) {
                c.qkv[t * c.wide + 128 + d] =
                    t == 0 || t == 5 ? __ushort_as_half(odd[t]) : c.qkv[t * c.wide + 128 + d];
                if (d == 17)
                    c.qkv[t * c.wide + 128 + d] = __ushort_as_half(odd[t]);
            }
        check_stored(c, rope_run(c, false));
    }
}

/* Moves of n runs between two pools (or inside one) against a plain loop over slots. */
static void check_moves(enum fmt f, const std::vector<uint32_t> &src,
                        const std::vector<uint32_t> &dst, const std::vector<uint32_t> &n_tok,
                        uint32_t other_slots, uint64_t launches)
{
    const struct attend_shape s = { 4, 2, 64, f };
    struct ref_gpu g;
    struct ref_pool a(3, s, 224), b(3, s, other_slots ? other_slots : 16);
    struct ref_pool &to = other_slots ? b : a;
    struct rng rng;
    size_t row_bytes = 64 * a.wide();

    rng_seed(&rng, 11);
    for (unsigned char &x : a.host)
        x = (unsigned char)rng_next(&rng);
    a.upload();
    std::vector<unsigned char> before = a.host;
    for (size_t i = 0; i < src.size(); i++)
        for (uint32_t t = 0; t < n_tok[i] * 3 * 4; t++) {
            size_t from = a.row(t % 3, src[i] + t / 12, t / 3 % 2, t / 6 % 2),
                   at = to.row(t % 3, dst[i] + t / 12, t / 3 % 2, t / 6 % 2);

            memcpy(to.data(at), before.data() + from * row_bytes, row_bytes);
            if (f != FMT_F16)
                *to.scale(at) = *a.scale(from);
        }
    std::vector<unsigned char> want = to.host;
    emu_counters_reset();
    gpu_kv_move(&g.g, &a.kv, &to.kv, src.data(), dst.data(), n_tok.data(), (uint32_t)src.size());
    COUNTED(emu_counters()->launches, launches);
    to.download();
    CU_ASSERT(to.host == want);
    g.check();
}

static void moves(void)
{
    for (enum fmt f : { FMT_F16, FMT_INT8 }) {
        check_moves(f, { 16, 0 }, { 48, 33 }, { 16, 7 }, 0, 1); /* aligned; inside tiles */
        check_moves(f, { 3, 40, 30 }, { 50, 85, 95 }, { 25, 1, 1 }, 0, 1); /* across tiles */
        check_moves(f, { 3, 40, 64 }, { 9, 0, 32 }, { 5, 9, 30 }, 64,
                    1); /* another pool, other capacity */
        check_moves(f, {}, {}, {}, 0, 0);
        check_moves(f, { 7 }, { 9 }, { 0 }, 0, 0);
    }
    std::vector<uint32_t> src, dst, one;
    for (uint32_t i = 0; i < 110; i++) { /* more runs than one launch takes */
        src.push_back(i);
        dst.push_back(110 + (i * 7) % 110);
        one.push_back(1);
    }
    each_schedule([&] { check_moves(FMT_FP8, src, dst, one, 0, 2); });
}

/* Out to pinned memory and back: the pool is as it was, whatever the alignment there. */
static void round_trip(void)
{
    const struct attend_shape s = { 4, 2, 128, FMT_INT8 };
    struct ref_gpu g;
    struct ref_pool a(2, s, 64);
    struct kv_pool host = a.kv;
    struct rng rng;
    const uint32_t out[2] = { 16, 40 }, held[2] = { 1, 20 }, n[2] = { 16, 10 };

    host.n_slot = 32;
    host.bytes = a.kv.bytes / 2;
    CU_ASSERT_EQUAL_FATAL(cudaHostAlloc(&host.data, host.bytes, cudaHostAllocDefault), cudaSuccess);
    rng_seed(&rng, 12);
    for (unsigned char &x : a.host)
        x = (unsigned char)rng_next(&rng);
    a.upload();
    std::vector<unsigned char> before = a.host;
    gpu_kv_move(&g.g, &a.kv, &host, out, held, n, 2);
    for (uint32_t layer = 0; layer < 2; layer++) /* what was swapped out is overwritten */
        for (uint32_t w = 0; w < 4; w++)
            for (uint32_t i = 0; i < 26; i++) {
                size_t r = a.row(layer, i < 16 ? 16 + i : 24 + i, w / 2, w % 2);

                memset(a.data(r), 0xff, 128);
                *a.scale(r) = 0xffff;
            }
    CU_ASSERT(a.host != before);
    CU_ASSERT_EQUAL(cudaStreamSynchronize(g.g.stream), cudaSuccess);
    a.upload();
    gpu_kv_move(&g.g, &host, &a.kv, held, out, n, 2);
    a.download();
    CU_ASSERT(a.host == before);
    g.check();
    cudaFreeHost(host.data);
}

static const struct test tests[] = { { "rope", rotated },          { "angles", angles },
                                     { "odd values", odd_values }, { "moves", moves },
                                     { "round trip", round_trip }, { NULL, NULL } };
extern "C" {
extern const struct suite suite_emu_kv;
const struct suite suite_emu_kv = { "emu_kv", tests, 120 };
}
