/* verb_list.c - what there is: schedulers, memory managers, precisions, devices, models, presets ... */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/home.h"
#include "base/params.h"
#include "harness/model_list.h"
#include "harness/preset.h"
#include "harness/verb.h"
#include "kernels/device.h"
#include "kernels/sim/profile.h"
#include "strategies/strategy.h"

extern const struct verb verb_list;

static const char help[] =
    "usage: servelab list [KIND] [--json]\n\n"
    "KIND: schedulers, memory, precisions, launches, devices, profiles, models, presets, traces, recipes.\n"
    "Without one: everything. A strategy is scheduler+memory+precision, knobs follow a part's name:\n"
    "continuous:batch=16+paged:block=32+int4:group=128.\n\n"
    "example: servelab list schedulers\n";

static const struct option options[] = { { "json", 0, NULL, 'j' }, { 0 } };

static json_t *knobs_json(const struct knob *k)
{
    json_t *list = json_array();

    for (; k && k->name; k++) {
        json_t *o = json_pack("{s:s, s:s}", "name", k->name, "about", k->about);

        if (k->words) {
            struct params p = { .knob = k, .value = { k->def } };
            char word[32];

            json_object_set_new(o, "words", json_string(k->words));
            json_object_set_new(o, "default", json_string(params_word(&p, k->name, word)));
        } else
            json_object_update_new(o, json_pack("{s:I, s:I, s:I}", "default", (json_int_t)k->def, "min",
                                                (json_int_t)k->min, "max", (json_int_t)k->max));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *item(const char *name, const char *about, json_t *knobs)
{
    return json_pack("{s:s, s:s, s:o*}", "name", name, "about", about, "knobs", knobs);
}

static json_t *list_schedulers(void)
{
    json_t *a = json_array();

    for (size_t i = 0; sched_registry[i]; i++)
        json_array_append_new(a, item(sched_registry[i]->name, sched_registry[i]->about,
                                      knobs_json(sched_registry[i]->knobs)));
    return a;
}

static json_t *list_memory(void)
{
    json_t *a = json_array();

    for (size_t i = 0; kv_registry[i]; i++)
        json_array_append_new(a, item(kv_registry[i]->name, kv_registry[i]->about,
                                      knobs_json(kv_registry[i]->knobs)));
    return a;
}

static json_t *list_launches(void)
{
    json_t *a = json_array();

    for (size_t i = 0; exec_registry[i]; i++)
        json_array_append_new(a, item(exec_registry[i]->name, exec_registry[i]->about,
                                      knobs_json(exec_registry[i]->knobs)));
    return a;
}

static json_t *list_precisions(void)
{
    json_t *a = json_array();

    for (size_t i = 0; prec_registry[i]; i++)
        json_array_append_new(a, item(prec_registry[i]->name, prec_registry[i]->about,
                                      knobs_json(prec_registry[i]->knobs)));
    return a;
}

static json_t *list_devices(void)
{
    json_t *a = json_array();

    for (size_t i = 0; device_registry[i]; i++)
        json_array_append_new(a, item(device_registry[i]->name, device_registry[i]->about, NULL));
    return a;
}

static json_t *list_files(const char *folder, const char *suffix,
                          json_t *(*describe)(const char *name, const char *path))
{
    char *names[256], path[4096];
    size_t n = home_list(folder, suffix, names, 256);
    json_t *a = json_array();

    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s/%s%s", home_dir(), folder, names[i], suffix);
        json_array_append_new(a, describe(names[i], path));
        free(names[i]);
    }
    return a;
}

static json_t *describe_profile(const char *name, const char *path)
{
    struct sim_profile p;
    struct err e = { 0 };
    json_t *o = item(name, profile_load(&p, path, &e) ? e.text : p.about, NULL);

    if (!e.code)
        profile_free(&p);
    return o;
}

static json_t *describe_preset(const char *name, const char *path)
{
    struct preset *p = malloc(sizeof *p);
    struct err e = { 0 };
    json_t *o, *list;

    if (!p || preset_load(p, path, &e)) {
        free(p);
        return item(name, e.text, NULL);
    }
    o = item(p->name, p->about, NULL);
    list = json_array();
    for (size_t i = 0; i < p->n; i++)
        json_array_append_new(list, json_string(p->strategy[i]));
    json_object_set_new(o, "strategies", list);
    json_object_set_new(o, "source", json_string(p->source));
    free(p);
    return o;
}

static json_t *describe_trace(const char *name, const char *path)
{
    char about[80];
    (void)path;

    snprintf(about, sizeof about, "servelab trace info %s.json", name);
    return item(name, about, NULL);
}

static json_t *list_profiles(void) { return list_files("kernels/sim/profiles", ".json", describe_profile); }
static json_t *list_presets(void) { return list_files("strategies/presets", ".json", describe_preset); }
static json_t *list_traces(void) { return list_files("workloads", ".json", describe_trace); }

static json_t *list_recipes(void)
{
    json_t *a = json_array();

    for (size_t i = 0; recipe_names()[i]; i++)
        json_array_append_new(a, item(recipe_names()[i], "servelab trace generate", NULL));
    return a;
}

static const struct kind { const char *name; json_t *(*get)(void); } kinds[] = {
    { "schedulers", list_schedulers }, { "memory", list_memory }, { "precisions", list_precisions },
    { "launches", list_launches },
    { "devices", list_devices }, { "profiles", list_profiles }, { "models", model_list },
    { "presets", list_presets }, { "traces", list_traces }, { "recipes", list_recipes },
};
enum { N_KIND = sizeof kinds / sizeof *kinds };

static void print_knob(json_t *k)
{
    json_t *def = json_object_get(k, "default");

    printf("    %-10s %s", json_string_value(json_object_get(k, "name")),
           json_string_value(json_object_get(k, "about")));
    if (json_is_integer(def))
        printf(" (default %lld)", (long long)json_integer_value(def));
    else
        printf(" (%s; default %s)", json_string_value(json_object_get(k, "words")),
               json_string_value(def));
    putchar('\n');
}

static void print_kind(const struct kind *k, json_t *list)
{
    json_t *o, *x;
    size_t i, j;

    printf("%s\n", k->name);
    json_array_foreach(list, i, o) {
        printf("  %-12s %s\n", json_string_value(json_object_get(o, "name")),
               json_string_value(json_object_get(o, "about")));
        json_array_foreach(json_object_get(o, "knobs"), j, x)
            print_knob(x);
        json_array_foreach(json_object_get(o, "strategies"), j, x)
            printf("    %s\n", json_string_value(x));
    }
}

static int run(int argc, char **argv, struct err *e)
{
    const char *names[N_KIND];
    json_t *all = NULL;
    bool json = false, done, found = false;
    int opt;

    while ((opt = verb_option(&verb_list, argc, argv, options, &done, e)) != -1) {
        if (opt == '?')
            return -1;
        json = true;
    }
    if (done)
        return 0;
    all = json_object();
    for (size_t i = 0; i < N_KIND; i++) {
        names[i] = kinds[i].name;
        if (optind < argc && strcmp(argv[optind], kinds[i].name))
            continue;
        found = true;
        json_object_set_new(all, kinds[i].name, kinds[i].get());
        if (!json)
            print_kind(&kinds[i], json_object_get(all, kinds[i].name));
    }
    if (json && found) {
        json_dumpf(all, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
        putchar('\n');
    }
    json_decref(all);
    if (found)
        return 0;
    const char *near = nearest_name(argv[optind], names, N_KIND);

    return err_set(e, EXIT_USAGE, "list: unknown kind '%s'; %s%s%s'servelab list --help' shows all",
                   argv[optind], near ? "did you mean '" : "", near ? near : "", near ? "'? " : "");
}

const struct verb verb_list = {
    .name = "list", .about = "schedulers, memory managers, precisions, devices, models, presets",
    .help = help, .rank = 4, .run = run,
};
