#include "models/quants.h"

#include <string.h>

#include "base/map.h"
#include "kernels/format.h"

static const struct quant_info infos[] = {
    { QUANT_F32, "F32", 1, 4 },       { QUANT_F16, "F16", 1, 2 },      { QUANT_BF16, "BF16", 1, 2 },
    { QUANT_Q4_0, "Q4_0", 32, 18 },   { QUANT_Q4_1, "Q4_1", 32, 20 },  { QUANT_Q8_0, "Q8_0", 32, 34 },
    { QUANT_Q4_K, "Q4_K", 256, 144 }, { QUANT_Q6_K, "Q6_K", 256, 210 },
};

const struct quant_info *quant_find(uint32_t type, const char **name)
{
    /* ggml's list, for messages; holes are types that were removed */
    static const char *const known[] = {
        "F32", "F16", "Q4_0", "Q4_1", NULL, NULL, "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K",
        "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
        "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16", NULL, NULL, NULL, "TQ1_0",
        "TQ2_0", NULL, NULL, NULL, "MXFP4",
    };

    if (name)
        *name = type < sizeof known / sizeof *known ? known[type] : NULL;
    for (size_t i = 0; i < sizeof infos / sizeof *infos; i++)
        if (infos[i].type == type)
            return &infos[i];
    return NULL;
}

static float half_at(const unsigned char *p) { return f32_from_f16(le16(p)); }

static float float_at(const unsigned char *p)
{
    uint32_t bits = le32(p);
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static void block_q4_0(const unsigned char *b, float *out)
{
    float d = half_at(b);

    for (int i = 0; i < 16; i++) {
        out[i] = (float)((b[2 + i] & 15) - 8) * d;
        out[i + 16] = (float)((b[2 + i] >> 4) - 8) * d;
    }
}

static void block_q4_1(const unsigned char *b, float *out)
{
    float d = half_at(b), m = half_at(b + 2);

    for (int i = 0; i < 16; i++) {
        out[i] = (float)(b[4 + i] & 15) * d + m;
        out[i + 16] = (float)(b[4 + i] >> 4) * d + m;
    }
}

static void block_q8_0(const unsigned char *b, float *out)
{
    float d = half_at(b);

    for (int i = 0; i < 32; i++)
        out[i] = (float)(signed char)b[2 + i] * d;
}

/* Scale and least value of sub-block j: 6 bits each. The first four of both lie in the low bits of bytes 0..3
 * and 4..7, whose top two bits are the top bits of the last four; their low nibbles are bytes 8..11. */
static void k4_scale(const unsigned char *s, int j, unsigned *scale, unsigned *least)
{
    if (j < 4) {
        *scale = s[j] & 63u;
        *least = s[j + 4] & 63u;
    } else {
        *scale = (s[j + 4] & 15u) | (unsigned)(s[j - 4] >> 6) << 4;
        *least = (unsigned)(s[j + 4] >> 4) | (unsigned)(s[j] >> 6) << 4;
    }
}

/* Nibbles of values 64 c .. 64 c + 31 are the low ones of bytes 32 c .., the next 32 values the high ones. */
static void block_q4_k(const unsigned char *b, float *out)
{
    float d = half_at(b), dmin = half_at(b + 2);
    const unsigned char *q = b + 16;

    for (int j = 0; j < 8; j++) {
        unsigned scale, least, shift = j % 2 ? 4 : 0;
        float s, m;

        k4_scale(b + 4, j, &scale, &least);
        s = d * (float)scale;
        m = dmin * (float)least;
        for (int i = 0; i < 32; i++)
            out[32 * j + i] = s * (float)(q[32 * (j / 2) + i] >> shift & 15) - m;
    }
}

/* Two halves of 128 values; value 32 r + i of a half has its low nibble in byte i + 32 (r % 2), low half of the byte
 * for r < 2, and its two high bits at 2 r of high byte i. One scale per 16 values. */
static void block_q6_k(const unsigned char *b, float *out)
{
    const unsigned char *low = b, *high = b + 128, *scale = b + 192;
    float d = half_at(b + 208);

    for (int h = 0; h < 2; h++)
        for (int r = 0; r < 4; r++)
            for (int i = 0; i < 32; i++) {
                int lo = low[64 * h + 32 * (r % 2) + i] >> (r < 2 ? 0 : 4) & 15;
                int hi = high[32 * h + i] >> (2 * r) & 3;
                float s = d * (float)(signed char)scale[8 * h + 2 * r + i / 16];

                out[128 * h + 32 * r + i] = s * (float)((lo | hi << 4) - 32);
            }
}

void quant_row(enum quant type, const unsigned char *src, uint64_t k, float *out)
{
    const struct quant_info *q = quant_find(type, NULL);

    for (uint64_t i = 0; q && i < k; i += q->block, src += q->bytes, out += q->block)
        switch (type) {
        case QUANT_F32: *out = float_at(src); break;
        case QUANT_F16: *out = half_at(src); break;
        case QUANT_BF16: *out = f32_from_bf16(le16(src)); break;
        case QUANT_Q4_0: block_q4_0(src, out); break;
        case QUANT_Q4_1: block_q4_1(src, out); break;
        case QUANT_Q8_0: block_q8_0(src, out); break;
        case QUANT_Q4_K: block_q4_k(src, out); break;
        case QUANT_Q6_K: block_q6_k(src, out); break;
        }
}

/* Nibble of a word that holds output j of eight: AWQ's order for fast unpacking on GPUs. */
static const unsigned char awq_place[8] = { 0, 4, 1, 5, 2, 6, 3, 7 };

/* Zero points and scales of outputs n0 .. n0 + 7 in group g. */
static void group_of(const struct packed4 *p, uint32_t g, uint32_t n0, int zero[8], float scale[8])
{
    uint32_t z = le32(p->z + 4 * ((uint64_t)g * (p->n / 8) + n0 / 8));

    for (uint32_t j = 0; j < 8; j++) {
        unsigned place = p->packing == PACKED_AWQ ? awq_place[j] : j;

        zero[j] = (int)((z >> (4 * place) & 15) + p->zero_bias);
        scale[j] = half_at(p->s + 2 * ((uint64_t)g * p->n + n0 + j));
    }
}

static int nibble(const struct packed4 *p, uint32_t i, uint32_t n0, uint32_t j)
{
    if (p->packing == PACKED_AWQ)
        return (int)(le32(p->q + 4 * ((uint64_t)i * (p->n / 8) + n0 / 8)) >> (4 * awq_place[j]) & 15);
    return (int)(le32(p->q + 4 * ((uint64_t)(i / 8) * p->n + n0 + j)) >> (4 * (i % 8)) & 15);
}

void packed4_rows(const struct packed4 *p, uint32_t n0, float *out)
{
    float scale[8] = { 0 };
    int zero[8] = { 0 };

    for (uint32_t i = 0; i < p->k; i++) {
        if (i % p->group == 0)
            group_of(p, i / p->group, n0, zero, scale);
        for (uint32_t j = 0; j < 8; j++)
            out[(uint64_t)j * p->k + i] = (float)(nibble(p, i, n0, j) - zero[j]) * scale[j];
    }
}
