/* int8.c - all weights as int8, one scale per output channel (W8); cpu multiplies by int8 activations (W8A8). */
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
    return (struct wfmt){ FMT_INT8, 0 };
}

const struct prec_ops prec_int8 = {
    .name = "int8", .about = "weights in int8, one scale per output channel, round to nearest", .knobs = knobs, .pick = pick,
};
