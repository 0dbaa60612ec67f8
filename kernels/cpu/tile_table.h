/* tile_table.h - the functions that pick a tile's instance, for one instruction set.
 *
 * The file that includes it lists its sizes: FTILES(C) and QTILES(C) are `C(mr, ns)` for each pair that its
 * ns_f and ns_q offer, TALL_QTILES(C) those above mr_q, which packed nibbles alone take; a size that is not listed computes nothing, which tests/test_matmul.c would see. */
#ifndef KERNELS_CPU_TILE_TABLE_H
#define KERNELS_CPU_TILE_TABLE_H

#include "kernels/cpu/tile_int.h"

#define FTILE(name, el)                                                             \
    static void name(const struct ftile *t)                                         \
    {                                                                               \
        switch (t->mr * 16 + t->ns) { FTILES(el) }                                  \
    }
#define QTILE(name, kind, ...)                                                      \
    static void name(const struct qtile *t)                                         \
    {                                                                               \
        switch (t->mr * 16 + t->ns) { QTILES(kind) __VA_ARGS__ }                    \
    }
#define CASE_F32(mr, ns) case (mr) * 16 + (ns): tile_float(t, mr, ns, EL_F32); return;
#define CASE_F16(mr, ns) case (mr) * 16 + (ns): tile_float(t, mr, ns, EL_F16); return;
#define CASE_FP8(mr, ns) case (mr) * 16 + (ns): tile_float(t, mr, ns, EL_FP8); return;
#define CASE_INT8(mr, ns) case (mr) * 16 + (ns): tile_float(t, mr, ns, EL_INT8); return;
#define CASE_BF16(mr, ns) case (mr) * 16 + (ns): tile_pairs(t, mr, ns); return;
#define CASE_Q4(mr, ns) case (mr) * 16 + (ns): tile_int(t, mr, ns, Q4); return;
#define CASE_Q4W(mr, ns) case (mr) * 16 + (ns): tile_int(t, mr, ns, Q4W); return;
#define CASE_Q4Z(mr, ns) case (mr) * 16 + (ns): tile_int(t, mr, ns, Q4Z); return;
#define CASE_Q4ZW(mr, ns) case (mr) * 16 + (ns): tile_int(t, mr, ns, Q4ZW); return;
#define CASE_Q8(mr, ns) case (mr) * 16 + (ns): tile_int(t, mr, ns, Q8); return;

FTILE(tile_f32, CASE_F32)
FTILE(tile_f16, CASE_F16)
FTILE(tile_fp8, CASE_FP8)
FTILE(tile_int8, CASE_INT8)
FTILE(tile_bf16, CASE_BF16)
QTILE(tile_q4, CASE_Q4, TALL_QTILES(CASE_Q4))
QTILE(tile_q4w, CASE_Q4W, )
QTILE(tile_q4z, CASE_Q4Z, TALL_QTILES(CASE_Q4Z))
QTILE(tile_q4zw, CASE_Q4ZW, )
QTILE(tile_q8, CASE_Q8, )

#define TILES_TABLE                                                                 \
    .tile = { [EL_F32] = tile_f32, [EL_F16] = tile_f16, [EL_FP8] = tile_fp8,        \
              [EL_INT8] = tile_int8, [EL_BF16] = tile_bf16 },                       \
    .tile_q = { [Q4] = tile_q4, [Q4W] = tile_q4w, [Q4Z] = tile_q4z, [Q4ZW] = tile_q4zw, [Q8] = tile_q8 }

#endif
