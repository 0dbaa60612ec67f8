/* quality.h - what a precision costs: perplexity, distance to the F16 logits, greedy answers that part ways.
 *
 * A window is `window` tokens, and the next one starts `stride` further. What follows each of its last `stride` tokens
 * is scored: each token of the text once, after more than window - stride others (the usual sliding window, without the
 * start of the text). No token is put before a window, not bos either. Every window is one sample: intervals are 95 %
 * t-intervals over windows, of paired differences where a precision is compared with the first one, which is the
 * reference. Windows are neighbours in one text: what is said holds of texts like this passage. */
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
/* Of n samples, n > 0: their mean and its 95 % t-interval; of one sample lo and hi are NaN. */
struct interval interval_of(const double *x, uint32_t n);
struct quality {
    uint32_t n_scored, n_window;
    struct interval ppl;
    struct interval loss_pct;              /* perplexity over the reference's, minus one */
    struct interval kl;                    /* KL(reference || this) in nats per token */
    struct interval top1_pct;              /* same most likely token as the reference */
    /* tokens of a greedy answer before it leaves the reference's; n_new, where all it has, if it never does */
    struct interval agree_len;
    uint32_t n_same;                       /* answers that never left it, of n_prompt */
    double prefill_tok_s, decode_tok_s;    /* of these very steps: all scored rows through the head; n_prompt at once */
    uint64_t weight_bytes, scale_bytes, kv_token_bytes;
};
/* out[i] for strategy st[i] (its precision counts), i < n; st[0] is the reference. 0, or -1 with e: the text has fewer
 * than one window, a model does not fit, logits are not finite. */
int quality_measure(struct loaded_set *models, const struct strategy *st, uint32_t n, const uint32_t *tok, size_t n_tok,
                    const struct quality_conf *c, struct quality *out, struct err *e);

#endif
