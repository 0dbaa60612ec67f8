/* test_cli.c - the program as its users meet it: its help, its exit statuses, its messages, and that nothing is left
 * behind when it is refused. What a run leaves behind is test_cli_runs.c's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "harness/verb.h"
#include "kernels/device.h"
#include "strategies/strategy.h"
#include "tests/program.h"
#include "tests/test.h"

/* ---- help ---- */

static void help_lists_every_verb(void)
{
    CU_ASSERT_EQUAL(program_run("--help"), 0);
    CU_ASSERT_STRING_EQUAL(said()->err, "");
    for (size_t i = 0; verb_registry[i]; i++) {
        test_note("verb %s", verb_registry[i]->name);
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, verb_registry[i]->name));
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, verb_registry[i]->about));
    }
    CU_ASSERT_EQUAL(program_run("%s", ""), EXIT_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, "usage"));
    CU_ASSERT_EQUAL(program_run("--version"), 0);
}

static void every_verb_helps_with_an_example(void)
{
    for (size_t i = 0; verb_registry[i]; i++) {
        char example[100];

        snprintf(example, sizeof example, "servelab %s", verb_registry[i]->name);
        CU_ASSERT_EQUAL(program_run("%s --help", verb_registry[i]->name), 0);
        program_note(verb_registry[i]->name);
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, example));
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, "xample"));
        CU_ASSERT_STRING_EQUAL(said()->err, "");
        for (const char *p = said()->out; *p; p += strcspn(p, "\n") + (p[strcspn(p, "\n")] == '\n'))
            CU_ASSERT(strcspn(p, "\n") <= 110);
    }
}

static void every_verb_refuses_an_unknown_option(void)
{
    for (size_t i = 0; verb_registry[i]; i++) {
        CU_ASSERT_EQUAL(program_run("%s --no-such-option-at-all", verb_registry[i]->name), EXIT_USAGE);
        program_note(verb_registry[i]->name);
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, "no-such-option-at-all"));
        CU_ASSERT_STRING_EQUAL(said()->out, "");
    }
}

static void list_names_everything(void)
{
    CU_ASSERT_EQUAL(program_run("list"), 0);
    for (size_t i = 0; sched_registry[i]; i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, sched_registry[i]->name));
    for (size_t i = 0; kv_registry[i]; i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, kv_registry[i]->name));
    for (size_t i = 0; prec_registry[i]; i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, prec_registry[i]->name));
    for (size_t i = 0; device_registry[i]; i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->out, device_registry[i]->name));
    CU_ASSERT_EQUAL(program_run("doctor"), 0);
    program_note("doctor");
}

static unsigned lines(const char *s)
{
    unsigned n = 0;

    for (; *s; s++)
        n += *s == '\n';
    return n;
}

/* ---- refusals: status 2, one line that names the nearest, nothing written ---- */

static void wrong_names_are_refused(void)
{
    static const struct { const char *args, *named; } t[] = {
        { "rnu", "'run'" },
        { "run --db @t.db", "--trace" },
        { "run --trace chat.json --devcie sim --db @t.db", "--device" },
        { "run --trace chat.json --device siim --db @t.db", "sim" },
        { "run --trace chat.json --model tinny --device sim --db @t.db", "tiny" },
        { "run --trace chat.json --device sim --strategy contniuous+paged+f16 --db @t.db", "continuous" },
        { "run --trace chat.json --device sim --strategy continuous+pagde+f16 --db @t.db", "paged" },
        { "run --trace chat.json --device sim --strategy continuous+paged+int5 --db @t.db", "int4" },
        { "run --trace chat.json --device sim --strategy continuous+paged:blok=16+f16 --db @t.db", "block" },
        { "run --trace chat.json --device sim --strategy defualt --db @t.db", "default" },
        { "run --trace chat.json --device sim --strategy trtllm --db @t.db", "or a name that 'servelab list' shows" },
        { "run --trace chat.json --device sim --strategy continuous+paged --db @t.db", "continuous+paged" },
        { "run --trace chat.json --device sim --strategy paged:block=32 --db @t.db", "one part, a memory manager" },
        { "run --trace chta.json --device sim --db @t.db", "'chat" },
        { "run --trace @nothing.json --device sim --db @t.db", "nothing.json" },
        { "run --trace chat.json --device sim --rate 0 --db @t.db", "rate" },
        { "run --trace chat.json --device sim --rate nan --db @t.db", "rate" },
        { "run --trace chat.json --device sim --rate 1,two --db @t.db", "rate" },
        { "run --trace chat.json --device sim --limit -1 --db @t.db", "limit" },
        { "run --trace chat.json --device sim --limit 1x --db @t.db", "limit" },
        { "run --trace chat.json --device sim --repeats 0 --db @t.db", "repeats" },
        { "run --trace chat.json --device sim --seed x --db @t.db", "seed" },
        { "run --trace chat.json --device sim --slo ttft --db @t.db", "slo" },
        { "run --trace chat.json --device sim --slo tfft:200 --db @t.db", "slo" },
        { "run --trace chat.json --device sim --kv 1XB --db @t.db", "kv" },
        { "run --trace chat.json --device cpu --pace slow --db @t.db", "pace" },
        { "run --trace chat.json --device sim surplus --db @t.db", "surplus" },
        { "run --trace", "trace" },
    };

    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        CU_ASSERT_EQUAL(program_run("%s", t[i].args), EXIT_USAGE);
        program_note(t[i].args);
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, t[i].named));
        CU_ASSERT(!strncmp(said()->err, "servelab: ", 10));
        CU_ASSERT_EQUAL(lines(said()->err), 1);
        CU_ASSERT_STRING_EQUAL(said()->out, "");
        CU_ASSERT(access(program_file("t.db"), F_OK) != 0);
    }
}

static void foreign_files_are_left_alone(void)
{
    char text[OUT];
    FILE *f = fopen(program_file("t.db"), "w");

    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs("my thesis, not a database\n", f);
    fclose(f);
    program_run(SIM);
    program_note("into a text file");
    CU_ASSERT(said()->rc == EXIT_USAGE || said()->rc == EXIT_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, "t.db"));
    program_read("t.db", text);
    CU_ASSERT_STRING_EQUAL(text, "my thesis, not a database\n");
}

static void unwritable_database(void)
{
    CU_ASSERT_EQUAL(program_run("run --device sim --trace chat.json --limit 5 --db /dev/null/x.db"), EXIT_IO);
    program_note("/dev/null/x.db");
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, "servelab: /dev/null/x.db"));
}

/* In a folder that one may not write; root may, so it becomes somebody else first. */
static void read_only_folder(void)
{
    uid_t nobody = getuid() ? 0 : 65534;
    char up[PATH_ROOM];
    const char *args = "run --device sim --trace chat.json --limit 5 --db results.db";

    snprintf(up, sizeof up, "%s/..", test_dir());
    CU_ASSERT_EQUAL(chmod(up, 0711), 0);
    CU_ASSERT_EQUAL(chmod(test_dir(), 0555), 0);
    program_finish(program_start(args, (struct limits){ .uid = nobody }));
    chmod(test_dir(), 0700);
    chmod(up, 0700);
    if (said()->rc == 126) {
        test_skip("the program is not readable for an unprivileged user here");
        return;
    }
    program_note(args);
    CU_ASSERT_EQUAL(said()->rc, EXIT_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, "results.db"));
    CU_ASSERT(access(program_file("results.db"), F_OK) != 0);
}

/* The disk is full at whatever moment: status 74, and no run that counts with rows missing. */
static void full_disk(void)
{
    for (rlim_t kib = 16; kib <= 1024; kib *= 2) {
        program_finish(program_start(SIM, (struct limits){ .file_bytes = kib << 10 }));
        program_note(SIM);
        test_note("files may have %u KiB", (unsigned)kib);
        if (said()->rc == 0)                                   /* it fits */
            break;
        CU_ASSERT_EQUAL(said()->rc, EXIT_IO);
        CU_ASSERT_PTR_NOT_NULL(strstr(said()->err, "t.db"));
        CU_ASSERT(db_runs(program_db(), "done") <= 0);
        unlink(program_db());
    }
    CU_ASSERT_EQUAL(said()->rc, 0);
}

/* What was asked for could not be printed: that is a failure, not silence. */
static void lost_output_is_an_error(void)
{
    CU_ASSERT_EQUAL_FATAL(symlink("/dev/full", program_file(".out")), 0);
    CU_ASSERT_EQUAL(program_run("list"), EXIT_IO);
    program_note("list >/dev/full");
    CU_ASSERT(said()->err[0] != 0);
}

static const struct test tests[] = {
    { "help_lists_every_verb", help_lists_every_verb },
    { "every_verb_helps_with_an_example", every_verb_helps_with_an_example },
    { "every_verb_refuses_an_unknown_option", every_verb_refuses_an_unknown_option },
    { "list_names_everything", list_names_everything },
    { "wrong_names_are_refused", wrong_names_are_refused },
    { "foreign_files_are_left_alone", foreign_files_are_left_alone },
    { "unwritable_database", unwritable_database },
    { "read_only_folder", read_only_folder },
    { "full_disk", full_disk },
    { "lost_output_is_an_error", lost_output_is_an_error },
    { NULL, NULL },
};
const struct suite suite_cli = { "cli", tests, 240 };
