/* dst_shrink.c - delta debugging (Zeller 2002): fewer requests first, then shorter ones, while it
 * fails. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness/dst.h"

enum { PATIENCE_S = 5, MOST_TRIES = 3000, MOST_S = 40 };

int dst_check_apart(struct dst_lab *l, const struct dst_case *c, struct err *e)
{
    struct err *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0, rc;
    pid_t child;

    if (shared == MAP_FAILED)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    child = fork();
    if (!child) {
        alarm(PATIENCE_S);
        _exit(dst_check(l, c, shared) < 0);
    }
    rc = child < 0 || waitpid(child, &status, 0) != child ? -1 : status ? -1 : 0;
    if (rc && WIFSIGNALED(status))
        err_set(e, EXIT_RUN_FAILED, WTERMSIG(status) == SIGALRM ? "it hangs (signal %d)"
                : "it crashes with signal %d", WTERMSIG(status));
    else if (rc)
        err_set(e, EXIT_RUN_FAILED, "%s", shared->code ? shared->text : "the process ended early");
    munmap(shared, sizeof *shared);
    return rc;
}

struct shrinker { struct dst_lab *l; struct dst_case *c; int tries; time_t from; };

static bool fails(struct shrinker *s)
{
    struct err e = { 0 };

    return s->tries++ < MOST_TRIES && time(NULL) - s->from < MOST_S &&
           dst_check_apart(s->l, s->c, &e);
}

static bool without(struct shrinker *s, uint32_t from, uint32_t n)
{
    struct trace *t = &s->c->trace;
    struct trace_req *kept = malloc(t->n * sizeof *kept);
    uint32_t was = t->n;

    if (!kept)
        return false;
    memcpy(kept, t->req, was * sizeof *kept);
    memmove(t->req + from, t->req + from + n, (was - from - n) * sizeof *kept);
    t->n = was - n;
    bool smaller = fails(s);

    if (!smaller) {
        t->n = was;
        memcpy(t->req, kept, was * sizeof *kept);
    }
    free(kept);
    return smaller;
}

static bool fewer(struct shrinker *s)
{
    bool any = false;

    for (uint32_t n = s->c->trace.n / 2; n; n /= 2)
        for (uint32_t i = 0; i + n <= s->c->trace.n && s->c->trace.n > n;)
            if (without(s, i, n))
                any = true;
            else
                i += n;
    return any;
}

/* Sets *x to less: to `least` at once, half way, one less. */
static bool less(struct shrinker *s, uint32_t *x, uint32_t least)
{
    uint32_t was = *x, tries[3] = { least, least + (was - least) / 2, was - 1 };

    for (int i = 0; was > least && i < 3; i++) {
        *x = tries[i];
        if (fails(s))
            return true;
    }
    *x = was;
    return false;
}

static bool shorter(struct shrinker *s)
{
    bool any = false;

    for (uint32_t i = 0; i < s->c->trace.n; i++) {
        struct trace_req *q = &s->c->trace.req[i];

        any |= less(s, &q->n_out, 1);
        if (!q->more || !q->more->prefix_group)
            any |= less(s, &q->n_prompt, 1);
    }
    return any;
}

static bool earlier(struct shrinker *s)
{
    bool any = false;

    for (uint32_t i = 0; i < s->c->trace.n; i++) {
        struct trace_req *q = &s->c->trace.req[i];
        int64_t was = q->arrive_us;

        if (was == (i ? q[-1].arrive_us : 0))
            continue;
        q->arrive_us = i ? q[-1].arrive_us : 0;
        if (fails(s))
            any = true;
        else
            q->arrive_us = was;
    }
    return any;
}

int dst_shrink(struct dst_lab *l, struct dst_case *c)
{
    struct shrinker s = { l, c, 0, time(NULL) };
    bool any = true;

    for (enum relation was = c->relation; was; was = REL_NONE) {
        c->relation = REL_NONE;
        if (!fails(&s))
            c->relation = was;
    }
    while (any && s.tries < MOST_TRIES && time(NULL) - s.from < MOST_S) {
        any = fewer(&s);
        any |= shorter(&s);
        any |= earlier(&s);
        any |= less(&s, &c->host_slots, 0);
    }
    return s.tries;
}
