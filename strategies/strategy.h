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
    const struct trace_more *more; /* what few requests have (session, ...), or NULL         replay */
    uint32_t id;                   /* row in the trace                                       replay */
    uint32_t n_prompt;             /* prompt tokens                                          replay */
    uint32_t max_new;              /* most tokens it may produce, as its client declared     replay */
    uint32_t oracle_n_out;         /* tokens it will produce; ORACLE_POISON unless the scheduler
                                      declares that it reads it                              replay */
    int32_t priority;              /* higher is more urgent                                  replay */
    uint32_t tenant;               /* numbered from 0 in order of appearance                 replay */
    uint64_t arrive_ns;            /* intended arrival                                       replay */
    uint32_t n_out;                /* tokens produced so far                                 replay */
    uint32_t n_kv;                 /* tokens with resident K and V                           kv, replay */
    uint32_t n_host;               /* tokens whose K and V lie in host memory (swapped out)  kv_swap */
    uint32_t *block;               /* [n_block] first KV slot of each block, in order        kv */
    uint32_t n_block, cap_block;   /*                                                        kv */
    uint32_t block_tokens;         /* tokens a block holds; one block may be everything      kv */
    void *kv;                      /* a manager's scratch; NULL while it holds nothing       kv */
    uint32_t n_preempt;            /* times preempted                                        plan_preempt */
    uint64_t rank, rank2;          /* scheduler's scratch                                    sched */
    struct request *next, *prev;   /* queue links                                            sched */
    struct request *hold_next, *hold_prev; /* links of kv->holder                            kv_grow */
    void *replay;                  /* the loop's own record of this request                  replay */
};
#define ORACLE_POISON UINT32_MAX

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
/* Takes r's KV away: undoes its slice and drops its blocks, n_kv = 0. The scheduler re-queues r, which is
 * recomputed when it is admitted again; YIELD_SWAP moves K and V to host memory first, where there is room
 * and the manager can (otherwise it is recomputed, and counted as that). */
enum yield { YIELD_RECOMPUTE, YIELD_SWAP };
void plan_preempt(struct plan *p, struct kv *kv, struct request *r, enum yield how);
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
    bool oracle;                   /* may read r->oracle_n_out */
    int  (*open)(struct sched *s, struct arena *a, struct err *e);
    void (*arrive)(struct sched *s, struct request *r);
    void (*plan)(struct sched *s, uint64_t now_ns, struct kv *kv, struct plan *p);
    void (*finish)(struct sched *s, struct request *r);    /* done or failed; its KV is dropped already */
};

/* ---- memory manager ---- */
struct kv_env {
    struct params params;
    uint32_t n_slot;               /* token slots in the pool */
    uint32_t n_host_slot;          /* token slots in host memory, for what is swapped out; 0: none */
    uint32_t max_len;              /* longest sequence that the server accepts, in tokens */
    /* identities of r's tokens [from, from + n): equal identities are equal tokens (trace.h). Tokens that
     * were produced are nobody else's. */
    void (*identities)(void *self, const struct request *r, uint32_t from, uint32_t n, uint64_t *out);
    void *identities_self;
    /* tokens that r will produce, for a manager that declares `oracle`; NULL: r->oracle_n_out is true */
    uint32_t (*length)(void *self, const struct request *r);
    void *length_self;
};
struct kv_count {
    uint32_t blocks_total, blocks_used;    /* used: owned by at least one request */
    uint64_t slots_held;                   /* token slots in those blocks, each counted once */
    uint64_t shared_tokens;                /* tokens used by several requests, beyond the first each */
    uint64_t hit_tokens, evicted_blocks;   /* since open: prompt tokens found in a cache; blocks given up */
};
/* Moves of K and V that the loop does before the step, in this order: out, copy, in. */
struct kv_move { uint32_t from, to, n; };      /* n consecutive slots */
struct kv_moves { struct kv_move *move; uint32_t n, cap; };
struct kv {
    const struct kv_ops *ops;
    struct kv_env env;
    void *self;                    /* zeroed state of ops->state_bytes */
    struct arena *arena;           /* lives as long as the run */
    struct request *holder;        /* every request that holds blocks, kept by kv_grow and kv_drop */
    struct kv_moves out, copy, in; /* device -> host, device -> device, host -> device */
};
struct kv_ops {
    const char *name, *about;
    const struct knob *knobs;
    size_t state_bytes;
    bool oracle;                   /* may call env.length */
    int  (*open)(struct kv *kv, struct arena *a, struct err *e);
    /* NULL when a sequence of n_tok tokens could be held by an empty pool; else the reason. */
    const char *(*refuse)(struct kv *kv, const struct request *r, uint32_t n_tok);
    /* Before the first grow: finds what a cache has, at most req_known - 1 tokens, and sets r->n_kv (and
     * blocks, or leaves sharing them to the grow that follows, so that a refusal leaves no trace). May be
     * NULL. */
    void (*attach)(struct kv *kv, struct request *r);
    /* Tokens that attach would share now; changes nothing. May be NULL. */
    uint32_t (*peek)(struct kv *kv, const struct request *r);
    /* Makes room for n_tok tokens in all. 0, or -1 and nothing has changed. */
    int  (*grow)(struct kv *kv, struct request *r, uint32_t n_tok);
    /* K and V up to r->n_kv are written: blocks may be shared from now on. May be NULL. */
    void (*seal)(struct kv *kv, struct request *r);
    void (*drop)(struct kv *kv, struct request *r);        /* gives everything back; n_block = 0 */
    /* Moves r's K and V to host memory, gives its blocks back (n_block = 0) and remembers n_kv in n_host;
     * swap_in is the reverse, with room for n_tok. 0, or -1 and nothing has changed. May be NULL. A
     * dropped request gives up its host memory too. */
    int  (*swap_out)(struct kv *kv, struct request *r);
    int  (*swap_in)(struct kv *kv, struct request *r, uint32_t n_tok);
    struct kv_count (*count)(const struct kv *kv);
};
/* What schedulers call. kv_admit is for a request that holds nothing: it brings back what was swapped out, or
 * shares what a cache has (r->n_kv says how much), and makes room for n_tok tokens. 0, or -1 and nothing has
 * changed. kv_grow is for one that was admitted. */
int  kv_admit(struct kv *kv, struct request *r, uint32_t n_tok);
int  kv_grow(struct kv *kv, struct request *r, uint32_t n_tok);
void kv_drop(struct kv *kv, struct request *r);
/* Tokens that r, which holds nothing, would have to run if it were admitted now: all that it knows less what is
 * swapped out or what a cache has. */
uint32_t kv_todo(struct kv *kv, const struct request *r);
/* For managers: one more move; -1: no memory. After kv_move_room for n moves, n cannot fail. */
int  kv_move_add(struct kv_moves *m, uint32_t from, uint32_t to, uint32_t n);
int  kv_move_room(struct kv_moves *m, uint32_t n);
/* For managers: room for n block entries in r->block (taken from kv->arena, doubling). -1: no memory. */
int  kv_table_room(struct kv *kv, struct request *r, uint32_t n);

/* ---- precision ---- */
struct prec { const struct prec_ops *ops; struct params params; };
struct prec_ops {
    const char *name, *about;
    const struct knob *knobs;
    struct wfmt (*pick)(const struct prec *p, enum role role, uint32_t layer, uint32_t n_layer);
};

/* Formats of cached K and V, a knob of every precision; prec_kv gives the one that was chosen. */
#define PREC_KV_KNOB { "kv", "f16|int8|fp8", 0, 0, 0, "format of cached K and V" }
enum fmt prec_kv(const struct prec *p);
/* What the head, and an embedding of its own, are kept in: a knob of precisions that round all matrices alike.
 * prec_head gives f, the format of the other matrices, unless this role is kept. */
#define PREC_HEAD_KNOB { "head", "same|f16|int8", 0, 0, 0, "format of the head and the embedding" }
struct wfmt prec_head(const struct prec *p, enum role role, struct wfmt f);

/* ---- launch: how the device runs a step. The same operations, at another cost ---- */
struct exec_ops {
    const char *name, *about;
    const struct knob *knobs;      /* EXEC_KNOBS */
    bool graph;                    /* decode steps are recorded once and replayed at padded sizes */
};
#define EXEC_KNOBS \
    { "fused", "off|on", 1, 0, 0, "residual + norm, bias + RoPE + store, gate + up: one kernel each" }, \
    { "exact", "off|on", 0, 0, 0, "fixed tiles and splits: a row's bits do not depend on its batch" }

/* ---- victims: who yields when memory is out ---- */
enum victim { VICTIM_YOUNGEST, VICTIM_FEWEST, VICTIM_CHEAPEST };
#define VICTIM_WORDS "youngest|fewest|cheapest"
#define YIELD_WORDS "recompute|swap"

/* ---- queues: intrusive, first in first out ---- */
struct queue { struct request *head, *tail; uint32_t n; };
void queue_push(struct queue *q, struct request *r);         /* at the end */
void queue_push_front(struct queue *q, struct request *r);
void queue_remove(struct queue *q, struct request *r);       /* r must be in q */
/* Who of a queue in order of admission yields: the last admitted, the one with fewest tokens produced (ties:
 * the younger), or the one whose recompute costs least (fewest tokens resident, ties: the younger). */
struct request *queue_victim(const struct queue *running, enum victim rule);
/* One token for every running request that is decoding (one token to do), in the queue's order. Out of room,
 * victims yield and go to the front of `waiting`; their number is plan->n_preempt. */
void plan_decodes(struct plan *p, struct kv *kv, struct queue *running, struct queue *waiting,
                  enum yield yield, enum victim victim);

/* ---- registry and names ---- */
extern const struct sched_ops *const sched_registry[];       /* NULL-ended, written by the Makefile */
extern const struct kv_ops *const kv_registry[];
extern const struct prec_ops *const prec_registry[];
extern const struct exec_ops *const exec_registry[];

/* "sched[:k=v...]+memory[:k=v...]+precision[:k=v...][+launch[:k=v...]]", parsed and checked; without the
 * fourth part the launch is eager. */
struct strategy {
    const struct sched_ops *sched;
    const struct kv_ops *kv;
    const struct prec_ops *prec;
    const struct exec_ops *exec;
    struct params sched_params, kv_params, prec_params, exec_params;
    char name[160];                /* canonical: knobs that differ from their default */
    char preset[64];               /* the preset it came from, or "" */
    char label[64];                /* a preset that stands for this strategy alone: it is shown by that name; or "" */
};
int strategy_parse(struct strategy *s, const char *text, struct err *e);
int sched_open(struct sched *s, const struct sched_ops *ops, const struct params *p,
               uint32_t max_waiting, struct arena *a, struct err *e);
int kv_open(struct kv *kv, const struct kv_ops *ops, const struct kv_env *env, struct arena *a,
            struct err *e);
void kv_close(struct kv *kv);      /* what is not the arena's: the lists of moves */

#endif
