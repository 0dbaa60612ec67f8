/* verb_trace.c - `servelab trace`: look at traces, check them, convert them, generate them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/params.h"
#include "harness/prompts.h"
#include "harness/trace_show.h"
#include "harness/verb.h"
#include "workloads/trace.h"

struct args {
    struct trace_options read;
    struct recipe_options recipe;
    const char *out;
    const char *tokenizer;
    bool json, quiet;
    char **name;                   /* what stands after the subverb */
    int n_name;
};

enum { O_JSON = 1, O_QUIET, O_SORT, O_LONG, O_LIMIT, O_CONTEXT, O_COUNT, O_RATE, O_CV, O_SEED,
       O_TOKENIZER, O_ARRIVALS, O_OUT_TOKENS, O_EMPTY, O_COLUMN };

static const struct option options[] = {
    { "json", no_argument, NULL, O_JSON },
    { "quiet", no_argument, NULL, O_QUIET },
    { "sort", no_argument, NULL, O_SORT },
    { "overlong", required_argument, NULL, O_LONG },
    { "limit", required_argument, NULL, O_LIMIT },
    { "max-context", required_argument, NULL, O_CONTEXT },
    { "output", required_argument, NULL, 'o' },
    { "count", required_argument, NULL, O_COUNT },
    { "rate", required_argument, NULL, O_RATE },
    { "cv", required_argument, NULL, O_CV },
    { "seed", required_argument, NULL, O_SEED },
    { "tokenizer", required_argument, NULL, O_TOKENIZER },
    { "arrivals", required_argument, NULL, O_ARRIVALS },
    { "output-tokens", required_argument, NULL, O_OUT_TOKENS },
    { "empty", required_argument, NULL, O_EMPTY },
    { "column", required_argument, NULL, O_COLUMN },
    { NULL, 0, NULL, 0 },
};

extern const struct verb verb_trace;

static int take_whole(const char *option, int64_t min, int64_t max, int64_t *out, struct err *e)
{
    if (!parse_int(optarg, min, max, out))
        return 0;
    return err_set(e, EXIT_USAGE,
                   "trace: --%s %.60s: expected a whole number from %" PRId64 " to %" PRId64,
                   option, optarg, min, max);
}

static int take_real(const char *option, double min, double max, double *out, struct err *e)
{
    if (!parse_real(optarg, min, max, out))
        return 0;
    return err_set(e, EXIT_USAGE, "trace: --%s %.60s: expected a number from %g to %g", option,
                   optarg, min, max);
}

static int take_overlong(struct args *a, struct err *e)
{
    static const char *const words[] = { "refuse", "skip", "clip" };

    for (int i = 0; i < 3; i++)
        if (!strcmp(optarg, words[i])) {
            a->read.overlong = (enum overlong)i;
            return 0;
        }
    return err_set(e, EXIT_USAGE, "trace: --overlong %.60s: expected refuse, skip or clip", optarg);
}

static int take_arrivals(struct args *a, struct err *e)
{
    for (int i = LAW_POISSON; i < LAW_N; i++)
        if (!strcmp(optarg, arrival_names[i])) {
            a->read.texts.arrivals = (enum arrival_law)i;
            return 0;
        }
    return err_set(e, EXIT_USAGE, "trace: --arrivals %.60s: expected poisson, gamma, even or batch",
                   optarg);
}

static int take_empty(struct args *a, struct err *e)
{
    a->read.texts.skip_empty = !strcmp(optarg, "skip");
    if (a->read.texts.skip_empty || !strcmp(optarg, "refuse"))
        return 0;
    return err_set(e, EXIT_USAGE, "trace: --empty %.60s: expected refuse or skip", optarg);
}

/* "arrived=ts,input=prompt_tokens,output=completion_tokens,unit=ms": cut up where it lies, in argv. */
static int take_columns(struct args *a, struct err *e)
{
    static const char *const keys[] = { "arrived", "input", "output", "unit" };
    static const char *const units[] = { "", "s", "ms", "us", "ns" };
    struct csv_options *o = &a->read.csv;

    for (char *rest = optarg, *pair, *value; (pair = strsep(&rest, ",")) != NULL;) {
        size_t k = 0, u = CLOCK_S;

        if ((value = strchr(pair, '=')) != NULL)
            *value++ = '\0';
        while (k < 4 && strcmp(pair, keys[k]))
            k++;
        if (k == 4 || !value || !*value)
            return err_set(e, EXIT_USAGE, "trace: --column %.60s: expected arrived=NAME,input=NAME,output=NAME and, "
                           "for bare numbers, unit=s, ms, us or ns", pair);
        if (k < CSV_COLUMNS) {
            o->column[k] = value;
            continue;
        }
        while (u <= CLOCK_NS && strcmp(value, units[u]))
            u++;
        if (u > CLOCK_NS)
            return err_set(e, EXIT_USAGE, "trace: --column unit=%.60s: expected s, ms, us or ns", value);
        o->clock = (enum csv_clock)u;
    }
    for (int k = 0; k < CSV_COLUMNS; k++)
        if (!o->column[k])
            return err_set(e, EXIT_USAGE, "trace: --column: %s= is missing; expected "
                           "arrived=NAME,input=NAME,output=NAME", keys[k]);
    return 0;
}

static int take_option(struct args *a, int c, struct err *e)
{
    int64_t v = 0;
    int rc = 0;

    switch (c) {
    case O_JSON: a->json = true; break;
    case O_QUIET: a->quiet = true; break;
    case O_SORT: a->read.sort = true; break;
    case O_LONG: rc = take_overlong(a, e); break;
    case O_LIMIT:
        rc = take_whole("limit", 1, UINT32_MAX, &v, e);
        a->read.limit = (uint32_t)v;
        break;
    case O_CONTEXT:
        rc = take_whole("max-context", 2, UINT32_MAX, &v, e);
        a->read.max_context = (uint32_t)v;
        break;
    case 'o': a->out = optarg; break;
    case O_COUNT: rc = take_whole("count", 1, 20000000, &v, e); a->recipe.n = (uint32_t)v; break;
    case O_RATE: rc = take_real("rate", 1e-6, 1e6, &a->recipe.rate, e); break;
    case O_CV: rc = take_real("cv", 0.01, 20, &a->recipe.cv, e); break;
    case O_SEED: rc = take_whole("seed", 0, INT64_MAX, &v, e); a->recipe.seed = (uint64_t)v; break;
    case O_TOKENIZER: a->tokenizer = optarg; break;
    case O_ARRIVALS: rc = take_arrivals(a, e); break;
    case O_EMPTY: rc = take_empty(a, e); break;
    case O_COLUMN: rc = take_columns(a, e); break;
    case O_OUT_TOKENS:
        rc = take_whole("output-tokens", 1, TRACE_MAX_OUTPUT, &v, e);
        a->read.texts.n_out = (uint32_t)v;
        break;
    default: rc = -1;
    }
    return rc;
}

static int need(const struct args *a, int n, const char *what, struct err *e)
{
    if (a->n_name == n)
        return 0;
    return err_set(e, EXIT_USAGE, "trace: expected %s; 'servelab trace --help' explains it", what);
}

static int read_named(struct trace *t, const struct args *a, struct err *e)
{
    struct trace_options o = a->read;
    struct prompts p = { 0 };
    char path[4096];
    int rc;

    o.texts.rate = a->recipe.rate;
    o.texts.cv = a->recipe.cv;
    o.texts.seed = a->recipe.seed;
    if (a->tokenizer && prompts_open(&p, a->tokenizer, &o.texts, e))
        return -1;
    rc = trace_find(a->name[0], path, sizeof path, e) || trace_read(t, path, &o, e) ? -1 : 0;
    prompts_close(&p);
    return rc;
}

static int run_info(const struct args *a, struct err *e)
{
    struct trace_info info;
    struct trace t;
    int rc;

    if (need(a, 1, "one trace: servelab trace info TRACE", e) || read_named(&t, a, e))
        return -1;
    if (!(rc = trace_stat(&t, &info, e)))
        (a->json ? trace_show_json : trace_show_table)(&t, &info);
    trace_free(&t);
    return rc;
}

static int run_validate(const struct args *a, struct err *e)
{
    struct trace t;

    if (need(a, 1, "one trace: servelab trace validate TRACE", e) || read_named(&t, a, e))
        return -1;
    if (!a->quiet)
        printf("%s: valid %s, %" PRIu32 " requests, sha256 %s\n", a->name[0], t.format, t.n,
               t.sha256);
    trace_free(&t);
    return 0;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);

    return n >= k && !strcmp(s + n - k, end);
}

static int write_out(const struct trace *t, const char *path, const struct args *a, struct err *e)
{
    if (ends_with(path, ".gz"))
        return err_set(e, EXIT_USAGE,
                       "trace: %.300s: written plain; name it .json or .jsonl and pack it "
                       "with gzip",
                       path);
    if (!ends_with(path, ".json") && !ends_with(path, ".jsonl") && strncmp(path, "/dev/", 5))
        return err_set(e, EXIT_USAGE, "trace: %.300s: expected a name that ends in .json or .jsonl, which says the "
                       "form", path);
    if (trace_write(t, path, ends_with(path, ".jsonl"), e))
        return -1;
    if (!a->quiet)
        printf("%s: %" PRIu32 " requests written\n", path, t->n);
    return 0;
}

static int run_convert(const struct args *a, struct err *e)
{
    struct trace t;
    int rc;

    if (need(a, 2, "two names: servelab trace convert IN OUT.json (or .jsonl)", e) ||
        read_named(&t, a, e))
        return -1;
    rc = write_out(&t, a->name[1], a, e);
    trace_free(&t);
    return rc;
}

static int run_generate(const struct args *a, struct err *e)
{
    struct trace t;
    int rc;

    if (need(a, 1, "one recipe: servelab trace generate RECIPE -o FILE", e))
        return -1;
    if (!a->out)
        return err_set(e, EXIT_USAGE,
                       "trace generate: no output file; add -o FILE.json (or .jsonl)");
    if (trace_generate(&t, a->name[0], &a->recipe, e))
        return -1;
    rc = write_out(&t, a->out, a, e);
    trace_free(&t);
    return rc;
}

static const struct {
    const char *name;
    int (*run)(const struct args *a, struct err *e);
} subverbs[] = {
    { "info", run_info }, { "validate", run_validate }, { "convert", run_convert },
    { "generate", run_generate },
};
enum { N_SUB = sizeof subverbs / sizeof *subverbs };

static int unknown(const char *name, struct err *e)
{
    const char *names[N_SUB], *near;

    for (size_t i = 0; i < N_SUB; i++)
        names[i] = subverbs[i].name;
    near = nearest_name(name, names, N_SUB);
    return err_set(e, EXIT_USAGE,
                   "trace: unknown action '%.60s'; %s%s%s'servelab trace --help' shows all", name,
                   near ? "did you mean '" : "", near ? near : "", near ? "'? " : "");
}

static int take_options(struct args *a, int argc, char **argv, bool *done, struct err *e)
{
    static char output[] = "--output";
    int c;

    a->read.report = stderr;
    a->recipe.seed = 1;
    optind = 1;
    for (int i = 1; i < argc; i++)             /* verb_option knows long names only */
        if (!strcmp(argv[i], "-o"))
            argv[i] = output;
    while ((c = verb_option(&verb_trace, argc, argv, options, done, e)) >= 0)
        if (c == '?' || take_option(a, c, e))
            return -1;
    if (a->quiet)
        a->read.report = NULL;
    a->name = argv + optind;
    a->n_name = argc - optind;
    return 0;
}

/* The action stands first; its options and names follow in any order. */
static int run(int argc, char **argv, struct err *e)
{
    bool has_action = argc > 1 && argv[1][0] != '-', done;
    struct args a = { 0 };

    if (take_options(&a, argc - has_action, argv + has_action, &done, e))
        return -1;
    if (done)
        return 0;
    if (!has_action)
        return err_set(e, EXIT_USAGE,
                       "trace: what to do? info, validate, convert or generate; 'servelab "
                       "trace --help' explains them");
    for (size_t i = 0; i < N_SUB; i++)
        if (!strcmp(subverbs[i].name, argv[1]))
            return subverbs[i].run(&a, e);
    return unknown(argv[1], e);
}

const struct verb verb_trace = {
    .name = "trace",
    .about = "describe, check, convert and generate request traces",
    .rank = 40,
    .run = run,
    .help =
"usage: servelab trace info TRACE [--json]          figures of a trace\n"
"       servelab trace validate TRACE               check it, change nothing\n"
"       servelab trace convert IN OUT               write serving-trace/1 to OUT.json or OUT.jsonl\n"
"       servelab trace generate RECIPE -o FILE      synthetic trace: chat, chat-full or code-full\n"
"\n"
"TRACE is a path or a name under workloads/. Formats are recognised by content, plain or gzip:\n"
"serving-trace/1 (JSON, JSONL), Azure LLM inference CSV, Mooncake JSONL; and sets of texts: MT-bench,\n"
"arena-hard, GSM8K, HumanEval (JSONL), ShareGPT (JSON, JSONL).\n"
"\n"
"reading:\n"
"  --limit N           keep the first N requests\n"
"  --sort              sort by arrival (otherwise falling arrivals are refused)\n"
"  --max-context N     prompt + output above N is overlong\n"
"  --overlong WHAT     refuse (default), skip or clip overlong requests\n"
"  --column LIST       columns of your own CSV: arrived=NAME,input=NAME,output=NAME (times as dates, or numbers\n"
"                      since 1970 or any start; unit=s, ms, us or ns where their size does not say it)\n"
"texts (they have neither lengths nor times):\n"
"  --tokenizer MODEL   counts their tokens: a model's name, folder, tokenizer.json or GGUF file\n"
"  --arrivals LAW      poisson, gamma, even (each with --rate, gamma with --cv) or batch\n"
"  --output-tokens N   for every request; otherwise the recorded answer's length\n"
"  --empty WHAT        refuse (default) or skip rows without a prompt or an answer\n"
"generating:\n"
"  -o, --output FILE   where to write\n"
"  --count N           requests\n"
"  --rate R            requests per second\n"
"  --cv C              coefficient of variation of the gaps; 1 is Poisson, more is bursty\n"
"  --seed S            1 by default; the same seed gives the same bytes\n"
"output:\n"
"  --json              info as one JSON object\n"
"  --quiet             no notes and warnings\n"
"\n"
"example: servelab trace generate chat --count 200 --rate 6 --cv 3 -o bursty.json\n"
"         servelab trace info bursty.json\n"
"         servelab trace convert log.csv mine.json --column arrived=ts,input=prompt,output=completion\n"
"         servelab trace convert gsm8k.jsonl math.json --tokenizer smollm2-135m --arrivals poisson --rate 2\n",
};
