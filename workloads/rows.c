/* rows.c - one row at a time into the trace, with every check that all formats share.
 *
 * Stays true: a row that is in the trace has passed its range, order, identity and link checks, and
 * a row is dropped, moved or clipped only on a flag, counted. 48 bytes a row when it has nothing
 * special: an id equal to the row's number is not stored. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "workloads/reader.h"

/* The row with this id, or UINT32_MAX. Ids that are their row's number are not in the set. */
static uint32_t id_find(const struct reader *r, const char *id)
{
    const struct name *n = names_find(&r->ids, id);
    int64_t v;

    if (n)
        return n->value;
    if ((id[0] == '0' && id[1]) || parse_int(id, 0, UINT32_MAX, &v) || v >= r->t->n ||
        r->t->req[v].id)
        return UINT32_MAX;
    return (uint32_t)v;
}

/* Unique, and stored only when it is not the row's number. -1 after a refusal. */
static int take_id(struct reader *r, const struct row *w, struct trace_req *q)
{
    char number[24], source[24], quoted[64];
    const char *id = w->id;
    struct name *n;
    uint32_t other;

    snprintf(number, sizeof number, "%" PRIu32, r->t->n);
    if (!id) {                                 /* the source has no ids: rows count from 0 */
        snprintf(source, sizeof source, "%" PRIu64, w->at.row - 1);
        id = source;
    }
    other = id_find(r, id);
    if (other != UINT32_MAX)
        return reader_fail(r, &w->at,
                           "id %s: stands already in request %" PRIu32 "; ids must be unique",
                           shown(id, strlen(id), quoted), other + 1);
    if (!strcmp(id, number))
        return 0;
    if (!(n = names_put(&r->ids, &r->pool, id)))
        return reader_nomem(r);
    n->value = r->t->n;
    q->id = n->text;
    return 0;
}

static uint32_t blocks_of(const struct trace *t, int64_t n_prompt)
{
    uint32_t n = (uint32_t)n_prompt;           /* callers have checked the range */

    return t->block_tail_partial ? ceil_div_u32(n, t->block_tokens) : n / t->block_tokens;
}

static int check_blocks(struct reader *r, const struct row *w)
{
    const struct trace *t = r->t;
    const char *rule =
        t->block_tail_partial ? "partial tail: rounded up" : "full tail: rounded down";

    if (!w->has_blocks)
        return 0;
    if (!t->block_tokens)
        return reader_fail(r, &w->at,
                           "blocks: the header has no block_tokens; add block_tokens and "
                           "block_tail");
    if (w->more.prefix_group)
        return reader_fail(r, &w->at, "blocks: not together with prefix_group; keep one");
    if (t->block_scope_session && !w->more.session)
        return reader_fail(r, &w->at,
                           "blocks: block_scope is \"session\" but the row has no session");
    if (w->n_prompt <= TRACE_MAX_PROMPT && w->n_block != blocks_of(t, w->n_prompt))
        return reader_fail(r, &w->at,
                           "blocks: %u ids for %" PRId64 " prompt tokens; expected %u (%u "
                           "tokens a block, %s)",
                           w->n_block, w->n_prompt, blocks_of(t, w->n_prompt), t->block_tokens,
                           rule);
    return 0;
}

static int check_range(struct reader *r, const struct row *w)
{
    if (w->n_prompt < 1)
        return reader_fail(r, &w->at, "prompt_tokens %" PRId64 ": must be at least 1", w->n_prompt);
    if (w->n_out < 1)
        return reader_fail(r, &w->at, "output_tokens %" PRId64 ": must be at least 1", w->n_out);
    if (w->more.prefix_tokens > w->n_prompt)
        return reader_fail(r, &w->at, "prefix_tokens %" PRIu32 ": more than prompt_tokens %" PRId64,
                           w->more.prefix_tokens, w->n_prompt);
    return 0;
}

static int refuse_long(struct reader *r, const struct row *w)
{
    static const char way[] = "use --overlong=skip or --overlong=clip";

    if (w->n_prompt > TRACE_MAX_PROMPT)
        return reader_fail(r, &w->at, "prompt_tokens %" PRId64 ": more than %d; %s", w->n_prompt,
                           TRACE_MAX_PROMPT, way);
    if (w->n_out > TRACE_MAX_OUTPUT)
        return reader_fail(r, &w->at, "output_tokens %" PRId64 ": more than %d; %s", w->n_out,
                           TRACE_MAX_OUTPUT, way);
    return reader_fail(r, &w->at,
                       "prompt_tokens %" PRId64 " + output_tokens %" PRId64 ": more than the "
                       "context of %" PRIu32 "; %s",
                       w->n_prompt, w->n_out, r->o->max_context, way);
}

/* Keeps the output where it can and cuts the prompt at its end, so that shared beginnings stay. */
static int clip(struct reader *r, struct row *w)
{
    int64_t room = r->o->max_context ? r->o->max_context : INT64_MAX;

    if (w->more.prompt)
        return reader_fail(r, &w->at, "prompt: a text cannot be clipped; use --overlong=skip");
    if (room < 2)
        return reader_fail(r, NULL, "a context of 1 token holds no request");
    if (w->n_out > TRACE_MAX_OUTPUT)
        w->n_out = TRACE_MAX_OUTPUT;
    if (w->n_out > room - 1)
        w->n_out = room - 1;
    if (w->n_prompt > TRACE_MAX_PROMPT)
        w->n_prompt = TRACE_MAX_PROMPT;
    if (w->n_prompt > room - w->n_out)
        w->n_prompt = room - w->n_out;
    if (w->has_blocks)
        w->n_block = min_u32(w->n_block, blocks_of(r->t, w->n_prompt));
    if (w->more.prefix_tokens > w->n_prompt)
        w->more.prefix_tokens = (uint32_t)w->n_prompt;
    r->n_clipped++;
    return 1;
}

/* 1: keep, 0: skip, -1: refused. */
static int fit(struct reader *r, struct row *w)
{
    uint32_t context = r->o->max_context;

    if (w->n_prompt <= TRACE_MAX_PROMPT && w->n_out <= TRACE_MAX_OUTPUT &&
        (!context || w->n_prompt + w->n_out <= context))
        return 1;
    if (r->o->overlong == OVERLONG_CLIP)
        return clip(r, w);
    if (r->o->overlong == OVERLONG_REFUSE)
        return refuse_long(r, w);
    r->n_skipped++;
    return 0;
}

/* Arrivals never fall. A fall back to where the file began looks like two recordings joined. */
static int check_order(struct reader *r, const struct row *w)
{
    int64_t from = r->t->n ? r->t->req[0].arrive_us : 0, span = r->top_us - from;
    bool falls = w->at.row > 1 && r->t->n && w->arrive_us < r->last_us, joined;
    int64_t before = r->last_us;

    r->last_us = w->arrive_us;
    if (!r->t->n || w->arrive_us > r->top_us)
        r->top_us = w->arrive_us;
    if (!falls)
        return 0;
    joined = span >= 1000000 && llabs(w->arrive_us - from) <= span / 100;
    r->n_fall++;
    r->n_joined += joined;
    if (r->o->sort)
        return 0;
    return reader_fail(r, &w->at, "arrival_s %.6f: falls below %.6f of the row before; %s",
                       (double)w->arrive_us * 1e-6, (double)before * 1e-6,
                       joined ? "looks like recordings joined end to end: split the file" :
                       "use --sort");
}

int rows_link(struct reader *r, uint32_t i, const struct place *at)
{
    const struct trace_more *m = r->t->req[i].more;
    char quoted[64];

    if (!m)
        return 0;
    if (m->after && id_find(r, m->after) >= i)
        return reader_fail(r, at, "after %s: no earlier request has this id",
                           shown(m->after, strlen(m->after), quoted));
    if (m->session && m->turn) {
        struct name *s = names_put(&r->sessions, &r->pool, m->session);

        if (!s)
            return reader_nomem(r);
        if (m->turn <= s->value)
            return reader_fail(r, at, "turn %" PRIu32 ": the session's turn before is %" PRIu32
                               "; turns must grow with arrival", m->turn, s->value);
        s->value = m->turn;
    }
    return 0;
}

static int grow(struct trace *t)
{
    uint64_t cap = (uint64_t)t->cap + t->cap / 2 + 1024;
    struct trace_req *q;

    if (t->n < t->cap)
        return 0;
    if (cap > UINT32_MAX || t->n == UINT32_MAX - 1)
        return -1;
    if (!(q = realloc(t->req, (size_t)cap * sizeof *q)))
        return -1;
    t->req = q;
    t->cap = (uint32_t)cap;
    return 0;
}

static const char *word(struct reader *r, const char *text, int *rc)
{
    const struct name *n = text ? names_put(&r->words, &r->pool, text) : NULL;

    *rc |= text && !n;
    return n ? n->text : NULL;
}

static const char *copy(struct reader *r, const char *text, int *rc)
{
    char *p = text ? pool_str(&r->pool, text) : NULL;

    *rc |= text && !p;
    return p;
}

/* The row's pointers into memory that lives as long as the trace. */
static int keep(struct reader *r, const struct row *w, struct trace_req *q)
{
    struct trace_more *m;
    int rc = 0;

    if (w->n_block) {
        uint64_t *b = pool_get(&r->pool, w->n_block, sizeof *b);

        if (!b)
            return -1;
        q->block = memcpy(b, w->block, w->n_block * sizeof *b);
        q->n_block = w->n_block;
    }
    if (!w->has_more)
        return 0;
    if (!(m = pool_get(&r->pool, 1, sizeof *m)))
        return -1;
    *m = w->more;
    m->session = word(r, m->session, &rc);
    m->after = word(r, m->after, &rc);
    m->model = word(r, m->model, &rc);
    m->tenant = word(r, m->tenant, &rc);
    m->prefix_group = word(r, m->prefix_group, &rc);
    m->prompt = copy(r, m->prompt, &rc);
    m->ext = copy(r, m->ext, &rc);
    m->observed = copy(r, m->observed, &rc);
    if (m->prompt_ids) {
        uint32_t *ids = pool_get(&r->pool, (size_t)w->n_prompt, sizeof *ids);

        m->prompt_ids = ids ? memcpy(ids, m->prompt_ids, (size_t)w->n_prompt * sizeof *ids) : NULL;
        rc |= !ids;
    }
    q->more = m;
    return rc ? -1 : 0;
}

int rows_add(struct reader *r, struct row *w)
{
    struct trace *t = r->t;
    struct trace_req q = { .arrive_us = w->arrive_us };
    int kept;

    if (check_range(r, w) || check_blocks(r, w) || (kept = fit(r, w)) < 0)
        return 0;
    if (check_order(r, w) || !kept)
        return 0;
    if (take_id(r, w, &q))
        return r->first.code == EXIT_RUN_FAILED ? -1 : 0;
    q.n_prompt = (uint32_t)w->n_prompt;
    q.n_out = (uint32_t)w->n_out;
    if (keep(r, w, &q) || grow(t))
        return reader_nomem(r);
    t->req[t->n] = q;
    if (!r->o->sort && rows_link(r, t->n, &w->at))
        return r->first.code == EXIT_RUN_FAILED ? -1 : 0;
    t->n++;
    return 0;
}
