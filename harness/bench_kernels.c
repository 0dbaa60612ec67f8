/* bench_kernels.c - `servelab bench kernels`: cpu kernels against this machine's measured roofs.
 *
 * Roofs (memory read, FMA loop, integer dot loop) are cases like all others: every round runs
 * each case once, so that a busy neighbour hits all alike, and medians over rounds are compared.
 * The fraction is time by the roofline (the larger of bytes / read roof and operations / compute
 * roof) over time taken. Single matrices of this model fit caches and can pass the read roof;
 * the stack of all layers cannot. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/ops_bench.h"
#include "harness/roof.h"
#include "harness/verb.h"

extern const struct device_ops device_cpu;

enum { MAX_ROUND = 64, MAX_CASE = 240, MAX_WEIGHT = 160 };
enum { DIM = 576, FFN = 1536, N_Q = 9, N_KV = 3, HD = 64, LAYERS = 30 };   /* SmolLM2-135M */
enum kind { READ = ROOF_READ, FMA = ROOF_FMA, DOT = ROOF_DOT, MATMUL, ATTEND };

struct set { struct weight w[MAX_WEIGHT]; uint32_t n; };   /* matrices run one after another */

struct bench_case {
    enum kind kind;
    char name[48], what[24];
    double flops, bytes;
    enum kind compute;                     /* the compute roof: FMA or DOT */
    uint32_t m, n_thread;
    const struct set *set;
    uint32_t n_seq, ctx, rows;             /* attention: each sequence's length, new rows of each */
    int n;
    double s[MAX_ROUND];                   /* seconds, one a round */
};

struct bench_run {
    struct device d;
    struct cpu *cpu;
    struct bench_case c[MAX_CASE];
    uint32_t n;
    struct set set[64];
    uint32_t n_set;
    struct kv_pool kv;
    float *x, *y;
    char *big;
    size_t big_bytes;
    bool quick, json;
    const char *only;                      /* format to load, or NULL: all */
    const char *group;                     /* of another device's operations, or NULL: all */
    int rounds;
};

static double median(const struct bench_case *c) { return bench_median(c->s, c->n); }

static double best(const struct bench_case *c)
{
    double t = c->s[0];

    for (int i = 1; i < c->n; i++)
        t = c->s[i] < t ? c->s[i] : t;
    return t;
}

static struct bench_case *add(struct bench_run *b, enum kind kind, const char *name)
{
    struct bench_case *c = b->c + b->n;

    if (b->n + 1 < MAX_CASE)
        b->n++;
    memset(c, 0, sizeof *c);
    c->kind = kind;
    snprintf(c->name, sizeof c->name, "%s", name);
    return c;
}

/* ---- what a case does ---- */

static void run_attend(struct bench_run *b, const struct bench_case *c)
{
    uint32_t n_tok = c->n_seq * c->rows, *pos = malloc(n_tok * sizeof *pos);
    uint32_t seq_start[65], table_start[65], table[64], kv_len[64], bt[64];
    struct batch batch = { .n_tok = n_tok, .n_seq = c->n_seq, .n_table = c->n_seq, .pos = pos,
                           .seq_start = seq_start, .kv_len = kv_len, .block_tokens = bt,
                           .table_start = table_start, .table = table };

    for (uint32_t s = 0; s <= c->n_seq; s++) {
        seq_start[s] = s * c->rows;
        table_start[s] = s;
        if (s < c->n_seq)
            table[s] = s * c->ctx, bt[s] = c->ctx, kv_len[s] = c->ctx;
    }
    for (uint32_t i = 0; i < n_tok; i++)
        pos[i] = c->ctx - c->rows + i % c->rows;
    for (uint32_t layer = 0; layer < b->kv.n_layer; layer++)
        dev_attend(&b->d, b->y, b->x, &b->kv, layer, &batch, N_Q);
    free(pos);
}

static double run_case(struct bench_run *b, const struct bench_case *c)
{
    double t0 = bench_seconds();

    if (c->kind <= DOT)
        return roof_run(b->cpu, (enum roof)c->kind, c->n_thread, b->big, b->big_bytes);
    if (c->kind == ATTEND)
        run_attend(b, c);
    else
        for (uint32_t i = 0; i < c->set->n; i++)
            dev_matmul(&b->d, b->y, b->x, c->set->w + i, c->m);
    return bench_seconds() - t0;
}

/* ---- the cases ---- */

/* Weights between -1/16 and 1/16 from a linear congruence: cheap, never the same in two columns. */
static int any_row(void *self, uint32_t row, float *out, struct err *e)
{
    const uint32_t *k = self;
    uint32_t u = row * 2654435761u + 12345;

    (void)e;
    for (uint32_t i = 0; i < *k; i++) {
        u = u * 1664525u + 1013904223u;
        out[i] = ((float)(u >> 8) * 0x1p-24f - 0.5f) / 8;
    }
    return 0;
}

static int load(struct bench_run *b, struct set *s, struct wfmt f, uint32_t n, uint32_t k,
                struct err *e)
{
    struct row_source src = { any_row, &k };

    return dev_weight(&b->d, s->w + s->n++, f, n, k, src, e);
}

static const struct shape { const char *name; uint32_t n, k; } shapes[] = {
    { "qkv 960x576", (N_Q + 2 * N_KV) * HD, DIM },
    { "o 576x576", DIM, DIM },
    { "gate_up 3072x576", 2 * FFN, DIM },
    { "down 576x1536", DIM, FFN },
    { "head 49152x576", 49152, DIM }
};
enum { N_SHAPE = 5 };

static struct bench_case *add_matmul(struct bench_run *b, const char *name, struct wfmt f,
                                     const struct set *s, uint32_t m)
{
    struct bench_case *c = add(b, MATMUL, name);
    char fmt[16];

    wfmt_name(f, fmt, sizeof fmt);
    snprintf(c->what, sizeof c->what, "%s M %u", fmt, (unsigned)m);
    c->compute = fmt_takes_a8(f.fmt) ? DOT : FMA;
    c->set = s;
    c->m = m;
    for (uint32_t i = 0; i < s->n; i++) {
        c->flops += 2.0 * m * s->w[i].n * s->w[i].k;
        c->bytes += (double)s->w[i].bytes;
    }
    return c;
}

static int add_format(struct bench_run *b, struct wfmt f, struct err *e)
{
    static const uint32_t ms[] = { 1, 4, 8, 16, 32 };
    struct set *stack = b->set + b->n_set++;
    int rc = 0;

    for (int i = 0; i < LAYERS * (N_SHAPE - 1) && !rc; i++)
        rc = load(b, stack, f, shapes[i % (N_SHAPE - 1)].n, shapes[i % (N_SHAPE - 1)].k, e);
    if (rc || load(b, stack, f, shapes[N_SHAPE - 1].n, shapes[N_SHAPE - 1].k, e))
        return -1;
    for (size_t i = 0; i < sizeof ms / sizeof *ms; i++)
        add_matmul(b, "stack: 30 layers, head", f, stack, ms[i]);
    for (int i = 0; i < N_SHAPE - (b->quick ? 1 : 0); i++) {
        struct set *one = b->set + b->n_set++;

        if (load(b, one, f, shapes[i].n, shapes[i].k, e))
            return -1;
        if (!b->quick)
            add_matmul(b, shapes[i].name, f, one, 1);
        add_matmul(b, shapes[i].name, f, one, i == N_SHAPE - 1 ? 64 : 512);
    }
    return 0;
}

static void add_attend(struct bench_run *b, uint32_t n_seq, uint32_t ctx, uint32_t rows)
{
    struct bench_case *c = add(b, ATTEND, rows > 1 ? "attend prefill, 30 layers"
                                                   : "attend decode, 30 layers");
    double seen = rows * (double)(ctx - rows) + 0.5 * rows * (rows + 1.0);

    snprintf(c->what, sizeof c->what, "B %u ctx %u", (unsigned)n_seq, (unsigned)ctx);
    c->compute = FMA;
    c->n_seq = n_seq, c->ctx = ctx, c->rows = rows;
    c->flops = 4.0 * N_Q * HD * seen * n_seq * LAYERS;
    c->bytes = (double)kv_token_bytes(LAYERS, N_KV, HD, FMT_F16) * ctx * n_seq;
}

static int add_all(struct bench_run *b, struct err *e)
{
    static const struct wfmt formats[] = {
        { FMT_F16, 0 }, { FMT_BF16, 0 }, { FMT_FP8, 0 }, { FMT_INT8, 0 }, { FMT_INT4, 64 }, { FMT_INT4, 32 },
        { FMT_INT4Z, 32 }
    };
    static const char *const roof[] = { "roof: memory read", "roof: F32 FMA loop",
                                        "roof: int8 dot loop" };
    size_t floats = 512 * (size_t)3072 + 64 * (size_t)49152;

    b->big_bytes = (size_t)(b->quick ? 128 : 256) << 20;
    b->big = dev_alloc(&b->d, b->big_bytes, "benchmark", e);
    b->x = dev_alloc(&b->d, floats * sizeof *b->x, "benchmark", e);
    b->y = dev_alloc(&b->d, floats * sizeof *b->y, "benchmark", e);
    if (!b->big || !b->x || !b->y || dev_kv_open(&b->d, &b->kv, LAYERS, N_KV, HD, FMT_F16, 16 * 576, e))
        return -1;
    memset(b->big, 1, b->big_bytes);
    memset(b->kv.data, 0, b->kv.bytes);
    for (size_t i = 0; i < floats; i++)
        b->x[i] = (float)(i * 7919 % 1000) * 0.002f - 1;
    for (int k = READ; k <= DOT; k++)
        for (int all = 0; all < 2; all++) {
            struct bench_case *c = add(b, (enum kind)k, roof[k]);

            c->n_thread = all ? (uint32_t)b->cpu->n_thread : 1;
            snprintf(c->what, sizeof c->what, "%u thread%s", c->n_thread,
                     c->n_thread > 1 ? "s" : "");
            *(k == READ ? &c->bytes : &c->flops) = roof_work(b->cpu, (enum roof)k, b->big_bytes);
        }
    add_attend(b, 1, 576, 1);
    add_attend(b, 16, 576, 1);
    add_attend(b, 1, 4096, 1);
    add_attend(b, 1, 512, 512);
    add_attend(b, 1, 2048, 512);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if ((!b->only || !strcmp(b->only, fmt_name(formats[i].fmt))) &&
            add_format(b, formats[i], e))
            return -1;
    return 0;
}

/* ---- showing ---- */

static double roof_rate(const struct bench_run *b, enum kind kind,
                        double (*of)(const struct bench_case *))
{
    const struct bench_case *c = b->c + kind * 2 + 1;

    return (kind == READ ? c->bytes : c->flops) / of(c);
}

/* Fraction of the roofline with all times taken as medians, or all as best. */
static double fraction(const struct bench_run *b, const struct bench_case *c,
                       double (*of)(const struct bench_case *), bool *memory)
{
    double by_bytes = c->bytes / roof_rate(b, READ, of), by_ops = 0;

    if (c->flops > 0)
        by_ops = c->flops / roof_rate(b, c->kind <= DOT ? c->kind : c->compute, of);
    *memory = by_bytes > by_ops;
    return (*memory ? by_bytes : by_ops) / of(c);
}

static void show(const struct bench_run *b, const struct bench_case *c, bool last)
{
    bool memory, ignored;
    double t = median(c), part = fraction(b, c, median, &memory);
    double top = fraction(b, c, best, &ignored);
    const char *bound = memory ? "memory" : "compute";

    if (b->json)
        printf("  {\"kernel\": \"%s\", \"case\": \"%s\", \"median_us\": %.3f, \"best_us\": %.3f, "
               "\"gb_s\": %.3f, \"gop_s\": %.3f, \"bound\": \"%s\", \"roof_fraction\": %.4f, "
               "\"roof_fraction_best\": %.4f}%s\n", c->name, c->what, t * 1e6, best(c) * 1e6,
               c->bytes / t * 1e-9, c->flops / t * 1e-9, bound, part, top, last ? "" : ",");
    else
        printf("%-26s %-16s %10.1f %10.1f %8.1f %8.1f  %-7s %5.0f %% %5.0f %%\n", c->name, c->what,
               t * 1e6, best(c) * 1e6, c->bytes / t * 1e-9, c->flops / t * 1e-9, bound, 100 * part,
               100 * top);
}

static void show_all(const struct bench_run *b)
{
    if (b->json)
        printf("{\"device\": \"%s\", \"rounds\": %d, \"cases\": [\n", b->d.label, b->rounds);
    else
        printf("%s; SmolLM2-135M shapes; medians of %d interleaved rounds\n"
               "%-26s %-16s %10s %10s %8s %8s  %-7s %7s %7s\n", b->d.label, b->rounds, "kernel",
               "case", "median us", "best us", "GB/s", "Gop/s", "bound", "of roof", "at best");
    for (uint32_t i = 0; i < b->n; i++)
        show(b, b->c + i, i + 1 == b->n);
    if (b->json)
        printf("]}\n");
}

static const char help[] =
    "usage: servelab bench kernels [--quick] [--json] [--isa NAME] [--threads N] [--format F]\n"
    "       servelab bench kernels --device cuda [--only GROUP] [--json]\n\n"
    "Measures the cpu kernels and, in the same rounds, the roofs of this machine; or those of a GPU, at the shapes\n"
    "of whole models.\n"
    "  --device D   cpu (default) or cuda\n"
    "  --only GROUP cuda: matmul, decode, prefill or rows\n"
    "  --quick      fewer rounds and shapes (about 20 s)\n"
    "  --json       one JSON object instead of a table\n"
    "  --isa NAME   avx512bf16, avx512, avx2 or scalar; default: the best here\n"
    "  --threads N  default: all cores\n"
    "  --format F   weights of one format only: f16, int8 or int4; none: no matrices\n\n"
    "example: servelab bench kernels --quick\n";

/* 1: go on, 0: done, -1: error */
static int options(struct bench_run *b, struct device_conf *conf, const char **device, int argc, char **argv,
                   struct err *e)
{
    static const struct option opts[] = {
        { "quick", no_argument, NULL, 'q' }, { "json", no_argument, NULL, 'j' },
        { "isa", required_argument, NULL, 'i' }, { "threads", required_argument, NULL, 't' },
        { "format", required_argument, NULL, 'f' }, { "device", required_argument, NULL, 'd' },
        { "only", required_argument, NULL, 'o' },
        { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 }
    };

    optind = 1;
    for (int o; (o = getopt_long(argc, argv, "", opts, NULL)) != -1;) {
        switch (o) {
        case 'q': b->quick = true; break;
        case 'j': b->json = true; break;
        case 'i': conf->isa = optarg; break;
        case 't': conf->n_thread = atoi(optarg); break;
        case 'f': b->only = optarg; break;
        case 'd': *device = optarg; break;
        case 'o': b->group = optarg; break;
        case 'h': fputs(help, stdout); return 0;
        default: return err_set(e, EXIT_USAGE, "bench kernels: bad option; see --help");
        }
    }
    return 1;
}

static void close_all(struct bench_run *b)
{
    for (uint32_t i = 0; i < b->n_set; i++)
        for (uint32_t j = 0; j < b->set[i].n; j++)
            if (b->set[i].w[j].data)
                dev_weight_free(&b->d, b->set[i].w + j);
    dev_kv_close(&b->d, &b->kv);
    dev_release(&b->d, b->big, 0);
    dev_release(&b->d, b->x, 0);
    dev_release(&b->d, b->y, 0);
    dev_close(&b->d);
}

static int bench(int argc, char **argv, struct err *e)
{
    struct bench_run *b = calloc(1, sizeof *b);
    struct device_conf conf = { .pace = PACE_SKIP };
    const char *device = "cpu";
    const struct device_ops *other;
    int go, rc = EXIT_RUN_FAILED;

    if (!b)
        return err_set(e, EXIT_RUN_FAILED, "bench: no memory"), EXIT_RUN_FAILED;
    go = options(b, &conf, &device, argc, argv, e);
    if (go > 0 && strcmp(device, "cpu")) {
        struct ops_bench_conf c = { .only = b->group, .quick = b->quick, .json = b->json };

        other = device_find(device, e);
        free(b);
        return other ? ops_bench(other, &c, e) : -1;
    }
    if (go <= 0 || dev_open(&b->d, &device_cpu, &conf, e)) {
        free(b);
        return go == 0 ? 0 : EXIT_USAGE;
    }
    b->cpu = b->d.self;
    b->rounds = b->quick ? 5 : 15;
    if (add_all(b, e) == 0) {
        for (int r = -1; r < b->rounds; r++)           /* round -1 warms up */
            for (uint32_t i = 0; i < b->n; i++) {
                double t = run_case(b, b->c + i);

                if (r >= 0)
                    b->c[i].s[b->c[i].n++] = t;
            }
        rc = dev_end(&b->d, e) ? EXIT_RUN_FAILED : 0;
        if (!rc)
            show_all(b);
    }
    close_all(b);
    free(b);
    return rc;
}

const struct bench bench_kernels = {
    "kernels", "the cpu device's kernels against this machine's measured roofs", bench
};
