/* fp8.c - weights as fp8 E4M3, one scale per output channel (Micikevicius et al. 2022: FP8 formats for deep
 * learning). cpu widens them to F32 and multiplies by F32 activations.
 *
 * head=f16 is what vLLM and llm-compressor do (they skip lm_head and the embedding); without it the head is rounded
 * as well, which takes fewer bytes and loses more. */
#include "strategies/strategy.h"

static const struct knob knobs[] = {
    PREC_HEAD_KNOB,
    PREC_KV_KNOB,
    { 0 },
};

static struct wfmt pick(const struct prec *p, enum role role, uint32_t layer, uint32_t n_layer)
{
    (void)layer;
    (void)n_layer;
    return prec_head(p, role, (struct wfmt){ FMT_FP8, 0 });
}

const struct prec_ops prec_fp8 = {
    .name = "fp8", .about = "weights in fp8 (E4M3), one scale per output channel",
    .knobs = knobs, .pick = pick,
};
