#include "harness/choice.h"
#include "harness/loaded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int loaded_open(struct loaded_set *s, struct device *d, const struct model_shape *shape,
                uint64_t seed, struct err *e)
{
    memset(s, 0, sizeof *s);
    s->dev = d;
    s->shape = *shape;
    return source_synth(&s->source, &s->shape, seed, &s->arena, e);
}

int loaded_open_from(struct loaded_set *s, struct device *d, const struct model_shape *shape,
                     const struct weight_source *src)
{
    memset(s, 0, sizeof *s);
    s->dev = d;
    s->shape = *shape;
    s->source = *src;
    return 0;
}

int loaded_scales(struct loaded_set *s, const char *path, const char *sha256, struct err *e)
{
    if (scales_read(&s->scales, path, &s->shape, sha256, e))
        return -1;
    source_scaled(&s->scaled_source, &s->scaled, &s->shape, &s->source, &s->scales);
    s->has_scales = true;
    return 0;
}

bool loaded_wants_scales(const struct strategy *st)
{
    const struct params *p = &st->prec_params;

    for (size_t i = 0; p->knob && p->knob[i].name; i++)
        if (!strcmp(p->knob[i].name, "awq"))
            return p->value[i] != 0;
    return false;
}

const struct weight_source *loaded_source(const struct loaded_set *s, const struct strategy *st, struct err *e)
{
    if (!loaded_wants_scales(st))
        return &s->source;
    if (s->has_scales)
        return &s->scaled_source;
    err_set(e, EXIT_USAGE,
            "%s: awq=on needs --scales FILE; 'servelab calibrate --model M --text F --out FILE' writes one", st->name);
    return NULL;
}

int loaded_scales_for(struct loaded_set *s, const struct strategy *st, size_t n, const char *path, const char *sha256,
                      const char *who, struct err *e)
{
    bool wanted = false;

    if (path && loaded_scales(s, path, sha256, e))
        return -1;
    for (size_t i = 0; i < n; i++) {
        wanted = wanted || loaded_wants_scales(&st[i]);
        if (!loaded_source(s, &st[i], e))
            return -1;
    }
    return wanted || !path ? 0
         : err_set(e, EXIT_USAGE, "--scales %s: no %s has awq=on, such as int4:awq=on", path, who);
}

static uint64_t bytes_open(const struct loaded_set *s)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < s->n; i++)
        sum += s->slot[i].is_open ? s->slot[i].model.weight_bytes : 0;
    return sum;
}

/* Formats are compared by name: two precisions with one name and equal knobs are one model. How K and V are
 * cached does not change the weights. */
static void weights_name(const struct prec *prec, char *out, size_t n)
{
    struct params p = prec->params;

    for (size_t i = 0; p.knob && p.knob[i].name; i++)
        if (!strcmp(p.knob[i].name, "kv"))
            p.value[i] = p.knob[i].def;
    params_name(&p, prec->ops->name, out, n);
}

static void close_others(struct loaded_set *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->slot[i].is_open) {
            model_close(&s->slot[i].model);
            s->slot[i].is_open = false;
        }
}

static struct loaded *slot_for(struct loaded_set *s, const char *prec, struct err *e)
{
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp(s->slot[i].prec, prec))
            return &s->slot[i];
    if (s->n % 16 == 0) {
        struct loaded *slot = realloc(s->slot, (s->n + 16) * sizeof *slot);

        if (!slot) {
            err_set(e, EXIT_RUN_FAILED, "out of memory");
            return NULL;
        }
        s->slot = slot;
    }
    memset(&s->slot[s->n], 0, sizeof *s->slot);
    snprintf(s->slot[s->n].prec, sizeof s->slot->prec, "%s", prec);
    return &s->slot[s->n++];
}

struct model *loaded_get(struct loaded_set *s, const struct strategy *st, struct err *e)
{
    uint64_t limit = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
    const struct weight_source *source = loaded_source(s, st, e);
    struct prec prec = { st->prec, st->prec_params };
    struct loaded *slot;
    struct wfmt *fmt;
    char name[64];
    int rc;

    if (!source)
        return NULL;
    weights_name(&prec, name, sizeof name);
    slot = slot_for(s, name, e);
    if (!slot || slot->is_open)
        return slot ? &slot->model : NULL;
    if (!s->dev->ops->computes || bytes_open(s) * 2 > limit)
        close_others(s);                        /* sim: its memory is the described device's */
    fmt = choice_formats(st, s->shape.n_layer, e);
    if (!fmt)
        return NULL;
    rc = model_open(&slot->model, s->dev, &s->shape, fmt, source, e);
    free(fmt);
    slot->is_open = !rc;
    return rc ? NULL : &slot->model;
}

void loaded_close(struct loaded_set *s)
{
    close_others(s);
    free(s->slot);
    scales_free(&s->scales);
    arena_free(&s->arena);
    memset(s, 0, sizeof *s);
}
