/* isa_avx512.c - the tiles in 512-bit registers: avx512f/bw/dq/vl and vnni; a second table adds bf16.
 *
 * Of 32 registers, a float tile of 14 rows keeps 28 accumulators, 2 strips and a broadcast; an
 * integer tile of 7 rows keeps 14 group sums and 14 F32 totals. Up to 13 rows keep their totals in memory:
 * a few percent slower, but nibbles are unpacked once for all of them. Few rows of floats take more strips
 * instead, for at least four independent chains. Integer tiles do not: one panel is one straight
 * stream, which prefetchers follow best (25 instead of 16 GB/s on one Zen 4 core at one row). */
#include "kernels/cpu/vec_avx512.h"

#define ROOF_CHAINS 12

#define FEW(C) C(1, 2) C(2, 2) C(3, 2) C(4, 2) C(5, 2) C(6, 2) C(7, 2)
#define MANY(C) C(8, 2) C(9, 2) C(10, 2) C(11, 2) C(12, 2) C(13, 2) C(14, 2)
#define WIDE(C) C(1, 8) C(2, 8) C(3, 4) C(4, 4)
#define FTILES(C) FEW(C) MANY(C) WIDE(C)
#define QTILES(C) FEW(C)
#define TALL_QTILES(C) C(8, 2) C(9, 2) C(10, 2) C(11, 2) C(12, 2) C(13, 2)
#define MR_TOTALS 7

#include "kernels/cpu/rows.h"
#include "kernels/cpu/tile_dp.h"

#define AVX512_TABLE                                                          \
    .mr_f = 14, .mr_q = 7, .mr_few = 13, .ns_min = 2, .packed_f = 42, .packed_q = 56, \
    .ns_f = { 0, 8, 8, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2 },                  \
    .ns_q = { 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2 },                     \
    TILES_TABLE, ROWS_TABLE

const struct cpu_isa cpu_isa_avx512 = { .name = "avx512", AVX512_TABLE };
const struct cpu_isa cpu_isa_avx512bf16 = {
    .name = "avx512bf16", AVX512_TABLE, .tile_dp = tile_dp, .pairs_bf16 = pairs_bf16
};
