/* header.c - the header of serving-trace/1: one table of keys, each with its rule. null means not
 * given. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "workloads/reader.h"

struct key {
    const char *name;
    int (*take)(struct reader *r, const struct place *at, const char *key, const json_t *v);
};

/* A string into a field of fixed size; longer ones are refused, not cut. */
static int text_into(struct reader *r, const struct place *at, const char *key, const json_t *v,
                     char *to, size_t size)
{
    const char *s = json_word(r, at, key, v);

    if (!s)
        return -1;
    if (strlen(s) >= size)
        return reader_fail(r, at, "%s: longer than %zu bytes", key, size - 1);
    memcpy(to, s, strlen(s) + 1);
    return 0;
}

#define INTO(field)                                                                                \
    static int take_##field(struct reader *r, const struct place *at, const char *key,             \
                            const json_t *v)                                                       \
    {                                                                                              \
        return text_into(r, at, key, v, r->t->field, sizeof r->t->field);                          \
    }
INTO(name)
INTO(licence)
INTO(recipe)
INTO(tokenizer)

static int take_schema(struct reader *r, const struct place *at, const char *key, const json_t *v)
{
    const char *s = json_word(r, at, key, v);
    char buf[64];

    if (!s)
        return -1;
    if (strcmp(s, "serving-trace/1"))
        return reader_fail(r, at, "schema %s: this version reads \"serving-trace/1\"",
                           shown_json(v, buf));
    return 0;
}

static int take_count(struct reader *r, const struct place *at, const char *key, const json_t *v)
{
    return json_whole(r, at, key, v, 0, UINT32_MAX, &r->count);
}

/* A text, or an object {format, repo, path, sha256, rows, licence} kept as compact JSON. */
static int take_source(struct reader *r, const struct place *at, const char *key, const json_t *v)
{
    char *to = r->t->source;
    json_t *licence = json_object_get(v, "licence");
    size_t n;

    if (!json_is_object(v))
        return text_into(r, at, key, v, to, sizeof r->t->source);
    if (json_is_string(licence) && take_licence(r, at, "licence", licence))
        return -1;
    n = json_dumpb(v, to, sizeof r->t->source - 1, JSON_COMPACT);
    if (n >= sizeof r->t->source)
        return reader_fail(r, at, "source: longer than %zu bytes", sizeof r->t->source - 1);
    to[n] = 0;
    return 0;
}

/* Held together as "TIME ZONE"; the zone alone means nothing. */
static int take_time_zero(struct reader *r, const struct place *at, const char *key,
                          const json_t *v)
{
    return text_into(r, at, key, v, r->t->time_zero, 32);
}

static int take_time_zone(struct reader *r, const struct place *at, const char *key,
                          const json_t *v)
{
    size_t n = strlen(r->t->time_zero), room = sizeof r->t->time_zero - n;

    if (!n)
        return reader_fail(r, at, "time_zone: must follow time_zero");
    r->t->time_zero[n] = ' ';
    return text_into(r, at, key, v, r->t->time_zero + n + 1, room - 1);
}

static int take_time_step(struct reader *r, const struct place *at, const char *key,
                          const json_t *v)
{
    return json_number(r, at, key, v, 0, 1e9, &r->t->time_step_s);
}

static int take_block_tokens(struct reader *r, const struct place *at, const char *key,
                             const json_t *v)
{
    int64_t n;

    if (json_whole(r, at, key, v, 1, 1 << 20, &n))
        return -1;
    r->t->block_tokens = (uint32_t)n;
    return 0;
}

/* One of two words. */
static int either(struct reader *r, const struct place *at, const char *key, const json_t *v,
                  const char *no, const char *yes, bool *out)
{
    const char *s = json_word(r, at, key, v);
    char buf[64];

    if (!s)
        return -1;
    *out = !strcmp(s, yes);
    if (*out || !strcmp(s, no))
        return 0;
    return reader_fail(r, at, "%s %s: expected \"%s\" or \"%s\"", key, shown_json(v, buf), no, yes);
}

static int take_block_tail(struct reader *r, const struct place *at, const char *key,
                           const json_t *v)
{
    return either(r, at, key, v, "full", "partial", &r->t->block_tail_partial);
}

static int take_block_scope(struct reader *r, const struct place *at, const char *key,
                            const json_t *v)
{
    return either(r, at, key, v, "trace", "session", &r->t->block_scope_session);
}

static int take_slo(struct reader *r, const struct place *at, const char *key, const json_t *v)
{
    (void)key;
    return json_slo(r, at, v, &r->t->slo);
}

static int take_is_synthetic(struct reader *r, const struct place *at, const char *key,
                             const json_t *v)
{
    char buf[64];

    if (!json_is_boolean(v))
        return reader_fail(r, at, "%s %s: expected true or false", key, shown_json(v, buf));
    r->t->is_synthetic = json_is_true(v);
    return 0;
}

static int take_choices(struct reader *r, const struct place *at, const char *key, const json_t *v)
{
    char *to = r->t->header_extra, buf[64];
    size_t n = sizeof r->t->header_extra;

    if (!json_is_array(v))
        return reader_fail(r, at, "%s %s: not a list", key, shown_json(v, buf));
    n = json_dumpb(v, to, n - 1, JSON_COMPACT);
    if (n >= sizeof r->t->header_extra) {
        *to = 0;
        return reader_fail(r, at, "%s: longer than %zu bytes", key, sizeof r->t->header_extra - 1);
    }
    to[n] = 0;
    return 0;
}

static int take_requests(struct reader *r, const struct place *at, const char *key, const json_t *v)
{
    if (json_is_array(v) && !json_array_size(v))
        return 0;                              /* split.c stands the real list aside */
    return reader_fail(r, at, "%s: must be one list of requests, its key spelled plainly", key);
}

static const struct key keys[] = {
    { "schema", take_schema }, { "name", take_name }, { "count", take_count },
    { "source", take_source }, { "licence", take_licence }, { "time_zero", take_time_zero },
    { "time_zone", take_time_zone }, { "time_step_s", take_time_step },
    { "tokenizer", take_tokenizer }, { "block_tokens", take_block_tokens },
    { "block_tail", take_block_tail }, { "block_scope", take_block_scope }, { "slo", take_slo },
    { "is_synthetic", take_is_synthetic }, { "recipe", take_recipe }, { "choices", take_choices },
    { "requests", take_requests },
};
enum { N_KEY = sizeof keys / sizeof *keys };

static int take(struct reader *r, const struct place *at, const char *key, const json_t *v)
{
    const char *names[N_KEY];

    for (size_t i = 0; i < N_KEY; i++) {
        names[i] = keys[i].name;
        if (!strcmp(key, names[i]))
            return json_is_null(v) && keys[i].take != take_requests ? 0
                                                                    : keys[i].take(r, at, key, v);
    }
    return json_unknown(r, at, key, names, N_KEY);
}

int header_parse(struct reader *r, const struct place *at, json_t *v)
{
    const char *key;
    json_t *one;
    int rc = 0;

    if (!json_object_get(v, "schema"))
        return reader_fail(r, at,
                           "no \"schema\" key; expected \"schema\":\"serving-trace/1\" in the "
                           "header");
    if (take(r, at, "schema", json_object_get(v, "schema")))
        return -1;
    json_object_foreach(v, key, one)
        rc |= take(r, at, key, one);
    if (!rc && r->t->block_tokens && !json_is_string(json_object_get(v, "block_tail")))
        return reader_fail(r, at,
                           "block_tokens: needs block_tail, \"partial\" (the last block may be "
                           "short) or \"full\"");
    snprintf(r->t->format, sizeof r->t->format, "serving-trace/1");
    return rc;
}
