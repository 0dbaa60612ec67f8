/* verb_bench.c - the benchmarks, one file each (bench_NAME.c). */
#include <stdio.h>
#include <string.h>

#include "base/params.h"
#include "harness/verb.h"

extern const struct verb verb_bench;

static const char help[] =
    "usage: servelab bench [NAME] [options of that benchmark]\n\n"
    "Without NAME: all of them, one after another. 'servelab bench NAME --help' explains one, and whether it\n"
    "takes --json.\n"
    "Run them alone: two benchmarks at once spoil both. Figures are shares of a roof that is measured in\n"
    "the same run; absolute ones belong to this machine only.\n\n"
    "example: servelab bench kernels --quick\n\nbenchmarks:\n";

static void print_help(void)
{
    fputs(help, stdout);
    for (size_t i = 0; bench_registry[i]; i++)
        printf("  %-16s %s\n", bench_registry[i]->name, bench_registry[i]->about);
}

static int run(int argc, char **argv, struct err *e)
{
    const char *names[32];
    char *only[2] = { NULL, NULL };
    size_t n = 0;
    int rc = 0;

    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        print_help();
        return 0;
    }
    for (; bench_registry[n] && n < 32; n++) {
        names[n] = bench_registry[n]->name;
        if (argc > 1 && !strcmp(argv[1], names[n]))
            return bench_registry[n]->run(argc - 1, argv + 1, e);
    }
    if (argc > 1 && argv[1][0] == '-')
        return err_set(e, EXIT_USAGE, "bench: '%s' needs a benchmark before it, such as 'servelab bench kernels %s'; "
                       "'servelab bench --help' shows all", argv[1], argv[1]);
    if (argc > 1) {
        const char *near = nearest_name(argv[1], names, n);

        return err_set(e, EXIT_USAGE, "bench: unknown benchmark '%s'; %s%s%s'servelab bench --help' "
                       "shows all", argv[1], near ? "did you mean '" : "", near ? near : "",
                       near ? "'? " : "");
    }
    for (size_t i = 0; !rc && i < n; i++) {
        only[0] = (char *)(uintptr_t)names[i];
        optind = 0;
        printf("== %s: %s\n", names[i], bench_registry[i]->about);
        rc = bench_registry[i]->run(1, only, e);
    }
    return rc;
}

const struct verb verb_bench = {
    .name = "bench", .about = "kernels against the roof, replay speed, logging speed", .help = help,
    .rank = 6, .run = run,
};
