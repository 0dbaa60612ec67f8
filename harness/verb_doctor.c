/* verb_doctor.c - what was built, what this machine can run, and why not. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/home.h"
#include "harness/environment.h"
#include "harness/report.h"
#include "harness/verb.h"
#include "kernels/device.h"
#include "build/gen/version.h"

extern const struct verb verb_doctor;

static const char help[] =
    "usage: servelab doctor [--json]\n\n"
    "Says what was built and what this machine can run. Exit status 0 when sim and cpu work.\n\n"
    "example: servelab doctor\n";

static const struct option options[] = { { "json", 0, NULL, 'j' }, { 0 } };

/* to: a list that gets it; NULL: stdout does. */
static bool say(json_t *to, bool good, const char *what, const char *line)
{
    if (to)
        json_array_append_new(to, json_pack("{s:b, s:s, s:o}", "ok", (int)good, "what", what, "says",
                                            report_text(line)));
    else
        printf("%-4s %-10s %s\n", good ? "ok" : "NO", what, line);
    return good;
}

/* Opens the device, as a run would. */
static bool try_device(json_t *to, const struct device_ops *ops)
{
    struct device_conf c = { 0 };
    struct device d;
    struct err e = { 0 };
    char probe[1000] = "", line[1200];

    if ((ops->probe && ops->probe(probe, sizeof probe)) || dev_open(&d, ops, &c, &e)) {
        snprintf(line, sizeof line, "%s", e.code ? e.text : probe);
        return say(to, false, ops->name, line);
    }
    snprintf(line, sizeof line, "%s%s%s", d.label, strstr(d.label, probe) ? "" : "; ",
             strstr(d.label, probe) ? "" : probe);
    dev_close(&d);
    return say(to, true, ops->name, line);
}

static bool try_gnuplot(json_t *to)
{
    char line[128] = "not found: figures are written as .gp and .tsv only; 'make deps' installs it";
    FILE *f = popen("gnuplot --version 2>/dev/null", "r");
    bool good = f && fgets(line, sizeof line, f);

    if (f)
        pclose(f);
    line[strcspn(line, "\n")] = 0;
    return say(to, good, "gnuplot", line);
}

static bool try_home(json_t *to)
{
    char line[4200], *names[4];
    size_t n = home_list("models/shapes", ".json", names, 4);
    bool good = n > 0;

    while (n)
        free(names[--n]);
    snprintf(line, sizeof line, "%s%s", home_dir(), good ? "" : ": no models/shapes there; set "
             "SERVELAB_HOME to the source tree");
    return say(to, good, "files", line);
}

static int run(int argc, char **argv, struct err *e)
{
    struct environment env;
    bool good = true, done, json = false;
    json_t *to = NULL;
    char line[600];
    int opt;

    while ((opt = verb_option(&verb_doctor, argc, argv, options, &done, e)) != -1) {
        if (opt == '?')
            return -1;
        json = true;
    }
    if (done)
        return 0;
    if (json && !(to = json_array()))
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    environment_read(&env);
    snprintf(line, sizeof line, "%s, commit %s%s, %s", SERVELAB_VERSION, SERVELAB_COMMIT,
             SERVELAB_DIRTY ? " (modified)" : "", env.compiler);
    say(to, true, "servelab", line);
    snprintf(line, sizeof line, "%s, %s, %s, %lld cores, %.1f GiB", env.os, env.kernel, env.cpu_model,
             (long long)env.row.cpu_cores, (double)env.row.ram_bytes / 0x1p30);
    say(to, true, "machine", line);
    good &= try_home(to);
    for (size_t i = 0; device_registry[i]; i++)
        good &= try_device(to, device_registry[i]) || !strcmp(device_registry[i]->name, "cuda");
    say(to, *SERVELAB_CUDA != 0, "nvcc", *SERVELAB_CUDA ? SERVELAB_CUDA : "not looked for (CUDA=no)");
    good &= say(to, sqlite3_libversion_number() >= 3037000, "sqlite", sqlite3_libversion());
    try_gnuplot(to);
    if (to && report_print(json_pack("{s:b, s:o}", "ok", (int)good, "checks", to), "doctor", e))
        return -1;
    return good ? 0 : EXIT_RUN_FAILED;
}

const struct verb verb_doctor = {
    .name = "doctor", .about = "what was built, what this machine can run, why not", .help = help,
    .rank = 7, .run = run,
};
