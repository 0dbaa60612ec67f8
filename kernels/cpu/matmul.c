/* matmul.c - y = x W^T for any number of rows, cut into the tiles of the instruction set.
 *
 * Few rows (at most one tile): the packed panels are streamed straight from memory, as wide as
 * registers allow; this is decode, bound by reading weights. More rows: all of them sweep over
 * one panel after the other, and from a few tiles on the panel is first widened into the
 * thread's L2-sized scratch; this is prefill, bound by arithmetic. All do the same chain of
 * operations for an output, so a row's bits do not depend on which was taken. Formats -a32 are
 * always decoded into that scratch: they are there to tell errors apart, not for speed. */
#include "base/num.h"
#include "kernels/cpu/pack.h"

struct job {
    struct cpu *c;
    const struct cpu_isa *isa;
    const struct weight *w;
    float *y;
    const void *x; size_t ldx;             /* floats, or pairs of bf16 for tile_dp */
    void (*tile)(const struct ftile *t);   /* on packed panels */
    size_t panel_size;
    uint32_t m, rows;                      /* rows: of a block in the widened path */
    /* integer formats: quantised activations */
    uint32_t group, n_group;
    int8_t *q; float *sx; int32_t *fix;    /* [m, k], [m, n_group], [m, n_group] */
};

/* Multiplied as integers by quantised activations. */
static bool is_int(const struct weight *w) { return fmt_takes_a8(w->fmt.fmt); }

/* Decoded to floats first, whatever the number of rows: accuracy is the point, not speed. */
static bool is_decoded(const struct weight *w)
{
    return w->fmt.fmt == FMT_INT8_A32 || w->fmt.fmt == FMT_INT4_A32 || w->fmt.fmt == FMT_INT4Z_A32;
}

static enum elem elem_of(const struct weight *w)
{
    switch (fmt_stored(w->fmt.fmt)) {
    case FMT_F16: return EL_F16;
    case FMT_BF16: return EL_BF16;
    case FMT_FP8: return EL_FP8;
    default: return EL_F32;
    }
}

static const uint8_t *panel_of(const struct job *j, uint32_t panel)
{
    return (const uint8_t *)j->w->data + panel * j->panel_size;
}

/* Weights of strip `strip` (half a panel) in the packed panel. */
static const uint8_t *strip_at(const struct job *j, uint32_t strip)
{
    const uint8_t *p = panel_of(j, strip / 2);
    uint32_t half = strip % 2;

    switch (fmt_stored(j->w->fmt.fmt)) {
    case FMT_F32:
    case FMT_BF16: return p + half * 64;
    case FMT_F16: return p + half * 32;
    case FMT_FP8: return p + PANEL * 2 + half * 16;
    case FMT_INT4Z: return p + PANEL * 4 + half * 64;
    default: return p + PANEL * 2 + half * 64;
    }
}

static enum qkind kind_of(const struct weight *w, bool wide)
{
    return w->fmt.fmt == FMT_INT8 ? Q8 : w->fmt.fmt == FMT_INT4 ? (wide ? Q4W : Q4) : wide ? Q4ZW : Q4Z;
}

/* A tile is aimed at strips, then run for rows; what does not change from tile to tile is set once (a tile of
 * few rows takes a few hundred cycles, clearing these structs alone would take one of them). */
struct tile {
    struct ftile f;
    struct qtile q;
    void (*run_f)(const struct ftile *t);
    void (*run_q)(const struct qtile *t);
    bool ints;
};

static void tile_start(const struct job *j, struct tile *t, bool wide)
{
    const struct weight *w = j->w;

    t->ints = is_int(w);
    t->f = (struct ftile){ .k = w->k, .ldx = j->ldx, .ldb = PANEL, .ldy = w->n,
                           .post = elem_post(elem_of(w)) };
    t->q = (struct qtile){ .k = w->k, .group = j->group, .ldx = w->k, .ldg = j->n_group,
                           .ldy = w->n };
    t->run_f = wide ? j->isa->tile[EL_F32] : j->tile;
    t->run_q = j->isa->tile_q[kind_of(w, wide)];
}

/* wide: what widen returned, or NULL to read the packed panel. */
static void tile_aim(const struct job *j, struct tile *t, uint32_t strip, uint32_t ns, const uint8_t *wide)
{
    const struct weight *w = j->w;

    t->f.ns = t->q.ns = ns;
    t->f.n_col = t->q.n_col = min_u32(ns * LANES, w->n - strip * LANES);
    for (uint32_t s = 0; s < ns; s++) {
        uint32_t half = (strip + s) % 2;
        const uint8_t *p = panel_of(j, (strip + s) / 2) + half * 32, *b = strip_at(j, strip + s);

        t->q.b[s] = wide ? wide + half * 64 : b;
        t->q.sw[s] = wide ? wide + (size_t)w->k * PANEL + half * 64 : p;
        t->f.b[s] = wide ? wide + half * 64 : b;
        t->f.scale[s] = w->fmt.fmt == FMT_FP8 ? (const uint16_t *)(const void *)p : NULL;
    }
}

static void tile_run(const struct job *j, struct tile *t, uint32_t row, uint32_t mr, uint32_t strip)
{
    float *y = j->y + (size_t)row * j->w->n + (size_t)strip * LANES;

    if (t->ints) {
        t->q.mr = mr;
        t->q.x = j->q + (size_t)row * j->w->k;
        t->q.sx = j->sx + (size_t)row * j->n_group;
        t->q.fix = j->fix + (size_t)row * j->n_group;
        t->q.y = y;
        t->run_q(&t->q);
    } else {
        t->f.mr = mr;
        t->f.x = (const float *)j->x + row * j->ldx;
        t->f.y = y;
        t->run_f(&t->f);
    }
}

/* Strips [i0, i1) for all rows at once, straight from packed memory. */
static void stream(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct job *j = arg;
    uint32_t most = is_int(j->w) ? j->isa->ns_q[j->m] : j->isa->ns_f[j->m];
    struct tile t;

    (void)thread;
    tile_start(j, &t, false);
    for (uint32_t s = i0, ns; s < i1 && s * LANES < j->w->n; s += ns) {
        ns = i1 - s >= most ? most : j->isa->ns_min;
        tile_aim(j, &t, s, ns, NULL);
        tile_run(j, &t, 0, j->m, s);
    }
}

/* What rows sweep over for this panel: widened into scratch, or NULL where that gains nothing. */
static const void *widen(const struct job *j, uint32_t panel, void *scratch)
{
    const struct weight *w = j->w;
    const uint8_t *p = panel_of(j, panel);
    enum elem el = elem_of(w);
    uint8_t *bytes = scratch;

    if (is_decoded(w))
        unpack_panel(w, panel, scratch);
    else if (is_int(w) && w->fmt.fmt != FMT_INT8)
        j->isa->widen_q4(bytes, (float *)(void *)(bytes + (size_t)w->k * PANEL), p, w->k, j->group,
                         w->fmt.fmt == FMT_INT4Z ? 2 : 1);
    else if (j->isa->widen[el] && j->tile == j->isa->tile[el])
        j->isa->widen[el](scratch, p + (el == EL_FP8 ? PANEL * 2 : 0), (size_t)w->k * PANEL);
    else
        return NULL;
    return scratch;
}

/* Of a tile, for m rows: tall tiles unpack a panel's nibbles fewer times, the others are faster. */
static uint32_t most_rows(const struct job *j, uint32_t m)
{
    if (!is_int(j->w))
        return j->isa->mr_f;
    return j->w->fmt.fmt != FMT_INT8 && m <= 2 * j->isa->mr_few ? j->isa->mr_few : j->isa->mr_q;
}

/* Share n of n_tile of the panel after this one: by the time that it is widened it has come from memory. */
static void fetch_next(const struct job *j, uint32_t panel, uint32_t n, uint32_t n_tile)
{
    const uint8_t *p = panel_of(j, panel + 1);

    for (size_t at = j->panel_size * n / n_tile; at < j->panel_size * (n + 1) / n_tile; at += 64)
        __builtin_prefetch(p + at, 0, 2);
}

/* Units are (block of rows, panel), panels running fastest. */
static void sweep(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct job *j = arg;
    uint32_t n_panel = ceil_div_u32(j->w->n, PANEL), step = j->isa->ns_min;

    for (uint32_t i = i0; i < i1; i++) {
        uint32_t r0 = i / n_panel * j->rows, m = min_u32(j->rows, j->m - r0), first = i % n_panel * 2;
        bool widens = m > (is_int(j->w) ? j->isa->packed_q : j->isa->packed_f) || is_decoded(j->w);
        uint32_t n_tile = ceil_div_u32(m, most_rows(j, m)), n_aim = 0;
        const void *wide = widens ? widen(j, first / 2, cpu_mine(j->c, thread)) : NULL;
        struct tile t[2];

        for (uint32_t s = first; s < first + 2 && s * LANES < j->w->n; s += step, n_aim++) {
            tile_start(j, t + n_aim, wide);
            tile_aim(j, t + n_aim, s, step, wide);
        }
        for (uint32_t a = 0, n = 0; n < n_tile; n++) {           /* tiles as equal as they can be */
            uint32_t b = m * (n + 1) / n_tile;

            if (wide && first / 2 + 1 < n_panel)
                fetch_next(j, first / 2, n, n_tile);
            for (uint32_t s = 0; s < n_aim; s++)
                tile_run(j, t + s, r0 + a, b - a, first + s * step);
            a = b;
        }
    }
}

/* Integers: int8 activations. bf16-a16: rounded, and paired if there is a tile for pairs. */
static void prepare_rows(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    const struct job *j = arg;
    enum fmt f = j->w->fmt.fmt;
    const int32_t offset = f == FMT_INT8 ? 128 : f == FMT_INT4 ? 8 : -1;
    uint32_t k = j->w->k;

    (void)thread;
    for (uint32_t i = i0; i < i1; i++) {
        const float *x = (const float *)j->x + (size_t)i * k;

        if (is_int(j->w))
            j->isa->quantise(j->q + (size_t)i * k, j->sx + (size_t)i * j->n_group,
                             j->fix + (size_t)i * j->n_group, x, k, j->group, offset);
        else if (j->isa->tile_dp)
            j->isa->pairs_bf16((uint32_t *)(void *)j->q + (size_t)i * k / 2, x, k);
        else
            j->isa->round_bf16((float *)(void *)j->q + (size_t)i * k, x, k);
    }
}

static bool prepare_a16(struct job *j)
{
    size_t k = j->w->k;
    bool dp = j->isa->tile_dp;

    if (!cpu_scratch(j->c, j->m * k * (dp ? 2 : 4), k * PANEL * sizeof(float)))
        return false;
    j->q = j->c->shared.p;
    cpu_for(j->c, j->m, 4, j->m > 8, prepare_rows, j);
    j->x = j->q;
    if (dp) {
        j->tile = j->isa->tile_dp;
        j->ldx = k / 2;
    }
    return true;
}

static bool prepare(struct job *j)
{
    const struct weight *w = j->w;
    size_t k = w->k, scales, wide = 0;

    j->ldx = k;
    j->panel_size = panel_bytes(w->fmt, w->k);
    j->tile = j->isa->tile[elem_of(w)];
    if (w->fmt.fmt == FMT_BF16_A16)
        return prepare_a16(j);
    if (!is_int(w))
        return cpu_scratch(j->c, 0, k * PANEL * sizeof(float));
    j->group = pack_group(w->fmt);
    j->n_group = ceil_div_u32(w->k, j->group);
    scales = (size_t)j->m * j->n_group * 4;
    if (w->fmt.fmt != FMT_INT8)
        wide = k * PANEL + (size_t)j->n_group * PANEL * 4 * 2;
    if (!cpu_scratch(j->c, j->m * k + 2 * scales, wide))
        return false;
    j->q = j->c->shared.p;                 /* k is a multiple of 32: what follows stays aligned */
    j->sx = (float *)(void *)(j->q + j->m * k);
    j->fix = (int32_t *)(void *)((char *)j->sx + scales);
    cpu_for(j->c, j->m, 4, j->m > 8, prepare_rows, j);
    return true;
}

void cpu_matmul(struct cpu *c, float *y, const float *x, const struct weight *w, uint32_t m)
{
    struct job j = { .c = c, .isa = c->isa, .w = w, .y = y, .x = x, .m = m, .rows = m };
    uint32_t n_panel = ceil_div_u32(w->n, PANEL), nt = (uint32_t)c->n_thread, most;

    if (!prepare(&j))
        return;
    most = most_rows(&j, m);
    if (m <= most && !is_decoded(w)) {
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
