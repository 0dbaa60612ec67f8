/* device_shadow.c - no numbers, only what depends on what: a device that tests memory managers.
 *
 * The idea: each KV slot holds one 64-bit hash of its token, its position and the slot before it,
 * and the next token is a hash of every slot that the sequence reads through its block table. A
 * block that is stale, freed too early, not copied or swapped to the wrong place changes tokens, at
 * the speed of sim. Tokens follow from tokens alone: not from the batch, the chunk, the block size
 * or the clock.
 *
 * What must stay true: every slot of a sequence is really read at every step; only layer 0 does
 * anything; time moves by a fixed amount per step and token, so that equal runs are equal in every
 * row. */
#include "kernels/shadow/shadow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_NS = 100000, TOKEN_NS = 1000, MOVE_NS = 50 };

struct shadow {
    uint64_t now_ns, step;
    struct shadow_faults faults;
    uint32_t *tok;                 /* [cap] of this step */
    uint64_t *seen, *picked;       /* [cap] what each row saw; those of rows that yield */
    uint32_t cap;
    uint64_t nowhere;              /* stands for slots outside a pool */
    struct err err;                /* sticky until end */
};

static int shadow_open(struct device *d, const struct device_conf *c, struct err *e)
{
    (void)c;
    d->self = calloc(1, sizeof(struct shadow));
    if (!d->self)
        return err_set(e, EXIT_RUN_FAILED, "shadow: out of memory");
    d->is_virtual = true;
    d->pace = PACE_VIRTUAL;
    snprintf(d->label, sizeof d->label, "shadow (virtual clock, hashes instead of numbers)");
    return 0;
}

static void shadow_close(struct device *d)
{
    struct shadow *s = d->self;

    free(s->tok);
    free(s->seen);
    free(s);
}

static uint64_t shadow_now(struct device *d) { return ((struct shadow *)d->self)->now_ns; }

static void shadow_idle(struct device *d, uint64_t until_ns)
{
    struct shadow *s = d->self;

    if (until_ns > s->now_ns)
        s->now_ns = until_ns;
}

void shadow_plant(struct device *d, const struct shadow_faults *f)
{
    struct shadow *s = d->self;

    s->faults = *f;
    s->step = 0;
}

/* Pages that nobody touches cost nothing; a pool uses 8 bytes a slot. */
static void *shadow_alloc(struct device *d, uint64_t bytes)
{
    (void)d;
    return calloc(1, bytes);
}

static void shadow_release(struct device *d, void *p)
{
    (void)d;
    free(p);
}

static int shadow_weight(struct device *d, struct weight *w, struct row_source src, struct err *e)
{
    (void)d;
    (void)w;
    (void)src;
    (void)e;
    return 0;
}

/* ---- a step ---- */

static void need(struct shadow *s, uint32_t n)
{
    uint32_t *tok;
    uint64_t *seen;

    if (n <= s->cap)
        return;
    tok = realloc(s->tok, n * sizeof *tok);
    if (tok)
        s->tok = tok;
    seen = realloc(s->seen, (size_t)2 * n * sizeof *seen);
    if (seen)
        s->seen = seen;
    if (!tok || !seen) {
        err_set(&s->err, EXIT_RUN_FAILED, "shadow: no memory for a step of %u tokens", n);
        return;
    }
    s->picked = s->seen + n;
    s->cap = n;
}

static void shadow_begin(struct device *d, const struct batch *b)
{
    struct shadow *s = d->self;

    s->step++;
    s->now_ns += STEP_NS + (uint64_t)b->n_tok * TOKEN_NS;
    need(s, b->n_tok);
}

static int shadow_end(struct device *d, struct err *e)
{
    struct shadow *s = d->self;
    struct err was = s->err;

    memset(&s->err, 0, sizeof s->err);
    if (was.code)
        return err_set(e, was.code, "%s", was.text);
    if (s->step == s->faults.fail_at_step)
        return err_set(e, EXIT_RUN_FAILED, "shadow: planted device failure at step %llu",
                       (unsigned long long)s->step);
    return 0;
}

static void shadow_embed(struct device *d, void *x, const struct weight *w, const uint32_t *tok,
                         uint32_t n)
{
    struct shadow *s = d->self;

    (void)x;
    (void)w;
    if (!s->err.code)
        memcpy(s->tok, tok, n * sizeof *tok);
}

static uint64_t *slot_of(struct shadow *s, const struct kv_pool *kv, uint32_t slot)
{
    if (slot < kv->n_slot)
        return (uint64_t *)kv->data + slot;
    err_set(&s->err, EXIT_RUN_FAILED, "shadow: KV slot %u of a pool of %u", slot, kv->n_slot);
    return &s->nowhere;
}

static void shadow_rope_store(struct device *d, void *qkv, struct kv_pool *kv, uint32_t layer,
                              const struct batch *b, const struct rope *r)
{
    struct shadow *s = d->self;

    (void)qkv;
    (void)r;
    for (uint32_t q = 0; !layer && !s->err.code && q < b->n_seq; q++)
        for (uint32_t i = b->seq_start[q]; i < b->seq_start[q + 1]; i++) {
            uint32_t pos = b->pos[i];
            uint64_t before = pos ? *slot_of(s, kv, batch_slot(b, q, pos - 1)) : 0;

            *slot_of(s, kv, b->slot[i]) = shadow_slot(before, s->tok[i], pos);
        }
}

static void shadow_attend(struct device *d, void *y, const void *qkv, const struct kv_pool *kv,
                          uint32_t layer, const struct batch *b, uint32_t n_q, bool prefill)
{
    struct shadow *s = d->self;

    (void)y;
    (void)qkv;
    (void)n_q;
    for (uint32_t q = 0; !layer && !s->err.code && q < b->n_seq; q++) {
        uint32_t row = b->seq_start[q], end = b->seq_start[q + 1];
        uint64_t seen = 0;

        if ((end - row > 1) != prefill)
            continue;
        for (uint32_t p = 0; p < b->kv_len[q]; p++) {
            seen = shadow_fold(seen, *slot_of(s, kv, batch_slot(b, q, p)));
            while (row < end && b->pos[row] == p)
                s->seen[row++] = seen;
        }
        if (row < end)
            err_set(&s->err, EXIT_RUN_FAILED, "shadow: row %u at position %u lies outside its "
                    "sequence of %u tokens", row, b->pos[row], b->kv_len[q]);
    }
}

static void shadow_gather(struct device *d, void *y, const void *x, const uint32_t *row,
                          uint32_t n_row, uint32_t dim)
{
    struct shadow *s = d->self;

    (void)y;
    (void)x;
    (void)dim;
    for (uint32_t i = 0; !s->err.code && i < n_row; i++)
        s->picked[i] = s->seen[row[i]];
}

static void shadow_pick_rows(struct device *d, uint32_t *tok, const void *logits, uint32_t n_row,
                             uint32_t vocab)
{
    struct shadow *s = d->self;

    (void)logits;
    for (uint32_t i = 0; !s->err.code && i < n_row; i++)
        tok[i] = shadow_pick(s->picked[i], vocab, s->faults.bad_one_in);
}

/* ---- moves ---- */

static void shadow_swap(struct device *d, const struct kv_pool *from, struct kv_pool *to,
                        const uint32_t *src, const uint32_t *dst, const uint32_t *n_tok, uint32_t n)
{
    struct shadow *s = d->self;

    for (uint32_t i = 0; i < n; i++) {
        s->now_ns += (uint64_t)n_tok[i] * MOVE_NS;
        for (uint32_t t = 0; t < n_tok[i]; t++)
            *slot_of(s, to, dst[i] + t) = *slot_of(s, from, src[i] + t);
    }
}

static void shadow_copy(struct device *d, struct kv_pool *kv, const uint32_t *src,
                        const uint32_t *dst, const uint32_t *n_tok, uint32_t n)
{
    shadow_swap(d, kv, kv, src, dst, n_tok, n);
}

uint32_t shadow_solo(const uint32_t *prompt, uint32_t n_prompt, uint32_t n_out, uint32_t vocab,
                     uint32_t bad_one_in, uint32_t *out)
{
    uint64_t slot = 0, seen = 0;

    for (uint32_t p = 0; p + 1 < n_prompt + n_out; p++) {
        slot = shadow_slot(slot, p < n_prompt ? prompt[p] : out[p - n_prompt], p);
        seen = shadow_fold(seen, slot);
        if (p + 1 < n_prompt)
            continue;
        out[p + 1 - n_prompt] = shadow_pick(seen, vocab, bad_one_in);
        if (out[p + 1 - n_prompt] == PICK_BAD_ROW)
            return p + 1 - n_prompt;
    }
    return n_out;
}

static int shadow_probe(char *line, size_t n)
{
    snprintf(line, n, "for tests of strategies: hashes of what is read, virtual clock");
    return 0;
}

const struct device_ops device_shadow = {
    .abi = DEVICE_ABI,
    .name = "shadow",
    .about = "for tests: tokens are hashes of the KV slots that are read; virtual clock, no "
             "numbers",
    .computes = true,
    .act_bytes = 1,
    .weight_fmts = FMT_BIT(FMT_N) - 1,
    .kv_fmts = FMT_BIT(FMT_F16) | FMT_BIT(FMT_FP8) | FMT_BIT(FMT_INT8),
    .open = shadow_open,
    .close = shadow_close,
    .now = shadow_now,
    .idle = shadow_idle,
    .alloc = shadow_alloc,
    .release = shadow_release,
    .weight = shadow_weight,
    .begin = shadow_begin,
    .end = shadow_end,
    .embed = shadow_embed,
    .rope_store = shadow_rope_store,
    .attend = shadow_attend,
    .gather = shadow_gather,
    .pick = shadow_pick_rows,
    .copy = shadow_copy,
    .swap = shadow_swap,
    .probe = shadow_probe,
};
