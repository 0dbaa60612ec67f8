/* isa_scalar.c - the tiles in plain C: slow, runs anywhere, says what the others must compute. */
#include "kernels/cpu/vec_scalar.h"

#define ROOF_CHAINS 4

#define SIZES(C) C(1, 1) C(2, 1)
#define FTILES SIZES
#define QTILES SIZES
#define TALL_QTILES(C)
#define MR_TOTALS 2

#include "kernels/cpu/rows.h"
#include "kernels/cpu/tile_table.h"

const struct cpu_isa cpu_isa_scalar = {
    .name = "scalar", .mr_f = 2, .mr_q = 2, .mr_few = 2, .ns_min = 1, .packed_f = 4, .packed_q = 4,
    .ns_f = { 0, 1, 1 }, .ns_q = { 0, 1, 1 },
    TILES_TABLE, ROWS_TABLE
};
