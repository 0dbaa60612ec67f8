/* questions.c - published sets of questions, one JSON object a line: MT-bench (lm-sys/FastChat),
 * arena-hard (lm-sys/arena-hard-auto), GSM8K (openai/grade-school-math), HumanEval (openai/human-
 * eval).
 *
 * A set is known by the keys of its first row. Only GSM8K and HumanEval record an answer. Later
 * turns of MT-bench are counted, not taken (texts.c says why). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "workloads/reader.h"

static bool has(const json_t *v, const char *a, const char *b, const char *c)
{
    return json_object_get(v, a) && json_object_get(v, b) && (!c || json_object_get(v, c));
}

static int text_of(struct reader *r, const struct place *at, const char *key, const json_t *v,
                   const char **out)
{
    char buf[64];

    if (!v)
        return reader_fail(r, at, "%s: is missing", key);
    if (!json_is_string(v))
        return reader_fail(r, at, "%s %s: not a string", key, shown_json(v, buf));
    *out = json_string_value(v);
    return 0;
}

/* A text or a whole number, as its digits. */
static int id_of(struct reader *r, const struct place *at, const char *key, const json_t *v,
                 struct text_row *out)
{
    if (json_is_integer(v)) {
        snprintf(out->digits, sizeof out->digits, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        out->id = out->digits;
        return 0;
    }
    out->id = v ? json_word(r, at, key, v) : NULL;
    return out->id ? 0 : v ? -1 : reader_fail(r, at, "%s: is missing", key);
}

static int turns_of(struct reader *r, const struct place *at, const json_t *v, const json_t **first,
                    struct text_row *out)
{
    const json_t *turns = json_object_get(v, "turns");
    size_t n = json_array_size(turns);
    char buf[64];

    if (!n)
        return reader_fail(r, at, "turns %s: not a list with at least one turn",
                           turns ? shown_json(turns, buf) : "is missing");
    *first = json_array_get(turns, 0);
    out->n_later = (uint32_t)(n - 1);
    return id_of(r, at, "question_id", json_object_get(v, "question_id"), out);
}

static int mt_bench_take(struct reader *r, const struct place *at, const json_t *v,
                         struct text_row *out)
{
    const json_t *first;

    return turns_of(r, at, v, &first, out) || text_of(r, at, "turns", first, &out->prompt) ? -1 : 0;
}

static bool mt_bench_looks(const json_t *v)
{
    return has(v, "question_id", "turns", NULL) &&
           json_is_string(json_array_get(json_object_get(v, "turns"), 0));
}

static int arena_hard_take(struct reader *r, const struct place *at, const json_t *v,
                           struct text_row *out)
{
    const json_t *first;

    if (turns_of(r, at, v, &first, out))
        return -1;
    return text_of(r, at, "turns content", json_object_get(first, "content"), &out->prompt);
}

static bool arena_hard_looks(const json_t *v)
{
    return has(v, "question_id", "turns", NULL) &&
           json_object_get(json_array_get(json_object_get(v, "turns"), 0), "content");
}

static int gsm8k_take(struct reader *r, const struct place *at, const json_t *v,
                      struct text_row *out)
{
    return text_of(r, at, "question", json_object_get(v, "question"), &out->prompt) ||
           text_of(r, at, "answer", json_object_get(v, "answer"), &out->answer) ? -1 : 0;
}

static bool gsm8k_looks(const json_t *v)
{
    return has(v, "question", "answer", NULL);
}

static int human_eval_take(struct reader *r, const struct place *at, const json_t *v,
                           struct text_row *out)
{
    return id_of(r, at, "task_id", json_object_get(v, "task_id"), out) ||
                   text_of(r, at, "prompt", json_object_get(v, "prompt"), &out->prompt) ||
                   text_of(r, at, "canonical_solution", json_object_get(v, "canonical_solution"),
                           &out->answer)
               ? -1
               : 0;
}

static bool human_eval_looks(const json_t *v)
{
    return has(v, "task_id", "prompt", "canonical_solution");
}

const struct text_format mt_bench_format = { "mt-bench-jsonl", mt_bench_take, mt_bench_looks };
const struct text_format arena_hard_format = { "arena-hard-jsonl", arena_hard_take,
                                               arena_hard_looks };
const struct text_format gsm8k_format = { "gsm8k-jsonl", gsm8k_take, gsm8k_looks };
const struct text_format human_eval_format = { "human-eval-jsonl", human_eval_take,
                                               human_eval_looks };
