/* measure.h - times single operations of a device at a model's shapes, for `profile` and `bench kernels --device`.
 *
 * Operands rotate: a product reads another copy of its matrix in each call, so that matrices come from memory
 * as they do in a model, and activations are random numbers. Times are the device's own (dev_timed): medians. */
#ifndef HARNESS_MEASURE_H
#define HARNESS_MEASURE_H

#include "models/model.h"

struct measure {
    struct device *d;
    struct model_shape shape;
    struct exec exec;
    uint32_t max_tok, rounds;
    uint64_t cold_bytes;                   /* copies of a matrix weigh at least this much together */
    void *x, *y, *gain, *delta;            /* act, room for max_tok rows of the widest operand */
    uint64_t act_bytes;
    struct weight *weight;                 /* [n_weight] copies of the matrix in use */
    uint32_t n_weight;
    struct kv_pool kv;
    bool pool_full;                        /* of random numbers */
    struct rope rope;
    uint32_t *tok;                         /* [max_tok] random tokens */
    uint32_t *count, *zero;                /* [max_tok + 1] 0, 1, 2 ... and zeros */
    uint32_t picked[64];
    uint64_t rng;
};
/* Room for operations of up to max_tok rows. 0, or -1 with e. */
int  measure_open(struct measure *m, struct device *d, const struct model_shape *s, uint32_t max_tok,
                  struct err *e);
void measure_close(struct measure *m);
/* The matrix and the KV pool that the following calls use. */
int  measure_weight(struct measure *m, struct wfmt f, uint32_t n, uint32_t k, struct err *e);
int  measure_pool(struct measure *m, enum fmt fmt, uint32_t n_slot, struct err *e);

/* ns of one operation; negative: e says why. */
double measure_matmul(struct measure *m, uint32_t rows, struct err *e);
double measure_rows(struct measure *m, enum op op /* EMBED NORM SWIGLU GATHER PICK */, uint32_t rows,
                    struct err *e);
double measure_rope(struct measure *m, uint32_t rows, struct err *e);
/* n_seq sequences that hold `prefix` tokens get `rows` more each; blocks of block tokens lie scattered in the pool,
 * block 0: each sequence is one contiguous reservation. lens (may be NULL): each sequence's own prefix. */
struct measure_attend { uint32_t n_seq, prefix, rows, block; const uint32_t *lens; };
double measure_attend(struct measure *m, struct measure_attend a, struct op_cost *cost, struct err *e);
/* ns from one small operation to the next when each is launched by itself, beyond its own time. */
double measure_launch(struct measure *m, struct err *e);

#endif
