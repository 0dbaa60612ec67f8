/* num.h - numbers from outside: parsed whole, range-checked, never wrapped. */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 0 and *out when the whole of text is a decimal integer in [min, max]; -1 otherwise. */
int parse_int(const char *text, int64_t min, int64_t max, int64_t *out);
/* A finite decimal number in [min, max]; no hex, inf, nan, leading blanks. */
int parse_real(const char *text, double min, double max, double *out);
/* "4096", "64KiB", "1.5MiB", "2GB": bytes. */
int parse_bytes(const char *text, uint64_t *out);

static inline bool mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}
static inline uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }
static inline uint32_t ceil_div_u32(uint32_t a, uint32_t b) { return a / b + (a % b != 0); }

#endif
