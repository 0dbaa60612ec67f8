/* recipes.h - the figures that generated traces follow, as const tables. */
#ifndef WORKLOADS_RECIPES_H
#define WORKLOADS_RECIPES_H

#include <stdbool.h>
#include <stdint.h>

#include "workloads/trace.h"

struct quantile { double percent, value; };
enum { N_QUANTILE = 27, N_SYSTEM = 4 };

struct recipe {
    const char *name, *about, *source;
    const struct quantile *prompt, *output;    /* [N_QUANTILE], tokens */
    double shrink;                 /* lengths are divided by it */
    uint32_t max_context;          /* prompt + output at most; 0: no limit */
    uint32_t n;                    /* requests when not asked for another count */
    double rate, cv;               /* requests/s; CV of the gaps (0: the on/off law) */
    /* Prefix structure: ours, since no published trace with these lengths records one. */
    double p_continue;             /* share of requests that try to continue a session */
    double think_s;                /* a session's turns stand at least so far apart */
    uint32_t max_turn;
    uint32_t system[N_SYSTEM];     /* shared system prompts in tokens, the most popular first */
    struct slo slo;
};
extern const struct recipe recipes[];  /* ended by a NULL name */

/* Arrivals in bursts: requests a burst and pauses are lognormal, gaps inside a burst Gamma. */
struct on_off {
    double burst_mu, burst_sigma, gap_shape, gap_scale, pause_mu, pause_sigma, pause_min;
};
extern const struct on_off code_on_off;

#endif
