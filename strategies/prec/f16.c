/* f16.c - all weights as IEEE half; the arithmetic is the device's (cpu: F32). */
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
    return (struct wfmt){ FMT_F16, 0 };
}

const struct prec_ops prec_f16 = {
    .name = "f16", .about = "weights in IEEE half", .knobs = knobs, .pick = pick,
};
