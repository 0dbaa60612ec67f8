/* bench_model.c - whole forward passes: prompt tokens/s and decode tokens/s of the default shape, in the
 * form of llama-bench, each with its share of the roof measured in the same rounds.
 *
 * The share is the least time that the counted bytes and operations need (the larger of the two, against
 * the read loop and the multiply-add or int8 dot loop) over the time taken: attention, norms, activations
 * and thread joins are all in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/loaded.h"
#include "harness/model_pass.h"
#include "harness/roof.h"
#include "harness/verb.h"

extern const struct bench bench_model;
extern const struct device_ops device_cpu;

enum { MAX_ROUND = 32 };

struct model_case {
    const char *name;
    uint32_t n_seq, depth, n, steps;   /* each step: n tokens of n_seq sequences that hold depth */
    double s[MAX_ROUND];
    double bytes, ops[ROOF_N];         /* of all steps, by the roof that they need */
};
static const struct model_case cases[] = {
    { .name = "pp512", .n_seq = 1, .n = PASS_TOK, .steps = 1 },
    { .name = "tg, depth 64", .n_seq = 1, .depth = 64, .n = 1, .steps = 16 },
    { .name = "tg, depth 576", .n_seq = 1, .depth = 576, .n = 1, .steps = 16 },
    { .name = "tg B 4, depth 160", .n_seq = 4, .depth = 160, .n = 1, .steps = 8 },
    { .name = "tg B 8, depth 160", .n_seq = 8, .depth = 160, .n = 1, .steps = 8 },
    { .name = "tg B 16, depth 160", .n_seq = 16, .depth = 160, .n = 1, .steps = 4 },
    { .name = "tg B 32, depth 160", .n_seq = 32, .depth = 160, .n = 1, .steps = 4 },
};
enum { N_CASE = sizeof cases / sizeof *cases };
static const char *const precs[] = { "f16", "int8", "int4" };
enum { N_PREC = sizeof precs / sizeof *precs };

struct bench_all {
    struct device dev;
    struct model_shape shape;
    struct loaded_set models;
    struct kv_pool kv;
    struct model *model[N_PREC];
    struct model_case c[N_PREC][N_CASE];
    double roof_s[ROOF_N][MAX_ROUND];
    char *big;
    size_t big_bytes;
    int rounds;
};

static int one_case(struct bench_all *b, int p, int i, int round, struct err *e)
{
    struct model_case *c = &b->c[p][i];
    double t0;

    memset(b->dev.total, 0, sizeof b->dev.total);
    t0 = bench_seconds();
    for (uint32_t k = 0; k < c->steps; k++)
        if (pass_step(b->model[p], &b->kv, &(struct pass){ 0, c->n_seq, c->depth + k, c->n }, e))
            return -1;
    if (round >= 0)
        c->s[round] = bench_seconds() - t0;
    c->bytes = c->ops[ROOF_FMA] = c->ops[ROOF_DOT] = 0;
    for (int op = 0; op < OP_N; op++) {
        c->bytes += b->dev.total[op].bytes;
        c->ops[p && op == OP_MATMUL ? ROOF_DOT : ROOF_FMA] += b->dev.total[op].flops;
    }
    return 0;
}

static int all_rounds(struct bench_all *b, struct err *e)
{
    struct cpu *cpu = b->dev.self;

    for (int r = -1; r < b->rounds; r++) {
        for (int k = 0; k < ROOF_N; k++) {
            double t = roof_run(cpu, (enum roof)k, (uint32_t)cpu->n_thread, b->big, b->big_bytes);

            if (r >= 0)
                b->roof_s[k][r] = t;
        }
        for (int p = 0; p < N_PREC; p++)
            for (int i = 0; i < N_CASE; i++)
                if (one_case(b, p, i, r, e))
                    return -1;
    }
    return 0;
}

static void show(struct bench_all *b)
{
    double roof[ROOF_N];

    for (int k = 0; k < ROOF_N; k++)
        roof[k] = roof_work(b->dev.self, (enum roof)k, b->big_bytes) / bench_median(b->roof_s[k], b->rounds);
    printf("%s; %s, %s; medians of %d interleaved rounds\n", b->dev.label, b->shape.name,
           b->models.source.about, b->rounds);
    printf("roofs: read %.1f GB/s, F32 multiply-add %.0f GFLOP/s, int8 dot %.0f Gop/s\n",
           roof[ROOF_READ] * 1e-9, roof[ROOF_FMA] * 1e-9, roof[ROOF_DOT] * 1e-9);
    printf("%-6s %-20s %10s %10s %8s %8s  %s\n", "prec", "case", "tokens/s", "ms/step", "GB/s",
           "Gop/s", "of roof");
    for (int p = 0; p < N_PREC; p++)
        for (int i = 0; i < N_CASE; i++) {
            struct model_case *c = &b->c[p][i];
            double t = bench_median(c->s, b->rounds), by_bytes = c->bytes / roof[ROOF_READ];
            double by_ops = c->ops[ROOF_FMA] / roof[ROOF_FMA] + c->ops[ROOF_DOT] / roof[ROOF_DOT];

            printf("%-6s %-20s %10.1f %10.2f %8.1f %8.1f %5.0f %% of %s\n", precs[p], c->name,
                   c->n_seq * c->n * c->steps / t, t * 1e3 / c->steps, c->bytes / t * 1e-9,
                   (c->ops[ROOF_FMA] + c->ops[ROOF_DOT]) / t * 1e-9,
                   100 * (by_bytes > by_ops ? by_bytes : by_ops) / t,
                   by_bytes > by_ops ? "read" : "arithmetic");
        }
}

static int prepare(struct bench_all *b, const struct device_conf *conf, struct err *e)
{
    if (shape_load(&b->shape, "smollm2-135m", e) || dev_open(&b->dev, &device_cpu, conf, e) ||
        loaded_open(&b->models, &b->dev, &b->shape, 1, e) ||
        dev_kv_open(&b->dev, &b->kv, b->shape.n_layer, b->shape.n_kv_head, b->shape.head_dim, FMT_F16,
                    PASS_SEQ * PASS_LEN, e))
        return -1;
    for (int p = 0; p < N_PREC; p++) {
        struct strategy st;
        char name[64];

        snprintf(name, sizeof name, "continuous+paged+%s", precs[p]);
        if (strategy_parse(&st, name, e) || !(b->model[p] = loaded_get(&b->models, &st, e)) ||
            model_room(b->model[p], PASS_TOK, PASS_SEQ, e))
            return -1;
        memcpy(b->c[p], cases, sizeof cases);
    }
    b->big_bytes = (size_t)256 << 20;
    b->big = dev_alloc(&b->dev, b->big_bytes, "the read loop", e);
    if (!b->big)
        return -1;
    memset(b->big, 1, b->big_bytes);
    return 0;
}

static const char help[] =
    "usage: servelab bench model [--rounds N] [--threads N] [--isa NAME]\n\n"
    "Prompt processing (512 tokens) and decoding (batch 1 to 32) of SmolLM2-135M's shape on the cpu device,\n"
    "all weight formats, in tokens/s and as a share of the roofs measured in the same rounds (default 5).\n\n"
    "example: servelab bench model --isa avx2\n";
static const struct option options[] = {
    { "rounds", 1, NULL, 'r' }, { "threads", 1, NULL, 't' }, { "isa", 1, NULL, 'i' }, { 0 }
};

static int run(int argc, char **argv, struct err *e)
{
    const struct verb me = { .name = "bench model", .help = help };
    struct device_conf conf = { .pace = PACE_SKIP };
    struct bench_all *b;
    int64_t rounds = 5, threads = 0;
    bool done;
    int opt, rc;

    while ((opt = verb_option(&me, argc, argv, options, &done, e)) != -1) {
        if (opt == '?' || (opt == 'r' && parse_int(optarg, 1, MAX_ROUND, &rounds)) ||
            (opt == 't' && parse_int(optarg, 1, THREAD_MAX, &threads)))
            return err_set(e, EXIT_USAGE, "bench model: --rounds takes 1 to %d, --threads 1 to %d",
                           MAX_ROUND, THREAD_MAX);
        if (opt == 'i')
            conf.isa = optarg;
    }
    if (done)
        return 0;
    b = calloc(1, sizeof *b);
    if (!b)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    conf.n_thread = (int)threads;
    b->rounds = (int)rounds;
    rc = prepare(b, &conf, e) || all_rounds(b, e) ? -1 : 0;
    if (!rc)
        show(b);
    if (b->dev.self) {
        dev_release(&b->dev, b->big, b->big_bytes);
        loaded_close(&b->models);
        dev_kv_close(&b->dev, &b->kv);
        dev_close(&b->dev);
    }
    free(b);
    return rc;
}

const struct bench bench_model = {
    .name = "model", .about = "prompt and decode tokens/s of the whole model, as a share of the roof", .run = run,
};
