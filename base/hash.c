#include "base/hash.h"

#include <errno.h>
#include <math.h>
#include <sha256.h>
#include <stdio.h>
#include <string.h>

uint64_t hash64_bytes(uint64_t seed, const void *data, size_t n)
{
    const unsigned char *p = data;
    uint64_t h = mix64(seed ^ n);

    for (; n >= 8; n -= 8, p += 8) {
        uint64_t w;

        memcpy(&w, p, 8);
        h = hash64(h, w);
    }
    if (n) {
        uint64_t w = 0;

        memcpy(&w, p, n);
        h = hash64(h, w);
    }
    return h;
}

void rng_seed(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = mix64(seed + (uint64_t)i * 0x9e3779b97f4a7c15u);
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t rng_next(struct rng *r)
{
    uint64_t out = rotl(r->s[1] * 5, 7) * 9, t = r->s[1] << 17;

    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = rotl(r->s[3], 45);
    return out;
}

double rng_unit(struct rng *r)
{
    return (double)(rng_next(r) >> 11) * 0x1p-53;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;

    do
        x = rng_next(r);
    while (x >= limit);
    return x % n;
}

double rng_normal(struct rng *r)
{
    double u, v, s;

    do {
        u = 2 * rng_unit(r) - 1;
        v = 2 * rng_unit(r) - 1;
        s = u * u + v * v;
    } while (s >= 1 || s == 0);
    return u * sqrt(-2 * log(s) / s);
}

double rng_gamma(struct rng *r, double shape)
{
    double boost = 1, d, c;

    if (shape < 1) {
        boost = pow(1 - rng_unit(r), 1 / shape);
        shape += 1;
    }
    d = shape - 1.0 / 3;
    c = 1 / sqrt(9 * d);
    for (;;) {
        double x = rng_normal(r), v = 1 + c * x;

        if (v <= 0)
            continue;
        v = v * v * v;
        if (log(1 - rng_unit(r)) < 0.5 * x * x + d - d * v + d * log(v))
            return boost * d * v;
    }
}

static void hex(const unsigned char *digest, char out[SHA256_HEX])
{
    for (int i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void sha256_hex(const void *data, size_t n, char out[SHA256_HEX])
{
    SHA2_CTX ctx;
    unsigned char digest[32];

    SHA256Init(&ctx);
    SHA256Update(&ctx, data, n);
    SHA256Final(digest, &ctx);
    hex(digest, out);
}

int sha256_file(const char *path, char out[SHA256_HEX], struct err *e)
{
    unsigned char buf[1 << 16], digest[32];
    SHA2_CTX ctx;
    FILE *f = fopen(path, "rb");
    size_t n;
    int why;

    if (!f)
        return err_set(e, EXIT_USAGE, "%s: cannot open: %s", path, strerror(errno));
    SHA256Init(&ctx);
    while ((n = fread(buf, 1, sizeof buf, f)) > 0)
        SHA256Update(&ctx, buf, n);
    why = ferror(f) ? errno : 0;       /* fclose may change errno */
    fclose(f);
    if (why)
        return err_set(e, EXIT_USAGE, "%s: cannot read: %s", path, strerror(why));
    SHA256Final(digest, &ctx);
    hex(digest, out);
    return 0;
}
