/* mixed.c - most layers in few bits; the first and the last ones, the head and the embedding in more.
 *
 * The ends of a model suffer most from rounding and weigh least (LLM.int8: Dettmers et al. 2022, on outliers;
 * llama.cpp's Q4_K_M keeps parts of the first and last layers and the head in more bits in the same way). */
#include "strategies/strategy.h"

static const struct knob knobs[] = {
    { "high", "f16|int8|bf16", 0, 0, 0, "format of the ends" },
    { "low", "int4|int8|fp8", 0, 0, 0, "format of the layers between them" },
    { "layers", NULL, 1, 0, 1000, "layers at each end that are kept high" },
    { "group", "32|64|128|row", 1, 0, 0, "int4: inputs that share a scale" },
    { "awq", "off|on", 0, 0, 0, "inputs scaled by the activations they meet; needs --scales" },
    PREC_KV_KNOB,
    { 0 },
};

static struct wfmt pick(const struct prec *p, enum role role, uint32_t layer, uint32_t n_layer)
{
    static const enum fmt high[] = { FMT_F16, FMT_INT8, FMT_BF16 }, low[] = { FMT_INT4, FMT_INT8, FMT_FP8 };
    static const uint32_t group[] = { 32, 64, 128, GROUP_ROW };
    int64_t ends = params_int(&p->params, "layers");
    enum fmt f = low[params_int(&p->params, "low")];

    if (role == ROLE_HEAD || role == ROLE_EMBED || layer < ends || layer + ends >= n_layer)
        return (struct wfmt){ high[params_int(&p->params, "high")], 0 };
    return (struct wfmt){ f, f == FMT_INT4 ? group[params_int(&p->params, "group")] : 0 };
}

const struct prec_ops prec_mixed = {
    .name = "mixed", .about = "weights in few bits, first and last layers and the head in more",
    .knobs = knobs, .pick = pick,
};
