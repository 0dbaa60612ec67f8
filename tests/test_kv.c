/* test_kv.c - memory managers against a naive oracle: what each slot holds, who owns it, what is
 * counted, and that caches find what an infinite cache would. */
#include <stdio.h>
#include <string.h>

#include "harness/draw.h"
#include "tests/kv_oracle.h"
#include "tests/test.h"

static const struct kv_ops *manager(const char *name)
{
    for (size_t i = 0; kv_registry[i]; i++)
        if (!strcmp(kv_registry[i]->name, name))
            return kv_registry[i];
    return NULL;
}

static void open_world(struct kv_world *w, const struct kv_ops *ops, const char *knobs,
                       uint32_t slots, uint32_t host, uint64_t seed)
{
    struct err e = { 0 };

    if (kv_world_open(w, ops, knobs, slots, host, seed, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("the manager does not open");
    }
}

static void close_world(struct kv_world *w)
{
    if (!w->wrong[0])
        kv_world_end(w);
    if (w->wrong[0])
        test_note("%s, step %llu: %s", w->name, (unsigned long long)w->steps, w->wrong);
    CU_ASSERT_EQUAL(w->wrong[0], 0);
    kv_world_close(w);
}

static void lock_step(void)
{
    static struct kv_world w;

    for (size_t j = 0; kv_registry[j]; j++) {
        uint64_t refused = 0, hits = 0, swapped = 0;
        struct rng rng;

        rng_seed(&rng, 900 + j);
        for (int round = 0; round < 120; round++) {
            char knobs[64];
            uint32_t slots = 16 * (8 + (uint32_t)rng_below(&rng, 40));
            uint32_t host = rng_below(&rng, 3) ? 16 * (1 + (uint32_t)rng_below(&rng, 40)) : 0;

            draw_knobs(kv_registry[j]->knobs, &rng, 64, knobs, sizeof knobs);
            open_world(&w, kv_registry[j], knobs, slots, host, rng_next(&rng));
            for (int step = 0; step < 120 && !kv_world_step(&w); step++)
                ;
            refused += w.refused;
            hits += w.hits;
            swapped += w.swapped;
            close_world(&w);
        }
        CU_ASSERT(refused > 0);
        CU_ASSERT((hits > 0) == (kv_registry[j]->attach != NULL));
        CU_ASSERT((swapped > 0) == (kv_registry[j]->swap_out != NULL));
    }
}

/* ---- hits where nothing is ever given up ---- */

/* Runs r alone from beginning to end and drops it; returns what the cache had of its prompt. */
static uint32_t run_alone(struct kv_world *w, struct request *r)
{
    uint32_t hit, n_out = w->q[r - w->r].n_out;

    CU_ASSERT_EQUAL_FATAL(kv_admit(&w->kv, r, r->n_prompt), 0);
    hit = r->n_kv;
    w->kv.out.n = w->kv.copy.n = w->kv.in.n = 0;
    for (r->n_kv = r->n_prompt;; r->n_kv++) {
        kv_world_sealed(w, r);
        if (++r->n_out == n_out)
            break;
        CU_ASSERT_EQUAL_FATAL(kv_grow(&w->kv, r, r->n_kv + 1), 0);
    }
    kv_drop(&w->kv, r);
    return hit;
}

enum { N_PAST = 300 };
struct past { uint64_t id[KV_MAX_LEN]; uint32_t n; };

/* Longest beginning of q that a past sequence has in whole blocks; partly: the rest of one too. */
static uint32_t best(const struct past *past, int n, const struct kv_req *q,
                     const struct request *r, uint32_t block, bool partly)
{
    uint32_t most = 0, cap = r->n_prompt - 1;

    for (int i = 0; i < n; i++) {
        uint32_t k = 0, end = past[i].n / block * block;

        while (k < end && k < cap && past[i].id[k] == q->id[k])
            k++;
        k = partly ? k : k / block * block;
        most = k > most ? k : most;
    }
    return most;
}

static void infinite(void)
{
    static const struct {
        const char *name, *knobs;
        uint32_t block;
        bool partly, generated;
    } cases[] = {
        { "prefix", "", 16, false, true }, { "prefix", ":block=5:generated=off", 5, false, false },
        { "tree", ":block=8", 8, true, true }, { "tree", ":partial=off:block=8", 8, false, true },
        { "radix", "", 1, false, true }, { "radix", ":generated=off", 1, false, false },
        { "radix", ":page=4", 4, false, true },
        { "tree", ":block=32:generated=off", 32, true, false },
    };
    static struct kv_world w;
    static struct past past[N_PAST];

    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        uint64_t total = 0;

        open_world(&w, manager(cases[c].name), cases[c].knobs, N_PAST * KV_MAX_LEN, 0, 77 + c);
        for (int i = 0; i < N_PAST; i++) {
            uint32_t at = (uint32_t)i % KV_N_REQ;
            struct request *r = &w.r[at];
            uint32_t want = best(past, i, &w.q[at], r, cases[c].block, cases[c].partly);
            uint32_t peek = r->n_prompt - kv_todo(&w.kv, r), got;

            memcpy(past[i].id, w.q[at].id, sizeof past[i].id);
            past[i].n = r->n_prompt + (cases[c].generated ? w.q[at].n_out - 1 : 0);
            got = run_alone(&w, r);
            if (got != want || peek != want)
                test_note("%s%s, request %d: %u tokens hit, %u peeked, %u possible", cases[c].name,
                          cases[c].knobs, i, got, peek, want);
            CU_ASSERT_EQUAL(got, want);
            CU_ASSERT_EQUAL(peek, want);
            total += got;
            kv_world_renew(&w, at);
        }
        CU_ASSERT(total > 0);
        CU_ASSERT_EQUAL(w.kv.ops->count(&w.kv).hit_tokens, total);
        CU_ASSERT_EQUAL(w.kv.ops->count(&w.kv).evicted_blocks, 0);
        close_world(&w);
    }
}

static const struct test tests[] = {
    { "each manager in lock-step with the oracle: owners, content, counts, moves", lock_step },
    { "an ample cache hits exactly what an infinite one would", infinite },
    { 0 },
};
const struct suite suite_kv = { "kv", tests, 300 };
