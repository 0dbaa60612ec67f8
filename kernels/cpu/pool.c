/* pool.c - threads that help with a job if they are there.
 *
 * An operation takes microseconds, so threads spin between jobs and sleep only after about a
 * millisecond. Units are shared out beforehand (each thread walks its own share: locality), then
 * whoever is done takes from the others (balance). The caller takes part and waits only for threads
 * that are inside the job: a thread that the system has put aside delays nothing. OpenMP's barrier
 * waits for every thread, which on a shared machine costs a time slice per operation.
 *
 * What must stay true: a worker announces itself (`inside`) before it checks that the job is
 * still open, and the caller closes the job before it looks for workers inside. Both are
 * sequentially consistent, so either the worker sees the job closed, or the caller sees the
 * worker and waits. */
#include "kernels/cpu/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

enum { SPINS_TO_SLEEP = 30000, SPINS_TO_YIELD = 2000 };

struct share { alignas(64) _Atomic uint32_t next; uint32_t end; };      /* next unit to take */
struct worker {
    alignas(64) _Atomic uint32_t inside;
    int index;
    struct cpu_pool *pool;
    pthread_t id;
};
struct cpu_pool {
    alignas(64) _Atomic uint64_t epoch;        /* odd: a job is open */
    alignas(64) _Atomic uint32_t asleep;
    _Atomic bool quit;
    int n;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* the open job */
    cpu_work *fn;
    void *arg;
    uint32_t step, n_share;
    struct share share[THREAD_MAX];
    struct worker worker[THREAD_MAX];          /* [1, n) */
};

static inline void pause_cpu(void) { __builtin_ia32_pause(); }

static void take(struct cpu_pool *p, struct share *s, int thread)
{
    while (atomic_load_explicit(&s->next, memory_order_relaxed) < s->end) {
        uint32_t i0 = atomic_fetch_add_explicit(&s->next, p->step, memory_order_relaxed);

        if (i0 < s->end)
            p->fn(p->arg, thread, i0, s->end - i0 < p->step ? s->end : i0 + p->step);
    }
}

static void help(struct cpu_pool *p, int thread)
{
    for (uint32_t i = 0; i < p->n_share; i++)
        take(p, &p->share[((uint32_t)thread + i) % p->n_share], thread);
}

/* Until a job was opened after `epoch`, or the pool closes. */
static void nap(struct cpu_pool *p, uint64_t epoch)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->asleep, 1);
    while (atomic_load(&p->epoch) == epoch && !atomic_load(&p->quit))
        pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->asleep, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct cpu_pool *p = w->pool;
    uint64_t done = 0;

    for (unsigned spins = 0; !atomic_load_explicit(&p->quit, memory_order_relaxed);) {
        uint64_t now = atomic_load(&p->epoch);

        if (now % 2 && now != done) {
            atomic_store(&w->inside, 1);
            if (atomic_load(&p->epoch) == now)
                help(p, w->index);
            atomic_store(&w->inside, 0);
            done = now;
            spins = 0;
        } else if (++spins < SPINS_TO_SLEEP) {
            pause_cpu();
        } else {
            nap(p, now);
            spins = 0;
        }
    }
    return NULL;
}

void pool_run(struct cpu_pool *p, uint32_t n, uint32_t step, cpu_work *fn, void *arg)
{
    uint32_t steps = n / step + (n % step != 0);
    uint32_t shares = (uint32_t)p->n < steps ? (uint32_t)p->n : steps;

    p->fn = fn;
    p->arg = arg;
    p->step = step;
    p->n_share = shares;
    for (uint32_t t = 0; t < shares; t++) {
        uint64_t end = (uint64_t)steps * (t + 1) / shares * step;

        atomic_store_explicit(&p->share[t].next, (uint32_t)((uint64_t)steps * t / shares * step),
                              memory_order_relaxed);
        p->share[t].end = end < n ? (uint32_t)end : n;
    }
    atomic_fetch_add(&p->epoch, 1);
    if (atomic_load(&p->asleep)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    help(p, 0);
    atomic_fetch_add(&p->epoch, 1);
    for (int t = 1; t < p->n; t++)
        for (unsigned spins = 1; atomic_load(&p->worker[t].inside); spins++) {
            if (spins % SPINS_TO_YIELD)
                pause_cpu();
            else
                sched_yield();
        }
}

struct cpu_pool *pool_open(int n_thread)
{
    struct cpu_pool *p = aligned_alloc(64, sizeof *p);

    if (!p)
        return NULL;
    atomic_init(&p->epoch, 0);
    atomic_init(&p->asleep, 0);
    atomic_init(&p->quit, false);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (p->n = 1; p->n < n_thread; p->n++) {
        struct worker *w = &p->worker[p->n];

        atomic_init(&w->inside, 0);
        w->index = p->n;
        w->pool = p;
        if (pthread_create(&w->id, NULL, work, w))
            break;                             /* fewer threads, same results */
    }
    return p;
}

void pool_close(struct cpu_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->quit, true);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int t = 1; t < p->n; t++)
        pthread_join(p->worker[t].id, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
