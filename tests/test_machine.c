/* test_machine.c - what verbs say to machines: --json of those that write files or judge, and what `list models` knows
 * of the stores. */
#include <jansson.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/home.h"
#include "models/load.h"
#include "tests/test.h"

/* Runs a shell command in the test's folder; $B is the program. What it printed, parsed; NULL and a note: no JSON. */
static json_t *say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static json_t *say(const char *fmt, ...)
{
    static char out[1 << 18];
    char cmd[9000];
    json_error_t je;
    va_list ap;
    int n = snprintf(cmd, sizeof cmd, "cd '%s' && B='%s' && ", test_dir(), SERVELAB_BIN);
    size_t got;
    json_t *v;
    FILE *p;

    va_start(ap, fmt);
    vsnprintf(cmd + n, sizeof cmd - (size_t)n, fmt, ap);
    va_end(ap);
    p = popen(cmd, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    got = fread(out, 1, sizeof out - 1, p);
    out[got] = 0;
    CU_ASSERT_EQUAL(pclose(p), 0);
    v = json_loads(out, JSON_REJECT_DUPLICATES, &je);
    if (!v)
        test_note("%s: %.700s", cmd, out);
    CU_ASSERT_PTR_NOT_NULL_FATAL(v);
    return v;
}

static const char *text(json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

/* Every file is there and says what it shows. How many end so. */
static unsigned files_ending(json_t *o, const char *end)
{
    json_t *one;
    unsigned n = 0;
    char path[9000];
    size_t i;

    json_array_foreach(json_object_get(o, "files"), i, one) {
        const char *p = text(one, "path");
        size_t len = strlen(p), m = strlen(end);

        snprintf(path, sizeof path, "%s/%s", test_dir(), p);
        CU_ASSERT(!access(*p == '/' ? p : path, R_OK));
        CU_ASSERT(strlen(text(one, "shows")) > 10);
        n += len > m && !strcmp(p + len - m, end);
    }
    return n;
}

static void files_that_were_written(void)
{
    static const char *const strategies = "continuous+paged+f16,static+contiguous+f16";
    bool gnuplot = !system("command -v gnuplot >/dev/null 2>&1");
    json_t *o = say("$B run --device sim --trace chat.json --limit 30 --strategy %s --db t.db --json 2>/dev/null",
                    strategies);
    unsigned n;

    CU_ASSERT(json_integer_value(json_object_get(o, "done")) == 2 && files_ending(o, "/report.html") == 1);
    n = files_ending(o, ".gp");
    CU_ASSERT(n > 3 && files_ending(o, ".tsv") == n);
    CU_ASSERT_EQUAL(files_ending(o, ".png"), gnuplot ? n : 0);
    CU_ASSERT_EQUAL(files_ending(o, ".svg"), gnuplot ? n : 0);
    json_decref(o);
    o = say("$B run --device sim --trace chat.json --limit 9 --strategy %s --db u.db --no-figures --json 2>/dev/null",
            strategies);
    CU_ASSERT_EQUAL(json_array_size(json_object_get(o, "files")), 0);
    json_decref(o);
    if (gnuplot) {                                 /* without, plot fails as it says */
        o = say("$B plot tail --format svg --db t.db --json");
        CU_ASSERT(json_array_size(json_object_get(o, "files")) == 3 && files_ending(o, "/tail.svg") == 1);
        CU_ASSERT(!strcmp(text(o, "db"), "t.db") && json_is_true(json_object_get(o, "gnuplot")));
        json_decref(o);
    }
    o = say("$B plot --list --json");
    CU_ASSERT(json_array_size(json_object_get(o, "figures")) >= n);
    CU_ASSERT(*text(json_array_get(json_object_get(o, "figures"), 0), "about"));
    json_decref(o);
}

/* The table as rows: the same strategies, measured or null, never a text for a number. */
static void table_as_rows(void)
{
    json_t *o, *rows;

    json_decref(say("$B run --device sim --trace chat.json --limit 30 --strategy "
                    "continuous+paged+f16,static+contiguous+f16 --db t.db --no-figures --json 2>/dev/null"));
    o = say("$B report --no-html --json --db t.db");
    rows = json_object_get(o, "rows");
    CU_ASSERT(json_array_size(rows) == 2 && !json_array_size(json_object_get(o, "files")));
    for (size_t i = 0; i < 2; i++) {
        json_t *row = json_array_get(rows, i);

        CU_ASSERT(!strcmp(text(row, "clock"), "virtual") && !strcmp(text(row, "trace"), "chat"));
        CU_ASSERT(json_real_value(json_object_get(row, "tok_s")) > 0);
        CU_ASSERT(json_is_number(json_object_get(row, "ttft_p50_ms")));
        CU_ASSERT(json_is_null(json_object_get(row, "ttft_p99_ms")));      /* too few requests */
    }
    CU_ASSERT_STRING_EQUAL(text(json_array_get(rows, 0), "strategy"), "continuous+paged+f16");
    json_decref(o);
    o = say("$B report --json --db t.db");
    CU_ASSERT_EQUAL(files_ending(o, "/report.html"), 1);
    json_decref(o);
}

static void lose_a_step(void)
{
    char path[4200];
    sqlite3 *db;

    snprintf(path, sizeof path, "%s/t.db", test_dir());
    CU_ASSERT_FATAL(!sqlite3_open(path, &db) &&
                    !sqlite3_exec(db, "DELETE FROM steps WHERE step_index = 2", NULL, NULL, NULL));
    sqlite3_close(db);
}

static void checks_and_claims(void)
{
    json_t *o, *list;

    json_decref(say("$B run --device sim --trace chat.json --limit 9 --strategy continuous+paged+f16 --db t.db "
                    "--no-figures --json 2>/dev/null"));
    o = say("$B db check --db t.db --json");
    CU_ASSERT(json_is_integer(json_object_get(o, "problems")) && !json_integer_value(json_object_get(o, "problems")));
    CU_ASSERT(json_is_array(json_object_get(o, "findings")));
    json_decref(o);
    lose_a_step();
    o = say("$B db check --db t.db --json 2>/dev/null || true");
    CU_ASSERT(json_integer_value(json_object_get(o, "problems")) > 0);
    CU_ASSERT(strlen(json_string_value(json_array_get(json_object_get(o, "findings"), 0))) > 10);
    json_decref(o);
    o = say("$B doctor --json");
    list = json_object_get(o, "checks");
    CU_ASSERT(json_is_true(json_object_get(o, "ok")) && json_array_size(list) > 5);
    CU_ASSERT(!strcmp(text(json_array_get(list, 0), "what"), "servelab") && *text(json_array_get(list, 0), "says"));
    json_decref(o);
    o = say("$B experiment --json");
    CU_ASSERT(json_array_size(json_object_get(o, "experiments")) >= 6);
    json_decref(o);
    o = say("$B experiment 01-memory --small --no-figure --out x --json 2>/dev/null");
    list = json_object_get(o, "claims");
    CU_ASSERT(json_array_size(list) > 2 && !json_integer_value(json_object_get(o, "missed")));
    CU_ASSERT(json_is_number(json_object_get(json_array_get(list, 0), "value")) && !strcmp(text(o, "dir"), "x"));
    json_decref(o);
}

/* ---- list models ---- */
static json_t *model(json_t *o, const char *name)
{
    json_t *one, *found = NULL;
    size_t i;

    json_array_foreach(json_object_get(o, "models"), i, one)
        if (!strcmp(text(one, "name"), name)) {
            CU_ASSERT_PTR_NULL(found);                 /* each once */
            found = one;
        }
    return found;
}

/* A house of its own: shapes as they are, a store that the test fills. */
static void models_and_where_they_are(void)
{
    const char *home = home_dir();
    json_t *o, *m;

    o = say("mkdir -p house/models/store && ln -s '%s/models/shapes' house/models/shapes && SERVELAB_HOME=house "
            "SERVELAB_MODELS= $B list models --json", home);
    m = model(o, "smollm2-135m");
    CU_ASSERT(m && !strcmp(text(m, "state"), "synthetic") && strstr(text(m, "about"), "not fetched"));
    CU_ASSERT_STRING_EQUAL(text(m, "fetch"), "make model MODEL=smollm2-135m");
    m = model(o, "tiny");
    CU_ASSERT(m && !strcmp(text(m, "state"), "synthetic") && !json_object_get(m, "fetch"));
    json_decref(o);
    o = say("S=house/models/store P='%s/tests/fixtures/parity' && cp -r $P/qwen2 $S/mine && cp $P/llama.gguf "
            "$S/tiny.gguf && cp $S/tiny.gguf $S/other.gguf && head -c 200 $S/tiny.gguf >$S/cut.gguf && mkdir $S/empty "
            "&& SERVELAB_HOME=house SERVELAB_MODELS= $B list models --json", home);
    m = model(o, "mine");
    CU_ASSERT(m && !strcmp(text(m, "state"), "fetched") && !strcmp(text(m, "format"), "safetensors"));
    CU_ASSERT(json_integer_value(json_object_get(m, "bytes")) > 1000 && strstr(text(m, "path"), "store/mine"));
    m = model(o, "tiny");                              /* by its shape's name, with the store's weights */
    CU_ASSERT(m && !strcmp(text(m, "state"), "fetched") && !strcmp(text(m, "format"), "GGUF"));
    m = model(o, "other");
    CU_ASSERT(m && !strcmp(text(m, "state"), "fetched") && strstr(text(m, "about"), " MB: "));
    m = model(o, "cut");
    CU_ASSERT(m && !strcmp(text(m, "state"), "refused") && strstr(text(m, "about"), "cut.gguf"));
    CU_ASSERT_PTR_NULL(model(o, "empty"));
    json_decref(o);
}

/* What the list says can be fetched is what .ci/model fetches. */
static void fetches_what_it_says(void)
{
    json_t *o = say("cd '%s' && .ci/model 2>&1 | sed -n 's/^usage: \\(make model .*\\)/[\"\\1\"]/p'", home_dir());
    const char *usage = json_string_value(json_array_get(o, 0));

    CU_ASSERT(json_array_size(o) == 1 && usage && !strcmp(usage, "make model MODEL=smollm2-135m"));
    json_decref(o);
}

static const struct test tests[] = {
    { "files_that_were_written", files_that_were_written }, { "table_as_rows", table_as_rows },
    { "checks_and_claims", checks_and_claims }, { "models_and_where_they_are", models_and_where_they_are },
    { "fetches_what_it_says", fetches_what_it_says }, { NULL, NULL },
};
const struct suite suite_machine = { "machine", tests, 120 };
