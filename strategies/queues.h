/* queues.h - what several schedulers share: two queues, memory in blocks, the sharing of a budget between
 * prompts, and an order by key with preemption. The policies themselves stand in sched/, one a file. */
#ifndef STRATEGIES_QUEUES_H
#define STRATEGIES_QUEUES_H

#include "strategies/strategy.h"

#define KNOB_PREEMPT { "preempt", YIELD_WORDS, YIELD_RECOMPUTE, 0, 0, \
                       "how a victim's KV is lost: computed again or swapped to host" }
#define KNOB_VICTIM { "victim", VICTIM_WORDS, VICTIM_YOUNGEST, 0, 0, "who yields when memory is out" }

/* ---- two queues: the first member of a scheduler's state, so that these stand in its sched_ops ---- */
struct queues {
    struct queue waiting, running;     /* running: order of (re)admission, youngest last */
};
void queues_arrive(struct sched *s, struct request *r);      /* to the end of waiting */
void queues_finish(struct sched *s, struct request *r);      /* out of running */
void queues_admit(struct sched *s, struct request *r);       /* from waiting to the end of running */
/* Takes the KV of r, which runs, and puts it to the front of waiting. */
void queues_preempt(struct sched *s, struct plan *p, struct kv *kv, struct request *r, enum yield how);
void queues_count(struct sched *s);    /* n_waiting and n_running, after the queues were changed by hand */

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

/* ---- order by key: smallest first, ties by arrival ---- */
struct heap { struct request **at; uint32_t n; };  /* by r->rank, then r->id */
int  heap_open(struct heap *h, uint32_t most, struct arena *a, struct err *e);
void heap_push(struct heap *h, struct request *r);
struct request *heap_pop(struct heap *h);

/* A scheduler that steps as sched/chunked.c does, but admits the smallest key first; the first member of
 * its state. The running requests are kept by key: the last one yields when memory is out. When
 * `preemptive`, it also yields to a waiting request with a strictly smaller key that lacks a seat or KV. */
struct ordered {
    struct heap waiting;
    struct queue running, yielded;
    uint64_t (*key)(const struct request *r);      /* may fall while r runs, not while it waits */
    enum yield yield;
    bool preemptive;
};
int  ordered_open(struct sched *s, uint64_t (*key)(const struct request *r), struct arena *a,
                  struct err *e);      /* knobs: batch, budget, preempt, preemptive */
void ordered_arrive(struct sched *s, struct request *r);
void ordered_plan(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p);
void ordered_finish(struct sched *s, struct request *r);

#endif
