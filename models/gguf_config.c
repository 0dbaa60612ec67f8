#include "models/gguf_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/load.h"
#include "models/quants.h"

struct reader {
    const struct gguf *g;
    char arch[16], key[80];            /* key: "llama.block_count", made by at() */
    struct err *e;
};

static const char *at(struct reader *r, const char *name)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->arch, name);
    return r->key;
}

static bool has(struct reader *r, const char *name) { return gguf_find(r->g, at(r, name)) != NULL; }

static int whole(struct reader *r, const char *name, int64_t min, int64_t max, uint32_t *out)
{
    int64_t v;

    if (gguf_int(r->g, at(r, name), min, max, &v, r->e))
        return -1;
    *out = (uint32_t)v;
    return 0;
}

static int real(struct reader *r, const char *name, double min, double max, float *out)
{
    double v;

    if (gguf_real(r->g, at(r, name), min, max, &v, r->e))
        return -1;
    *out = (float)v;
    return 0;
}

/* llama-gguf-split's key: this file alone lacks tensors. */
static int check_split(const struct gguf *g, struct err *e)
{
    int64_t n = 1;

    if (gguf_find(g, "split.count") && gguf_int(g, "split.count", 0, 65535, &n, e))
        return -1;
    return n < 2 ? 0 : err_set(e, EXIT_USAGE, "%s: key 'split.count': one of %lld files of a model; expected a whole "
                               "one, llama-gguf-split --merge joins them", g->map.path, (long long)n);
}

static int read_arch(struct reader *r)
{
    static const char *const known[] = { "llama", "qwen2", "qwen3" };
    char shown[MAP_SHOW];
    struct gguf_str s;

    if (gguf_text(r->g, "general.architecture", &s, r->e))
        return -1;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (gguf_is(s, known[i])) {
            memcpy(r->arch, known[i], strlen(known[i]) + 1);
            return 0;
        }
    return err_set(r->e, EXIT_USAGE, "%s: key 'general.architecture': '%s' is not supported; expected llama (Mistral "
                   "and SmolLM2 too), qwen2 or qwen3", r->g->map.path, map_show(s.p, s.n, shown));
}

/* Sizes that may be given besides those that follow from others: they must agree. */
static int must_equal(struct reader *r, const char *name, uint32_t want, const char *why)
{
    uint32_t v = want;

    if (has(r, name) && whole(r, name, 0, UINT32_MAX, &v))
        return -1;
    return v == want ? 0 : err_set(r->e, EXIT_USAGE, "%s: key '%s': %u is not supported; expected %u%s",
                                   r->g->map.path, at(r, name), v, want, why);
}

static int read_sizes(struct reader *r, struct model_shape *s)
{
    const struct gguf_tensor *embed = gguf_find_tensor(r->g, "token_embd.weight");

    if (whole(r, "block_count", 1, 1024, &s->n_layer) ||
        whole(r, "embedding_length", 32, 65536, &s->dim) ||
        whole(r, "attention.head_count", 1, 1024, &s->n_head) ||
        whole(r, "feed_forward_length", 32, 262144, &s->ffn) ||
        whole(r, "context_length", 1, 16777216, &s->max_context) ||
        real(r, "attention.layer_norm_rms_epsilon", 0, 0.1, &s->norm_eps))
        return -1;
    s->n_kv_head = s->n_head;
    if (has(r, "attention.head_count_kv") && whole(r, "attention.head_count_kv", 1, 1024, &s->n_kv_head))
        return -1;
    s->head_dim = s->dim / s->n_head;
    if (has(r, "attention.key_length") && whole(r, "attention.key_length", 16, 512, &s->head_dim))
        return -1;
    if (!embed || embed->dim[1] < 2 || embed->dim[1] > 1048576)
        return err_set(r->e, EXIT_USAGE, "%s: tensor 'token_embd.weight' %s; expected a table of 2 to 1048576 tokens",
                       r->g->map.path, embed ? "has no or too many rows" : "is missing");
    s->vocab = (uint32_t)embed->dim[1];
    s->tied = !gguf_find_tensor(r->g, "output.weight");
    return 0;
}

static int check_rest(struct reader *r, struct model_shape *s)
{
    if (must_equal(r, "attention.value_length", s->head_dim, ", as of keys") ||
        must_equal(r, "rope.dimension_count", s->head_dim, ": the whole head rotates") ||
        must_equal(r, "expert_count", 0, ": mixtures of experts have another pass") ||
        must_equal(r, "attention.sliding_window", 0, ": attention within a window has another pass") ||
        must_equal(r, "vocab_size", s->vocab, ", the rows of token_embd.weight"))
        return -1;
    s->qkv_bias = !strcmp(r->arch, "qwen2") || gguf_find_tensor(r->g, "blk.0.attn_q.bias");
    s->qk_norm = !strcmp(r->arch, "qwen3");
    return 0;
}

/* Llama 3's factor for one frequency, as Hugging Face and llama.cpp's converter have it. */
static double llama3_factor(const struct model_shape *s, uint32_t i)
{
    double turn = 6.283185307179586 * pow((double)s->rope_theta, 2.0 * i / s->head_dim);
    double smooth = (s->rope_context / turn - (double)s->rope_low) /
                    (double)(s->rope_high - s->rope_low);

    if (smooth >= 1)
        return 1;
    return smooth <= 0 ? (double)s->rope_factor : 1 / ((1 - smooth) / (double)s->rope_factor + smooth);
}

/* Converters of Llama 3 write only the factors, not what made them; all published models have these three
 * numbers. Taken when every factor agrees, refused otherwise. */
static int read_factors(struct reader *r, const struct gguf_tensor *t, struct model_shape *s)
{
    uint32_t half = s->head_dim / 2;
    float f[256];

    if (t->dim[0] != half || t->n_dim != 1 || t->type != QUANT_F32)
        return err_set(r->e, EXIT_USAGE, "%s: tensor 'rope_freqs.weight': %llu values of type %u; expected %u of F32",
                       r->g->map.path, (unsigned long long)t->dim[0], t->type, half);
    quant_row(QUANT_F32, t->data, half, f);
    s->rope_scaling = ROPE_LLAMA3;
    s->rope_factor = f[half - 1];
    s->rope_low = 1;
    s->rope_high = 4;
    s->rope_context = 8192;
    for (uint32_t i = 0; i < half; i++)
        if (!(s->rope_factor >= 1 && s->rope_factor <= 1e6f) ||
            !(fabs((double)f[i] / llama3_factor(s, i) - 1) < 1e-3))
            return err_set(r->e, EXIT_USAGE, "%s: tensor 'rope_freqs.weight', entry %u: %g; expected %g by Llama 3's "
                           "rule (other scalings of RoPE are not supported)", r->g->map.path, i, (double)f[i],
                           llama3_factor(s, i));
    return 0;
}

/* As llama.cpp: a factor without a type is linear; of its two names the newer one counts. */
static int read_scaling(struct reader *r, struct model_shape *s)
{
    bool is_old = has(r, "rope.scale_linear") && !has(r, "rope.scaling.factor");
    const char *name = is_old ? "rope.scale_linear" : "rope.scaling.factor";
    char shown[MAP_SHOW];
    struct gguf_str kind = { "linear", 6 };

    if (has(r, "rope.scaling.type") && gguf_text(r->g, r->key, &kind, r->e))
        return -1;
    if (!gguf_is(kind, "none") && !gguf_is(kind, "linear"))
        return err_set(r->e, EXIT_USAGE, "%s: key '%s': '%s' is not supported; expected none or linear",
                       r->g->map.path, at(r, "rope.scaling.type"), map_show(kind.p, kind.n, shown));
    if (gguf_is(kind, "none") || (!has(r, "rope.scaling.type") && !has(r, name)))
        return 0;
    s->rope_scaling = ROPE_LINEAR;
    return real(r, name, 1, 1e6, &s->rope_factor);
}

static int read_rope(struct reader *r, struct model_shape *s)
{
    const struct gguf_tensor *factors = gguf_find_tensor(r->g, "rope_freqs.weight");

    float attention = 1;                        /* what llama.cpp multiplies sines and cosines by */

    s->rope_theta = 10000;
    if ((has(r, "rope.freq_base") && real(r, "rope.freq_base", 1, 1e9, &s->rope_theta)) ||
        (has(r, "rope.scaling.attn_factor") && real(r, "rope.scaling.attn_factor", 1, 1, &attention)) ||
        read_scaling(r, s))
        return -1;
    if (factors && s->rope_scaling != ROPE_PLAIN)
        return err_set(r->e, EXIT_USAGE, "%s: tensor 'rope_freqs.weight' beside key '%s'; expected one of the two",
                       r->g->map.path, r->key);
    return factors ? read_factors(r, factors, s) : 0;
}

int gguf_config(const struct gguf *g, struct model_shape *s, bool *paired, struct err *e)
{
    struct reader r = { .g = g, .e = e };

    memset(s, 0, sizeof *s);
    if (check_split(g, e) || read_arch(&r) || read_sizes(&r, s) || shape_bounds(s, g->map.path, e) ||
        check_rest(&r, s) || read_rope(&r, s))
        return -1;
    *paired = !strcmp(r.arch, "llama");
    return 0;
}
