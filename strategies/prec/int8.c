/* int8.c - weights as int8, one scale per output channel (W8).
 *
 * act=device: cpu multiplies by activations that it quantises to int8 (W8A8), a GPU by F16 ones.
 * act=f32: weights are decoded and multiplied by F32 activations (W8A32): slow, it tells the error of
 * the weights from that of the activations.
 * awq=on: inputs are scaled as for int4 (int4.c). Here it is the activations that gain: loud channels are made quieter
 * before they share a scale with others (SmoothQuant: Xiao et al. 2023).
 * head=f16: the head and the embedding stay out of it, as in llm-compressor's W8A8. */
#include "strategies/strategy.h"

static const struct knob knobs[] = {
    { "act", "device|f32", 0, 0, 0, "what weights are multiplied by" },
    { "awq", "off|on", 0, 0, 0, "inputs scaled by the activations they meet; needs --scales" },
    { "head", "same|f16", 0, 0, 0, "format of the head and the embedding" },
    PREC_KV_KNOB,
    { 0 },
};

static struct wfmt pick(const struct prec *p, enum role role, uint32_t layer, uint32_t n_layer)
{
    (void)layer;
    (void)n_layer;
    return prec_head(p, role, (struct wfmt){ params_int(&p->params, "act") ? FMT_INT8_A32 : FMT_INT8, 0 });
}

const struct prec_ops prec_int8 = {
    .name = "int8", .about = "weights in int8, one scale per output channel, round to nearest",
    .knobs = knobs, .pick = pick,
};
