/* int4.c - all weights as int4, one scale per group of inputs (group-wise weight-only, round to nearest).
 *
 * cpu multiplies by activations that it quantises to int8 per row and group (W4A8), as llama.cpp does for
 * Q4_0; a GPU dequantises into F16 tensor-core operands (W4A16). The output says which device ran. */
#include "strategies/strategy.h"

static const struct knob knobs[] = {
    { "group", "32|64|128", 1, 0, 0, "inputs that share a scale" },
    PREC_KV_KNOB,
    { 0 },
};

static struct wfmt pick(const struct prec *p, enum role role, uint32_t layer, uint32_t n_layer)
{
    (void)role;
    (void)layer;
    (void)n_layer;
    return (struct wfmt){ FMT_INT4, 32u << params_int(&p->params, "group") };
}

const struct prec_ops prec_int4 = {
    .name = "int4", .about = "weights in int4, a scale per group of inputs, round to nearest",
    .knobs = knobs, .pick = pick,
};
