/* test_kv_each.c - what makes each memory manager the one it is: buddy blocks, copies of partial
 * matches, the host tier, slots that remember, prompts only, copy on write. Small cases that can be
 * followed by hand. */
#include <stdlib.h>
#include <string.h>

#include "strategies/strategy.h"
#include "tests/test.h"

enum { N = 12, LEN = 64 };
struct bench {
    struct kv kv;
    struct arena arena;
    struct request r[N];
    uint32_t n_request;
    const char *text[N];               /* one token a character */
};

static void ids(void *self, const struct request *r, uint32_t from, uint32_t n, uint64_t *out)
{
    const struct bench *b = self;
    const char *text = b->text[r - b->r];

    for (uint32_t i = 0; i < n; i++)
        out[i] = from + i < r->n_prompt ? (uint64_t)text[from + i] : 1000 * (r->id + 1) + from + i;
}

static void start(struct bench *b, const char *name, const char *knobs, uint32_t n_slot,
                  uint32_t n_host)
{
    struct kv_env env = { .n_slot = n_slot, .n_host_slot = n_host, .max_len = LEN,
                          .identities = ids, .identities_self = b };
    struct err e = { 0 };
    size_t i = 0;

    memset(b, 0, sizeof *b);
    while (strcmp(kv_registry[i]->name, name))
        i++;
    CU_ASSERT_EQUAL_FATAL(params_parse(&env.params, kv_registry[i]->knobs, name, knobs, &e), 0);
    CU_ASSERT_EQUAL_FATAL(kv_open(&b->kv, kv_registry[i], &env, &b->arena, &e), 0);
}

static void end(struct bench *b)
{
    for (int i = 0; i < N; i++)
        kv_drop(&b->kv, &b->r[i]);
    CU_ASSERT_EQUAL(b->kv.ops->count(&b->kv).blocks_used, 0);
    kv_close(&b->kv);
    arena_free(&b->arena);
}

/* Admits place i with a prompt; what is cached of it, or -1 without room. */
static int64_t admit(struct bench *b, uint32_t i, const char *text)
{
    struct request *r = &b->r[i];

    *r = (struct request){ .id = b->n_request++, .block = r->block, .cap_block = r->cap_block };
    b->text[i] = text;
    r->n_prompt = (uint32_t)strlen(text);
    r->oracle_n_out = 1;
    return kv_admit(&b->kv, r, r->n_prompt) ? -1 : (int64_t)r->n_kv;
}

/* The step: moves are made, the prompt has run. */
static void step(struct bench *b, uint32_t i)
{
    b->kv.out.n = b->kv.copy.n = b->kv.in.n = 0;
    b->r[i].n_kv = b->r[i].n_prompt;
    if (b->kv.ops->seal)
        b->kv.ops->seal(&b->kv, &b->r[i]);
}

static int64_t run(struct bench *b, uint32_t i, const char *text)
{
    int64_t hit = admit(b, i, text);

    step(b, i);
    kv_drop(&b->kv, &b->r[i]);
    return hit;
}

/* ---- contiguous: buddy ---- */

static int reserve(struct bench *b, uint32_t i, uint32_t n_prompt, uint32_t n_out)
{
    b->r[i].n_prompt = n_prompt;
    b->r[i].oracle_n_out = n_out;
    return kv_grow(&b->kv, &b->r[i], n_prompt);
}

static void buddy(void)
{
    struct bench b;

    start(&b, "contiguous", "fit=exact:alloc=buddy", 256, 0);
    CU_ASSERT_EQUAL(reserve(&b, 0, 40, 1), 0);         /* 48 slots in a block of 64 */
    CU_ASSERT_EQUAL(reserve(&b, 1, 16, 1), 0);
    CU_ASSERT_EQUAL(b.r[0].block[0], 0);
    CU_ASSERT_EQUAL(b.r[1].block[0], 64);              /* not in the 16 left over */
    CU_ASSERT_EQUAL(b.kv.ops->count(&b.kv).slots_held, 64);
    CU_ASSERT_EQUAL(reserve(&b, 2, 128, 1), 0);
    CU_ASSERT_EQUAL(b.r[2].block[0], 128);
    CU_ASSERT_EQUAL(reserve(&b, 3, 48, 1), -1);        /* 48 are free at 80, but no block of 64 */
    CU_ASSERT_EQUAL(reserve(&b, 3, 32, 1), 0);
    CU_ASSERT_EQUAL(b.r[3].block[0], 96);
    kv_drop(&b.kv, &b.r[0]);
    kv_drop(&b.kv, &b.r[1]);
    kv_drop(&b.kv, &b.r[3]);
    CU_ASSERT_EQUAL(reserve(&b, 4, 128, 1), 0);        /* twins have joined */
    CU_ASSERT_EQUAL(b.r[4].block[0], 0);
    end(&b);
}

/* The paper's pool of OPT-13B, 15,728 slots: 7 reservations of 2048, whatever the allocator. */
static void orca_max(void)
{
    static const char *const knobs[] = { "alloc=first", "alloc=buddy", "" };

    for (size_t k = 0; k < 3; k++) {
        struct kv_env env = { .n_slot = 15728, .max_len = 2048 };
        struct bench b = { 0 };
        struct err e = { 0 };
        uint32_t n = 0;

        CU_ASSERT_EQUAL_FATAL(params_parse(&env.params, kv_registry[0]->knobs, "contiguous",
                                           knobs[k], &e), 0);
        CU_ASSERT_EQUAL_FATAL(kv_open(&b.kv, kv_registry[0], &env, &b.arena, &e), 0);
        while (n < N && !reserve(&b, n, 100, 100))
            n++;
        CU_ASSERT_EQUAL(n, 15728 / 2048);
        end(&b);
    }
}

/* ---- tree: partial matches, host tier, priorities ---- */

static void partial_match(void)
{
    struct bench b;

    start(&b, "tree", "block=4", 64, 0);
    CU_ASSERT_EQUAL(run(&b, 0, "aaaabbbbcccc"), 0);
    CU_ASSERT_EQUAL(admit(&b, 1, "aaaabbbxyz"), 7);    /* one block shared, three tokens copied */
    CU_ASSERT_EQUAL(b.kv.copy.n, 1);
    CU_ASSERT_EQUAL(b.kv.copy.move[0].n, 3);
    CU_ASSERT_EQUAL(b.kv.copy.move[0].to, b.r[1].block[1]);
    step(&b, 1);
    CU_ASSERT_EQUAL(admit(&b, 2, "aaaabbbbcccc"), 11); /* the last token is computed again */
    CU_ASSERT_EQUAL(b.r[2].block[0], b.r[1].block[0]);
    CU_ASSERT_EQUAL(b.kv.ops->count(&b.kv).shared_tokens, 4);
    step(&b, 2);
    CU_ASSERT_EQUAL(admit(&b, 3, "aab"), 2);
    end(&b);
}

static void host_tier(void)
{
    struct bench b;

    start(&b, "tree", "block=4:host=on:partial=off", 16, 16);
    CU_ASSERT_EQUAL(run(&b, 0, "aaaabbbbcccc"), 0);
    CU_ASSERT_EQUAL(admit(&b, 1, "ddddeeeeffffgggg"), 0);      /* drives all of it out */
    CU_ASSERT_EQUAL(b.kv.ops->count(&b.kv).evicted_blocks, 3);
    CU_ASSERT(b.kv.out.n > 0);
    step(&b, 1);
    kv_drop(&b.kv, &b.r[1]);
    CU_ASSERT_EQUAL(admit(&b, 2, "aaaabbbbccccd"), 12);        /* and it comes back */
    CU_ASSERT(b.kv.in.n > 0);
    end(&b);
    start(&b, "tree", "block=4:partial=off", 16, 16);          /* without the tier it does not */
    CU_ASSERT_EQUAL(run(&b, 0, "aaaabbbbcccc"), 0);
    CU_ASSERT_EQUAL(run(&b, 1, "ddddeeeeffffgggg"), 0);
    CU_ASSERT_EQUAL(admit(&b, 2, "aaaabbbbccccd"), 0);
    end(&b);
}

static void priorities(void)
{
    struct bench b;

    start(&b, "tree", "block=4:partial=off", 16, 0);
    CU_ASSERT_EQUAL(admit(&b, 0, "aaaabbbb"), 0);
    b.r[0].priority = 1;
    step(&b, 0);
    kv_drop(&b.kv, &b.r[0]);
    CU_ASSERT_EQUAL(run(&b, 1, "ccccdddd"), 0);
    CU_ASSERT_EQUAL(run(&b, 2, "eeeeffff"), 0);                /* takes c and d, not a */
    CU_ASSERT_EQUAL(run(&b, 3, "aaaabbbbx"), 8);
    end(&b);
}

/* ---- who knows what when ---- */

static void generated(void)
{
    static const struct { const char *name, *knobs; uint32_t hit; } cases[] = {
        { "prefix", "block=2", 6 }, { "prefix", "block=2:generated=off", 4 }, { "radix", "", 7 },
        { "radix", "generated=off", 4 }, { "tree", "block=2:partial=off", 6 },
        { "tree", "block=2:generated=off", 4 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b;
        struct request *r = &b.r[0];

        start(&b, cases[i].name, cases[i].knobs, 32, 0);
        admit(&b, 0, "aabb");
        step(&b, 0);
        for (r->n_out = 1; r->n_out < 5; r->n_out++) {         /* runs 4 of its 5 tokens */
            CU_ASSERT_EQUAL(kv_grow(&b.kv, r, r->n_kv + 1), 0);
            r->n_kv++;
            b.kv.ops->seal(&b.kv, r);
        }
        kv_drop(&b.kv, r);
        r->n_kv = 0;
        r->n_out = 4;                                          /* it asks again: 8 tokens known */
        CU_ASSERT_EQUAL(req_known(r) - kv_todo(&b.kv, r), cases[i].hit);
        end(&b);
    }
}

/* TGI knows a prompt when its request ends, the others while it runs. */
static void while_running(void)
{
    struct bench b;

    start(&b, "radix", "generated=off", 32, 0);
    CU_ASSERT_EQUAL(admit(&b, 0, "aabb"), 0);
    step(&b, 0);
    CU_ASSERT_EQUAL(admit(&b, 1, "aabbc"), 0);
    step(&b, 1);
    kv_drop(&b.kv, &b.r[0]);
    CU_ASSERT_EQUAL(admit(&b, 2, "aabbc"), 4);
    end(&b);
    start(&b, "radix", "", 32, 0);
    CU_ASSERT_EQUAL(admit(&b, 0, "aabb"), 0);
    step(&b, 0);
    CU_ASSERT_EQUAL(admit(&b, 1, "aabbc"), 4);
    end(&b);
}

/* The same prompt computed twice in one step: the trie keeps one, the other is free again. */
static void merged(void)
{
    struct bench b;

    start(&b, "radix", "", 32, 0);
    CU_ASSERT_EQUAL(admit(&b, 0, "aabb"), 0);
    CU_ASSERT_EQUAL(admit(&b, 1, "aabb"), 0);
    CU_ASSERT_EQUAL(b.kv.ops->count(&b.kv).blocks_used, 8);
    step(&b, 0);
    step(&b, 1);
    CU_ASSERT_EQUAL(b.kv.ops->count(&b.kv).blocks_used, 4);
    CU_ASSERT_EQUAL(b.r[0].block[3], b.r[1].block[3]);
    end(&b);
}

/* ---- copy on write ---- */

static void copy_on_write(void)
{
    struct bench b;

    start(&b, "cow", "block=4", 64, 0);
    CU_ASSERT_EQUAL(admit(&b, 0, "aaaabbbbcc"), 0);
    step(&b, 0);
    CU_ASSERT_EQUAL(admit(&b, 1, "aaaabbbbcc"), 9);    /* all but the token that must run again */
    CU_ASSERT_EQUAL(b.kv.copy.n, 1);
    CU_ASSERT_EQUAL(b.kv.copy.move[0].n, 1);
    CU_ASSERT_EQUAL(b.r[0].block[1], b.r[1].block[1]);
    CU_ASSERT_NOT_EQUAL(b.r[0].block[2], b.r[1].block[2]);
    CU_ASSERT_EQUAL(b.kv.ops->count(&b.kv).blocks_used, 4);
    CU_ASSERT_EQUAL(b.kv.ops->count(&b.kv).shared_tokens, 8);
    step(&b, 1);
    kv_drop(&b.kv, &b.r[0]);
    kv_drop(&b.kv, &b.r[1]);
    CU_ASSERT_EQUAL(admit(&b, 2, "aaaabbbbcc"), 0);    /* nothing outlives its last owner */
    end(&b);
}

/* ---- slots ---- */

static void slots(void)
{
    struct bench b;

    start(&b, "slot", "slots=2", 128, 0);
    CU_ASSERT_EQUAL(run(&b, 0, "aaaaaaaaaa"), 0);
    CU_ASSERT_EQUAL(run(&b, 1, "bbbbbbbbbb"), 0);      /* the slot that has been free longest */
    CU_ASSERT_EQUAL(admit(&b, 2, "bbbbbcccccccc"), 5); /* the most alike, though freed later */
    CU_ASSERT_EQUAL(admit(&b, 3, "bbbbb"), 0);         /* it is taken: the other one, anew */
    CU_ASSERT_EQUAL(b.kv.ops->count(&b.kv).evicted_blocks, 1);
    CU_ASSERT_EQUAL(admit(&b, 4, "x"), -1);
    step(&b, 2);
    kv_drop(&b.kv, &b.r[2]);
    CU_ASSERT_EQUAL(admit(&b, 4, "bbbbbcccccccc"), 12);
    end(&b);
    start(&b, "slot", "slots=100", 128, 0);            /* as many as the longest sequence allows */
    CU_ASSERT_EQUAL(b.kv.ops->count(&b.kv).blocks_total, 128 / LEN);
    end(&b);
}

/* Memory for a list of moves that cannot be had: a list said to be that long. */
static void lack_memory(struct kv_moves *m, bool lacks)
{
    m->n = m->cap = lacks ? UINT32_C(1) << 31 | 1 : 0;
}

static void swaps_fail_whole(void)
{
    static const char *const names[] = { "paged", "prefix", "cow" };

    for (size_t i = 0; i < 3; i++) {
        struct bench b;
        struct kv_count before, after;
        struct request was;

        start(&b, names[i], "block=4", 32, 32);
        CU_ASSERT_EQUAL(admit(&b, 0, "aaaabbbbcc"), 0);
        step(&b, 0);
        free(b.kv.out.move);
        free(b.kv.in.move);
        b.kv.out.move = b.kv.in.move = NULL;
        for (int in = 0; in <= 1; in++) {
            before = b.kv.ops->count(&b.kv);
            was = b.r[0];
            lack_memory(in ? &b.kv.in : &b.kv.out, true);
            CU_ASSERT_EQUAL(in ? kv_admit(&b.kv, &b.r[0], 11) : b.kv.ops->swap_out(&b.kv, &b.r[0]), -1);
            lack_memory(in ? &b.kv.in : &b.kv.out, false);
            after = b.kv.ops->count(&b.kv);
            CU_ASSERT_EQUAL(memcmp(&before, &after, sizeof before), 0);
            CU_ASSERT_EQUAL(memcmp(&was, &b.r[0], sizeof was), 0);
            if (!in) {                 /* and with memory it goes */
                struct plan p = { 0 };

                plan_preempt(&p, &b.kv, &b.r[0], YIELD_SWAP);
                CU_ASSERT_EQUAL(b.r[0].n_host, 10);
                CU_ASSERT_EQUAL(b.kv.out.n, 1);        /* three blocks side by side, there and here */
                b.kv.out.n = 0;
            }
        }
        CU_ASSERT_EQUAL(kv_admit(&b.kv, &b.r[0], 11), 0);
        CU_ASSERT_EQUAL(b.r[0].n_kv, 10);
        end(&b);
    }
}

static const struct test tests[] = {
    { "contiguous: buddies split and join, what rounding loses is lost", buddy },
    { "contiguous: 7 sequences of 2048 in the paper's pool", orca_max },
    { "tree: the longest leading run of a block is copied", partial_match },
    { "tree: what was given up comes back from the host", host_tier },
    { "tree: blocks of urgent requests go last", priorities },
    { "generated tokens are cached or not, as asked", generated },
    { "TGI knows prompts when they end, SGLang while they run", while_running },
    { "radix: what was computed twice is kept once", merged },
    { "cow: a partly filled block is shared up to the first write", copy_on_write },
    { "slot: the longest common prefix, else the longest free", slots },
    { "a swap without memory for its moves changes nothing", swaps_fail_whole },
    { 0 },
};
const struct suite suite_kv_each = { "kv_each", tests, 60 };
