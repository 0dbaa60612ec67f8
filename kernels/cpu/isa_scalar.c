/* isa_scalar.c - the tiles in plain C: slow, runs anywhere, says what the others must compute. */
#include "kernels/cpu/vec_scalar.h"

#define ROOF_CHAINS 4

#include "kernels/cpu/rows.h"
#include "kernels/cpu/tile_int.h"

#define SIZES(C) C(1, 1) C(2, 1)

static void tile_f16(const struct ftile *t)
{
#define HALF true
    switch (t->mr * 16 + t->ns) { SIZES(FTILE_CASE) }
#undef HALF
}

static void tile_f32(const struct ftile *t)
{
#define HALF false
    switch (t->mr * 16 + t->ns) { SIZES(FTILE_CASE) }
#undef HALF
}

static void tile_q4(const struct qtile *t)
{
#define KIND Q4
    switch (t->mr * 16 + t->ns) { SIZES(QTILE_CASE) }
#undef KIND
}

static void tile_q4w(const struct qtile *t)
{
#define KIND Q4W
    switch (t->mr * 16 + t->ns) { SIZES(QTILE_CASE) }
#undef KIND
}

static void tile_q8(const struct qtile *t)
{
#define KIND Q8
    switch (t->mr * 16 + t->ns) { SIZES(QTILE_CASE) }
#undef KIND
}

const struct cpu_isa cpu_isa_scalar = {
    .name = "scalar", .mr_f = 2, .mr_q = 2, .ns_min = 1,
    .ns_f = { 0, 1, 1 }, .ns_q = { 0, 1, 1 },
    .tile_f16 = tile_f16, .tile_f32 = tile_f32,
    .tile_q4 = tile_q4, .tile_q4w = tile_q4w, .tile_q8 = tile_q8,
    ROWS_TABLE
};
