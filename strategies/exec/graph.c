/* graph.c - decode steps are recorded once for each padded batch size and replayed: one launch instead of hundreds.
 *
 * Steps with a prompt in them are launched eagerly. Padding is computed for nothing; the step row says how much.
 * After TensorRT-LLM and vLLM, which capture decode steps as CUDA graphs. */
#include "strategies/strategy.h"

static const struct knob knobs[] = {
    EXEC_KNOBS,
    { 0 },
};

const struct exec_ops exec_graph = {
    .name = "graph",
    .about = "replays decode steps as recorded graphs at padded sizes (TensorRT-LLM, vLLM: CUDA graphs)",
    .knobs = knobs, .graph = true,
};
