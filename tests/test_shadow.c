/* test_shadow.c - the shadow device: tokens follow from tokens alone, and every wrong move of K and
 * V changes them. Then the central test at the speed of sim: every scheduler with every memory
 * manager. */
#include <stdio.h>
#include <string.h>

#include "harness/dst.h"
#include "tests/lab.h"
#include "tests/test.h"

enum {
    N_REQUEST = 16,
    MAX_PROMPT = 90,
    MAX_OUT = 30,
    MAX_LEN = 128,
    TIGHT = 176,
    HOST = 512,
    BLOCK = 16
};

extern const struct kv_ops kv_paged;

/* ---- wrong managers: paged, with one thing done wrong ---- */

static int swap_in_dropped(struct kv *kv, struct request *r, uint32_t n_tok)
{
    uint32_t n = kv->in.n;
    int rc = kv_paged.swap_in(kv, r, n_tok);

    kv->in.n = n;
    return rc;
}

static int swap_out_dropped(struct kv *kv, struct request *r)
{
    uint32_t n = kv->out.n;
    int rc = kv_paged.swap_out(kv, r);

    kv->out.n = n;
    return rc;
}

static int swap_in_shifted(struct kv *kv, struct request *r, uint32_t n_tok)
{
    uint32_t n = kv->in.n;
    int rc = kv_paged.swap_in(kv, r, n_tok);

    if (kv->in.n > n && kv->in.move[n].n > 1) {            /* one token too few */
        kv->in.move[n].from++;
        kv->in.move[n].to++;
        kv->in.move[n].n--;
    }
    return rc;
}

/* A cache that gives a block which nobody has written. */
static void attach_stale(struct kv *kv, struct request *r)
{
    if (r->n_prompt > BLOCK && !kv_paged.grow(kv, r, BLOCK))
        r->n_kv = BLOCK;
}

/* Right, but laborious: a sequence that grows moves its first block to the new one, by a copy. */
static bool moved_block(struct kv *kv, struct request *r, uint32_t n_tok, bool with_copy)
{
    uint32_t had = r->n_block, first = had ? r->block[0] : 0, last;

    if (kv_paged.grow(kv, r, n_tok))
        return false;
    last = r->n_block - 1;
    if (had && r->n_block > had && r->n_kv >= BLOCK) {
        r->block[0] = r->block[last];
        r->block[last] = first;
        if (with_copy)
            kv_move_add(&kv->copy, first, r->block[0], BLOCK);
    }
    return true;
}

static int grow_copied(struct kv *kv, struct request *r, uint32_t n_tok)
{
    return moved_block(kv, r, n_tok, true) ? 0 : -1;
}

static int grow_uncopied(struct kv *kv, struct request *r, uint32_t n_tok)
{
    return moved_block(kv, r, n_tok, false) ? 0 : -1;
}

/* ---- runs ---- */

struct seen { const struct trace *t; uint32_t vocab, wrong, n_done; };

static void compare(void *self, const struct replay_done *d)
{
    struct seen *s = self;
    const struct trace_req *q = &s->t->req[d->r->id];
    uint32_t prompt[MAX_PROMPT + 1], want[MAX_OUT + 1];

    trace_tokens(s->t, d->r->id, 1, s->vocab, 0, q->n_prompt, prompt);
    shadow_solo(prompt, q->n_prompt, q->n_out, s->vocab, 0, want);
    s->n_done++;
    s->wrong += d->r->n_out != q->n_out || memcmp(d->tokens, want, q->n_out * sizeof *want);
}

/* Requests whose tokens differ from those they have alone. */
static uint32_t n_wrong(const char *name, const struct kv_ops *kv, uint32_t slots)
{
    struct lab l;
    struct trace t;
    struct strategy st;
    struct replay_result res;
    struct err e = { 0 };
    struct seen s = { .t = &t };
    struct replay_conf c = { .trace = &t, .strategy = &st, .kv_pool = &l.kv, .kv_slots = slots,
                             .max_len = MAX_LEN, .host_slots = HOST, .rate_scale = 1, .seed = 1,
                             .on_done = compare, .on_done_self = &s };

    lab_trace(&t, N_REQUEST, MAX_PROMPT, MAX_OUT, 300, 21);
    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "shadow", "shadow", 4096, NULL, NULL, PACE_VIRTUAL), 0);
    s.vocab = l.shape.vocab;
    CU_ASSERT_EQUAL_FATAL(strategy_parse(&st, name, &e), 0);
    if (kv)
        st.kv = kv;
    c.model = loaded_get(&l.models, &st, &e);
    if (replay_run(&c, &res, &e))
        test_note("%s: %s", name, e.text);
    CU_ASSERT_EQUAL(e.code, 0);
    CU_ASSERT_EQUAL(s.n_done, N_REQUEST);
    lab_close(&l);
    trace_free(&t);
    return s.wrong;
}

static void tokens_follow_from_tokens(void)
{
    static const char *const names[] = {
        "static:batch=1+contiguous+f16", "continuous:batch=3+paged:block=1+f16",
        "chunked:budget=5+paged:block=7+f16", "chunked:budget=64:preempt=swap+paged:block=16+f16",
        "continuous:preempt=swap:victim=fewest+paged:block=8+f16",
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CU_ASSERT_EQUAL(n_wrong(names[i], NULL, 4096), 0);
        CU_ASSERT_EQUAL(n_wrong(names[i], NULL, TIGHT), 0);
    }
}

static void wrong_moves_change_tokens(void)
{
    static const char name[] = "chunked:preempt=swap+paged+f16";
    struct kv_ops ops = kv_paged;

    CU_ASSERT_EQUAL(n_wrong(name, &ops, TIGHT), 0);
    ops.swap_in = swap_in_dropped;
    CU_ASSERT(n_wrong(name, &ops, TIGHT) > 0);
    ops.swap_in = swap_in_shifted;
    CU_ASSERT(n_wrong(name, &ops, TIGHT) > 0);
    ops = kv_paged;
    ops.swap_out = swap_out_dropped;
    CU_ASSERT(n_wrong(name, &ops, TIGHT) > 0);
    ops = kv_paged;
    ops.attach = attach_stale;
    CU_ASSERT(n_wrong(name, &ops, 4096) > 0);
    ops = kv_paged;
    ops.grow = grow_copied;
    CU_ASSERT_EQUAL(n_wrong(name, &ops, 4096), 0);
    ops.grow = grow_uncopied;
    CU_ASSERT(n_wrong(name, &ops, 4096) > 0);
}

/* A slot outside the pool is an error of the step, and the next step starts clean. */
static void slots_outside_are_errors(void)
{
    static const uint32_t start[2] = { 0, 1 }, len[1] = { 1 }, bt[1] = { 16 }, tok[1] = { 5 },
                          pos[1] = { 0 };
    struct lab l;
    struct strategy st;
    struct model *m;
    struct err e = { 0 };
    uint32_t slot = 64, table = 64, row = 0, next = 0;
    struct batch b = { .n_tok = 1, .n_seq = 1, .n_row = 1, .n_table = 1, .tok = tok, .pos = pos,
                       .slot = &slot, .seq_start = start, .kv_len = len, .block_tokens = bt,
                       .table_start = start, .table = &table, .row = &row };

    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "shadow", "shadow", 64, NULL, NULL, PACE_VIRTUAL), 0);
    CU_ASSERT_EQUAL_FATAL(strategy_parse(&st, "static+paged+f16", &e), 0);
    m = loaded_get(&l.models, &st, &e);
    CU_ASSERT_EQUAL_FATAL(model_room(m, 1, 1, &e), 0);
    CU_ASSERT_EQUAL(model_step(m, &l.kv, &b, &next, &e), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "KV slot 64 of a pool of 64"));
    e.code = 0;
    slot = table = 16;
    CU_ASSERT_EQUAL(model_step(m, &l.kv, &b, &next, &e), 0);
    CU_ASSERT_EQUAL(next, shadow_pick(shadow_fold(0, shadow_slot(0, 5, 0)), l.shape.vocab, 0));
    lab_close(&l);
}

/* ---- everything with everything ---- */

static void one_pair(struct dst_lab *l, const struct sched_ops *s, const struct kv_ops *k,
                     const struct trace *t, struct rng *r)
{
    static const uint32_t slots[] = { 4096, TIGHT, MAX_LEN }, host[] = { 0, HOST, 64 };
    struct dst_case c = { .seed = 1, .max_len = MAX_LEN, .trace = *t };
    char a[100], b[60];

    for (int d = 0; d < 12; d++) {
        struct err e = { 0 };

        draw_knobs(d ? s->knobs : NULL, r, 128, a, sizeof a);
        draw_knobs(d ? k->knobs : NULL, r, 64, b, sizeof b);
        snprintf(c.strategy, sizeof c.strategy, "%s%s+%s%s+f16", s->name, a, k->name, b);
        c.kv_slots = slots[d % 3];
        c.host_slots = host[d / 3 % 3];
        if (dst_check(l, &c, &e) < 0) {
            test_note("%s, %u slots, %u on the host: %s", c.strategy, c.kv_slots, c.host_slots,
                      e.text);
            CU_FAIL("not the tokens of running alone");
        }
    }
}

static void everything(void)
{
    struct dst_lab l;
    struct trace t;
    struct rng r;
    struct err e = { 0 };

    lab_trace(&t, N_REQUEST, MAX_PROMPT, MAX_OUT, 300, 22);
    rng_seed(&r, 23);
    CU_ASSERT_EQUAL_FATAL(dst_open(&l, &e), 0);
    for (size_t i = 0; sched_registry[i]; i++)
        for (size_t j = 0; kv_registry[j]; j++)
            one_pair(&l, sched_registry[i], kv_registry[j], &t, &r);
    CU_ASSERT(l.reach.preemptions > 0);
    CU_ASSERT(l.reach.finished > 0);
    dst_close(&l);
    trace_free(&t);
}

static const struct test tests[] = {
    { "tokens are those of running alone, whatever the batch, chunk, block and memory",
      tokens_follow_from_tokens },
    { "a dropped copy, swap or stale block changes tokens", wrong_moves_change_tokens },
    { "a slot outside the pool is an error of its step", slots_outside_are_errors },
    { "all schedulers x managers x drawn knobs x ample and tight memory x host memory",
      everything },
    { 0 },
};
const struct suite suite_shadow = { "shadow", tests, 300 };
