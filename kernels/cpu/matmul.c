/* matmul.c - y = x W^T for any number of rows, cut into the tiles of the instruction set.
 *
 * Few rows (at most one tile): the packed panels are streamed straight from memory, as wide as
 * registers allow; this is decode, bound by reading weights. More rows: all of them sweep over
 * one panel after the other, and from a few tiles on the panel is first widened into the
 * thread's L2-sized scratch; this is prefill, bound by arithmetic. All do the same chain of
 * operations for an output, so a row's bits do not depend on which was taken. */
#include "base/num.h"
#include "kernels/cpu/pack.h"

enum { TILES_UNWIDENED = 2 };              /* so few tiles re-read a packed panel from cache */

struct job {
    struct cpu *c;
    const struct cpu_isa *isa;
    const struct weight *w;
    float *y; const float *x;
    uint32_t m, rows;                      /* rows: of a block in the widened path */
    /* integer formats: quantised activations */
    uint32_t group, n_group;
    int8_t *q; float *sx; int32_t *fix;    /* [m, k], [m, n_group], [m, n_group] */
};

static bool is_int(const struct weight *w)
{
    return w->fmt.fmt == FMT_INT8 || w->fmt.fmt == FMT_INT4;
}

/* Weights of strip `strip` (half a panel) in the packed panel. */
static const uint8_t *strip_at(const struct weight *w, uint32_t strip)
{
    const uint8_t *p = panel_at(w, strip / 2);
    uint32_t half = strip % 2;

    switch (w->fmt.fmt) {
    case FMT_F32: return p + half * 64;
    case FMT_F16: return p + half * 32;
    default: return p + PANEL * 2 + half * 64;
    }
}

static void run_float(const struct job *j, uint32_t row, uint32_t mr, uint32_t strip, uint32_t ns,
                      const void *wide)
{
    const struct weight *w = j->w;
    struct ftile t = {
        .mr = mr, .ns = ns, .k = w->k, .x = j->x + (size_t)row * w->k, .ldx = w->k, .ldb = PANEL,
        .y = j->y + (size_t)row * w->n + (size_t)strip * LANES, .ldy = w->n,
        .n_col = min_u32(ns * LANES, w->n - strip * LANES)
    };

    for (uint32_t s = 0; s < ns; s++)
        t.b[s] = wide ? (const void *)((const float *)wide + (strip + s) % 2 * LANES)
                      : strip_at(w, strip + s);
    if (wide || w->fmt.fmt == FMT_F32)
        j->isa->tile_f32(&t);
    else
        j->isa->tile_f16(&t);
}

/* wide: [k/4, 32, 4] bytes then [groups, 32] float scales, or NULL to read the packed panel. */
static void run_int(const struct job *j, uint32_t row, uint32_t mr, uint32_t strip, uint32_t ns,
                    const uint8_t *wide)
{
    const struct weight *w = j->w;
    struct qtile t = {
        .mr = mr, .ns = ns, .k = w->k, .group = j->group,
        .x = j->q + (size_t)row * w->k, .ldx = w->k,
        .sx = j->sx + (size_t)row * j->n_group, .fix = j->fix + (size_t)row * j->n_group,
        .ldg = j->n_group,
        .y = j->y + (size_t)row * w->n + (size_t)strip * LANES, .ldy = w->n,
        .n_col = min_u32(ns * LANES, w->n - strip * LANES)
    };

    for (uint32_t s = 0; s < ns; s++) {
        uint32_t half = (strip + s) % 2;

        t.b[s] = wide ? wide + half * 64 : strip_at(w, strip + s);
        t.sw[s] = wide ? wide + (size_t)w->k * PANEL + half * 64
                       : panel_at(w, (strip + s) / 2) + half * 32;
    }
    if (w->fmt.fmt == FMT_INT8)
        j->isa->tile_q8(&t);
    else if (wide)
        j->isa->tile_q4w(&t);
    else
        j->isa->tile_q4(&t);
}

/* Strips [i0, i1) for all rows at once, straight from packed memory. */
static void stream(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct job *j = arg;
    bool ints = is_int(j->w);
    uint32_t most = ints ? j->isa->ns_q[j->m] : j->isa->ns_f[j->m];

    (void)thread;
    for (uint32_t s = i0, ns; s < i1 && s * LANES < j->w->n; s += ns) {
        ns = i1 - s >= most ? most : j->isa->ns_min;
        if (ints)
            run_int(j, 0, j->m, s, ns, NULL);
        else
            run_float(j, 0, j->m, s, ns, NULL);
    }
}

/* What rows sweep over for this panel: widened into scratch, or NULL where that gains nothing. */
static const void *widen(const struct job *j, uint32_t panel, void *scratch)
{
    const struct weight *w = j->w;
    const uint8_t *p = panel_at(w, panel);
    uint8_t *bytes = scratch;

    if (w->fmt.fmt == FMT_F16)
        j->isa->widen_f16(scratch, (const uint16_t *)(const void *)p, (size_t)w->k * PANEL);
    else if (w->fmt.fmt == FMT_INT4)
        j->isa->widen_q4(bytes, (float *)(void *)(bytes + (size_t)w->k * PANEL), p, w->k,
                         w->fmt.group);
    else
        return NULL;
    return scratch;
}

/* Units are (block of rows, panel), panels running fastest. */
static void sweep(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct job *j = arg;
    bool ints = is_int(j->w);
    uint32_t n_panel = ceil_div_u32(j->w->n, PANEL), most = ints ? j->isa->mr_q : j->isa->mr_f;
    uint32_t step = j->isa->ns_min;

    for (uint32_t i = i0; i < i1; i++) {
        uint32_t r0 = i / n_panel * j->rows, m = min_u32(j->rows, j->m - r0), panel = i % n_panel;
        uint32_t n_tile = ceil_div_u32(m, most);
        void *mine = cpu_mine(j->c, thread);
        const void *wide = n_tile > TILES_UNWIDENED ? widen(j, panel, mine) : NULL;

        for (uint32_t t = 0; t < n_tile; t++) {        /* tiles as equal as they can be */
            uint32_t a = m * t / n_tile, b = m * (t + 1) / n_tile;

            for (uint32_t s = panel * 2; s < panel * 2 + 2 && s * LANES < j->w->n; s += step) {
                if (ints)
                    run_int(j, r0 + a, b - a, s, step, wide);
                else
                    run_float(j, r0 + a, b - a, s, step, wide);
            }
        }
    }
}

static void quantise_rows(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct job *j = arg;
    const int32_t offset = j->w->fmt.fmt == FMT_INT8 ? 128 : 8;

    (void)thread;
    for (uint32_t i = i0; i < i1; i++)
        j->isa->quantise(j->q + (size_t)i * j->w->k, j->sx + (size_t)i * j->n_group,
                         j->fix + (size_t)i * j->n_group, j->x + (size_t)i * j->w->k, j->w->k,
                         j->group, offset);
}

static bool prepare(struct job *j)
{
    const struct weight *w = j->w;
    size_t k = w->k, scales, wide = 0;

    if (!is_int(w))
        return cpu_scratch(j->c, 0, k * PANEL * sizeof(float));
    j->group = w->fmt.fmt == FMT_INT4 ? w->fmt.group : ACT_GROUP;
    j->n_group = ceil_div_u32(w->k, j->group);
    scales = (size_t)j->m * j->n_group * 4;
    if (w->fmt.fmt == FMT_INT4)
        wide = k * PANEL + (size_t)j->n_group * PANEL * 4;
    if (!cpu_scratch(j->c, j->m * k + 2 * scales, wide))
        return false;
    j->q = j->c->shared.p;                 /* k is a multiple of 32: what follows stays aligned */
    j->sx = (float *)(void *)(j->q + j->m * k);
    j->fix = (int32_t *)(void *)((char *)j->sx + scales);
    cpu_for(j->c, j->m, 4, j->m > 8, quantise_rows, j);
    return true;
}

void cpu_matmul(struct cpu *c, float *y, const float *x, const struct weight *w, uint32_t m)
{
    struct job j = { .c = c, .isa = c->isa, .w = w, .y = y, .x = x, .m = m, .rows = m };
    uint32_t n_panel = ceil_div_u32(w->n, PANEL), nt = (uint32_t)c->n_thread, most;

    if (!prepare(&j))
        return;
    most = is_int(w) ? c->isa->mr_q : c->isa->mr_f;
    if (m <= most) {
        uint32_t ns = is_int(w) ? c->isa->ns_q[m] : c->isa->ns_f[m];
        uint32_t unit = max_u32(ns, 2), step = max_u32(n_panel * 2 / nt / 8 / unit * unit, unit);

        /* strips in whole panels: a step never ends inside one */
        cpu_for(c, n_panel * 2, step, (uint64_t)w->n * w->k > 1 << 14, stream, &j);
        return;
    }
    if (n_panel < 4 * nt)                  /* too few panels to share out: cut rows as well */
        j.rows = max_u32(ceil_div_u32(m, ceil_div_u32(4 * nt, n_panel)), 4 * most);
    cpu_for(c, n_panel * ceil_div_u32(m, j.rows), 1, true, sweep, &j);
}
