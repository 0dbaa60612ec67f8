/* sweep.c - see sweep.h. Order of runs: repeat, then rate, then strategy, so that repeats of one cell
 * stand far apart and drift of the machine hits all strategies alike. */
#include "harness/sweep_parts.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/plain.h"
#include "harness/choice.h"
#include "harness/estimate.h"
#include "harness/selection.h"

static volatile sig_atomic_t stop_asked;

static void on_signal(int sig)
{
    (void)sig;
    if (stop_asked++)
        _Exit(EXIT_INTERRUPTED);                /* the second time: at once */
}

/* ---- one run ---- */

/* What clients declare as their output limit: the trace's longest output, a number, or (0) the truth. */
static uint32_t declared(const struct sweep *s)
{
    uint32_t most = 1;

    if (s->c->max_new_is_exact)
        return 0;
    for (uint32_t i = 0; i < s->trace.n; i++)
        most = max_u32(most, s->trace.req[i].n_out);
    return max_u32(most, s->c->max_new);
}

/* A run that cannot begin stands in the store with its reason; the sweep goes on with the others. */
static int not_run(struct sweep *s, const struct strategy *st, const struct model *would, const struct validity *v,
                   double rate, uint32_t repeat, uint32_t order)
{
    struct replay_result r = { 0 };
    struct op_total none[OP_N] = { { 0 } };

    if (sweep_begin_run(s, would, st, rate, repeat, order) < 0)
        return -1;
    s->res->n_run++;
    s->res->n_failed++;
    fprintf(stderr, "servelab: %s: %s\n", st->name, v->reasons);
    return sweep_end_run(s, &r, v, "failed", none);
}

static int one_run(struct sweep *s, const struct strategy *st, double rate, uint32_t repeat,
                   uint32_t order)
{
    struct replay_conf rc = {
        .trace = &s->trace, .strategy = st, .kv_pool = &s->kv, .max_len = s->max_len, .max_new = declared(s),
        .rate_scale = rate, .seed = s->c->seed, .log = s->c->log,
        .recorder = s->rec, .stop = &stop_asked, .progress = &s->progress.live,
        .max_ns = (uint64_t)(s->c->max_duration_s * 1e9),
    };
    struct replay_result r;
    struct validity v;
    struct quiet before, after;
    struct model would;
    struct err e = { 0 };
    int failed;

    if (sweep_pool(s, choice_kv(st)) || (failed = sweep_too_big(s, st, &would, &v)) < 0)
        return -1;
    if (failed)
        return not_run(s, st, &would, &v, rate, repeat, order);
    if (s->c->show_text) {
        s->texts.strategy = st->name;
        rc.on_done = texts_show;
        rc.on_done_self = &s->texts;
    }
    rc.kv_slots = s->kv.n_slot;
    rc.host_slots = s->host_slots;
    rc.model = loaded_get(&s->models, st, s->e);
    if (!rc.model || sweep_begin_run(s, rc.model, st, rate, repeat, order) < 0)
        return -1;
    progress_run(&s->progress, order, *st->label ? st->label : st->name, s->trace.n,
                 s->info.prompt_tokens + s->info.output_tokens);
    memset(s->dev.total, 0, sizeof s->dev.total);
    memset(&s->dev.charged, 0, sizeof s->dev.charged);
    quiet_read(&before);
    failed = replay_run(&rc, &r, &e);
    quiet_read(&after);
    validity_judge(&v, &rc, &r, s->dev.is_virtual, s->dev.pace,
                   s->dev.is_virtual ? 0 : quiet_others(&before, &after));
    validity_modelled(&v, &s->dev.charged);
    progress_run_done(&s->progress);
    s->res->n_run++;
    if (failed) {
        v.word = "invalid";
        snprintf(v.reasons, sizeof v.reasons, "%.590s", e.text);
        s->res->n_failed++;
        print_plain(stderr, "servelab: run of %s failed: %s\n", st->name, e.text);
        return sweep_end_run(s, &r, &v, "failed", s->dev.total);
    }
    if (stop_asked) {
        s->res->interrupted = true;
        return sweep_end_run(s, &r, &v, "aborted", s->dev.total);
    }
    s->res->n_done++;
    s->res->n_invalid += !strcmp(v.word, "invalid");
    return sweep_end_run(s, &r, &v, "done", s->dev.total);
}

static int all_runs(struct sweep *s)
{
    uint32_t order = 0;

    for (uint32_t rep = 0; rep < s->c->repeats; rep++)
        for (size_t x = 0; x < s->c->n_rate; x++)
            for (size_t i = 0; i < s->c->n_strategy; i++) {
                if (stop_asked) {
                    s->res->interrupted = true;
                    return 0;
                }
                if (one_run(s, &s->c->strategy[i], s->c->rate[x], rep, order++))
                    return -1;
            }
    return 0;
}

/* ---- before and after ---- */

static void print_header(struct sweep *s, double estimate_s)
{
    size_t n = s->c->n_strategy * s->c->n_rate * s->c->repeats;

    print_plain(stderr, "%s: %u requests, %llu prompt + %llu output tokens%s\n", s->trace.name, s->trace.n,
            (unsigned long long)s->info.prompt_tokens, (unsigned long long)s->info.output_tokens,
            s->trace.is_synthetic ? " (synthetic trace)" : "");
    print_plain(stderr, "%s on %s%s%s; %s\n", s->shape.name, s->dev.label, *s->c->device_note ? "; " : "",
            s->c->device_note, s->models.source.about);
    if (*s->texts.note)
        print_plain(stderr, "%s\n", s->texts.note);
    fprintf(stderr, "KV pool %u tokens = %.1f MiB%s, sequences up to %u tokens, idle time: %s\n",
            s->kv.n_slot, (double)s->kv.bytes / 0x1p20,
            s->kv.n_slot < s->kv_slots_asked / KV_TILE * KV_TILE ? " (fewer than asked: memory)" : "",
            s->max_len, pace_name[s->dev.pace]);
    if (s->c->max_new && s->c->max_new < declared(s))
        fprintf(stderr, "--max-new %u: clients declare %u, the trace's longest output; outputs are replayed as "
                "recorded, not cut\n", s->c->max_new, declared(s));
    if (estimate_s < 60)
        fprintf(stderr, "%zu run%s, about %.0f s\n", n, n == 1 ? "" : "s", ceil(estimate_s));
    else
        fprintf(stderr, "%zu run%s, about %.0f min %02.0f s\n", n, n == 1 ? "" : "s",
                floor(estimate_s / 60), fmod(estimate_s, 60));
}

static int ids_fit(struct sweep *s)
{
    for (uint32_t i = 0; i < s->trace.n; i++) {
        const struct trace_more *more = s->trace.req[i].more;

        for (uint32_t k = 0; more && more->prompt_ids && k < s->trace.req[i].n_prompt; k++)
            if (more->prompt_ids[k] >= s->shape.vocab)
                return err_set(s->e, EXIT_USAGE, "%s: row %u: prompt_ids[%u] is %u, but model %s has "
                               "%u tokens; its ids come from another tokenizer: give prompt_tokens "
                               "instead", s->c->trace_path, i, k, more->prompt_ids[k],
                               s->shape.name, s->shape.vocab);
    }
    return 0;
}

/* What the device cannot do is refused before anything runs. */
static int device_can(struct sweep *s)
{
    for (size_t i = 0; i < s->c->n_strategy; i++) {
        const struct strategy *st = s->c->strategy + i;
        struct exec x = choice_exec(st);

        if (dev_exec(&s->dev, &x, s->e))
            return -1;
        if (!(s->dev.ops->kv_fmts & FMT_BIT(choice_kv(st))))
            return err_set(s->e, EXIT_USAGE, "strategy %s: device %s cannot cache K and V as %s", st->name,
                           s->dev.ops->name, fmt_name(choice_kv(st)));
    }
    return 0;
}

static int prepare(struct sweep *s)
{
    const struct sweep_conf *c = s->c;
    struct trace_options o = c->trace_options;

    if (model_find(&s->files, c->model, c->seed, s->e) || model_files_sha256(&s->files, s->sha256, s->e))
        return -1;
    s->shape = s->files.shape;
    if (texts_open(&s->texts, &s->files, c->show_text, c->chat, &o.texts, s->e))
        return -1;
    o.max_context = s->shape.max_context;
    if (trace_read(&s->trace, c->trace_path, &o, s->e) ||
        texts_encode(&s->texts, &s->trace, s->shape.max_context, s->e) || ids_fit(s) ||
        trace_stat(&s->trace, &s->info, s->e))
        return -1;
    s->slo = c->has_slo ? c->slo : s->trace.slo;
    s->max_len = c->max_len ? c->max_len : sweep_max_len(s);
    if (s->max_len > s->shape.max_context)
        return err_set(s->e, EXIT_USAGE, "--max-len %u: model %s ends at %u tokens", s->max_len,
                       s->shape.name, s->shape.max_context);
    if (sweep_kv_size(s, FMT_F16) || dev_open(&s->dev, c->device, &c->device_conf, s->e) ||
        device_can(s) || loaded_open_from(&s->models, &s->dev, &s->shape, &s->files.source) ||
        loaded_scales_for(&s->models, c->strategy, c->n_strategy, c->scales, s->sha256, "strategy's precision", s->e) ||
        sweep_pool(s, FMT_F16))
        return -1;
    return 0;
}

static int run_all(struct sweep *s)
{
    struct sigaction sa = { .sa_handler = on_signal }, old_int, old_term;
    double estimate_s = estimate_sweep(s->c, &s->models, &s->kv, &s->trace, &s->info, s->e);
    int rc;

    if (estimate_s < 0)
        return -1;
    if (!s->c->quiet)
        print_header(s, estimate_s);
    if (s->c->dry_run)
        return 0;
    s->rec = recorder_open(s->c->db, s->e);
    if (!s->rec || sweep_begin_rows(s))
        return -1;
    sigaction(SIGINT, &sa, &old_int);
    sigaction(SIGTERM, &sa, &old_term);
    progress_start(&s->progress, s->c->quiet ? PROGRESS_NEVER : s->c->progress,
                   (uint32_t)(s->c->n_strategy * s->c->n_rate * s->c->repeats), estimate_s);
    rc = all_runs(s);
    progress_stop(&s->progress);
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
    return rc;
}

int sweep_run(const struct sweep_conf *c, struct sweep_result *res, struct err *e)
{
    struct sweep *s = calloc(1, sizeof *s);
    int rc;

    memset(res, 0, sizeof *res);
    if (!s)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    s->c = c;
    s->res = res;
    s->e = e;
    stop_asked = 0;
    rc = prepare(s);
    if (!rc)
        rc = run_all(s);
    if (s->rec)
        recorder_close(s->rec);
    if (s->dev.ops && s->dev.self) {
        loaded_close(&s->models);
        dev_kv_close(&s->dev, &s->kv);
        dev_close(&s->dev);
    }
    texts_close(&s->texts);
    model_files_close(&s->files);
    trace_free(&s->trace);
    free(s);
    return rc;
}
