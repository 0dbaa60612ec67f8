/* texts.c - requests from sets of texts: prompts, perhaps answers, no times and no token counts.
 *
 * What is missing is asked for, not guessed: lengths come from the tokenizer that the caller gives,
 * output lengths from the recorded answer or from the user's number, arrival times from the user's
 * law. One request is made of each row: the first turn of a conversation, as vLLM's benchmark does,
 * since later ones answer to a reply that a replay does not give; how many were left out stands in
 * the header. Stays true: gaps are scaled so that n requests arrive at exactly the rate asked for,
 * and the same seed gives the same times. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workloads/reader.h"

const char *const arrival_names[LAW_N] = { "none", "poisson", "gamma", "even", "batch" };

static const struct text_format *const formats[] = {
    &mt_bench_format, &arena_hard_format, &gsm8k_format, &human_eval_format, &sharegpt_format,
};

const struct text_format *texts_looks(const json_t *first)
{
    if (json_object_get(first, "schema"))
        return NULL;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i]->looks(first))
            return formats[i];
    return NULL;
}

int texts_start(struct reader *r, const struct text_format *f)
{
    const struct text_options *o = &r->o->texts;

    r->texts = f;
    snprintf(r->t->format, sizeof r->t->format, "%s", f->name);
    if (!o->count)
        return reader_fail(
            r, NULL,
            "is %s: texts, whose lengths need a tokenizer; servelab trace convert IN OUT "
            "--tokenizer MODEL --arrivals poisson --rate R makes a trace of it",
            f->name);
    if (o->arrivals == LAW_NONE)
        return reader_fail(
            r, NULL,
            "is %s: texts without times; add --arrivals poisson (or gamma, even) and "
            "--rate R, or --arrivals batch",
            f->name);
    if (o->arrivals != LAW_BATCH && !(o->rate > 0))
        return reader_fail(r, NULL, "--arrivals %s: needs --rate R, requests per second",
                           arrival_names[o->arrivals]);
    if ((o->arrivals == LAW_GAMMA) != (o->cv > 0))
        return reader_fail(r, NULL, "--arrivals %s: %s", arrival_names[o->arrivals],
                           o->cv > 0 ? "--cv is for gamma" : "needs --cv C, the CV of the gaps");
    return 0;
}

int texts_count(struct reader *r, const struct place *at, const char *text, bool is_prompt,
                int64_t *out)
{
    const struct text_options *o = &r->o->texts;
    const char *key = is_prompt ? "prompt" : "answer";

    if (!o->count)
        return reader_fail(r, at,
                           "%s: texts without prompt_tokens need a tokenizer to count them; add "
                           "--tokenizer MODEL, or give prompt_tokens or prompt_ids",
                           key);
    if (!*r->t->tokenizer && o->tokenizer)
        snprintf(r->t->tokenizer, sizeof r->t->tokenizer, "%s", o->tokenizer);
    *out = o->count(o->self, text, strlen(text), is_prompt);
    return *out < 0 ? reader_fail(r, at, "%s: cannot be counted by the tokenizer", key) : 0;
}

/* 1: keep, 0: left out, -1: refused. */
static int check(struct reader *r, const struct place *at, const struct text_row *t)
{
    bool answered = r->o->texts.n_out || (t->answer && *t->answer);

    if (t->prompt && *t->prompt && answered)
        return 1;
    if (r->o->texts.skip_empty) {
        r->n_empty++;
        return 0;
    }
    if (t->prompt && *t->prompt && !t->answer)
        return reader_fail(r, at, "has no recorded answer whose length could be taken; add "
                           "--output-tokens N");
    return reader_fail(r, at,
                       "has no prompt, or an empty answer; --empty=skip leaves such rows out");
}

/* 0: the row is ready; otherwise it was refused or left out. */
static int take(struct reader *r, struct row *w, struct text_row *t, const json_t *v)
{
    if (r->texts->take(r, &w->at, v, t) || check(r, &w->at, t) <= 0 ||
        texts_count(r, &w->at, t->prompt, true, &w->n_prompt))
        return -1;
    w->n_out = r->o->texts.n_out;
    if (!w->n_out && texts_count(r, &w->at, t->answer, false, &w->n_out))
        return -1;
    w->id = t->id;
    w->more.prompt = t->prompt;
    w->has_more = true;
    r->n_turn += t->n_later;
    return 0;
}

int texts_row(struct reader *r, const struct place *at, const char *text, size_t n)
{
    struct row w = { .at = *at, .more.think_s = -1 };
    struct text_row t = { 0 };
    json_t *v = json_text(r, at, text, n);
    char buf[64];
    int rc = 0;

    if (!v)
        return 0;
    if (!json_is_object(v))
        reader_fail(r, at, "%s: a row must be an object", shown_json(v, buf));
    else if (!take(r, &w, &t, v))
        rc = rows_add(r, &w);
    json_decref(v);
    return rc || r->first.code == EXIT_RUN_FAILED ? -1 : 0;
}

/* The next gap, before scaling. */
static double gap(const struct text_options *o, struct rng *g)
{
    if (o->arrivals == LAW_EVEN)
        return 1;
    return rng_gamma(g, o->arrivals == LAW_GAMMA ? 1 / (o->cv * o->cv) : 1);
}

static void assign(struct trace *t, const struct text_options *o)
{
    double now = 0, scale;
    struct rng g;

    rng_seed(&g, hash64(o->seed, 0x74657874));
    for (uint32_t i = 1; i < t->n; i++)
        now += gap(o, &g);
    scale = now > 0 ? (t->n - 1) / o->rate / now : 0;
    rng_seed(&g, hash64(o->seed, 0x74657874));
    now = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        now += i ? gap(o, &g) : 0;
        t->req[i].arrive_us = llround(now * scale * 1e6);
    }
}

int texts_finish(struct reader *r)
{
    const struct text_options *o = &r->o->texts;
    char law[64] = "batch", length[40] = "of the recorded answers";

    if (!r->texts)
        return o->arrivals == LAW_NONE
                   ? 0
                   : reader_fail(r, NULL,
                                 "has arrival times of its own; --arrivals is for texts without");
    if (o->arrivals != LAW_BATCH) {
        if ((r->t->n - 1) / o->rate > ARRIVAL_MAX_S)
            return reader_fail(r, NULL,
                               "--rate %g: %" PRIu32 " requests would last longer than %d s",
                               o->rate, r->t->n, ARRIVAL_MAX_S);
        assign(r->t, o);
        snprintf(law, sizeof law, "%s rate=%g seed=%" PRIu64, arrival_names[o->arrivals], o->rate,
                 o->seed);
    }
    if (o->arrivals == LAW_GAMMA)
        snprintf(law, sizeof law, "gamma rate=%g cv=%g seed=%" PRIu64, o->rate, o->cv, o->seed);
    if (o->n_out)
        snprintf(length, sizeof length, "%" PRIu32 " for every request", o->n_out);
    snprintf(r->t->recipe, sizeof r->t->recipe, "texts of %s; arrivals made: %s; output tokens: %s",
             r->texts->name, law, length);
    if (r->n_turn)
        reader_warn(r, "note: %" PRIu64 " later turns are left out; each row gives its first",
                    r->n_turn);
    if (r->n_empty)
        reader_warn(r, "note: %" PRIu64 " rows without a prompt or an answer are left out",
                    r->n_empty);
    return 0;
}
