#include "models/hf_config.h"

#include <string.h>
#include <strings.h>

#include "models/model_json.h"
#include "models/load.h"

enum { CONFIG_MOST = 4 << 20 };        /* bytes */

struct reader { const char *path; json_t *root; struct err *e; };

/* A field that is there and not null. */
static json_t *field(json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);

    return json_is_null(v) ? NULL : v;
}

static int get_whole(struct reader *r, json_t *o, const char *key, double min, double max, uint32_t *out)
{
    json_t *v = field(o, key);
    double x = (double)json_integer_value(v);

    if (!v)
        return err_set(r->e, EXIT_USAGE, "%s: field '%s' is missing; expected a whole number", r->path, key);
    if (!json_is_integer(v) || x < min || x > max)
        return err_set(r->e, EXIT_USAGE, "%s: field '%s': expected a whole number of %.0f to %.0f", r->path,
                       key, min, max);
    *out = (uint32_t)json_integer_value(v);
    return 0;
}

/* absent < 0: the field must be there. */
static int get_real(struct reader *r, json_t *o, const char *key, double min, double max, double absent,
                    float *out)
{
    json_t *v = field(o, key);
    double x = v ? json_number_value(v) : absent;

    if (!v && absent < 0)
        return err_set(r->e, EXIT_USAGE, "%s: field '%s' is missing; expected a number", r->path, key);
    if ((v && !json_is_number(v)) || !(x >= min && x <= max))
        return err_set(r->e, EXIT_USAGE, "%s: field '%s': expected a number of %g to %g", r->path, key, min,
                       max);
    *out = (float)x;
    return 0;
}

static int get_bool(struct reader *r, json_t *o, const char *key, bool absent, bool *out)
{
    json_t *v = field(o, key);

    *out = v ? json_is_true(v) : absent;
    if (v && !json_is_boolean(v))
        return err_set(r->e, EXIT_USAGE, "%s: field '%s': expected true or false", r->path, key);
    return 0;
}

/* A short text; "" when it is not there. */
static int get_text(struct reader *r, json_t *o, const char *key, char out[24])
{
    json_t *v = field(o, key);
    char shown[MAP_SHOW];

    out[0] = 0;
    if (!v)
        return 0;
    if (!json_is_string(v) || json_string_length(v) >= 24)
        return err_set(r->e, EXIT_USAGE, "%s: field '%s': %s; expected a short word", r->path, key,
                       json_is_string(v) ? map_show(json_string_value(v), json_string_length(v), shown)
                                         : "not text");
    map_show(json_string_value(v), json_string_length(v), shown);
    memcpy(out, shown, json_string_length(v) + 1);
    return 0;
}

static int read_type(struct reader *r, struct hf_config *c)
{
    static const char *const known[] = { "llama", "mistral", "qwen2", "qwen3" };
    char type[24];

    if (get_text(r, r->root, "model_type", type))
        return -1;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(type, known[i])) {
            memcpy(c->type, known[i], strlen(known[i]) + 1);
            return 0;
        }
    return err_set(r->e, EXIT_USAGE, "%s: field 'model_type': '%s' is not supported; expected llama (SmolLM2 too), "
                   "mistral, qwen2 or qwen3", r->path, type);
}

static int read_sizes(struct reader *r, struct hf_config *c)
{
    struct model_shape *s = &c->shape;
    json_t *o = r->root;

    if (get_whole(r, o, "num_hidden_layers", 1, 1024, &s->n_layer) ||
        get_whole(r, o, "hidden_size", 32, 65536, &s->dim) ||
        get_whole(r, o, "num_attention_heads", 1, 1024, &s->n_head) ||
        get_whole(r, o, "intermediate_size", 32, 262144, &s->ffn) ||
        get_whole(r, o, "vocab_size", 2, 1048576, &s->vocab) ||
        get_whole(r, o, "max_position_embeddings", 1, 16777216, &s->max_context) ||
        get_real(r, o, "rms_norm_eps", 0, 0.1, -1, &s->norm_eps) ||
        get_bool(r, o, "tie_word_embeddings", false, &s->tied))
        return -1;
    s->n_kv_head = s->n_head;                   /* Llama 1 and 2 leave it out */
    if ((field(o, "num_key_value_heads") || strcmp(c->type, "llama")) &&
        get_whole(r, o, "num_key_value_heads", 1, 1024, &s->n_kv_head))
        return -1;
    s->head_dim = s->dim / s->n_head;
    if (field(o, "head_dim") || !strcmp(c->type, "qwen3"))
        return get_whole(r, o, "head_dim", 16, 512, &s->head_dim);
    if (s->dim % s->n_head)
        return err_set(r->e, EXIT_USAGE, "%s: field 'hidden_size' (%u) is no multiple of num_attention_heads (%u); "
                       "expected that, or a field 'head_dim'", r->path, s->dim, s->n_head);
    return 0;
}

/* rope_scaling beside rope_theta in older files, both inside rope_parameters in newer ones. */
static int read_rope(struct reader *r, struct model_shape *s)
{
    json_t *in = field(r->root, "rope_parameters"), *o = in ? in : field(r->root, "rope_scaling");
    float part = 1;
    char type[24];

    if (get_real(r, in && field(in, "rope_theta") ? in : r->root, "rope_theta", 1, 1e9, 10000,
                 &s->rope_theta) ||
        get_real(r, in ? in : r->root, "partial_rotary_factor", 0, 1, 1, &part))
        return -1;
    if (part < 1)
        return err_set(r->e, EXIT_USAGE, "%s: field 'partial_rotary_factor': %g is not supported; expected 1",
                       r->path, (double)part);
    if (!o)
        return 0;
    if (!json_is_object(o))
        return err_set(r->e, EXIT_USAGE, "%s: field 'rope_scaling': expected an object", r->path);
    if (get_text(r, o, field(o, "rope_type") ? "rope_type" : "type", type))
        return -1;
    if (!*type && field(o, "factor"))
        return err_set(r->e, EXIT_USAGE, "%s: field 'rope_scaling': a factor without a rope_type; expected one of "
                       "default, linear or llama3", r->path);
    if (!*type || !strcmp(type, "default"))
        return 0;
    if (get_real(r, o, "factor", 1, 1e6, -1, &s->rope_factor))
        return -1;
    if (!strcmp(type, "linear")) {
        s->rope_scaling = ROPE_LINEAR;
        return 0;
    }
    if (strcmp(type, "llama3"))
        return err_set(r->e, EXIT_USAGE, "%s: field 'rope_scaling': type '%s' is not supported; expected default, "
                       "linear or llama3", r->path, type);
    s->rope_scaling = ROPE_LLAMA3;
    if (get_real(r, o, "low_freq_factor", 1e-3, 1e6, -1, &s->rope_low) ||
        get_real(r, o, "high_freq_factor", 1e-3, 1e6, -1, &s->rope_high) ||
        get_whole(r, o, "original_max_position_embeddings", 1, 16777216, &s->rope_context))
        return -1;
    if (s->rope_high <= s->rope_low)
        return err_set(r->e, EXIT_USAGE, "%s: field 'high_freq_factor': %g; expected more than low_freq_factor, %g",
                       r->path, (double)s->rope_high, (double)s->rope_low);
    return 0;
}

static int refuse_true(struct reader *r, const char *key, const char *why)
{
    bool v = false;

    if (get_bool(r, r->root, key, false, &v))
        return -1;
    return v ? err_set(r->e, EXIT_USAGE, "%s: field '%s' is true: %s is not supported; choose another model",
                       r->path, key, why) : 0;
}

static int check_layer_types(struct reader *r)
{
    json_t *list = field(r->root, "layer_types"), *v;
    size_t i;

    if (list && !json_is_array(list))
        return err_set(r->e, EXIT_USAGE, "%s: field 'layer_types': expected a list", r->path);
    json_array_foreach(list, i, v)
        if (!json_is_string(v) || strcmp(json_string_value(v), "full_attention"))
            return err_set(r->e, EXIT_USAGE, "%s: field 'layer_types', entry %zu: only full_attention is supported; "
                           "choose another model", r->path, i);
    return 0;
}

static int check_rest(struct reader *r, struct hf_config *c)
{
    bool qwen2 = !strcmp(c->type, "qwen2");
    char act[24];
    double window = json_number_value(field(r->root, "sliding_window"));

    if (get_text(r, r->root, "hidden_act", act))
        return -1;
    if (*act && strcmp(act, "silu"))
        return err_set(r->e, EXIT_USAGE, "%s: field 'hidden_act': '%s' is not supported; expected silu", r->path,
                       act);
    if (!strcmp(c->type, "mistral") && !json_object_get(r->root, "sliding_window"))
        return err_set(r->e, EXIT_USAGE, "%s: field 'sliding_window' is missing, which means 4096 in a Mistral model: "
                       "attention within a window is not supported; expected null (from v0.2 on)", r->path);
    if (!strcmp(c->type, "mistral") && field(r->root, "sliding_window"))
        return err_set(r->e, EXIT_USAGE, "%s: field 'sliding_window' is %.0f: attention within a window is not "
                       "supported; expected null (Mistral from v0.2 on)", r->path, window);
    if (refuse_true(r, "use_sliding_window", "attention within a window") || check_layer_types(r) ||
        refuse_true(r, "mlp_bias", "a bias in the feed-forward block"))
        return -1;
    c->shape.qkv_bias = qwen2;
    c->shape.qk_norm = !strcmp(c->type, "qwen3");
    return qwen2 ? 0 : refuse_true(r, "attention_bias", "a bias after the attention's output");
}

/* ---- checkpoints that were quantised ---- */
static int read_group(struct reader *r, json_t *q, struct hf_config *c, const char *key)
{
    json_t *v = field(q, key);

    if (json_is_integer(v) && json_integer_value(v) == -1)
        return 0;                               /* one scale for all inputs */
    if (get_whole(r, q, key, 8, 65536, &c->group))
        return -1;
    if (c->group % 8)
        return err_set(r->e, EXIT_USAGE, "%s: field '%s': %u; expected a multiple of 8", r->path, key, c->group);
    return 0;
}

static int read_bits(struct reader *r, json_t *q, const char *key)
{
    uint32_t bits;

    if (get_whole(r, q, key, 1, 32, &bits))
        return -1;
    if (bits != 4)
        return err_set(r->e, EXIT_USAGE, "%s: field '%s': %u-bit weights are not supported; expected 4", r->path,
                       key, bits);
    return 0;
}

static int read_awq(struct reader *r, json_t *q, struct hf_config *c)
{
    char version[24];
    bool zero;

    c->packing = HF_AWQ;
    if (read_bits(r, q, field(q, "bits") ? "bits" : "w_bit") ||
        read_group(r, q, c, field(q, "group_size") ? "group_size" : "q_group_size") ||
        get_text(r, q, "version", version) || get_bool(r, q, "zero_point", true, &zero))
        return -1;
    if (*version && strcasecmp(version, "gemm"))
        return err_set(r->e, EXIT_USAGE, "%s: field 'version': AWQ packing '%s' is not supported; expected gemm",
                       r->path, version);
    if (!zero)
        return err_set(r->e, EXIT_USAGE, "%s: field 'zero_point' is false: AWQ without zero points is not "
                       "supported; expected true", r->path);
    return 0;
}

/* meta.quantizer, "gptqmodel:4.0.0" or a list of such: whether it names GPTQModel first. */
static bool by_gptqmodel(json_t *q)
{
    json_t *v = json_object_get(field(q, "meta"), "quantizer");
    const char *name = json_string_value(json_is_array(v) ? json_array_get(v, 0) : v);

    return name && !strncmp(name, "gptqmodel:", 10);
}

static int read_gptq(struct reader *r, json_t *q, struct hf_config *c)
{
    char format[24];
    bool desc_act;

    c->packing = HF_GPTQ;
    if (read_bits(r, q, "bits") || read_group(r, q, c, "group_size") ||
        get_bool(r, q, "desc_act", false, &desc_act) || get_text(r, q, "checkpoint_format", format))
        return -1;
    if (desc_act)
        return err_set(r->e, EXIT_USAGE, "%s: field 'desc_act' is true: inputs in activation order are not "
                       "supported, since groups are then no neighbours; choose a checkpoint with desc_act "
                       "false", r->path);
    if (*format && strcmp(format, "gptq") && strcmp(format, "gptq_v2"))
        return err_set(r->e, EXIT_USAGE, "%s: field 'checkpoint_format': '%s' is not supported; expected gptq or "
                       "gptq_v2", r->path, format);
    if (strcmp(format, "gptq_v2"))
        c->zeros = by_gptqmodel(q) ? ZERO_WORD_LESS : ZERO_EACH_LESS;
    return 0;
}

static int read_quantisation(struct reader *r, struct hf_config *c)
{
    json_t *q = field(r->root, "quantization_config");
    char method[24];

    if (!q)
        return 0;
    if (get_text(r, q, "quant_method", method))
        return -1;
    if (!strcmp(method, "awq"))
        return read_awq(r, q, c);
    if (!strcmp(method, "gptq"))
        return read_gptq(r, q, c);
    return err_set(r->e, EXIT_USAGE, "%s: field 'quant_method': '%s' is not supported; expected awq or gptq, or a "
                   "checkpoint that is not quantised", r->path, method);
}

int hf_config_read(struct hf_config *c, const char *path, struct err *e)
{
    struct reader r = { .path = path, .root = model_json_file(path, CONFIG_MOST, e), .e = e };
    int rc;

    memset(c, 0, sizeof *c);
    if (!r.root)
        return -1;
    rc = read_type(&r, c) || read_sizes(&r, c) || read_rope(&r, &c->shape) || check_rest(&r, c) ||
         read_quantisation(&r, c) || shape_bounds(&c->shape, path, e) ? -1 : 0;
    json_decref(r.root);
    return rc;
}
