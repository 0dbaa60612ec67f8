/* verb_explain.c - a preset, a strategy or one part of it in words: what it does, with which knobs, where it
 * comes from. The words are those of the parts themselves (about, knobs), so they cannot go stale. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/home.h"
#include "base/params.h"
#include "harness/preset.h"
#include "harness/report.h"
#include "harness/verb.h"

extern const struct verb verb_explain;

static const char help[] =
    "usage: servelab explain NAME [--json]\n\n"
    "Prints a policy in words, with every knob, its value and its default. NAME is a preset (vllm-2026), a\n"
    "strategy (chunked:budget=256+paged+f16) or one part of it (no_evict); 'servelab list' has them all. For\n"
    "the preset of an engine: where it comes from, the engine's command line, and what is not reproduced.\n"
    "--json: the same as one object on stdout.\n\n"
    "example: servelab explain vllm-2026\n";

static const struct option options[] = { { "json", 0, NULL, 'j' }, { 0 } };

/* `text` in lines of at most 96 columns, the later ones indented. */
static void wrapped(const char *head, const char *text)
{
    int at = printf("%-10s", head);

    while (*text) {
        int n = (int)strcspn(text, " ");

        if (at + 1 + n > 96 && at > 10)
            at = printf("\n%-10s", "") - 1;
        at += printf(" %.*s", n, text);
        text += n;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static const char *knob_text(const struct knob *k, int64_t value, char out[40])
{
    struct params p = { .knob = k, .value = { value } };

    if (k->words)
        params_word(&p, k->name, out);
    else
        snprintf(out, 40, "%lld", (long long)value);
    return out;
}

static json_t *knob_json(const struct knob *k, int64_t value)
{
    char text[40];

    return k->words ? json_string(knob_text(k, value, text)) : json_integer(value);
}

static void print_knob(const struct knob *k, int64_t value)
{
    char now[40], def[40], line[400];

    knob_text(k, value, now);
    knob_text(k, k->def, def);
    snprintf(line, sizeof line, "%s = %s%s%s%s: %s", k->name, now, value == k->def ? "" : " (default ",
             value == k->def ? "" : def, value == k->def ? "" : ")", k->about);
    wrapped("", line);
}

static void add_part(json_t *to, const char *kind, const char *name, const char *about, bool oracle,
                     const struct knob *k, const int64_t *values)
{
    json_t *knobs = json_array();

    for (size_t i = 0; k && k[i].name; i++)
        json_array_append_new(knobs, json_pack("{s:s, s:o, s:o, s:s}", "name", k[i].name, "value",
                                               knob_json(&k[i], values ? values[i] : k[i].def), "default",
                                               knob_json(&k[i], k[i].def), "about", k[i].about));
    json_array_append_new(to, json_pack("{s:s, s:s, s:s, s:b, s:o}", "kind", kind, "name", name, "about", about,
                                        "oracle", (int)oracle, "knobs", knobs));
}

/* One part, onto the list `to` or (NULL) in words. values NULL: its defaults. */
static void show_part(json_t *to, const char *kind, const char *name, const char *about, bool oracle,
                      const struct knob *k, const int64_t *values)
{
    char line[500];

    if (to) {
        add_part(to, kind, name, about, oracle, k, values);
        return;
    }
    snprintf(line, sizeof line, "%s: %s", name, about);
    wrapped(kind, line);
    if (oracle)
        wrapped("", "(may read the true output length, which no real server knows)");
    for (size_t i = 0; k && k[i].name; i++)
        print_knob(&k[i], values ? values[i] : k[i].def);
}

static int show_strategy(json_t *to, const char *text, struct err *e)
{
    struct strategy s;
    json_t *parts = NULL;

    if (strategy_parse(&s, text, e))
        return -1;
    if (to)
        json_array_append_new(to, json_pack("{s:o, s:o}", "strategy", report_text(text), "parts",
                                            parts = json_array()));
    else
        wrapped("strategy", text);
    show_part(parts, "scheduler", s.sched->name, s.sched->about, s.sched->oracle, s.sched->knobs,
              s.sched_params.value);
    show_part(parts, "memory", s.kv->name, s.kv->about, s.kv->oracle, s.kv->knobs, s.kv_params.value);
    show_part(parts, "weights", s.prec->name, s.prec->about, false, s.prec->knobs, s.prec_params.value);
    show_part(parts, "launch", s.exec->name, s.exec->about, false, s.exec->knobs, s.exec_params.value);
    return 0;
}

static void print_preset(const struct preset *p)
{
    char line[200];

    wrapped(p->name, p->about);
    if (*p->engine) {
        snprintf(line, sizeof line, "%s, %s (%d)", p->engine, p->version, p->year);
        wrapped("engine", line);
        wrapped("command", p->engine_command);
    }
    wrapped("source", p->source);
    if (*p->differs)
        wrapped("differs", p->differs);
}

/* With json its object is put there. */
static int show_preset(json_t **json, const char *path, struct err *e)
{
    struct preset *p = malloc(sizeof *p);
    json_t *list = NULL;
    int rc = -1;

    if (!p)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    if (!preset_load(p, path, e)) {
        if (json)
            *json = json_pack("{s:o, s:o, s:o, s:o, s:i, s:o, s:o, s:o, s:o}", "preset", report_text(p->name), "about",
                              report_text(p->about), "engine", report_text(p->engine), "version",
                              report_text(p->version), "year", p->year, "command", report_text(p->engine_command),
                              "source", report_text(p->source), "differs", report_text(p->differs), "strategies",
                              list = json_array());
        else
            print_preset(p);
        rc = 0;
        for (size_t i = 0; i < p->n && !rc; i++) {
            if (!json)
                putchar('\n');
            rc = show_strategy(list, p->strategy[i], e);
        }
    }
    free(p);
    return rc;
}

/* A part by its name alone. */
static bool show_named(json_t *to, const char *name)
{
    for (size_t i = 0; sched_registry[i]; i++)
        if (!strcmp(name, sched_registry[i]->name)) {
            show_part(to, "scheduler", name, sched_registry[i]->about, sched_registry[i]->oracle,
                      sched_registry[i]->knobs, NULL);
            return true;
        }
    for (size_t i = 0; kv_registry[i]; i++)
        if (!strcmp(name, kv_registry[i]->name)) {
            show_part(to, "memory", name, kv_registry[i]->about, kv_registry[i]->oracle, kv_registry[i]->knobs,
                      NULL);
            return true;
        }
    for (size_t i = 0; prec_registry[i]; i++)
        if (!strcmp(name, prec_registry[i]->name)) {
            show_part(to, "weights", name, prec_registry[i]->about, false, prec_registry[i]->knobs, NULL);
            return true;
        }
    for (size_t i = 0; exec_registry[i]; i++)
        if (!strcmp(name, exec_registry[i]->name)) {
            show_part(to, "launch", name, exec_registry[i]->about, false, exec_registry[i]->knobs, NULL);
            return true;
        }
    return false;
}

static int unknown(const char *name, struct err *e)
{
    enum { MAX = 256 };
    const char *all[4 * MAX], *near;
    char *presets[MAX];
    size_t n = home_list("strategies/presets", ".json", presets, MAX), k = 0;

    for (size_t i = 0; i < n; i++)
        all[k++] = presets[i];
    for (size_t i = 0; sched_registry[i] && k < 2 * MAX; i++)
        all[k++] = sched_registry[i]->name;
    for (size_t i = 0; kv_registry[i] && k < 3 * MAX; i++)
        all[k++] = kv_registry[i]->name;
    for (size_t i = 0; prec_registry[i] && k < 4 * MAX; i++)
        all[k++] = prec_registry[i]->name;
    for (size_t i = 0; exec_registry[i] && k < 4 * MAX; i++)
        all[k++] = exec_registry[i]->name;
    near = nearest_name(name, all, k);
    err_set(e, EXIT_USAGE, "explain: no preset or part is called '%s'; %s%s%s'servelab list' shows all", name,
            near ? "did you mean '" : "", near ? near : "", near ? "'? " : "");
    while (n)
        free(presets[--n]);
    return -1;
}

static int run(int argc, char **argv, struct err *e)
{
    char path[4096];
    bool done = false, is_json = false;
    json_t *parts = NULL, *preset = NULL;
    int opt, rc;

    while ((opt = verb_option(&verb_explain, argc, argv, options, &done, e)) != -1) {
        if (opt != 'j')
            return -1;
        is_json = true;
    }
    if (done)
        return 0;
    if (optind + 1 != argc)
        return err_set(e, EXIT_USAGE, "explain: expected one name; 'servelab explain --help' has an example");
    snprintf(path, sizeof path, "%s/strategies/presets/%s.json", home_dir(), argv[optind]);
    parts = is_json ? json_array() : NULL;
    if (!strchr(argv[optind], '/') && access(path, R_OK) == 0)
        rc = show_preset(is_json ? &preset : NULL, path, e);
    else if (strchr(argv[optind], '+'))
        rc = show_strategy(parts, argv[optind], e);
    else
        rc = show_named(parts, argv[optind]) ? 0 : unknown(argv[optind], e);
    if (!rc && is_json)
        rc = report_print(json_incref(preset ? preset : json_array_get(parts, 0)), "explain", e);
    json_decref(preset);
    json_decref(parts);
    return rc;
}

const struct verb verb_explain = {
    .name = "explain", .about = "a preset, strategy or part in words: policy, knobs, source, what differs",
    .help = help, .rank = 4, .run = run,
};
