/* test_emu_attend.cc - attention of the CUDA device on the emulator, against double precision:
 * ragged batches, head sizes, GQA, block sizes, formats of the cache; which rows are written;
 * exact mode bit for bit; what is read, and how often. */
#include <math.h>

#include "kernels/cuda/attend_tile.h"
#include "tests/emu/attend_ref.h"

static const float WORST = 6e-3f, RMS = 7e-4f;     /* V is about 1: P and y are rounded to half */

struct error_of { double worst, square, n; };

/* Compares rows of one kind; the others must still be poison. */
static struct error_of compare(struct ref_case &c, const std::vector<half> &y, bool prefill)
{
    struct error_of e = { 0, 0, 0 };
    std::vector<double> want;
    uint32_t touched = 0;

    for (uint32_t i = 0; i < c.b.n_seq; i++)
        for (uint32_t t = c.seq_start[i]; t < c.seq_start[i + 1]; t++)
            for (uint32_t h = 0; h < c.s.n_q; h++) {
                const half *got = y.data() + ((size_t)t * c.s.n_q + h) * c.s.hd;

                if ((c.seq[i].rows > 1) != prefill) {
                    for (uint32_t d = 0; d < c.s.hd; d++)
                        touched += __half_as_ushort(got[d]) != 0xffff;
                    continue;
                }
                c.want(i, t, h, want);
                for (uint32_t d = 0; d < c.s.hd; d++) {
                    double x = fabs(__half2float(got[d]) - want[d]);

                    e.worst = x <= e.worst ? e.worst : x;      /* a NaN is the worst */
                    e.square += x * x;
                    e.n++;
                }
            }
    CU_ASSERT_EQUAL(touched, 0);
    return e;
}

static void check(struct ref_gpu &g, struct ref_case &c, struct ref_device &d, bool prefill,
                  const char *what)
{
    struct error_of e = compare(c, d.run(g, c, prefill), prefill);
    double rms = sqrt(e.square / e.n);

    if (!(e.worst < WORST && rms < RMS))
        test_note("%s: %u/%u heads of %u, %s, block %u: worst %g, rms %g", what, c.s.n_q, c.s.n_kv,
                  c.s.hd, fmt_name(c.s.fmt), c.block[0], e.worst, rms);
    CU_ASSERT(e.n > 0 && e.worst < WORST && rms < RMS);
    g.check();
}

/* Decode: lengths around the edges of tiles, in one batch; every shape and block size in turn. */
static void decode(void)
{
    static const struct attend_shape shape[] = { { 2, 2, 64, FMT_F16 },  { 3, 1, 128, FMT_F16 },
                                                 { 8, 2, 64, FMT_F16 },  { 8, 1, 128, FMT_INT8 },
                                                 { 6, 2, 64, FMT_INT8 }, { 4, 1, 64, FMT_FP8 },
                                                 { 2, 2, 128, FMT_FP8 }, { 20, 1, 64, FMT_F16 },
                                                 { 4, 2, 32, FMT_F16 },  { 4, 2, 32, FMT_INT8 } };
    static const uint32_t block[] = { 0, 1, 7, 16, 64, 256 };
    const std::vector<ref_seq> seq = { { 1, 1 }, { 1, 15 }, { 1, 16 }, { 1, 17 }, { 1, 63 },
                                       { 1, 64 }, { 1, 65 }, { 1, 130 }, { 1, 300 } };
    uint32_t n = 0;

    for (const struct attend_shape &s : shape) {
        struct ref_gpu g;
        struct ref_case c(s, seq, block[n % 6], n + 1);
        struct ref_device d(g, c);

        g.room(s);
        check(g, c, d, false, "decode");
        n++;
    }
    each_schedule([&] {
        struct ref_gpu g;
        struct ref_case c({ 4, 1, 64, FMT_F16 }, { { 1, 70 }, { 1, 1 }, { 1, 513 } }, 7, 99);
        struct ref_device d(g, c);

        g.room(c.s);
        check(g, c, d, false, "decode, schedules");
    });
}

/* Skewed lengths over few SMs: parts of one sequence in many blocks, several sequences in one
 * block. */
static void skewed(void)
{
    for (int sm = 1; sm <= 7; sm += 3)
        each_schedule([&] {
            struct ref_gpu g;
            struct ref_case c({ 6, 2, 64, FMT_INT8 },
                              { { 1, 900 }, { 1, 2 }, { 1, 31 }, { 1, 200 } }, 16, 5);

            g.g.n_sm = sm;
            struct ref_device d(g, c);
            g.room(c.s);
            check(g, c, d, false, "skewed");
        });
}

/* Prefill: whole prompts, chunks behind a prefix, with decode rows between them. */
static void prefill(void)
{
    static const struct attend_shape shape[] = { { 2, 2, 64, FMT_F16 },  { 3, 1, 128, FMT_F16 },
                                                 { 8, 2, 64, FMT_INT8 }, { 8, 1, 128, FMT_F16 },
                                                 { 4, 1, 128, FMT_FP8 }, { 4, 2, 32, FMT_F16 } };
    static const uint32_t block[] = { 16, 0, 7, 64, 1, 256 };
    const std::vector<ref_seq> seq = { { 1, 40 }, { 2, 2 },   { 17, 17 }, { 5, 70 },
                                       { 1, 1 },  { 65, 65 }, { 16, 130 } };
    uint32_t n = 0;

    for (const struct attend_shape &s : shape) {
        struct ref_gpu g;
        struct ref_case c(s, seq, block[n % 6], n + 1);
        struct ref_device d(g, c);

        g.room(s);
        check(g, c, d, true, "prefill");
        check(g, c, d, false, "decode of a mixed batch");
        n++;
    }
    each_schedule([&] {
        struct ref_gpu g;
        struct ref_case c({ 4, 2, 64, FMT_FP8 }, { { 40, 100 }, { 1, 3 }, { 3, 64 } }, 7, 98);
        struct ref_device d(g, c);

        g.room(c.s);
        check(g, c, d, true, "prefill, schedules");
    });
}

/* Head sizes that only the plain kernel takes. */
static void plain(void)
{
    for (uint32_t hd : { 16u, 80u, 256u })
        for (enum fmt f : { FMT_F16, FMT_INT8, FMT_FP8 }) {
            struct ref_gpu g;
            struct ref_case c({ 2, 1, hd, f }, { { 1, 33 }, { 3, 35 }, { 2, 2 }, { 1, 1 } },
                              f == FMT_F16 ? 7 : 16, hd);
            struct ref_device d(g, c, 1);

            g.room(c.s);
            check(g, c, d, true, "plain prefill");
            check(g, c, d, false, "plain decode");
        }
}

/* Padding sequences: rows of zeros, in every kernel that serves decode rows. */
static void padding(void)
{
    for (uint32_t hd : { 64u, 16u })
        for (int exact = 0; exact < 2; exact++) {
            struct ref_gpu g;
            struct ref_case c({ 4, 2, hd, FMT_F16 }, { { 1, 20 }, { 1, 70 } }, 16, 3);
            struct ref_device d(g, c, 3);
            uint32_t wrong = 0;

            g.g.exec.exact = exact;
            g.room(c.s);
            check(g, c, d, false, "padded");
            std::vector<half> y = d.run(g, c, false);
            for (size_t i = (size_t)c.b.n_tok * 4 * hd; i < y.size(); i++)
                wrong += __half_as_ushort(y[i]) != 0;
            CU_ASSERT_EQUAL(wrong, 0);
        }
}

/* Rows of the last sequence of a batch in exact mode. */
static std::vector<half> exact_rows(struct ref_gpu &g, const struct attend_shape &s,
                                    std::vector<ref_seq> seq, uint32_t bt,
                                    const std::vector<half> &q, const std::vector<float> &kv)
{
    uint32_t rows = seq.back().rows, len = seq.back().kv_len, wide = (s.n_q + 2 * s.n_kv) * s.hd;
    struct ref_case c(s, seq, bt, len * 31 + rows);
    uint32_t me = c.b.n_seq - 1, first = c.seq_start[me];
    size_t at = 0;

    for (uint32_t p = 0; p < len; p++)
        for (uint32_t w = 0; w < 2 * s.n_kv; w++, at += s.hd)
            c.pool.encode(c.pool.row(1, batch_slot(&c.b, me, p), w % 2, w / 2), kv.data() + at);
    c.pool.upload();
    for (uint32_t t = 0; t < rows; t++)
        for (uint32_t i = 0; i < s.n_q * s.hd; i++)
            c.qkv[(size_t)(first + t) * wide + i] = q[(size_t)(len - rows + t) * s.n_q * s.hd + i];
    struct ref_device d(g, c);
    std::vector<half> y = d.run(g, c, rows > 1);
    g.check();
    return std::vector<half>(y.begin() + (ptrdiff_t)((size_t)first * s.n_q * s.hd),
                             y.begin() + (ptrdiff_t)((size_t)(first + rows) * s.n_q * s.hd));
}

/* The same tokens as one prompt, in chunks, as decode rows, alone or beside others, paged or
 * contiguous: the same bits. */
static void exact(void)
{
    static const struct attend_shape shape[] = { { 4, 1, 64, FMT_F16 },
                                                 { 3, 1, 128, FMT_INT8 },
                                                 { 4, 2, 16, FMT_FP8 } };
    const uint32_t len = 75;

    for (const struct attend_shape &s : shape) {
        struct ref_gpu g;
        struct rng r;
        size_t row = (size_t)s.n_q * s.hd;
        std::vector<half> q(len * row), all, y;
        std::vector<float> kv((size_t)len * 2 * s.n_kv * s.hd);
        uint32_t differ = 0;

        g.g.exec.exact = true;
        g.room(s);
        rng_seed(&r, 12);
        for (half &h : q)
            h = __float2half_rn(2 * (float)rng_normal(&r));
        for (float &x : kv)
            x = (float)rng_normal(&r);
        all = exact_rows(g, s, { { len, len } }, 0, q, kv);
        for (uint32_t n : { 1u, 2u, 16u, 17u, 63u, 64u, 65u, 66u,
                            75u }) { /* the row at n - 1, as decode, as a chunk's last */
            y = exact_rows(g, s, { { 1, 200 }, { 1, n } }, n % 2 ? 7 : 16, q, kv);
            differ += memcmp(y.data(), all.data() + (n - 1) * row, row * 2) != 0;
        }
        for (uint32_t rows : { 2u, 20u, 75u }) {
            y = exact_rows(g, s, { { 3, 90 }, { 1, 10 }, { rows, len } }, rows == 20 ? 1 : 64, q,
                           kv);
            differ += memcmp(y.data(), all.data() + (len - rows) * row, rows * row * 2) != 0;
        }
        CU_ASSERT_EQUAL(differ, 0);
    }
}

/* What a GPU's speed hangs on: decode reads each byte of K and V once whatever the number of
 * query heads, and shared memory without bank conflicts; a paged pool costs no more bytes than a
 * contiguous one. */
static void traffic(void)
{
    if (EMU_GPU) {
        test_skip("only the emulator counts bytes and conflicts");
        return;
    }
#if !EMU_GPU
    for (enum fmt f : { FMT_F16, FMT_INT8 })
        for (uint32_t hd : { 64u, 128u })
            for (uint32_t bt : { 0u, 7u, 16u }) {
                const struct attend_shape s = { 8, 2, hd, f };
                struct ref_gpu g;
                struct ref_case c(s, { { 1, 640 }, { 1, 33 } }, bt, 4);
                struct ref_device d(g, c);
                uint64_t kv = (uint64_t)673 * 2 * 2 * kv_row_bytes(f, hd),
                         scales = kv - (uint64_t)673 * 4 * hd * (f == FMT_F16 ? 2 : 1);

                g.room(s);
                emu_counters();
                emu_counters_reset();
                d.run(g, c, false);
                const struct emu_counts *n = emu_counters();
                CU_ASSERT_EQUAL(n->async_bytes, kv - scales);
                CU_ASSERT_EQUAL(n->ldsm_conflicts, 0);
                CU_ASSERT(n->ldsm > 0);
            }
    for (enum fmt f : { FMT_F16, FMT_INT8 })
        for (uint32_t hd : { 64u, 128u }) {
            const struct attend_shape s = { 4, 1, hd, f };
            struct ref_gpu g;
            struct ref_case c(s, { { 40, 100 } }, 16, 4);
            struct ref_device d(g, c);

            g.room(s);
            emu_counters();
            emu_counters_reset();
            d.run(g, c, true);
            CU_ASSERT_EQUAL(emu_counters()->ldsm_conflicts, 0);
        }
#endif
}

/* Values that are not finite reach the row that sees them, not its neighbours in the batch. */
static void not_finite(void)
{
    for (enum fmt f : { FMT_F16, FMT_INT8, FMT_FP8 })
        for (int prefill_ = 0; prefill_ < 2; prefill_++) {
            uint32_t rows = prefill_ ? 3 : 1, good = 0, bad = 0;
            struct ref_gpu g;
            struct ref_case c({ 2, 1, 64, f }, { { rows, 30 }, { rows, 30 } }, 16, 8);
            size_t r = c.pool.row(1, batch_slot(&c.b, 1, 11), 0, 0);

            if (f == FMT_F16)
                reinterpret_cast<uint16_t *>(c.pool.data(r))[5] = 0x7e00;
            else
                *c.pool.scale(r) = 0x7e00;
            c.pool.upload();
            struct ref_device d(g, c);
            g.room(c.s);
            std::vector<half> y = d.run(g, c, prefill_);
            for (size_t i = 0; i < y.size(); i++)
                (i < y.size() / 2 ? good : bad) += isnan(__half2float(y[i])) ? 1 : 0;
            CU_ASSERT_EQUAL(good, 0);
            CU_ASSERT_EQUAL(bad, y.size() / 2);
        }
}

/* One plan: units on the line, every packed row of every longer sequence in exactly one item,
 * longest first, nothing beyond the image. */
static void check_plan(const std::vector<ref_seq> &seq, const struct attend_shape &s, uint32_t pad)
{
    std::vector<uint32_t> start = { 0 }, len;
    struct batch b = {};
    struct gpu g = {};
    uint32_t wrong = 0, group = s.n_q / s.n_kv;

    for (const ref_seq &q : seq) {
        start.push_back(start.back() + q.rows);
        len.push_back(q.kv_len);
    }
    b.n_seq = (uint32_t)seq.size();
    b.n_tok = start.back();
    b.seq_start = start.data();
    b.kv_len = len.data();
    g.n_sm = 132;
    g.smem_max = 227 << 10;
    size_t bytes = attend_plan_bytes(&s, b.n_tok + pad, b.n_seq + pad);
    std::vector<uint64_t> image(bytes / 8 + 1, 0x5a5a5a5a5a5a5a5a);
    attend_plan_make(image.data(), &g, &s, &b, b.n_seq + pad);
    const struct attend_plan *p = reinterpret_cast<const struct attend_plan *>(image.data());
    const uint32_t *line = plan_line(p);
    CU_ASSERT(p->bytes <= bytes && image.back() == 0x5a5a5a5a5a5a5a5a);
    CU_ASSERT_EQUAL(p->n_seq, b.n_seq + pad);
    CU_ASSERT(p->total < 1u << 31 && (uint64_t)p->share * split_blocks(&g, &s) >= p->total);
    CU_ASSERT_EQUAL(line[p->n_seq], p->total);
    for (uint32_t i = 0; i < p->n_seq; i++) {
        uint64_t units = (line[i + 1] - line[i]) / attend_units(&s),
                 want = i < b.n_seq && seq[i].rows == 1 ? len[i] : 0;

        wrong += units * p->tile < want || (want ? (units - 1) * p->tile >= want : units != 0);
    }
    std::vector<std::vector<uint8_t>> seen(seq.size());
    for (uint32_t i = 0; i < seq.size(); i++)
        seen[i].assign((size_t)seq[i].rows * group, 0);
    for (int w = 0; w < 2; w++)
        for (uint32_t i = 0; i < p->n_item[w]; i++) {
            const struct attend_item x = plan_items(p, w)[i];
            uint32_t rows = seq[x.seq].rows * group,
                     end = x.row0 + (w ? 64 : 128) < rows ? x.row0 + (w ? 64 : 128) : rows;

            wrong += i && plan_items(p, w)[i - 1].n_key < x.n_key;
            wrong += x.n_key != len[x.seq] - seq[x.seq].rows + (end - 1) / group + 1;
            for (uint32_t r = x.row0; r < end; r++)
                wrong += seen[x.seq][r]++ != 0;
        }
    for (uint32_t i = 0; i < seq.size(); i++)
        for (uint8_t n : seen[i])
            wrong += n != (seq[i].rows > 1);
    CU_ASSERT_EQUAL(wrong, 0);
}

static void plans(void)
{
    struct rng r;

    rng_seed(&r, 5);
    for (int i = 0; i < 200; i++) {
        uint32_t group = 1 + (uint32_t)rng_below(&r, 20), n_kv = 1 + (uint32_t)rng_below(&r, 8);
        std::vector<ref_seq> seq(1 + rng_below(&r, 9));

        for (ref_seq &q : seq) {
            q.rows = rng_below(&r, 2) ? 1 : 1 + (uint32_t)rng_below(&r, 300);
            q.kv_len = q.rows + (uint32_t)rng_below(&r, 4000);
        }
        check_plan(seq, { group * n_kv, n_kv, i % 2 ? 64u : 128u, i % 3 ? FMT_F16 : FMT_INT8 },
                   (uint32_t)rng_below(&r, 3));
    }
    check_plan({ { 1, 3000000000u }, { 1, 4000000000u }, { 1, 1 } }, { 1024, 1024, 64, FMT_F16 },
               0);
}

/* Shapes that cannot be served are named with what is expected. */
static void refused(void)
{
    struct err e = {};
    const struct attend_shape odd = { 4, 2, 72, FMT_F16 }, uneven = { 5, 2, 64, FMT_F16 },
                              wide = { 4, 2, 64, FMT_F32 };

    CU_ASSERT_EQUAL(attend_check(&odd, &e), -1);
    CU_ASSERT(strstr(e.text, "head_dim 72") != NULL);
    e = {};
    CU_ASSERT_EQUAL(attend_check(&uneven, &e), -1);
    CU_ASSERT(strstr(e.text, "5 query heads over 2 KV heads") != NULL);
    e = {};
    CU_ASSERT_EQUAL(attend_check(&wide, &e), -1);
    CU_ASSERT(strstr(e.text, "f32") != NULL);
}

static const struct test tests[] = { { "decode", decode },   { "skewed", skewed },
                                     { "prefill", prefill }, { "plain", plain },
                                     { "padding", padding }, { "exact", exact },
                                     { "traffic", traffic }, { "not finite", not_finite },
                                     { "plans", plans },     { "refused", refused },
                                     { NULL, NULL } };
extern "C" {
extern const struct suite suite_emu_attend;
const struct suite suite_emu_attend = { "emu_attend", tests, 300 };
}
