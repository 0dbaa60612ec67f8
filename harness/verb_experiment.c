/* verb_experiment.c - a paper's experiment, run again: results/NN-question. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/home.h"
#include "harness/experiment.h"
#include "harness/report.h"
#include "harness/verb.h"

extern const struct verb verb_experiment;

static const char help[] =
    "usage: servelab experiment NAME [options]\n\n"
    "Runs results/NAME/sweep.json on the simulated device, asks results/NAME/checks.sql whether the runs agree\n"
    "with what the paper says, and draws the figure. Without NAME: lists the experiments there are.\n"
    "Each has a README.md with the question, the prediction and the finding.\n\n"
    "  --small      the short form that the tests run (fewer requests)\n"
    "  --out DIR    where runs.db, traces, checks.txt and figure.* go (default results/experiments/NAME;\n"
    "               a runs.db that lies there is written anew)\n"
    "  --no-figure  only run and check\n"
    "  --quiet      only the table\n"
    "  --json       one object on stdout: the claims, or the experiments there are\n\n"
    "Exit status: 0 when every claim holds or is known to be missed, 1 when one is missed.\n\n"
    "example: servelab experiment 01-memory\n";

static const struct option options[] = {
    { "small", 0, NULL, 's' }, { "out", 1, NULL, 'o' }, { "no-figure", 0, NULL, 'n' },
    { "quiet", 0, NULL, 'q' }, { "json", 0, NULL, 'j' }, { 0 },
};

static int list(bool json, struct err *e)
{
    enum { MAX = 64 };
    char *names[MAX], path[4200];
    size_t n = home_list("results", "", names, MAX);
    json_t *all = json_array();

    for (size_t i = 0; i < n; i++) {
        const char *question = NULL;
        json_t *o;

        snprintf(path, sizeof path, "%s/results/%s/sweep.json", home_dir(), names[i]);
        o = access(path, R_OK) ? NULL : json_load_file(path, 0, NULL);
        if (o && !json_unpack(o, "{s:s}", "question", &question) && json)
            json_array_append_new(all, json_pack("{s:s, s:s}", "name", names[i], "question", question));
        else if (question)
            printf("%-18s %s\n", names[i], question);
        json_decref(o);
        free(names[i]);
    }
    if (!json)
        json_decref(all);
    return json ? report_print(json_pack("{s:o}", "experiments", all), "results", e) : 0;
}

/* JSON knows no infinity: an open end is null. */
static json_t *number(double v, bool there)
{
    return there && isfinite(v) ? json_real(v) : json_null();
}

static int show_json(const struct experiment_result *r, struct err *e)
{
    json_t *claims = json_array();

    for (int i = 0; i < r->n; i++) {
        const struct experiment_claim *c = &r->claim[i];

        json_array_append_new(claims, json_pack("{s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:o}", "claim",
                                                report_text(c->claim), "value", number(c->value, c->has_value), "low",
                                                number(c->low, true), "high", number(c->high, true), "paper",
                                                report_text(c->paper), "holds", (int)c->held, "outside_paper",
                                                (int)c->outside, "known", report_text(c->known)));
    }
    return report_print(json_pack("{s:s, s:o, s:o, s:s, s:i, s:o}", "dir", r->dir, "simulated",
                                  report_text(r->how), "skipped", report_text(r->skipped),
                                  "figure", r->drawn ? "figure.png" : "", "missed", r->n_missed, "claims", claims),
                        "--out", e);
}

static int show(const struct experiment_conf *c, const struct experiment_result *r, bool json, struct err *e)
{
    if (json) {
        if (show_json(r, e))
            return -1;
    } else if (*r->skipped) {
        printf("%s: skipped: %s\n", c->name, r->skipped);
        return 0;
    } else {
        experiment_print(stdout, r);
    }
    if (!c->quiet && !json)
        fprintf(stderr, "%s/%s; runs.db beside it has %.1f MB, every run with its rows: delete it when you are done\n",
                r->dir, r->drawn ? "figure.png" : "checks.txt", (double)r->db_bytes / 1e6);
    if (r->n_missed)
        return err_set(e, EXIT_RUN_FAILED, "experiment %s: %d of %d claims are missed", c->name, r->n_missed,
                       r->n);
    return 0;
}

static int run(int argc, char **argv, struct err *e)
{
    struct experiment_conf c = { 0 };
    struct experiment_result *r;
    bool done = false, json = false;
    int opt, rc;

    while ((opt = verb_option(&verb_experiment, argc, argv, options, &done, e)) != -1) {
        switch (opt) {
        case 's': c.is_small = true; break;
        case 'o': c.dir = optarg; break;
        case 'n': c.no_figure = true; break;
        case 'q': c.quiet = true; break;
        case 'j': json = true; break;
        default: return -1;
        }
    }
    if (done)
        return 0;
    if (optind == argc)
        return list(json, e);
    if (optind + 1 < argc)
        return err_set(e, EXIT_USAGE, "experiment: unexpected argument '%s'", argv[optind + 1]);
    c.name = argv[optind];
    if (!(r = malloc(sizeof *r)))
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    rc = experiment_run(&c, r, e);
    if (!rc)
        rc = show(&c, r, json, e);
    free(r);
    return rc;
}

const struct verb verb_experiment = {
    .name = "experiment", .about = "run a paper's experiment again and check what it claims",
    .help = help, .rank = 3, .run = run,
};
