/* preset.h - named strategies: strategies/presets/NAME.json stands for one or several strategy texts. */
#ifndef HARNESS_PRESET_H
#define HARNESS_PRESET_H

#include "strategies/strategy.h"

enum { STRATEGIES_MAX = 128 };

struct preset {
    char name[64], about[256], source[256];
    char strategy[STRATEGIES_MAX][160];
    size_t n;
};
int preset_load(struct preset *p, const char *path, struct err *e);
/* "a,b,preset": appends to s[0..*n). Strategies that stand twice are refused. */
int strategies_parse(struct strategy *s, size_t *n, const char *text, struct err *e);

#endif
