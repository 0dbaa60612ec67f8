/* quants.h - stored weights to floats: plain floats, ggml's blocks, and 4-bit AWQ and GPTQ matrices.
 *
 * ggml's formats (the GGUF specification, its file types): a row of k values is k / block blocks, each decoded
 * on its own. d, m: scales as f16; q: nibbles, the low one first by half blocks (value i and i + 16).
 *   Q4_0  32: d, q[16]                  w = (q - 8) d
 *   Q4_1  32: d, m, q[16]               w = q d + m
 *   Q5_0  32: d, fifth bits u32, q[16]  w = (q - 16) d
 *   Q5_1  32: d, m, fifth bits, q[16]   w = q d + m
 *   Q8_0  32: d, int8 q[32]             w = q d
 *   Q2_K 256: 16 scales and mins of 4 bits, 2-bit q [64], d, dmin           w = q (d sc) - (dmin mn)
 *   Q3_K 256: third bits [32], 2-bit q [64], 16 scales of 6 bits, d         w = (q - 4) (d sc)
 *   Q4_K 256: d, dmin, 8 scales and 8 mins of 6 bits in 12 bytes, q[128]    w = q (d sc) - (dmin mn)
 *   Q5_K 256: as Q4_K, fifth bits [32] before q
 *   Q6_K 256: low nibbles [128], high bits [64], int8 sc[16], d             w = (q - 32) (d sc)
 *   IQ4_NL 32: d, q[16]                 w = table[q] d
 *   IQ4_XS 256: d, 8 scales of 6 bits, q[128]                               w = table[q] (d sc)
 * llama-quantize puts blocks of 32 where a row is no multiple of 256: a Q4_K_M file of SmolLM2 (rows of 576) is
 * mostly Q5_0. The kinds with codebooks (IQ1 to IQ3) and the ternary ones are refused.
 *
 * AWQ (Lin et al. 2023, "gemm" packing) and GPTQ (Frantar et al. 2022) keep W transposed, [k, n], with one scale and
 * zero point per output and group of inputs: w = (q - z) s. Eight nibbles share an int32: AWQ along n in the
 * order 0 2 4 6 1 3 5 7, GPTQ along k; the zero points along n. GPTQ's first checkpoint format stores z - 1. Where z
 * is 0 packages differ: AutoGPTQ reads the 15 as 0, GPTQModel takes 0x11111111 from the whole word, so that a 0 borrows
 * from the next zero point. Each is read as its package reads it. */
#ifndef MODELS_QUANTS_H
#define MODELS_QUANTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers of ggml's tensor types; those not named here are refused. */
enum quant {
    QUANT_F32 = 0, QUANT_F16 = 1, QUANT_Q4_0 = 2, QUANT_Q4_1 = 3, QUANT_Q5_0 = 6, QUANT_Q5_1 = 7, QUANT_Q8_0 = 8,
    QUANT_Q2_K = 10, QUANT_Q3_K = 11, QUANT_Q4_K = 12, QUANT_Q5_K = 13, QUANT_Q6_K = 14, QUANT_IQ4_NL = 20,
    QUANT_IQ4_XS = 23, QUANT_BF16 = 30
};
struct quant_info { enum quant type; const char *name; uint32_t block, bytes; };   /* per block */
/* NULL for a type that is not supported; *name then is what ggml calls it, or NULL. */
const struct quant_info *quant_find(uint32_t type, const char **name);

/* One row of k values, k a multiple of the block, from any address. */
void quant_row(enum quant type, const unsigned char *src, uint64_t k, float *out);

enum packing { PACKED_AWQ, PACKED_GPTQ };
/* How zero points are stored: as they are, each less one (modulo 16), or their word less 0x11111111. */
enum zero_form { ZERO_AS_IS, ZERO_EACH_LESS, ZERO_WORD_LESS };

/* A 4-bit matrix of n outputs and k inputs, both multiples of 8; group divides k and is a multiple of 8. */
struct packed4 {
    enum packing packing;
    uint32_t n, k, group;
    enum zero_form zeros;
    const unsigned char *q;        /* int32 [k, n/8] (AWQ), [k/8, n] (GPTQ) */
    const unsigned char *z;        /* int32 [k/group, n/8] */
    const unsigned char *s;        /* f16 [k/group, n] */
};
/* Eight outputs at once, from n0 (a multiple of 8): out[8][k]. They share the words that are read. */
void packed4_rows(const struct packed4 *p, uint32_t n0, float *out);

#endif
