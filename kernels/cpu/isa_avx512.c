/* isa_avx512.c - the tiles in 512-bit registers: avx512f/bw/dq/vl and vnni.
 *
 * Of 32 registers, a float tile of 14 rows keeps 28 accumulators, 2 strips and a broadcast; an
 * integer tile of 7 rows keeps 14 group sums and 14 F32 totals. Few rows of floats take more strips
 * instead, for at least four independent chains. Integer tiles do not: one panel is one straight
 * stream, which prefetchers follow best (25 instead of 16 GB/s on one Zen 4 core at one row). */
#include "kernels/cpu/vec_avx512.h"

#define ROOF_CHAINS 12

#include "kernels/cpu/rows.h"
#include "kernels/cpu/tile_int.h"

#define FEW(C) C(1, 2) C(2, 2) C(3, 2) C(4, 2) C(5, 2) C(6, 2) C(7, 2)
#define MANY(C) C(8, 2) C(9, 2) C(10, 2) C(11, 2) C(12, 2) C(13, 2) C(14, 2)
#define WIDE(C) C(1, 8) C(2, 8) C(3, 4) C(4, 4)

static void tile_f16(const struct ftile *t)
{
#define HALF true
    switch (t->mr * 16 + t->ns) { FEW(FTILE_CASE) MANY(FTILE_CASE) WIDE(FTILE_CASE) }
#undef HALF
}

static void tile_f32(const struct ftile *t)
{
#define HALF false
    switch (t->mr * 16 + t->ns) { FEW(FTILE_CASE) MANY(FTILE_CASE) WIDE(FTILE_CASE) }
#undef HALF
}

static void tile_q4(const struct qtile *t)
{
#define KIND Q4
    switch (t->mr * 16 + t->ns) { FEW(QTILE_CASE) }
#undef KIND
}

static void tile_q4w(const struct qtile *t)
{
#define KIND Q4W
    switch (t->mr * 16 + t->ns) { FEW(QTILE_CASE) }
#undef KIND
}

static void tile_q8(const struct qtile *t)
{
#define KIND Q8
    switch (t->mr * 16 + t->ns) { FEW(QTILE_CASE) }
#undef KIND
}

const struct cpu_isa cpu_isa_avx512 = {
    .name = "avx512", .mr_f = 14, .mr_q = 7, .ns_min = 2,
    .ns_f = { 0, 8, 8, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2 },
    .ns_q = { 0, 2, 2, 2, 2, 2, 2, 2 },
    .tile_f16 = tile_f16, .tile_f32 = tile_f32,
    .tile_q4 = tile_q4, .tile_q4w = tile_q4w, .tile_q8 = tile_q8,
    ROWS_TABLE
};
