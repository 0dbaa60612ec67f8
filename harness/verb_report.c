/* verb_report.c - an experiment for people: the table here, the page for the browser. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/capacity.h"
#include "harness/report.h"
#include "harness/summary.h"
#include "harness/verb.h"

extern const struct verb verb_report;

static const char help[] = "usage: servelab report [options]\n\n"
                           "Prints the table of an experiment and writes experiments/<its "
                           "name>/report.html beside the database:\n"
                           "one file with figures inside, that needs no network.\n\n"
                           "  --experiment X   name, id or 'latest' (default)\n"
                           "  --out FILE       the page, somewhere else\n"
                           "  --no-html        the table only\n"
                           "  --db FILE        the store (default results/servelab.db)\n"
                           "  --color WHEN     auto, always, never: best values in bold\n"
                           "  --slo-share P    percent of the requests that must meet the SLO, for the "
                           "highest rate borne\n"
                           "                   (default 90)\n"
                           "  --quiet          no table\n"
                           "  --json           instead: one object with the table's rows, and the "
                           "files that were written\n\n"
                           "example: servelab report --experiment latest\n";

static const struct option options[] = {
    {"experiment", required_argument, NULL, 'x'}, {"out", required_argument, NULL, 'o'},
    {"no-html", no_argument, NULL, 'n'}, {"db", required_argument, NULL, 'd'},
    {"color", required_argument, NULL, 'c'}, {"quiet", no_argument, NULL, 'q'},
    {"json", no_argument, NULL, 'j'}, {"slo-share", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}
};

struct args { const char *db, *which, *out, *color; double slo_share; bool no_html, quiet, json; };

static int take(struct args *a, int opt, struct err *e)
{
    switch (opt) {
    case 'x': a->which = optarg; break;
    case 'o': a->out = optarg; break;
    case 'd': a->db = optarg; break;
    case 'c': a->color = optarg; break;
    case 'n': a->no_html = true; break;
    case 'q': a->quiet = true; break;
    case 'j': a->json = true; break;
    case 's': return capacity_share(optarg, &a->slo_share, e);
    default: return -1;
    }
    return 0;
}

static int for_people(const struct args *a, struct selection *s, struct err *e)
{
    if (!a->quiet && summary_of(stdout, s, color_on(a->color, STDOUT_FILENO), e))
        return -1;
    return a->no_html ? 0 : report_page(s, "svg", a->out, a->quiet ? NULL : stdout, NULL, e);
}

static int for_machines(const struct args *a, struct selection *s, struct err *e)
{
    json_t *rows = report_rows(s, e), *capacity = report_capacity(s, e), *files = json_array();

    if (!rows || !capacity || (!a->no_html && report_page(s, "svg", a->out, NULL, files, e))) {
        json_decref(rows);
        json_decref(capacity);
        json_decref(files);
        return -1;
    }
    return report_print(json_pack("{s:s, s:I, s:o, s:o, s:o, s:o}", "db", s->path, "experiment",
                                  (json_int_t)s->experiment, "name", report_text(s->name), "rows", rows, "capacity",
                                  capacity, "files", files), "--db", e);
}

static int run(int argc, char **argv, struct err *e)
{
    struct args a = {.db = "results/servelab.db", .color = "auto", .slo_share = CAPACITY_SHARE};
    struct selection s;
    bool done;
    int opt, bad;

    while ((opt = verb_option(&verb_report, argc, argv, options, &done, e)) != -1)
        if (take(&a, opt, e))
            return -1;
    if (done)
        return 0;
    if (optind < argc)
        return err_set(e, EXIT_USAGE, "report: unexpected argument '%s'", argv[optind]);
    if (selection_open(&s, a.db, a.which, e))
        return -1;
    s.slo_share = a.slo_share;
    bad = a.json ? for_machines(&a, &s, e) : for_people(&a, &s, e);
    selection_close(&s);
    return bad ? -1 : 0;
}

const struct verb verb_report = {
    .name = "report",
    .about = "the table of an experiment, and its page as HTML",
    .help = help,
    .rank = 3,
    .run = run,
};
