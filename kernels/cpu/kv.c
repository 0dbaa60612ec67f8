/* kv.c - how K and V lie in the cpu device's pool (layout: cpu.h): store, move and copy of tokens.
 *
 * With int8 and fp8 a token's K and V of a head are encoded as rows of head_dim values, as format.h
 * says, each with a half scale of its own (per-token scales of a quantised cache: KIVI, Liu et al. 2024,
 * for V). A token moves with its scales, so copies and swaps never round again. */
#include <string.h>

#include "base/num.h"
#include "kernels/cpu/cpu.h"

struct kv_layout kv_layout(const struct kv_pool *kv)
{
    struct kv_layout l = { .hd = kv->head_dim, .size = kv->fmt == FMT_F16 ? 2 : 1 };

    l.el = kv->fmt == FMT_F16 ? EL_F16 : kv->fmt == FMT_FP8 ? EL_FP8 : EL_INT8;
    l.tile_bytes = (size_t)2 * KV_TILE * kv_row_bytes(kv->fmt, kv->head_dim);
    return l;
}

uint8_t *kv_tile(const struct kv_pool *kv, uint32_t layer, uint32_t head, uint32_t slot)
{
    size_t tile = ((size_t)layer * kv->n_head + head) * (kv->n_slot / KV_TILE) + slot / KV_TILE;

    return (uint8_t *)kv->data + tile * 2 * KV_TILE * kv_row_bytes(kv->fmt, kv->head_dim);
}

/* Column b of one K becomes column a of another; stride: between dimensions. */
static void move_column(uint32_t size, uint32_t hd, const uint8_t *from, size_t from_stride,
                        uint8_t *to)
{
    if (size == 2)
        for (uint32_t d = 0; d < hd; d++)
            memcpy(to + (size_t)d * KV_TILE * 2, from + d * from_stride, 2);
    else
        for (uint32_t d = 0; d < hd; d++)
            to[(size_t)d * KV_TILE] = from[d * from_stride];
}

void kv_move(const struct kv_layout *l, const uint8_t *from, uint32_t a, uint8_t *to, uint32_t b)
{
    size_t row = (size_t)l->hd * l->size, v = KV_TILE * row, scales = 2 * v;

    move_column(l->size, l->hd, from + (size_t)a * l->size, (size_t)KV_TILE * l->size,
                to + (size_t)b * l->size);
    memcpy(to + v + b * row, from + v + a * row, row);
    for (uint32_t i = 0; i < 2 && l->size == 1; i++)
        memcpy(to + scales + (size_t)(i * KV_TILE + b) * 2,
               from + scales + (size_t)(i * KV_TILE + a) * 2, 2);
}

void kv_store(const struct cpu_isa *isa, const struct kv_layout *l, uint8_t *tile, uint32_t in,
              const float *k, const float *v, void *room)
{
    size_t row = (size_t)l->hd * l->size;
    uint16_t scale[2];

    isa->encode(l->el, room, scale, k, l->hd);
    move_column(l->size, l->hd, room, l->size, tile + (size_t)in * l->size);
    isa->encode(l->el, room, scale + 1, v, l->hd);
    memcpy(tile + (KV_TILE + in) * row, room, row);
    for (uint32_t i = 0; i < 2 && l->size == 1; i++)
        memcpy(tile + 2 * KV_TILE * row + (size_t)(i * KV_TILE + in) * 2, scale + i, 2);
}

void kv_copy(const struct kv_pool *from, const struct kv_pool *to, uint32_t layer, uint32_t src,
             uint32_t dst, uint32_t n)
{
    const struct kv_layout l = kv_layout(from);

    for (uint32_t h = 0; h < from->n_head; h++) {
        for (uint32_t i = 0, step; i < n; i += step) {
            uint32_t a = (src + i) % KV_TILE, b = (dst + i) % KV_TILE;
            const uint8_t *t = kv_tile(from, layer, h, src + i);
            uint8_t *u = kv_tile(to, layer, h, dst + i);

            step = a == 0 && b == 0 && n - i >= KV_TILE ? KV_TILE : 1;
            if (step == KV_TILE)
                memcpy(u, t, l.tile_bytes);
            else
                kv_move(&l, t, a, u, b);
        }
    }
}
