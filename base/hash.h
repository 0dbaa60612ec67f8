/* hash.h - 64-bit mixing for identities and seeds, xoshiro256** for draws, SHA-256 for files.
 *
 * mix64 is the finaliser of SplitMix64 (Steele, Lea, Flood 2014); rng is xoshiro256** (Blackman,
 * Vigna 2018), seeded through SplitMix64. None of this is for security. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

static inline uint64_t mix64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Order matters: hash64(a, b) differs from hash64(b, a). */
static inline uint64_t hash64(uint64_t h, uint64_t x)
{
    return mix64(h ^ mix64(x));
}

uint64_t hash64_bytes(uint64_t seed, const void *data, size_t n);

struct rng { uint64_t s[4]; };

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
double rng_unit(struct rng *r);                    /* in [0, 1), 53 bits */
uint64_t rng_below(struct rng *r, uint64_t n);     /* uniform in [0, n), n >= 1 */
double rng_normal(struct rng *r);                  /* mean 0, sd 1 (polar method) */
double rng_gamma(struct rng *r, double shape);     /* scale 1; Marsaglia and Tsang 2000 */

enum { SHA256_HEX = 65 };                          /* 64 digits and NUL */
void sha256_hex(const void *data, size_t n, char out[SHA256_HEX]);
int sha256_file(const char *path, char out[SHA256_HEX], struct err *e);

#endif
