/* generate.c - synthetic traces from published figures: lengths, arrivals, and a prefix structure.
 *
 * Lengths come from quantile tables, one draw from each of n equal strata in random order, so that
 * 64 requests already have the published mean. Gaps are Gamma (shape 1 / CV^2) or on/off bursts,
 * then scaled so that the rate is exactly the one asked for. A prompt's length is drawn first; then
 * the request may continue a session whose history fits into it, or begin a new one with a shared
 * system prompt. So the lengths follow the tables whatever the structure. The next turn shares the
 * whole blocks of the prompt before it; the answer between them is new text, since a replay
 * generates other tokens. Stays true: the same recipe, options and seed give the same bytes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/params.h"
#include "workloads/reader.h"
#include "workloads/recipes.h"

enum { BLOCK = 16, N_OPEN = 64, MAX_N = 20000000, MIN_NEW = 4, SYSTEM_IDS = 1000 };

struct session {
    uint32_t number, turn;         /* turn 0: the place is free */
    uint32_t history;              /* tokens the next prompt repeats: prompt and answer so far */
    uint32_t n_prompt;             /* of the last turn */
    int64_t last_us;
    const uint64_t *block;         /* of the last turn */
};

struct gen {
    const struct recipe *c;
    struct recipe_options o;
    struct trace *t;
    struct pool pool;
    struct rng rng;
    uint64_t next_block;
    uint32_t n_session;
    struct session open[N_OPEN];
};

/* Value at u in [0, 1): linear between the table's entries. */
static double quantile_at(const struct quantile *q, double u)
{
    double p = u * 100;
    int i = 1;

    while (i < N_QUANTILE - 1 && q[i].percent < p)
        i++;
    return q[i - 1].value + (q[i].value - q[i - 1].value) * (p - q[i - 1].percent) /
           (q[i].percent - q[i - 1].percent);
}

/* One length from each of n strata, in random order. */
static int draw_lengths(struct gen *g, const struct quantile *q, uint32_t *out)
{
    uint32_t n = g->o.n;

    for (uint32_t i = 0; i < n; i++) {
        double v = quantile_at(q, (i + rng_unit(&g->rng)) / n) / g->c->shrink;

        out[i] = v < 1 ? 1 : (uint32_t)(v + 0.5);
    }
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)rng_below(&g->rng, i), v = out[i - 1];

        out[i - 1] = out[j];
        out[j] = v;
    }
    return 0;
}

static double lognormal(struct rng *r, double mu, double sigma)
{
    return exp(mu + sigma * rng_normal(r));
}

/* The next gap of the on/off law; left: requests that remain in the burst. */
static double on_off_gap(struct rng *r, const struct on_off *w, double *left)
{
    double pause;

    if ((*left -= 1) >= 1)
        return rng_gamma(r, w->gap_shape) * w->gap_scale;
    *left = lognormal(r, w->burst_mu, w->burst_sigma);
    do
        pause = lognormal(r, w->pause_mu, w->pause_sigma);
    while (pause < w->pause_min);
    return pause;
}

/* Arrival times with the wanted law of gaps, scaled to the wanted rate. */
static int draw_arrivals(struct gen *g, double *at)
{
    double now = 0, left = lognormal(&g->rng, code_on_off.burst_mu, code_on_off.burst_sigma), scale;

    for (uint32_t i = 0; i < g->o.n; i++) {
        at[i] = now;
        now += g->o.cv > 0 ? rng_gamma(&g->rng, 1 / (g->o.cv * g->o.cv)) :
               on_off_gap(&g->rng, &code_on_off, &left);
    }
    scale = g->o.n > 1 && at[g->o.n - 1] > 0 ? (g->o.n - 1) / g->o.rate / at[g->o.n - 1] : 0;
    for (uint32_t i = 0; i < g->o.n; i++)
        at[i] *= scale;
    return 0;
}

/* A session that this prompt can continue: rested, not too long a history, turns left. */
static struct session *find_session(struct gen *g, uint32_t n_prompt, int64_t now_us)
{
    uint64_t from = rng_below(&g->rng, N_OPEN);
    int64_t rest_us = (int64_t)(g->c->think_s * 1e6);
    struct session *best = NULL;

    for (uint64_t i = 0; i < N_OPEN; i++) {
        struct session *s = &g->open[(from + i) % N_OPEN];

        if (s->turn && s->turn < g->c->max_turn && s->last_us + rest_us <= now_us &&
            s->history + MIN_NEW <= n_prompt && (!best || s->history > best->history))
            best = s;
    }
    return best;
}

/* A free place, or else that of the session which rested longest. */
static struct session *new_session(struct gen *g)
{
    struct session *s = &g->open[0];

    for (size_t i = 0; i < N_OPEN && s->turn; i++)
        if (!g->open[i].turn || g->open[i].last_us < s->last_us)
            s = &g->open[i];
    *s = (struct session){ .number = g->n_session++ };
    return s;
}

/* Blocks of the shared system prompt: Zipf over the prompts, none when the request is too short for
 * it. Theirs are the block ids below N_SYSTEM * SYSTEM_IDS. */
static uint32_t system_blocks(struct gen *g, uint32_t n_prompt, uint64_t *block)
{
    static const double zipf[N_SYSTEM] = { 0.48, 0.24, 0.16, 0.12 };
    double u = rng_unit(&g->rng);
    uint32_t k = 0, n;

    while (k + 1 < N_SYSTEM && u >= zipf[k])
        u -= zipf[k++];
    n = g->c->system[k] / BLOCK;
    if (n * BLOCK + MIN_NEW > n_prompt)
        return 0;
    for (uint32_t i = 0; i < n; i++)
        block[i] = (uint64_t)k * SYSTEM_IDS + i;
    return n;
}

static int fill_row(struct gen *g, struct trace_req *q)
{
    bool goes_on = rng_unit(&g->rng) < g->c->p_continue;
    struct session *s = goes_on ? find_session(g, q->n_prompt, q->arrive_us) : NULL;
    uint32_t n = q->n_prompt / BLOCK + (q->n_prompt % BLOCK != 0), kept;
    struct trace_more *m = pool_get(&g->pool, 1, sizeof *m);
    uint64_t *block = pool_get(&g->pool, n, sizeof *block);
    char name[24];

    if (!m || !block)
        return -1;
    if (s)
        memcpy(block, s->block, (kept = s->n_prompt / BLOCK) * sizeof *block);
    else
        kept = system_blocks(g, q->n_prompt, block);
    if (!s)
        s = new_session(g);
    for (uint32_t i = kept; i < n; i++)
        block[i] = g->next_block++;
    snprintf(name, sizeof name, "s%u", s->number);
    *m = (struct trace_more){ .session = pool_str(&g->pool, name),
                              .turn = ++s->turn,
                              .think_s = -1 };
    q->block = block;
    q->n_block = n;
    q->more = m;
    s->block = block;
    s->n_prompt = q->n_prompt;
    s->history = q->n_prompt + q->n_out;
    s->last_us = q->arrive_us;
    return m->session ? 0 : -1;
}

/* No request longer than the recipe's context: the prompt gives way. */
static void limit_row(const struct recipe *c, struct trace_req *q)
{
    if (!c->max_context)
        return;
    if (q->n_out >= c->max_context)
        q->n_out = c->max_context - 1;
    if (q->n_prompt > c->max_context - q->n_out)
        q->n_prompt = c->max_context - q->n_out;
}

static int fill_rows(struct gen *g, const uint32_t *prompt, const uint32_t *output,
                     const double *at)
{
    struct trace *t = g->t;

    for (; t->n < g->o.n; t->n++) {
        struct trace_req *q = &t->req[t->n];

        q->arrive_us = llround(at[t->n] * 1e6);
        q->n_prompt = prompt[t->n];
        q->n_out = output[t->n];
        limit_row(g->c, q);
        if (fill_row(g, q))
            return -1;
    }
    return 0;
}

static void fill_header(struct gen *g)
{
    struct trace *t = g->t;
    const struct recipe *c = g->c;
    char law[64] = "on/off bursts";

    if (g->o.cv > 0)
        snprintf(law, sizeof law, "Gamma gaps cv=%g", g->o.cv);
    snprintf(t->name, sizeof t->name, "%s", c->name);
    snprintf(t->format, sizeof t->format, "serving-trace/1");
    snprintf(t->source, sizeof t->source, "%s", c->source);
    snprintf(t->licence, sizeof t->licence, "CC-BY-4.0");
    snprintf(t->recipe, sizeof t->recipe,
             "%s count=%u rate=%g seed=%llu; %s; quantile tables of lengths / "
             "%g; prefix structure assumed: continue %g, turns %g s apart, at most %u, system "
             "prompts of "
             "%u %u %u %u tokens",
             c->name, g->o.n, g->o.rate, (unsigned long long)g->o.seed, law, c->shrink,
             c->p_continue, c->think_s, c->max_turn, c->system[0], c->system[1], c->system[2],
             c->system[3]);
    t->is_synthetic = true;
    t->block_tokens = BLOCK;
    t->block_tail_partial = true;
    t->time_step_s = 1e-6;
    t->slo = c->slo;
}

static const struct recipe *find_recipe(const char *name, struct err *e)
{
    const char *names[16], *near;
    size_t n = 0;

    for (const struct recipe *c = recipes; c->name; c++) {
        if (!strcmp(c->name, name))
            return c;
        names[n++] = c->name;
    }
    near = nearest_name(name, names, n);
    err_set(e, EXIT_USAGE, "no recipe '%.100s'; %s%s%sthe recipes are chat, chat-full, code-full",
            name, near ? "did you mean '" : "", near ? near : "", near ? "'? " : "");
    return NULL;
}

static int check_options(const struct recipe *c, struct recipe_options *o, struct err *e)
{
    if (o->n > MAX_N)
        return err_set(e, EXIT_USAGE, "recipe %s: count %u is more than %d", c->name, o->n, MAX_N);
    if (!(o->rate >= 0 && o->rate <= 1e6) || (o->rate > 0 && o->rate < 1e-6))
        return err_set(e, EXIT_USAGE, "recipe %s: rate %g: must be from 1e-6 to 1e6 requests/s",
                       c->name, o->rate);
    if (!(o->cv >= 0 && o->cv <= 20) || (o->cv > 0 && o->cv < 0.01))
        return err_set(e, EXIT_USAGE, "recipe %s: cv %g: must be from 0.01 to 20", c->name, o->cv);
    o->n = o->n ? o->n : c->n;
    o->rate = o->rate > 0 ? o->rate : c->rate;
    o->cv = o->cv > 0 ? o->cv : c->cv; /* asking the on/off recipe for a CV gives it Gamma gaps */
    return 0;
}

int trace_generate(struct trace *t, const char *recipe, const struct recipe_options *o,
                   struct err *e)
{
    static const struct recipe_options none;
    struct gen g = { .o = o ? *o : none, .t = t };
    uint32_t *prompt, *output;
    double *at;
    int rc;

    memset(t, 0, sizeof *t);
    if (!(g.c = find_recipe(recipe, e)) || check_options(g.c, &g.o, e))
        return -1;
    g.pool.arena = &t->arena;
    g.next_block = N_SYSTEM * SYSTEM_IDS;
    rng_seed(&g.rng, hash64_bytes(g.o.seed, g.c->name, strlen(g.c->name)));
    t->req = ARENA_NEW(&t->arena, struct trace_req, g.o.n);
    prompt = malloc(g.o.n * sizeof *prompt);
    output = malloc(g.o.n * sizeof *output);
    at = malloc(g.o.n * sizeof *at);
    rc = !t->req || !prompt || !output || !at || draw_lengths(&g, g.c->prompt, prompt) ||
         draw_lengths(&g, g.c->output, output) || draw_arrivals(&g, at) ||
         fill_rows(&g, prompt, output, at);
    free(prompt);
    free(output);
    free(at);
    if (rc) {
        trace_free(t);
        return err_set(e, EXIT_RUN_FAILED, "recipe %s: out of memory at %u requests", recipe,
                       g.o.n);
    }
    fill_header(&g);
    return 0;
}

const char *const *recipe_names(void)
{
    static const char *const names[] = { "chat", "chat-full", "code-full", NULL };

    return names;
}
