#include "harness/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void left_text(double s, char out[32])
{
    if (s < 0)
        s = 0;
    if (s >= 3600)
        snprintf(out, 32, "%.0f:%02.0f h", s / 3600, (double)((long)s % 3600 / 60));
    else
        snprintf(out, 32, "%ld:%02ld", (long)s / 60, (long)s % 60);
}

/* From finished runs when there are any, else from the estimate made before the start. */
static double sweep_left(const struct progress *p, double share, double now)
{
    double per_run = p->run ? p->runs_s / p->run : p->estimate_s / p->n_run;
    double rest = per_run * (p->n_run - p->run) - (now - p->run_started);

    if (!p->run && share > 0.1)
        rest = (now - p->run_started) / share * p->n_run - (now - p->run_started);
    return rest;
}

/* The bar itself only where there is room for it. */
static void describe(struct progress *p, size_t cols, char *out, size_t n)
{
    uint64_t done = atomic_load(&p->live.requests_done), tokens = atomic_load(&p->live.tokens_out);
    double now = seconds();
    double share = p->n_token ? (double)atomic_load(&p->live.tokens_run) / (double)p->n_token : 0;
    double t = now - p->run_started;
    char left[32], bar[64] = "";
    int full = (int)(share * 10);

    left_text(sweep_left(p, share, now), left);
    for (int i = 0; p->bar && cols >= 79 && i < 10; i++)
        strcat(bar, p->utf8 ? i < full ? "█" : "░" : i < full ? "#" : ".");
    snprintf(out, n, "[%u/%u] %s %s%s%3.0f %%  %s left  %.0f tok/s  run %u wait %u  %llu/%llu  preempt %llu",
             p->run + 1, p->n_run, p->name, bar, *bar ? " " : "", 100 * share, left,
             t > 0 ? (double)tokens / t : 0, atomic_load(&p->live.running),
             atomic_load(&p->live.waiting), (unsigned long long)done,
             (unsigned long long)p->n_request, (unsigned long long)atomic_load(&p->live.preemptions));
}

/* Cuts to the terminal's width, counting a UTF-8 sequence as one column. */
static void draw(struct progress *p)
{
    struct winsize w;
    char line[512];
    size_t cols = 79, i = 0, seen = 0;

    if (p->bar && !ioctl(STDERR_FILENO, TIOCGWINSZ, &w) && w.ws_col > 10)
        cols = w.ws_col - 1u;
    describe(p, cols, line, sizeof line);
    if (!p->bar) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    for (; line[i] && seen <= cols; i++)
        seen += ((unsigned char)line[i] & 0xc0) != 0x80;
    if (seen > cols)
        line[i - 1] = 0;
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
}

static void *drawer(void *arg)
{
    struct progress *p = arg;
    double last = seconds();

    pthread_mutex_lock(&p->lock);
    while (!p->quit) {
        struct timespec t;

        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += p->bar ? 250000000 : 500000000;
        if (t.tv_nsec >= 1000000000) {
            t.tv_nsec -= 1000000000;
            t.tv_sec++;
        }
        pthread_cond_timedwait(&p->wake, &p->lock, &t);
        if (p->quit || !p->name[0] || (!p->bar && seconds() - last < 10))
            continue;
        last = seconds();
        draw(p);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* As setlocale would choose: the first of these that says something. */
static bool terminal_is_utf8(void)
{
    static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };
    const char *v = NULL;

    for (int i = 0; i < 3 && (!v || !*v); i++)
        v = getenv(names[i]);
    return v && (strcasestr(v, "utf-8") || strcasestr(v, "utf8"));
}

void progress_start(struct progress *p, enum progress_mode mode, uint32_t n_run, double estimate_s)
{
    const char *term = getenv("TERM");

    memset(p, 0, sizeof *p);
    p->bar = isatty(STDERR_FILENO) && term && strcmp(term, "dumb");
    p->utf8 = terminal_is_utf8();
    p->n_run = n_run ? n_run : 1;
    p->estimate_s = estimate_s;
    p->sweep_started = p->run_started = seconds();
    if (mode == PROGRESS_NEVER)
        return;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->on = !pthread_create(&p->thread, NULL, drawer, p);
}

void progress_run(struct progress *p, uint32_t run, const char *name, uint64_t n_request,
                  uint64_t n_token)
{
    if (p->on)
        pthread_mutex_lock(&p->lock);
    memset(&p->live, 0, sizeof p->live);
    snprintf(p->name, sizeof p->name, "%s", name);
    p->run = run;
    p->n_request = n_request;
    p->n_token = n_token;
    p->run_started = seconds();
    if (p->on)
        pthread_mutex_unlock(&p->lock);
}

void progress_run_done(struct progress *p)
{
    if (p->on)
        pthread_mutex_lock(&p->lock);
    p->runs_s += seconds() - p->run_started;
    p->name[0] = 0;
    if (p->on)
        pthread_mutex_unlock(&p->lock);
}

void progress_stop(struct progress *p)
{
    if (!p->on)
        return;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    if (p->bar)
        fputs("\r\033[K", stderr);
    p->on = false;
}
