/* strategy.h - the only header a strategy author includes.
 *
 * A strategy is a scheduler (who runs in this step, with how many tokens), a memory manager (where keys
 * and values live) and a precision (which weight gets which format). Each is one file that defines one
 * const struct: drop strategies/sched/mine.c with `const struct sched_ops sched_mine = {...};` and it is
 * in `servelab list`, in the conformance suite and in the figures.
 *
 * One number per request: req_todo = n_prompt + n_out - n_kv, the tokens known but not yet run. A fresh
 * prompt, a chunk, a decode, a recompute after preemption are the same thing: a slice equal to req_todo
 * yields a token, a smaller one yields none. There is no prefill flag.
 *
 * Strategies see no device, clock, file or malloc. They take memory in open and free nothing. */
#ifndef STRATEGIES_STRATEGY_H
#define STRATEGIES_STRATEGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/num.h"
#include "base/params.h"
#include "kernels/format.h"
#include "workloads/trace.h"

/* One request in flight. Each field has one writer, named at the right. */
struct request {
    const struct trace_req *in;    /* what the trace says; in->n_out is the oracle's, see oracle below */
    uint32_t id;                   /* row in the trace                                       replay */
    uint32_t n_prompt;             /* prompt tokens                                          replay */
    uint32_t n_out;                /* tokens produced so far                                 replay */
    uint32_t n_kv;                 /* tokens with resident K and V                           kv, replay */
    uint32_t *block;               /* [n_block] first KV slot of each block, in order        kv */
    uint32_t n_block, cap_block;   /*                                                        kv */
    uint32_t block_tokens;         /* tokens a block holds; one block may be everything      kv */
    uint32_t n_preempt;            /* times preempted                                        plan_preempt */
    uint64_t rank;                 /* scheduler's scratch                                    sched */
    struct request *next, *prev;   /* queue links                                            sched */
    struct request *hold_next, *hold_prev; /* links of kv->holder                            kv_grow */
    void *replay;                  /* the loop's own record of this request                  replay */
};

static inline uint32_t req_known(const struct request *r) { return r->n_prompt + r->n_out; }
static inline uint32_t req_todo(const struct request *r) { return r->n_prompt + r->n_out - r->n_kv; }
/* Slots its blocks hold room for. */
static inline uint64_t req_room(const struct request *r)
{
    return (uint64_t)r->n_block * r->block_tokens;
}

/* Why a waiting request did not get into this step. Counted per step; the plots explain with it. */
enum why { WHY_NO_KV, WHY_BUDGET, WHY_SEQ_CAP, WHY_CLOSED, WHY_ORDER, WHY_N };
extern const char *const why_name[WHY_N];

struct slice { struct request *r; uint32_t n; };     /* advance r by n tokens, 1 <= n <= req_todo(r) */

struct kv;
struct plan {
    struct slice *slice;           /* [n], room for max_seq */
    uint32_t n, n_tok;             /* filled by plan_add */
    uint32_t max_seq, max_tok;     /* limits, set by the loop from the scheduler's env */
    uint32_t why[WHY_N];           /* waiting requests by reason; the sum must equal the waiting count */
    uint32_t n_preempt;            /* filled by plan_preempt */
    uint64_t wake_ns;              /* an empty plan may ask to be called again then; 0: no */
    void (*on_preempt)(void *loop, struct request *r);     /* the loop's; may be NULL */
    void *loop;
};
/* Adds a slice. Returns -1 (and adds nothing) when a limit would be passed or r lacks KV room. */
int plan_add(struct plan *p, struct request *r, uint32_t n);
/* Takes r's KV away for recompute: undoes its slice, drops its blocks, n_kv = 0. The scheduler re-queues r. */
void plan_preempt(struct plan *p, struct kv *kv, struct request *r);
/* Says why the n requests that still wait do. Behind a head that lacks KV room the others wait in order. */
void plan_why(struct plan *p, enum why why, uint32_t n);
static inline uint32_t plan_room(const struct plan *p) { return p->max_tok - p->n_tok; }

/* ---- scheduler ---- */
struct sched_env {
    struct params params;
    uint32_t max_waiting;          /* at most this many requests exist at once */
};
struct sched {
    const struct sched_ops *ops;
    struct sched_env env;
    uint32_t max_seq, max_tok;     /* set by open: no plan exceeds them (device buffers follow) */
    uint32_t n_waiting, n_running; /* kept true by the scheduler; the loop checks and records them */
    void *self;                    /* zeroed state of ops->state_bytes */
};
struct sched_ops {
    const char *name, *about;      /* about: one line with the source */
    const struct knob *knobs;
    size_t state_bytes;
    bool oracle;                   /* may read in->n_out */
    int  (*open)(struct sched *s, struct arena *a, struct err *e);
    void (*arrive)(struct sched *s, struct request *r);
    void (*plan)(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p);
    void (*finish)(struct sched *s, struct request *r);    /* done or failed; its KV is dropped already */
};

/* ---- memory manager ---- */
struct kv_env {
    struct params params;
    uint32_t n_slot;               /* token slots in the pool */
    uint32_t max_len;              /* longest sequence that the server accepts, in tokens */
};
struct kv_count {
    uint32_t blocks_total, blocks_used;    /* used: owned by at least one request */
    uint64_t slots_held;                   /* token slots in those blocks */
};
struct kv {
    const struct kv_ops *ops;
    struct kv_env env;
    void *self;                    /* zeroed state of ops->state_bytes */
    struct arena *arena;           /* lives as long as the run */
    struct request *holder;        /* every request that holds blocks, kept by kv_grow and kv_drop */
};
struct kv_ops {
    const char *name, *about;
    const struct knob *knobs;
    size_t state_bytes;
    int  (*open)(struct kv *kv, struct arena *a, struct err *e);
    /* NULL when a sequence of n_tok tokens could be held by an empty pool; else the reason. */
    const char *(*refuse)(struct kv *kv, const struct request *r, uint32_t n_tok);
    /* Before the first grow: shares what a cache has, sets r->n_kv and blocks. May be NULL. */
    void (*attach)(struct kv *kv, struct request *r);
    /* Makes room for n_tok tokens in all. 0, or -1 and nothing has changed. */
    int  (*grow)(struct kv *kv, struct request *r, uint32_t n_tok);
    /* K and V up to r->n_kv are written: blocks may be shared from now on. May be NULL. */
    void (*seal)(struct kv *kv, struct request *r);
    void (*drop)(struct kv *kv, struct request *r);        /* gives everything back; n_block = 0 */
    struct kv_count (*count)(const struct kv *kv);
};
/* What schedulers call. */
int  kv_grow(struct kv *kv, struct request *r, uint32_t n_tok);
void kv_drop(struct kv *kv, struct request *r);
/* For managers: room for n block entries in r->block (taken from kv->arena, doubling). -1: no memory. */
int  kv_table_room(struct kv *kv, struct request *r, uint32_t n);

/* ---- precision ---- */
struct prec { const struct prec_ops *ops; struct params params; };
struct prec_ops {
    const char *name, *about;
    const struct knob *knobs;
    struct wfmt (*pick)(const struct prec *p, enum role role, uint32_t layer, uint32_t n_layer);
};

/* ---- queues: intrusive, first in first out ---- */
struct queue { struct request *head, *tail; uint32_t n; };
void queue_push(struct queue *q, struct request *r);         /* at the end */
void queue_push_front(struct queue *q, struct request *r);
void queue_remove(struct queue *q, struct request *r);       /* r must be in q */

/* ---- registry and names ---- */
extern const struct sched_ops *const sched_registry[];       /* NULL-ended, written by the Makefile */
extern const struct kv_ops *const kv_registry[];
extern const struct prec_ops *const prec_registry[];

/* "sched[:k=v...]+memory[:k=v...]+precision[:k=v...]", parsed and checked. */
struct strategy {
    const struct sched_ops *sched;
    const struct kv_ops *kv;
    const struct prec_ops *prec;
    struct params sched_params, kv_params, prec_params;
    char name[160];                /* canonical: knobs that differ from their default */
    char preset[64];               /* the preset it came from, or "" */
};
int strategy_parse(struct strategy *s, const char *text, struct err *e);
int sched_open(struct sched *s, const struct sched_ops *ops, const struct params *p,
               uint32_t max_waiting, struct arena *a, struct err *e);
int kv_open(struct kv *kv, const struct kv_ops *ops, const struct params *p, uint32_t n_slot,
            uint32_t max_len, struct arena *a, struct err *e);

#endif
