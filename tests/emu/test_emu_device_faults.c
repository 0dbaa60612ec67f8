/* test_emu_device_faults.c - the cuda device when something is wrong: memory that ends, calls that fail, numbers that
 * are not finite. Each is said once, with operation, shapes and step, and what can go on goes on. */
#include "tests/emu/device.h"
#include "tests/emu/hooks.h"

enum { N_SLOT = 256 };

struct one { struct device dev; struct model m; struct kv_pool kv; struct arena arena; };

/* Synthetic weights, but one row of the embedding is NaN. */
enum { POISONED = 77 };
struct poisoned { struct weight_source plain; uint32_t dim; };

static int poisoned_row(void *self, enum role role, uint32_t layer, uint32_t row, float *out, struct err *e)
{
    const struct poisoned *p = self;

    if (p->plain.row(p->plain.self, role, layer, row, out, e))
        return -1;
    for (uint32_t i = 0; role == ROLE_EMBED && row == POISONED && i < p->dim; i++)
        out[i] = NAN;
    return 0;
}

static int poisoned_gain(void *self, uint32_t layer, enum gain which, float *out, struct err *e)
{
    const struct poisoned *p = self;

    return p->plain.gain(p->plain.self, layer, which, out, e);
}

static void one_open(struct one *o)
{
    struct wfmt fmt[2 * ROLE_N] = { { 0 } };
    struct weight_source src;
    struct model_shape shape;
    struct poisoned p;
    struct err e = { 0 };

    memset(o, 0, sizeof *o);
    small_shape(&shape, false);
    for (int i = 0; i < 2 * ROLE_N; i++)
        fmt[i].fmt = FMT_F16;
    o->dev = open_device(&device_cuda);
    p.dim = shape.dim;
    if (source_synth(&p.plain, &shape, 3, &o->arena, &e))
        CU_FAIL_FATAL("no weights");
    src = p.plain;
    src.row = poisoned_row, src.gain = poisoned_gain, src.self = &p;
    if (model_open(&o->m, &o->dev, &shape, fmt, &src, &e) || model_room(&o->m, 64, 8, &e) ||
        dev_kv_open(&o->dev, &o->kv, 2, 2, 64, FMT_F16, N_SLOT, &e)) {
        test_note("%s", e.text);
        CU_FAIL_FATAL("the model did not open");
    }
}

static void one_close(struct one *o)
{
    dev_kv_close(&o->dev, &o->kv);
    model_close(&o->m);
    arena_free(&o->arena);
    dev_close(&o->dev);
}

static void set_graph(struct one *o, bool graph)
{
    struct exec x = { .fused = true, .graph = graph, .exact = true };
    struct err e = { 0 };

    CU_ASSERT_EQUAL_FATAL(dev_exec(&o->dev, &x, &e), 0);
}

static const uint32_t block[] = { 16 };

/* ---- memory ---- */

static void memory_gives_fewer_blocks(void)
{
    struct device d;
    struct kv_pool kv;
    struct err e = { 0 };
    uint64_t per = kv_token_bytes(2, 2, 64, FMT_F16);

    if (!emulated()) {
        test_skip("needs the emulator");
        return;
    }
    hook_device(90, 4, 64u << 20);
    d = open_device(&device_cuda);
    CU_ASSERT_EQUAL(dev_kv_open(&d, &kv, 2, 2, 64, FMT_F16, 65536, &e), 0);    /* 64 MiB asked, not all left */
    CU_ASSERT(kv.n_slot < 65536 && kv.n_slot >= 8192);
    CU_ASSERT_EQUAL(kv.bytes, kv.n_slot * per);
    CU_ASSERT_EQUAL(d.now_bytes, kv.bytes);
    CU_ASSERT(finished(&d));                           /* that is no error */
    dev_kv_close(&d, &kv);
    CU_ASSERT_EQUAL(dev_kv_open(&d, &kv, 2, 2, 64, FMT_INT8, 65536, &e), 0);
    CU_ASSERT(kv.n_slot >= 16384);                     /* half the bytes, twice the tokens */
    dev_kv_close(&d, &kv);
    dev_close(&d);
    CU_ASSERT_EQUAL(hook_device_bytes(), 0);
    hook_device(0, 0, 0);
}

/* A device with room for nothing more: weights and activations are refused with a way out, and nothing leaks. */
static void memory_for_a_model_ends(void)
{
    struct wfmt fmt[2 * ROLE_N] = { { 0 } };
    struct model_shape shape;
    struct weight_source src;
    struct arena arena = { 0 };
    struct device d;
    struct model m;
    struct err e = { 0 };

    if (!emulated()) {
        test_skip("needs the emulator");
        return;
    }
    small_shape(&shape, false);
    shape.vocab = 352 * 300;                           /* 27 MB of head, 27 MB of embedding */
    for (int i = 0; i < 2 * ROLE_N; i++)
        fmt[i].fmt = FMT_F16;
    CU_ASSERT_EQUAL_FATAL(source_synth(&src, &shape, 3, &arena, &e), 0);
    hook_device(90, 4, 40u << 20);
    d = open_device(&device_cuda);
    CU_ASSERT_EQUAL(model_open(&m, &d, &shape, fmt, &src, &e), -1);
    CU_ASSERT(strstr(e.text, "memory") != NULL);
    test_note("%s", e.text);
    e = (struct err){ 0 };
    CU_ASSERT(finished(&d));
    dev_close(&d);
    CU_ASSERT_EQUAL(hook_device_bytes(), 0);
    hook_device(0, 0, 0);
    arena_free(&arena);
}

/* ---- calls that fail ---- */

struct stepped { struct world w; struct made m; };

/* The next step of two sequences: 0, or -1 and e. */
static int step_two(struct one *o, struct stepped *s, uint32_t n, uint32_t *next, struct err *e)
{
    const uint32_t n_new[2] = { n, n };
    int rc;

    *e = (struct err){ 0 };
    batch_make(&s->m, &s->w, n_new, true);
    rc = model_step(&o->m, &o->kv, &s->m.b, next, e);
    if (!rc)
        world_advance(&s->w, n_new);
    return rc;
}

/* Fails at call number `after` of api in a decode step; reported once, by that step; the same step then works
 * and gives what it gives on a device that never failed. */
static void failing_call(const char *api, uint64_t after, enum hook_failure how, bool graph, const char *says)
{
    static struct stepped s;
    struct one o;
    uint32_t next[2], again[2];
    struct err e;
    char step[32];
    int rc;

    one_open(&o);
    set_graph(&o, graph);
    world_fill(&s.w, 2, block, 1, 64, N_SLOT, POISONED, 9);
    CU_ASSERT_EQUAL_FATAL(step_two(&o, &s, 5, next, &e), 0);
    hook_fail(api, after, how);
    rc = step_two(&o, &s, 1, next, &e);
    hook_fail_none();
    CU_ASSERT_EQUAL(rc, -1);
    snprintf(step, sizeof step, "step %d", 2);
    if (!strstr(e.text, says) || !strstr(e.text, step))
        test_note("%s after %u: expected '%s' and '%s' in: %s", api, (unsigned)after, says, step, e.text);
    CU_ASSERT(strstr(e.text, says) && strstr(e.text, step));
    CU_ASSERT_EQUAL(step_two(&o, &s, 1, next, &e), 0); /* once */
    s.w.seq[0].len--, s.w.seq[1].len--;
    CU_ASSERT_EQUAL(step_two(&o, &s, 1, again, &e), 0);
    CU_ASSERT(!memcmp(next, again, sizeof next));
    one_close(&o);
}

static void calls_that_fail(void)
{
    if (!emulated()) {
        test_skip("needs the emulator");
        return;
    }
    failing_call("launch", 0, HOOK_LAUNCH_FAILED, false, "embed");
    failing_call("launch", 1, HOOK_LAUNCH_FAILED, false, "norm (2 x 128)");
    failing_call("launch", 0, HOOK_LAUNCH_FAILED, true, "embed");
    failing_call("cudaMemcpyAsync", 0, HOOK_LAUNCH_FAILED, false, "batch to the device (2 x 2)");
    failing_call("cudaMemcpyAsync", 1, HOOK_LAUNCH_FAILED, false, "plan");
    failing_call("cudaMemcpyAsync", 2, HOOK_LAUNCH_FAILED, false, "tokens from the device (2)");
    failing_call("cudaStreamSynchronize", 0, HOOK_LAUNCH_FAILED, false, "2 tokens, 2 sequences");
    failing_call("cudaGraphInstantiate", 0, HOOK_NO_MEMORY, true, "graph: make");
    failing_call("cudaGraphLaunch", 0, HOOK_LAUNCH_FAILED, true, "graph: launch");
}

/* With SERVELAB_CUDA_SYNC each operation is waited for, and the one that failed on the device is named. */
static void the_failing_operation_is_named(void)
{
    static struct stepped s;
    struct one o;
    uint32_t next[2];
    struct err e;

    if (!emulated()) {
        test_skip("needs the emulator");
        return;
    }
    setenv("SERVELAB_CUDA_SYNC", "1", 1);
    one_open(&o);
    unsetenv("SERVELAB_CUDA_SYNC");
    world_fill(&s.w, 2, block, 1, 64, N_SLOT, POISONED, 9);
    CU_ASSERT_EQUAL_FATAL(step_two(&o, &s, 5, next, &e), 0);
    hook_fail("cudaStreamSynchronize", 2, HOOK_LAUNCH_FAILED);     /* after embed, norm, the QKV product */
    CU_ASSERT_EQUAL(step_two(&o, &s, 5, next, &e), -1);
    hook_fail_none();
    if (!strstr(e.text, "matmul (10 x 512 x 128) in step 2"))
        test_note("%s", e.text);
    CU_ASSERT(strstr(e.text, "matmul (10 x 512 x 128) in step 2") != NULL);
    CU_ASSERT_EQUAL(step_two(&o, &s, 5, next, &e), 0);
    one_close(&o);
}

/* The context is lost: the failure is reported with its cause, later steps say which step it was. */
static void a_lost_device(void)
{
    static struct stepped s;
    struct one o;
    uint32_t next[2];
    struct err e;

    if (!emulated()) {
        test_skip("needs the emulator");
        return;
    }
    one_open(&o);
    world_fill(&s.w, 2, block, 1, 64, N_SLOT, POISONED, 9);
    CU_ASSERT_EQUAL_FATAL(step_two(&o, &s, 5, next, &e), 0);
    hook_fail("launch", 3, HOOK_LAUNCH_FAILED);
    batch_make(&s.m, &s.w, (const uint32_t[]){ 1, 1 }, true);
    dev_begin(&o.dev, &s.m.b);
    for (int i = 0; i < 4; i++)
        dev_norm(&o.dev, o.m.y, o.m.x, NULL, o.m.layer[0].gain[GAIN_FFN], 2, 128, 1e-5f);
    hook_fail("cudaMemsetAsync", 0, HOOK_LAUNCH_FAILED);   /* what is tried after the report fails as well */
    CU_ASSERT_EQUAL(dev_end(&o.dev, &e), -1);
    hook_fail_none();
    CU_ASSERT(strstr(e.text, "norm (2 x 128) in step 2") != NULL);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(step_two(&o, &s, 1, next, &e), -1);
        CU_ASSERT(strstr(e.text, "failed in step 2 and cannot go on") != NULL);
    }
    one_close(&o);
}

static void tokens_beyond_the_vocabulary(void)
{
    static struct stepped s;
    struct one o;
    uint32_t next[2];
    struct err e;

    one_open(&o);
    for (int graph = 0; graph < 2; graph++) {
        set_graph(&o, graph != 0);
        world_fill(&s.w, 2, block, 1, 64, N_SLOT, POISONED, 9);
        s.w.seq[1].tok[0] = 352;
        CU_ASSERT_EQUAL(step_two(&o, &s, 1, next, &e), -1);
        CU_ASSERT(strstr(e.text, "token 352 of row 1") != NULL);
        s.w.seq[1].tok[0] = 351;
        CU_ASSERT_EQUAL(step_two(&o, &s, 1, next, &e), 0);
        batch_make(&s.m, &s.w, (const uint32_t[]){ 1, 1 }, true);
        s.m.slot[0] = N_SLOT;
        e = (struct err){ 0 };
        CU_ASSERT_EQUAL(model_step(&o.m, &o.kv, &s.m.b, next, &e), -1);
        CU_ASSERT(strstr(e.text, "slot 256 of row 0") != NULL);
    }
    one_close(&o);
}

/* No GPU at all: opening says so, and says it in one line. */
static void no_gpu(void)
{
    struct device_conf conf = { .pace = PACE_SKIP };
    struct device d;
    struct err e = { 0 };
    char line[300] = "";

    if (!emulated()) {
        test_skip("needs the emulator");
        return;
    }
    hook_device(90, -1, 1u << 20);
    CU_ASSERT_EQUAL(dev_open(&d, &device_cuda, &conf, &e), -1);
    CU_ASSERT(strstr(e.text, "no GPU") != NULL);
    CU_ASSERT_EQUAL(device_cuda.probe(line, sizeof line), -1);
    CU_ASSERT(strstr(line, "no GPU") != NULL);
    hook_device(75, 4, 1u << 20);
    e = (struct err){ 0 };
    CU_ASSERT_EQUAL(dev_open(&d, &device_cuda, &conf, &e), -1);
    CU_ASSERT(strstr(e.text, "compute capability 7.5") != NULL);
    hook_device(90, 4, 1u << 20);                      /* not even room for the scratch */
    e = (struct err){ 0 };
    CU_ASSERT_EQUAL(dev_open(&d, &device_cuda, &conf, &e), -1);
    CU_ASSERT(strstr(e.text, "out of memory") != NULL);
    CU_ASSERT_EQUAL(hook_device_bytes(), 0);
    hook_device(0, 0, 0);
}

/* ---- numbers ---- */

/* The sequence with the poisoned token gets no token; the others get what they get without it. */
static void bad_numbers_stay_with_their_request(void)
{
    static struct stepped s;
    struct one o;
    struct err e = { 0 };

    one_open(&o);
    for (int graph = 0; graph < 2; graph++) {
        uint32_t first[3], next[3], with[3];
        const uint32_t n[3] = { 9, 20, 4 }, one[3] = { 1, 1, 1 };

        set_graph(&o, graph != 0);
        for (int bad = 0; bad < 2; bad++) {
            world_fill(&s.w, 3, block, 1, 48, N_SLOT, POISONED, 9);
            if (bad)
                s.w.seq[1].tok[6] = POISONED;
            batch_make(&s.m, &s.w, n, true);
            CU_ASSERT_EQUAL(model_step(&o.m, &o.kv, &s.m.b, bad ? with : first, &e), 0);
            if (bad)
                CU_ASSERT(with[0] == first[0] && with[1] == PICK_BAD_ROW && with[2] == first[2]);
            world_advance(&s.w, n);
            batch_make(&s.m, &s.w, one, true);
            CU_ASSERT_EQUAL(model_step(&o.m, &o.kv, &s.m.b, bad ? with : next, &e), 0);
            if (bad)
                CU_ASSERT(with[0] == next[0] && with[1] == PICK_BAD_ROW && with[2] == next[2]);
        }
        CU_ASSERT(first[1] < 352 && next[1] < 352);
        CU_ASSERT_EQUAL(o.dev.step_pad_rows, graph ? 1 : 0);
    }
    one_close(&o);
}

static const struct test tests[] = {
    { "short memory gives fewer blocks", memory_gives_fewer_blocks },
    { "a model that does not fit is refused, nothing leaks", memory_for_a_model_ends },
    { "a failing call is reported once, with its step", calls_that_fail },
    { "waiting after each operation names the failing one", the_failing_operation_is_named },
    { "a lost device says so", a_lost_device },
    { "tokens and slots out of range", tokens_beyond_the_vocabulary },
    { "no GPU, an old GPU, no memory", no_gpu },
    { "NaN fails its own request only", bad_numbers_stay_with_their_request },
    { 0 },
};
const struct suite suite_emu_device_faults = { "emu_device_faults", tests, 300 };
