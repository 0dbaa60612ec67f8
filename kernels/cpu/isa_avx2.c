/* isa_avx2.c - the tiles in 256-bit registers: avx2, fma, f16c.
 *
 * A strip of 16 columns is two registers, so 6 rows of one strip fill 12 of the 16; integer dots
 * go through int16 pairs that cannot saturate (vec_avx2.h). */
#include "kernels/cpu/vec_avx2.h"

#define ROOF_CHAINS 6

#include "kernels/cpu/rows.h"
#include "kernels/cpu/tile_int.h"

static void tile_f16(const struct ftile *t)
{
#define HALF true
    switch (t->mr * 16 + t->ns) {
    FTILE_CASE(1, 1) FTILE_CASE(2, 1) FTILE_CASE(3, 1) FTILE_CASE(4, 1) FTILE_CASE(5, 1)
    FTILE_CASE(6, 1) FTILE_CASE(1, 4) FTILE_CASE(2, 2)
    }
#undef HALF
}

static void tile_f32(const struct ftile *t)
{
#define HALF false
    switch (t->mr * 16 + t->ns) {
    FTILE_CASE(1, 1) FTILE_CASE(2, 1) FTILE_CASE(3, 1) FTILE_CASE(4, 1) FTILE_CASE(5, 1)
    FTILE_CASE(6, 1) FTILE_CASE(1, 4) FTILE_CASE(2, 2)
    }
#undef HALF
}

#define ROWS_OF_Q(C) C(1, 1) C(2, 1) C(3, 1)

static void tile_q4(const struct qtile *t)
{
#define KIND Q4
    switch (t->mr * 16 + t->ns) { ROWS_OF_Q(QTILE_CASE) QTILE_CASE(1, 2) }
#undef KIND
}

static void tile_q4w(const struct qtile *t)
{
#define KIND Q4W
    switch (t->mr * 16 + t->ns) { ROWS_OF_Q(QTILE_CASE) }
#undef KIND
}

static void tile_q8(const struct qtile *t)
{
#define KIND Q8
    switch (t->mr * 16 + t->ns) { ROWS_OF_Q(QTILE_CASE) QTILE_CASE(1, 2) }
#undef KIND
}

const struct cpu_isa cpu_isa_avx2 = {
    .name = "avx2", .mr_f = 6, .mr_q = 3, .ns_min = 1,
    .ns_f = { 0, 4, 2, 1, 1, 1, 1 },
    .ns_q = { 0, 2, 1, 1 },
    .tile_f16 = tile_f16, .tile_f32 = tile_f32,
    .tile_q4 = tile_q4, .tile_q4w = tile_q4w, .tile_q8 = tile_q8,
    ROWS_TABLE
};
