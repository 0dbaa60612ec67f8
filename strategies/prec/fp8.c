/* fp8.c - all weights as fp8 E4M3, one scale per output channel (Micikevicius et al. 2022: FP8 formats
 * for deep learning). cpu widens them to F32 and multiplies by F32 activations. */
#include "strategies/strategy.h"

static const struct knob knobs[] = {
    PREC_KV_KNOB,
    { 0 },
};

static struct wfmt pick(const struct prec *p, enum role role, uint32_t layer, uint32_t n_layer)
{
    (void)p;
    (void)role;
    (void)layer;
    (void)n_layer;
    return (struct wfmt){ FMT_FP8, 0 };
}

const struct prec_ops prec_fp8 = {
    .name = "fp8", .about = "weights in fp8 (E4M3), one scale per output channel",
    .knobs = knobs, .pick = pick,
};
