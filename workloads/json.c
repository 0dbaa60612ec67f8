/* json.c - JSON values with their rule, and the words to refuse them. jansson parses, we judge.
 *
 * Arrival times: a double holds any decimal of up to 15 significant digits so that rounding it back
 * to that many digits is exact. Seconds are bounded by 1e9 and microseconds are six more
 * digits: 15. So llround(v * 1e6) is the microsecond that was written; the error before rounding is
 * below 0.25. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/params.h"
#include "workloads/reader.h"

json_t *json_text(struct reader *r, const struct place *at, const char *text, size_t n)
{
    json_error_t e;
    json_t *v = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    struct place here = *at;
    char quoted[64], what[JSON_ERROR_TEXT_LENGTH];

    if (v)
        return v;
    here.byte += e.position > 0 ? (uint64_t)e.position : 0;
    here.line += e.line > 1 ? (uint64_t)e.line - 1 : 0;
    for (size_t i = 0; i < sizeof what; i++)   /* the library quotes the input as it is */
        what[i] =
            (unsigned char)e.text[i] >= 127 || (e.text[i] && e.text[i] < 32) ? '?' : e.text[i];
    what[sizeof what - 1] = 0;
    switch (json_error_code(&e)) {
    case json_error_numeric_overflow:
        reader_fail(r, &here, "%s: not a finite number that fits 64 bits", what);
        break;
    case json_error_premature_end_of_input:
        reader_fail(r, &here, "the JSON text ends too early; the file is cut");
        break;
    case json_error_end_of_input_expected:
        reader_fail(r, &here, "text stands after the end of the JSON value: %s",
                    (size_t)e.position < n
                        ? shown(text + e.position, n - (size_t)e.position, quoted)
                        : what);
        break;
    case json_error_duplicate_key:
        reader_fail(r, &here, "%s; each key may stand once", what);
        break;
    default:
        reader_fail(r, &here, "not valid JSON: %s", what);
    }
    return NULL;
}

int json_number(struct reader *r, const struct place *at, const char *key, const json_t *v,
                double min, double max, double *out)
{
    char buf[64];

    if (json_is_string(v))
        return reader_fail(r, at, "%s %s: not a number; write it without quotes", key,
                           shown_json(v, buf));
    if (!json_is_number(v))
        return reader_fail(r, at, "%s %s: not a number", key, shown_json(v, buf));
    *out = json_number_value(v);
    if (*out >= min && *out <= max)
        return 0;
    return reader_fail(r, at, "%s %s: must be from %g to %g", key, shown_json(v, buf), min, max);
}

int json_whole(struct reader *r, const struct place *at, const char *key, const json_t *v,
               int64_t min, int64_t max, int64_t *out)
{
    double d = json_is_real(v) ? json_real_value(v) : 0;
    char buf[64];

    if (json_is_string(v))
        return reader_fail(r, at, "%s %s: not a number; write it without quotes", key,
                           shown_json(v, buf));
    if (!json_is_number(v))
        return reader_fail(r, at, "%s %s: not a number", key, shown_json(v, buf));
    if (d != floor(d) || fabs(d) > 0x1p53)
        return reader_fail(r, at, "%s %s: not a whole number", key, shown_json(v, buf));
    *out = json_is_real(v) ? (int64_t)d : json_integer_value(v);
    if (*out >= min && *out <= max)
        return 0;
    return *out < min && min >= 0 && min <= 1
               ? reader_fail(r, at, "%s %s: must be at least %d", key, shown_json(v, buf), (int)min)
               : reader_fail(r, at, "%s %s: must be from %" PRId64 " to %" PRId64, key,
                             shown_json(v, buf), min, max);
}

const char *json_word(struct reader *r, const struct place *at, const char *key, const json_t *v)
{
    char buf[64];

    if (!json_is_string(v))
        reader_fail(r, at, "%s %s: not a string; write it in quotes", key, shown_json(v, buf));
    else if (!json_string_length(v) || json_string_length(v) > 1024)
        reader_fail(r, at, "%s: must have 1 to 1024 bytes", key);
    else
        return json_string_value(v);
    return NULL;
}

int json_unknown(struct reader *r, const struct place *at, const char *key,
                 const char *const *names, size_t n)
{
    const char *near = nearest_name(key, names, n);
    char buf[64];

    return reader_fail(r, at, "unknown key %s; %s%s%s", shown(key, strlen(key), buf),
                       near ? "did you mean \"" : "put what is not of this format into ext",
                       near ? near : "",
                       near ? "\"? (what is not of this format goes into ext)" : "");
}

int json_slo(struct reader *r, const struct place *at, const json_t *v, struct slo *out)
{
    static const char *const names[] = { "ttft_ms", "tpot_ms", "e2e_ms" };
    double *to[] = { &out->ttft_ms, &out->tpot_ms, &out->e2e_ms };
    const char *key;
    json_t *one;
    char buf[64];

    if (!json_is_object(v))
        return reader_fail(r, at, "slo %s: not an object with ttft_ms, tpot_ms, e2e_ms",
                           shown_json(v, buf));
    json_object_foreach((json_t *)(uintptr_t)v, key, one) {
        size_t i = 0;

        while (i < 3 && strcmp(key, names[i]))
            i++;
        if (i == 3)
            return json_unknown(r, at, key, names, 3);
        if (json_number(r, at, key, one, 0, 1e12, to[i]))
            return -1;
        if (*to[i] <= 0)
            return reader_fail(r, at, "slo %s %g: must be above 0", key, *to[i]);
    }
    return 0;
}

int json_ids(struct reader *r, const struct place *at, const char *key, const json_t *v)
{
    size_t n = json_array_size(v);
    char buf[64];

    if (!json_is_array(v))
        return reader_fail(r, at, "%s %s: not a list of whole numbers", key, shown_json(v, buf));
    if (n > TRACE_MAX_PROMPT)
        return reader_fail(r, at, "%s: more than %d entries", key, TRACE_MAX_PROMPT);
    if (n > r->cap_block) {
        uint64_t *p = realloc(r->block, n * 2 * sizeof *p);

        if (!p)
            return reader_nomem(r);
        r->block = p;
        r->cap_block = n * 2;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(v, i);
        int64_t id;

        if (json_whole(r, at, key, one, 0, INT64_C(1) << 53, &id))
            return -1;
        r->block[i] = (uint64_t)id;
    }
    return 0;
}
