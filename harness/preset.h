/* preset.h - named strategies: strategies/presets/NAME.json stands for one or several strategy texts.
 *
 * A preset of an engine says which one, which version or year, the command line that it corresponds to and
 * what it does not reproduce; a list of strategies (default, memory, precision) has only the first fields. */
#ifndef HARNESS_PRESET_H
#define HARNESS_PRESET_H

#include "strategies/strategy.h"

enum { STRATEGIES_MAX = 128 };

struct preset {
    char name[64], about[400], source[400];
    char engine[64], version[64];      /* "": no engine */
    int year;                          /* 0: none */
    char engine_command[400];          /* of the real engine, or what stands for it */
    char differs[800];                 /* what this preset does not reproduce */
    char strategy[STRATEGIES_MAX][160];
    size_t n;
};
int preset_load(struct preset *p, const char *path, struct err *e);
/* "a,b,preset": appends to s[0..*n). Strategies that stand twice are refused. */
int strategies_parse(struct strategy *s, size_t *n, const char *text, struct err *e);

#endif
