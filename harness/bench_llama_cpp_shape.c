/* bench_llama_cpp_shape.c - prompt and decode tokens/s as llama-bench (llama.cpp) prints them, so that its table and
 * ours can be laid side by side: pp512 is one prompt of 512 tokens in one step, tg128 are 128 tokens one by one from an
 * empty cache, each as mean and sample deviation over repeats after a warm-up. B n: the same for n sequences; prompts
 * are still run in steps of 512 tokens (llama.cpp's default micro-batch), decode steps hold one token of each sequence.
 * @ d n: after n tokens that were run before and not timed (llama-bench's -d).
 *
 * llama-bench samples nothing; our steps end with the greedy choice, so they do a little more. Sizes are of the weights
 * as they lie on the device. Nothing is compared here: run llama-bench on the same machine for its column. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "harness/choice.h"
#include "harness/loaded.h"
#include "harness/model_pass.h"
#include "harness/verb.h"
#include "kernels/cpu/cpu.h"
#include "models/load.h"

extern const struct bench bench_llama_cpp_shape;
extern const struct device_ops device_cpu;

enum { N_PROMPT = 512, N_GEN = 128, PRECISIONS_MAX = 8, BATCHES_MAX = 8, REPEATS_MAX = 64 };

static const char help[] =
    "usage: servelab bench llama.cpp-shape [--model M] [--precision A,B] [--batch 1,4,16] [--depth N]\n"
    "                                      [--repeats N] [--device D] [--threads N] [--isa I] [--json]\n\n"
    "Prefill of 512 tokens (pp512) and decoding of 128 (tg128) in tokens/s, mean and deviation over repeats, as the\n"
    "table that llama-bench prints, so that both can be run on one machine and laid side by side.\n"
    "  --model M        as 'run' takes it (default smollm2-135m: the real one where it was fetched, else its shape)\n"
    "  --precision L    up to 8 (default f16,int4)\n"
    "  --batch L        sequences at once, up to 32 each (default 1,4,16)\n"
    "  --depth N        tokens that each sequence holds before, as llama-bench's -d (default 0)\n"
    "  --repeats N      of each test, after one that does not count (default 5)\n"
    "  --device D       cpu (default), cuda\n\n"
    "example: servelab bench llama.cpp-shape --precision f16,int8,int4 --repeats 3\n";
static const struct option options[] = {
    { "model", 1, NULL, 'm' }, { "precision", 1, NULL, 'p' }, { "batch", 1, NULL, 'b' }, { "depth", 1, NULL, 'n' },
    { "repeats", 1, NULL, 'r' }, { "device", 1, NULL, 'd' }, { "threads", 1, NULL, 't' }, { "isa", 1, NULL, 'i' },
    { "json", 0, NULL, 'j' }, { 0 }
};

struct bench_run {
    const char *model, *precision, *batches, *device;
    int64_t repeats, threads, depth;
    bool json, any;
    uint32_t batch[BATCHES_MAX], n_batch;
    struct strategy st[PRECISIONS_MAX];
    uint32_t n;
    struct model_files files;
    struct device dev;
    struct loaded_set models;
    struct err *e;
};

/* ---- lists ---- */

static int lists(struct bench_run *b)
{
    char copy[512], text[300], *save = NULL;
    int64_t v;

    snprintf(copy, sizeof copy, "%s", b->precision);
    for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        if (b->n == PRECISIONS_MAX)
            return err_set(b->e, EXIT_USAGE, "--precision: at most %d", PRECISIONS_MAX);
        snprintf(text, sizeof text, "continuous+paged+%.200s", p);
        if (strategy_parse(&b->st[b->n++], text, b->e))
            return -1;
    }
    snprintf(copy, sizeof copy, "%s", b->batches);
    for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        if (b->n_batch == BATCHES_MAX || parse_int(p, 1, PASS_SEQ, &v))
            return err_set(b->e, EXIT_USAGE, "--batch %s: expected up to %d numbers from 1 to %d", b->batches,
                           BATCHES_MAX, PASS_SEQ);
        b->batch[b->n_batch++] = (uint32_t)v;
    }
    return b->n && b->n_batch ? 0 : err_set(b->e, EXIT_USAGE, "--precision and --batch: expected names and numbers");
}

/* ---- one test ---- */

/* What sequences hold before the test. */
static int fill(struct model *m, struct kv_pool *kv, uint32_t n_seq, uint32_t depth, struct err *e)
{
    for (uint32_t i = 0; i < n_seq; i++)
        for (uint32_t d = 0; d < depth; d += N_PROMPT)
            if (pass_step(m, kv, &(struct pass){ i, 1, d, min_u32(N_PROMPT, depth - d) }, e))
                return -1;
    return 0;
}

static int once(struct model *m, struct kv_pool *kv, uint32_t n_seq, uint32_t depth, bool prompt, struct err *e)
{
    for (uint32_t i = 0; i < (prompt ? n_seq : N_GEN); i++) {
        struct pass p = prompt ? (struct pass){ i, 1, depth, N_PROMPT } : (struct pass){ 0, n_seq, depth + i, 1 };

        if (pass_step(m, kv, &p, e))
            return -1;
    }
    return 0;
}

static int measured(struct bench_run *b, struct model *m, struct kv_pool *kv, uint32_t n_seq, bool prompt, double *mean,
                    double *deviation)
{
    double rate[REPEATS_MAX], sq = 0;

    *mean = 0;
    if (fill(m, kv, n_seq, (uint32_t)b->depth, b->e))
        return -1;
    for (int64_t r = -1; r < b->repeats; r++) {
        uint64_t t0 = dev_now(&b->dev);

        if (once(m, kv, n_seq, (uint32_t)b->depth, prompt, b->e))
            return -1;
        if (r >= 0) {
            rate[r] = n_seq * (prompt ? N_PROMPT : N_GEN) / ((double)(dev_now(&b->dev) - t0) * 1e-9);
            *mean += rate[r] / (double)b->repeats;
        }
    }
    for (int64_t r = 0; r < b->repeats; r++)
        sq += (rate[r] - *mean) * (rate[r] - *mean);
    *deviation = b->repeats > 1 ? sqrt(sq / (double)(b->repeats - 1)) : 0;
    return 0;
}

/* ---- out ---- */

static uint64_t parameters(const struct model_shape *s)
{
    uint64_t q = (uint64_t)s->n_head * s->head_dim, kv = (uint64_t)s->n_kv_head * s->head_dim;
    uint64_t layer = (q + 2 * kv) * s->dim + s->dim * q + 3 * (uint64_t)s->ffn * s->dim;

    for (int g = 0; g < GAIN_N; g++)
        layer += g == GAIN_ATTENTION || g == GAIN_FFN || (g == GAIN_QKV_BIAS && s->qkv_bias) ||
                 ((g == GAIN_Q || g == GAIN_K) && s->qk_norm) ? gain_length(s, (enum gain)g) : 0;
    return layer * s->n_layer + (s->tied ? 1u : 2u) * (uint64_t)s->vocab * s->dim + gain_length(s, GAIN_FINAL);
}

static int threads_of(const struct bench_run *b)
{
    return b->dev.ops == &device_cpu ? ((const struct cpu *)b->dev.self)->n_thread : 0;
}

static void print_head(const struct bench_run *b)
{
    if (b->json) {
        putchar('[');
        return;
    }
    printf("%s; %s; mean and deviation of %lld\n\n", b->dev.label, b->files.source.about,
           (long long)b->repeats);
    printf("| %-30s | %10s | %10s | %-10s | %7s | %15s | %20s |\n", "model", "size", "params", "backend", "threads",
           "test", "t/s");
    printf("| ------------------------------ | ---------: | ---------: | ---------- | ------: | --------------: | "
           "-------------------: |\n");
}

static void print_table_row(const struct bench_run *b, const char *prec, uint64_t bytes, const char *test, double mean,
                            double deviation)
{
    double size = (double)bytes / 0x1p20, params = (double)parameters(&b->files.shape) * 1e-6;
    char name[160], in_size[32], in_params[32], speed[64], threads[16] = "-";

    snprintf(name, sizeof name, "%s %s", b->files.shape.name, prec);
    snprintf(in_size, sizeof in_size, size < 1024 ? "%.2f MiB" : "%.2f GiB", size < 1024 ? size : size / 1024);
    snprintf(in_params, sizeof in_params, params < 1000 ? "%.2f M" : "%.2f B", params < 1000 ? params : params / 1000);
    snprintf(speed, sizeof speed, "%.2f \xc2\xb1 %.2f", mean, deviation);
    if (threads_of(b))
        snprintf(threads, sizeof threads, "%d", threads_of(b));
    printf("| %-30s | %10s | %10s | %-10s | %7s | %15s | %21s |\n", name, in_size, in_params, b->dev.ops->name, threads,
           test, speed);              /* 21 bytes: the sign takes two */
}

/* llama-bench's keys, and what it has no word for. Names may come from a model's file: jansson quotes them. */
static void print_json_row(const struct bench_run *b, const char *prec, const struct model *m, uint32_t n_seq,
                           bool prompt, double mean, double deviation)
{
    json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:s, s:i, s:i, s:i, s:I, s:i, s:b, s:i, s:f, s:f}",
                          "model", b->files.shape.name, "precision", prec, "model_size", (json_int_t)m->weight_bytes,
                          "model_n_params", (json_int_t)parameters(&b->files.shape), "backend", b->dev.ops->name,
                          "n_threads", threads_of(b), "n_prompt", prompt ? N_PROMPT : 0, "n_gen", prompt ? 0 : N_GEN,
                          "n_depth", (json_int_t)b->depth, "n_seq", (int)n_seq, "synthetic", (int)m->is_synthetic,
                          "repeats", (int)b->repeats,
                          "avg_ts", mean, "stddev_ts", deviation);

    fputs(b->any ? ",\n " : "", stdout);
    if (o)
        json_dumpf(o, stdout, 0);
    json_decref(o);
}

static void print_row(struct bench_run *b, const struct model *m, const struct strategy *st, uint32_t n_seq,
                      bool prompt, double mean, double deviation)
{
    char prec[64], test[48];
    int at;

    params_name(&st->prec_params, st->prec->name, prec, sizeof prec);
    at = snprintf(test, sizeof test, n_seq > 1 ? "%s%d B%u" : "%s%d", prompt ? "pp" : "tg", prompt ? N_PROMPT : N_GEN,
                  n_seq);
    if (b->depth)
        snprintf(test + at, sizeof test - (size_t)at, " @ d%lld", (long long)b->depth);
    if (b->json)
        print_json_row(b, prec, m, n_seq, prompt, mean, deviation);
    else
        print_table_row(b, prec, m->weight_bytes, test, mean, deviation);
    b->any = true;
    fflush(stdout);
}

/* ---- all ---- */

static int one_precision(struct bench_run *b, const struct strategy *st)
{
    const struct model_shape *s = &b->files.shape;
    struct model *m = loaded_get(&b->models, st, b->e);
    struct kv_pool kv;
    double mean, deviation;
    int rc;

    if (!m || model_room(m, PASS_TOK, PASS_SEQ, b->e) ||
        dev_kv_open(&b->dev, &kv, s->n_layer, s->n_kv_head, s->head_dim, choice_kv(st),
                    PASS_SEQ * PASS_LEN, b->e))
        return -1;
    rc = kv.n_slot < PASS_SEQ * PASS_LEN ? err_set(b->e, EXIT_RUN_FAILED, "no memory for %u cached tokens",
                                                   PASS_SEQ * PASS_LEN) : 0;
    for (int kind = 0; !rc && kind < 2; kind++)
        for (uint32_t i = 0; !rc && i < b->n_batch; i++) {
            rc = measured(b, m, &kv, b->batch[i], kind == 0, &mean, &deviation);
            if (!rc)
                print_row(b, m, st, b->batch[i], kind == 0, mean, deviation);
        }
    dev_kv_close(&b->dev, &kv);
    return rc;
}

static int work(struct bench_run *b, const struct device_conf *conf)
{
    const struct device_ops *ops = device_find(b->device, b->e);
    int rc = 0;

    if (!ops || lists(b))
        return -1;
    if (!ops->computes)
        return err_set(b->e, EXIT_USAGE, "--device %s computes nothing: there is no speed to measure", ops->name);
    if (model_find(&b->files, b->model, 1, b->e))
        return -1;
    if (b->files.shape.max_context < b->depth + N_PROMPT)
        return err_set(b->e, EXIT_USAGE, "--model %s: its context ends at %u tokens, %lld are needed", b->model,
                       b->files.shape.max_context, (long long)b->depth + N_PROMPT);
    if (dev_open(&b->dev, ops, conf, b->e) ||
        loaded_open_from(&b->models, &b->dev, &b->files.shape, &b->files.source))
        return -1;
    print_head(b);
    for (uint32_t i = 0; !rc && i < b->n; i++)
        rc = one_precision(b, &b->st[i]);
    if (b->json)
        puts("]");
    return rc;
}

static int take(struct bench_run *b, struct device_conf *conf, int opt)
{
    switch (opt) {
    case 'm': b->model = optarg; return 0;
    case 'p': b->precision = optarg; return 0;
    case 'b': b->batches = optarg; return 0;
    case 'd': b->device = optarg; return 0;
    case 'i': conf->isa = optarg; return 0;
    case 'j': b->json = true; return 0;
    case 'r': return option_int("repeats", 1, REPEATS_MAX, &b->repeats, b->e);
    case 'n': return option_int("depth", 0, PASS_LEN - N_PROMPT, &b->depth, b->e);
    case 't': return option_int("threads", 1, THREAD_MAX, &b->threads, b->e);
    default: return -1;
    }
}

static int run(int argc, char **argv, struct err *e)
{
    const struct verb me = { .name = "bench llama.cpp-shape", .help = help };
    struct device_conf conf = { .pace = PACE_SKIP };
    struct bench_run *b = calloc(1, sizeof *b);
    bool done = false;
    int opt, rc = 0;

    if (!b)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    *b = (struct bench_run){ .model = "smollm2-135m", .precision = "f16,int4", .batches = "1,4,16", .device = "cpu",
                             .repeats = 5, .e = e };
    while (!rc && (opt = verb_option(&me, argc, argv, options, &done, e)) != -1)
        rc = take(b, &conf, opt);
    if (!rc && !done && optind < argc)
        rc = err_set(e, EXIT_USAGE, "bench llama.cpp-shape: unexpected argument '%s'", argv[optind]);
    conf.n_thread = (int)b->threads;
    if (!rc && !done)
        rc = work(b, &conf);
    if (b->dev.ops && b->dev.self) {
        loaded_close(&b->models);
        dev_close(&b->dev);
    }
    model_files_close(&b->files);
    free(b);
    return rc;
}

const struct bench bench_llama_cpp_shape = {
    .name = "llama.cpp-shape", .about = "prefill 512 and decode 128 in the form of llama-bench", .run = run,
};
