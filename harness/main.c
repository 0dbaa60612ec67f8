/* main.c - finds the verb, runs it, turns its error into one line on stderr and an exit status. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/params.h"
#include "build/gen/version.h"
#include "harness/verb.h"

static const struct verb *by_rank[32];

static size_t sort_verbs(void)
{
    size_t n = 0;

    for (; verb_registry[n] && n < 32; n++) {
        size_t i = n;

        for (; i && by_rank[i - 1]->rank > verb_registry[n]->rank; i--)
            by_rank[i] = by_rank[i - 1];
        by_rank[i] = verb_registry[n];
    }
    return n;
}

static void usage(FILE *f, size_t n)
{
    fprintf(f, "servelab %s: a laboratory for LLM serving strategies\n\n"
            "usage: servelab VERB [options]      'servelab VERB --help' explains one\n\n",
            SERVELAB_VERSION);
    for (size_t i = 0; i < n; i++)
        fprintf(f, "  %-10s %s\n", by_rank[i]->name, by_rank[i]->about);
    fprintf(f, "\nexample: servelab run --trace chat.json --device sim\n"
            "exit status: 0 fine, 1 a run failed, 2 wrong usage or bad input, 3 measured but invalid,\n"
            "             74 cannot write, 130 interrupted\n");
}

static int unknown(const char *name, size_t n)
{
    const char *names[32];

    for (size_t i = 0; i < n; i++)
        names[i] = by_rank[i]->name;
    const char *near = nearest_name(name, names, n);

    fprintf(stderr, "servelab: unknown verb '%s'; %s%s%s'servelab --help' shows all\n", name,
            near ? "did you mean '" : "", near ? near : "", near ? "'? " : "");
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    size_t n = sort_verbs();
    int rc;

    if (argc < 2) {
        usage(stderr, n);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        usage(stdout, n);
        return 0;
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "version")) {
        printf("servelab %s\n", SERVELAB_VERSION);
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        if (!strcmp(argv[1], by_rank[i]->name)) {
            rc = by_rank[i]->run(argc - 1, argv + 1, &e);
            if (fflush(stdout) || ferror(stdout))
                err_set(&e, EXIT_IO, "standard output: cannot write: %s", strerror(errno));
            if (e.code) {
                fprintf(stderr, "servelab: %s\n", e.text);
                return rc > 0 ? rc : e.code;
            }
            return rc < 0 ? EXIT_RUN_FAILED : rc;
        }
    return unknown(argv[1], n);
}
