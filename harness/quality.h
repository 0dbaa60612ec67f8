/* quality.h - what a precision costs: perplexity, distance to the F16 logits, greedy answers that part ways.
 *
 * Text is cut into windows of `window` tokens that advance by `stride`; the last `stride` tokens of each window are
 * scored, each with at least window - stride tokens of context (the usual sliding window). Every window is one sample:
 * intervals are 95 % t-intervals over windows, of paired differences where a precision is compared with the first one,
 * which is the reference. */
#ifndef HARNESS_QUALITY_H
#define HARNESS_QUALITY_H

#include "harness/loaded.h"

struct quality_conf {
    uint32_t window, stride, n_window;     /* n_window: at most this many */
    uint32_t n_prompt, prompt_len, n_new;  /* greedy answers: prompts of the text, tokens of each */
    void (*progress)(void *self, uint32_t done, uint32_t all);     /* may be NULL */
    void *self;
};
struct interval { double mean, lo, hi; };
struct quality {
    uint32_t n_scored, n_window;
    struct interval ppl;
    struct interval loss_pct;              /* perplexity over the reference's, minus one */
    struct interval kl;                    /* KL(reference || this) in nats per token */
    struct interval top1_pct;              /* same most likely token as the reference */
    struct interval agree_len;             /* tokens of a greedy answer before it leaves the reference's, of n_new */
    uint32_t n_same;                       /* answers that never left it, of n_prompt */
    double prefill_tok_s, decode_tok_s;    /* of these very steps: all scored rows through the head; n_prompt at once */
    uint64_t weight_bytes, scale_bytes, kv_token_bytes;
};
/* out[i] for strategy st[i] (its precision counts), i < n; st[0] is the reference. 0, or -1 with e: the text has fewer
 * than one window, a model does not fit, logits are not finite. */
int quality_measure(struct loaded_set *models, const struct strategy *st, uint32_t n, const uint32_t *tok, size_t n_tok,
                    const struct quality_conf *c, struct quality *out, struct err *e);

#endif
