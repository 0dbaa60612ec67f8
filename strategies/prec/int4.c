/* int4.c - weights as int4, one scale per group of inputs (group-wise weight-only, round to nearest).
 *
 * zero=on gives each group a least value as well (asymmetric, as in ggml's Q4_1); group=row is one group per
 * output channel, which papers compare with (GPTQ, AWQ: grouping gains more than the method).
 * act=device: cpu multiplies by activations that it quantises to int8 per row and group (W4A8), as llama.cpp
 * does for Q4_0; a GPU dequantises into F16 tensor-core operands (W4A16). The output says which device ran.
 * act=f32: weights are decoded and multiplied by F32 activations (W4A32): slow, it tells the error of
 * the weights from that of the activations.
 * awq=on: weights are scaled per input channel before they are rounded (AWQ: Lin et al. 2024, models/scaled.h), by
 * scales that 'servelab calibrate' found on a text. Formats, bytes and speed are the same.
 * head=f16 keeps the head and the embedding, as AWQ, GPTQ and vLLM do; head=int8 is close to llama.cpp, whose Q4_0
 * files hold the head as Q6_K, or as Q8_0 where rows are no multiple of 256. */
#include "strategies/strategy.h"

static const struct knob knobs[] = {
    { "group", "32|64|128|row", 1, 0, 0, "inputs that share a scale" },
    { "zero", "off|on", 0, 0, 0, "a least value beside each scale" },
    { "act", "device|f32", 0, 0, 0, "what weights are multiplied by" },
    { "awq", "off|on", 0, 0, 0, "inputs scaled by the activations they meet; needs --scales" },
    PREC_HEAD_KNOB,
    PREC_KV_KNOB,
    { 0 },
};

static struct wfmt pick(const struct prec *p, enum role role, uint32_t layer, uint32_t n_layer)
{
    static const enum fmt fmt[2][2] = { { FMT_INT4, FMT_INT4_A32 }, { FMT_INT4Z, FMT_INT4Z_A32 } };
    static const uint32_t group[] = { 32, 64, 128, GROUP_ROW };

    (void)layer;
    (void)n_layer;
    return prec_head(p, role, (struct wfmt){ fmt[params_int(&p->params, "zero")][params_int(&p->params, "act")],
                                             group[params_int(&p->params, "group")] });
}

const struct prec_ops prec_int4 = {
    .name = "int4", .about = "weights in int4, a scale per group of inputs, round to nearest",
    .knobs = knobs, .pick = pick,
};
