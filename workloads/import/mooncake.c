/* mooncake.c - Mooncake's request lines: {"timestamp", "input_length", "output_length",
 * "hash_ids"}.
 *
 * The file has no header, so what it means stands here (kvcache-ai/Mooncake,
 * FAST25-release/traces): timestamps are milliseconds, a hash id stands for 512 prompt tokens and
 * everything before them, and the last id covers the rest, so there are ceil(input_length / 512).
 * Read as serving-trace rows from there. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "workloads/reader.h"

static const char *const names[] = { "timestamp", "input_length", "output_length", "hash_ids" };

bool mooncake_looks(const json_t *first)
{
    return !json_object_get(first, "schema") && (json_object_get(first, "hash_ids") ||
           (json_object_get(first, "timestamp") && json_object_get(first, "input_length")));
}

int mooncake_start(struct reader *r)
{
    snprintf(r->t->format, sizeof r->t->format, "mooncake-jsonl");
    r->t->block_tokens = 512;
    r->t->block_tail_partial = true;
    return 0;
}

static int take(struct reader *r, struct row *w, const json_t *v)
{
    const json_t *one[4];
    double ms;

    for (int i = 0; i < 4; i++)
        if (!(one[i] = json_object_get(v, names[i])))
            return reader_fail(r, &w->at, "%s: is missing", names[i]);
    /* 1e12 ms with three decimals are 15 digits: exact, as in json.c */
    if (json_number(r, &w->at, names[0], one[0], 0, 1e12, &ms) ||
        json_whole(r, &w->at, names[1], one[1], 1, INT64_C(1) << 53, &w->n_prompt) ||
        json_whole(r, &w->at, names[2], one[2], 1, INT64_C(1) << 53, &w->n_out) ||
        json_ids(r, &w->at, names[3], one[3]))
        return -1;
    w->arrive_us = llround(ms * 1e3);
    w->block = r->block;
    w->n_block = (uint32_t)json_array_size(one[3]);
    w->has_blocks = true;
    return 0;
}

/* Fields of other dialects (text_input, delay, session_id ...) change what a row means. */
static int check_keys(struct reader *r, const struct place *at, json_t *v)
{
    const char *key;
    json_t *one;

    json_object_foreach(v, key, one) {
        size_t i = 0;

        while (i < 4 && strcmp(key, names[i]))
            i++;
        if (i == 4)
            return json_unknown(r, at, key, names, 4);
    }
    return 0;
}

int mooncake_row(struct reader *r, const struct place *at, const char *text, size_t n)
{
    json_t *v = json_text(r, at, text, n);
    struct row w = { .at = *at, .more.think_s = -1 };
    char buf[64];
    int rc = 0;

    if (!v)
        return 0;
    if (!json_is_object(v))
        reader_fail(r, at, "%s: a request must be an object", shown_json(v, buf));
    else if (!check_keys(r, at, v) && !take(r, &w, v))
        rc = rows_add(r, &w);
    json_decref(v);
    return rc || r->first.code == EXIT_RUN_FAILED ? -1 : 0;
}
