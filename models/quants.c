#include "models/quants.h"

#include <string.h>

#include "base/map.h"
#include "kernels/format.h"

static const struct quant_info infos[] = {
    { QUANT_F32, "F32", 1, 4 },          { QUANT_F16, "F16", 1, 2 },      { QUANT_BF16, "BF16", 1, 2 },
    { QUANT_Q4_0, "Q4_0", 32, 18 },      { QUANT_Q4_1, "Q4_1", 32, 20 },  { QUANT_Q5_0, "Q5_0", 32, 22 },
    { QUANT_Q5_1, "Q5_1", 32, 24 },      { QUANT_Q8_0, "Q8_0", 32, 34 },  { QUANT_Q2_K, "Q2_K", 256, 84 },
    { QUANT_Q3_K, "Q3_K", 256, 110 },    { QUANT_Q4_K, "Q4_K", 256, 144 },
    { QUANT_Q5_K, "Q5_K", 256, 176 },    { QUANT_Q6_K, "Q6_K", 256, 210 },
    { QUANT_IQ4_NL, "IQ4_NL", 32, 18 },  { QUANT_IQ4_XS, "IQ4_XS", 256, 136 },
};

const struct quant_info *quant_find(uint32_t type, const char **name)
{
    /* ggml's list, for messages; holes are types that were removed */
    static const char *const known[] = {
        "F32", "F16", "Q4_0", "Q4_1", NULL, NULL, "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K",
        "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
        "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16", NULL, NULL, NULL, "TQ1_0",
        "TQ2_0", NULL, NULL, NULL, "MXFP4", "NVFP4", "Q1_0", "Q2_0",
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

/* The fifth bits of values 0 to 31, in this order. */
static unsigned fifth(uint32_t bits, int i) { return (bits >> i & 1u) << 4; }

static void block_q5_0(const unsigned char *b, float *out)
{
    uint32_t high = le32(b + 2);
    float d = half_at(b);

    for (int i = 0; i < 16; i++) {
        out[i] = (float)((int)((b[6 + i] & 15u) | fifth(high, i)) - 16) * d;
        out[i + 16] = (float)((int)((unsigned)(b[6 + i] >> 4) | fifth(high, i + 16)) - 16) * d;
    }
}

static void block_q5_1(const unsigned char *b, float *out)
{
    float d = half_at(b), m = half_at(b + 2);
    uint32_t high = le32(b + 4);

    for (int i = 0; i < 16; i++) {
        out[i] = (float)((b[8 + i] & 15u) | fifth(high, i)) * d + m;
        out[i + 16] = (float)((unsigned)(b[8 + i] >> 4) | fifth(high, i + 16)) * d + m;
    }
}

static void block_q8_0(const unsigned char *b, float *out)
{
    float d = half_at(b);

    for (int i = 0; i < 32; i++)
        out[i] = (float)(signed char)b[2 + i] * d;
}

/* Value 32 r + i of a half has its two bits at 2 r of byte i; one byte of scale and least value per 16 values. */
static void block_q2_k(const unsigned char *b, float *out)
{
    float d = half_at(b + 80), dmin = half_at(b + 82);

    for (int h = 0; h < 2; h++)
        for (int r = 0; r < 4; r++)
            for (int i = 0; i < 32; i++) {
                unsigned char s = b[8 * h + 2 * r + i / 16];
                float q = (float)(b[16 + 32 * h + i] >> (2 * r) & 3);

                out[128 * h + 32 * r + i] = d * (float)(s & 15) * q - dmin * (float)(s >> 4);
            }
}

/* Scale j of sixteen: low nibbles in bytes 0..7 (the last eight in their high halves), two high bits in bytes 8..11. */
static int k3_scale(const unsigned char *s, int j)
{
    return ((s[j % 8] >> (j < 8 ? 0 : 4) & 15) | (s[8 + j % 4] >> (2 * (j / 4)) & 3) << 4) - 32;
}

/* Two bits as in Q2_K; the third, from which 4 is taken away, is bit 4 h + r of byte i of the first 32. */
static void block_q3_k(const unsigned char *b, float *out)
{
    const unsigned char *low = b + 32, *scale = b + 96;
    float d = half_at(b + 108);

    for (int h = 0; h < 2; h++)
        for (int r = 0; r < 4; r++)
            for (int i = 0; i < 32; i++) {
                int q = (low[32 * h + i] >> (2 * r) & 3) | (b[i] >> (4 * h + r) & 1) << 2;

                out[128 * h + 32 * r + i] = d * (float)k3_scale(scale, 8 * h + 2 * r + i / 16) * (float)(q - 4);
            }
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

/* Nibbles of values 64 c .. 64 c + 31 are the low ones of bytes 32 c .., the next 32 values the high ones. Q5_K: the
 * fifth bit of value 32 j + i is bit j of high byte i. */
static void block_k45(const unsigned char *b, const unsigned char *high, const unsigned char *q, float *out)
{
    float d = half_at(b), dmin = half_at(b + 2);

    for (int j = 0; j < 8; j++) {
        unsigned scale, least, shift = j % 2 ? 4 : 0;
        float s, m;

        k4_scale(b + 4, j, &scale, &least);
        s = d * (float)scale;
        m = dmin * (float)least;
        for (int i = 0; i < 32; i++) {
            unsigned fifth_bit = high ? (high[i] >> j & 1u) << 4 : 0;

            out[32 * j + i] = s * (float)((q[32 * (j / 2) + i] >> shift & 15u) | fifth_bit) - m;
        }
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

/* What the nibbles of IQ4 stand for: ggml's table of 16 values, closer together around 0. */
static const signed char iq4_value[16] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
};

static void iq4_nibbles(float d, const unsigned char *q, float *out)
{
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)iq4_value[q[i] & 15];
        out[i + 16] = d * (float)iq4_value[q[i] >> 4];
    }
}

/* Eight sub-blocks; scale j has four bits in byte 4 + j / 2 and two in the 16 bits of bytes 2 and 3. */
static void block_iq4_xs(const unsigned char *b, float *out)
{
    unsigned high = le16(b + 2);
    float d = half_at(b);

    for (unsigned j = 0; j < 8; j++) {
        unsigned scale = ((unsigned)b[4 + j / 2] >> (4 * (j % 2)) & 15u) | (high >> (2 * j) & 3u) << 4;

        iq4_nibbles(d * (float)((int)scale - 32), b + 8 + 16 * j, out + 32 * j);
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
        case QUANT_Q5_0: block_q5_0(src, out); break;
        case QUANT_Q5_1: block_q5_1(src, out); break;
        case QUANT_Q8_0: block_q8_0(src, out); break;
        case QUANT_Q2_K: block_q2_k(src, out); break;
        case QUANT_Q3_K: block_q3_k(src, out); break;
        case QUANT_Q4_K: block_k45(src, NULL, src + 16, out); break;
        case QUANT_Q5_K: block_k45(src, src + 16, src + 48, out); break;
        case QUANT_Q6_K: block_q6_k(src, out); break;
        case QUANT_IQ4_NL: iq4_nibbles(half_at(src), src + 2, out); break;
        case QUANT_IQ4_XS: block_iq4_xs(src, out); break;
        }
}

/* Nibble of a word that holds output j of eight: AWQ's order for fast unpacking on GPUs. */
static const unsigned char awq_place[8] = { 0, 4, 1, 5, 2, 6, 3, 7 };

/* Zero points and scales of outputs n0 .. n0 + 7 in group g. */
static void group_of(const struct packed4 *p, uint32_t g, uint32_t n0, int zero[8], float scale[8])
{
    uint32_t z = le32(p->z + 4 * ((uint64_t)g * (p->n / 8) + n0 / 8));
    unsigned more = p->zeros == ZERO_EACH_LESS;

    if (p->zeros == ZERO_WORD_LESS)
        z += 0x11111111u;
    for (uint32_t j = 0; j < 8; j++) {
        unsigned place = p->packing == PACKED_AWQ ? awq_place[j] : j;

        zero[j] = (int)(((z >> (4 * place)) + more) & 15);
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
