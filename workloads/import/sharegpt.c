/* sharegpt.c - ShareGPT-style conversations: a list of {"id", "conversations": [{"from",
 * "value"}]}, or one such object a line.
 *
 * A request is the first text of a human that a model answers next, and that answer's length. What
 * stands before it (a system text, or an answer to something that was cut off) is left out, and so
 * are the later turns: counted, as texts.c says. Senders: human or user; gpt, assistant, chatgpt,
 * bing or bard; system. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "workloads/reader.h"

enum sender { OTHER, HUMAN, MODEL };

static enum sender sender_of(const json_t *turn)
{
    static const struct { const char *name; enum sender sender; } names[] = {
        { "human", HUMAN }, { "user", HUMAN }, { "gpt", MODEL }, { "assistant", MODEL },
        { "chatgpt", MODEL }, { "bing", MODEL }, { "bard", MODEL },
    };
    const char *from = json_string_value(json_object_get(turn, "from"));

    for (size_t i = 0; from && i < sizeof names / sizeof *names; i++)
        if (!strcmp(from, names[i].name))
            return names[i].sender;
    return OTHER;
}

static int check_turn(struct reader *r, const struct place *at, const json_t *turn)
{
    char buf[64];

    if (!json_is_string(json_object_get(turn, "from")) ||
        !json_is_string(json_object_get(turn, "value")))
        return reader_fail(r, at, "conversations %s: each turn needs the strings from and value",
                           shown_json(turn, buf));
    return 0;
}

static int take(struct reader *r, const struct place *at, const json_t *v, struct text_row *out)
{
    const json_t *list = json_object_get(v, "conversations"), *id = json_object_get(v, "id");
    char buf[64];

    if (!json_is_array(list))
        return reader_fail(r, at, "conversations %s: not a list of turns",
                           list ? shown_json(list, buf) : "is missing");
    if (id && !(out->id = json_word(r, at, "id", id)))
        return -1;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *turn = json_array_get(list, i), *next = json_array_get(list, i + 1);

        if (check_turn(r, at, turn) || (next && check_turn(r, at, next)))
            return -1;
        if (sender_of(turn) != HUMAN || (next && sender_of(next) != MODEL))
            continue;
        if (out->prompt) {
            out->n_later++;
            continue;
        }
        out->prompt = json_string_value(json_object_get(turn, "value"));
        out->answer = next ? json_string_value(json_object_get(next, "value")) : NULL;
    }
    return 0;
}

static bool looks(const json_t *v)
{
    return json_is_array(json_object_get(v, "conversations"));
}

const struct text_format sharegpt_format = { "sharegpt-json", take, looks };
