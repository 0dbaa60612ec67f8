/* pack.c - weights from row-major floats into panels, once at load (layout: pack.h).
 *
 * Rows arrive in order from one source, so they are pulled by one thread, a few panels at a
 * time; encoding and packing of those panels, which is most of the work, is spread over all
 * threads. */
#include "kernels/cpu/pack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

enum { PANELS_AT_ONCE = 16 };

uint32_t pack_group(struct wfmt f)
{
    return f.group && f.group != GROUP_ROW ? f.group : ACT_GROUP;
}

/* Halves in front of a group of int4: scales, and least values if there are any. */
static uint32_t n_scale(struct wfmt f) { return fmt_stored(f.fmt) == FMT_INT4Z ? 2 : 1; }

size_t panel_bytes(struct wfmt f, uint32_t k)
{
    switch (fmt_stored(f.fmt)) {
    case FMT_F32: return (size_t)k * PANEL * 4;
    case FMT_F16:
    case FMT_BF16: return (size_t)k * PANEL * 2;
    case FMT_FP8:
    case FMT_INT8: return PANEL * 2 + (size_t)k * PANEL;
    default: return (size_t)ceil_div_u32(k, pack_group(f)) * n_scale(f) * PANEL * 2 + (size_t)k * PANEL / 2;
    }
}

static void put_float(uint8_t *panel, uint32_t col, const uint8_t *q, uint32_t k, size_t size)
{
    for (uint32_t i = 0; i < k; i++)
        memcpy(panel + ((size_t)i * PANEL + col) * size, q + i * size, size);
}

static void put_int8(uint8_t *panel, uint32_t col, const uint8_t *q, const uint16_t *scale,
                     uint32_t k)
{
    memcpy(panel + (size_t)col * 2, scale, 2);
    panel += PANEL * 2;
    for (uint32_t i = 0; i < k; i++)
        panel[((size_t)(i / 4) * PANEL + col) * 4 + i % 4] = q[i] ^ 0x80;      /* q + 128 */
}

static void put_fp8(uint8_t *panel, uint32_t col, const uint8_t *q, const uint16_t *scale, uint32_t k)
{
    memcpy(panel + (size_t)col * 2, scale, 2);
    put_float(panel + PANEL * 2, col, q, k, 1);
}

static size_t bf16_at(uint32_t i, uint32_t col)
{
    return ((size_t)(i / 2) * PANEL + col) * 4 + (i % 2 ? 0 : 2);      /* little endian: high half last */
}

static void put_bf16(uint8_t *panel, uint32_t col, const uint8_t *q, uint32_t k, bool cut)
{
    for (uint32_t i = 0; i < k; i++) {
        uint16_t h;

        memcpy(&h, q + (size_t)i * 2, 2);
        if (cut && fabsf(f32_from_bf16(h)) < BF16_LEAST)
            h = 0;
        memcpy(panel + bf16_at(i, col), &h, 2);
    }
}

/* Byte of an int4 panel that holds inputs 8*octet + j and 8*octet + 4 + j of a column. */
static size_t nibble_at(struct wfmt f, uint32_t octet, uint32_t j, uint32_t col)
{
    size_t scales = ((size_t)octet * 8 / pack_group(f) + 1) * n_scale(f) * PANEL * 2;

    return scales + (size_t)octet * 128 + (size_t)(col / 16) * 64 + (size_t)(col % 16) * 4 + j;
}

/* Scale (s 0) or least value (s 1) of a column's group g. */
static size_t scale_at(struct wfmt f, uint32_t g, uint32_t s, uint32_t col)
{
    return (size_t)g * (n_scale(f) * PANEL * 2 + (size_t)pack_group(f) * PANEL / 2) +
           ((size_t)s * PANEL + col) * 2;
}

static uint8_t nibble(const uint8_t *q, uint32_t i)
{
    return i % 2 ? q[i / 2] >> 4 : q[i / 2] & 15;
}

static void put_int4(uint8_t *panel, uint32_t col, const uint8_t *q, const uint16_t *scale,
                     uint32_t k, struct wfmt f)
{
    uint32_t group = pack_group(f), per = n_scale(f);

    for (uint32_t g = 0; g * group < k; g++)
        for (uint32_t s = 0; s < per; s++)
            memcpy(panel + scale_at(f, g, s, col), scale + (size_t)(g * group / f.group) * per + s, 2);
    for (uint32_t i = 0; i < k; i += 8)
        for (uint32_t j = 0; j < 4; j++)
            panel[nibble_at(f, i / 8, j, col)] =
                (uint8_t)(nibble(q, i + j) | nibble(q, i + 4 + j) << 4);
}

struct pack_job {
    struct cpu *c;
    struct weight *w;
    const float *row;          /* [PANELS_AT_ONCE * PANEL, k] */
    uint32_t row0;             /* the matrix row that row[0] is */
};

/* Packs panels [i0, i1) counted from row0. Thread scratch holds one encoded row and its scales. */
static void pack_panels(void *arg, int thread, uint32_t i0, uint32_t i1)
{
    struct pack_job *j = arg;
    struct weight *w = j->w;
    uint8_t *q = cpu_mine(j->c, thread);
    uint16_t *scale = (uint16_t *)(void *)(q + (size_t)w->k * 4);

    for (uint32_t i = i0; i < i1; i++) {
        uint8_t *panel = (uint8_t *)w->data + (j->row0 / PANEL + i) * panel_bytes(w->fmt, w->k);

        for (uint32_t col = 0; col < PANEL && j->row0 + i * PANEL + col < w->n; col++) {
            row_encode(w->fmt, j->row + ((size_t)i * PANEL + col) * w->k, w->k, q, scale);
            switch (fmt_stored(w->fmt.fmt)) {
            case FMT_F32: put_float(panel, col, q, w->k, 4); break;
            case FMT_F16: put_float(panel, col, q, w->k, 2); break;
            case FMT_BF16: put_bf16(panel, col, q, w->k, w->fmt.fmt == FMT_BF16_A16); break;
            case FMT_FP8: put_fp8(panel, col, q, scale, w->k); break;
            case FMT_INT8: put_int8(panel, col, q, scale, w->k); break;
            default: put_int4(panel, col, q, scale, w->k, w->fmt);
            }
        }
    }
}

static int check(const struct weight *w, struct err *e)
{
    uint32_t g = w->fmt.group;

    if (w->k == 0 || w->k % 32)
        return err_set(e, EXIT_USAGE,
                       "cpu: a weight matrix with %u inputs; they must be a multiple of 32",
                       (unsigned)w->k);
    if (fmt_stored(w->fmt.fmt) >= FMT_INT4 && g != 32 && g != 64 && g != 128 && g != GROUP_ROW)
        return err_set(e, EXIT_USAGE, "cpu: %s group %u; use 32, 64, 128 or the whole row",
                       fmt_name(w->fmt.fmt), (unsigned)g);
    return 0;
}

int pack_weight(struct cpu *c, struct weight *w, struct row_source src, struct err *e)
{
    const uint32_t at_once = PANELS_AT_ONCE * PANEL;
    struct pack_job job = { .c = c, .w = w };
    uint64_t bytes;
    float *row;

    if (check(w, e))
        return -1;
    if (!mul_u64(panel_bytes(w->fmt, w->k), ceil_div_u32(w->n, PANEL), &bytes) ||
        !(w->data = cpu_alloc(bytes)) ||
        !cpu_scratch(c, (size_t)at_once * w->k * 4, (size_t)w->k * 6)) {
        free(w->data);
        w->data = NULL;
        return err_set(e, EXIT_RUN_FAILED, "cpu: no memory for a weight matrix of %u x %u",
                       (unsigned)w->n, (unsigned)w->k);
    }
    if (w->n % PANEL)          /* columns past n stay zero */
        memset((char *)w->data + bytes - panel_bytes(w->fmt, w->k), 0, panel_bytes(w->fmt, w->k));
    job.row = row = c->shared.p;
    for (job.row0 = 0; job.row0 < w->n; job.row0 += at_once) {
        uint32_t n = min_u32(at_once, w->n - job.row0);

        for (uint32_t i = 0; i < n; i++) {
            if (src.get(src.self, job.row0 + i, row + (size_t)i * w->k, e)) {
                free(w->data);
                w->data = NULL;
                return -1;
            }
        }
        cpu_for(c, ceil_div_u32(n, PANEL), 1, true, pack_panels, &job);
        if (w->n - job.row0 <= at_once)
            break;             /* row0 cannot wrap */
    }
    return 0;
}

static float half_at(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, 2);
    return f32_from_f16(h);
}

/* As row_decode of format.h. */
static float int4_value(struct wfmt f, const uint8_t *panel, uint32_t col, uint32_t i)
{
    uint32_t g = i / pack_group(f), j = i % 8;
    uint8_t b = panel[nibble_at(f, i / 8, j % 4, col)];
    int u = j < 4 ? b & 15 : b >> 4;
    float s = half_at(panel + scale_at(f, g, 0, col));

    return n_scale(f) == 2 ? fmaf((float)u, s, half_at(panel + scale_at(f, g, 1, col)))
                           : (float)(u - 8) * s;
}

static float int8_value(const uint8_t *panel, uint32_t col, uint32_t i)
{
    uint8_t b = panel[PANEL * 2 + ((size_t)(i / 4) * PANEL + col) * 4 + i % 4];

    return (float)((int)b - 128) * half_at(panel + (size_t)col * 2);
}

void unpack_row(const struct weight *w, uint32_t row, float *out)
{
    const uint8_t *panel = panel_at(w, row / PANEL);
    const void *p = panel;
    uint32_t col = row % PANEL;

    for (uint32_t i = 0; i < w->k; i++) {
        size_t at = (size_t)i * PANEL + col;

        switch (fmt_stored(w->fmt.fmt)) {
        case FMT_F32: out[i] = ((const float *)p)[at]; break;
        case FMT_F16: out[i] = f32_from_f16(((const uint16_t *)p)[at]); break;
        case FMT_BF16: out[i] = f32_from_bf16(((const uint16_t *)p)[bf16_at(i, col) / 2]); break;
        case FMT_FP8: out[i] = f32_from_fp8(panel[PANEL * 2 + at]) * half_at(panel + (size_t)col * 2); break;
        case FMT_INT8: out[i] = int8_value(panel, col, i); break;
        default: out[i] = int4_value(w->fmt, panel, col, i);
        }
    }
}

static void unpack_int8(const uint8_t *panel, uint32_t k, float *out)
{
    float s[PANEL];

    for (uint32_t c = 0; c < PANEL; c++)
        s[c] = half_at(panel + (size_t)c * 2);
    panel += PANEL * 2;
    for (uint32_t i = 0; i < k; i++, out += PANEL)
        for (uint32_t c = 0; c < PANEL; c++)
            out[c] = (float)((int)panel[((size_t)(i / 4) * PANEL + c) * 4 + i % 4] - 128) * s[c];
}

/* Eight inputs of 32 columns; least may be NULL. */
static void unpack_octet(const uint8_t *b, const float *s, const float *least, float *out)
{
    for (uint32_t i = 0; i < 8; i++, out += PANEL)
        for (uint32_t c = 0; c < PANEL; c++) {
            int u = b[c * 4 + i % 4] >> (i / 4 * 4) & 15;

            out[c] = least ? fmaf((float)u, s[c], least[c]) : (float)(u - 8) * s[c];
        }
}

void unpack_panel(const struct weight *w, uint32_t panel, float *out)
{
    const uint8_t *p = panel_at(w, panel);
    uint32_t group = pack_group(w->fmt), per = n_scale(w->fmt);
    float s[2 * PANEL];

    if (fmt_stored(w->fmt.fmt) == FMT_INT8) {
        unpack_int8(p, w->k, out);
        return;
    }
    for (uint32_t i = 0; i < w->k; i += 8, p += 128, out += 8 * PANEL) {
        if (i % group == 0) {
            for (uint32_t c = 0; c < per * PANEL; c++, p += 2)
                s[c] = half_at(p);
        }
        unpack_octet(p, s, per == 2 ? s + PANEL : NULL, out);
    }
}
