#include "harness/validity.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SUSPECT = 1, INVALID = 2 };

static void reason(struct validity *v, int *level, int at_least, const char *fmt, ...)
{
    size_t n = strlen(v->reasons);
    va_list ap;

    if (*level < at_least)
        *level = at_least;
    if (n && n + 3 < sizeof v->reasons) {
        strcpy(v->reasons + n, "; ");
        n += 2;
    }
    va_start(ap, fmt);
    vsnprintf(v->reasons + n, sizeof v->reasons - n, fmt, ap);
    va_end(ap);
}

void validity_judge(struct validity *v, const struct replay_conf *c, const struct replay_result *r,
                    bool is_virtual, enum pace pace, double others)
{
    uint64_t all = c->trace->n, seen = r->n_finished + r->n_rejected + r->n_failed + r->n_censored;
    double window = (double)(r->window_end_ns - r->first_arrival_ns) * 1e-9;
    double least = is_virtual ? 600 : 120;
    int level = 0;

    memset(v, 0, sizeof *v);
    if (seen != all)
        reason(v, &level, INVALID, "%llu of %llu requests are accounted for",
               (unsigned long long)seen, (unsigned long long)all);
    if (r->n_failed * 100 > all)
        reason(v, &level, INVALID, "%llu requests failed (more than 1 %%)",
               (unsigned long long)r->n_failed);
    if (r->n_censored)
        reason(v, &level, INVALID, "%llu requests were in flight or yet to arrive at the cut",
               (unsigned long long)r->n_censored);
    if (r->n_rejected)
        reason(v, &level, r->n_rejected == all ? INVALID : SUSPECT, "%llu of %llu requests were "
               "refused", (unsigned long long)r->n_rejected, (unsigned long long)all);
    if (pace == PACE_WALL && r->late_max_ns > 20000000)
        reason(v, &level, INVALID, "an arrival was %.1f ms late with nothing to hold it up",
               (double)r->late_max_ns * 1e-6);
    if (others > 0.1)
        reason(v, &level, SUSPECT, "others used %.0f %% of the machine", 100 * others);
    if (window < least)
        reason(v, &level, SUSPECT, "window shorter than %.0f s", least);
    v->word = level == INVALID ? "invalid" : level == SUSPECT ? "suspect" : "valid";
}

void validity_modelled(struct validity *v, const struct charged *c)
{
    bool much = c->model_ns * 100 >= c->ns;
    int level = !strcmp(v->word, "invalid") ? INVALID : !strcmp(v->word, "suspect") ? SUSPECT : 0;
    char list[300] = "";

    for (int op = 0; op < OP_N; op++)
        for (int f = 0; f < FMT_N; f++)
            if (c->model[op] & FMT_BIT(f))
                snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s %s", *list ? ", " : "", op_name[op],
                         fmt_name((enum fmt)f));
    if (!*list)
        return;
    reason(v, &level, much ? SUSPECT : 0, "%.3g %% of the time is from the cost model, not from measured tables: the "
           "profile has none for %s at these shapes (servelab profile --precision, --kv-format and --model measure "
           "them)", 100 * c->model_ns / c->ns, list);
    v->word = level == INVALID ? "invalid" : level == SUSPECT ? "suspect" : "valid";
}
