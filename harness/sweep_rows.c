#include "harness/sweep_parts.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sweep_begin_rows(struct sweep *s)
{
    const struct trace *t = &s->trace;
    const char *chat = s->texts.chat;
    const char *profile = s->dev.profile ? s->dev.profile : "null";    /* JSON, as its reader saw to */
    size_t room = strlen(profile) + 1024;
    char *spec = malloc(room), format[80];
    struct trace_row tr = {
        .name = t->name, .sha256 = t->sha256, .format = format, .licence = t->licence,
        .source = t->source, .request_count = t->n, .duration_ns = (int64_t)(s->info.span_s * 1e9),
        .prompt_tokens_total = (int64_t)s->info.prompt_tokens,
        .output_tokens_total = (int64_t)s->info.output_tokens,
        .prefix_share = s->info.prefix_share, .is_synthetic = t->is_synthetic,
    };
    struct experiment_row x = {
        .name = s->c->name ? s->c->name : t->name, .spec_json = spec,
        .command_line = s->c->command_line, .note = s->c->note ? s->c->note : "",
    };

    /* The same file asked in chat form is other work: a row of its own, which nothing is compared across. */
    snprintf(format, sizeof format, "%s%s%s", t->format, chat ? " in chat form " : "", chat ? chat : "");
    if (!spec)
        return err_set(s->e, EXIT_RUN_FAILED, "out of memory");
    snprintf(spec, room, "{\"strategies\": %zu, \"rates\": %zu, \"repeats\": %u, \"seed\": %llu, "
             "\"max_len\": %u, \"kv_slots\": %u, \"kv\": \"%s\", \"device_bytes\": %llu, \"limit\": %u, "
             "\"chat\": \"%s\", \"profile_sha256\": \"%s\", \"profile\": %s}", s->c->n_strategy, s->c->n_rate,
             s->c->repeats, (unsigned long long)s->c->seed, s->max_len, s->kv_slots_asked,
             s->c->kv_text ? s->c->kv_text : "", (unsigned long long)s->dev.mem_bytes, t->n, chat ? chat : "",
             s->dev.profile_sha256, profile);
    environment_read(&s->env);
    s->environment_id = recorder_environment(s->rec, &s->env.row, s->e);
    s->trace_id = s->environment_id < 0 ? -1 : recorder_trace(s->rec, &tr, s->e);
    s->res->experiment_id = s->trace_id < 0 ? -1 : recorder_experiment(s->rec, &x, s->e);
    free(spec);
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
    json_t *config = json_pack("{s:s, s:s, s:s}", "strategy", st->name, "preset", st->preset, "label", st->label);
    char *text = config ? json_dumps(config, 0) : NULL, dtype[64];
    int64_t id;
    struct strategy_row row = {
        .name = st->name, .config_json = text, .scheduler = st->sched->name,
        .memory = st->kv->name, .weight_dtype = dtype, .kv_dtype = fmt_name(s->kv.fmt),
        .kv_block_tokens = knob_or(&st->kv_params, "block", 0),
        .max_batch = knob_or(&st->sched_params, "batch", 0),
        .token_budget = knob_or(&st->sched_params, "budget", 0),
    };

    json_decref(config);
    if (!text)
        return err_set(s->e, EXIT_RUN_FAILED, "out of memory");
    params_name(&st->prec_params, st->prec->name, dtype, sizeof dtype);
    id = recorder_strategy(s->rec, &row, s->e);
    free(text);
    return id;
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

int64_t sweep_begin_run(struct sweep *s, const struct model *m, const struct strategy *st,
                         double rate, uint32_t repeat, uint32_t order)
{
    char slo[160], pair[64], params[300];
    struct run_row row = {
        .experiment_id = s->res->experiment_id, .trace_id = s->trace_id,
        .environment_id = s->environment_id, .backend = s->dev.label,
        .device = s->dev.ops->name, .clock = s->dev.is_virtual ? "virtual" : "monotonic",
        .pace = pace_name[s->dev.pace], .loop = "open", .rate_scale = rate,
        .seed = (int64_t)s->c->seed, .repeat_index = repeat, .order_index = order, .pair_key = pair,
        .slo_json = slo, .params_json = params, .gaps_only = s->c->log < LOG_TOKEN,
        .kv_bytes_asked = (int64_t)s->kv_bytes_asked,
        .kv_slots_obtained = s->kv.n_slot, .max_len = s->max_len,
    };

    snprintf(slo, sizeof slo, "{\"ttft_ms\": %.6g, \"tpot_ms\": %.6g, \"e2e_ms\": %.6g}",
             s->slo.ttft_ms, s->slo.tpot_ms, s->slo.e2e_ms);
    snprintf(pair, sizeof pair, "r%u x%.6g", repeat, rate);
    snprintf(params, sizeof params, "{\"log\": %d, \"threads\": %d%s%s%s%s%s%s}", s->c->log,
             s->c->device_conf.n_thread,
             s->texts.chat ? ", \"chat\": \"" : "", s->texts.chat ? s->texts.chat : "", s->texts.chat ? "\"" : "",
             s->dev.profile ? ", \"profile_sha256\": \"" : "", s->dev.profile_sha256, s->dev.profile ? "\"" : "");
    row.kv_blocks_total = blocks_total(s, st);
    row.model_id = row.kv_blocks_total < 0 ? -1 : record_model(s, m, st);
    row.strategy_id = row.model_id < 0 ? -1 : record_strategy(s, st);
    if (row.strategy_id < 0)
        return -1;
    return recorder_run_begin(s->rec, &row, !s->dev.is_virtual, s->e);
}

int sweep_end_run(struct sweep *s, const struct replay_result *r, const struct validity *v,
                   const char *status, const struct op_total *total)
{
    struct run_end row = {
        .status = status, .validity = v->word, .reasons = v->reasons,
        .window_start_ns = (int64_t)r->first_arrival_ns, .window_end_ns = (int64_t)r->window_end_ns,
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
