/* priority.c - the most urgent request first; when it lacks a seat or memory, the least urgent yields.
 *
 * The idea: requests carry a priority (higher is more urgent here; vLLM's policy=priority counts the other
 * way), ties go by arrival. Out of memory, the least urgent and youngest yields (argmax of priority and
 * arrival over RUNNING in vLLM v1). preemptive=on, as in SGLang's priority scheduling, also lets a waiting
 * request displace strictly less urgent ones; off is vLLM. Steps are those of chunked.c.
 * What must stay true: a request yields for order only to a strictly more urgent one; nobody yields when
 * that would not make the other fit. Low priorities starve while higher ones keep coming. */
#include "strategies/ordered.h"

static const struct knob knobs[] = {
    { "batch", NULL, 32, 1, 65536, "sequences per step at most" },
    { "budget", NULL, 512, 1, 1 << 20, "tokens per step at most, decodes included" },
    { "preemptive", "off|on", 1, 0, 0, "a more urgent newcomer takes the place of the least urgent" },
    KNOB_PREEMPT,
    { 0 },
};

static uint64_t urgency(const struct request *r)
{
    return (uint64_t)((int64_t)INT32_MAX - r->priority);
}

static int open(struct sched *s, struct arena *a, struct err *e)
{
    return ordered_open(s, urgency, a, e);
}

const struct sched_ops sched_priority = {
    .name = "priority",
    .about = "most urgent first, the least urgent yields (vLLM, SGLang)",
    .knobs = knobs, .state_bytes = sizeof(struct ordered),
    .open = open, .arrive = ordered_arrive, .plan = ordered_plan, .finish = ordered_finish,
};
