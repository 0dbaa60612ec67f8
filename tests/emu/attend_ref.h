/* attend_ref.h - what the suites of attention and of the KV pool share: a ragged batch over a
 * pool whose unused slots are NaN, and attention in double precision over the values that the
 * pool really holds. */
#ifndef EMU_ATTEND_REF_H
#define EMU_ATTEND_REF_H

#include <vector>

#include "kernels/cuda/attend.h"
#include "tests/emu/emu_test.h"
extern "C" {
#include "base/hash.h"
}

struct ref_seq { uint32_t rows, kv_len; };

/* A GPU as the launchers want it. */
struct ref_gpu {
    struct gpu g;

    ref_gpu()
    {
        memset(&g, 0, sizeof g);
        g.cc = 90;
        g.n_sm = 2;
        g.smem_max = 227 << 10;
        g.exec.fused = true;
        g.n_counter = 256;
        g.counter = device_new<uint32_t>(g.n_counter);
        cudaMemset(g.counter, 0, g.n_counter * sizeof *g.counter);
        CU_ASSERT_EQUAL_FATAL(gpu_attend_open(&g, &g.err), 0);
    }
    ~ref_gpu()
    {
        cudaFree(g.counter);
        cudaFree(g.scratch);
    }
    void room(const struct attend_shape &s)
    {
        cudaFree(g.scratch);
        g.scratch_bytes = attend_scratch_bytes(&g, &s);
        g.scratch = device_new<char>(g.scratch_bytes + 1);
    }
    void check()                           /* no error, all counters back at 0 */
    {
        std::vector<uint32_t> c(g.n_counter);
        uint32_t bad = 0;

        if (g.err.code)
            test_note("%s", g.err.text);
        CU_ASSERT_EQUAL(g.err.code, 0);
        get(c.data(), g.counter, g.n_counter);
        for (uint32_t x : c)
            bad += x;
        CU_ASSERT_EQUAL(bad, 0);
    }
};

/* A pool in device memory; host is its image. */
struct ref_pool {
    struct kv_pool kv;
    std::vector<unsigned char> host;

    ref_pool(uint32_t n_layer, const struct attend_shape &s, uint32_t n_slot)
    {
        kv = { n_layer, s.n_kv, s.hd,
               n_slot,  s.fmt,  (uint64_t)n_slot * kv_token_bytes(n_layer, s.n_kv, s.hd, s.fmt),
               nullptr };
        host.assign(kv.bytes, 0xff);
        kv.data = device_new<unsigned char>(kv.bytes);
        upload();
    }
    ~ref_pool() { cudaFree(kv.data); }
    void upload() { put(static_cast<unsigned char *>(kv.data), host.data(), host.size()); }
    void download() { get(host.data(), static_cast<unsigned char *>(kv.data), host.size()); }
    size_t wide() const { return kv.fmt == FMT_F16 ? 2 : 1; }
    size_t row(uint32_t layer, uint32_t slot, uint32_t which, uint32_t head) const
    {
        return (size_t)layer * kv.n_slot * 2 * kv.n_head + kv_at(slot, which, head, kv.n_head, 1);
    }
    unsigned char *data(size_t r) { return host.data() + r * kv.head_dim * wide(); }
    uint16_t *scale(size_t r)
    {
        size_t rows = (size_t)kv.n_layer * kv.n_slot * 2 * kv.n_head;

        return reinterpret_cast<uint16_t *>(host.data() + rows * kv.head_dim * wide()) +
               (wide() == 2 ? 0 : r);
    }
    void encode(size_t r, const float *x)
    {
        row_encode({ kv.fmt, 0 }, x, kv.head_dim, data(r), wide() == 2 ? nullptr : scale(r));
    }
    void decode(size_t r, float *x)
    {
        row_decode({ kv.fmt, 0 }, data(r), wide() == 2 ? nullptr : scale(r), kv.head_dim, x);
    }
};

/* A batch over a pool: every position of every sequence has random K and V, all other slots are
 * NaN. block 0: contiguous. */
struct ref_case {
    struct attend_shape s;
    std::vector<ref_seq> seq;
    std::vector<uint32_t> pos, slot, seq_start, kv_len, block, table_start, table;
    struct batch b;
    struct ref_pool pool;
    std::vector<half> qkv;
    struct rng rng;

    static uint32_t slots_of(const std::vector<ref_seq> &seq, uint32_t bt)
    {
        uint32_t n = 0;

        for (const ref_seq &q : seq)
            n += bt ? (q.kv_len + bt - 1) / bt * bt : q.kv_len + 5;
        return (n + 21 + KV_TILE) / KV_TILE * KV_TILE;
    }

    ref_case(const struct attend_shape &shape, const std::vector<ref_seq> &seqs, uint32_t bt,
             uint64_t seed)
        : s(shape), seq(seqs), pool(2, shape, slots_of(seqs, bt))
    {
        rng_seed(&rng, seed);
        place(bt);
        fill();
    }

    /* Blocks in a drawn order, the pool's first slots unused so that nothing is aligned unless
     * blocks are. */
    void place(uint32_t bt)
    {
        std::vector<uint32_t> first;
        uint32_t at = bt && bt % KV_TILE == 0 ? KV_TILE : 3, n_tok = 0;

        seq_start.push_back(0);
        table_start.push_back(0);
        for (const ref_seq &q : seq) {
            uint32_t size = bt ? bt : q.kv_len + 5, n = bt ? (q.kv_len + bt - 1) / bt : 1;

            for (uint32_t i = 0; i < n; i++, at += size)
                first.push_back(at);
            for (uint32_t i = 0; i < q.rows; i++)
                pos.push_back(q.kv_len - q.rows + i);
            block.push_back(size);
            kv_len.push_back(q.kv_len);
            seq_start.push_back(n_tok += q.rows);
            table_start.push_back(table_start.back() + n);
        }
        for (size_t i = bt ? first.size() : 0; i > 1; i--)
            std::swap(first[i - 1], first[rng_below(&rng, i)]);
        table = first;
        b = { n_tok,
              (uint32_t)seq.size(),
              0,
              (uint32_t)table.size(),
              nullptr,
              pos.data(),
              nullptr,
              seq_start.data(),
              kv_len.data(),
              block.data(),
              table_start.data(),
              table.data(),
              nullptr };
        for (uint32_t i = 0; i < seq.size(); i++)
            for (uint32_t t = 0; t < seq[i].rows; t++)
                slot.push_back(seq[i].kv_len ? batch_slot(&b, i, pos[seq_start[i] + t])
                                             : GPU_NO_SLOT);
        b.slot = slot.data();
    }

    void fill()
    {
        std::vector<float> x(s.hd);

        for (uint32_t i = 0; i < seq.size(); i++)
            for (uint32_t p = 0; p < seq[i].kv_len; p++)
                for (uint32_t w = 0; w < 2 * s.n_kv; w++) {
                    float size = w % 3 == 0 ? 1.0f : 0.6f;

                    for (float &e : x)
                        e = size * (float)rng_normal(&rng);
                    pool.encode(pool.row(1, batch_slot(&b, i, p), w % 2, w / 2), x.data());
                }
        pool.upload();
        qkv.resize((size_t)b.n_tok * (s.n_q + 2 * s.n_kv) * s.hd);
        for (half &h : qkv)
            h = __float2half_rn(2 * (float)rng_normal(&rng));
    }

    /* Row t, query head h of sequence i, over the pool as it is. */
    void want(uint32_t i, uint32_t t, uint32_t h, std::vector<double> &y)
    {
        const half *q = qkv.data() + ((size_t)t * (s.n_q + 2 * s.n_kv) + h) * s.hd;
        uint32_t n = pos[t] + 1, head = h / (s.n_q / s.n_kv);
        std::vector<double> p(n);
        std::vector<float> x(s.hd);
        double most = -INFINITY, sum = 0;

        for (uint32_t j = 0; j < n; j++) {
            pool.decode(pool.row(1, batch_slot(&b, i, j), 0, head), x.data());
            for (uint32_t d = 0; d < s.hd; d++)
                p[j] += (double)__half2float(q[d]) * x[d];
            p[j] /= sqrt((double)s.hd);
            most = fmax(most, p[j]);
        }
        for (double &e : p)
            sum += e = exp(e - most);
        y.assign(s.hd, 0);
        for (uint32_t j = 0; j < n; j++) {
            pool.decode(pool.row(1, batch_slot(&b, i, j), 1, head), x.data());
            for (uint32_t d = 0; d < s.hd; d++)
                y[d] += p[j] / sum * x[d];
        }
    }
};

/* The device's copy of a case. */
struct ref_device {
    std::vector<uint32_t *> own;
    struct gpu_batch b;
    half *qkv, *y;
    size_t n_y;
    void *plan;
    std::vector<uint64_t> image;

    const uint32_t *copy(const std::vector<uint32_t> &v)
    {
        uint32_t *p = device_new<uint32_t>(v.size() + 1);

        put(p, v.data(), v.size());
        own.push_back(p);
        return p;
    }
    /* pad: further sequences of one row that is no row of the batch */
    ref_device(struct ref_gpu &g, const struct ref_case &c, uint32_t pad = 0)
    {
        std::vector<uint32_t> start = c.seq_start, len = c.kv_len, block = c.block,
                              ts = c.table_start, slot = c.slot;
        std::vector<uint32_t> pos = c.pos;
        uint32_t wide = (c.s.n_q + 2 * c.s.n_kv) * c.s.hd;

        for (uint32_t i = 0; i < pad; i++) {
            start.push_back(start.back() + 1);
            len.push_back(0);
            block.push_back(1);
            ts.push_back(ts.back());
            slot.push_back(GPU_NO_SLOT);
            pos.push_back(0);
        }
        b = { c.b.n_tok + pad, c.b.n_seq + pad, 0,           c.b.n_table, nullptr,
              copy(pos),       copy(slot),      copy(start), copy(len),   copy(block),
              copy(ts),        copy(c.table),   nullptr };
        qkv = device_new<half>((size_t)b.n_tok * wide);        /* padding rows stay NaN */
        put(qkv, c.qkv.data(), c.qkv.size());
        n_y = (size_t)b.n_tok * c.s.n_q * c.s.hd;
        y = device_new<half>(n_y);
        image.assign(attend_plan_bytes(&c.s, b.n_tok, b.n_seq) / 8, ~0ull);
        attend_plan_make(image.data(), &g.g, &c.s, &c.b, b.n_seq);
        CU_ASSERT_FATAL(attend_plan_used(image.data()) <= image.size() * 8);
        plan = device_new<char>(attend_plan_used(image.data()));
        put(static_cast<char *>(plan), reinterpret_cast<char *>(image.data()),
            attend_plan_used(image.data()));
    }
    ~ref_device()
    {
        for (uint32_t *p : own)
            cudaFree(p);
        cudaFree(qkv);
        cudaFree(y);
        cudaFree(plan);
    }
    /* y after one kind of attention, on a y of NaN. */
    std::vector<half> run(struct ref_gpu &g, const struct ref_case &c, bool prefill)
    {
        std::vector<half> out(n_y);

        cudaMemset(y, 0xff, n_y * sizeof *y);
        gpu_attend(&g.g, y, qkv, &c.pool.kv, 1, &b, image.data(), plan, c.s.n_q, prefill);
        get(out.data(), y, n_y);
        return out;
    }
};

#endif
