#include "harness/choice.h"

#include <stdlib.h>

enum fmt choice_kv(const struct strategy *s)
{
    return prec_kv(&(struct prec){ s->prec, s->prec_params });
}

struct exec choice_exec(const struct strategy *s)
{
    return (struct exec){ .graph = s->exec->graph, .fused = params_int(&s->exec_params, "fused") != 0,
                          .exact = params_int(&s->exec_params, "exact") != 0 };
}

struct wfmt *choice_formats(const struct strategy *s, uint32_t n_layer, struct err *e)
{
    struct prec prec = { s->prec, s->prec_params };
    struct wfmt *fmt = calloc((size_t)ROLE_N * n_layer, sizeof *fmt);

    if (!fmt)
        err_set(e, EXIT_RUN_FAILED, "out of memory");
    for (uint32_t i = 0; fmt && i < ROLE_N * n_layer; i++)
        fmt[i] = prec.ops->pick(&prec, (enum role)(i % ROLE_N), i / ROLE_N, n_layer);
    return fmt;
}
