/* test_marks.c - a run that is suspect says so wherever its numbers stand: table, capacity, page, figures, CSV and
 * JSON; a run that is valid nowhere. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/capacity.h"
#include "harness/export.h"
#include "harness/figures.h"
#include "harness/report.h"
#include "harness/summary.h"
#include "tests/results_fixture.h"
#include "tests/test.h"

static const double rates[] = {1, 2};

/* Two strategies at two rates; at the lower one the second (paged) is suspect, or nothing is. */
static const char *store(bool is_suspect)
{
    const struct fixture f = {.n_request = 40, .n_strategy = 2, .repeats = 1, .rates = rates, .n_rate = 2,
                              .validity = is_suspect ? "suspect" : NULL, .reasons = "window of 20 s, 120 s are asked"};
    static char path[600];
    struct err e = {0};

    snprintf(path, sizeof path, "%s/m.db", test_dir());
    remove(path);
    CU_ASSERT_EQUAL_FATAL(fixture_make(path, &f, &e), 0);
    return path;
}

static bool has(const char *text, const char *words, bool wanted)
{
    bool is = strstr(text, words) != NULL;

    if (is != wanted)
        test_note("%s '%s' in: %.1500s", wanted ? "no" : "unexpected", words, text);
    return is == wanted;
}

static void in_tables(void)
{
    for (int is = 0; is < 2; is++) {
        static struct figures none;
        struct selection s;
        struct err e = {0};
        char path[700], *text = NULL, *html;
        size_t n = 0;
        FILE *out = open_memstream(&text, &n);

        CU_ASSERT_EQUAL_FATAL(selection_open(&s, store(is), NULL, &e), 0);
        CU_ASSERT_EQUAL(summary_of(out, &s, false, &e), 0);
        snprintf(path, sizeof path, "%s/page.html", test_dir());
        CU_ASSERT_EQUAL(report_write(&s, &none, path, &e), 0);
        fclose(out);
        html = file_text(path, &e);
        CU_ASSERT(has(text, "\npaged ? ", is));
        CU_ASSERT(has(text, "\ncontig ?", false));
        CU_ASSERT(has(html, "<td class=\"text\">paged ?</td>", is));
        CU_ASSERT(has(html, "<td class=\"text\">contig ?</td>", false));
        selection_close(&s);
        free(text);
        free(html);
    }
}

/* The mark stands where the answer rests on the suspect run: at x1 when x2 fails, nowhere when x1 is not looked at. */
static void in_capacity(void)
{
    const char *sql[] = {"UPDATE requests SET status = 'failed' WHERE run_id IN (3, 4)", "SELECT 1"};

    for (int i = 0; i < 2; i++) {
        const char *path = store(true);
        sqlite3 *db = NULL;
        struct selection s;
        struct err e = {0};
        char *text = NULL;
        size_t n = 0;
        json_t *all;
        FILE *out = open_memstream(&text, &n);

        CU_ASSERT_EQUAL_FATAL(sqlite3_open(path, &db), SQLITE_OK);
        sqlite3_exec(db, "UPDATE runs SET slo_json = '{\"ttft_ms\":1e9,\"tpot_ms\":0,\"e2e_ms\":0}'", NULL, NULL, NULL);
        CU_ASSERT_EQUAL(sqlite3_exec(db, sql[i], NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        CU_ASSERT_EQUAL_FATAL(selection_open(&s, path, NULL, &e), 0);
        CU_ASSERT_EQUAL(capacity_print(out, &s, &e), 0);
        all = report_capacity(&s, &e);
        selection_close(&s);
        fclose(out);
        CU_ASSERT(has(text, "\npaged ? ", i == 0));
        for (size_t k = 0; k < json_array_size(all); k++) {
            const json_t *row = json_array_get(all, k);
            bool paged = !strcmp(json_string_value(json_object_get(row, "label")), "paged");

            CU_ASSERT_EQUAL(json_integer_value(json_object_get(row, "suspect")), paged && i == 0);
        }
        CU_ASSERT_EQUAL(json_array_size(all), 2);
        json_decref(all);
        free(text);
    }
}

/* A figure travels alone: the mark is in its key, what it means in its caption. */
static void in_figures(void)
{
    static struct figures f;
    const struct figure_options o = {.formats = "svg"};

    for (int is = 0; is < 2; is++) {
        struct err e = {0};
        char path[700], *gp;
        int marked = 0;

        CU_ASSERT_EQUAL_FATAL(figures_make(store(is), NULL, &o, &f, &e), 0);
        CU_ASSERT(f.n >= 6 && !f.failed);
        for (int i = 0; i < f.n; i++) {
            snprintf(path, sizeof path, "%s/%s.gp", f.figure[i].dir, f.figure[i].name);
            gp = file_text(path, &e);
            CU_ASSERT_PTR_NOT_NULL_FATAL(gp);
            CU_ASSERT(has(gp, "monotonic clock (?: suspect);", is));
            marked += strstr(gp, "'paged ?'") != NULL;
            CU_ASSERT(has(gp, "'contig ?'", false));
            free(gp);
        }
        test_note("%d of %d", marked, f.n);
        CU_ASSERT(is ? marked >= 2 : marked == 0);       /* knee and capacity show both rates */
    }
}

static void in_rows_for_machines(void)
{
    for (int is = 0; is < 2; is++) {
        struct selection s;
        struct err e = {0};
        json_int_t sum = 0;
        json_t *rows;

        CU_ASSERT_EQUAL_FATAL(selection_open(&s, store(is), NULL, &e), 0);
        rows = report_rows(&s, &e);
        for (size_t i = 0; i < json_array_size(rows); i++)
            sum += json_integer_value(json_object_get(json_array_get(rows, i), "suspect"));
        CU_ASSERT_EQUAL(json_array_size(rows), 4);
        CU_ASSERT_EQUAL(sum, is);
        json_decref(rows);
        selection_close(&s);
    }
}

static const struct test tests[] = {
    {"tables and page mark what is suspect", in_tables},
    {"capacity marks what it rests on", in_capacity},
    {"figures mark it and say what the mark means", in_figures},
    {"rows for machines count it", in_rows_for_machines},
    {NULL, NULL}
};
const struct suite suite_marks = {"marks", tests, 120};
