#include "harness/environment.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "build/gen/version.h"

/* The value after `key` and a separator in a text file, without quotes; "" when it is not there. */
static void file_value(const char *path, const char *key, char sep, char *out, size_t n)
{
    char line[512];
    FILE *f = fopen(path, "r");

    out[0] = 0;
    while (f && fgets(line, sizeof line, f)) {
        char *p = line + strspn(line, " \t");

        if (strncmp(p, key, strlen(key)) || !(p = strchr(line, sep)))
            continue;
        p += 1 + strspn(p + 1, " \t\"");
        p[strcspn(p, "\"\n")] = 0;
        snprintf(out, n, "%s", p);
        break;
    }
    if (f)
        fclose(f);
}

static void first_line(const char *path, char *out, size_t n)
{
    FILE *f = fopen(path, "r");

    out[0] = 0;
    if (f && fgets(out, (int)n, f))
        out[strcspn(out, "\n")] = 0;
    if (f)
        fclose(f);
}

void environment_read(struct environment *x)
{
    struct utsname u;
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

    memset(x, 0, sizeof *x);
    if (gethostname(x->hostname, sizeof x->hostname - 1))
        x->hostname[0] = 0;
    file_value("/etc/os-release", "PRETTY_NAME", '=', x->os, sizeof x->os);
    if (!uname(&u))
        snprintf(x->kernel, sizeof x->kernel, "%s %s", u.sysname, u.release);
    file_value("/proc/cpuinfo", "model name", ':', x->cpu_model, sizeof x->cpu_model);
    first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", x->governor,
               sizeof x->governor);
    snprintf(x->compiler, sizeof x->compiler, "%s",
#ifdef __clang__
             "clang " __clang_version__
#else
             "gcc " __VERSION__
#endif
    );
    x->row = (struct environment_row){
        .hostname = x->hostname, .os = x->os, .kernel = x->kernel, .cpu_model = x->cpu_model,
        .cpu_governor = x->governor, .compiler = x->compiler, .build_flags = SERVELAB_FLAGS,
        .git_commit = SERVELAB_COMMIT, .cpu_cores = sysconf(_SC_NPROCESSORS_ONLN),
        .ram_bytes = pages > 0 && page > 0 ? (int64_t)pages * page : 0, .is_dirty = SERVELAB_DIRTY,
    };
}

void quiet_read(struct quiet *q)
{
    double t[8] = { 0 };
    struct timespec own;
    FILE *f = fopen("/proc/stat", "r");

    memset(q, 0, sizeof *q);
    if (f && fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", t, t + 1, t + 2, t + 3, t + 4, t + 5,
                    t + 6, t + 7) == 8) {
        q->steal_ticks = t[7];
        q->busy_ticks = t[0] + t[1] + t[2] + t[5] + t[6] + t[7];
        q->total_ticks = q->busy_ticks + t[3] + t[4];
    }
    if (f)
        fclose(f);
    if (!clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own))
        q->own_s = (double)own.tv_sec + (double)own.tv_nsec * 1e-9;
}

double quiet_others(const struct quiet *a, const struct quiet *b)
{
    double total = b->total_ticks - a->total_ticks, hz = (double)sysconf(_SC_CLK_TCK);
    double busy = b->busy_ticks - a->busy_ticks - (b->own_s - a->own_s) * hz;

    if (total < hz || hz <= 0)
        return -1;                              /* too short to say */
    return busy > 0 ? busy / total : 0;
}

int64_t peak_host_bytes(void)
{
    struct rusage u;

    return getrusage(RUSAGE_SELF, &u) ? 0 : (int64_t)u.ru_maxrss * 1024;
}
