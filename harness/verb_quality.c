/* verb_quality.c - `servelab quality`: perplexity, KL divergence, agreement and greedy answers of precisions on a text,
 * with intervals, into the database; and the figure of loss against speed and bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/home.h"
#include "base/num.h"
#include "harness/choice.h"
#include "harness/environment.h"
#include "harness/experiment.h"
#include "harness/figures.h"
#include "harness/quality.h"
#include "harness/text_file.h"
#include "harness/verb.h"
#include "models/load.h"
#include "models/tokenizer_gguf.h"
#include "results/db.h"
#include "results/recorder.h"

extern const struct verb verb_quality;

enum { PRECISIONS_MAX = 24 };

static const char help[] =
    "usage: servelab quality --text F [options]\n\n"
    "Scores a text under several precisions of one model: perplexity over sliding windows, KL divergence and\n"
    "top-1 agreement with the first precision, and how long greedy answers stay the same. Intervals are 95 %\n"
    "over windows.\n\n"
    "  --text F            the text to score\n"
    "  --model M           a real model (default smollm2-135m; 'make model' fetches it)\n"
    "  --precision LIST    the first one is the reference; 'all' (default): f16 and everything against it\n"
    "  --scales F          of 'servelab calibrate', for precisions with awq=on; 'all' then has them too\n"
    "  --device D          cpu (default), cuda, ref\n"
    "  --window N          tokens of a window (default 512)   --stride N   scored of each (default 256)\n"
    "  --windows N         at most so many (default 32)       --skip N     tokens passed over first\n"
    "  --answers N         greedy answers (default 16)        --new N      tokens of each (default 64)\n"
    "  --db F              where results go (default results/servelab.db)\n"
    "  --name T            of the experiment (default: quality)\n"
    "  --json              one JSON object a precision instead of a table\n"
    "  --quiet             no progress\n\n"
    "example: servelab quality --model smollm2-135m --precision f16,int8,int4,f16:kv=int8 --text book.txt\n";

enum { O_TEXT = 1, O_MODEL, O_PREC, O_SCALES, O_DEVICE, O_WINDOW, O_STRIDE, O_WINDOWS, O_SKIP, O_ANSWERS, O_NEW, O_DB, O_NAME, O_JSON,
       O_QUIET };
static const struct option options[] = {
    { "text", 1, NULL, O_TEXT }, { "model", 1, NULL, O_MODEL }, { "precision", 1, NULL, O_PREC },
    { "scales", 1, NULL, O_SCALES }, { "device", 1, NULL, O_DEVICE }, { "window", 1, NULL, O_WINDOW }, { "stride", 1, NULL, O_STRIDE },
    { "windows", 1, NULL, O_WINDOWS }, { "skip", 1, NULL, O_SKIP }, { "answers", 1, NULL, O_ANSWERS },
    { "new", 1, NULL, O_NEW }, { "db", 1, NULL, O_DB }, { "name", 1, NULL, O_NAME }, { "json", 0, NULL, O_JSON },
    { "quiet", 0, NULL, O_QUIET }, { 0 }
};

/* What 'all' means: every weight format with F16 caches, every cache format with F16 weights, and both small. */
static const char all[] = "f16,bf16,fp8,int8,mixed,int4:group=32,int4,int4:group=128,int4:group=row,int4:zero=on,"
                          "int4:act=f32,f16:kv=int8,f16:kv=fp8,int4:kv=int8";
static const char all_scaled[] = ",int4:awq=on,int4:awq=on:act=f32";      /* and with --scales */

struct job {
    const char *text, *model, *precision, *scales, *device, *db, *name;
    int64_t window, stride, windows, skip, answers, n_new;
    bool json, quiet;
    struct model_files files;
    struct tokenizer *t;
    struct token_ids ids;
    struct device dev;
    struct loaded_set models;
    struct strategy st[PRECISIONS_MAX];
    struct quality q[PRECISIONS_MAX];
    uint32_t n;
    char text_sha[SHA256_HEX], model_sha[SHA256_HEX];
    struct err *e;
};

/* ---- in ---- */

static int tokens(struct job *j)
{
    if (text_file_tokens(j->text, j->t, &j->ids, j->text_sha, j->e))
        return -1;
    return (uint64_t)j->skip < j->ids.n ? 0
         : err_set(j->e, EXIT_USAGE, "--skip %lld: the text has %zu tokens", (long long)j->skip, j->ids.n);
}

static int precisions(struct job *j)
{
    bool everything = !strcmp(j->precision, "all");
    char copy[1024], text[300], *save = NULL;

    if (snprintf(copy, sizeof copy, "%s%s", everything ? all : j->precision, everything && j->scales ? all_scaled : "") >=
        (int)sizeof copy)
        return err_set(j->e, EXIT_USAGE, "--precision: a list that long");
    for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        if (j->n == PRECISIONS_MAX)
            return err_set(j->e, EXIT_USAGE, "--precision: at most %d", PRECISIONS_MAX);
        snprintf(text, sizeof text, "continuous+paged+%.200s", p);
        if (strategy_parse(&j->st[j->n++], text, j->e))
            return -1;
    }
    return j->n ? 0 : err_set(j->e, EXIT_USAGE, "--precision: expected names, such as f16,int4");
}

/* Scales are read where they are asked for, and asked for where they are given. */
static int scales(struct job *j)
{
    bool wanted = false;

    if (j->scales && loaded_scales(&j->models, j->scales, j->model_sha, j->e))
        return -1;
    for (uint32_t i = 0; i < j->n; i++) {
        wanted = wanted || loaded_wants_scales(&j->st[i]);
        if (!loaded_source(&j->models, &j->st[i], j->e))
            return -1;
    }
    return wanted || !j->scales ? 0
         : err_set(j->e, EXIT_USAGE, "--scales %s: no precision of the list has awq=on, such as int4:awq=on", j->scales);
}

static void prec_text(const struct strategy *st, char out[64])
{
    params_name(&st->prec_params, st->prec->name, out, 64);
}

static void progress(void *self, uint32_t done, uint32_t of)
{
    const struct job *j = self;

    if (!j->quiet)
        fprintf(stderr, "\r%3u %% of %u windows x %u precisions ", 100 * done / of, of / j->n, j->n);
    if (!j->quiet && done == of)
        fputc('\n', stderr);
}

/* ---- out ---- */

static bool source_quantised(const struct job *j) { return strstr(j->files.source.about, "already quantised") != NULL; }

static void print_row(const struct job *j, uint32_t i)
{
    const struct quality *q = j->q + i;
    char name[64];

    prec_text(j->st + i, name);
    if (j->json)
        printf("{\"precision\": \"%s\", \"ppl\": %.5f, \"loss_pct\": %.4f, \"loss_pct_lo\": %.4f, \"loss_pct_hi\": %.4f, "
               "\"kl\": %.6f, \"top1_pct\": %.3f, \"agree_tokens\": %.2f, \"answers_same\": %u, \"prefill_tok_s\": %.1f, "
               "\"decode_tok_s\": %.1f, \"weight_bytes\": %llu, \"scale_bytes\": %llu, \"kv_bytes_per_token\": %llu}\n",
               name, q->ppl.mean, q->loss_pct.mean, q->loss_pct.lo, q->loss_pct.hi, q->kl.mean, q->top1_pct.mean,
               q->agree_len.mean, q->n_same, q->prefill_tok_s, q->decode_tok_s, (unsigned long long)q->weight_bytes,
               (unsigned long long)q->scale_bytes, (unsigned long long)q->kv_token_bytes);
    else
        printf("%-20s %8.3f %+8.2f %% [%+.2f, %+.2f] %9.5f %7.2f %% %6.1f %3u/%lld %9.0f %8.1f %8.1f MB %6llu B\n", name,
               q->ppl.mean, q->loss_pct.mean, q->loss_pct.lo, q->loss_pct.hi, q->kl.mean, q->top1_pct.mean,
               q->agree_len.mean, q->n_same, (long long)j->answers, q->prefill_tok_s, q->decode_tok_s,
               (double)q->weight_bytes * 1e-6, (unsigned long long)q->kv_token_bytes);
}

static void print_all(const struct job *j)
{
    if (!j->json) {
        printf("%s (%s) on %s\n%s: %u tokens scored in %u windows of %lld, stride %lld\n", j->files.shape.name,
               j->files.source.about, j->dev.label, j->text, j->q[0].n_scored, j->q[0].n_window, (long long)j->window,
               (long long)j->stride);
        if (j->scales)
            printf("awq=on: scales for %s, calibrated on %u tokens of %s\n", j->models.scales.precision,
                   j->models.scales.n_tok, j->models.scales.text);
        if (source_quantised(j))
            printf("the file's weights were already quantised: the reference is what the file holds, not the original model\n");
        printf("%-20s %8s %10s %-16s %9s %9s %6s %6s %9s %8s %11s %8s\n", "precision", "ppl", "loss", "[95 %]", "KL", "top-1",
               "same", "all", "prefill/s", "decode/s", "weights", "KV/token");
    }
    for (uint32_t i = 0; i < j->n; i++)
        print_row(j, i);
}

static void span(double out[3], struct interval v)
{
    out[0] = v.mean, out[1] = v.lo, out[2] = v.hi;
}

static int record_one(struct job *j, struct recorder *r, uint32_t i, int64_t experiment, int64_t environment)
{
    const struct quality *q = j->q + i;
    const struct model_shape *s = &j->files.shape;
    enum fmt kv = choice_kv(&j->st[i]);
    char dtype[64];
    struct model_row m = {
        .name = s->name, .about = loaded_source(&j->models, j->st + i, NULL)->about, .weight_dtype = dtype, .kv_dtype = fmt_name(kv),
        .layers = s->n_layer, .heads = s->n_head, .kv_heads = s->n_kv_head, .d_model = s->dim, .vocab_size = s->vocab,
        .weight_bytes = (int64_t)q->weight_bytes, .kv_bytes_per_token = (int64_t)q->kv_token_bytes,
        .is_synthetic = j->files.source.is_synthetic, .sha256 = j->model_sha,
    };
    struct quality_row row = {
        .experiment_id = experiment, .environment_id = environment, .device = j->dev.label, .text_name = j->text,
        .text_sha256 = j->text_sha, .is_reference = i == 0, .source_quantised = source_quantised(j), .window = j->window,
        .stride = j->stride, .scored_tokens = q->n_scored, .windows = q->n_window, .answers = j->answers,
        .answers_same = q->n_same, .answer_tokens = j->n_new, .prefill_tok_s = q->prefill_tok_s,
        .decode_tok_s = q->decode_tok_s, .weight_bytes = (int64_t)q->weight_bytes,
        .scale_bytes = (int64_t)q->scale_bytes, .kv_bytes_per_token = (int64_t)q->kv_token_bytes,
    };

    prec_text(j->st + i, dtype);
    span(row.ppl, q->ppl);
    span(row.loss_pct, q->loss_pct);
    span(row.kl, q->kl);
    span(row.top1_pct, q->top1_pct);
    span(row.agree_tokens, q->agree_len);
    row.model_id = recorder_model(r, &m, j->e);
    return row.model_id < 0 || recorder_quality(r, &row, j->e) < 0 ? -1 : 0;
}

static int record(struct job *j, const char *command)
{
    struct recorder *r = recorder_open(j->db, j->e);
    struct experiment_row x = { .name = j->name, .spec_json = "{}", .command_line = command, .note = "" };
    struct environment env;
    int64_t environment, experiment = -1;
    int rc = r ? 0 : -1;

    environment_read(&env);
    environment = rc ? -1 : recorder_environment(r, &env.row, j->e);
    experiment = environment < 0 ? -1 : recorder_experiment(r, &x, j->e);
    rc = experiment < 0 ? -1 : 0;
    for (uint32_t i = 0; !rc && i < j->n; i++)
        rc = record_one(j, r, i, experiment, environment);
    if (r)
        recorder_close(r);
    return rc;
}

static int figure(struct job *j)
{
    char from[4200], to[4200], caption[400];
    sqlite3 *db;
    bool drawn = false;
    int rc;

    snprintf(from, sizeof from, "%s/plots/quality", home_dir());
    snprintf(to, sizeof to, "%.*s/experiments/%.100s/", (int)(strrchr(j->db, '/') ? strrchr(j->db, '/') - j->db : 1),
             strrchr(j->db, '/') ? j->db : ".", j->name);
    snprintf(caption, sizeof caption, "%.60s on %.80s; %.60s, windows of %lld, stride %lld%s", j->files.shape.name, j->dev.label,
             strrchr(j->text, '/') ? strrchr(j->text, '/') + 1 : j->text, (long long)j->window, (long long)j->stride,
             source_quantised(j) ? "; source file already quantised" : "");
    if (db_make_parents(to, j->e))
        return -1;
    to[strlen(to) - 1] = 0;                     /* the '/' that made it a folder to make */
    if (!(db = db_open_read(j->db, 0, j->e)))
        return -1;
    rc = experiment_figure(db, j->db, from, to, caption, &drawn, j->e) < 0 ? -1 : 0;
    sqlite3_close(db);
    if (!rc && !j->json)
        printf("%s: %s/figure.%s\n", drawn ? "figure" : "data of the figure", to, drawn ? "svg" : "tsv");
    return rc;
}

/* ---- the verb ---- */

static int read_args(struct job *j, int argc, char **argv, bool *done)
{
    int opt, rc = 0;

    while (!rc && (opt = verb_option(&verb_quality, argc, argv, options, done, j->e)) != -1)
        switch (opt) {
        case O_TEXT: j->text = optarg; break;
        case O_MODEL: j->model = optarg; break;
        case O_PREC: j->precision = optarg; break;
        case O_SCALES: j->scales = optarg; break;
        case O_DEVICE: j->device = optarg; break;
        case O_WINDOW: rc = option_int("window", 16, 8192, &j->window, j->e); break;
        case O_STRIDE: rc = option_int("stride", 1, 8192, &j->stride, j->e); break;
        case O_WINDOWS: rc = option_int("windows", 2, 100000, &j->windows, j->e); break;
        case O_SKIP: rc = option_int("skip", 0, INT64_C(1) << 40, &j->skip, j->e); break;
        case O_ANSWERS: rc = option_int("answers", 2, 64, &j->answers, j->e); break;
        case O_NEW: rc = option_int("new", 2, 4096, &j->n_new, j->e); break;
        case O_DB: j->db = optarg; break;
        case O_NAME: j->name = optarg; break;
        case O_JSON: j->json = true; break;
        case O_QUIET: j->quiet = true; break;
        default: return -1;
        }
    if (rc || *done)
        return rc;
    if (!j->text)
        return err_set(j->e, EXIT_USAGE, "quality: --text FILE is missing; 'servelab quality --help' has an example");
    if (j->stride > j->window)
        return err_set(j->e, EXIT_USAGE, "--stride %lld: more than the window of %lld", (long long)j->stride,
                       (long long)j->window);
    if (strpbrk(j->name, "/") || !*j->name || *j->name == '.')
        return err_set(j->e, EXIT_USAGE, "--name '%s': a folder is named after it; no '/', no leading dot", j->name);
    return 0;
}

static int work(struct job *j, const char *command)
{
    const struct device_ops *ops = device_find(j->device, j->e);
    struct device_conf conf = { .pace = PACE_SKIP };
    struct quality_conf c = { .window = (uint32_t)j->window, .stride = (uint32_t)j->stride,
                              .n_window = (uint32_t)j->windows, .n_prompt = (uint32_t)j->answers, .prompt_len = 32,
                              .n_new = (uint32_t)j->n_new, .progress = progress, .self = j };

    if (!ops || precisions(j) || model_find(&j->files, j->model, 1, j->e))
        return -1;
    if (j->files.kind == MODEL_SHAPE)
        return err_set(j->e, EXIT_USAGE, "quality: %s is a shape with synthetic weights, whose text means nothing; 'make "
                       "model MODEL=smollm2-135m' fetches a real model", j->model);
    if (j->window + 1 > (int64_t)j->files.shape.max_context)
        return err_set(j->e, EXIT_USAGE, "--window %lld: the model's context ends at %u", (long long)j->window,
                       j->files.shape.max_context);
    if (model_files_sha256(&j->files, j->model_sha, j->e) || tokenizer_open(&j->t, j->files.path, j->e) || tokens(j) ||
        dev_open(&j->dev, ops, &conf, j->e) ||
        loaded_open_from(&j->models, &j->dev, &j->files.shape, &j->files.source) || scales(j) ||
        quality_measure(&j->models, j->st, j->n, j->ids.id + j->skip, j->ids.n - (size_t)j->skip, &c, j->q, j->e))
        return -1;
    print_all(j);
    return record(j, command) || figure(j) ? -1 : 0;
}

static int run(int argc, char **argv, struct err *e)
{
    struct job *j = calloc(1, sizeof *j);
    char command[2000] = "servelab";
    size_t at = strlen(command);
    bool done = false;
    int rc;

    if (!j)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    j->model = "smollm2-135m", j->precision = "all", j->device = "cpu", j->db = "results/servelab.db", j->name = "quality";
    j->window = 512, j->stride = 256, j->windows = 32, j->answers = 16, j->n_new = 64;
    j->e = e;
    for (int i = 0; i < argc && at < sizeof command - 1; i++)
        at += (size_t)snprintf(command + at, sizeof command - at, " %s", argv[i]);
    rc = read_args(j, argc, argv, &done);
    if (!rc && !done)
        rc = work(j, command);
    if (j->dev.ops && j->dev.self) {
        loaded_close(&j->models);
        dev_close(&j->dev);
    }
    token_ids_free(&j->ids);
    tokenizer_free(j->t);
    model_files_close(&j->files);
    free(j);
    return rc;
}

const struct verb verb_quality = {
    .name = "quality", .about = "what a precision costs: perplexity, KL, agreement, answers", .help = help, .rank = 5,
    .run = run,
};
