#include "harness/quality_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/home.h"
#include "base/num.h"
#include "harness/choice.h"
#include "harness/environment.h"
#include "harness/experiment.h"
#include "harness/figures.h"
#include "results/db.h"
#include "results/recorder.h"

static void prec_text(const struct strategy *st, char out[64])
{
    params_name(&st->prec_params, st->prec->name, out, 64);
}

static bool source_quantised(const struct quality_report *r)
{
    return strstr(r->files->source.about, "already quantised") != NULL;
}

/* ---- text ---- */

/* One window has no interval. */
static const char *json_number(char text[32], double x)
{
    snprintf(text, 32, "%.4f", x);
    return isfinite(x) ? text : "null";
}

static void print_json(const struct quality *q, const char *name)
{
    char lo[32], hi[32];

    printf("{\"precision\": \"%s\", \"ppl\": %.5f, \"loss_pct\": %.4f, \"loss_pct_lo\": %s, \"loss_pct_hi\": %s, "
           "\"kl\": %.6f, \"top1_pct\": %.3f, \"agree_tokens\": %.2f, \"answers_same\": %u, \"prefill_tok_s\": %.1f, "
           "\"decode_tok_s\": %.1f, \"weight_bytes\": %llu, \"scale_bytes\": %llu, \"kv_bytes_per_token\": %llu}\n",
           name, q->ppl.mean, q->loss_pct.mean, json_number(lo, q->loss_pct.lo), json_number(hi, q->loss_pct.hi),
           q->kl.mean, q->top1_pct.mean, q->agree_len.mean, q->n_same, q->prefill_tok_s, q->decode_tok_s,
           (unsigned long long)q->weight_bytes, (unsigned long long)q->scale_bytes,
           (unsigned long long)q->kv_token_bytes);
}

static void print_row(const struct quality *q, const char *name, int width, uint32_t n_answer)
{
    char span[32] = "[one window]";

    if (isfinite(q->loss_pct.hi))
        snprintf(span, sizeof span, "[%+.2f, %+.2f]", q->loss_pct.lo, q->loss_pct.hi);
    printf("%-*s %8.3f %+8.2f %% %-17s %9.5f %7.2f %% %6.1f %3u/%-3u %9.0f %8.1f %8.1f MB %6llu B\n", width, name,
           q->ppl.mean, q->loss_pct.mean, span, q->kl.mean, q->top1_pct.mean, q->agree_len.mean, q->n_same, n_answer,
           q->prefill_tok_s, q->decode_tok_s, (double)q->weight_bytes * 1e-6, (unsigned long long)q->kv_token_bytes);
}

/* Rounding weights that already lie on a coarse grid loses nothing on that very grid and twice on any other. */
static void print_source(const struct quality_report *r)
{
    static const char *const grid[][2] = { { "Q4_1", "int4:group=32:zero=on" }, { "Q4_0", "int4:group=32" } };

    puts("the file's weights were already quantised: the reference is what the file holds, not the original model");
    for (size_t i = 0; i < 2; i++)
        if (strstr(r->files->source.about, grid[i][0]))
            printf("its %s weights lie on the grid of %s, which meets them again; every other int4 rounds a second "
                   "time and loses more than it would on the original\n", grid[i][0], grid[i][1]);
}

static void print_head(const struct quality_report *r, int width)
{
    printf("%s (%s) on %s\n%s: %u tokens scored in %u windows of %u, stride %u\n", r->files->shape.name,
           r->files->source.about, r->dev->label, r->text, r->q[0].n_scored, r->q[0].n_window, r->conf->window,
           r->conf->stride);
    if (r->models->has_scales)
        printf("awq=on: scales for %s, calibrated on %u tokens of %s\n", r->models->scales.precision,
               r->models->scales.n_tok, r->models->scales.text);
    if (source_quantised(r))
        print_source(r);
    printf("%-*s %8s %10s %-17s %9s %9s %6s %7s %9s %8s %11s %8s\n", width, "precision", "ppl", "loss", "[95 %]", "KL",
           "top-1", "same", "all", "prefill/s", "decode/s", "weights", "KV/token");
}

void quality_print(const struct quality_report *r)
{
    char name[64];
    int width = 9;                             /* "precision" */

    for (uint32_t i = 0; i < r->n; i++) {
        prec_text(r->st + i, name);
        width = (int)max_u32((uint32_t)width, (uint32_t)strlen(name));
    }
    if (!r->json)
        print_head(r, width);
    for (uint32_t i = 0; i < r->n; i++) {
        prec_text(r->st + i, name);
        if (r->json)
            print_json(r->q + i, name);
        else
            print_row(r->q + i, name, width, r->conf->n_prompt);
    }
}

/* ---- rows ---- */

static void span(double out[3], struct interval v)
{
    out[0] = v.mean, out[1] = v.lo, out[2] = v.hi;
}

static int record_one(const struct quality_report *r, struct recorder *to, uint32_t i, int64_t experiment,
                      int64_t environment, struct err *e)
{
    const struct quality *q = r->q + i;
    const struct model_shape *s = &r->files->shape;
    enum fmt kv = choice_kv(&r->st[i]);
    char dtype[64];
    struct model_row m = {
        .name = s->name, .about = loaded_source(r->models, r->st + i, NULL)->about, .weight_dtype = dtype,
        .kv_dtype = fmt_name(kv), .layers = s->n_layer, .heads = s->n_head, .kv_heads = s->n_kv_head,
        .d_model = s->dim, .vocab_size = s->vocab, .weight_bytes = (int64_t)q->weight_bytes,
        .kv_bytes_per_token = (int64_t)q->kv_token_bytes, .is_synthetic = r->files->source.is_synthetic,
        .sha256 = r->model_sha,
    };
    struct quality_row row = {
        .experiment_id = experiment, .environment_id = environment, .device = r->dev->label, .text_name = r->text,
        .text_sha256 = r->text_sha, .is_reference = i == 0, .source_quantised = source_quantised(r),
        .window = r->conf->window, .stride = r->conf->stride, .scored_tokens = q->n_scored, .windows = q->n_window,
        .answers = r->conf->n_prompt, .answers_same = q->n_same, .answer_tokens = r->conf->n_new,
        .prefill_tok_s = q->prefill_tok_s, .decode_tok_s = q->decode_tok_s, .weight_bytes = (int64_t)q->weight_bytes,
        .scale_bytes = (int64_t)q->scale_bytes, .kv_bytes_per_token = (int64_t)q->kv_token_bytes,
    };

    prec_text(r->st + i, dtype);
    span(row.ppl, q->ppl);
    span(row.loss_pct, q->loss_pct);
    span(row.kl, q->kl);
    span(row.top1_pct, q->top1_pct);
    span(row.agree_tokens, q->agree_len);
    row.model_id = recorder_model(to, &m, e);
    return row.model_id < 0 || recorder_quality(to, &row, e) < 0 ? -1 : 0;
}

int quality_record(const struct quality_report *r, struct err *e)
{
    struct recorder *to = recorder_open(r->db, e);
    struct experiment_row x = { .name = r->name, .spec_json = "{}", .command_line = r->command, .note = "" };
    struct environment env;
    int64_t environment, experiment = -1;
    int rc;

    environment_read(&env);
    environment = to ? recorder_environment(to, &env.row, e) : -1;
    experiment = environment < 0 ? -1 : recorder_experiment(to, &x, e);
    rc = experiment < 0 ? -1 : 0;
    for (uint32_t i = 0; !rc && i < r->n; i++)
        rc = record_one(r, to, i, experiment, environment, e);
    if (to)
        recorder_close(to);
    return rc;
}

/* ---- figure ---- */

int quality_figure(const struct quality_report *r, struct err *e)
{
    char from[4200], to[4200], caption[400];
    const char *slash = strrchr(r->db, '/'), *book = strrchr(r->text, '/');
    sqlite3 *db;
    bool drawn = false;
    int rc;

    snprintf(from, sizeof from, "%s/plots/quality", home_dir());
    snprintf(to, sizeof to, "%.*s/experiments/%.100s/", (int)(slash ? slash - r->db : 1), slash ? r->db : ".", r->name);
    snprintf(caption, sizeof caption, "%.60s on %.80s; %.60s, %u windows of %u, stride %u; bars: 95 %%%s",
             r->files->shape.name, r->dev->label, book ? book + 1 : r->text, r->q[0].n_window, r->conf->window,
             r->conf->stride, source_quantised(r) ? "; source file already quantised" : "");
    if (db_make_parents(to, e))
        return -1;
    to[strlen(to) - 1] = 0;                     /* the '/' that made it a folder to make */
    if (!(db = db_open_read(r->db, 0, e)))
        return -1;
    rc = experiment_figure(db, r->db, from, to, caption, &drawn, e) < 0 ? -1 : 0;
    sqlite3_close(db);
    if (!rc && !r->json)
        printf("%s: %s/figure.%s\n", drawn ? "figure" : "data of the figure", to, drawn ? "svg" : "tsv");
    return rc;
}
