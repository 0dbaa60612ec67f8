/* estimate.c - per precision, two probes through the replay loop itself: 4 prompts of 64 tokens with one
 * output token, and 4 prompts of 1 token with 8 output tokens. A run then costs about its prompt tokens
 * at the first rate plus its output tokens at the second, which stands for a small batch. */
#include "harness/estimate.h"

#include <stdlib.h>
#include <string.h>

#include "harness/choice.h"

static int probe(struct model *m, struct kv_pool *kv, uint32_t n_prompt, uint32_t n_out, double *s_per_token,
                 struct err *e)
{
    enum { N = 4 };
    struct trace_req req[N];
    struct trace t = { .name = "probe", .req = req, .n = N };
    struct strategy st;
    struct replay_result r;
    struct replay_conf c = {
        .trace = &t, .strategy = &st, .model = m, .kv_pool = kv, .kv_slots = kv->n_slot,
        .max_len = n_prompt + n_out, .rate_scale = 1, .seed = 1, .log = LOG_SUMMARY,
    };

    memset(req, 0, sizeof req);
    for (int i = 0; i < N; i++) {
        req[i].n_prompt = n_prompt;
        req[i].n_out = n_out;
    }
    if (strategy_parse(&st, "continuous+paged+f16", e) || replay_run(&c, &r, e))
        return -1;
    *s_per_token = (double)(r.end_ns - r.start_ns) * 1e-9 / N / (n_prompt > n_out ? n_prompt : n_out);
    return 0;
}

struct rate { const struct model *m; double per_prompt, per_out; };

static int measure(struct loaded_set *models, struct kv_pool *kv, const struct strategy *st,
                   struct rate *known, size_t *n, size_t *at, struct err *e)
{
    struct model *m = loaded_get(models, st, e);
    uint32_t n_prompt = min_u32(64, kv->n_slot / 8);

    if (!m)
        return -1;
    for (*at = 0; *at < *n; ++*at)
        if (known[*at].m == m)
            return 0;
    known[*n].m = m;
    return probe(m, kv, n_prompt, 1, &known[*n].per_prompt, e) ||
           probe(m, kv, 1, 8, &known[(*n)++].per_out, e) ? -1 : 0;
}

static bool too_big(const struct loaded_set *models, const struct kv_pool *kv, const struct strategy *st, struct err *e)
{
    struct wfmt *fmt = models->dev->mem_bytes ? choice_formats(st, models->shape.n_layer, e) : NULL;
    bool big = fmt && model_weight_bytes(&models->shape, fmt, models->dev->ops->act_bytes) + kv->bytes >
                      models->dev->mem_bytes;

    free(fmt);
    return big;
}

double estimate_sweep(const struct sweep_conf *c, struct loaded_set *models, struct kv_pool *kv,
                      const struct trace *t, const struct trace_info *info, struct err *e)
{
    struct rate known[STRATEGIES_MAX];
    double sum = 0;
    size_t n = 0, at;

    if (!models->dev->ops->computes)            /* a simulated step costs about a microsecond */
        return (double)(c->n_strategy * c->n_rate * c->repeats) *
               (0.05 + 2e-6 * (double)info->output_tokens + 2e-6 * t->n);
    for (size_t i = 0; i < c->n_strategy; i++) {
        if (too_big(models, kv, &c->strategy[i], e))
            continue;                           /* its run will say so */
        if (e->code || measure(models, kv, &c->strategy[i], known, &n, &at, e))
            return -1;
        for (size_t x = 0; x < c->n_rate; x++) {
            double run = known[at].per_prompt * (double)info->prompt_tokens +
                         known[at].per_out * (double)info->output_tokens;

            if (c->device_conf.pace == PACE_WALL && run < info->span_s / c->rate[x])
                run = info->span_s / c->rate[x];
            sum += run * c->repeats;
        }
    }
    return sum;
}
