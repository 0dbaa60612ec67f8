/* pack.c - weights from row-major floats into panels, once at load (layout: pack.h).
 *
 * Rows arrive in order from one source, so they are pulled by one thread, a few panels at a
 * time; encoding and packing of those panels, which is most of the work, is spread over all
 * threads. */
#include "kernels/cpu/pack.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

enum { PANELS_AT_ONCE = 16 };

size_t panel_bytes(struct wfmt f, uint32_t k)
{
    switch (f.fmt) {
    case FMT_F32: return (size_t)k * PANEL * 4;
    case FMT_F16: return (size_t)k * PANEL * 2;
    case FMT_INT8: return PANEL * 2 + (size_t)k * PANEL;
    default: return (size_t)ceil_div_u32(k, f.group) * PANEL * 2 + (size_t)k * PANEL / 2;
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

/* Byte of an int4 panel that holds inputs 8*octet + j and 8*octet + 4 + j of a column. */
static size_t nibble_at(uint32_t group, uint32_t octet, uint32_t j, uint32_t col)
{
    size_t scales = ((size_t)octet * 8 / group + 1) * PANEL * 2;

    return scales + (size_t)octet * 128 + (size_t)(col / 16) * 64 + (size_t)(col % 16) * 4 + j;
}

static size_t scale_at(uint32_t group, uint32_t g, uint32_t col)
{
    return (size_t)g * (PANEL * 2 + (size_t)group * PANEL / 2) + (size_t)col * 2;
}

static uint8_t nibble(const uint8_t *q, uint32_t i)
{
    return i % 2 ? q[i / 2] >> 4 : q[i / 2] & 15;
}

static void put_int4(uint8_t *panel, uint32_t col, const uint8_t *q, const uint16_t *scale,
                     uint32_t k, uint32_t group)
{
    for (uint32_t g = 0; g * group < k; g++)
        memcpy(panel + scale_at(group, g, col), scale + g, 2);
    for (uint32_t i = 0; i < k; i += 8)
        for (uint32_t j = 0; j < 4; j++)
            panel[nibble_at(group, i / 8, j, col)] =
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
            switch (w->fmt.fmt) {
            case FMT_F32: put_float(panel, col, q, w->k, 4); break;
            case FMT_F16: put_float(panel, col, q, w->k, 2); break;
            case FMT_INT8: put_int8(panel, col, q, scale, w->k); break;
            default: put_int4(panel, col, q, scale, w->k, w->fmt.group);
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
    if (w->fmt.fmt == FMT_INT4 && g != 32 && g != 64 && g != 128)
        return err_set(e, EXIT_USAGE, "cpu: int4 group %u; use 32, 64 or 128", (unsigned)g);
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

static float int4_value(const struct weight *w, const uint8_t *panel, uint32_t col, uint32_t i)
{
    uint32_t g = i / w->fmt.group, j = i % 8;
    uint8_t b = panel[nibble_at(w->fmt.group, i / 8, j % 4, col)];
    uint16_t s;

    memcpy(&s, panel + scale_at(w->fmt.group, g, col), 2);
    return (float)((j < 4 ? b & 15 : b >> 4) - 8) * f32_from_f16(s);
}

static float int8_value(const uint8_t *panel, uint32_t col, uint32_t i)
{
    uint8_t b = panel[PANEL * 2 + ((size_t)(i / 4) * PANEL + col) * 4 + i % 4];
    uint16_t s;

    memcpy(&s, panel + (size_t)col * 2, 2);
    return (float)((int)b - 128) * f32_from_f16(s);
}

void unpack_row(const struct weight *w, uint32_t row, float *out)
{
    const uint8_t *panel = panel_at(w, row / PANEL);
    const void *p = panel;
    uint32_t col = row % PANEL;

    for (uint32_t i = 0; i < w->k; i++) {
        size_t at = (size_t)i * PANEL + col;

        switch (w->fmt.fmt) {
        case FMT_F32: out[i] = ((const float *)p)[at]; break;
        case FMT_F16: out[i] = f32_from_f16(((const uint16_t *)p)[at]); break;
        case FMT_INT8: out[i] = int8_value(panel, col, i); break;
        default: out[i] = int4_value(w, panel, col, i);
        }
    }
}
