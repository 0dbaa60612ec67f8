/* test_cli_runs.c - what a run of the real binary leaves behind: rows that check, JSON that is JSON, and a database
 * that is of use after it was killed or interrupted. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/home.h"
#include "tests/program.h"
#include "tests/test.h"

/* A run that lasts as long as its trace does: minutes, if nobody stops it. */
#define LONG "run --device ref --model tiny --trace chat.json --strategy continuous+paged+f16 " \
             "--pace wall --repeats 1 --no-figures --db @t.db"
/* Many short runs. */
#define MANY "run --device ref --model tiny --trace chat.json --strategy continuous+paged+f16 " \
             "--pace skip --limit 2 --repeats 500 --no-figures --db @t.db"

static void a_sim_run_is_recorded_and_checks(void)
{
    const char *db = program_db();

    program_run(SIM);
    program_note(SIM);
    CU_ASSERT_EQUAL_FATAL(said()->rc, 0);
    CU_ASSERT(said()->out[0] != 0);
    CU_ASSERT_PTR_NULL(strchr(said()->out, '\033'));          /* no colours into a file */
    CU_ASSERT_EQUAL(db_runs(db, "done"), 1);
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM requests"), 40);
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM runs WHERE clock <> 'virtual'"), 0);
    CU_ASSERT_EQUAL(program_run("db check --db @t.db"), 0);
    program_note("db check");
}

/* Whatever was logged: nothing is missing, and the histogram of gaps does not need the times it was made from. */
static void every_log_level_checks(void)
{
    static const char *const levels[] = { "summary", "request", "gaps", "step", "token" };
    const char *db = program_db();

    for (int i = 0; i < 5; i++) {
        char line[300];

        snprintf(line, sizeof line, "%s --log %s", SIM, levels[i]);
        remove(db);
        CU_ASSERT_EQUAL(program_run("%s", line), 0);
        program_note(line);
        CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) > 0 FROM requests"), i >= 1);
        CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) > 0 FROM itl_hist"), i >= 2);
        CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) > 0 FROM steps"), i >= 3);
        CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) > 0 FROM token_times"), i >= 4);
        CU_ASSERT_EQUAL(program_run("db check --db @t.db"), 0);
        program_note("db check");
    }
}

/* A name that would recolour the terminal, in one byte and as C1's CSI: it is shown, and not obeyed. */
static void names_do_not_reach_the_terminal(void)
{
    static const char text[] =
        "{\"schema\":\"serving-trace/1\",\"name\":\"a\\u001b[31mb\\u009b31mc\",\"count\":1,"
        "\"licence\":\"\\u001b]0;x\\u0007\","
        "\"requests\":[\n{\"id\":\"0\",\"arrival_s\":0,\"prompt_tokens\":40,\"output_tokens\":12}]}\n";
    static const char *const lines[] = {
        "run --device sim --trace @esc.json --strategy continuous+paged+f16 --repeats 1 --no-figures --db @t.db",
        "trace info @esc.json", "db check --db @t.db", "trace info @esc\033[31m.json" };
    char path[2000];
    FILE *f;

    snprintf(path, sizeof path, "%.900s/esc.json", test_dir());
    CU_ASSERT_PTR_NOT_NULL_FATAL(f = fopen(path, "w"));
    fputs(text, f);
    fclose(f);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        CU_ASSERT_EQUAL(program_run("%s", lines[i]) == 0, i < 3);
        program_note(lines[i]);
        CU_ASSERT_PTR_NULL(strchr(said()->out, '\033'));
        CU_ASSERT_PTR_NULL(strchr(said()->err, '\033'));
        CU_ASSERT_PTR_NULL(strstr(said()->out, "\xc2\x9b"));
        CU_ASSERT_PTR_NULL(strstr(said()->err, "\xc2\x9b"));
    }
}

/* A Hugging Face folder without tokenizer.json is enough for lengths, and no more. */
static void weights_without_a_tokenizer(void)
{
    static const char *const rows[] = { "\"prompt_tokens\":40", "\"prompt_tokens\":40,\"prompt\":\"What is it?\"" };
    static const char *const says[] = { "has no tokenizer.json",
                                        "no tokenizer.json in this folder, and 1 prompts of t are texts",
                                        "--chat: " };
    char path[2000];
    FILE *f;

    snprintf(path, sizeof path, "%.900s/t.json", test_dir());
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_PTR_NOT_NULL_FATAL(f = fopen(path, "w"));
        fprintf(f, "{\"schema\":\"serving-trace/1\",\"name\":\"t\",\"count\":1,\"requests\":[\n"
                "{\"id\":\"0\",\"arrival_s\":0,"
                "\"output_tokens\":4,%s}]}\n", rows[i == 1]);
        fclose(f);
        program_run("run --device ref --model %s/tests/fixtures/parity/llama --trace @t.json --repeats 1 "
                    "--strategy continuous+paged+f16 --no-figures --db @t.db%s", home_dir(), i == 2 ? " --chat" : "");
        program_note("run without tokenizer.json");
        CU_ASSERT_EQUAL(said()->rc, i ? EXIT_USAGE : 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, says[i]));
    }
}

/* Requests at 5, 6 ... 14 s, the last `n_long` of them too long for the server. */
static void trace_of_ten(int n_long)
{
    FILE *f = fopen(program_file("end.json"), "w");

    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs("{\"schema\":\"serving-trace/1\",\"name\":\"t\",\"count\":10,\"slo\":{\"ttft_ms\":1000},\"requests\":[", f);
    for (int i = 0; i < 10; i++)
        fprintf(f, "%s\n{\"id\":\"%d\",\"arrival_s\":%d,\"prompt_tokens\":%d,\"output_tokens\":4}", i ? "," : "", i, 5 + i,
                i < 10 - n_long ? 20 : 600);
    fputs("]}\n", f);
    fclose(f);
}

/* A request that arrived counts, also when it is refused after the last one has finished, and when none finishes. */
static void refused_after_the_last_finish(void)
{
    static const char line[] = "run --device sim --model tiny --trace @end.json --max-len 512 --no-figures --db @t.db "
        "--strategy continuous+paged+f16";
    const char *db = program_db();

    trace_of_ten(3);
    CU_ASSERT_EQUAL(program_run("%s", line), 0);
    program_note(line);
    CU_ASSERT_EQUAL(db_number(db, "SELECT arrived FROM v_runs"), 10);
    CU_ASSERT_EQUAL(db_number(db, "SELECT round(attainment_pct) FROM v_runs"), 70);
    CU_ASSERT_EQUAL(db_number(db, "SELECT window_end_ns - window_start_ns FROM runs"), 9000000000);
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "3 of 10 requests not finished"));
    remove(db);
    trace_of_ten(10);
    CU_ASSERT_EQUAL(program_run("%s", line), EXIT_INVALID);
    program_note(line);
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM runs WHERE status = 'done' AND validity = 'invalid'"), 1);
    CU_ASSERT_EQUAL(program_run("db check --db @t.db"), 0);
}

/* A run that is cut leaves a row for each request, of those that never came as well, and is whole. */
static void a_cut_run_is_whole(void)
{
    const char *db = program_db();

    CU_ASSERT_EQUAL(program_run("%s --max-duration 5", SIM), EXIT_INVALID);
    program_note("run --max-duration");
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM requests"), 40);
    CU_ASSERT(db_number(db, "SELECT count(*) FROM requests WHERE status = 'censored' AND injected_ns IS NULL") > 0);
    CU_ASSERT(db_number(db, "SELECT count(*) FROM requests WHERE status = 'finished'") > 0);
    CU_ASSERT_EQUAL(program_run("db check --db @t.db"), 0);
    program_note("db check");
}

/* Tokens add up where a cache gives a preempted request back what it had lost. */
static void preempted_and_cached_adds_up(void)
{
    static const char line[] = "run --device sim --trace chat.json --rate 40 --kv 1536tok --no-figures --db @t.db --strategy "
        "continuous+prefix+f16,list_order+radix+f16,max_utilisation+tree+f16";
    const char *db = program_db();

    CU_ASSERT_EQUAL(program_run("%s", line), 0);
    program_note(line);
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM runs r WHERE EXISTS (SELECT 1 FROM requests q WHERE q.run_id = "
                              "r.run_id AND preempt_count > 0 AND cached_tokens > 0)"), 3);
    CU_ASSERT_EQUAL(program_run("db check --db @t.db"), 0);
    program_note("db check");
}

static void equal_sim_runs_have_equal_rows(void)
{
    const char *db = program_db();

    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL(program_run(SIM " --seed 7"), 0);
    program_note(SIM);
    CU_ASSERT_EQUAL(db_runs(db, "done"), 2);
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(DISTINCT rows_hash) FROM runs"), 1);
}

static void json_is_json(void)
{
    json_error_t e;
    json_t *v;

    CU_ASSERT_EQUAL(program_run("run --device sim --trace chat.json --strategy static+contiguous+f16 --limit 20 "
                        "--no-figures --json --db @quo\"te.db"), 0);
    v = json_loads(said()->out, JSON_REJECT_DUPLICATES, &e);
    program_note("run --json");
    CU_ASSERT_PTR_NOT_NULL(v);
    json_decref(v);
    CU_ASSERT_EQUAL(program_run("list --json"), 0);
    v = json_loads(said()->out, JSON_REJECT_DUPLICATES, &e);
    program_note("list --json");
    CU_ASSERT_PTR_NOT_NULL(v);
    json_decref(v);
}

static void a_killed_run_never_counts(void)
{
    const char *db = program_db();
    pid_t pid = program_start(LONG, (struct limits){ 0 });
    bool open = db_wait(pid, db, "running");

    kill(pid, SIGKILL);
    program_finish(pid);
    program_note(LONG);
    CU_ASSERT_FATAL(open);
    CU_ASSERT_EQUAL(said()->rc, 1000 + SIGKILL);
    CU_ASSERT_EQUAL(db_runs(db, "done"), 0);
    CU_ASSERT_EQUAL(db_number(db, "SELECT count(*) FROM runs"), 1);
    program_run(SIM);                                               /* the database is still of use */
    program_note(SIM);
    CU_ASSERT_EQUAL(said()->rc, 0);
    CU_ASSERT_EQUAL(db_runs(db, "done"), 1);
}

static void an_interrupted_run_is_aborted(void)
{
    const char *db = program_db();
    pid_t pid = program_start(LONG, (struct limits){ 0 });
    bool open = db_wait(pid, db, "running");

    kill(pid, SIGINT);
    program_finish(pid);
    program_note(LONG);
    CU_ASSERT_FATAL(open);
    CU_ASSERT_EQUAL(said()->rc, EXIT_INTERRUPTED);
    CU_ASSERT_EQUAL(db_runs(db, "running"), 0);
    CU_ASSERT_EQUAL(db_runs(db, "done"), 0);
    CU_ASSERT_EQUAL(db_runs(db, "aborted"), 1);
    CU_ASSERT_EQUAL(program_run("db check --db @t.db"), 0);
    program_note("db check");
}

static void interrupting_keeps_finished_runs(void)
{
    const char *db = program_db();
    pid_t pid = program_start(MANY, (struct limits){ 0 });
    bool any = db_wait(pid, db, "done");

    kill(pid, SIGINT);
    program_finish(pid);
    program_note(MANY);
    CU_ASSERT_FATAL(any);
    CU_ASSERT_EQUAL(said()->rc, EXIT_INTERRUPTED);
    CU_ASSERT(db_runs(db, "done") >= 1);
    CU_ASSERT_EQUAL(db_runs(db, "running"), 0);
    CU_ASSERT(db_runs(db, "aborted") <= 1);
    CU_ASSERT_EQUAL(program_run("db check --db @t.db"), 0);
    program_note("db check");
}

static const struct test tests[] = {
    { "a_sim_run_is_recorded_and_checks", a_sim_run_is_recorded_and_checks },
    { "every_log_level_checks", every_log_level_checks },
    { "names_do_not_reach_the_terminal", names_do_not_reach_the_terminal },
    { "weights_without_a_tokenizer", weights_without_a_tokenizer },
    { "refused_after_the_last_finish", refused_after_the_last_finish },
    { "a_cut_run_is_whole", a_cut_run_is_whole },
    { "preempted_and_cached_adds_up", preempted_and_cached_adds_up },
    { "equal_sim_runs_have_equal_rows", equal_sim_runs_have_equal_rows },
    { "json_is_json", json_is_json },
    { "a_killed_run_never_counts", a_killed_run_never_counts },
    { "an_interrupted_run_is_aborted", an_interrupted_run_is_aborted },
    { "interrupting_keeps_finished_runs", interrupting_keeps_finished_runs },
    { NULL, NULL },
};
const struct suite suite_cli_runs = { "cli_runs", tests, 240 };
