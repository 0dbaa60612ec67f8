/* strategy.c - what all strategies share: names, plans, queues, block tables. */
#include "strategies/strategy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const why_name[WHY_N] = {
    "no KV room", "token budget", "sequence cap", "batch closed", "ordering"
};

static void hold(struct kv *kv, struct request *r)
{
    r->hold_prev = NULL;
    r->hold_next = kv->holder;
    if (kv->holder)
        kv->holder->hold_prev = r;
    kv->holder = r;
}

static void unhold(struct kv *kv, struct request *r)
{
    *(r->hold_prev ? &r->hold_prev->hold_next : &kv->holder) = r->hold_next;
    if (r->hold_next)
        r->hold_next->hold_prev = r->hold_prev;
    r->hold_next = r->hold_prev = NULL;
}

int plan_add(struct plan *p, struct request *r, uint32_t n)
{
    if (!n || n > req_todo(r) || p->n == p->max_seq || n > plan_room(p) ||
        (uint64_t)r->n_kv + n > req_room(r))
        return -1;
    p->slice[p->n++] = (struct slice){ r, n };
    p->n_tok += n;
    return 0;
}

void plan_preempt(struct plan *p, struct kv *kv, struct request *r, enum yield how)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (p->slice[i].r == r) {
            p->n_tok -= p->slice[i].n;
            memmove(p->slice + i, p->slice + i + 1, (--p->n - i) * sizeof *p->slice);
            break;
        }
    if (how == YIELD_SWAP && kv->ops->swap_out && !kv->ops->swap_out(kv, r))
        unhold(kv, r);
    else
        kv_drop(kv, r);
    r->n_kv = 0;
    r->n_preempt++;
    p->n_preempt++;
    if (p->on_preempt)
        p->on_preempt(p->loop, r);
}

void plan_why(struct plan *p, enum why why, uint32_t n)
{
    if (why == WHY_NO_KV && n > 1) {
        p->why[WHY_ORDER] += n - 1;
        n = 1;
    }
    p->why[why] += n;
}

int kv_grow(struct kv *kv, struct request *r, uint32_t n_tok)
{
    bool held = r->n_block > 0;

    if (n_tok <= req_room(r))
        return 0;
    if (kv->ops->grow(kv, r, n_tok))
        return -1;
    if (!held)
        hold(kv, r);
    return 0;
}

int kv_admit(struct kv *kv, struct request *r, uint32_t n_tok)
{
    if (r->n_host) {
        if (kv->ops->swap_in(kv, r, n_tok))
            return -1;
        hold(kv, r);
        return 0;
    }
    if (kv->ops->attach && !r->n_block) {
        kv->ops->attach(kv, r);
        if (r->n_block)
            hold(kv, r);
    }
    if (!kv_grow(kv, r, n_tok))
        return 0;
    kv_drop(kv, r);
    r->n_kv = 0;
    return -1;
}

void kv_drop(struct kv *kv, struct request *r)
{
    bool held = r->n_block > 0;

    if (!held && !r->n_host)
        return;
    kv->ops->drop(kv, r);
    r->n_block = r->n_host = 0;
    if (held)
        unhold(kv, r);
}

uint32_t kv_todo(struct kv *kv, const struct request *r)
{
    if (r->n_host)
        return req_known(r) - r->n_host;
    return req_known(r) - (kv->ops->peek ? kv->ops->peek(kv, r) : 0);
}

int kv_move_room(struct kv_moves *m, uint32_t n)
{
    uint64_t cap = m->cap ? m->cap : 64, need = (uint64_t)m->n + n;
    struct kv_move *move;

    if (need <= m->cap)
        return 0;
    while (cap < need)
        cap *= 2;
    if (cap > UINT32_MAX || !(move = realloc(m->move, cap * sizeof *move)))
        return -1;
    m->move = move;
    m->cap = (uint32_t)cap;
    return 0;
}

int kv_move_add(struct kv_moves *m, uint32_t from, uint32_t to, uint32_t n)
{
    if (kv_move_room(m, 1))
        return -1;
    if (m->n && m->move[m->n - 1].from + m->move[m->n - 1].n == from &&
        m->move[m->n - 1].to + m->move[m->n - 1].n == to)
        m->move[m->n - 1].n += n;              /* runs of slots move at once */
    else
        m->move[m->n++] = (struct kv_move){ from, to, n };
    return 0;
}

int kv_table_room(struct kv *kv, struct request *r, uint32_t n)
{
    uint32_t cap = r->cap_block ? r->cap_block : 8;
    uint32_t *block;

    if (n <= r->cap_block)
        return 0;
    while (cap < n)
        cap *= 2;
    block = ARENA_NEW(kv->arena, uint32_t, cap);
    if (!block)
        return -1;
    if (r->n_block)
        memcpy(block, r->block, r->n_block * sizeof *block);
    r->block = block;
    r->cap_block = cap;
    return 0;
}

void queue_push(struct queue *q, struct request *r)
{
    r->next = NULL;
    r->prev = q->tail;
    if (q->tail)
        q->tail->next = r;
    else
        q->head = r;
    q->tail = r;
    q->n++;
}

void queue_push_front(struct queue *q, struct request *r)
{
    r->prev = NULL;
    r->next = q->head;
    if (q->head)
        q->head->prev = r;
    else
        q->tail = r;
    q->head = r;
    q->n++;
}

void queue_remove(struct queue *q, struct request *r)
{
    *(r->prev ? &r->prev->next : &q->head) = r->next;
    *(r->next ? &r->next->prev : &q->tail) = r->prev;
    r->next = r->prev = NULL;
    q->n--;
}

int sched_open(struct sched *s, const struct sched_ops *ops, const struct params *p,
               uint32_t max_waiting, struct arena *a, struct err *e)
{
    memset(s, 0, sizeof *s);
    s->ops = ops;
    s->env.params = *p;
    s->env.max_waiting = max_waiting;
    s->self = arena_get(a, 1, ops->state_bytes);
    if (!s->self)
        return err_set(e, EXIT_RUN_FAILED, "scheduler %s: out of memory", ops->name);
    return ops->open(s, a, e);
}

int kv_open(struct kv *kv, const struct kv_ops *ops, const struct kv_env *env, struct arena *a,
            struct err *e)
{
    memset(kv, 0, sizeof *kv);
    kv->ops = ops;
    kv->env = *env;
    kv->arena = a;
    kv->self = arena_get(a, 1, ops->state_bytes);
    if (!kv->self)
        return err_set(e, EXIT_RUN_FAILED, "memory manager %s: out of memory", ops->name);
    return ops->open(kv, a, e);
}

void kv_close(struct kv *kv)
{
    free(kv->out.move);
    free(kv->copy.move);
    free(kv->in.move);
    memset(kv, 0, sizeof *kv);
}

struct request *queue_victim(const struct queue *running, enum victim rule)
{
    struct request *best = running->tail;

    if (rule == VICTIM_YOUNGEST)
        return best;
    for (struct request *r = running->tail; r; r = r->prev)
        if (rule == VICTIM_FEWEST ? r->n_out < best->n_out : r->n_kv < best->n_kv)
            best = r;
    return best;
}

/* Makes room for one more token of r. False when r itself had to yield; *next stays a running request. */
static bool room_or_yield(struct plan *p, struct kv *kv, struct queue *running, struct queue *waiting,
                          struct request *r, struct request **next, enum yield yield,
                          enum victim victim)
{
    while (kv_grow(kv, r, r->n_kv + 1)) {
        struct request *v = queue_victim(running, victim);

        if (v == *next)
            *next = v->next;
        plan_preempt(p, kv, v, yield);
        queue_remove(running, v);
        queue_push_front(waiting, v);
        if (v == r)
            return false;
    }
    return true;
}

void plan_decodes(struct plan *p, struct kv *kv, struct queue *running, struct queue *waiting,
                  enum yield yield, enum victim victim)
{
    for (struct request *r = running->head, *next; r; r = next) {
        next = r->next;
        if (req_todo(r) == 1 &&
            room_or_yield(p, kv, running, waiting, r, &next, yield, victim))
            plan_add(p, r, 1);
    }
}

/* The kinds of part share name and knobs; this is what finding one needs of each. */
struct part { const char *name; const struct knob *knobs; };

static int find_part(const char *kind, const char *text, const struct part *parts, size_t n,
                     size_t *found, struct params *params, struct err *e)
{
    const char *names[64];
    size_t len = strcspn(text, ":");
    char name[64];

    if (len >= sizeof name)
        return err_set(e, EXIT_USAGE, "%s name is too long: '%.40s...'", kind, text);
    memcpy(name, text, len);
    name[len] = 0;
    for (size_t i = 0; i < n; i++) {
        names[i] = parts[i].name;
        if (!strcmp(name, parts[i].name)) {
            *found = i;
            return params_parse(params, parts[i].knobs, name, text[len] ? text + len + 1 : "", e);
        }
    }
    const char *near = nearest_name(name, names, n);

    return err_set(e, EXIT_USAGE, "unknown %s '%s'; %s%s%s'servelab list' shows all", kind, name,
                   near ? "did you mean '" : "", near ? near : "", near ? "'? " : "");
}

static int parse_parts(struct strategy *s, char *part[4], struct err *e)
{
    struct part parts[64];
    size_t n, i;

    for (n = 0; sched_registry[n] && n < 64; n++)
        parts[n] = (struct part){ sched_registry[n]->name, sched_registry[n]->knobs };
    if (find_part("scheduler", part[0], parts, n, &i, &s->sched_params, e))
        return -1;
    s->sched = sched_registry[i];
    for (n = 0; kv_registry[n] && n < 64; n++)
        parts[n] = (struct part){ kv_registry[n]->name, kv_registry[n]->knobs };
    if (find_part("memory manager", part[1], parts, n, &i, &s->kv_params, e))
        return -1;
    s->kv = kv_registry[i];
    for (n = 0; prec_registry[n] && n < 64; n++)
        parts[n] = (struct part){ prec_registry[n]->name, prec_registry[n]->knobs };
    if (find_part("precision", part[2], parts, n, &i, &s->prec_params, e))
        return -1;
    s->prec = prec_registry[i];
    for (n = 0; exec_registry[n] && n < 64; n++)
        parts[n] = (struct part){ exec_registry[n]->name, exec_registry[n]->knobs };
    if (find_part("launch", part[3], parts, n, &i, &s->exec_params, e))
        return -1;
    s->exec = exec_registry[i];
    return 0;
}

enum fmt prec_kv(const struct prec *p)
{
    static const enum fmt fmt[] = { FMT_F16, FMT_INT8, FMT_FP8 };

    return fmt[params_int(&p->params, "kv")];
}

struct wfmt prec_head(const struct prec *p, enum role role, struct wfmt f)
{
    static const struct wfmt kept[] = { { FMT_F16, 0 }, { FMT_INT8, 0 } };
    int64_t word = params_int(&p->params, "head");

    return word && (role == ROLE_HEAD || role == ROLE_EMBED) ? kept[word - 1] : f;
}

int strategy_parse(struct strategy *s, const char *text, struct err *e)
{
    char copy[256], eager[] = "eager", *part[4] = { 0 }, *save = NULL, names[4][128];
    int n = 0, len;

    memset(s, 0, sizeof *s);
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
        return err_set(e, EXIT_USAGE, "strategy name is too long: '%.60s...'", text);
    for (char *p = strtok_r(copy, "+", &save); p; p = strtok_r(NULL, "+", &save))
        if (n++ < 4)
            part[n - 1] = p;
    if (n != 3 && n != 4)
        return err_set(e, EXIT_USAGE, "strategy '%s': expected scheduler+memory+precision, such as "
                       "continuous+paged:block=16+f16, or a preset; 'servelab list' shows all", text);
    if (n == 3)
        part[3] = eager;
    if (parse_parts(s, part, e))
        return -1;
    params_name(&s->sched_params, s->sched->name, names[0], sizeof names[0]);
    params_name(&s->kv_params, s->kv->name, names[1], sizeof names[1]);
    params_name(&s->prec_params, s->prec->name, names[2], sizeof names[2]);
    params_name(&s->exec_params, s->exec->name, names[3], sizeof names[3]);
    len = !strcmp(names[3], eager)
        ? snprintf(s->name, sizeof s->name, "%s+%s+%s", names[0], names[1], names[2])
        : snprintf(s->name, sizeof s->name, "%s+%s+%s+%s", names[0], names[1], names[2], names[3]);
    if (len >= (int)sizeof s->name)
        return err_set(e, EXIT_USAGE, "strategy name is too long: '%s'", text);
    return 0;
}
