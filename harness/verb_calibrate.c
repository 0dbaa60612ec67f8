/* verb_calibrate.c - `servelab calibrate`: AWQ scales of a model from a text, into a file that run and quality take. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "harness/calibrate.h"
#include "harness/text_file.h"
#include "harness/verb.h"
#include "models/tokenizer_gguf.h"

extern const struct verb verb_calibrate;

static const char help[] =
    "usage: servelab calibrate --text F --out FILE [options]\n\n"
    "Finds a scale per input channel that makes rounding to few bits lose less (AWQ: Lin et al. 2024). The f16\n"
    "model reads the text; channels that meet large activations get larger weights and smaller activations. The\n"
    "function of the model stays as it is. Precisions with awq=on use the file, by --scales of 'run' and 'quality'.\n\n"
    "  --text F            the text; measure quality on another one\n"
    "  --out FILE          where the scales go (JSON)\n"
    "  --model M           a real model (default smollm2-135m; 'make model' fetches it)\n"
    "  --precision P       what the scales are for (default int4)\n"
    "  --device D          cpu (default), cuda, ref\n"
    "  --window N          tokens of a window (default 512)\n"
    "  --windows N         at most so many, spread over the text (default 16)\n"
    "  --rows N            rows of each matrix that judge a scale, 0: all (default 1024)\n"
    "  --json              one JSON object instead of a table      --quiet   no progress\n\n"
    "example: servelab calibrate --text book.txt --out awq.json\n"
    "example: servelab quality --text other.txt --precision f16,int4,int4:awq=on --scales awq.json\n";

enum { O_TEXT = 1, O_OUT, O_MODEL, O_PREC, O_DEVICE, O_WINDOW, O_WINDOWS, O_ROWS, O_JSON, O_QUIET };
static const struct option options[] = {
    { "text", 1, NULL, O_TEXT }, { "out", 1, NULL, O_OUT }, { "model", 1, NULL, O_MODEL },
    { "precision", 1, NULL, O_PREC }, { "device", 1, NULL, O_DEVICE }, { "window", 1, NULL, O_WINDOW },
    { "windows", 1, NULL, O_WINDOWS }, { "rows", 1, NULL, O_ROWS }, { "json", 0, NULL, O_JSON },
    { "quiet", 0, NULL, O_QUIET }, { 0 }
};

struct job {
    const char *text, *out, *model, *precision, *device;
    int64_t window, windows, rows;
    bool json, quiet;
    struct model_files files;
    struct tokenizer *t;
    struct token_ids ids;
    struct device dev;
    struct loaded_set models;
    struct strategy st;
    struct scales scales;
    struct calibrate_report report;
    struct err *e;
};

static int read_args(struct job *j, int argc, char **argv, bool *done)
{
    int opt, rc = 0;

    while (!rc && (opt = verb_option(&verb_calibrate, argc, argv, options, done, j->e)) != -1)
        switch (opt) {
        case O_TEXT: j->text = optarg; break;
        case O_OUT: j->out = optarg; break;
        case O_MODEL: j->model = optarg; break;
        case O_PREC: j->precision = optarg; break;
        case O_DEVICE: j->device = optarg; break;
        case O_WINDOW: rc = option_int("window", 16, 8192, &j->window, j->e); break;
        case O_WINDOWS: rc = option_int("windows", 1, 100000, &j->windows, j->e); break;
        case O_ROWS: rc = option_int("rows", 0, 1 << 30, &j->rows, j->e); break;
        case O_JSON: j->json = true; break;
        case O_QUIET: j->quiet = true; break;
        default: return -1;
        }
    if (rc || *done)
        return rc;
    if (optind < argc)
        return err_set(j->e, EXIT_USAGE, "calibrate: unexpected argument '%s'", argv[optind]);
    if (!j->text || !j->out)
        return err_set(j->e, EXIT_USAGE, "calibrate: --%s FILE is missing; 'servelab calibrate --help' has an example",
                       j->text ? "out" : "text");
    return 0;
}

static void progress(void *self, uint32_t done, uint32_t of)
{
    const struct job *j = self;

    if (!j->quiet)
        fprintf(stderr, "\r%3u %% of the windows and layers ", 100 * done / of);
    if (!j->quiet && done == of)
        fputc('\n', stderr);
}

/* Names that the file carries. */
static int sign(struct job *j, const char *text_sha)
{
    const char *slash = strrchr(j->text, '/');

    params_name(&j->st.prec_params, j->st.prec->name, j->scales.precision, sizeof j->scales.precision);
    snprintf(j->scales.text, sizeof j->scales.text, "%.120s", slash ? slash + 1 : j->text);
    memcpy(j->scales.text_sha256, text_sha, SHA256_HEX);
    return model_files_sha256(&j->files, j->scales.model_sha256, j->e);
}

static void show(const struct job *j)
{
    const struct calibrate_report *r = &j->report;

    if (!j->json)
        printf("%s (%s) on %s\n%s: %u tokens; scales for %s\n%-8s %10s %22s\n", j->files.shape.name,
               j->files.source.about, j->dev.label, j->scales.text, r->n_tok, j->scales.precision, "inputs",
               "mean alpha", "estimated error left");
    for (int w = 0; w < SCALED_N; w++)
        printf(j->json ? "%s\"%s\": {\"mean_alpha\": %.4f, \"error_left\": %.5f}" : "%s%-8s %10.2f %20.1f %%\n",
               !j->json ? "" : w ? ", " : "{", role_name[scaled_role(w)], r->alpha[w],
               (j->json ? 1 : 100) * (r->before[w] > 0 ? r->after[w] / r->before[w] : 1));
    if (j->json)
        printf(", \"tokens\": %u}\n", r->n_tok);
    else
        printf("o and head stay as they are; written: %s\n", j->out);
}

static int work(struct job *j)
{
    const struct device_ops *ops = device_find(j->device, j->e);
    struct device_conf conf = { .pace = PACE_SKIP };
    struct calibrate_conf c = { .window = (uint32_t)j->window, .n_window = (uint32_t)j->windows,
                                .max_row = (uint32_t)j->rows, .progress = progress, .self = j };
    char name[300], sha[SHA256_HEX];

    snprintf(name, sizeof name, "continuous+paged+%.200s", j->precision);
    if (!ops || strategy_parse(&j->st, name, j->e) ||
        text_model_find(&j->files, j->model, "calibrate", j->window, j->window, j->e) ||
        tokenizer_open(&j->t, j->files.path, j->e) ||
        text_file_tokens(j->text, j->t, &j->ids, sha, j->e) || dev_open(&j->dev, ops, &conf, j->e) ||
        loaded_open_from(&j->models, &j->dev, &j->files.shape, &j->files.source) ||
        calibrate(&j->models, &j->st, j->ids.id, j->ids.n, &c, &j->scales, &j->report, j->e) || sign(j, sha) ||
        scales_write(&j->scales, j->out, j->e))
        return -1;
    show(j);
    return 0;
}

static int run(int argc, char **argv, struct err *e)
{
    struct job *j = calloc(1, sizeof *j);
    bool done = false;
    int rc;

    if (!j)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    j->model = "smollm2-135m", j->precision = "int4", j->device = "cpu";
    j->window = 512, j->windows = 16, j->rows = 1024;
    j->e = e;
    rc = read_args(j, argc, argv, &done);
    if (!rc && !done)
        rc = work(j);
    if (j->dev.ops && j->dev.self) {
        loaded_close(&j->models);
        dev_close(&j->dev);
    }
    scales_free(&j->scales);
    token_ids_free(&j->ids);
    tokenizer_free(j->t);
    model_files_close(&j->files);
    free(j);
    return rc;
}

const struct verb verb_calibrate = {
    .name = "calibrate", .about = "AWQ scales of a model from a text, for precisions with awq=on", .help = help,
    .rank = 5,
    .run = run,
};
