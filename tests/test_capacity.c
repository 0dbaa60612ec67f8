/* test_capacity.c - the highest rate borne: read off what was run, never interpolated, at the share asked for; a
 * throughput that is the load's is not ranked; and what the options about it take. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/capacity.h"
#include "harness/figures.h"
#include "harness/report.h"
#include "harness/summary.h"
#include "harness/verb.h"
#include "results/db.h"
#include "tests/program.h"
#include "tests/results_fixture.h"
#include "tests/test.h"

static const double rates[] = {1, 2, 4};
enum { ALL = 40, STRATEGIES = 2, RATES = 3 };

/* Two strategies, three rates, limits that everything meets. */
static const char *sweep(bool sim)
{
    const struct fixture f = {.n_request = ALL, .n_strategy = STRATEGIES, .repeats = 1, .rates = rates, .n_rate = RATES,
                              .sim = sim};
    const char *path = fixture_path("c.db");
    struct err e = {0};

    remove(path);
    CU_ASSERT_EQUAL_FATAL(fixture_make(path, &f, &e), 0);
    return path;
}

/* One rate, one run of each strategy. */
static const char *one_rate(uint32_t n_request, uint32_t n_strategy)
{
    const struct fixture f = {.n_request = n_request, .n_strategy = n_strategy, .repeats = 1};
    const char *path = fixture_path("one.db");
    struct err e = {0};

    remove(path);
    CU_ASSERT_EQUAL_FATAL(fixture_make(path, &f, &e), 0);
    return path;
}

static void edit(const char *path, const char *sql)
{
    sqlite3 *db = NULL;

    CU_ASSERT_EQUAL_FATAL(sqlite3_open(path, &db), SQLITE_OK);
    CU_ASSERT_EQUAL(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* The rest of these runs' requests miss the SLO: n of 40 meet it. run: 1 and 2 at x1, 3 and 4 at x2, 5 and 6 at x4. */
static void meet(const char *path, int run, int n)
{
    char sql[300];

    snprintf(sql, sizeof sql, "UPDATE runs SET slo_json = '{\"ttft_ms\":1e9,\"tpot_ms\":0,\"e2e_ms\":0}'; "
             "UPDATE requests SET status = 'failed' WHERE run_id = %d AND request_id >= %d", run, n);
    edit(path, sql);
}

static char *capacity(const char *path, double share)
{
    struct selection s;
    struct err e = {0};
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    CU_ASSERT_EQUAL_FATAL(selection_open(&s, path, NULL, &e), 0);
    s.slo_share = share;
    CU_ASSERT_EQUAL(capacity_print(out, &s, &e), 0);
    selection_close(&s);
    fclose(out);
    test_note("%s", text);
    return text;
}

/* The line of strategy `label` holds all of these words, one after the other. */
static bool line_has(const char *text, const char *label, const char *const *word)
{
    char line[200];
    const char *p = strstr(text, label);

    p = p ? p + 1 : NULL;                                /* label: "\nname " */
    snprintf(line, sizeof line, "%.*s", p ? (int)strcspn(p, "\n") : 0, p ? p : "");
    for (p = line; *word && p; word++)
        p = (p = strstr(p, *word)) ? p + strlen(*word) : NULL;
    return p && p != line;
}
#define HAS(label, ...) CU_ASSERT(line_has(text, label, (const char *const[]){__VA_ARGS__, NULL}))

static void highest_rate(void)
{
    const char *db = sweep(false);
    char *text;

    meet(db, 6, 35);                                     /* paged, x4: 87.5 % */
    text = capacity(db, 90);
    HAS("\ncontig ", ">= x4", "7.80", "100 %");      /* 39 gaps in 20 s, times 4 */
    HAS("\npaged ", " x2 ", "3.90", "100 %", "87.5 % at x4");
    CU_ASSERT(strstr(text, "\ncontig ") < strstr(text, "\npaged "));
    CU_ASSERT_PTR_NULL(strstr(text, "virtual clock"));
    free(text);
    text = capacity(db, 87.5);                           /* at least: the boundary holds */
    HAS("\npaged ", ">= x4", "7.80", "87.5 %");
    free(text);
}

/* The page and the machine's form say the same. */
static void page_and_json(void)
{
    const char *db = sweep(true);
    static struct figures none;
    struct selection s;
    struct err e = {0};
    json_t *all;
    char path[700], *html;

    meet(db, 6, 35);
    snprintf(path, sizeof path, "%s/page.html", test_dir());
    CU_ASSERT_EQUAL_FATAL(selection_open(&s, db, NULL, &e), 0);
    CU_ASSERT_EQUAL(report_write(&s, &none, path, &e), 0);
    all = report_capacity(&s, &e);
    selection_close(&s);
    html = file_text(path, &e);
    CU_ASSERT_PTR_NOT_NULL(strstr(html, "Highest rate with at least 90 % of the requests within the SLO: chat.json"));
    CU_ASSERT_PTR_NOT_NULL(strstr(html, "not measured; read off the rates that were run"));
    CU_ASSERT(strstr(html, "Highest rate with at least") < strstr(html, "<h2>Comparison"));     /* the answer first */
    CU_ASSERT_PTR_NOT_NULL(strstr(html, "<td class=\"text\">&gt;= x4</td>"));
    CU_ASSERT_PTR_NOT_NULL(strstr(html, "<td class=\"text\">87.5 % at x4</td>"));
    CU_ASSERT_EQUAL(json_array_size(all), 2);
    CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(json_array_get(all, 1), "rate")), "x2");
    CU_ASSERT_DOUBLE_EQUAL(json_real_value(json_object_get(json_array_get(all, 1), "offered_rps")), 3.9, 1e-12);
    json_decref(all);
    free(html);
}

/* A rate that holds above one that fails is luck, not capacity. */
static void below_the_first_failure(void)
{
    const char *db = sweep(true);
    char *text;

    meet(db, 2, 30);                                     /* paged fails at x1 and holds at x2, x4 */
    meet(db, 3, 30);                                     /* contiguous fails at x2 and holds at x4 */
    text = capacity(db, 90);
    HAS("\npaged ", "< x1", "75 % at x1");
    HAS("\ncontig ", " x1 ", "1.95", "75 % at x2");
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "virtual clock, cost model, not measured"));
    free(text);
    meet(db, 6, 20);                                     /* and paged fails at x4 as well: the first failure counts */
    text = capacity(db, 90);
    HAS("\npaged ", "< x1", "75 % at x1");
    free(text);
}

static void nothing_without_a_sweep(void)
{
    struct fixture f = {.n_request = ALL, .n_strategy = 2, .repeats = 2};
    const char *db = sweep(false);
    struct err e = {0};
    char *text;

    for (int i = 0; i < 2; i++) {                        /* one rate; then several, but no SLO */
        remove(db);
        CU_ASSERT_EQUAL_FATAL(fixture_make(db, &f, &e), 0);
        text = capacity(db, 90);
        CU_ASSERT_STRING_EQUAL(text, "");
        free(text);
        f.rates = rates;
        f.n_rate = RATES;
        f.no_slo = true;
    }
}

/* The figure has both strategies at all rates, and the asked share; none without a sweep. */
static void figure(void)
{
    static struct figures out;
    const char *const names[] = {"capacity"};
    const struct figure_options o = {.names = names, .n_names = 1, .formats = "svg", .slo_share = 75};
    const char *db = sweep(false);
    struct fixture f = {.n_request = ALL, .n_strategy = 2, .repeats = 1};
    struct err e = {0};
    char path[700], *gp, *tsv;

    meet(db, 6, 35);
    CU_ASSERT_EQUAL_FATAL(figures_make(db, NULL, &o, &out, &e), 0);
    CU_ASSERT_EQUAL_FATAL(out.n, 1);
    CU_ASSERT_EQUAL(out.failed, 0);
    snprintf(path, sizeof path, "%s/capacity.gp", out.figure[0].dir);
    gp = file_text(path, &e);
    snprintf(path, sizeof path, "%s/capacity.tsv", out.figure[0].dir);
    tsv = file_text(path, &e);
    CU_ASSERT_PTR_NOT_NULL(strstr(gp, "SLO_SHARE = 75;"));
    CU_ASSERT_PTR_NOT_NULL(strstr(gp, "ROWS2 = 6\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(tsv, "2\t7.8\t87.5\t87.5\t87.5\t4\t"));
    free(gp);
    free(tsv);
    remove(db);
    CU_ASSERT_EQUAL_FATAL(fixture_make(db, &f, &e), 0);
    CU_ASSERT_EQUAL(figures_make(db, NULL, &o, &out, &e), 0);
    CU_ASSERT_EQUAL(out.n, 0);
}

static void take_line(void *ctx, const char *line)
{
    fprintf(ctx, "%s\n", line);
}

static char *verdict(const char *path)
{
    struct selection s;
    struct err e = {0};
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    CU_ASSERT_EQUAL_FATAL(selection_open(&s, path, NULL, &e), 0);
    CU_ASSERT_EQUAL(report_verdict(&s, 1, take_line, out, &e), 0);
    selection_close(&s);
    fclose(out);
    test_note("%s", text);
    return text;
}

/* Throughput is ranked only where the load leaves room for it to differ. */
static void served_load_is_not_ranked(void)
{
    const char *db = one_rate(ALL, 2);
    char *text;

    text = verdict(db);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "Highest throughput"));
    CU_ASSERT_PTR_NULL(strstr(text, "served the offered load"));
    free(text);
    edit(db, "UPDATE runs SET window_output_tokens = (SELECT CAST(0.97 * sum(target_output_tokens) * (window_end_ns - "
         "window_start_ns) / (max(arrival_ns) - min(arrival_ns)) AS INTEGER) + 10 * run_id FROM requests q WHERE "
         "q.run_id = runs.run_id)");
    text = verdict(db);
    CU_ASSERT_PTR_NULL(strstr(text, "Highest throughput"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "All strategies served the offered load"));
    free(text);
}

/* A load that nobody bears is said to be one, and pairs of equal throughput say what differs. */
static void overload_is_said(void)
{
    const char *db = one_rate(ALL, 2);
    char *text;

    meet(db, 1, 10);
    meet(db, 2, 2);
    edit(db, "UPDATE runs SET window_output_tokens = 1000, window_end_ns = 100000000000");
    text = verdict(db);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "at most 25 % of the requests are within the SLO"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "no difference in throughput"));
    CU_ASSERT(strstr(text, "25 % against 5 % of the requests") || strstr(text, "5 % against 25 % of the requests"));
    free(text);
}

/* The verdict's percentile is the table's. */
static void tail_of_the_table(void)
{
    const char *db = one_rate(400, 2);
    char *text;

    text = verdict(db);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "Shortest time to first token, p99"));
    CU_ASSERT_PTR_NULL(strstr(text, "p90"));
    free(text);
}

/* Curves of the tail end where the sample ends to carry them: 40 requests carry p90. */
static void tail_is_cut(void)
{
    static struct figures out;
    const char *const names[] = {"tail"};
    const struct figure_options o = {.names = names, .n_names = 1, .formats = "svg"};
    struct err e = {0};
    char path[700], *tsv;
    double most = 0, ms, q;
    int series, rows = 0;

    CU_ASSERT_EQUAL_FATAL(figures_make(sweep(false), NULL, &o, &out, &e), 0);
    snprintf(path, sizeof path, "%s/tail.tsv", out.figure[0].dir);
    tsv = file_text(path, &e);
    for (char *p = strstr(tsv, "# table 2"), *end; p && *p; p = *end ? end + 1 : end) {
        end = p + strcspn(p, "\n");
        if (sscanf(p, "%d\t%lf\t%lf", &series, &ms, &q) == 3) {
            most = q > most ? q : most;
            rows++;
        }
    }
    CU_ASSERT(rows > 100 && most == 0.9);
    free(tsv);
}

/* The text of one file of one figure. The caller frees it. */
static char *drawn(const char *db, const char *name, const char *end)
{
    static struct figures out;
    const struct figure_options o = {.names = &name, .n_names = 1, .formats = "svg"};
    struct err e = {0};
    char path[700];

    CU_ASSERT_EQUAL_FATAL(figures_make(db, NULL, &o, &out, &e), 0);
    CU_ASSERT_EQUAL(out.failed, 0);
    snprintf(path, sizeof path, "%s/%s.%s", out.figure[0].dir, name, end);
    return file_text(path, &e);
}

/* Of a long run the timeline shows the stretch around its longest queue, not its beginning. */
static void timeline_is_busy(void)
{
    const char *db = one_rate(400, 1);
    double peak, end, from = 1e9, to = 0;
    char *tsv;

    peak = (double)db_number(db, "SELECT start_ns FROM steps ORDER BY running + waiting DESC, start_ns LIMIT 1") / 1e9;
    end = (double)db_number(db, "SELECT max(end_ns) FROM steps") / 1e9;
    tsv = drawn(db, "timeline", "tsv");
    for (char *p = strstr(tsv, "# table 2"); p && strncmp(p, "# table 3", 9); p = strchr(p, '\n') + 1) {
        double a, b, c;
        int series, slot;

        if (sscanf(p, "%d\t%d\t%lf\t%lf\t%lf", &series, &slot, &a, &b, &c) == 5) {
            from = a < from ? a : from;
            to = c > to ? c : to;
            CU_ASSERT(a <= b && b <= c);
        }
    }
    test_note("%g s: shown from %g to %g, peak at %g", end, from, to, peak);
    CU_ASSERT(from > 0 && from <= peak && peak <= to && to - from < end / 2);
    free(tsv);
}

/* The script of a figure of the edited store has these words. */
static void draws(const char *db, const char *sql, const char *figure, const char *words)
{
    char *gp;

    edit(db, sql);
    gp = drawn(db, figure, "gp");
    CU_ASSERT_PTR_NOT_NULL(strstr(gp, words));
    free(gp);
}

/* The pair of memory managers whose requests wait most for memory. */
static void memory_is_under_pressure(void)
{
    static const char *const first[] = {"array LABEL[2] = ['static", "array LABEL[2] = ['continuous"};
    char sql[100];

    for (int i = 0; i < 2; i++) {
        snprintf(sql, sizeof sql, "UPDATE steps SET wait_no_kv = 50 * (run_id IN (%d, %d))", 2 * i + 1, 2 * i + 2);
        draws(one_rate(ALL, 4), sql, "memory", first[i]);
    }
}

/* Throughputs within 1 % are a draw, in the order asked for; beyond it the slower stands left. */
static void a_draw_keeps_the_order(void)
{
    static const char *const left[] = {"LABEL[2] = ['contig", "LABEL[2] = ['paged"};
    char sql[200];

    for (int i = 0; i < 2; i++) {
        snprintf(sql, sizeof sql, "UPDATE runs SET window_start_ns = 0, window_end_ns = 1000000000, "
                 "window_output_tokens = iif(run_id = 1, 1000, %d)", i ? 980 : 995);
        draws(one_rate(ALL, 2), sql, "timeline", left[i]);
    }
}

/* A name used again leaves the first report alone. */
static void first_report_stays(void)
{
    const char *run = "run --device sim --trace chat.json --strategy continuous+paged+f16 --limit 10 --name twice "
                      "--log request --db @t.db --rate";
    char first[OUT], again[OUT];

    (void)program_db();
    CU_ASSERT_EQUAL(program_run("%s 1", run), 0);
    CU_ASSERT_PTR_NULL(strstr(said()->err, "gnuplot refused"));     /* a figure of steps that were not logged */
    program_read("experiments/twice/report.html", first);
    CU_ASSERT(*first != '\0');
    CU_ASSERT_EQUAL(program_run("%s 3", run), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "experiments/twice-2/report.html"));
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "1 earlier report"));
    program_read("experiments/twice/report.html", again);
    CU_ASSERT_STRING_EQUAL(first, again);
    CU_ASSERT_EQUAL(program_run("report --db @t.db --experiment 1"), 0);      /* its own page it may write again */
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "experiments/twice/report.html"));
    program_read("experiments/twice/report.html", first);
}

/* A store that was deleted, and another store in the same folder: their pages stay as well. */
static void other_stores_reports_stay(void)
{
    const char *run = "run --device sim --trace chat.json --strategy continuous+paged+f16 --limit 10 --name one "
                      "--log request --quiet --db";
    char first[OUT], again[OUT];

    CU_ASSERT_EQUAL(program_run("%s @t.db", run), 0);
    program_read("experiments/one/report.html", first);
    CU_ASSERT(*first != '\0');
    for (int i = 0; i < 2; i++) {
        if (i)
            remove(program_db());
        CU_ASSERT_EQUAL(program_run("%s @%s.db --rate 2", run, i ? "t" : "other"), 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "experiments/one-"));
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "(experiments/one has the report of another database"));
        program_read("experiments/one/report.html", again);
        CU_ASSERT_STRING_EQUAL(first, again);
    }
}

static void refused(void)
{
    static const struct { const char *options, *says; } bad[] = {
        {"--slo ttft:200,ttft:300", "ttft is given twice"}, {"--isa avx2", "--isa is for --device cpu"},
        {"--show-text", "computes no tokens"}, {"--slo-share 0", "--slo-share 0: expected"},
        {"--slo-share 101", "--slo-share 101: expected"}, {"--max-len 3", "--max-len 3: the default KV pool"},
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CU_ASSERT_EQUAL(program_run(SIM " %s", bad[i].options), EXIT_USAGE);
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, bad[i].says));
        program_note(bad[i].options);
    }
    CU_ASSERT_EQUAL(program_run("trace convert chat.json @x.txt"), EXIT_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, "ends in .json or .jsonl"));
    CU_ASSERT_EQUAL(program_run("%s --max-new 1", SIM), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, "--max-new 1: clients declare"));
}

static const struct test tests[] = {
    {"highest-rate", highest_rate}, {"below-the-first-failure", below_the_first_failure},
    {"page-and-json", page_and_json}, {"nothing-without-a-sweep", nothing_without_a_sweep}, {"figure", figure},
    {"served-load-is-not-ranked", served_load_is_not_ranked}, {"overload-is-said", overload_is_said},
    {"tail-of-the-table", tail_of_the_table}, {"tail-is-cut", tail_is_cut},
    {"timeline-is-busy", timeline_is_busy}, {"memory-is-under-pressure", memory_is_under_pressure},
    {"a-draw-keeps-the-order", a_draw_keeps_the_order}, {"first-report-stays", first_report_stays},
    {"other-stores-reports-stay", other_stores_reports_stay},
    {"refused", refused}, {NULL, NULL}
};
const struct suite suite_capacity = {"capacity", tests, 180};
