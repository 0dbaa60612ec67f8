/* option.c - getopt_long with our messages (see verb.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/home.h"
#include "base/num.h"
#include "base/params.h"
#include "harness/verb.h"

const char *servelab_home(void) { return home_dir(); }

static int refuse(const struct verb *v, const char *given, const struct option *opts, struct err *e)
{
    const char *names[64], *near;
    char word[64];
    size_t n = 0;

    snprintf(word, sizeof word, "%.*s", (int)strcspn(given + strspn(given, "-"), "="),
             given + strspn(given, "-"));
    for (; opts[n].name && n < 63; n++) {
        names[n] = opts[n].name;
        if (!strcmp(names[n], word))
            return err_set(e, EXIT_USAGE, "%s: option --%s %s; 'servelab %s --help' explains it",
                           v->name, word, opts[n].has_arg ? "needs a value" : "takes no value",
                           v->name);
    }
    names[n++] = "help";
    near = nearest_name(word, names, n);
    return err_set(e, EXIT_USAGE, "%s: unknown option '%s'; %s%s%s'servelab %s --help' shows all",
                   v->name, given, near ? "did you mean '--" : "", near ? near : "",
                   near ? "'? " : "", v->name);
}

int option_int(const char *option, int64_t least, int64_t most, int64_t *out, struct err *e)
{
    return !parse_int(optarg, least, most, out) ? 0
         : err_set(e, EXIT_USAGE, "--%s %s: expected %lld to %lld", option, optarg, (long long)least, (long long)most);
}

/* A first reading of the whole line: which option stands twice? 0, or -1 with e. The last one would win unseen. */
static int once_each(const struct verb *v, int argc, char **argv, const struct option *all, struct err *e)
{
    uint64_t seen[2] = { 0 };
    int c, at = 0, rc = 0;

    while (!rc && (c = getopt_long(argc, argv, "h", all, &at)) != -1)
        if (c != '?' && c != 'h' && at < 128) {
            if (seen[at / 64] & (uint64_t)1 << at % 64)
                rc = err_set(e, EXIT_USAGE, "%s: --%s is given twice; give it once", v->name, all[at].name);
            seen[at / 64] |= (uint64_t)1 << at % 64;
        }
    optind = 0;                                    /* the next call begins anew */
    return rc;
}

int verb_option(const struct verb *v, int argc, char **argv, const struct option *opts, bool *done,
                struct err *e)
{
    struct option all[66];
    size_t n = 0;
    int c;

    *done = false;
    for (; opts[n].name && n < 64; n++)
        all[n] = opts[n];
    all[n] = (struct option){ "help", no_argument, NULL, 0x7f01 };
    all[n + 1] = (struct option){ 0 };
    opterr = 0;
    if (optind <= 1 && once_each(v, argc, argv, all, e))
        return '?';
    c = getopt_long(argc, argv, "h", all, NULL);
    if (c == 0x7f01 || c == 'h') {
        fputs(v->help, stdout);
        *done = true;
        return -1;
    }
    if (c == '?' || c == ':') {
        refuse(v, optind > 1 && optind <= argc ? argv[optind - 1] : "?", opts, e);
        return '?';
    }
    return c;
}

bool color_on(const char *mode, int fd)
{
    const char *term = getenv("TERM"), *no = getenv("NO_COLOR");

    if (mode && !strcmp(mode, "always"))
        return true;
    if ((mode && !strcmp(mode, "never")) || (no && *no))
        return false;
    return isatty(fd) && term && strcmp(term, "dumb");
}
