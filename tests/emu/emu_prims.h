/* emu_prims.h - the bodies of kernels/cuda/prims.h for the emulator; included by emu.h. What each
 * name means is said there. Everything that reads or writes a kernel's memory is done in this
 * header. */
#ifndef EMU_PRIMS_H
#define EMU_PRIMS_H

/* Where the kernel's line is: a default argument is evaluated at the caller. */
#define EMU_HERE emu_where w = { __builtin_FILE(), __builtin_LINE() }

inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMU_HERE)
{
    emu_mma(d, a, b, false, w);
}
inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMU_HERE)
{
    emu_mma(d, a, b, true, w);
}

inline void emu_ldsm_row(uint32_t *r, int n, bool trans, const void *row, emu_where w)
{
    uint32_t data[4] = { 0, 0, 0, 0 };

    if (n == 4 || (threadIdx.x & 31u) < 16) {
        emu_check_shared(row, 16, 16, "ldsm", w);
        memcpy(data, row, sizeof data);
    }
    emu_ldsm(r, n, trans, row, data, w);
}
inline void ldsm_x4(uint32_t (&r)[4], const void *row, EMU_HERE)
{
    emu_ldsm_row(r, 4, false, row, w);
}
inline void ldsm_x4_trans(uint32_t (&r)[4], const void *row, EMU_HERE)
{
    emu_ldsm_row(r, 4, true, row, w);
}
inline void ldsm_x2(uint32_t (&r)[2], const void *row, EMU_HERE)
{
    emu_ldsm_row(r, 2, false, row, w);
}
inline void ldsm_x2_trans(uint32_t (&r)[2], const void *row, EMU_HERE)
{
    emu_ldsm_row(r, 2, true, row, w);
}

/* NaN now, the data at the wait: a wrong group count gives NaN instead of luck. */
template <int N> inline void emu_cp_async(void *dst, const void *src, bool pred, emu_where w)
{
    emu_check_shared(dst, N, N, "cp_async", w);
    if (pred)
        emu_check_aligned(src, N, "cp_async", w);
    memset(dst, 0xff, N);
    emu_copy_push(dst, src, N, pred, w);
}
inline void cp_async16(void *dst, const void *src, bool pred = true, EMU_HERE)
{
    emu_cp_async<16>(dst, src, pred, w);
}
inline void cp_async16_once(void *dst, const void *src, bool pred = true, EMU_HERE)
{
    emu_cp_async<16>(dst, src, pred, w);
}
inline void cp_async8(void *dst, const void *src, bool pred = true, EMU_HERE)
{
    emu_cp_async<8>(dst, src, pred, w);
}
inline void cp_async4(void *dst, const void *src, bool pred = true, EMU_HERE)
{
    emu_cp_async<4>(dst, src, pred, w);
}
inline void cp_commit() { emu_copy_commit(); }
template <int N> inline void cp_wait()
{
    struct emu_copy c;

    static_assert(N >= 0, "cp_wait<N>: N groups may still be under way");
    while (emu_copy_pop(N, &c))
        if (!c.pred)
            memset(c.dst, 0, (size_t)c.bytes);
        else if (c.bytes == 16)
            memcpy(c.dst, c.src, 16);
        else if (c.bytes == 8)
            memcpy(c.dst, c.src, 8);
        else
            memcpy(c.dst, c.src, 4);
}

template <class T> inline T ld_global(const T *p, EMU_HERE)
{
    emu_check_aligned(p, sizeof(T), "ld_global", w);
    emu_count_load(sizeof(T));
    return *p;
}
template <class T> inline void st_global(T *p, std::common_type_t<T> v, EMU_HERE)
{
    emu_check_aligned(p, sizeof(T), "st_global", w);
    emu_count_store(sizeof(T));
    *p = v;
}
inline uint4 ld_global_16(const void *p, EMU_HERE)
{
    return ld_global(static_cast<const uint4 *>(p), w);
}
inline uint4 ld_stream_16(const void *p, EMU_HERE)
{
    return ld_global(static_cast<const uint4 *>(p), w);
}
inline void st_16(void *p, uint4 v, EMU_HERE) { st_global(static_cast<uint4 *>(p), v, w); }

inline void block_sync(EMU_HERE) { emu_block_sync(false, w); }
inline bool block_any(bool p, EMU_HERE) { return emu_block_sync(p, w); }
inline void warp_sync(EMU_HERE) { emu_warp_sync(w); }
inline void thread_fence() { emu_fence(); }
inline uint32_t lane_id() { return threadIdx.x & 31u; }

template <class T> inline T emu_shuffle(T v, int lane, emu_where w)
{
    T out;

    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    emu_shfl(&out, &v, sizeof v, lane, w);
    return out;
}
template <class T> inline T warp_xor(T v, int mask, EMU_HERE)
{
    return emu_shuffle(v, (int)lane_id() ^ mask, w);
}
template <class T> inline T warp_idx(T v, int lane, EMU_HERE) { return emu_shuffle(v, lane, w); }
template <class T> inline T warp_up(T v, int n, EMU_HERE)
{
    return emu_shuffle(v, (int)lane_id() - n < 0 ? (int)lane_id() : (int)lane_id() - n, w);
}
template <class T> inline T warp_down(T v, int n, EMU_HERE)
{
    return emu_shuffle(v, (int)lane_id() + n > 31 ? (int)lane_id() : (int)lane_id() + n, w);
}
inline uint32_t warp_ballot(bool p, EMU_HERE) { return emu_ballot(p, w); }
inline bool warp_any(bool p, EMU_HERE) { return emu_ballot(p, w) != 0; }
inline bool warp_all(bool p, EMU_HERE) { return emu_ballot(p, w) == ~0u; }

/* Fibers switch only inside the calls above, so plain arithmetic is atomic; TSan is told what is
 * ordered. */
#define EMU_ATOMIC(name, result) \
    inline uint32_t name(uint32_t *p, uint32_t v, EMU_HERE) \
    { \
        emu_atomic_before(p, w); \
        uint32_t old = __atomic_load_n(p, __ATOMIC_RELAXED); \
        __atomic_store_n(p, result, __ATOMIC_RELAXED); \
        emu_atomic_after(p); \
        return old; \
    }
EMU_ATOMIC(atomic_add_u32, old + v)
EMU_ATOMIC(atomic_inc_u32, old >= v ? 0 : old + 1)
EMU_ATOMIC(atomic_or_u32, old | v)
EMU_ATOMIC(atomic_max_u32, old > v ? old : v)
#undef EMU_ATOMIC

/* ftz: subnormal numbers are zero, going in and coming out. */
inline float emu_ftz(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x; }
inline float fast_exp2(float x) { return emu_ftz(exp2f(emu_ftz(x))); }
inline float fast_rsqrt(float x) { return 1.0f / sqrtf(x); }
inline float fast_rcp(float x) { return 1.0f / x; }
inline uint32_t lop3_and_or(uint32_t x, uint32_t mask, uint32_t bits) { return (x & mask) | bits; }
inline uint32_t prmt(uint32_t a, uint32_t b, uint32_t sel)
{
    uint64_t both = (uint64_t)b << 32 | a;
    uint32_t out = 0;

    for (int i = 0; i < 4; i++)
        out |= (uint32_t)(both >> (sel >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return out;
}
/* x y + z of halves as a float whose rounding to half is that of the exact sum: the product is exact in double, the sum
 * is cut towards zero and its last bit set where anything was cut ("round to odd"; fmaf would round twice). */
inline float emu_odd_fma(float x, float y, float z)
{
    double p = (double)x * y, s = p + z, t = s - p, left = (p - (s - t)) + (z - t);
    uint32_t bits;
    float f;

    if (!isfinite(s))
        return (float)s;
    if (left != 0 && (left < 0) != (s < 0))
        s = nextafter(s, 0.0);
    f = (float)s;
    if (fabs((double)f) > fabs(s))
        f = nextafterf(f, 0.0f);
    memcpy(&bits, &f, sizeof bits);
    bits |= left != 0 || (double)f != s;
    memcpy(&f, &bits, sizeof f);
    return f;
}
inline __half2 h2_fma(__half2 a, __half2 b, __half2 c)
{
    float2 x = __half22float2(a), y = __half22float2(b), z = __half22float2(c);

    return __floats2half2_rn(emu_odd_fma(x.x, y.x, z.x), emu_odd_fma(x.y, y.y, z.y));
}
inline __half2 h2_add(__half2 a, __half2 b) { return __hadd2(a, b); }
inline __half2 h2_sub(__half2 a, __half2 b) { return __hsub2(a, b); }
inline __half2 h2_mul(__half2 a, __half2 b) { return __hmul2(a, b); }

#endif
