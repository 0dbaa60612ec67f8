/* weight.cu - weight matrices from rows of floats into the device's layout (pack.h), once at load.
 *
 * Rows come in ascending order from one source, on one thread; a few panels of them at a time are
 * encoded by kernels/format.c and packed by all cores of the host (8 G weights take one core a
 * minute or two, a GPU's lease long), then copied: host memory stays bounded however large the
 * matrix. What is stored is exactly what row_encode gives, so a weight means the same on every
 * device; no two rows of a panel share a byte of it (pack.h), so threads need no locks. */
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/pack.h"

#include <stdlib.h>
#include <system_error>
#include <thread>

enum {
    LOAD_AT_ONCE = 64 << 20,  /* bytes of floats on the host, at least one panel of rows */
    LOAD_THREADS = 32,        /* at most */
    LOAD_EACH = 1 << 16       /* weights of a thread: fewer take less time than a thread's start */
};

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

/* Host side of a load: rows in hand and the packed panels that they become. */
struct weight_loader {
    struct gpu *g;
    struct weight *w;
    struct row_source src;
    size_t panel_body, panel_scale, at_once; /* bytes of a panel; panels packed before a copy */
    uint32_t n_thread;
    float *row;                                      /* [at_once * PANEL_ROWS, k] */
    unsigned char *code, *body, *scales;             /* [n_thread, k * 2]; [at_once] panels */
    uint16_t *row_scale;                             /* [n_thread, two for each 32 inputs] */
};

static size_t scales_room(uint32_t k) { return ((size_t)k / 32 + 1) * 2; }

/* Rows from..to - 1 of those in hand, by thread `t`. */
static void pack_rows(const struct weight_loader *l, uint32_t t, uint32_t from, uint32_t to)
{
    struct wfmt f = l->w->fmt;
    uint32_t k = l->w->k;
    unsigned char *code = l->code + (size_t)t * k * 2;
    uint16_t *scale = l->row_scale + t * scales_room(k);

    for (uint32_t i = from; i < to; i++) {
        uint32_t panel = i / PANEL_ROWS, c = i % PANEL_ROWS;
        unsigned char *body = l->body + panel * l->panel_body;

        row_encode(f, l->row + (size_t)i * k, k, code, scale);
        if (fmt_is_nibble(f.fmt))
            pack_nibbles(body, c, code, k);
        else if (fmt_is_byte(f.fmt))
            pack_bytes(body, c, code, k, f.fmt == FMT_INT8 ? 0x80 : 0);
        else
            memcpy(body + (size_t)c * k * 2, code, (size_t)k * 2);
        if (l->panel_scale)
            pack_scales(f, l->scales + panel * l->panel_scale, c, scale, k);
    }
}

/* All rows in hand. A thread that cannot be started leaves its part to this one. */
static void pack_all(const struct weight_loader *l, uint32_t rows)
{
    uint32_t each = ceil_div_u32(rows, l->n_thread);
    std::thread other[LOAD_THREADS];

    for (uint32_t t = 1; t < l->n_thread && t * each < rows; t++)
        try {
            other[t] = std::thread(pack_rows, l, t, t * each, min_u32((t + 1) * each, rows));
        } catch (const std::system_error &) {
            pack_rows(l, t, t * each, min_u32((t + 1) * each, rows));
        }
    pack_rows(l, 0, 0, min_u32(each, rows));
    for (std::thread &t : other)
        if (t.joinable())
            t.join();
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
        if (l->src.get(l->src.self, first * PANEL_ROWS + i, l->row + (size_t)i * w->k, e))
            return -1;
    pack_all(l, rows);
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
    size_t k = l->w->k, fit = LOAD_AT_ONCE / (PANEL_ROWS * k * sizeof *l->row), all;
    uint32_t n_panel = pack_panels(l->w->n);
    uint32_t most = min_u32(std::thread::hardware_concurrency(), LOAD_THREADS);

    l->at_once = fit < 1 ? 1 : fit < n_panel ? fit : n_panel;
    all = l->at_once * PANEL_ROWS * k;
    l->n_thread = all / LOAD_EACH < most ? (uint32_t)(all / LOAD_EACH) : most;
    l->n_thread = max_u32(l->n_thread, 1);
    l->row = static_cast<float *>(malloc(all * sizeof *l->row));
    l->code = static_cast<unsigned char *>(malloc(l->n_thread * k * 2));
    l->row_scale = static_cast<uint16_t *>(
        calloc(l->n_thread, scales_room(l->w->k) * sizeof *l->row_scale));
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
