/* stat.c - what a trace is, in figures: rate, burstiness, lengths, how much prompt repeats.
 *
 * Quantiles are nearest rank: the value at position ceil(q n). Undefined figures are NaN, never
 * inf. The prefix share is what a prefix cache without limit would find, empty at the start: a
 * prompt hits block by block, or token by token where its ids are known, up to its first miss. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "workloads/reader.h"

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* p50 p90 p99 max mean of v[0..n), which it sorts. */
static void quantiles(uint32_t *v, uint32_t n, double out[5])
{
    static const double at[] = { 0.50, 0.90, 0.99 };
    double sum = 0;

    qsort(v, n, sizeof *v, by_value);
    for (int i = 0; i < 3; i++) {
        uint32_t rank = (uint32_t)ceil(at[i] * n - 1e-9);

        out[i] = v[rank ? rank - 1 : 0];
    }
    for (uint32_t i = 0; i < n; i++)
        sum += v[i];
    out[3] = v[n - 1];
    out[4] = sum / n;
}

static int stat_lengths(const struct trace *t, struct trace_info *out, struct err *e)
{
    uint32_t *v = malloc((size_t)t->n * sizeof *v);

    if (!v)
        return err_set(e, EXIT_RUN_FAILED, "trace %s: out of memory", t->name);
    for (uint32_t i = 0; i < t->n; i++) {
        v[i] = t->req[i].n_prompt;
        out->prompt_tokens += v[i];
        if (v[i] + t->req[i].n_out > out->longest)
            out->longest = v[i] + t->req[i].n_out;
    }
    quantiles(v, t->n, out->prompt_q);
    for (uint32_t i = 0; i < t->n; i++) {
        v[i] = t->req[i].n_out;
        out->output_tokens += v[i];
    }
    quantiles(v, t->n, out->output_q);
    free(v);
    return 0;
}

static void stat_gaps(const struct trace *t, struct trace_info *out)
{
    double mean, square = 0, n = t->n - 1.0;
    uint32_t n_zero = 0;

    out->span_s = (double)(t->req[t->n - 1].arrive_us - t->req[0].arrive_us) * 1e-6;
    out->rate = out->gap_cv = NAN;
    if (t->n < 2)
        return;
    mean = out->span_s / n;
    for (uint32_t i = 1; i < t->n; i++) {
        int64_t gap = t->req[i].arrive_us - t->req[i - 1].arrive_us;
        double d = (double)gap * 1e-6 - mean;

        square += d * d;
        n_zero += !gap;
    }
    out->zero_gap_share = n_zero / n;
    if (out->span_s > 0) {
        out->rate = n / out->span_s;
        out->gap_cv = t->n > 2 ? sqrt(square / n) / mean : NAN;
    }
}

/* Variance over mean of the arrivals in windows of `width` seconds; whole windows only, at least
 * two. */
static double dispersion(const struct trace *t, int width)
{
    int64_t w = (int64_t)width * 1000000, from = t->req[0].arrive_us;
    int64_t n = (t->req[t->n - 1].arrive_us - from) / w;
    double sum = 0, square = 0;
    uint32_t i = 0;

    if (n < 2)
        return NAN;
    while (i < t->n) {                         /* empty windows add nothing to either sum */
        int64_t window = (t->req[i].arrive_us - from) / w;
        double count = 0;

        for (; i < t->n && (t->req[i].arrive_us - from) / w == window; i++)
            count++;
        if (window < n) {
            sum += count;
            square += count * count;
        }
    }
    return (square - sum * sum / (double)n) / sum;
}

/* ---- prefix share ---- */
struct seen { uint64_t *slot; size_t cap, n; bool has_zero; };

/* Adds key; was it there? Room is made beforehand. 0 marks a free slot, so the key 0 has its own
 * flag. */
static bool seen_before(struct seen *s, uint64_t key, bool add)
{
    size_t i = (size_t)mix64(key) & (s->cap - 1);

    if (!key) {
        bool was = s->has_zero;

        s->has_zero = s->has_zero || add;
        return was;
    }
    while (s->slot[i] && s->slot[i] != key)
        i = (i + 1) & (s->cap - 1);
    if (s->slot[i])
        return true;
    if (add) {
        s->slot[i] = key;
        s->n++;
    }
    return false;
}

static int seen_room(struct seen *s, size_t more)
{
    struct seen big = { .cap = s->cap ? s->cap : 1024, .has_zero = s->has_zero };

    if (s->cap && s->n + more <= s->cap / 2)
        return 0;
    while (s->n + more > big.cap / 2)
        big.cap *= 2;
    if (!(big.slot = calloc(big.cap, sizeof *big.slot)))
        return -1;
    for (size_t i = 0; i < s->cap; i++)
        if (s->slot[i])
            seen_before(&big, s->slot[i], true);
    free(s->slot);
    *s = big;
    return 0;
}

/* Block ids of one session mean nothing in another when the scope says so. */
static uint64_t block_key(const struct trace *t, const struct trace_req *q, uint32_t i)
{
    const char *session = q->more ? q->more->session : NULL;

    if (!t->block_scope_session || !session)
        return q->block[i];
    return hash64(hash64_bytes(1, session, strlen(session)), q->block[i]);
}

static uint64_t block_hit(const struct trace *t, const struct trace_req *q, struct seen *s)
{
    uint64_t hit = 0;
    uint32_t i = 0;

    for (; i < q->n_block && seen_before(s, block_key(t, q, i), false); i++)
        hit += t->block_tokens;
    for (i = 0; i < q->n_block; i++)
        seen_before(s, block_key(t, q, i), true);
    return hit < q->n_prompt ? hit : q->n_prompt;
}

/* Each prefix of a prompt whose tokens are known is one key; the longest that stood before is the hit. */
static uint64_t ids_hit(const uint32_t *ids, uint32_t n, struct seen *s)
{
    uint64_t key = hash64_bytes(2, "ids", 3), hit = 0;

    for (uint32_t i = 0; i < n; i++) {
        key = hash64(key, ids[i]);
        hit += hit == i && seen_before(s, key, false);
        seen_before(s, key, true);
    }
    return hit;
}

/* What the group's longest prefix so far covers of this one. */
static int group_hit(const struct trace_more *m, struct names *groups, struct pool *pool,
                     uint64_t *hit)
{
    struct name *g = names_put(groups, pool, m->prefix_group);

    if (!g)
        return -1;
    *hit = g->value < m->prefix_tokens ? g->value : m->prefix_tokens;
    if (m->prefix_tokens > g->value)
        g->value = m->prefix_tokens;
    return 0;
}

static int stat_prefix(const struct trace *t, struct trace_info *out)
{
    struct arena arena = { 0 };
    struct pool pool = { .arena = &arena };
    struct names groups = { 0 };
    struct seen seen = { 0 };
    uint64_t all = 0, hit = 0;
    int rc = 0;

    for (uint32_t i = 0; i < t->n && !rc; i++, all += hit, hit = 0) {
        const struct trace_req *q = &t->req[i];
        const uint32_t *ids = q->more ? q->more->prompt_ids : NULL;

        if ((q->n_block || ids) && (rc = seen_room(&seen, q->n_block ? q->n_block : q->n_prompt)))
            continue;
        if (q->n_block)
            hit = block_hit(t, q, &seen);
        else if (ids)
            hit = ids_hit(ids, q->n_prompt, &seen);
        else if (q->more && q->more->prefix_group)
            rc = group_hit(q->more, &groups, &pool, &hit);
    }
    out->prefix_share = (double)all / (double)out->prompt_tokens;
    free(seen.slot);
    names_free(&groups);
    arena_free(&arena);
    return rc;
}

int trace_stat(const struct trace *t, struct trace_info *out, struct err *e)
{
    static const int widths[] = { 1, 10, 60 };

    memset(out, 0, sizeof *out);
    if (!t->n)
        return err_set(e, EXIT_USAGE, "trace %s: no requests", t->name);
    if (stat_lengths(t, out, e))
        return -1;
    stat_gaps(t, out);
    for (int i = 0; i < 3; i++)
        out->dispersion[i] = dispersion(t, widths[i]);
    if (stat_prefix(t, out))
        return err_set(e, EXIT_RUN_FAILED, "trace %s: out of memory", t->name);
    return 0;
}
