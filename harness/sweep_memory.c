/* sweep_memory.c - what memory a sweep's runs get: the longest sequence, --kv as tokens, the pool of one format, and
 * whether weights and pool fit the device.
 *
 * Must stay true: strategies are compared at equal bytes; what does not fit is known before anything is loaded. */
#include "harness/sweep_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "harness/choice.h"
#include "harness/selection.h"

enum { KV_DEFAULT_SEQS = 4 };          /* default pool: this many sequences of the maximum length */

uint32_t sweep_max_len(const struct sweep *s)
{
    uint32_t n = 256;

    while (n < s->info.longest)
        n *= 2;
    return min_u32(n, s->shape.max_context);
}

/* "512MiB" or "8192tok" into tokens; `slots` holds the default. */
static int size_in_tokens(struct sweep *s, const char *option, const char *t, enum fmt fmt, uint64_t *out)
{
    uint64_t per = model_kv_token_bytes(&s->shape, fmt), slots = *out;
    size_t n = t ? strspn(t, "0123456789") : 0;
    int64_t v;

    if (t && n && !strcmp(t + n, "tok")) {
        char digits[24];

        snprintf(digits, sizeof digits, "%.*s", (int)n, t);
        if (parse_int(digits, KV_TILE, 1 << 30, &v))
            return err_set(s->e, EXIT_USAGE, "--%s %s: expected %d to %d tokens", option, t, KV_TILE,
                           1 << 30);
        slots = (uint64_t)v;
    } else if (t) {
        uint64_t bytes;

        if (!t[n] || parse_bytes(t, &bytes))
            return err_set(s->e, EXIT_USAGE, "--%s %s: expected bytes with a unit (512MiB) or tokens "
                           "(8192tok)", option, t);
        slots = bytes / per;
    }
    if (!t && slots < KV_TILE)
        return err_set(s->e, EXIT_USAGE, "--max-len %u: the default KV pool of %d such sequences is %llu tokens, fewer "
                       "than %d; give a longer --max-len, or the pool by --kv", s->max_len, KV_DEFAULT_SEQS,
                       (unsigned long long)slots, KV_TILE);
    if (slots < KV_TILE || slots > 1u << 30)
        return err_set(s->e, EXIT_USAGE, "--%s %s: that is %llu tokens of %llu bytes each; expected "
                       "%d to %d tokens", option, t ? t : "(default)", (unsigned long long)slots,
                       (unsigned long long)per, KV_TILE, 1 << 30);
    *out = slots;
    return 0;
}

int sweep_kv_size(struct sweep *s, enum fmt fmt)
{
    uint64_t slots = (uint64_t)s->max_len * KV_DEFAULT_SEQS, host = 0;

    if (!s->c->kv_text)
        slots = slots * model_kv_token_bytes(&s->shape, FMT_F16) / model_kv_token_bytes(&s->shape, fmt);
    if (size_in_tokens(s, "kv", s->c->kv_text, fmt, &slots) ||
        (s->c->host_kv_text && size_in_tokens(s, "host-kv", s->c->host_kv_text, fmt, &host)))
        return -1;
    s->kv_slots_asked = (uint32_t)slots;
    s->kv_bytes_asked = slots * model_kv_token_bytes(&s->shape, fmt);
    s->host_slots = (uint32_t)host / KV_TILE * KV_TILE;
    return 0;
}

int sweep_pool(struct sweep *s, enum fmt fmt)
{
    if (s->kv.n_slot && s->kv.fmt == fmt)
        return 0;
    dev_kv_close(&s->dev, &s->kv);
    if (sweep_kv_size(s, fmt))
        return -1;
    return dev_kv_open(&s->dev, &s->kv, s->shape.n_layer, s->shape.n_kv_head, s->shape.head_dim, fmt,
                       s->kv_slots_asked, s->e);
}

int sweep_too_big(struct sweep *s, const struct strategy *st, struct model *would, struct validity *v)
{
    const struct weight_source *source = loaded_source(&s->models, st, s->e);
    struct wfmt *fmt = source ? choice_formats(st, s->shape.n_layer, s->e) : NULL;
    double gib = 1 / 0x1p30, mem = (double)s->dev.mem_bytes, left;
    char out[160], device[64];

    if (!fmt)
        return -1;
    *would = (struct model){ .shape = s->shape, .is_synthetic = source->is_synthetic };
    would->weight_bytes = model_weight_bytes(&s->shape, fmt, s->dev.ops->act_bytes);
    memcpy(would->about, source->about, sizeof would->about);
    free(fmt);
    if (!s->dev.mem_bytes || would->weight_bytes + s->kv.bytes <= s->dev.mem_bytes)
        return 0;
    left = (mem - (double)would->weight_bytes) * 0.95 / 0x1p20;       /* steps need a little, too */
    if (left >= 1)
        snprintf(out, sizeof out, "give --kv %.0fMiB or less, weights in fewer bits, or a larger device", floor(left));
    else
        snprintf(out, sizeof out, "give weights in fewer bits, a smaller model or a larger device");
    backend_str(s->dev.label, device, sizeof device);
    v->word = "invalid";
    snprintf(v->reasons, sizeof v->reasons, "does not fit: weights %.2f GiB + KV pool %.2f GiB = %.2f GiB, but %s has "
             "%.2f GiB; %s", gib * (double)would->weight_bytes, gib * (double)s->kv.bytes,
             gib * ((double)would->weight_bytes + (double)s->kv.bytes), device, gib * mem, out);
    return 1;
}
