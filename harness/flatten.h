/* flatten.h - a plan becomes a batch: flat and ragged, the only thing that crosses to compute. */
#ifndef HARNESS_FLATTEN_H
#define HARNESS_FLATTEN_H

#include "base/arena.h"
#include "kernels/device.h"
#include "strategies/strategy.h"

struct flat {
    struct batch batch;
    struct request **yields;       /* [batch.n_row] whose token next[i] is */
    uint32_t *tok, *pos, *slot, *seq_start, *kv_len, *block_tokens, *table_start, *table, *row;
    uint32_t max_tok, max_seq, cap_table;
    bool with_tokens;              /* false: the device does not compute, tok, pos, slot stay NULL */
    uint64_t seed;
    uint32_t vocab;
    const struct trace *trace;
};

int flat_open(struct flat *f, uint32_t max_tok, uint32_t max_seq, bool with_tokens,
              const struct trace *t, uint64_t seed, uint32_t vocab, struct err *e);
void flat_close(struct flat *f);
/* out_of gives a request's produced tokens [n_out]; not called when with_tokens is false. */
int flatten(struct flat *f, const struct plan *p, const uint32_t *(*out_of)(const struct request *),
            struct err *e);

#endif
