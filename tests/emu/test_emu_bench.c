/* test_emu_bench.c - what benchmarks and profiles ask of the cuda device runs, to its end and without an error. The
 * emulated device's times mean nothing; that there are times, roofs and rows for everything does. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness/ops_bench.h"
#include "harness/step_bench.h"
#include "tests/test.h"

static const struct device_ops *cuda(void)
{
    const struct device_ops *ops = device_find("cuda", NULL);

    CU_ASSERT_PTR_NOT_NULL_FATAL(ops);
    return ops;
}

static void roofs_are_measured(void)
{
    struct device_conf c = { 0 };
    struct device d;
    struct err e = { 0 };

    CU_ASSERT_EQUAL_FATAL(dev_open(&d, cuda(), &c, &e), 0);
    for (int i = 0; i < DEV_ROOF_N; i++) {
        double r = d.ops->roof(&d, (enum dev_roof)i, &e);

        if (!(r > 0))
            test_note("%s: %g, %s", dev_roof_name[i], r, e.text);
        CU_ASSERT(r > 0);
    }
    dev_close(&d);
}

/* Runs with standard output in a file; how many lines hold `word`. */
static int lines_with(int (*run)(struct err *e), const char *word, struct err *e)
{
    FILE *f = tmpfile();
    int kept = dup(1), rc, n = 0;
    char line[1000];

    CU_ASSERT_FATAL(f && kept >= 0);
    fflush(stdout);
    dup2(fileno(f), 1);
    rc = run(e);
    fflush(stdout);
    dup2(kept, 1);
    close(kept);
    rewind(f);
    while (fgets(line, sizeof line, f))
        n += strstr(line, word) != NULL;
    fclose(f);
    return rc ? -1 : n;
}

static int quick_ops(struct err *e)
{
    struct ops_bench_conf c = { .quick = true, .json = true };

    return ops_bench(cuda(), &c, e);
}

static int tiny_steps(struct err *e)
{
    struct step_bench_conf c = { .model = "tiny", .precision = { "f16", "int4:kv=int8", NULL }, .n_seq = 3, .ctx = 20,
                                 .rounds = 2, .json = true };

    return step_bench(cuda(), &c, e);
}

static void every_group_has_rows(void)
{
    struct err e = { 0 };
    int n = lines_with(quick_ops, "\"us\": ", &e);

    if (n < 100)
        test_note("%d rows; %s", n, e.text);
    CU_ASSERT(n >= 100);
}

static void steps_eager_and_as_graphs(void)
{
    struct err e = { 0 };
    int n = lines_with(tiny_steps, "graph\"", &e);

    if (n != 4)
        test_note("%d rows of graphs; %s", n, e.text);
    CU_ASSERT_EQUAL(n, 4);
}

static const struct test tests[] = {
    { "roofs are measured", roofs_are_measured },
    { "bench kernels: every group, every format", every_group_has_rows },
    { "bench step: eager and as graphs", steps_eager_and_as_graphs },
    { 0 },
};
const struct suite suite_emu_bench = { "emu_bench", tests, 300 };
