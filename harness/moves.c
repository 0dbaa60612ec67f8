#include "harness/moves.h"

#include <stdlib.h>
#include <string.h>

int mover_open(struct mover *m, struct device *d, struct kv_pool *pool, uint32_t host_slots,
               struct err *e)
{
    memset(m, 0, sizeof *m);
    m->dev = d;
    m->pool = pool;
    return host_slots ? dev_host_open(d, &m->host, pool, host_slots, e) : 0;
}

void mover_close(struct mover *m)
{
    if (m->dev)
        dev_host_close(m->dev, &m->host);
    free(m->from);
    memset(m, 0, sizeof *m);
}

static int room(struct mover *m, uint32_t n, struct err *e)
{
    uint32_t cap = n * 2, *x;

    if (n <= m->cap)
        return 0;
    x = realloc(m->from, (size_t)3 * cap * sizeof *x);
    if (!x)
        return err_set(e, EXIT_RUN_FAILED, "out of memory for %u moves of K and V", n);
    m->from = x;
    m->to = x + cap;
    m->n = x + 2 * (size_t)cap;
    m->cap = cap;
    return 0;
}

static int run(struct mover *m, struct kv_moves *list, const struct kv_pool *from, struct kv_pool *to,
               struct err *e)
{
    if (room(m, list->n, e))
        return -1;
    for (uint32_t i = 0; i < list->n; i++) {
        m->from[i] = list->move[i].from;
        m->to[i] = list->move[i].to;
        m->n[i] = list->move[i].n;
    }
    if (from == to)
        dev_copy(m->dev, to, m->from, m->to, m->n, list->n);
    else
        dev_swap(m->dev, from, to, m->from, m->to, m->n, list->n);
    list->n = 0;
    return 0;
}

int mover_run(struct mover *m, struct kv *kv, struct err *e)
{
    return run(m, &kv->out, m->pool, &m->host, e) || run(m, &kv->copy, m->pool, m->pool, e) ||
           run(m, &kv->in, &m->host, m->pool, e) ? -1 : 0;
}

uint64_t moved_tokens(const struct kv_moves *m)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < m->n; i++)
        sum += m->move[i].n;
    return sum;
}
