/* weight.cu - weight matrices from rows of floats into the device's layout (pack.h), once at load.
 *
 * Rows come in ascending order from one source; a few panels at a time are encoded by
 * kernels/format.c and packed on the host, then copied: host memory stays bounded however large the
 * matrix. What is stored is exactly what row_encode gives, so a weight means the same on every
 * device. */
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/pack.h"

#include <stdlib.h>

enum { LOAD_AT_ONCE = 8 << 20 }; /* bytes of packed panels on the host, at least one panel */

size_t gpu_weight_bytes(const struct weight *w)
{
    uint64_t body = 0, scale = 0, all = 0;
    uint32_t f = w->fmt.fmt, g = w->fmt.group;

    if (f >= FMT_N || !(FMT_BIT(f) & GPU_WEIGHT_FMTS) || !w->n || !w->k || w->k % 32 ||
        (fmt_is_nibble(w->fmt.fmt) && g != 32 && g != 64 && g != 128))
        return 0;
    if (!mul_u64((uint64_t)pack_panels(w->n) * PANEL_ROWS, (uint64_t)w->k * 2, &body) ||
        !mul_u64(pack_panels(w->n), pack_panel_scales(w->fmt, w->k), &scale) ||
        !add_u64(pack_body_bytes(w->fmt, w->n, w->k), scale, &all) || !add_u64(body, scale, &body))
        return 0; /* body: an upper bound of everything that is computed below */
    return (size_t)all;
}

/* One row's nibbles into the lanes of its units. Two of a byte, even column low, belong two bytes
 * apart. */
static void pack_nibbles(unsigned char *panel, uint32_t row, const unsigned char *q, uint32_t k)
{
    for (uint32_t col = 0; col < k; col += 32)
        for (uint32_t j = 0; j < 32; j += 2) {
            struct pack_at at = pack_nibble_at(row, col + j, k);
            unsigned char v = q[(col + j) / 2];

            panel[at.byte] = (unsigned char)(panel[at.byte] | (v & 15) << at.shift);
            panel[at.byte + 2] = (unsigned char)(panel[at.byte + 2] | (v >> 4) << at.shift);
        }
}

static void pack_bytes(unsigned char *panel, uint32_t row, const unsigned char *q, uint32_t k,
                       unsigned char flip)
{
    for (uint32_t col = 0; col < k; col++)
        panel[pack_byte_at(row, col, k)] = (unsigned char)(q[col] ^ flip);
}

static void pack_scales(struct wfmt f, unsigned char *panel_scale, uint32_t row,
                        const uint16_t *scale, uint32_t k)
{
    uint16_t *out = reinterpret_cast<uint16_t *>(panel_scale);

    if (fmt_is_byte(f.fmt)) {
        out[row] = scale[0];
        return;
    }
    for (uint32_t g = 0; g < pack_groups(f, k); g++) {
        size_t at = pack_scale_at(f, row, g, k);

        out[at] = scale[f.fmt == FMT_INT4Z ? 2 * g : g];
        if (f.fmt == FMT_INT4Z)
            out[at + PANEL_ROWS] = scale[2 * g + 1];
    }
}

/* Host side of a load: room for one row and for a few packed panels. */
struct weight_loader {
    struct gpu *g;
    struct weight *w;
    struct row_source src;
    size_t panel_body, panel_scale, at_once; /* bytes of a panel; panels packed before a copy */
    float *row;                                      /* [k] */
    unsigned char *code, *body, *scales;             /* [k * 2]; [at_once] panels */
    uint16_t *row_scale;                             /* [two for each 32 inputs] */
};

/* Row `row` of the matrix into place `at` of the panels in hand. */
static int load_row(struct weight_loader *l, uint32_t row, uint32_t at, struct err *e)
{
    struct wfmt f = l->w->fmt;
    uint32_t k = l->w->k, panel = at / PANEL_ROWS, c = at % PANEL_ROWS;
    unsigned char *body = l->body + panel * l->panel_body;

    if (l->src.get(l->src.self, row, l->row, e))
        return -1;
    row_encode(f, l->row, k, l->code, l->row_scale);
    if (fmt_is_nibble(f.fmt))
        pack_nibbles(body, c, l->code, k);
    else if (fmt_is_byte(f.fmt))
        pack_bytes(body, c, l->code, k, f.fmt == FMT_INT8 ? 0x80 : 0);
    else
        memcpy(body + (size_t)c * k * 2, l->code, (size_t)k * 2);
    if (l->panel_scale)
        pack_scales(f, l->scales + panel * l->panel_scale, c, l->row_scale, k);
    return 0;
}

static int load_copy(struct weight_loader *l, size_t to, const void *from, size_t bytes,
                     struct err *e)
{
    unsigned char *base = static_cast<unsigned char *>(l->w->data);
    cudaError_t rc =
        bytes ? cudaMemcpyAsync(base + to, from, bytes, cudaMemcpyHostToDevice, l->g->stream)
              : cudaSuccess;

    rc = rc ? rc : cudaStreamSynchronize(l->g->stream);      /* `from` is used again */
    if (rc)
        return err_set(e, EXIT_RUN_FAILED,
                       "cuda: copying a weight matrix of %u x %u to the device: %s", l->w->n,
                       l->w->k, cudaGetErrorString(rc));
    return 0;
}

/* Panels from `first`, as many as are taken at once. */
static int load_panels(struct weight_loader *l, uint32_t first, struct err *e)
{
    const struct weight *w = l->w;
    uint32_t panels =
        (uint32_t)(pack_panels(w->n) - first < l->at_once ? pack_panels(w->n) - first : l->at_once);
    uint32_t rows = min_u32(panels * PANEL_ROWS, w->n - first * PANEL_ROWS);
    bool whole = fmt_is_nibble(w->fmt.fmt) || fmt_is_byte(w->fmt.fmt); /* panels are stored whole */

    memset(l->body, 0, panels * l->panel_body);
    memset(l->scales, 0, panels * l->panel_scale);
    for (uint32_t i = 0; i < rows; i++)
        if (load_row(l, first * PANEL_ROWS + i, i, e))
            return -1;
    if (load_copy(l, first * l->panel_body, l->body,
                  whole ? panels * l->panel_body : (size_t)rows * w->k * 2, e))
        return -1;
    return load_copy(l, pack_body_bytes(w->fmt, w->n, w->k) + first * l->panel_scale, l->scales,
                     panels * l->panel_scale, e);
}

static int load_all(struct weight_loader *l, struct err *e)
{
    uint32_t n_panel = pack_panels(l->w->n);

    for (uint32_t p = 0; p < n_panel; p += (uint32_t)l->at_once) {
        if (load_panels(l, p, e))
            return -1;
        if (n_panel - p <= l->at_once)
            break;                                   /* p cannot wrap */
    }
    return 0;
}

/* Host memory of a load; false: there is none. */
static bool loader_open(struct weight_loader *l)
{
    size_t k = l->w->k, fit = LOAD_AT_ONCE / l->panel_body;
    uint32_t n_panel = pack_panels(l->w->n);

    l->at_once = fit < 1 ? 1 : fit < n_panel ? fit : n_panel;
    l->row = static_cast<float *>(malloc(k * sizeof *l->row));
    l->code = static_cast<unsigned char *>(malloc(k * 2));
    l->row_scale = static_cast<uint16_t *>(calloc(k / 32 + 1, 2 * sizeof *l->row_scale));
    l->body = static_cast<unsigned char *>(malloc(l->at_once * l->panel_body));
    l->scales = static_cast<unsigned char *>(malloc(l->at_once * l->panel_scale + 1));
    return l->row && l->code && l->row_scale && l->body && l->scales;
}

static void loader_close(struct weight_loader *l)
{
    free(l->row);
    free(l->code);
    free(l->row_scale);
    free(l->body);
    free(l->scales);
}

int gpu_weight_load(struct gpu *g, struct weight *w, struct row_source src, struct err *e)
{
    struct weight_loader l = {};
    size_t bytes = gpu_weight_bytes(w);
    char name[32] = "?";
    int rc = -1;

    w->data = NULL;
    if ((unsigned)w->fmt.fmt < FMT_N)
        wfmt_name(w->fmt, name, sizeof name);
    if (!bytes)
        return err_set(e, EXIT_USAGE,
                       "cuda: a weight matrix of %u x %u in %s cannot be; expected f16, bf16, fp8, "
                       "int8, int4 or "
                       "int4z with groups of 32, 64 or 128, and inputs a multiple of 32",
                       w->n, w->k, name);
    if (cudaMalloc(&w->data, bytes) != cudaSuccess) {
        (void)cudaGetLastError(); /* not sticky: the caller goes on or gives up */
        w->data = NULL;
        return err_set(
            e, EXIT_RUN_FAILED,
            "cuda: no device memory for a weight matrix of %u x %u in %s (%zu bytes); use a "
            "smaller format or model",
            w->n, w->k, name, bytes);
    }
    l.g = g, l.w = w, l.src = src;
    l.panel_body = pack_panel_body(w->fmt, w->k);
    l.panel_scale = pack_panel_scales(w->fmt, w->k);
    if (!loader_open(&l))
        err_set(e, EXIT_RUN_FAILED, "cuda: no host memory to pack a weight matrix of %u x %u", w->n,
                w->k);
    else
        rc = load_all(&l, e);
    loader_close(&l);
    if (rc)
        gpu_weight_free(g, w);
    return rc;
}

void gpu_weight_free(struct gpu *g, struct weight *w)
{
    if (w->data)
        gpu_check(g, cudaFree(w->data), "weight_free", 0, w->n, w->k);
    w->data = NULL;
}
