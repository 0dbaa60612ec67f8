/* verb_run.c - the main job: one trace x strategies x rates x repeats. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/home.h"
#include "harness/capacity.h"
#include "harness/report.h"
#include "harness/summary.h"
#include "harness/sweep.h"
#include "harness/verb.h"

extern const struct verb verb_run;

static const char help[] =
    "usage: servelab run --trace F [options]\n\n"
    "Replays a trace against strategies, records every request and step, prints the comparison and draws\n"
    "the figures.\n\n"
    "  --trace F           a file, or a name under workloads/ (chat.json)\n"
    "  --strategy S[,S]    scheduler+memory+precision with knobs, such as continuous+paged:block=16+f16,\n"
    "                      or a preset; default: the preset 'default' (see 'servelab list')\n"
    "  --device D          cuda, cpu, sim, ref; auto (default): cuda where it can run, else cpu, and says why\n"
    "  --profile P         sim: machine to simulate (default cpu; see 'servelab list profiles')\n"
    "  --model M           a downloaded model, a Hugging Face folder, a GGUF file, or a shape (synthetic\n"
    "                      weights); default smollm2-135m: the real one where 'make model' fetched it\n"
    "  --scales F          AWQ scales of 'servelab calibrate', for precisions with awq=on\n"
    "  --chat              texts of the trace are put into the model's chat form, as a user's turn (real models\n"
    "                      with a known template); without it they are continued as they stand\n"
    "  --show-text         print what each request was answered (real models)\n"
    "  --rate X[,X]        multiplies the trace's arrival rate; '1-8*2' means 1,2,4,8 (default 1)\n"
    "  --repeats N         each cell N times, interleaved (default 1; a virtual clock: once)\n"
    "  --seed N            weights and prompt tokens (default 1)\n"
    "  --limit N           only the first N requests\n"
    "  --kv SIZE           KV pool: bytes (512MiB) or tokens (8192tok); default: 4 longest sequences\n"
    "  --host-kv SIZE      host memory for preempt=swap and host tiers (default: none)\n"
    "  --max-new N|exact   output limit that clients declare, for schedulers that reserve by it; default: the\n"
    "                      trace's longest output; exact: what each request will really use\n"
    "  --max-len N         longest sequence the server accepts; default: the trace's longest, rounded up\n"
    "                      to a power of two\n"
    "  --overlong HOW      requests longer than the model's context: refuse (default), skip, clip\n"
    "  --sort              accept a trace whose arrivals fall, sorted\n"
    "  --slo ttft:MS,tpot:MS,e2e:MS   limits for goodput; default: the trace's\n"
    "  --slo-share P       percent of the requests that must meet them, for the highest rate borne (default 90)\n"
    "  --pace P            idle time: skip (default; the clock gains the gap) or wall (slept through)\n"
    "  --max-duration S    cut a run after S seconds of its clock (such a run is invalid)\n"
    "  --threads N         cpu threads (default: all)      --isa I   cpu: scalar, avx2, avx512, avx512bf16\n"
    "  --log L             summary, request, gaps, step or token (default token: everything)\n"
    "  --name X --note T   of the experiment               --db F    default results/servelab.db\n"
    "  --no-figures        only record and print           --dry-run say what would run, and stop\n"
    "  --progress P        auto, always, never             --quiet   results only\n"
    "  --color C           auto, always, never             --json    one JSON object on stdout: how many runs,\n"
    "                      and which files were written\n\n"
    "example: servelab run --trace chat.json --strategy continuous+paged+f16,static+contiguous+f16\n"
    "example: servelab run --trace chat.json --device sim --profile l4 --model llama-3.2-1b --rate 1-16*2\n"
    "         --slo ttft:200,tpot:50                     (who bears how much)\n";

enum {
    O_TRACE = 1, O_STRATEGY, O_DEVICE, O_PROFILE, O_MODEL, O_SCALES, O_CHAT, O_SHOW, O_RATE, O_REPEATS, O_SEED,
    O_LIMIT, O_KV, O_MAX_LEN, O_OVERLONG, O_SORT, O_SLO, O_SLO_SHARE, O_PACE, O_MAX_DURATION, O_THREADS, O_ISA, O_LOG,
    O_NAME, O_NOTE, O_DB, O_HOST_KV, O_MAX_NEW, O_NO_FIGURES, O_DRY_RUN, O_PROGRESS, O_QUIET, O_COLOR, O_JSON
};
static const struct option options[] = {
    { "trace", 1, NULL, O_TRACE }, { "strategy", 1, NULL, O_STRATEGY },
    { "device", 1, NULL, O_DEVICE }, { "profile", 1, NULL, O_PROFILE },
    { "model", 1, NULL, O_MODEL }, { "scales", 1, NULL, O_SCALES },
    { "chat", 0, NULL, O_CHAT }, { "show-text", 0, NULL, O_SHOW }, { "rate", 1, NULL, O_RATE },
    { "repeats", 1, NULL, O_REPEATS }, { "seed", 1, NULL, O_SEED }, { "limit", 1, NULL, O_LIMIT },
    { "kv", 1, NULL, O_KV }, { "host-kv", 1, NULL, O_HOST_KV }, { "max-new", 1, NULL, O_MAX_NEW },
    { "max-len", 1, NULL, O_MAX_LEN }, { "overlong", 1, NULL, O_OVERLONG },
    { "sort", 0, NULL, O_SORT }, { "slo", 1, NULL, O_SLO }, { "slo-share", 1, NULL, O_SLO_SHARE },
    { "pace", 1, NULL, O_PACE }, { "max-duration", 1, NULL, O_MAX_DURATION }, { "threads", 1, NULL, O_THREADS },
    { "isa", 1, NULL, O_ISA }, { "log", 1, NULL, O_LOG }, { "name", 1, NULL, O_NAME },
    { "note", 1, NULL, O_NOTE }, { "db", 1, NULL, O_DB }, { "no-figures", 0, NULL, O_NO_FIGURES },
    { "dry-run", 0, NULL, O_DRY_RUN }, { "progress", 1, NULL, O_PROGRESS },
    { "quiet", 0, NULL, O_QUIET }, { "color", 1, NULL, O_COLOR }, { "json", 0, NULL, O_JSON },
    { 0 },
};

struct args {
    struct sweep_conf c;
    const char *strategy, *device, *rate, *trace, *color;
    double slo_share;
    bool no_figures, json;
};

static int word(const char *option, const char *given, const char *const *words, int *out,
                struct err *e)
{
    char all[200] = "";

    for (int i = 0; words[i]; i++) {
        if (!strcmp(given, words[i])) {
            *out = i;
            return 0;
        }
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", words[i]);
    }
    return err_set(e, EXIT_USAGE, "--%s %s: expected one of %s", option, given, all);
}

static int whole(const char *option, const char *given, int64_t min, int64_t max, int64_t *out,
                 struct err *e)
{
    if (!parse_int(given, min, max, out))
        return 0;
    return err_set(e, EXIT_USAGE, "--%s %s: expected a whole number from %lld to %lld", option, given,
                   (long long)min, (long long)max);
}

/* "1,2.5,4-16*2": values and geometric ranges. */
static int rates_parse(struct sweep_conf *c, const char *text, struct err *e)
{
    char copy[256], *save = NULL;

    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
        return err_set(e, EXIT_USAGE, "--rate: the list is too long");
    for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        char *dash = strchr(p, '-'), *star = strchr(p, '*');
        double from, to, step = 2;

        if (dash)
            *dash = 0;
        if (star)
            *star = 0;
        if (parse_real(p, 1e-6, 1e6, &from) || (to = from, dash && parse_real(dash + 1, from, 1e6, &to)) ||
            (star && (!dash || parse_real(star + 1, 1.0001, 1e6, &step))))
            return err_set(e, EXIT_USAGE, "--rate %s: expected numbers above 0, or ranges such as "
                           "1-16*2", text);
        for (; from <= to * 1.000001; from *= step) {
            for (size_t i = 0; i < c->n_rate; i++)
                if (c->rate[i] > from * 0.999999 && c->rate[i] < from * 1.000001)
                    return err_set(e, EXIT_USAGE, "--rate %s: %g stands twice; --repeats N runs each rate N times",
                                   text, from);
            if (c->n_rate == RATES_MAX)
                return err_set(e, EXIT_USAGE, "--rate: more than %d rates", RATES_MAX);
            c->rate[c->n_rate++] = from;
        }
    }
    return c->n_rate ? 0 : err_set(e, EXIT_USAGE, "--rate: no rate was given");
}

static int slo_parse(struct slo *s, const char *text, struct err *e)
{
    char copy[256], *save = NULL;

    memset(s, 0, sizeof *s);
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
        return err_set(e, EXIT_USAGE, "--slo: the list is too long");
    for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        char *colon = strchr(p, ':');
        double *to, was;

        if (colon)
            *colon = 0;
        to = !strcmp(p, "ttft") ? &s->ttft_ms : !strcmp(p, "tpot") ? &s->tpot_ms
             : !strcmp(p, "e2e") ? &s->e2e_ms : NULL;
        was = to ? *to : 0;
        if (!to || !colon || parse_real(colon + 1, 1e-3, 1e9, to))
            return err_set(e, EXIT_USAGE, "--slo %s: expected ttft:MS, tpot:MS, e2e:MS with limits "
                           "above 0", text);
        if (was > 0)
            return err_set(e, EXIT_USAGE, "--slo %s: %s is given twice", text, p);
    }
    return 0;
}

static int take(struct args *a, int opt, struct err *e)
{
    static const char *const paces[] = { "skip", "wall", NULL };
    static const char *const logs[] = { "summary", "request", "gaps", "step", "token", NULL };
    static const char *const overlongs[] = { "refuse", "skip", "clip", NULL };
    static const char *const modes[] = { "auto", "always", "never", NULL };
    struct sweep_conf *c = &a->c;
    int64_t v = 0;
    int w = 0, rc = 0;

    switch (opt) {
    case O_TRACE: a->trace = optarg; break;
    case O_STRATEGY: a->strategy = optarg; break;
    case O_DEVICE: a->device = optarg; break;
    case O_PROFILE: c->device_conf.profile = optarg; break;
    case O_MODEL: c->model = optarg; break;
    case O_SCALES: c->scales = optarg; break;
    case O_CHAT: c->chat = true; break;
    case O_SHOW: c->show_text = true; break;
    case O_RATE: a->rate = optarg; break;
    case O_REPEATS: rc = whole("repeats", optarg, 1, 10000, &v, e); c->repeats = (uint32_t)v; break;
    case O_SEED: rc = whole("seed", optarg, 0, INT64_MAX, &v, e); c->seed = (uint64_t)v; break;
    case O_LIMIT:
        rc = whole("limit", optarg, 1, UINT32_MAX, &v, e);
        c->trace_options.limit = (uint32_t)v;
        break;
    case O_KV: c->kv_text = optarg; break;
    case O_HOST_KV: c->host_kv_text = optarg; break;
    case O_MAX_NEW:
        c->max_new_is_exact = !strcmp(optarg, "exact");
        if (!c->max_new_is_exact)
            rc = whole("max-new", optarg, 1, TRACE_MAX_OUTPUT, &v, e);
        c->max_new = (uint32_t)v;
        break;
    case O_MAX_LEN: rc = whole("max-len", optarg, 2, 16777216, &v, e); c->max_len = (uint32_t)v; break;
    case O_OVERLONG:
        rc = word("overlong", optarg, overlongs, &w, e);
        c->trace_options.overlong = (enum overlong)w;
        break;
    case O_SORT: c->trace_options.sort = true; break;
    case O_SLO: c->has_slo = true; rc = slo_parse(&c->slo, optarg, e); break;
    case O_SLO_SHARE: rc = capacity_share(optarg, &a->slo_share, e); break;
    case O_PACE: rc = word("pace", optarg, paces, &w, e); c->device_conf.pace = (enum pace)w; break;
    case O_MAX_DURATION:
        if (parse_real(optarg, 1e-3, 1e9, &c->max_duration_s))
            rc = err_set(e, EXIT_USAGE, "--max-duration %s: expected seconds, such as 90 or 0.5", optarg);
        break;
    case O_THREADS:
        rc = whole("threads", optarg, 1, 1024, &v, e);
        c->device_conf.n_thread = (int)v;
        break;
    case O_ISA: c->device_conf.isa = optarg; break;
    case O_LOG: rc = word("log", optarg, logs, &w, e); c->log = (enum log_level)w; break;
    case O_NAME: c->name = optarg; break;
    case O_NOTE: c->note = optarg; break;
    case O_DB: c->db = optarg; break;
    case O_NO_FIGURES: a->no_figures = true; break;
    case O_DRY_RUN: c->dry_run = true; break;
    case O_PROGRESS:
        rc = word("progress", optarg, modes, &w, e);
        c->progress = (enum progress_mode)w;
        break;
    case O_QUIET: c->quiet = true; break;
    case O_COLOR: rc = word("color", optarg, modes, &w, e); a->color = optarg; break;
    default: a->json = true; break;
    }
    return rc;
}

/* auto: a GPU where one can run, else cpu, and the output says why. */
static int choose_device(struct args *a, struct err *e)
{
    static char note[1040];
    char line[1000] = "this build has no GPU device";
    const struct device_ops *gpu = device_find("cuda", NULL);

    a->c.device_note = "";
    if (strcmp(a->device, "auto")) {
        a->c.device = device_find(a->device, e);
        return a->c.device ? 0 : -1;
    }
    if (gpu && !gpu->probe(line, sizeof line)) {
        a->c.device = gpu;
        return 0;
    }
    a->c.device = device_find("cpu", e);
    snprintf(note, sizeof note, "device auto chose cpu: %s", line);
    a->c.device_note = note;
    return a->c.device ? 0 : -1;
}

static int complete(struct args *a, char *trace_path, size_t n, struct err *e)
{
    struct sweep_conf *c = &a->c;

    if (!a->trace)
        return err_set(e, EXIT_USAGE, "run: --trace is missing; try --trace chat.json");
    if (strategies_parse(c->strategy, &c->n_strategy, a->strategy, e) ||
        rates_parse(c, a->rate, e) || choose_device(a, e))
        return -1;
    if (c->device_conf.profile && strcmp(c->device->name, "sim"))
        return err_set(e, EXIT_USAGE, "--profile is for --device sim");
    if (c->device_conf.isa && strcmp(c->device->name, "cpu"))
        return err_set(e, EXIT_USAGE, "--isa is for --device cpu; this run is on %s", c->device->name);
    if (c->show_text && !c->device->computes)
        return err_set(e, EXIT_USAGE, "--show-text: device %s computes no tokens; use --device cpu", c->device->name);
    if (!c->device->computes && c->device_conf.pace == PACE_WALL)
        return err_set(e, EXIT_USAGE, "--pace wall: device sim has a virtual clock, it cannot sleep");
    if (trace_find(a->trace, trace_path, n, e))
        return -1;
    if (!c->device->computes && c->repeats > 1) {
        fprintf(stderr, "servelab: device %s has a virtual clock and repeats itself exactly: instead of --repeats %u "
                "each cell is run once\n", c->device->name, c->repeats);
        c->repeats = 1;
    }
    c->trace_path = trace_path;
    c->trace_options.report = stderr;
    return 0;
}

static void command_line(int argc, char **argv, char *out, size_t n)
{
    size_t used = (size_t)snprintf(out, n, "servelab");

    for (int i = 0; i < argc && used < n; i++) {
        bool plain = argv[i][strspn(argv[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                             "0123456789_-+=:,./%*")] == 0 && *argv[i];

        used += (size_t)snprintf(out + used, n - used, plain ? " %s" : " '%s'", argv[i]);
    }
}

static int outcome(const struct sweep_result *r)
{
    if (r->interrupted)
        return EXIT_INTERRUPTED;
    if (r->n_failed)
        return EXIT_RUN_FAILED;
    return r->n_invalid ? EXIT_INVALID : 0;
}

/* The table, and the page with its figures. */
static int results(const struct args *a, const struct sweep_result *r, const char *id, json_t *files, struct err *e)
{
    struct selection s;
    int rc = 0;

    if (selection_open(&s, a->c.db, id, e))
        return -1;
    s.slo_share = a->slo_share;
    if (!a->json)
        rc = summary_of(stdout, &s, color_on(a->color, STDOUT_FILENO), e);
    if (!rc && r->n_done && !a->no_figures)
        rc = report_page(&s, NULL, NULL, a->json ? stderr : stdout, files, e);
    selection_close(&s);
    return rc;
}

static int show(const struct args *a, const struct sweep_result *r, struct err *e)
{
    json_t *files = json_array();
    char id[24];
    int rc;

    snprintf(id, sizeof id, "%lld", (long long)r->experiment_id);
    rc = results(a, r, id, files, e);
    if (a->json)                                   /* the runs are there, whatever became of the figures */
        rc |= report_print(json_pack("{s:I, s:s, s:i, s:i, s:i, s:i, s:b, s:O}", "experiment",
                                     (json_int_t)r->experiment_id, "db", a->c.db, "runs", (int)r->n_run, "done",
                                     (int)r->n_done, "failed", (int)r->n_failed, "invalid", (int)r->n_invalid,
                                     "interrupted", (int)r->interrupted, "files", files), "--db", e);
    json_decref(files);
    return rc;
}

static int run(int argc, char **argv, struct err *e)
{
    struct args *a = calloc(1, sizeof *a);
    struct sweep_result r = { 0 };
    char trace_path[4096], command[2000];
    bool done = false;
    int opt, rc = 0;

    if (!a)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    a->c.repeats = 1;
    a->c.seed = 1;
    a->c.log = LOG_TOKEN;
    a->c.model = "smollm2-135m";
    a->c.db = "results/servelab.db";
    a->strategy = "default";
    a->slo_share = CAPACITY_SHARE;
    a->device = "auto";
    a->rate = "1";
    command_line(argc, argv, command, sizeof command);
    a->c.command_line = command;
    while (!rc && (opt = verb_option(&verb_run, argc, argv, options, &done, e)) != -1)
        rc = opt == '?' ? -1 : take(a, opt, e);
    if (!rc && !done && optind < argc)
        rc = err_set(e, EXIT_USAGE, "run: unexpected argument '%s'", argv[optind]);
    if (!rc && !done)
        rc = complete(a, trace_path, sizeof trace_path, e);
    if (!rc && !done)
        rc = sweep_run(&a->c, &r, e);
    if (!rc && !done && !a->c.dry_run)
        rc = show(a, &r, e);
    if (!rc)
        rc = outcome(&r);
    free(a);
    return rc;
}

const struct verb verb_run = {
    .name = "run", .about = "replay a trace against strategies, compare, draw", .help = help,
    .rank = 1, .run = run,
};
