/* queues.c - see queues.h. */
#include "strategies/queues.h"

void limits_together(struct sched *s)
{
    s->max_tok = (uint32_t)params_int(&s->env.params, "budget");
    s->max_seq = min_u32((uint32_t)params_int(&s->env.params, "batch"), s->max_tok);
}

void limits_apart(struct sched *s)
{
    s->max_seq = (uint32_t)params_int(&s->env.params, "batch");
    s->max_tok = max_u32((uint32_t)params_int(&s->env.params, "budget"), s->max_seq);
}

/* ---- two queues ---- */

static int read_rules(struct sched *s)
{
    struct queues *q = s->self;

    q->yield = (enum yield)params_int(&s->env.params, "preempt");
    q->victim = (enum victim)params_int(&s->env.params, "victim");
    return 0;
}

int queues_open(struct sched *s, struct arena *a, struct err *e)
{
    (void)a;
    (void)e;
    limits_together(s);
    return read_rules(s);
}

int queues_open_apart(struct sched *s, struct arena *a, struct err *e)
{
    (void)a;
    (void)e;
    limits_apart(s);
    return read_rules(s);
}

void queues_count(struct sched *s)
{
    const struct queues *q = s->self;

    s->n_waiting = q->waiting.n;
    s->n_running = q->running.n;
}

void queues_arrive(struct sched *s, struct request *r)
{
    queue_push(&((struct queues *)s->self)->waiting, r);
    queues_count(s);
}

void queues_finish(struct sched *s, struct request *r)
{
    queue_remove(&((struct queues *)s->self)->running, r);
    queues_count(s);
}

void queues_admit(struct sched *s, struct request *r)
{
    struct queues *q = s->self;

    queue_remove(&q->waiting, r);
    queue_push(&q->running, r);
    queues_count(s);
}

void queues_preempt(struct sched *s, struct plan *p, struct kv *kv, struct request *r, enum yield how)
{
    struct queues *q = s->self;

    plan_preempt(p, kv, r, how);
    queue_remove(&q->running, r);
    queue_push_front(&q->waiting, r);
    queues_count(s);
}

void queues_decode(struct sched *s, struct kv *kv, struct plan *p)
{
    struct queues *q = s->self;

    plan_decodes(p, kv, &q->running, &q->waiting, q->yield, q->victim);
    queues_count(s);
}

enum why queues_form_batch(struct sched *s, struct kv *kv, const struct plan *p)
{
    struct queues *q = s->self;

    while (q->waiting.n && q->running.n < p->max_seq) {
        struct request *r = q->waiting.head;

        if (kv_admit(kv, r, req_known(r)))
            return WHY_NO_KV;
        queues_admit(s, r);
    }
    return WHY_SEQ_CAP;
}

/* ---- memory ---- */

/* Managers say how many slots their used blocks hold; an empty one leaves only the pool to divide. */
uint32_t kv_block_tokens(const struct kv *kv)
{
    struct kv_count c = kv->ops->count(kv);
    uint64_t n = c.blocks_used ? c.slots_held / c.blocks_used
                 : c.blocks_total ? kv->env.n_slot / c.blocks_total : 1;

    return n ? (uint32_t)n : 1;
}

uint32_t kv_free_blocks(const struct kv *kv)
{
    struct kv_count c = kv->ops->count(kv);

    return c.blocks_total - c.blocks_used;
}

uint32_t kv_blocks_more(const struct kv *kv, const struct request *r, uint64_t n_tok)
{
    uint64_t room = req_room(r), block = kv_block_tokens(kv);

    return n_tok <= room ? 0 : (uint32_t)((n_tok - room + block - 1) / block);
}

uint32_t kv_permille(const struct kv *kv, uint32_t permille)
{
    return (uint32_t)((uint64_t)kv->ops->count(kv).blocks_total * permille / 1000);
}

bool kv_leaves(struct kv *kv, const struct request *r, uint32_t permille, const struct queue *running)
{
    if (!permille || !running->n)
        return true;
    return kv_blocks_more(kv, r, kv_todo(kv, r)) + kv_permille(kv, permille) <= kv_free_blocks(kv);
}

/* ---- sharing ---- */

uint32_t share_ask(const struct share_rule *rule, uint32_t todo, uint32_t left)
{
    uint32_t want = rule->how == SHARE_CAP ? min_u32(todo, rule->cap)
                    : rule->how == SHARE_EQUAL ? min_u32(todo, rule->unit) : todo;

    if (want <= left)
        return want;
    return rule->how == SHARE_EQUAL ? 0 : left / rule->unit * rule->unit;
}

uint32_t share_left(const struct share_rule *rule, const struct plan *p, const struct queue *running)
{
    uint32_t left = plan_room(p);

    for (const struct request *r = running->head; r && left; r = r->next)
        if (req_todo(r) > 1)
            left -= share_ask(rule, req_todo(r), left);
    return left;
}

/* One pass over the running prompts: each gets up to `per` more tokens. Returns who could use more. */
static uint32_t share_round(const struct share_rule *rule, const struct queue *running, uint32_t per,
                            uint32_t *left)
{
    uint32_t hungry = 0;

    for (struct request *r = running->head; r; r = r->next) {
        uint32_t more, give;

        if (req_todo(r) <= 1)
            continue;
        more = req_todo(r) - (uint32_t)r->rank2;
        give = min_u32(more, per);
        if (give > *left)
            give = *left / rule->unit * rule->unit;
        r->rank2 += give;
        *left -= give;
        hungry += give < more;
    }
    return hungry;
}

/* A unit each until nothing is left; whole laps are dealt at once. */
static void share_equally(const struct share_rule *rule, struct plan *p, const struct queue *running)
{
    uint32_t left = plan_room(p), before = 0, hungry = 0;

    for (struct request *r = running->head; r; r = r->next) {
        r->rank2 = 0;
        hungry += req_todo(r) > 1;
    }
    while (hungry && left && left != before) {
        before = left;
        hungry = share_round(rule, running, max_u32(left / hungry / rule->unit, 1) * rule->unit, &left);
    }
    for (struct request *r = running->head; r; r = r->next)
        if (r->rank2)
            plan_add(p, r, (uint32_t)r->rank2);
}

void share_prompts(const struct share_rule *rule, struct plan *p, const struct queue *running)
{
    if (rule->how == SHARE_EQUAL) {
        share_equally(rule, p, running);
        return;
    }
    for (struct request *r = running->head; r && plan_room(p); r = r->next)
        if (req_todo(r) > 1)
            plan_add(p, r, share_ask(rule, req_todo(r), plan_room(p)));
}

void plan_prompts_in_order(struct plan *p, const struct queue *running)
{
    for (struct request *r = running->head; r && plan_room(p); r = r->next)
        if (req_todo(r) > 1 || !r->n_out)
            plan_add(p, r, min_u32(req_todo(r), plan_room(p)));
}
