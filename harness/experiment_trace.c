/* experiment_trace.c - traces of experiments, made from a few numbers that stand in sweep.json.
 *
 * Each client is a Poisson process with its own lengths; the clients' requests are merged by arrival. A draw
 * that is longer than the client allows is drawn again, as papers cut their data sets. A tenant's requests are
 * called TENANT-0, TENANT-1 ..., since the store keeps ids and not tenants. What must stay true: a client's
 * requests depend on the seed and its place in the list only. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/home.h"
#include "base/num.h"
#include "harness/experiment.h"

struct lengths { double mu, sigma; uint32_t fixed, most; };
struct client {
    const char *tenant;
    uint32_t count, longest;
    int32_t priority;
    double rate;
    struct lengths prompt, output;
};

int experiment_shared(const char *name, char *path, size_t n)
{
    const char *env = getenv("SERVELAB_SHARED");

    if (env && *env)
        snprintf(path, n, "%s/traces/%s", env, name);
    else
        snprintf(path, n, "%s/../shared/traces/%s", home_dir(), name);
    return access(path, R_OK);
}

static int read_lengths(struct lengths *l, json_t *o, struct err *e)
{
    double mean = 0, median = 0, sigma = 0;
    int fixed = 0, most = 0;
    json_error_t je;

    if (json_unpack_ex(o, &je, JSON_STRICT, "{s?F, s?F, s?F, s?i, s?i}", "mean", &mean, "median",
                       &median, "sigma", &sigma, "fixed", &fixed, "most", &most))
        return err_set(e, EXIT_USAGE, "trace: lengths: %s", je.text);
    if ((fixed > 0) + (mean > 0) + (median > 0) != 1 || fixed < 0 || most < 0 || sigma < 0 ||
        sigma > 5)
        return err_set(e, EXIT_USAGE, "trace: lengths: expected one of fixed, mean, median, above 0, "
                       "and sigma from 0 to 5");
    l->fixed = (uint32_t)fixed;
    l->most = most ? (uint32_t)most : TRACE_MAX_OUTPUT;
    l->sigma = sigma;
    l->mu = fixed ? 0 : median > 0 ? log(median) : log(mean) - sigma * sigma / 2;
    return 0;
}

static int read_client(struct client *c, json_t *o, double scale, struct err *e)
{
    int count = 0, longest = TRACE_MAX_OUTPUT, priority = 0;
    json_t *prompt = NULL, *output = NULL;
    json_error_t je;

    c->tenant = NULL;
    if (json_unpack_ex(o, &je, JSON_STRICT, "{s?s, s:i, s:F, s?i, s?i, s:o, s:o}", "tenant", &c->tenant,
                       "count", &count, "rate", &c->rate, "longest", &longest, "priority", &priority,
                       "prompt", &prompt, "output", &output))
        return err_set(e, EXIT_USAGE, "trace: client: %s", je.text);
    if (count < 1 || count > 1000000 || !(c->rate > 0) || longest < 2)
        return err_set(e, EXIT_USAGE, "trace: client: expected count from 1 to 1000000, rate above 0 and "
                       "longest from 2");
    c->count = (uint32_t)ceil(count * scale);
    c->longest = (uint32_t)longest;
    c->priority = priority;
    return read_lengths(&c->prompt, prompt, e) || read_lengths(&c->output, output, e) ? -1 : 0;
}

static uint32_t draw(const struct lengths *l, struct rng *r)
{
    double v;

    if (l->fixed)
        return l->fixed;
    do
        v = ceil(exp(l->mu + l->sigma * rng_normal(r)));
    while (v < 1 || v > l->most);
    return (uint32_t)v;
}

static int add_client(struct trace *t, const struct client *c, uint64_t seed, struct err *e)
{
    struct trace_more *more = NULL;
    struct rng r;
    double at = 0;

    rng_seed(&r, seed);
    if (c->tenant || c->priority) {
        if (!(more = ARENA_NEW(&t->arena, struct trace_more, 1)))
            return err_set(e, EXIT_RUN_FAILED, "out of memory");
        more->tenant = c->tenant ? arena_str(&t->arena, c->tenant) : NULL;
        more->priority = c->priority;
        more->think_s = -1;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        struct trace_req *q = &t->req[t->n++];

        at += -log(1 - rng_unit(&r)) * 1e6 / c->rate;
        q->arrive_us = (int64_t)at;
        q->more = more;
        q->id = c->tenant ? arena_fmt(&t->arena, "%s-%u", c->tenant, i) : NULL;
        for (int tries = 0; tries < 1000; tries++) {
            q->n_prompt = draw(&c->prompt, &r);
            q->n_out = draw(&c->output, &r);
            if (q->n_prompt + q->n_out <= c->longest)
                break;
        }
        if (q->n_prompt + q->n_out > c->longest)
            return err_set(e, EXIT_USAGE, "trace: client: no lengths fit 'longest'");
    }
    return 0;
}

static int by_arrival(const void *a, const void *b)
{
    const struct trace_req *x = a, *y = b;

    if (x->arrive_us != y->arrive_us)
        return x->arrive_us < y->arrive_us ? -1 : 1;
    return x->n_prompt != y->n_prompt ? (x->n_prompt < y->n_prompt ? -1 : 1)
         : x->n_out != y->n_out ? (x->n_out < y->n_out ? -1 : 1) : 0;
}

static void name_trace(struct trace *t, json_t *recipe, const char *name)
{
    char *text = json_dumps(recipe, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));

    snprintf(t->name, sizeof t->name, "%s", name);
    snprintf(t->format, sizeof t->format, "serving-trace/1");
    snprintf(t->recipe, sizeof t->recipe, "experiment %.490s", text ? text : "");
    snprintf(t->source, sizeof t->source, "made by servelab experiment from a recipe, not recorded");
    t->is_synthetic = true;
    free(text);
}

int experiment_trace(struct trace *t, json_t *recipe, double scale, const char *name, struct err *e)
{
    enum { CLIENTS = 64 };
    struct client c[CLIENTS];
    json_t *list = NULL, *o;
    json_error_t je;
    int seed = 1;
    size_t i, n = 0;

    memset(t, 0, sizeof *t);
    if (json_unpack_ex(recipe, &je, JSON_STRICT, "{s:i, s:o}", "seed", &seed, "clients", &list))
        return err_set(e, EXIT_USAGE, "trace: %s", je.text);
    if (!json_is_array(list) || !json_array_size(list) || json_array_size(list) > CLIENTS)
        return err_set(e, EXIT_USAGE, "trace: clients: expected a list of 1 to %d", CLIENTS);
    json_array_foreach(list, i, o) {
        if (read_client(&c[i], o, scale, e))
            return -1;
        n += c[i].count;
    }
    t->req = ARENA_NEW(&t->arena, struct trace_req, n);
    if (!t->req)
        return err_set(e, EXIT_RUN_FAILED, "out of memory for %zu requests", n);
    json_array_foreach(list, i, o)
        if (add_client(t, &c[i], hash64((uint64_t)seed, i), e))
            return -1;
    qsort(t->req, t->n, sizeof *t->req, by_arrival);
    name_trace(t, recipe, name);
    return 0;
}
