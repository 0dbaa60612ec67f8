/* test_emu_device_graphs.c - recorded steps of the cuda device: made once and replayed, padded, bound to no step; and
 * strategies that replay a trace with them and without: the same tokens, bit for bit. */
#include "tests/emu/hooks.h"
#include "tests/emu/side.h"
#include "tests/lab.h"

/* n sequences of `len` tokens each are in the cache; then n_step decode steps of all of them. */
static void decode(struct side *s, struct world *w, uint32_t n, uint32_t n_step, float **last)
{
    static struct made m;
    uint32_t n_new[SEQ_MAX] = { 0 }, next[SEQ_MAX];

    for (uint32_t i = 0; i < n; i++)
        n_new[i] = 1;
    for (uint32_t i = 0; i < n_step; i++) {
        batch_make(&m, w, n_new, true);
        free(*last);
        *last = side_step(s, &m.b, next);
        world_advance(w, n_new);
    }
}

static void prompts(struct side *s, struct world *w, uint32_t n)
{
    static const uint32_t size[] = { 16, 5 };
    static struct made m;
    uint32_t n_new[SEQ_MAX] = { 0 }, next[SEQ_MAX];
    float *x;

    world_fill(w, n, size, 2, 60, N_SLOT, s->m.shape.vocab, 5);
    for (uint32_t i = 0; i < n; i++)
        n_new[i] = 2 + 3 * i;
    batch_make(&m, w, n_new, true);
    x = side_step(s, &m.b, next);
    free(x);
    world_advance(w, n_new);
}

/* How many graphs were made and launched since count_from; on a GPU only the padding says that there are any. */
static void count_from(void)
{
    if (emulated())
        hook_reset();
}
static void counted(uint64_t made, uint64_t launched)
{
    struct hook_count c = { 0 };

    if (!emulated())
        return;
    c = hook_counts();
    CU_ASSERT_EQUAL(c.graphs_made, made);
    CU_ASSERT_EQUAL(c.graph_launches, launched);
}

static void graphs_are_replayed(void)
{
    struct model_shape shape;
    struct side s;
    static struct world w;
    float *last = NULL;

    small_shape(&shape, false);
    side_open(&s, &device_cuda, &shape, (struct wfmt){ FMT_F16, 0 }, FMT_F16);
    side_exec(&s, true, true, true);
    prompts(&s, &w, 7);
    CU_ASSERT_EQUAL(s.dev.step_pad_rows, 0);           /* a prompt: no graph */
    count_from();
    decode(&s, &w, 3, 5, &last);                       /* 3 rows in a graph of 4 */
    counted(1, 5);
    CU_ASSERT_EQUAL(s.dev.step_pad_rows, 1);
    decode(&s, &w, 4, 2, &last);                       /* the same graph, no padding */
    counted(1, 7);
    CU_ASSERT_EQUAL(s.dev.step_pad_rows, 0);
    decode(&s, &w, 5, 3, &last);                       /* 8, which is all that there is room for */
    counted(2, 10);
    CU_ASSERT_EQUAL(s.dev.step_pad_rows, 3);
    CU_ASSERT(s.dev.step_device_ns > 0);
    side_exec(&s, false, true, true);                  /* other kernels: another graph */
    decode(&s, &w, 3, 2, &last);
    counted(3, 12);
    side_exec(&s, false, false, true);
    decode(&s, &w, 3, 2, &last);
    counted(3, 12);
    CU_ASSERT_EQUAL(s.dev.step_pad_rows, 0);
    free(last);
    side_close(&s);
}

/* Buffers for 6 rows: a graph of 6, not of 8, and nothing is written behind them. */
static void graphs_end_with_the_buffers(void)
{
    struct model_shape shape;
    struct side s;
    static struct world w, again;
    float *eager = NULL, *graph = NULL;
    struct err e = { 0 };

    small_shape(&shape, false);
    side_open(&s, &device_cuda, &shape, (struct wfmt){ FMT_F16, 0 }, FMT_F16);
    model_close(&s.m);
    {
        struct wfmt fmt[2 * ROLE_N];

        for (int i = 0; i < 2 * ROLE_N; i++)
            fmt[i] = (struct wfmt){ FMT_F16, 0 };
        CU_ASSERT_EQUAL_FATAL(model_open(&s.m, &s.dev, &shape, fmt, &s.src, &e), 0);
        CU_ASSERT_EQUAL_FATAL(model_room(&s.m, MAX_TOK, 6, &e), 0);
    }
    side_exec(&s, true, true, true);
    prompts(&s, &w, 5);
    again = w;
    decode(&s, &w, 5, 3, &graph);
    CU_ASSERT_EQUAL(s.dev.step_pad_rows, 1);
    side_exec(&s, true, false, true);
    decode(&s, &again, 5, 3, &eager);
    CU_ASSERT(same_bits(eager, graph, 5 * shape.vocab));
    free(eager), free(graph);
    side_close(&s);
}

/* A graph made on short caches serves long ones, other blocks, other tokens; a graph of a model that is gone is
 * not replayed for its successor at the same addresses. */
static void graphs_hold_no_step(void)
{
    struct model_shape shape;
    struct side s;
    static struct world w, again;
    float *eager = NULL, *graph = NULL;

    small_shape(&shape, true);
    side_open(&s, &device_cuda, &shape, (struct wfmt){ FMT_INT8, 0 }, FMT_INT8);
    side_exec(&s, true, true, true);
    prompts(&s, &w, 4);
    decode(&s, &w, 4, 2, &graph);
    count_from();
    w.seq[0].tok[w.seq[0].len] = 7;
    again = w;
    decode(&s, &w, 4, 30, &graph);
    counted(0, 30);
    side_exec(&s, true, false, true);
    decode(&s, &again, 4, 30, &eager);
    CU_ASSERT(same_bits(eager, graph, 4 * shape.vocab));
    free(eager), free(graph);
    side_close(&s);
}

/* Two models of one shape on one device: each has graphs of its own. */
static void graphs_know_their_model(void)
{
    struct wfmt fmt[2 * ROLE_N] = { { 0 } };
    struct weight_source src;
    struct model_shape shape;
    struct model first;
    struct side s;
    static struct world w, start;
    float *one = NULL, *graph = NULL, *eager = NULL;
    struct err e = { 0 };

    small_shape(&shape, false);
    side_open(&s, &device_cuda, &shape, (struct wfmt){ FMT_F16, 0 }, FMT_F16);
    side_exec(&s, true, true, true);
    prompts(&s, &w, 4);
    start = w;
    first = s.m;
    for (int i = 0; i < 2 * ROLE_N; i++)
        fmt[i].fmt = FMT_F16;
    CU_ASSERT_EQUAL_FATAL(source_synth(&src, &shape, 4, &s.arena, &e), 0);
    CU_ASSERT_EQUAL_FATAL(model_open(&s.m, &s.dev, &shape, fmt, &src, &e), 0);
    CU_ASSERT_EQUAL_FATAL(model_room(&s.m, MAX_TOK, MAX_ROW, &e), 0);
    count_from();
    for (int i = 0; i < 2; i++) {                      /* first, second, first, second: nothing is freed */
        struct model second = s.m;

        s.m = first, w = start;
        decode(&s, &w, 4, 1, &one);
        s.m = second, w = start;
        decode(&s, &w, 4, 1, &graph);
    }
    counted(2, 4);
    side_exec(&s, true, false, true);
    w = start;
    decode(&s, &w, 4, 1, &eager);
    CU_ASSERT(same_bits(eager, graph, 4 * shape.vocab));
    CU_ASSERT(!same_bits(one, graph, 4 * shape.vocab));
    model_close(&first);
    free(one), free(graph), free(eager);
    side_close(&s);
}

/* ---- strategies ---- */

enum { N_REQUEST = 6, MAX_LEN = 64 };

static void trace_hashes(struct lab *l, const struct trace *t, const char *name, uint32_t slots, uint64_t *hash,
                         uint64_t *preempted)
{
    struct lab_run_conf c = { .strategy = name, .trace = t, .kv_slots = slots, .max_len = MAX_LEN };
    struct replay_result res;
    struct lab_out out;

    if (lab_run(l, &c, &res, &out)) {
        test_note("%s: %s", name, l->e.text);
        CU_FAIL_FATAL("the run failed");
    }
    *preempted += res.preemptions;
    for (uint32_t i = 0; i < t->n; i++) {
        CU_ASSERT_EQUAL(out.n_out[i], t->req[i].n_out);
        hash[i] = out.hash[i];
    }
    lab_out_free(&out);
}

/* Every request's tokens are those of running alone, whatever schedules, stores or launches it. */
static void strategies_agree(void)
{
    static const struct { const char *name; uint32_t slots; } run[] = {
        { "static:batch=1+contiguous+int4:group=32+eager:exact=on", 0 },
        { "continuous+paged+int4:group=32+eager:exact=on", 0 },
        { "continuous+paged+int4:group=32+graph:exact=on", 0 },
        { "chunked:budget=13+paged:block=7+int4:group=32+eager:exact=on:fused=off", 0 },
        { "chunked:budget=13+paged:block=7+int4:group=32+graph:exact=on:fused=off", 0 },
        { "static+contiguous+int4:group=32+graph:exact=on", 0 },
        { "continuous+paged:block=4+int4:group=32+graph:exact=on", 64 },
        { "continuous:preempt=swap+paged:block=4+int4:group=32+graph:exact=on", 64 },
        { "continuous+prefix:block=8+int4:group=32+graph:exact=on", 0 },
    };
    uint64_t want[N_REQUEST], got[N_REQUEST], preempted = 0;
    struct trace t;
    struct lab l;

    lab_trace(&t, N_REQUEST, 30, 10, 300, 7);
    CU_ASSERT_EQUAL_FATAL(lab_open(&l, "cuda", "tiny", 1024, NULL, NULL, PACE_SKIP), 0);
    for (size_t i = 0; i < sizeof run / sizeof *run; i++) {
        count_from();
        trace_hashes(&l, &t, run[i].name, run[i].slots, i ? got : want, &preempted);
        if (emulated())
            CU_ASSERT_EQUAL(hook_counts().graph_launches > 0, strstr(run[i].name, "+graph") != NULL);
        if (i && memcmp(want, got, sizeof want)) {
            test_note("%s: other tokens", run[i].name);
            CU_FAIL("tokens depend on the strategy");
        }
    }
    CU_ASSERT(preempted > 0);
    lab_close(&l);
    trace_free(&t);
}

static const struct test tests[] = {
    { "graphs are made once and replayed, padding is counted", graphs_are_replayed },
    { "graphs end where the buffers end", graphs_end_with_the_buffers },
    { "graphs hold nothing of the step they were made from", graphs_hold_no_step },
    { "graphs know their model", graphs_know_their_model },
    { "exact: the same tokens under every strategy", strategies_agree },
    { 0 },
};
const struct suite suite_emu_device_graphs = { "emu_device_graphs", tests, 900 };
