/* isa_avx2.c - the tiles in 256-bit registers: avx2, fma, f16c.
 *
 * A strip of 16 columns is two registers, so 6 rows of one strip fill 12 of the 16; integer dots
 * go through int16 pairs that cannot saturate (vec_avx2.h). */
#include "kernels/cpu/vec_avx2.h"

#define ROOF_CHAINS 6

#define FTILES(C) C(1, 1) C(2, 1) C(3, 1) C(4, 1) C(5, 1) C(6, 1) C(1, 4) C(2, 2)
#define QTILES(C) C(1, 1) C(2, 1) C(3, 1) C(1, 2)
#define TALL_QTILES(C)
#define MR_TOTALS 3

#include "kernels/cpu/rows.h"
#include "kernels/cpu/tile_table.h"

const struct cpu_isa cpu_isa_avx2 = {
    .name = "avx2", .mr_f = 6, .mr_q = 3, .mr_few = 3, .ns_min = 1, .packed_f = 12, .packed_q = 6,
    .ns_f = { 0, 4, 2, 1, 1, 1, 1 },
    .ns_q = { 0, 2, 1, 1 },
    TILES_TABLE, ROWS_TABLE
};
