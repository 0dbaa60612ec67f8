/* verb_quality.c - `servelab quality`: perplexity, KL divergence, agreement and greedy answers of precisions on a text,
 * with intervals, into the database; and the figure of loss against speed and bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "harness/quality_report.h"
#include "harness/text_file.h"
#include "harness/verb.h"
#include "models/tokenizer_gguf.h"

extern const struct verb verb_quality;

enum { PRECISIONS_MAX = 32 };

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

enum { O_TEXT = 1, O_MODEL, O_PREC, O_SCALES, O_DEVICE, O_WINDOW, O_STRIDE, O_WINDOWS, O_SKIP, O_ANSWERS, O_NEW, O_DB,
       O_NAME, O_JSON, O_QUIET };
static const struct option options[] = {
    { "text", 1, NULL, O_TEXT }, { "model", 1, NULL, O_MODEL }, { "precision", 1, NULL, O_PREC },
    { "scales", 1, NULL, O_SCALES }, { "device", 1, NULL, O_DEVICE }, { "window", 1, NULL, O_WINDOW },
    { "stride", 1, NULL, O_STRIDE }, { "windows", 1, NULL, O_WINDOWS }, { "skip", 1, NULL, O_SKIP },
    { "answers", 1, NULL, O_ANSWERS }, { "new", 1, NULL, O_NEW }, { "db", 1, NULL, O_DB }, { "name", 1, NULL, O_NAME },
    { "json", 0, NULL, O_JSON }, { "quiet", 0, NULL, O_QUIET }, { 0 }
};

/* What 'all' means: every weight format with F16 caches, with the head rounded as well and kept (as published
 * precisions do), every cache format with F16 weights, and both small. */
static const char all[] =
    "f16,bf16,fp8,fp8:head=f16,int8,int8:head=f16,mixed,int4:group=32,int4,int4:group=128,int4:group=row,int4:zero=on,"
    "int4:group=32:zero=on,int4:head=f16,int4:head=int8,int4:group=32:zero=on:head=f16,int4:act=f32,f16:kv=int8,"
    "f16:kv=fp8,int4:kv=int8";
/* and with --scales */
static const char all_scaled[] = ",int8:awq=on:head=f16,int4:awq=on,int4:awq=on:head=f16,int4:awq=on:act=f32";

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

    if (snprintf(copy, sizeof copy, "%s%s", everything ? all : j->precision,
                 everything && j->scales ? all_scaled : "") >= (int)sizeof copy)
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

static void progress(void *self, uint32_t done, uint32_t of)
{
    const struct job *j = self;

    if (!j->quiet)
        fprintf(stderr, "\r%3u %% of %u windows x %u precisions ", 100 * done / of, of / j->n, j->n);
    if (!j->quiet && done == of)
        fputc('\n', stderr);
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
    struct quality_report r = { .files = &j->files, .models = &j->models, .dev = &j->dev, .st = j->st, .q = j->q,
                                .conf = &c, .text = j->text, .text_sha = j->text_sha, .model_sha = j->model_sha,
                                .command = command, .db = j->db, .name = j->name, .json = j->json };

    if (!ops || precisions(j) ||
        text_model_find(&j->files, j->model, "quality", j->window, j->window + 1, j->e))
        return -1;
    if (model_files_sha256(&j->files, j->model_sha, j->e) || tokenizer_open(&j->t, j->files.path, j->e) || tokens(j) ||
        dev_open(&j->dev, ops, &conf, j->e) ||
        loaded_open_from(&j->models, &j->dev, &j->files.shape, &j->files.source) ||
        loaded_scales_for(&j->models, j->st, j->n, j->scales, j->model_sha, "precision of the list", j->e) ||
        quality_measure(&j->models, j->st, j->n, j->ids.id + j->skip, j->ids.n - (size_t)j->skip, &c, j->q, j->e))
        return -1;
    r.n = j->n;
    quality_print(&r);
    return quality_record(&r, j->e) || quality_figure(&r, j->e) ? -1 : 0;
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
    j->model = "smollm2-135m", j->precision = "all", j->device = "cpu", j->db = "results/servelab.db",
    j->name = "quality";
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
