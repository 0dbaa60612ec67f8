/* row.c - one request of serving-trace/1: one table of fields, each with its rule. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "workloads/reader.h"

/* A request being parsed: what is seen decides what may be missing. */
struct parse {
    struct reader *r;
    struct row w;
    char id[24], after[24];        /* whole numbers as their digits */
    const char *text;              /* the row's own text, for what is kept verbatim */
    size_t n_text;
    char *ext, *observed;
    json_t *ids;                   /* prompt_ids */
    bool has_arrival, has_prompt, has_out, has_group, has_prefix;
};

struct field {
    const char *name;
    int (*take)(struct parse *p, const char *key, const json_t *v);
};

static int whole(struct parse *p, const char *key, const json_t *v, int64_t min, int64_t max,
                 int64_t *out)
{
    return json_whole(p->r, &p->w.at, key, v, min, max, out);
}

static int word(struct parse *p, const char *key, const json_t *v, const char **out)
{
    *out = json_word(p->r, &p->w.at, key, v);
    p->w.has_more = true;
    return *out ? 0 : -1;
}

static int take_id(struct parse *p, const char *key, const json_t *v)
{
    if (json_is_integer(v)) {
        snprintf(p->id, sizeof p->id, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        p->w.id = p->id;
        return 0;
    }
    p->w.id = json_word(p->r, &p->w.at, key, v);
    return p->w.id ? 0 : -1;
}

static int take_arrival(struct parse *p, const char *key, const json_t *v)
{
    double s;

    if (json_number(p->r, &p->w.at, key, v, 0, ARRIVAL_MAX_S, &s))
        return -1;
    p->w.arrive_us = llround(s * 1e6);
    p->has_arrival = true;
    return 0;
}

static int take_prompt_tokens(struct parse *p, const char *key, const json_t *v)
{
    p->has_prompt = true;
    return whole(p, key, v, 1, INT64_C(1) << 53, &p->w.n_prompt);
}

static int take_output_tokens(struct parse *p, const char *key, const json_t *v)
{
    p->has_out = true;
    return whole(p, key, v, 1, INT64_C(1) << 53, &p->w.n_out);
}

static int take_prompt(struct parse *p, const char *key, const json_t *v)
{
    char buf[64];

    if (!json_is_string(v))
        return reader_fail(p->r, &p->w.at, "%s %s: not a string", key, shown_json(v, buf));
    p->w.more.prompt = json_string_value(v);
    p->w.has_more = true;
    return 0;
}

static int take_prompt_ids(struct parse *p, const char *key, const json_t *v)
{
    struct reader *r = p->r;
    size_t n = json_array_size(v);

    if (json_ids(r, &p->w.at, key, v))
        return -1;
    if (n > r->cap_token) {
        uint32_t *t = realloc(r->token, n * 2 * sizeof *t);

        if (!t)
            return reader_nomem(r);
        r->token = t;
        r->cap_token = n * 2;
    }
    for (size_t i = 0; i < n; i++) {
        if (r->block[i] > INT32_MAX)
            return reader_fail(r, &p->w.at, "%s %" PRIu64 ": not a token id (0 to %d)", key,
                               r->block[i], INT32_MAX);
        r->token[i] = (uint32_t)r->block[i];
    }
    p->ids = (json_t *)(uintptr_t)v;
    p->w.more.prompt_ids = n ? r->token : NULL;
    p->w.has_more = true;
    return 0;
}

/* Taken last: prompt_ids uses the same scratch. */
static int take_blocks(struct parse *p, const char *key, const json_t *v)
{
    if (json_ids(p->r, &p->w.at, key, v))
        return -1;
    p->w.block = p->r->block;
    p->w.n_block = (uint32_t)json_array_size(v);
    p->w.has_blocks = true;
    return 0;
}

static int take_prefix_group(struct parse *p, const char *key, const json_t *v)
{
    p->has_group = true;
    return word(p, key, v, &p->w.more.prefix_group);
}

static int take_prefix_tokens(struct parse *p, const char *key, const json_t *v)
{
    int64_t n;

    if (whole(p, key, v, 0, TRACE_MAX_PROMPT, &n))
        return -1;
    p->w.more.prefix_tokens = (uint32_t)n;
    p->has_prefix = p->w.has_more = true;
    return 0;
}

static int take_session(struct parse *p, const char *key, const json_t *v)
{
    return word(p, key, v, &p->w.more.session);
}

static int take_turn(struct parse *p, const char *key, const json_t *v)
{
    int64_t n;

    if (whole(p, key, v, 1, UINT32_MAX, &n))
        return -1;
    p->w.more.turn = (uint32_t)n;
    p->w.has_more = true;
    return 0;
}

static int take_after(struct parse *p, const char *key, const json_t *v)
{
    if (!json_is_integer(v))
        return word(p, key, v, &p->w.more.after);
    snprintf(p->after, sizeof p->after, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    p->w.more.after = p->after;
    p->w.has_more = true;
    return 0;
}

static int take_think(struct parse *p, const char *key, const json_t *v)
{
    p->w.has_more = true;
    return json_number(p->r, &p->w.at, key, v, 0, 1e9, &p->w.more.think_s);
}

static int take_priority(struct parse *p, const char *key, const json_t *v)
{
    int64_t n;

    if (whole(p, key, v, INT32_MIN, INT32_MAX, &n))
        return -1;
    p->w.more.priority = (int32_t)n;
    p->w.has_more |= n != 0;               /* 0 is what it is without */
    return 0;
}

static int take_slo(struct parse *p, const char *key, const json_t *v)
{
    (void)key;
    p->w.has_more = true;
    return json_slo(p->r, &p->w.at, v, &p->w.more.slo);
}

static int take_model(struct parse *p, const char *key, const json_t *v)
{
    return word(p, key, v, &p->w.more.model);
}

static int take_tenant(struct parse *p, const char *key, const json_t *v)
{
    return word(p, key, v, &p->w.more.tenant);
}

/* The end of the JSON value that starts at s; the text is known to be valid. */
static const char *value_end(const char *s, const char *end)
{
    struct walk w = { 0 };

    for (; s < end; s++) {
        if (!w.in_string && !w.depth && strchr(",:}] \t\r\n", *s))
            return s;
        walk_step(&w, *s);
    }
    return s;
}

/* Copies [s, end) without the blanks between tokens, so that it stands on one line. */
static char *squeezed(const char *s, const char *end)
{
    char *out = malloc((size_t)(end - s) + 1), *to = out;
    struct walk w = { 0 };

    for (; out && s < end; s++) {
        walk_step(&w, *s);
        if (w.in_string || !strchr(" \t\r\n", *s))
            *to++ = *s;
    }
    if (out)
        *to = 0;
    return out;
}

/* The text of a top-level member, as written: numbers keep their digits. */
static char *verbatim(const struct parse *p, const char *key, const json_t *v)
{
    const char *s = p->text, *end = s + p->n_text;
    size_t n = strlen(key);

    s = memchr(s, '{', p->n_text);
    while (s && ++s < end) {
        const char *from, *to;

        s += strspn(s, " \t\r\n");
        to = value_end(s, end);                /* the key is a string */
        from = to + strspn(to, " \t\r\n:");
        if ((size_t)(to - s) == n + 2 && !memcmp(s + 1, key, n))
            return squeezed(from, value_end(from, end));
        s = value_end(from, end);
        s += strspn(s, " \t\r\n");
        if (s >= end || *s != ',')
            break;
    }
    return json_dumps(v, JSON_COMPACT);        /* its key was spelled with escapes */
}

static int take_ext(struct parse *p, const char *key, const json_t *v)
{
    char buf[64];

    if (!json_is_object(v))
        return reader_fail(p->r, &p->w.at, "%s %s: not an object", key, shown_json(v, buf));
    p->w.has_more = true;
    p->w.more.ext = p->ext = verbatim(p, key, v);
    return p->ext ? 0 : reader_nomem(p->r);
}

static int take_observed(struct parse *p, const char *key, const json_t *v)
{
    static const char *const names[] = { "latency_s", "ttft_s", "status", "stop" };
    const char *name;
    json_t *one;
    char buf[64];
    double s;

    if (!json_is_object(v))
        return reader_fail(p->r, &p->w.at, "%s %s: not an object", key, shown_json(v, buf));
    json_object_foreach((json_t *)(uintptr_t)v, name, one) {
        if (!strcmp(name, names[0]) || !strcmp(name, names[1])) {
            if (json_number(p->r, &p->w.at, name, one, 0, 1e9, &s))
                return -1;
        } else if (strcmp(name, names[2]) && strcmp(name, names[3])) {
            return json_unknown(p->r, &p->w.at, name, names, 4);
        } else if (!json_is_string(one) && !json_is_integer(one)) {
            return reader_fail(p->r, &p->w.at, "observed %s %s: not a string or a whole number",
                               name, shown_json(one, buf));
        }
    }
    p->w.has_more = true;
    p->w.more.observed = p->observed = verbatim(p, key, v);
    return p->observed ? 0 : reader_nomem(p->r);
}

static const struct field fields[] = {
    { "id", take_id }, { "arrival_s", take_arrival }, { "prompt_tokens", take_prompt_tokens },
    { "output_tokens", take_output_tokens }, { "prompt", take_prompt },
    { "prompt_ids", take_prompt_ids }, { "prefix_group", take_prefix_group },
    { "prefix_tokens", take_prefix_tokens }, { "session", take_session }, { "turn", take_turn },
    { "after", take_after }, { "think_s", take_think }, { "priority", take_priority },
    { "slo", take_slo }, { "model", take_model }, { "tenant", take_tenant }, { "ext", take_ext },
    { "observed", take_observed }, { "blocks", take_blocks },
};
enum { N_FIELD = sizeof fields / sizeof *fields };

static int missing(struct parse *p, const char *key, const char *way)
{
    return reader_fail(p->r, &p->w.at, "%s: is missing%s", key, way);
}

/* What the fields ask of each other. */
static int check_together(struct parse *p)
{
    struct trace_more *m = &p->w.more;
    int64_t n_ids = p->ids ? (int64_t)json_array_size(p->ids) : 0;

    if (!p->w.id)
        return missing(p, "id", "");
    if (!p->has_arrival)
        return missing(p, "arrival_s", "");
    if (m->prompt && p->ids)
        return reader_fail(p->r, &p->w.at, "prompt: not together with prompt_ids; keep one");
    if (!p->has_prompt && m->prompt) {
        if (texts_count(p->r, &p->w.at, m->prompt, true, &p->w.n_prompt))
            return -1;
        p->has_prompt = true;
    }
    if (!p->has_prompt && !p->ids)
        return missing(p, "prompt_tokens", "");
    if (p->ids && p->has_prompt && n_ids != p->w.n_prompt)
        return reader_fail(p->r, &p->w.at,
                           "prompt_ids: %" PRId64 " ids, but prompt_tokens says %" PRId64, n_ids,
                           p->w.n_prompt);
    if (p->ids)
        p->w.n_prompt = n_ids;
    if (!p->has_out)
        return missing(p, "output_tokens", "");
    if (p->has_group != p->has_prefix)
        return missing(p, p->has_group ? "prefix_tokens" : "prefix_group",
                       "; prefix_group and prefix_tokens stand together");
    if (m->turn && !m->session)
        return missing(p, "session", ", but turn is given");
    if (m->think_s >= 0 && !m->after)
        return missing(p, "after", ", but think_s is given");
    return 0;
}

/* Fields in table order, so that which refusal comes first does not depend on the text. */
static int take_fields(struct parse *p, const json_t *v)
{
    const char *names[N_FIELD], *key;
    size_t n = 0;
    json_t *one;

    for (size_t i = 0; i < N_FIELD; i++) {
        names[i] = fields[i].name;
        if (!(one = json_object_get(v, names[i])))
            continue;
        n++;
        if (fields[i].take(p, names[i], one))
            return -1;
    }
    if (n == json_object_size(v))
        return check_together(p);
    json_object_foreach((json_t *)(uintptr_t)v, key, one) {
        size_t i = 0;

        while (i < N_FIELD && strcmp(key, names[i]))
            i++;
        if (i == N_FIELD)
            return json_unknown(p->r, &p->w.at, key, names, N_FIELD);
    }
    return -1;
}

int row_parse(struct reader *r, const struct place *at, const char *text, size_t n)
{
    struct parse p = { .r = r, .text = text, .n_text = n };
    json_t *v = json_text(r, at, text, n);
    char buf[64];
    int rc = 0;

    p.w.at = *at;
    p.w.more.think_s = -1;
    if (!v)
        return 0;
    if (!json_is_object(v))
        reader_fail(r, at, "%s: a request must be an object", shown_json(v, buf));
    else if (!take_fields(&p, v))
        rc = rows_add(r, &p.w);
    free(p.ext);
    free(p.observed);
    json_decref(v);
    return rc || r->first.code == EXIT_RUN_FAILED ? -1 : 0;
}
