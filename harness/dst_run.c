/* dst_run.c - runs a case and holds it against what must be true of every strategy. */
#include <stdlib.h>
#include <string.h>

#include "harness/dst.h"

/* What came of each request, next to what must come of it. */
struct want { uint32_t *tok, n; };
struct got { uint64_t admitted_ns; uint32_t n_left, n_out; };
struct watch {
    const struct dst_case *c;
    const struct want *want;
    struct got *got;               /* [trace.n] */
    uint64_t shift_ns, digest, n_preempt, tokens_out, tokens_kv;
    uint32_t kv_slots;
    uint64_t n_finished, n_rejected, n_failed, n_censored;
    uint32_t n_gone;
    volatile sig_atomic_t stop;
    struct err *e;
};

static int wrong(struct watch *w, uint32_t id, const char *what)
{
    return err_set(w->e, EXIT_RUN_FAILED, "request %u: %s", id, what);
}

/* ---- as each request leaves ---- */

static void times_in_order(struct watch *w, const struct replay_done *d)
{
    bool begun = d->admitted_ns != UINT64_MAX, spoke = d->first_ns != UINT64_MAX;

    if (d->arrive_ns != (uint64_t)w->c->trace.req[d->r->id].arrive_us * 1000)
        wrong(w, d->r->id, "its arrival is not the trace's");
    if (spoke != (d->r->n_out > 0) || (spoke && !begun))
        wrong(w, d->r->id, "its first token and its number of tokens disagree");
    if ((begun && d->admitted_ns < d->arrive_ns) || (spoke && d->first_ns <= d->admitted_ns) ||
        (spoke && d->last_ns < d->first_ns))
        wrong(w, d->r->id, "arrival, admission, first and last token are not in this order");
}

static void tokens_as_alone(struct watch *w, const struct replay_done *d)
{
    const struct want *x = &w->want[d->r->id];
    uint64_t hash = 0;

    if (d->r->n_out > x->n) {
        wrong(w, d->r->id, "more tokens than it has alone");
        return;
    }
    for (uint32_t i = 0; i < d->r->n_out; hash = hash64(hash, d->tokens[i++]))
        if (d->tokens[i] != x->tok[i]) {
            err_set(w->e, EXIT_RUN_FAILED,
                    "request %u: token %u of %u differs from running alone (%s)", d->r->id, i, x->n,
                    w->c->strategy);
            return;
        }
    if (d->hash != hash)
        wrong(w, d->r->id, "its hash is not that of its tokens");
}

static bool may_be_refused(const struct watch *w, const struct trace_req *q)
{
    return q->n_prompt + q->n_out > w->c->max_len || w->kv_slots < 2 * w->c->max_len + 512;
}

static void status_is_right(struct watch *w, const struct replay_done *d)
{
    const struct trace_req *q = &w->c->trace.req[d->r->id];
    uint32_t full = w->want[d->r->id].n;

    if (!strcmp(d->status, "finished")) {
        w->n_finished++;
        if (d->r->n_out != q->n_out || full != q->n_out)
            wrong(w, d->r->id, "finished with another number of tokens");
    } else if (!strcmp(d->status, "failed")) {
        w->n_failed++;
        if (full == q->n_out || d->r->n_out != full)
            wrong(w, d->r->id, "failed where it does not fail alone");
    } else if (!strcmp(d->status, "rejected")) {
        w->n_rejected++;
        if (!may_be_refused(w, q))
            wrong(w, d->r->id, "refused although it fits");
    } else {
        w->n_censored++;
        if (!w->c->stop_after && !w->c->max_ns)
            wrong(w, d->r->id, "censored, and nobody stopped the run");
    }
    if (!d->reason || !*d->reason)
        wrong(w, d->r->id, "left without a reason");
}

static void note(void *self, const struct replay_done *d)
{
    struct watch *w = self;
    uint64_t when[4] = { d->arrive_ns, d->admitted_ns, d->first_ns, d->last_ns };
    struct got *g = &w->got[d->r->id];

    if (g->n_left++)
        wrong(w, d->r->id, "left twice");
    g->admitted_ns = d->admitted_ns;
    g->n_out = d->r->n_out;
    w->n_preempt += d->r->n_preempt;
    w->tokens_out += d->r->n_out;
    if (strcmp(d->status, "rejected"))
        w->tokens_kv += d->r->n_prompt + d->r->n_out - !strcmp(d->status, "finished");
    status_is_right(w, d);
    times_in_order(w, d);
    tokens_as_alone(w, d);
    w->digest = hash64(hash64(w->digest, d->r->id), hash64(d->hash, d->r->n_out));
    for (int i = 0; i < 4; i++)
        w->digest = hash64(w->digest, when[i] == UINT64_MAX ? when[i] : when[i] - w->shift_ns);
    if (++w->n_gone == w->c->stop_after)
        w->stop = 1;
}

/* ---- at the end of a run ---- */

/* These let in by arrival, whatever their knobs: all, or those of one tenant, or of one priority. Who passes
 * over a prompt that can share later does so with defer=off only. */
static const char *const first_come[] = { "continuous", "chunked", "list_order", "decodes_first", "static",
                                          "dynamic", "served_ratio", "expected", "no_evict",
                                          "max_utilisation", NULL };
static const char *const by_tenant[] = { "fair", NULL };
static const char *const by_priority[] = { "priority", NULL };
/* These take KV away for other reasons than memory: the end of a leg, somebody more urgent, a slot. */
static const char *const may_preempt[] = { "served_ratio", "priority", "shortest",
                                          "feedback", NULL };

static bool is_one_of(const char *const *names, const char *strategy)
{
    size_t len = strcspn(strategy, ":+");

    for (; *names; names++)
        if (strlen(*names) == len && !strncmp(strategy, *names, len))
            return true;
    return false;
}

/* A prompt that max_utilisation passed over for a step takes a younger one's seat. */
static bool may_take_away(const char *strategy)
{
    static const char *const pauses[] = { "max_utilisation", NULL };

    return is_one_of(may_preempt, strategy) ||
           (is_one_of(pauses, strategy) && !strstr(strategy, ":defer=off"));
}

/* Requests of one class are let in by arrival. -1: this one is in no class. */
static int64_t class_of(const struct watch *w, uint32_t i)
{
    const struct trace_more *m = w->c->trace.req[i].more;
    const char *s = w->c->strategy;

    if (is_one_of(first_come, s))
        return (strncmp(s, "no_evict", 8) && strncmp(s, "max_util", 8)) || strstr(s, "defer=off") ? 0 : -1;
    if (is_one_of(by_tenant, s))
        return m && m->tenant ? (int64_t)(hash64_bytes(1, m->tenant, strlen(m->tenant)) >> 2) : 0;
    return is_one_of(by_priority, s) ? (m ? m->priority : 0) + INT64_C(0x80000000) : -1;
}

/* P8. Quadratic in few requests. */
static void order_kept(struct watch *w)
{
    for (uint32_t i = 0; i < w->c->trace.n; i++) {
        int64_t class = class_of(w, i);

        for (uint32_t k = 0; class >= 0 && w->got[i].n_left && k < i; k++)
            if (class_of(w, k) == class && w->got[k].n_left && w->got[k].admitted_ns != UINT64_MAX &&
                w->got[i].admitted_ns < w->got[k].admitted_ns)
                wrong(w, i, "admitted before one of its class that arrived earlier");
    }
}

static int sums_agree(struct watch *w, const struct strategy *s, const struct replay_result *r)
{
    uint64_t gone = w->n_finished + w->n_rejected + w->n_failed + w->n_censored;

    if (r->n_finished != w->n_finished || r->n_rejected != w->n_rejected ||
        r->n_failed != w->n_failed ||
        r->n_finished + r->n_rejected + r->n_failed + r->n_censored != w->c->trace.n ||
        (!r->was_stopped && gone != w->c->trace.n))
        return err_set(w->e, EXIT_RUN_FAILED,
                       "requests: %llu finished, %llu refused, %llu failed, %llu "
                       "censored of %u",
                       (unsigned long long)r->n_finished, (unsigned long long)r->n_rejected,
                       (unsigned long long)r->n_failed, (unsigned long long)r->n_censored,
                       w->c->trace.n);
    if (r->tokens_out != w->tokens_out || r->steps > r->tokens_in || r->preemptions != w->n_preempt)
        return err_set(w->e, EXIT_RUN_FAILED,
                       "the run counts %llu tokens out, %llu preemptions, %llu steps; "
                       "its requests %llu and %llu",
                       (unsigned long long)r->tokens_out, (unsigned long long)r->preemptions,
                       (unsigned long long)r->steps, (unsigned long long)w->tokens_out,
                       (unsigned long long)w->n_preempt);
    if (!r->was_stopped && (s->kv->attach ? r->tokens_in - r->recomputed_tokens > w->tokens_kv
                                          : r->tokens_in - r->recomputed_tokens != w->tokens_kv))
        return err_set(w->e, EXIT_RUN_FAILED,
                       "%llu tokens were run, %llu of them again, and %llu were to run",
                       (unsigned long long)r->tokens_in, (unsigned long long)r->recomputed_tokens,
                       (unsigned long long)w->tokens_kv);
    return r->peak_slots_held > w->kv_slots
           ? err_set(w->e, EXIT_RUN_FAILED, "more KV slots were held than there are") : 0;
}

/* ---- one run ---- */

static struct want *solo(const struct dst_lab *l, const struct dst_case *c, struct arena *a)
{
    struct want *w = ARENA_NEW(a, struct want, c->trace.n);

    for (uint32_t i = 0; w && i < c->trace.n; i++) {
        const struct trace_req *q = &c->trace.req[i];
        uint32_t *prompt = ARENA_NEW(a, uint32_t, q->n_prompt);

        w[i].tok = ARENA_NEW(a, uint32_t, q->n_out);
        if (!prompt || !w[i].tok)
            return NULL;
        trace_tokens(&c->trace, i, c->seed, l->shape.vocab, 0, q->n_prompt, prompt);
        w[i].n = shadow_solo(prompt, q->n_prompt, q->n_out, l->shape.vocab, c->faults.bad_one_in,
                             w[i].tok);
    }
    return w;
}

/* What a run may differ in from the case: the two must come to the same, or to less waiting. */
struct twist { uint64_t shift_ns; uint32_t poison, kv_slots; };

static int finish_run(struct watch *w, const struct strategy *s, const struct replay_result *res,
                      int rc)
{
    if (rc && w->c->faults.fail_at_step && strstr(w->e->text, "planted device failure")) {
        memset(w->e, 0, sizeof *w->e);         /* as it must be */
        return 0;
    }
    if (rc || w->e->code || sums_agree(w, s, res))
        return -1;
    order_kept(w);
    return w->e->code ? -1 : 0;
}

static int replay(struct dst_lab *l, const struct strategy *s, struct watch *w,
                  const struct twist *x, struct replay_result *res)
{
    const struct dst_case *c = w->c;
    struct kv_pool pool;
    struct replay_conf conf = {
        .trace = &c->trace,
        .strategy = s,
        .model = loaded_get(&l->models, s, w->e),
        .kv_pool = &pool,
        .kv_slots = w->kv_slots,
        .host_slots = c->host_slots,
        .max_len = c->max_len,
        .max_new = c->max_new,
        .rate_scale = 1,
        .seed = c->seed,
        .stop = &w->stop,
        .max_ns = c->max_ns ? c->max_ns + x->shift_ns : 0,
        .check = true,
        .poison = x->poison,
        .on_done = note,
        .on_done_self = w,
    };
    int rc;

    if (!conf.model || dev_kv_open(&l->dev, &pool, l->shape.n_layer, l->shape.n_kv_head,
                                   l->shape.head_dim, FMT_F16, conf.kv_slots + KV_TILE, w->e))
        return -1;
    shadow_plant(&l->dev, &c->faults);
    rc = replay_run(&conf, res, w->e);
    dev_kv_close(&l->dev, &pool);
    return rc;
}

static void count_reach(struct dst_lab *l, const struct watch *w, const struct replay_result *res)
{
    struct dst_reach *t = &l->reach;

    t->steps += res->steps;
    t->preemptions += res->preemptions;
    t->finished += res->n_finished;
    if (w->n_gone == w->c->trace.n && !res->was_stopped)
        t->cached += w->tokens_kv - (res->tokens_in - res->recomputed_tokens);
    t->copies = l->dev.total[OP_COPY].calls;
    t->swaps = l->dev.total[OP_SWAP].calls;
}

/* 0, 1: refused knobs, -1. */
static int one_run(struct dst_lab *l, const struct dst_case *c, const struct twist *x,
                   uint64_t *digest, struct replay_result *res, struct err *e)
{
    struct arena a = { 0 };
    struct watch w = { .c = c, .shift_ns = x->shift_ns, .e = e,
                       .kv_slots = x->kv_slots ? x->kv_slots : c->kv_slots };
    struct strategy s;
    int rc;

    memset(res, 0, sizeof *res);
    if (strategy_parse(&s, c->strategy, e))
        return -1;
    w.want = solo(l, c, &a);
    w.got = ARENA_NEW(&a, struct got, c->trace.n);
    rc = w.want && w.got ? replay(l, &s, &w, x, res) : err_set(e, EXIT_RUN_FAILED, "out of memory");
    if (rc && e->code == EXIT_USAGE && !w.n_gone)
        rc = 1;
    else
        rc = finish_run(&w, &s, res, rc);
    *digest = w.digest;
    if (!rc)
        count_reach(l, &w, res);
    arena_free(&a);
    return rc;
}

/* ---- relations between two runs ---- */

static struct trace shifted(const struct dst_case *c, uint64_t us, struct arena *a)
{
    struct trace t = c->trace;

    t.req = ARENA_NEW(a, struct trace_req, t.n);
    for (uint32_t i = 0; t.req && i < t.n; i++) {
        t.req[i] = c->trace.req[i];
        t.req[i].arrive_us += (int64_t)us;
    }
    return t;
}

static int related(struct dst_lab *l, const struct dst_case *c, uint64_t digest, struct err *e)
{
    enum { SHIFT_US = 7777 };
    struct arena a = { 0 };
    struct dst_case d = *c;
    struct twist x = { .poison = c->relation == REL_TWICE ? 1 : 0 };
    struct replay_result res;
    uint64_t again;
    int rc;

    if (c->relation == REL_SHIFTED) {
        d.trace = shifted(c, SHIFT_US, &a);
        x.shift_ns = SHIFT_US * 1000;
    }
    if (c->relation == REL_AMPLE)
        x.kv_slots = c->trace.n * (2 * c->max_len + 512);
    rc = d.trace.req ? one_run(l, &d, &x, &again, &res, e) : -1;
    arena_free(&a);
    if (rc)
        return -1;
    if (c->relation == REL_AMPLE && res.preemptions && !may_take_away(c->strategy))
        return err_set(e, EXIT_RUN_FAILED, "%llu preemptions with memory for all (%s)",
                       (unsigned long long)res.preemptions, c->strategy);
    if (c->relation != REL_AMPLE && again != digest)
        return err_set(e, EXIT_RUN_FAILED, c->relation == REL_TWICE
                       ? "a second run differs (or output lengths are read by who is no oracle)"
                       : "arrivals later by a constant change more than all times by it");
    return 0;
}

int dst_check(struct dst_lab *l, const struct dst_case *c, struct err *e)
{
    struct replay_result res;
    struct twist none = { 0 };
    uint64_t digest;
    int rc = one_run(l, c, &none, &digest, &res, e);

    return rc || !c->relation ? rc : related(l, c, digest, e);
}

int dst_open(struct dst_lab *l, struct err *e)
{
    struct device_conf conf = { .pace = PACE_VIRTUAL };
    const struct device_ops *ops = device_find("shadow", e);

    memset(l, 0, sizeof *l);
    return !ops || shape_load(&l->shape, "shadow", e) || dev_open(&l->dev, ops, &conf, e) ||
           loaded_open(&l->models, &l->dev, &l->shape, 1, e) ? -1 : 0;
}

void dst_close(struct dst_lab *l)
{
    if (!l->dev.ops)
        return;
    loaded_close(&l->models);
    dev_close(&l->dev);
}
