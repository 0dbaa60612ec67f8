/* verb_plot.c - draws the figures of an experiment. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/params.h"
#include "harness/capacity.h"
#include "harness/figures.h"
#include "harness/report.h"
#include "harness/verb.h"

extern const struct verb verb_plot;

static const char help[] = "usage: servelab plot [NAME...] [options]\n\n"
                           "Draws the figures of an experiment into experiments/<its "
                           "name>/figures/ beside the database: NAME.svg\n"
                           "and NAME.png, and NAME.gp and NAME.tsv to change and draw again with "
                           "gnuplot alone.\n\n"
                           "  --experiment X   name, id or 'latest' (default)\n"
                           "  --format LIST    svg,png (default: both)\n"
                           "  --a S, --b S     the two strategies of timeline and memory (name, "
                           "label or run id)\n"
                           "  --slo-share P    percent of the requests that must meet the SLO (the line in "
                           "capacity; default 90)\n"
                           "  --out FOLDER     somewhere else\n"
                           "  --list           the figures there are, and what they show\n"
                           "  --db FILE        the store (default results/servelab.db)\n"
                           "  --quiet          only errors\n"
                           "  --json           one object on stdout: the files that were written "
                           "and what each shows\n\n"
                           "example: servelab plot tail timeline --experiment latest --format "
                           "svg\n";

static const struct option options[] = {
    {"experiment", required_argument, NULL, 'x'}, {"format", required_argument, NULL, 'f'},
    {"a", required_argument, NULL, 'a'}, {"b", required_argument, NULL, 'b'},
    {"out", required_argument, NULL, 'o'}, {"list", no_argument, NULL, 'l'},
    {"db", required_argument, NULL, 'd'}, {"quiet", no_argument, NULL, 'q'},
    {"json", no_argument, NULL, 'j'}, {"slo-share", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}
};

struct args {
    const char *db, *which;
    bool list, quiet, json;
    struct figure_options o;
};

static int list(bool json, struct err *e)
{
    char names[FIGURE_NAMES][64], title[120], about[400];
    int n = figure_names(names, FIGURE_NAMES, e), i = 0;
    json_t *all = json_array();

    for (; i < n && !figure_about(names[i], title, sizeof title, about, sizeof about, e); i++)
        if (json)
            json_array_append_new(all, json_pack("{s:s, s:s, s:s}", "name", names[i], "title", title, "about", about));
        else
            printf("%-10s %s.\n           %s\n", names[i], title, about);
    if (json && i == n)
        n = report_print(json_pack("{s:O}", "figures", all), "--list", e) ? -1 : n;
    json_decref(all);
    return i == n ? 0 : -1;
}

static int known(const char *name, struct err *e)
{
    char names[FIGURE_NAMES][64];
    const char *all[FIGURE_NAMES], *near;
    int n = figure_names(names, FIGURE_NAMES, e);

    for (int i = 0; i < n; i++) {
        all[i] = names[i];
        if (strcmp(names[i], name) == 0)
            return 0;
    }
    if (n < 0)
        return -1;
    near = nearest_name(name, all, (size_t)n);
    return err_set(e, EXIT_USAGE, "plot: no figure '%s'; %s%s%s'servelab plot --list' shows all",
                   name, near ? "did you mean '" : "", near ? near : "", near ? "'? " : "");
}

static int formats_ok(const char *list_text, struct err *e)
{
    size_t n;

    for (const char *p = list_text; *p; p += n + (p[n] == ',')) {
        n = strcspn(p, ",");
        if (n != 3 || (strncmp(p, "svg", 3) != 0 && strncmp(p, "png", 3) != 0))
            return err_set(e, EXIT_USAGE, "--format %s: expected svg, png or svg,png", list_text);
    }
    return *list_text ? 0 : err_set(e, EXIT_USAGE, "--format: expected svg, png or svg,png");
}

static int draw(const struct args *a, struct err *e)
{
    struct figures *out = calloc(1, sizeof *out);
    int rc;

    if (!out)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    rc = figures_make(a->db, a->which, &a->o, out, e);
    if (!rc && a->json) {
        json_t *files = json_array();

        report_list_figures(files, out, a->o.formats);
        rc = report_print(json_pack("{s:s, s:o, s:b}", "db", a->db, "files", files, "gnuplot", !out->no_gnuplot),
                          "--db", e);
    }
    for (int i = 0; i < out->n && !rc && !a->quiet && !a->json; i++)
        printf("%s/%s.%s  %s\n", out->figure[i].dir, out->figure[i].name,
               !out->figure[i].drawn ? "gp" : a->o.formats ? "*" : "svg", out->figure[i].title);
    if (!rc && out->n == 0)
        rc = err_set(e, EXIT_RUN_FAILED,
                     "nothing to draw: no run of this experiment is done and valid");
    else if (!rc && out->no_gnuplot)
        rc = err_set(e, EXIT_RUN_FAILED, "no images: install gnuplot (package gnuplot-nox)");
    else if (!rc && out->failed)
        rc = err_set(e, EXIT_RUN_FAILED, "%d images could not be drawn", out->failed);
    free(out);
    return rc;
}

static int take(struct args *a, int opt, struct err *e)
{
    switch (opt) {
    case 'x': a->which = optarg; break;
    case 'f': a->o.formats = optarg; break;
    case 'a': a->o.a = optarg; break;
    case 'b': a->o.b = optarg; break;
    case 'o': a->o.dir = optarg; break;
    case 'd': a->db = optarg; break;
    case 'l': a->list = true; break;
    case 'q': a->quiet = true; break;
    case 'j': a->json = true; break;
    case 's': return capacity_share(optarg, &a->o.slo_share, e);
    default: return -1;
    }
    return 0;
}

static int run(int argc, char **argv, struct err *e)
{
    struct args a = {.db = "results/servelab.db"};
    bool done;
    int opt;

    while ((opt = verb_option(&verb_plot, argc, argv, options, &done, e)) != -1)
        if (take(&a, opt, e))
            return -1;
    if (done)
        return 0;
    if (a.list)
        return list(a.json, e);
    for (int i = optind; i < argc; i++)
        if (known(argv[i], e))
            return -1;
    if (a.o.formats && formats_ok(a.o.formats, e))
        return -1;
    a.o.names = (const char *const *)argv + optind;
    a.o.n_names = argc - optind;
    return draw(&a, e);
}

const struct verb verb_plot = {
    .name = "plot",
    .about = "draw the figures of an experiment",
    .help = help,
    .rank = 2,
    .run = run,
};
