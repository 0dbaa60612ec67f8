/* eager.c - each operation of a step is launched by itself: the plain way, and the default. */
#include "strategies/strategy.h"

static const struct knob knobs[] = {
    EXEC_KNOBS,
    { 0 },
};

const struct exec_ops exec_eager = {
    .name = "eager", .about = "launches every operation of a step by itself",
    .knobs = knobs,
};
