/* test_plots.c - table, figures and page: within their width, closed to what is in the data, the
 * same bytes every time, and honest with no or few requests. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/escape.h"
#include "harness/figures.h"
#include "harness/report.h"
#include "harness/summary.h"
#include "results/db.h"
#include "tests/results_fixture.h"
#include "tests/test.h"

static const char hostile[] = "</script><img src=x "
                              "onerror=alert(1)>'\"`id`\n\033[31m\xff$(id)@{}^_\\";

static bool have_gnuplot(void)
{
    return system("command -v gnuplot >/dev/null 2>&1") == 0;
}

static const char *store(const struct fixture *f)
{
    static char path[600];
    struct err e = {0};

    snprintf(path, sizeof path, "%s/s.db", test_dir());
    if (fixture_make(path, f, &e))
        test_note("%s", e.text);
    CU_ASSERT_EQUAL_FATAL(e.code, 0);
    return path;
}

static char *table(const char *db)
{
    struct err e = {0};
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    CU_ASSERT_EQUAL(summary_print(out, db, NULL, false, &e), 0);
    if (e.code)
        test_note("%s", e.text);
    fclose(out);
    return text;
}

/* The page of the newest experiment, with or without drawing. The caller frees it. */
static char *page(const char *db, bool draw)
{
    static struct figures figures;
    const struct figure_options o = {.formats = "svg"};
    struct selection s;
    struct err e = {0};
    char path[700], *text;

    snprintf(path, sizeof path, "%s/page.html", test_dir());
    CU_ASSERT_EQUAL_FATAL(selection_open(&s, db, NULL, &e), 0);
    memset(&figures, 0, sizeof figures);
    if (draw)
        CU_ASSERT_EQUAL(figures_of(&s, &o, &figures, &e), 0);
    CU_ASSERT_EQUAL(figures.failed, 0);
    CU_ASSERT_EQUAL(report_write(&s, &figures, path, &e), 0);
    if (e.code)
        test_note("%s", e.text);
    selection_close(&s);
    text = file_text(path, &e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    return text;
}

static size_t widest(const char *text)
{
    size_t most = 0, n;

    for (; *text; text += n + (text[n] == '\n'))
        if ((n = strcspn(text, "\n")) > most)
            most = n;
    return most;
}

static void test_table(void)
{
    static const double rates[] = {1, 4};
    const struct fixture f = {.n_request = 40,
                              .n_strategy = 12,
                              .repeats = 2,
                              .rates = rates,
                              .n_rate = 2,
                              .validity = "invalid",
                              .reasons = "clocks throttled"};
    char *text = table(store(&f));

    CU_ASSERT(widest(text) <= 80);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "clocks throttled"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "outputs equal across 6 f16 strategies: 40/40 requests"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "p99 needs 368"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "synthetic weights"));
    CU_ASSERT_PTR_NULL(strstr(text, "virtual clock"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "not only speed: servelab quality")); /* f16 and int4; once for both rates */
    CU_ASSERT_EQUAL(strstr(text, "servelab quality"), strstr(strstr(text, "x4 rate"), "servelab quality"));
    free(text);
}

static void test_differ(void)
{
    const struct fixture f = {
        .n_request = 40, .n_strategy = 6, .repeats = 1, .wrong_outputs = true};
    char *text = table(store(&f));

    CU_ASSERT_PTR_NOT_NULL(strstr(text, "! outputs DIFFER across 6 f16 strategies: 1 of 40 "
                                        "requests"));
    CU_ASSERT_PTR_NULL(strstr(text, "servelab quality"));                        /* f16 alone */
    free(text);
}

/* Simulated and measured runs of one experiment: two groups, and each sentence is about one of
 * them. */
static void test_never_mixed(void)
{
    struct fixture f = {.n_request = 40, .n_strategy = 2, .repeats = 1, .also_sim = true};
    struct selection s;
    struct err e = {0};
    char *text;

    text = table(store(&f));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "virtual clock, cost model, not measured"));
    free(text);
    CU_ASSERT_EQUAL_FATAL(selection_open(&s, store(&f), NULL, &e), 0);
    CU_ASSERT_EQUAL(db_int(s.db, "SELECT count(*) FROM x_groups", 0, 0), 2);
    CU_ASSERT_EQUAL(db_int(s.db,
                           "SELECT max(n) FROM (SELECT count(DISTINCT clock) AS n FROM x_runs "
                           "GROUP BY "
                           "group_id)",
                           0, 0),
                    1);
    selection_close(&s);
}

/* "the rest equal" counts the knobs of the rest, and a run that others disturbed is no ground for a ratio. */
static void test_rest_equal(void)
{
    static const char *const edits[] = {
        "UPDATE strategies SET name = replace(name, '+contig', ':batch=4+contig')",
        "UPDATE runs SET reasons = 'others used 73 % of the machine' "
        "WHERE strategy_id = (SELECT max(strategy_id) FROM strategies)"};
    const struct fixture f = {.n_request = 40, .n_strategy = 2, .repeats = 1};

    for (size_t i = 0; i <= sizeof edits / sizeof *edits; i++) {
        const char *path = store(&f);          /* one experiment more; the page is about the newest */
        sqlite3 *db = NULL;
        char *html;

        CU_ASSERT_EQUAL_FATAL(sqlite3_open(path, &db), SQLITE_OK);
        if (i > 0)
            CU_ASSERT_EQUAL(sqlite3_exec(db, edits[i - 1], NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        html = page(path, false);
        CU_ASSERT_EQUAL(strstr(html, "the rest equal") != NULL, i == 0);
        CU_ASSERT_EQUAL(strstr(html, "a factor of") != NULL, i < 2);
        CU_ASSERT_EQUAL(strstr(html, "(disturbed)") != NULL, i == 2);
        free(html);
    }
}

/* A first, a last and a factor are said only as far as the ranges over repeats carry them. Rates by hand:
 * first, all ranges overlap; then 100, 300 to 500 and 310 to 520 tok/s. */
static void test_overlap(void)
{
    static const struct { const char *edit, *said, *unsaid; } cases[] = {
        {"UPDATE runs SET window_output_tokens = window_output_tokens * 10 WHERE repeat_index = 1",
         "Highest throughput: no clear difference between first and last", "a factor of"},
        {"UPDATE runs SET window_start_ns = 0, window_end_ns = 1000000000, window_output_tokens = "
         "iif(strategy_id % 3 = 1, 100, 290 + 10 * (strategy_id % 3) + repeat_index * 200)",
         "tok/s), not clear of 1 other whose repeats overlap; last is", "no clear difference between first"},
    };
    const struct fixture f = {.n_request = 40, .n_strategy = 3, .repeats = 2};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = store(&f);
        sqlite3 *db = NULL;
        char *html, *throughput;

        CU_ASSERT_EQUAL_FATAL(sqlite3_open(path, &db), SQLITE_OK);
        CU_ASSERT_EQUAL(sqlite3_exec(db, cases[i].edit, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        html = page(path, false);
        CU_ASSERT_PTR_NOT_NULL(strstr(html, cases[i].said));
        CU_ASSERT_PTR_NOT_NULL(strstr(html, "part by chance in 33 % of the cases; with --repeats 5 in 0.8 %."));
        CU_ASSERT_PTR_NOT_NULL_FATAL(throughput = strstr(html, "Highest throughput"));
        throughput[strcspn(throughput, "<\n")] = '\0';
        if (strstr(throughput, cases[i].unsaid))
            test_note("%s", throughput);
        CU_ASSERT_PTR_NULL(strstr(throughput, cases[i].unsaid));
        free(html);
    }
}

/* A run that nobody ended is said to be that. */
static void test_killed(void)
{
    const struct fixture f = {.n_request = 40, .n_strategy = 2, .repeats = 1, .killed = true};
    char *text = table(store(&f));

    CU_ASSERT_PTR_NOT_NULL(strstr(text, "! paged: begun and never ended (killed, or still going) (not counted)"));
    CU_ASSERT(widest(text) <= 80);
    free(text);
}

static void test_few(void)
{
    struct fixture f = {.n_request = 0, .n_strategy = 2, .repeats = 1};
    char *text = table(store(&f)), *html = page(store(&f), true);

    CU_ASSERT_PTR_NOT_NULL(strstr(text, "too few requests"));
    CU_ASSERT_PTR_NOT_NULL(strstr(html, "Verdict"));
    free(text);
    free(html);
    f.n_request = 1;
    f.name = "one";
    text = table(store(&f));
    html = page(store(&f), true);
    CU_ASSERT(widest(text) <= 80);
    free(text);
    free(html);
}

static void test_escape(void)
{
    char *text = NULL, label[64];
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    escape_html(out, hostile);
    fclose(out);
    CU_ASSERT_PTR_NULL(strpbrk(text, "<>\"'\033\xff"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "&lt;img"));
    free(text);
    label_safe(hostile, label, sizeof label);
    CU_ASSERT_PTR_NULL(strpbrk(label, "<>\"'`\n\033$\\@{}^"));
}

static void check_script(const char *dir)
{
    char path[700], *gp;
    struct err e = {0};

    snprintf(path, sizeof path, "%s/tail.gp", dir);
    gp = file_text(path, &e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(gp);
    CU_ASSERT_PTR_NULL(strchr(gp, '`'));
    CU_ASSERT_PTR_NULL(strstr(gp, "<img"));
    CU_ASSERT_PTR_NULL(strstr(gp, "$(id"));
    free(gp);
}

static void test_hostile(void)
{
    const struct fixture f = {.n_request = 40, .n_strategy = 2, .repeats = 1, .trace = hostile,
                              .name = "../../\"><script>x</script>", .validity = "suspect",
                              .reasons = "<b>bold</b>"};
    const char *db = store(&f);
    static struct figures figures;
    const struct figure_options o = {.formats = "svg"};
    struct err e = {0};
    char *html = page(db, have_gnuplot()), *text = table(db);

    CU_ASSERT_PTR_NULL(strstr(html, "<img"));
    CU_ASSERT_PTR_NULL(strstr(html, "<script>x"));
    CU_ASSERT_PTR_NULL(strstr(html, "<b>bold"));
    CU_ASSERT_PTR_NULL(strchr(html, '\033'));
    CU_ASSERT_PTR_NULL(strchr(text, '\033'));
    CU_ASSERT_EQUAL(figures_make(db, NULL, &o, &figures, &e), 0);
    CU_ASSERT_PTR_NULL(strstr(figures.figure[0].dir, ".."));
    check_script(figures.figure[0].dir);
    free(html);
    free(text);
}

/* Every src=, href= and url( of the page points into the page; no @import, no link. */
static void test_self_contained(void)
{
    const struct fixture f = {.n_request = 40, .n_strategy = 4, .repeats = 1};
    static const char *const marks[] = {"src=", "href=", "url(", NULL};
    char *html = page(store(&f), have_gnuplot());

    CU_ASSERT_PTR_NULL(strstr(html, "@import"));
    CU_ASSERT_PTR_NULL(strstr(html, "<link"));
    CU_ASSERT_PTR_NULL(strstr(html, "Gnuplot"));
    for (int i = 0; marks[i]; i++)
        for (const char *p = html; (p = strstr(p, marks[i])); p++) {
            const char *to = p + strlen(marks[i]);

            to += *to == '"' || *to == '\'';
            if (*to != '#')
                test_note("points out: %.60s", p);
            CU_ASSERT_EQUAL(*to, '#');
        }
    free(html);
}

/* Ids of the figures inside one page are all different. */
static void test_ids(void)
{
    const struct fixture f = {.n_request = 40, .n_strategy = 4, .repeats = 1};
    char *html, id[100], *again;
    int n = 0;

    if (!have_gnuplot()) {
        test_skip("gnuplot is not installed");
        return;
    }
    html = page(store(&f), true);
    for (char *p = html; (p = strstr(p, " id=\"")); p++) {
        snprintf(id, sizeof id, "%.*s\"", (int)strcspn(p + 5, "\"") + 5, p);
        again = strstr(p + 5, id);
        if (again)
            test_note("twice: %s", id);
        CU_ASSERT_PTR_NULL(again);
        n++;
    }
    CU_ASSERT(n > 5);
    free(html);
}

static char *picture(const struct figures *f, int i, const char *kind)
{
    char path[700];
    struct err e = {0};

    snprintf(path, sizeof path, "%s/%s.%s", f->figure[i].dir, f->figure[i].name, kind);
    return file_text(path, &e);
}

static void test_same_bytes(void)
{
    const struct fixture f = {.n_request = 40, .n_strategy = 4, .repeats = 1};
    static const char *const kinds[] = {"svg", "png", "gp", "tsv"};
    static struct figures one, two;
    struct figure_options o = {0};
    struct err e = {0};
    const char *db = store(&f);
    char dir[600];

    if (!have_gnuplot()) {
        test_skip("gnuplot is not installed");
        return;
    }
    snprintf(dir, sizeof dir, "%s/again", test_dir());
    CU_ASSERT_EQUAL(figures_make(db, NULL, &o, &one, &e), 0);
    o.dir = dir;
    CU_ASSERT_EQUAL(figures_make(db, NULL, &o, &two, &e), 0);
    CU_ASSERT_EQUAL(one.failed + two.failed, 0);
    CU_ASSERT(one.n == two.n && one.n >= 6);
    for (int i = 0; i < one.n; i++)
        for (int k = 0; k < 4; k++) {
            char *a = picture(&one, i, kinds[k]), *b = picture(&two, i, kinds[k]);

            CU_ASSERT(a && b && strlen(a) > 4 && strcmp(a, b) == 0);
            free(a);
            free(b);
        }
}

/* Little's law: the reasons of the figure's right panel, with the running step among them, are all the waiting there
 * is. Two strategies; columns 8 to 13 of the table, counted from 1. */
static void test_where(void)
{
    const struct fixture f = {.n_request = 40, .n_strategy = 2, .repeats = 1};
    static struct figures figures;
    const struct figure_options o = {.formats = "svg"};
    struct err e = {0};
    const char *path = store(&f);
    double sum = 0, running = 0, all, v[13];
    sqlite3_stmt *q = NULL;
    sqlite3 *db = NULL;
    char *text = NULL;
    int rows = 0;

    CU_ASSERT_EQUAL_FATAL(figures_make(path, NULL, &o, &figures, &e), 0);
    for (int i = 0; i < figures.n; i++)
        if (!strcmp(figures.figure[i].name, "where"))
            text = picture(&figures, i, "tsv");
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *p = line, *end = NULL, *tab = strchr(line, '\t');
        int n = 0;

        if (*line == '#' || !tab)
            continue;
        for (; p && n < 13; n++, p = strchr(p, '\t'))
            v[n] = strtod(p += *p == '\t', &end);
        if (n < 13)
            continue;
        rows++;
        running += v[12];
        for (int k = 7; k < 13; k++)
            sum += v[k];
    }
    free(text);
    CU_ASSERT_EQUAL(rows, 2);
    CU_ASSERT_EQUAL_FATAL(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_prepare_v2(db, "SELECT sum(w / b) FROM (SELECT run_id, 1.0 * sum(admitted_ns - arrival_ns + preempted_ns) "
                       "AS w FROM requests GROUP BY 1) JOIN (SELECT run_id, sum(end_ns - start_ns) AS b FROM steps "
                       "GROUP BY 1) USING (run_id) WHERE run_id > (SELECT max(run_id) - 2 FROM runs)", -1, &q, NULL);
    CU_ASSERT_EQUAL_FATAL(sqlite3_step(q), SQLITE_ROW);
    all = sqlite3_column_double(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    CU_ASSERT(running > 0);
    CU_ASSERT_DOUBLE_EQUAL(sum, all, 0.001 * all);
}

static void test_no_gnuplot(void)
{
    const struct fixture f = {.n_request = 40, .n_strategy = 2, .repeats = 1};
    static struct figures figures;
    const struct figure_options o = {0};
    struct err e = {0};
    const char *db = store(&f);
    char *gp;

    setenv("PATH", "/nowhere", 1);             /* suites run in a process of their own */
    CU_ASSERT_EQUAL(figures_make(db, NULL, &o, &figures, &e), 0);
    CU_ASSERT(figures.no_gnuplot && figures.n >= 6 && !figures.figure[0].drawn);
    gp = picture(&figures, 0, "gp");
    CU_ASSERT_PTR_NOT_NULL(gp);
    free(gp);
    free(page(db, true));
}

static const struct test tests[] = {
    {"table", test_table}, {"outputs-differ", test_differ}, {"never-mixed", test_never_mixed},
    {"rest-equal", test_rest_equal}, {"overlap", test_overlap}, {"killed", test_killed},
    {"few-requests", test_few}, {"escape", test_escape},
    {"hostile", test_hostile}, {"self-contained", test_self_contained}, {"ids", test_ids},
    {"same-bytes", test_same_bytes}, {"where", test_where}, {"no-gnuplot", test_no_gnuplot}, {NULL, NULL}
};
const struct suite suite_plots = {"plots", tests, 180};
