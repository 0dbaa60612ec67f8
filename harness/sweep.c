/* sweep.c - see sweep.h. Order of runs: repeat, then rate, then strategy, so that repeats of one cell
 * stand far apart and drift of the machine hits all strategies alike. */
#include "harness/choice.h"
#include "harness/sweep.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/environment.h"
#include "harness/estimate.h"
#include "harness/loaded.h"
#include "harness/texts.h"
#include "harness/validity.h"

enum { KV_DEFAULT_SEQS = 4 };          /* default pool: this many sequences of the maximum length */

struct sweep {
    const struct sweep_conf *c;
    struct sweep_result *res;
    struct trace trace;
    struct trace_info info;
    struct device dev;
    struct model_shape shape;
    struct model_files files;
    char sha256[SHA256_HEX];
    struct texts texts;
    struct loaded_set models;
    struct kv_pool kv;
    struct recorder *rec;
    struct progress progress;
    struct environment env;
    struct slo slo;
    uint32_t max_len, kv_slots_asked, host_slots;
    uint64_t kv_bytes_asked;
    int64_t environment_id, trace_id;
    struct err *e;
};

static volatile sig_atomic_t stop_asked;

static void on_signal(int sig)
{
    (void)sig;
    if (stop_asked++)
        _Exit(EXIT_INTERRUPTED);                /* the second time: at once */
}

/* ---- sizes ---- */

static uint32_t default_max_len(const struct sweep *s)
{
    uint32_t n = 256;

    while (n < s->info.longest)
        n *= 2;
    return min_u32(n, s->shape.max_context);
}

/* "512MiB" or "8192tok" into tokens; `slots` holds the default. */
static int size_in_tokens(struct sweep *s, const char *option, const char *t, enum fmt fmt, uint64_t *out)
{
    uint64_t per = model_kv_token_bytes(&s->shape, fmt), slots = *out;
    size_t n = t ? strspn(t, "0123456789") : 0;
    int64_t v;

    if (t && n && !strcmp(t + n, "tok")) {
        char digits[24];

        snprintf(digits, sizeof digits, "%.*s", (int)n, t);
        if (parse_int(digits, KV_TILE, 1 << 30, &v))
            return err_set(s->e, EXIT_USAGE, "--%s %s: expected %d to %d tokens", option, t, KV_TILE,
                           1 << 30);
        slots = (uint64_t)v;
    } else if (t) {
        uint64_t bytes;

        if (!t[n] || parse_bytes(t, &bytes))
            return err_set(s->e, EXIT_USAGE, "--%s %s: expected bytes with a unit (512MiB) or tokens "
                           "(8192tok)", option, t);
        slots = bytes / per;
    }
    if (slots < KV_TILE || slots > 1u << 30)
        return err_set(s->e, EXIT_USAGE, "--%s %s: that is %llu tokens of %llu bytes each; expected "
                       "%d to %d tokens", option, t ? t : "(default)", (unsigned long long)slots,
                       (unsigned long long)per, KV_TILE, 1 << 30);
    *out = slots;
    return 0;
}

/* What --kv asks for in tokens of `fmt`. A size in bytes, and the default, hold more tokens of a smaller format:
 * strategies are compared at equal memory. */
static int kv_size(struct sweep *s, enum fmt fmt)
{
    uint64_t slots = (uint64_t)s->max_len * KV_DEFAULT_SEQS, host = 0;

    if (!s->c->kv_text)
        slots = slots * model_kv_token_bytes(&s->shape, FMT_F16) / model_kv_token_bytes(&s->shape, fmt);
    if (size_in_tokens(s, "kv", s->c->kv_text, fmt, &slots) ||
        (s->c->host_kv_text && size_in_tokens(s, "host-kv", s->c->host_kv_text, fmt, &host)))
        return -1;
    s->kv_slots_asked = (uint32_t)slots;
    s->kv_bytes_asked = slots * model_kv_token_bytes(&s->shape, fmt);
    s->host_slots = (uint32_t)host / KV_TILE * KV_TILE;
    return 0;
}

/* One pool at a time, of the format that the run asks for. */
static int pool_for(struct sweep *s, enum fmt fmt)
{
    if (s->kv.n_slot && s->kv.fmt == fmt)
        return 0;
    dev_kv_close(&s->dev, &s->kv);
    if (kv_size(s, fmt))
        return -1;
    return dev_kv_open(&s->dev, &s->kv, s->shape.n_layer, s->shape.n_kv_head, s->shape.head_dim, fmt,
                       s->kv_slots_asked, s->e);
}

/* ---- rows ---- */

static int record_static(struct sweep *s)
{
    const struct trace *t = &s->trace;
    struct trace_row tr = {
        .name = t->name, .sha256 = t->sha256, .format = t->format, .licence = t->licence,
        .source = t->source, .request_count = t->n, .duration_ns = (int64_t)(s->info.span_s * 1e9),
        .prompt_tokens_total = (int64_t)s->info.prompt_tokens,
        .output_tokens_total = (int64_t)s->info.output_tokens,
        .prefix_share = s->info.prefix_share, .is_synthetic = t->is_synthetic,
    };
    char spec[1024];
    struct experiment_row x = {
        .name = s->c->name ? s->c->name : t->name, .spec_json = spec,
        .command_line = s->c->command_line, .note = s->c->note ? s->c->note : "",
    };

    snprintf(spec, sizeof spec, "{\"strategies\": %zu, \"rates\": %zu, \"repeats\": %u, \"seed\": %llu, "
             "\"max_len\": %u, \"kv_slots\": %u, \"limit\": %u}", s->c->n_strategy, s->c->n_rate,
             s->c->repeats, (unsigned long long)s->c->seed, s->max_len, s->kv_slots_asked, t->n);
    environment_read(&s->env);
    s->environment_id = recorder_environment(s->rec, &s->env.row, s->e);
    s->trace_id = s->environment_id < 0 ? -1 : recorder_trace(s->rec, &tr, s->e);
    s->res->experiment_id = s->trace_id < 0 ? -1 : recorder_experiment(s->rec, &x, s->e);
    return s->res->experiment_id < 0 ? -1 : 0;
}

static int64_t record_model(struct sweep *s, const struct model *m, const struct strategy *st)
{
    char dtype[64];
    struct model_row row = {
        .name = m->shape.name, .about = m->about, .weight_dtype = dtype, .kv_dtype = fmt_name(s->kv.fmt),
        .layers = m->shape.n_layer, .heads = m->shape.n_head, .kv_heads = m->shape.n_kv_head,
        .d_model = m->shape.dim, .vocab_size = m->shape.vocab,
        .weight_bytes = (int64_t)m->weight_bytes,
        .kv_bytes_per_token = (int64_t)model_kv_token_bytes(&m->shape, s->kv.fmt),
        .is_synthetic = m->is_synthetic, .sha256 = s->sha256,
    };

    params_name(&st->prec_params, st->prec->name, dtype, sizeof dtype);
    return recorder_model(s->rec, &row, s->e);
}

static int64_t knob_or(const struct params *p, const char *name, int64_t otherwise)
{
    for (size_t i = 0; p->knob && p->knob[i].name; i++)
        if (!strcmp(p->knob[i].name, name))
            return p->value[i];
    return otherwise;
}

static int64_t record_strategy(struct sweep *s, const struct strategy *st)
{
    char config[400], dtype[64];
    struct strategy_row row = {
        .name = st->name, .config_json = config, .scheduler = st->sched->name,
        .memory = st->kv->name, .weight_dtype = dtype, .kv_dtype = fmt_name(s->kv.fmt),
        .kv_block_tokens = knob_or(&st->kv_params, "block", 0),
        .max_batch = knob_or(&st->sched_params, "batch", 0),
        .token_budget = knob_or(&st->sched_params, "budget", 0),
    };

    snprintf(config, sizeof config, "{\"strategy\": \"%s\", \"preset\": \"%s\"}", st->name,
             st->preset);
    params_name(&st->prec_params, st->prec->name, dtype, sizeof dtype);
    return recorder_strategy(s->rec, &row, s->e);
}

/* How many blocks this manager makes of the pool: asked of the manager itself. -1 with e filled. */
static int64_t blocks_total(struct sweep *s, const struct strategy *st)
{
    struct kv_env env = { .params = st->kv_params, .n_slot = s->kv.n_slot,
                          .n_host_slot = s->host_slots, .max_len = s->max_len };
    struct arena a = { 0 };
    struct kv kv;
    int64_t n = -1;

    if (!kv_open(&kv, st->kv, &env, &a, s->e))
        n = kv.ops->count(&kv).blocks_total;
    kv_close(&kv);
    arena_free(&a);
    return n;
}

static int64_t begin_run(struct sweep *s, const struct model *m, const struct strategy *st,
                         double rate, uint32_t repeat, uint32_t order)
{
    char slo[160], pair[64], params[200];
    struct run_row row = {
        .experiment_id = s->res->experiment_id, .trace_id = s->trace_id,
        .environment_id = s->environment_id, .backend = s->dev.label,
        .device = s->dev.ops->name, .clock = s->dev.is_virtual ? "virtual" : "monotonic",
        .pace = pace_name[s->dev.pace], .loop = "open", .rate_scale = rate,
        .seed = (int64_t)s->c->seed, .repeat_index = repeat, .order_index = order, .pair_key = pair,
        .slo_json = slo, .params_json = params, .kv_bytes_asked = (int64_t)s->kv_bytes_asked,
        .kv_slots_obtained = s->kv.n_slot, .max_len = s->max_len,
    };

    snprintf(slo, sizeof slo, "{\"ttft_ms\": %.6g, \"tpot_ms\": %.6g, \"e2e_ms\": %.6g}",
             s->slo.ttft_ms, s->slo.tpot_ms, s->slo.e2e_ms);
    snprintf(pair, sizeof pair, "r%u x%.6g", repeat, rate);
    snprintf(params, sizeof params, "{\"log\": %d, \"threads\": %d}", s->c->log,
             s->c->device_conf.n_thread);
    row.kv_blocks_total = blocks_total(s, st);
    row.model_id = row.kv_blocks_total < 0 ? -1 : record_model(s, m, st);
    row.strategy_id = row.model_id < 0 ? -1 : record_strategy(s, st);
    if (row.strategy_id < 0)
        return -1;
    return recorder_run_begin(s->rec, &row, !s->dev.is_virtual, s->e);
}

static int end_run(struct sweep *s, const struct replay_result *r, const struct validity *v,
                   const char *status, const struct op_total *total)
{
    struct run_end row = {
        .status = status, .validity = v->word, .reasons = v->reasons,
        .window_start_ns = (int64_t)r->first_arrival_ns, .window_end_ns = (int64_t)r->last_finish_ns,
        .duration_ns = (int64_t)(r->end_ns - r->start_ns), .peak_host_bytes = peak_host_bytes(),
        .peak_device_bytes = (int64_t)s->dev.peak_bytes, .steps = (int64_t)r->steps,
        .idle_ns = (int64_t)r->idle_ns,
        .skipped_ns = s->dev.pace == PACE_SKIP ? (int64_t)r->idle_ns : 0,
    };

    if (s->dev.is_virtual)
        row.peak_host_bytes = 0;                /* equal runs give equal rows */
    for (int i = 0; i < OP_N; i++) {
        row.flops += total[i].flops;
        row.bytes += total[i].bytes;
    }
    return recorder_run_end(s->rec, &row, s->e);
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

static int one_run(struct sweep *s, const struct strategy *st, double rate, uint32_t repeat,
                   uint32_t order)
{
    struct replay_conf rc = {
        .trace = &s->trace, .strategy = st, .kv_pool = &s->kv, .max_len = s->max_len, .max_new = declared(s), .rate_scale = rate, .seed = s->c->seed, .log = s->c->log,
        .recorder = s->rec, .stop = &stop_asked, .progress = &s->progress.live,
        .max_ns = (uint64_t)(s->c->max_duration_s * 1e9),
    };
    struct replay_result r;
    struct validity v;
    struct quiet before, after;
    struct err e = { 0 };
    int failed;

    if (pool_for(s, choice_kv(st)))
        return -1;
    if (s->c->show_text) {
        s->texts.strategy = st->name;
        rc.on_done = texts_show;
        rc.on_done_self = &s->texts;
    }
    rc.kv_slots = s->kv.n_slot;
    rc.host_slots = s->host_slots;
    rc.model = loaded_get(&s->models, st, s->e);
    if (!rc.model || begin_run(s, rc.model, st, rate, repeat, order) < 0)
        return -1;
    progress_run(&s->progress, order, st->name, s->trace.n,
                 s->info.prompt_tokens + s->info.output_tokens);
    memset(s->dev.total, 0, sizeof s->dev.total);
    quiet_read(&before);
    failed = replay_run(&rc, &r, &e);
    quiet_read(&after);
    validity_judge(&v, &rc, &r, s->dev.is_virtual, s->dev.pace,
                   s->dev.is_virtual ? 0 : quiet_others(&before, &after));
    progress_run_done(&s->progress);
    s->res->n_run++;
    if (failed) {
        v.word = "invalid";
        snprintf(v.reasons, sizeof v.reasons, "%.590s", e.text);
        s->res->n_failed++;
        fprintf(stderr, "servelab: run of %s failed: %s\n", st->name, e.text);
        return end_run(s, &r, &v, "failed", s->dev.total);
    }
    if (stop_asked) {
        s->res->interrupted = true;
        return end_run(s, &r, &v, "aborted", s->dev.total);
    }
    s->res->n_done++;
    s->res->n_invalid += !strcmp(v.word, "invalid");
    return end_run(s, &r, &v, "done", s->dev.total);
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

    fprintf(stderr, "%s: %u requests, %llu prompt + %llu output tokens%s\n", s->trace.name, s->trace.n,
            (unsigned long long)s->info.prompt_tokens, (unsigned long long)s->info.output_tokens,
            s->trace.is_synthetic ? " (synthetic trace)" : "");
    fprintf(stderr, "%s on %s%s%s; %s\n", s->shape.name, s->dev.label, *s->c->device_note ? "; " : "",
            s->c->device_note, s->models.source.about);
    if (*s->texts.note)
        fprintf(stderr, "%s\n", s->texts.note);
    fprintf(stderr, "KV pool %u tokens = %.1f MiB%s, sequences up to %u tokens, idle time: %s\n",
            s->kv.n_slot, (double)s->kv.bytes / 0x1p20,
            s->kv.n_slot < s->kv_slots_asked / KV_TILE * KV_TILE ? " (fewer than asked: memory)" : "",
            s->max_len, pace_name[s->dev.pace]);
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

/* Scales are read where they are asked for, and asked for where they are given. */
static int scales(struct sweep *s)
{
    bool wanted = false;

    if (s->c->scales && loaded_scales(&s->models, s->c->scales, s->sha256, s->e))
        return -1;
    for (size_t i = 0; i < s->c->n_strategy; i++) {
        wanted = wanted || loaded_wants_scales(&s->c->strategy[i]);
        if (!loaded_source(&s->models, &s->c->strategy[i], s->e))
            return -1;
    }
    return wanted || !s->c->scales ? 0
         : err_set(s->e, EXIT_USAGE, "--scales %s: no strategy's precision has awq=on, such as int4:awq=on", s->c->scales);
}

static int prepare(struct sweep *s)
{
    const struct sweep_conf *c = s->c;
    struct trace_options o = c->trace_options;

    if (model_find(&s->files, c->model, c->seed, s->e) || model_files_sha256(&s->files, s->sha256, s->e))
        return -1;
    s->shape = s->files.shape;
    if (texts_open(&s->texts, &s->files, c->show_text, &o.texts, s->e))
        return -1;
    o.max_context = s->shape.max_context;
    if (trace_read(&s->trace, c->trace_path, &o, s->e) ||
        texts_encode(&s->texts, &s->trace, s->shape.max_context, s->e) || ids_fit(s) ||
        trace_stat(&s->trace, &s->info, s->e))
        return -1;
    s->slo = c->has_slo ? c->slo : s->trace.slo;
    s->max_len = c->max_len ? c->max_len : default_max_len(s);
    if (s->max_len > s->shape.max_context)
        return err_set(s->e, EXIT_USAGE, "--max-len %u: model %s ends at %u tokens", s->max_len,
                       s->shape.name, s->shape.max_context);
    if (kv_size(s, FMT_F16) || dev_open(&s->dev, c->device, &c->device_conf, s->e) ||
        device_can(s) || loaded_open_from(&s->models, &s->dev, &s->shape, &s->files.source) || scales(s) || pool_for(s, FMT_F16))
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
    if (!s->rec || record_static(s))
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
