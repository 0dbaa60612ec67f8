/* bf16.c - all weights as bfloat16.
 *
 * act=device: activations as the device keeps them (cpu: F32, so products are exact; GPU: its own).
 * act=bf16: activations are rounded to bf16 as well, which is what tensor cores and vdpbf16ps multiply; the
 * cpu then uses that instruction where there is one, and gives the same bits where there is none. */
#include "strategies/strategy.h"

static const struct knob knobs[] = {
    { "act", "device|bf16", 0, 0, 0, "what weights are multiplied by" },
    PREC_KV_KNOB,
    { 0 },
};

static struct wfmt pick(const struct prec *p, enum role role, uint32_t layer, uint32_t n_layer)
{
    (void)role;
    (void)layer;
    (void)n_layer;
    return (struct wfmt){ params_int(&p->params, "act") ? FMT_BF16_A16 : FMT_BF16, 0 };
}

const struct prec_ops prec_bf16 = {
    .name = "bf16", .about = "weights in bfloat16", .knobs = knobs, .pick = pick,
};
