/* step.h - the CUDA device's host side: what plugin.cu, memory.cu, step.cu, call.cu, stage.cu and graph.cu share.
 *
 * Every operation of the seam becomes a struct call: checked, then run at once (call_run), or, when a
 * decode step is to be a graph, collected until the step's end, where the same list is either found among
 * the recorded graphs or recorded. What differs between two steps of one graph lies in device buffers at
 * fixed places (stage.cu), never in a kernel's arguments. */
#ifndef KERNELS_CUDA_STEP_H
#define KERNELS_CUDA_STEP_H

#include "kernels/cuda/attend.h"
#include "kernels/cuda/gpu.h"

/* Memory in two places: written here (pinned), copied there by one asynchronous copy. */
struct image {
    unsigned char *host, *device;
    size_t bytes;
};

enum call_kind : uint32_t {
    CALL_EMBED, CALL_NORM, CALL_MATMUL, CALL_ROPE_STORE, CALL_ATTEND, CALL_SWIGLU, CALL_GATHER, CALL_PICK
};

/* One operation. No gaps between the members: calls are compared as bytes. */
struct call {
    void *y;                       /* what is written; NORM, ROPE_STORE: also x */
    void *x;
    const void *in, *gain;         /* NORM: delta or NULL */
    const struct weight *w;
    const struct kv_pool *kv;
    const struct rope *rope;
    enum call_kind kind;
    uint32_t rows;                 /* ALL_ROWS: as many as the step has, padding included */
    uint32_t dim;                  /* NORM, GATHER: dim; SWIGLU: f; PICK: vocab */
    uint32_t layer, n_q, prefill;
    float eps;
    uint32_t mark;                 /* ROPE_STORE: of the table's content, which a graph holds as it was */
};
enum { ALL_ROWS = 0 };
static_assert(sizeof(struct call) == 7 * sizeof(void *) + 8 * sizeof(uint32_t), "calls are compared as bytes");

struct calls { struct call *call; uint32_t n, cap; };

struct graph {
    uint32_t size, rows;           /* padded size asked for; what the buffers had room for */
    struct calls calls;
    cudaGraphExec_t exec;
};

struct gpu_host {
    uint64_t t0_ns, skipped_ns;
    bool sync_each;                /* $SERVELAB_CUDA_SYNC: wait after each operation, to name a failing one */
    uint64_t dead_step;            /* step + 1 in which the context was lost; 0: alive */
    struct block { unsigned char *at; uint64_t bytes; } *block;   /* device memory given out */
    uint32_t n_block, cap_block;

    /* the step */
    const struct batch *b;         /* between begin and end */
    const struct batch *put;       /* whose device copy `batch` is */
    bool checked;                  /* its slots lie in the pool */
    bool recording;                /* calls are collected, not yet run */
    bool capturing;                /* the stream takes work down instead of doing it */
    uint32_t rows;                 /* of a call with ALL_ROWS */
    struct gpu_batch batch;
    struct image arrays, plan, lone, picked;
    bool planned;
    struct attend_shape plan_shape;
    uint32_t *pick_to, n_pick;     /* where the caller wants its tokens */
    bool timed;                    /* `from` is recorded: before the step's first copy */
    cudaEvent_t from, until;

    /* recorded steps */
    struct calls calls;
    struct graph *graph;
    uint32_t n_graph, cap_graph;
};

/* plugin.cu */
void gpu_fail(struct gpu *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* memory.cu */
void memory_ops(struct device_ops *o);     /* fills in memory, weights, put and get */
/* Room for what a call needs; waits and throws recorded graphs away when it has to grow. */
bool scratch_room(struct gpu *g, size_t bytes);
bool image_room(struct gpu *g, struct image *i, size_t bytes);
void image_free(struct image *i);
/* Bytes from p to the end of the device memory that it lies in; 0 where it is none of ours. */
uint64_t bytes_behind(const struct gpu *g, const void *p);

/* stage.cu: b to the device, its sequences padded to `rows` (b->n_tok: none); g->host->batch is set. */
bool batch_put(struct gpu *g, const struct batch *b, uint32_t rows);
/* The attention plan of the batch that was put. */
bool plan_put(struct gpu *g, const struct batch *b, const struct attend_shape *s);
/* n numbers for one operation outside a step: waits for the one before. NULL: failed. */
const uint32_t *lone_put(struct gpu *g, const uint32_t *x, uint32_t n);

/* call.cu */
void call_run(struct gpu *g, const struct call *c);
size_t call_scratch(const struct gpu *g, const struct call *c, uint32_t rows);
bool call_plan(struct gpu *g, const struct call *c);           /* attention: its plan is on the device */
uint64_t call_room(const struct gpu *g, const struct call *c); /* rows that its memory has room for */

/* step.cu */
/* Runs what was collected now, because something outside the step wants to see it. */
void step_settle(struct gpu *g);
void step_ops(struct device_ops *o);       /* fills in the operations */

/* graph.cu */
uint32_t graph_size(uint32_t rows);        /* the padded size, 0: too many for a graph */
bool graph_suits(const struct gpu *g, const struct batch *b);
void graph_run(struct gpu *g);             /* the collected calls of the step, as a graph */
void graph_drop_all(struct gpu *g);        /* memory that they point at is gone */
bool calls_add(struct calls *l, const struct call *c);

#endif
