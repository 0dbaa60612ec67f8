/* shape.c - reads a model's shape; every number is bounded so that later products cannot overflow. */
#include <math.h>
#include <string.h>

#include "base/home.h"
#include "base/json.h"
#include "models/model.h"

static int consistent(const struct model_shape *s, const char *path, struct err *e)
{
    if (s->dim % 32 || s->ffn % 32)
        return err_set(e, EXIT_USAGE, "%s: fields 'dim' (%u) and 'ffn' (%u) must be multiples of 32",
                       path, s->dim, s->ffn);
    if (s->head_dim % 16 || (s->n_head * s->head_dim) % 32)
        return err_set(e, EXIT_USAGE, "%s: field 'head_dim' (%u) must be a multiple of 16 and "
                       "n_head * head_dim of 32", path, s->head_dim);
    if (s->n_head % s->n_kv_head)
        return err_set(e, EXIT_USAGE, "%s: field 'n_head' (%u) must be a multiple of n_kv_head (%u)",
                       path, s->n_head, s->n_kv_head);
    return 0;
}

int shape_load(struct model_shape *s, const char *name, struct err *e)
{
    char path[4096], schema[32] = "";
    uint64_t v[8];
    double theta, eps;
    const struct json_field fields[] = {
        { "schema", JSON_K_TEXT, schema, 0, 0, sizeof schema, false },
        { "name", JSON_K_TEXT, s->name, 0, 0, sizeof s->name, false },
        { "n_layer", JSON_K_INT, &v[0], 1, 1024, 0, false },
        { "dim", JSON_K_INT, &v[1], 32, 65536, 0, false },
        { "n_head", JSON_K_INT, &v[2], 1, 1024, 0, false },
        { "n_kv_head", JSON_K_INT, &v[3], 1, 1024, 0, false },
        { "head_dim", JSON_K_INT, &v[4], 16, 512, 0, false },
        { "ffn", JSON_K_INT, &v[5], 32, 262144, 0, false },
        { "vocab", JSON_K_INT, &v[6], 2, 1048576, 0, false },
        { "max_context", JSON_K_INT, &v[7], 1, 16777216, 0, false },
        { "rope_theta", JSON_K_REAL, &theta, 1, 1e9, 0, false },
        { "norm_eps", JSON_K_REAL, &eps, 0, 0.1, 0, false },
        { "tied", JSON_K_BOOL, &s->tied, 0, 0, 0, false },
        { "qkv_bias", JSON_K_BOOL, &s->qkv_bias, 0, 0, 0, true },
        { "qk_norm", JSON_K_BOOL, &s->qk_norm, 0, 0, 0, true },
        { 0 },
    };

    memset(s, 0, sizeof *s);
    if (home_find("model", "models/shapes", name, ".json", path, sizeof path, e) ||
        json_read_fields(path, fields, e))
        return -1;
    if (strcmp(schema, "model-shape/1"))
        return err_set(e, EXIT_USAGE, "%s: field 'schema': '%s'; expected 'model-shape/1'", path,
                       schema);
    s->n_layer = (uint32_t)v[0];
    s->dim = (uint32_t)v[1];
    s->n_head = (uint32_t)v[2];
    s->n_kv_head = (uint32_t)v[3];
    s->head_dim = (uint32_t)v[4];
    s->ffn = (uint32_t)v[5];
    s->vocab = (uint32_t)v[6];
    s->max_context = (uint32_t)v[7];
    s->rope_theta = (float)theta;
    s->norm_eps = (float)eps;
    return consistent(s, path, e);
}

uint64_t model_kv_token_bytes(const struct model_shape *s, enum fmt kv)
{
    return kv_token_bytes(s->n_layer, s->n_kv_head, s->head_dim, kv);
}

uint32_t gain_length(const struct model_shape *s, enum gain which)
{
    switch (which) {
    case GAIN_Q:
    case GAIN_K: return s->head_dim;
    case GAIN_QKV_BIAS: return (s->n_head + 2 * s->n_kv_head) * s->head_dim;
    default: return s->dim;
    }
}

/* Llama 3 (its reference code and transformers' rope_utils): pairs that turn more than `high` times within the
 * original context stay, those that turn less than `low` times are slowed by factor, between them a blend. */
static double llama3(const struct model_shape *s, double f)
{
    double turns = (double)s->rope_context * f / 6.283185307179586;
    double low = (double)s->rope_low, high = (double)s->rope_high, slow = f / (double)s->rope_factor;
    double smooth = (turns - low) / (high - low);

    return turns > high ? f : turns < low ? slow : (1 - smooth) * slow + smooth * f;
}

void shape_frequencies(const struct model_shape *s, double *freq)
{
    uint32_t half = s->head_dim / 2;

    for (uint32_t i = 0; i < half; i++) {
        double f = pow((double)s->rope_theta, -(double)i / half);

        freq[i] = s->rope_scaling == ROPE_LLAMA3 ? llama3(s, f)
                : s->rope_scaling == ROPE_LINEAR ? f / (double)s->rope_factor : f;
    }
}
