/* test_sim_charge.c - what sim charges for one operation, one step and one allocation, against sums by hand: which rate
 * holds for which format, what crosses the link, what a launch costs inside a graph and outside. */
#include <stdio.h>
#include <string.h>

#include "kernels/device.h"
#include "tests/files.h"
#include "tests/test.h"

/* As used: 500 operations a ns, 1000 of integers, 25 bytes a ns in memory, 1 over the link. */
static const char profile[] =
    "{\"schema\": \"sim-profile/1\", \"name\": \"hand\", \"about\": \"for a test\", \"flops\": 1e12, \"flop_efficiency\": 0.5, "
    "\"bandwidth\": 1e11, \"byte_efficiency\": 0.25, \"link_bandwidth\": 1e9, \"launch_ns\": 10, \"graph_launch_ns\": 2, "
    "\"host_step_ns\": 100, \"host_seq_ns\": 7, \"mem_bytes\": 1000000%s}";
static const char integers[] = ", \"int_ops\": 4e12, \"int_efficiency\": 0.25";

static void open_hand(struct device *d, const char *more)
{
    char path[4096], text[1000];
    struct device_conf c = { .profile = path, .pace = PACE_SKIP };
    struct err e = { 0 };

    snprintf(text, sizeof text, profile, more);
    file_put("hand.json", text, path);
    memset(d, 0, sizeof *d);
    CU_ASSERT_EQUAL_FATAL(dev_open(d, device_find("sim", &e), &c, &e), 0);
}

static uint64_t charged(struct device *d, enum op op, struct op_cost c, uint32_t times)
{
    uint64_t from = dev_now(d);

    d->ops->charge(d, op, &c, times);
    return dev_now(d) - from;
}

static void operations(void)
{
    static const struct { enum op op; struct op_cost c; uint32_t times; uint64_t ns; } row[] = {
        { OP_MATMUL, { .fmt = FMT_F16, .flops = 1e6, .bytes = 25 }, 1, 2010 },
        { OP_MATMUL, { .fmt = FMT_F16, .flops = 500, .bytes = 25000 }, 1, 1010 },
        { OP_MATMUL, { .fmt = FMT_INT8, .flops = 1e6, .bytes = 25 }, 1, 1010 },
        { OP_MATMUL, { .fmt = FMT_INT4Z, .flops = 1e6, .bytes = 25 }, 1, 1010 },
        { OP_MATMUL, { .fmt = FMT_INT4_A32, .flops = 1e6, .bytes = 25 }, 1, 2010 },     /* decoded: no integers */
        { OP_MATMUL, { .fmt = FMT_FP8, .flops = 1e6, .bytes = 25 }, 1, 2010 },
        { OP_COPY, { .fmt = FMT_F16, .bytes = 5000 }, 1, 210 },
        { OP_SWAP, { .fmt = FMT_F16, .bytes = 5000 }, 1, 5010 },
        { OP_NORM, { .fmt = FMT_F16, .flops = 700 }, 3, 33 },           /* each rounded to a whole ns: 11.4 three times */
        { OP_NORM, { .fmt = FMT_F16 }, 1, 10 },
    };
    struct device d;

    open_hand(&d, integers);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        uint64_t ns = charged(&d, row[i].op, row[i].c, row[i].times);

        if (ns != row[i].ns)
            test_note("row %zu: %llu ns; expected %llu", i, (unsigned long long)ns, (unsigned long long)row[i].ns);
        CU_ASSERT_EQUAL(ns, row[i].ns);
    }
    dev_close(&d);
    open_hand(&d, "");                         /* without a second rate integers take the first */
    CU_ASSERT_EQUAL(charged(&d, OP_MATMUL, row[2].c, 1), 2010);
    dev_close(&d);
}

/* Only a step in which every sequence has one row is replayed. */
static void launches(void)
{
    const struct op_cost none = { .fmt = FMT_F16 };
    struct batch decode = { .n_tok = 3, .n_seq = 3 }, mixed = { .n_tok = 4, .n_seq = 3 };
    struct err e = { 0 };
    struct device d;

    open_hand(&d, integers);
    for (int graph = 0; graph < 2; graph++) {
        CU_ASSERT_EQUAL(dev_exec(&d, &(struct exec){ .fused = true, .graph = graph }, &e), 0);
        d.ops->begin(&d, &decode);
        CU_ASSERT_EQUAL(charged(&d, OP_NORM, none, 1), graph ? 2 : 10);
        d.ops->begin(&d, &mixed);
        CU_ASSERT_EQUAL(charged(&d, OP_NORM, none, 1), 10);
    }
    dev_close(&d);
}

static void host_and_idle(void)
{
    struct device d;
    uint64_t from;

    open_hand(&d, integers);
    from = dev_now(&d);
    d.ops->charge_host(&d, 3);
    CU_ASSERT_EQUAL(dev_now(&d) - from, 100 + 3 * 7);
    dev_idle(&d, 5000);
    CU_ASSERT_EQUAL(dev_now(&d), 5000);
    dev_idle(&d, 4000);                        /* the clock never falls */
    CU_ASSERT_EQUAL(dev_now(&d), 5000);
    dev_close(&d);
}

/* A million bytes: refused to the byte, given back when released. */
static void memory(void)
{
    struct device d;
    void *a, *b;

    open_hand(&d, integers);
    CU_ASSERT_PTR_NOT_NULL_FATAL(a = d.ops->alloc(&d, 600000));
    CU_ASSERT_PTR_NULL(d.ops->alloc(&d, 400001));
    CU_ASSERT_PTR_NOT_NULL_FATAL(b = d.ops->alloc(&d, 400000));
    d.ops->release(&d, b);
    CU_ASSERT_PTR_NOT_NULL(b = d.ops->alloc(&d, 400000));
    d.ops->release(&d, b);
    d.ops->release(&d, a);
    dev_close(&d);
}

/* A profile of one's own is not taken for one of ours by its name: the label carries its sum. */
static void whose_profile(void)
{
    struct device_conf c = { .profile = "l4", .pace = PACE_SKIP };
    struct err e = { 0 };
    char own[40];
    struct device d;

    open_hand(&d, integers);
    snprintf(own, sizeof own, "sim hand:%.8s (", d.profile_sha256);
    CU_ASSERT(!strncmp(d.label, own, strlen(own)));
    dev_close(&d);
    CU_ASSERT_EQUAL_FATAL(dev_open(&d, device_find("sim", &e), &c, &e), 0);
    CU_ASSERT(!strncmp(d.label, "sim l4 (", 8));
    dev_close(&d);
}

static const struct test tests[] = {
    { "operations: the slower of arithmetic and memory, and a launch", operations },
    { "a graph's launches", launches },
    { "the host's time, and idling", host_and_idle },
    { "memory ends where the profile says", memory },
    { "one's own profile is named with its sum", whose_profile },
    { 0 },
};
const struct suite suite_sim_charge = { "sim_charge", tests, 60 };
