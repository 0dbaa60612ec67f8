/* bench_step.c - the command line of step_bench.c. */
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "harness/step_bench.h"
#include "harness/verb.h"

extern const struct bench bench_step;

static const char help[] =
    "usage: servelab bench step [--device D] [--model M] [--precision A,B,C] [--batch N] [--context N]\n"
    "                           [--rounds N] [--json]\n\n"
    "Times whole decode steps at batch 1 and N, launched eagerly and as graphs where the device can, and compares\n"
    "with the time that weights and cached K and V need at the rate of a large copy on that device.\n"
    "  --device D       cpu (default), cuda\n"
    "  --model M        shape (default smollm2-135m); weights are random numbers\n"
    "  --precision L    up to three, the later ones are compared with the first (default f16,int4)\n"
    "  --batch N        sequences (default 32)     --context N  cached tokens of each (default 512)\n\n"
    "example: servelab bench step --device cuda --model llama-3.1-8b --context 4096\n";

static const struct option options[] = {
    { "device", 1, NULL, 'd' }, { "model", 1, NULL, 'm' }, { "precision", 1, NULL, 'p' }, { "batch", 1, NULL, 'b' },
    { "context", 1, NULL, 'c' }, { "rounds", 1, NULL, 'r' }, { "json", 0, NULL, 'j' }, { 0 }
};

static int number(const char *option, int64_t most, uint32_t *out, struct err *e)
{
    int64_t v;

    if (parse_int(optarg, 1, most, &v))
        return err_set(e, EXIT_USAGE, "--%s %s: expected 1 to %lld", option, optarg, (long long)most);
    *out = (uint32_t)v;
    return 0;
}

static int split(struct step_bench_conf *c, char *text, struct err *e)
{
    char *save = NULL;
    size_t n = 0;

    memset(c->precision, 0, sizeof c->precision);
    for (char *p = strtok_r(text, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        if (n == 3)
            return err_set(e, EXIT_USAGE, "--precision: at most three");
        c->precision[n++] = p;
    }
    return n ? 0 : err_set(e, EXIT_USAGE, "--precision: expected names, such as f16,int4");
}

static int run(int argc, char **argv, struct err *e)
{
    struct step_bench_conf c = { .model = "smollm2-135m", .precision = { "f16", "int4" }, .n_seq = 32, .ctx = 512,
                                 .rounds = 15 };
    const struct verb me = { .name = "bench step", .help = help };
    const char *device = "cpu";
    const struct device_ops *ops;
    bool done = false;
    int opt, rc = 0;

    while (!rc && (opt = verb_option(&me, argc, argv, options, &done, e)) != -1)
        switch (opt) {
        case 'd': device = optarg; break;
        case 'm': c.model = optarg; break;
        case 'p': rc = split(&c, optarg, e); break;
        case 'b': rc = number("batch", 512, &c.n_seq, e); break;
        case 'c': rc = number("context", 1 << 20, &c.ctx, e); break;
        case 'r': rc = number("rounds", 64, &c.rounds, e); break;
        case 'j': c.json = true; break;
        default: return -1;
        }
    if (rc || done)
        return rc;
    ops = device_find(device, e);
    return ops ? step_bench(ops, &c, e) : -1;
}

const struct bench bench_step = {
    .name = "step", .about = "whole decode steps against the bytes that they must read", .run = run,
};
