/* queues.h - what several schedulers share: limits, two queues, memory in blocks, and the sharing of a budget between
 * prompts. The policies themselves stand in sched/, one a file; an order by key is in ordered.h. */
#ifndef STRATEGIES_QUEUES_H
#define STRATEGIES_QUEUES_H

#include "strategies/strategy.h"

#define KNOB_PREEMPT { "preempt", YIELD_WORDS, YIELD_RECOMPUTE, 0, 0, \
                       "how a victim's KV is lost: computed again or swapped to host" }
#define KNOB_VICTIM { "victim", VICTIM_WORDS, VICTIM_YOUNGEST, 0, 0, "who yields when memory is out" }

/* Limits from the knobs `batch` and `budget`. Decodes count in the budget: there is a token for every seat; or a step
 * holds prompts or decodes, the budget is for prompts, and everybody can always decode. */
void limits_together(struct sched *s);
void limits_apart(struct sched *s);

/* ---- two queues: the first member of a scheduler's state, so that these stand in its sched_ops ---- */
struct queues {
    struct queue waiting, running;     /* running: order of (re)admission, youngest last */
    enum yield yield;                  /* as KNOB_PREEMPT and KNOB_VICTIM say, for queues_decode */
    enum victim victim;
};
/* The knobs batch, budget, KNOB_PREEMPT and KNOB_VICTIM, with limits_together or limits_apart. 0. */
int  queues_open(struct sched *s, struct arena *a, struct err *e);
int  queues_open_apart(struct sched *s, struct arena *a, struct err *e);
void queues_arrive(struct sched *s, struct request *r);      /* to the end of waiting */
void queues_finish(struct sched *s, struct request *r);      /* out of running */
void queues_admit(struct sched *s, struct request *r);       /* from waiting to the end of running */
/* Takes the KV of r, which runs, and puts it to the front of waiting. */
void queues_preempt(struct sched *s, struct plan *p, struct kv *kv, struct request *r, enum yield how);
void queues_count(struct sched *s);    /* n_waiting and n_running, after the queues were changed by hand */
/* plan_decodes over these queues. */
void queues_decode(struct sched *s, struct kv *kv, struct plan *p);
/* Admits in order until seats or memory are out, and plans nobody. Returns why the others wait. */
enum why queues_form_batch(struct sched *s, struct kv *kv, const struct plan *p);

/* ---- memory, counted in blocks as engines do ---- */
uint32_t kv_block_tokens(const struct kv *kv);     /* exact while anything is held */
uint32_t kv_free_blocks(const struct kv *kv);      /* what nobody's table names: cached ones included */
/* Blocks that r would need beyond those it holds to have room for n_tok tokens. */
uint32_t kv_blocks_more(const struct kv *kv, const struct request *r, uint64_t n_tok);
uint32_t kv_permille(const struct kv *kv, uint32_t permille);  /* of all blocks, rounded down */
/* Whether admitting r leaves that many of all blocks free; always when nobody runs. */
bool kv_leaves(struct kv *kv, const struct request *r, uint32_t permille, const struct queue *running);

/* ---- what is left of a budget, divided between prompts ---- */
enum share { SHARE_FCFS, SHARE_EQUAL, SHARE_CAP };
#define SHARE_WORDS "fcfs|equal|cap"
struct share_rule {
    enum share how;        /* all one can use, in order; a unit each in rounds; in order, `cap` at most */
    uint32_t unit, cap;    /* a cut chunk is a multiple of unit tokens */
};
/* Tokens to set aside of `left` for one more prompt with `todo` tokens to run; 0: it must wait. */
uint32_t share_ask(const struct share_rule *rule, uint32_t todo, uint32_t left);
/* The same, after the running prompts (more than one token to do) took theirs from the plan's room. */
uint32_t share_left(const struct share_rule *rule, const struct plan *p, const struct queue *running);
/* Adds slices of the running prompts. Uses r->rank2 when how is SHARE_EQUAL. */
void share_prompts(const struct share_rule *rule, struct plan *p, const struct queue *running);

/* Prompts in order, as far as the plan's room goes; one of a single token is a prompt until it has spoken. */
void plan_prompts_in_order(struct plan *p, const struct queue *running);

#endif
