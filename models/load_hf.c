/* load_hf.c - weights of a Hugging Face snapshot: config.json and safetensors, plain or 4-bit AWQ and GPTQ.
 *
 * All tensors are found and their shapes compared with config.json before the first row is read. A tensor that
 * nothing uses is refused, unless it is known not to matter: then the model would not be the one that ran. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "models/hf_config.h"
#include "models/load.h"
#include "models/parts.h"
#include "models/quants.h"
#include "models/safetensors.h"

enum { PANEL = 64 };                   /* outputs of a packed matrix that are decoded at once */

static const char *const part_name[PART_LAYER_N] = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
    "mlp.up_proj", "mlp.down_proj"
};
static const char *const gain_name[GAIN_N] = {
    [GAIN_ATTENTION] = "input_layernorm.weight", [GAIN_FFN] = "post_attention_layernorm.weight",
    [GAIN_Q] = "self_attn.q_norm.weight", [GAIN_K] = "self_attn.k_norm.weight",
};

struct matrix { const struct st_tensor *plain; struct packed4 packed; };   /* plain NULL: packed */
struct layer_files { struct matrix part[PART_LAYER_N]; const struct st_tensor *gain[GAIN_N], *bias[3]; };
struct hf {
    struct hf_config config;
    struct safetensors st;
    struct layer_files *layer;
    struct matrix embed, head;
    const struct st_tensor *norm;
    bool *used;                        /* [st.n] */
    float *panel;                      /* [PANEL][k] of panel_of, from output panel_n0 */
    const struct matrix *panel_of;
    uint32_t panel_n0;
    struct arena arena;
};

/* ---- finding ---- */
static const struct st_tensor *use(struct hf *h, const char *name)
{
    const struct st_tensor *t = safetensors_find(&h->st, name);

    if (t)
        h->used[t - h->st.tensor] = true;
    return t;
}

/* A tensor that must be there, with this many dimensions and sizes. */
static const struct st_tensor *want(struct hf *h, const char *name, uint32_t n_dim, uint64_t a, uint64_t b,
                                    struct err *e)
{
    const struct st_tensor *t = use(h, name);

    if (!t) {
        err_set(e, EXIT_USAGE, "%s: tensor '%s' is missing; expected it in a %s model, fetch the snapshot again",
                h->st.file[0].path, name, h->config.type);
        return NULL;
    }
    if (t->n_dim == n_dim && t->dim[0] == a && (n_dim < 2 || t->dim[1] == b))
        return t;
    err_set(e, EXIT_USAGE, n_dim < 2 ? "%s: header, tensor '%s': shape [%llu%s]; expected [%llu] by config.json"
            : "%s: header, tensor '%s': shape [%llu%s]; expected [%llu, %llu] by config.json", t->file->path,
            name, (unsigned long long)(t->n_dim ? t->dim[0] : 0), t->n_dim > 1 ? ", ..." : "",
            (unsigned long long)a, (unsigned long long)b);
    return NULL;
}

static const struct st_tensor *want_type(struct hf *h, const char *name, uint32_t n_dim, uint64_t a,
                                         uint64_t b, enum st_type type, struct err *e)
{
    const struct st_tensor *t = want(h, name, n_dim, a, b, e);

    if (t && (type == ST_TYPE_N ? t->type > ST_BF16 : t->type != type)) {
        err_set(e, EXIT_USAGE, "%s: header, tensor '%s': dtype %s; expected %s", t->file->path, name,
                st_type_name[t->type], type == ST_TYPE_N ? "F32, F16 or BF16" : st_type_name[type]);
        return NULL;
    }
    return t;
}

static int find_plain(struct hf *h, const char *name, uint32_t n, uint32_t k, struct matrix *m,
                      struct err *e)
{
    m->plain = want_type(h, name, 2, n, k, ST_TYPE_N, e);
    return m->plain ? 0 : -1;
}

/* GPTQ lists every input's group; only neighbours in order are handled (desc_act false). */
static int check_order(struct hf *h, const char *base, const struct packed4 *p, struct err *e)
{
    const struct st_tensor *t;
    char name[128];

    snprintf(name, sizeof name, "%s.g_idx", base);
    if (!safetensors_find(&h->st, name))
        return 0;
    t = want_type(h, name, 1, p->k, 0, ST_I32, e);
    for (uint32_t i = 0; t && i < p->k; i++)
        if (le32(t->data + 4 * (size_t)i) != i / p->group)
            return err_set(e, EXIT_USAGE, "%s: tensor '%s', entry %u: group %u; expected %u: inputs in activation "
                           "order (desc_act) are not supported, choose another checkpoint", t->file->path,
                           name, i, le32(t->data + 4 * (size_t)i), i / p->group);
    return t ? 0 : -1;
}

static int find_packed(struct hf *h, const char *base, uint32_t n, uint32_t k, struct matrix *m,
                       struct err *e)
{
    uint32_t group = h->config.group ? h->config.group : k;
    bool awq = h->config.packing == HF_AWQ;
    const struct st_tensor *q, *z, *s;
    char name[128];

    if (n % 8 || k % 8 || k % group)
        return err_set(e, EXIT_USAGE, "%s: tensor '%s.qweight': %u outputs of %u inputs; expected multiples of 8 and "
                       "of the group, %u", h->st.file[0].path, base, n, k, group);
    snprintf(name, sizeof name, "%s.qweight", base);
    q = want_type(h, name, 2, awq ? k : k / 8, awq ? n / 8 : n, ST_I32, e);
    snprintf(name, sizeof name, "%s.qzeros", base);
    z = q ? want_type(h, name, 2, k / group, n / 8, ST_I32, e) : NULL;
    snprintf(name, sizeof name, "%s.scales", base);
    s = z ? want_type(h, name, 2, k / group, n, ST_F16, e) : NULL;
    if (!s)
        return -1;
    m->plain = NULL;
    m->packed = (struct packed4){ awq ? PACKED_AWQ : PACKED_GPTQ, n, k, group, h->config.zeros, q->data,
                                  z->data, s->data };
    return awq ? 0 : check_order(h, base, &m->packed, e);
}

static int find_part(struct hf *h, uint32_t l, enum part p, struct err *e)
{
    struct matrix *m = &h->layer[l].part[p];
    char base[96], name[128];
    uint32_t n, k;

    part_size(&h->config.shape, p, &n, &k);
    snprintf(base, sizeof base, "model.layers.%u.%s", l, part_name[p]);
    snprintf(name, sizeof name, "%s.weight", base);
    if (h->config.packing == HF_PLAIN || safetensors_find(&h->st, name))
        return find_plain(h, name, n, k, m, e);
    return find_packed(h, base, n, k, m, e);
}

static int find_layer(struct hf *h, uint32_t l, struct err *e)
{
    const struct model_shape *s = &h->config.shape;
    struct layer_files *y = &h->layer[l];
    char name[128];
    uint32_t n, k;

    for (int p = 0; p < PART_LAYER_N; p++)
        if (find_part(h, l, (enum part)p, e))
            return -1;
    for (int g = 0; g < GAIN_N; g++) {
        if (!gain_name[g] || ((g == GAIN_Q || g == GAIN_K) && !s->qk_norm))
            continue;
        snprintf(name, sizeof name, "model.layers.%u.%s", l, gain_name[g]);
        y->gain[g] = want_type(h, name, 1, gain_length(s, (enum gain)g), 0, ST_TYPE_N, e);
        if (!y->gain[g])
            return -1;
    }
    for (int p = 0; s->qkv_bias && p < 3; p++) {
        part_size(s, (enum part)p, &n, &k);
        snprintf(name, sizeof name, "model.layers.%u.%s.bias", l, part_name[p]);
        if (!(y->bias[p] = want_type(h, name, 1, n, 0, ST_TYPE_N, e)))
            return -1;
    }
    return 0;
}

/* What may stand in a file without a part in the arithmetic: frequencies, which follow from config.json; the head
 * of a tied model; biases that a quantiser added, all zero. */
static bool may_ignore(const struct hf *h, const struct st_tensor *t)
{
    size_t n = strlen(t->name);
    bool zero = n > 5 && !strcmp(t->name + n - 5, ".bias") && t->n_dim == 1;

    for (uint64_t i = 0; zero && i < t->bytes; i++)
        zero = !t->data[i];
    return zero || (n > 20 && !strcmp(t->name + n - 20, ".rotary_emb.inv_freq")) ||
           (h->config.shape.tied && !strcmp(t->name, "lm_head.weight"));
}

static int find_all(struct hf *h, struct err *e)
{
    const struct model_shape *s = &h->config.shape;
    char shown[MAP_SHOW];

    h->used = ARENA_NEW(&h->arena, bool, h->st.n + 1);
    h->layer = ARENA_NEW(&h->arena, struct layer_files, s->n_layer);
    if (!h->used || !h->layer)
        return err_set(e, EXIT_RUN_FAILED, "out of memory for %u layers", s->n_layer);
    if (find_plain(h, "model.embed_tokens.weight", s->vocab, s->dim, &h->embed, e) ||
        (!s->tied && find_plain(h, "lm_head.weight", s->vocab, s->dim, &h->head, e)))
        return -1;
    if (s->tied)
        h->head = h->embed;
    for (uint32_t l = 0; l < s->n_layer; l++)
        if (find_layer(h, l, e))
            return -1;
    if (!(h->norm = want_type(h, "model.norm.weight", 1, s->dim, 0, ST_TYPE_N, e)))
        return -1;
    for (uint32_t i = 0; i < h->st.n; i++)
        if (!h->used[i] && !may_ignore(h, &h->st.tensor[i]))
            return err_set(e, EXIT_USAGE, "%s: header, tensor '%s' has no place in a %s model of %u layers; expected "
                           "only what config.json describes", h->st.tensor[i].file->path,
                           map_show(h->st.tensor[i].name, strlen(h->st.tensor[i].name), shown),
                           h->config.type, s->n_layer);
    return 0;
}

/* ---- reading ---- */
static void plain_row(const struct st_tensor *t, uint64_t row, uint64_t k, float *out)
{
    static const enum quant kind[] = { [ST_F32] = QUANT_F32, [ST_F16] = QUANT_F16,
                                       [ST_BF16] = QUANT_BF16 };

    quant_row(kind[t->type], t->data + row * k * (t->type == ST_F32 ? 4 : 2), k, out);
}

/* Outputs are asked for in order; packed ones lie across the rows of the file and are decoded many at once. */
static void packed_row(struct hf *h, const struct matrix *m, uint32_t row, float *out)
{
    uint32_t k = m->packed.k, n0 = row / PANEL * PANEL;

    if (h->panel_of != m || h->panel_n0 != n0)
        for (uint32_t n = n0; n < n0 + PANEL && n < m->packed.n; n += 8)
            packed4_rows(&m->packed, n, h->panel + (size_t)(n - n0) * k);
    h->panel_of = m;
    h->panel_n0 = n0;
    memcpy(out, h->panel + (size_t)(row - n0) * k, k * sizeof *out);
}

static int hf_row(void *self, enum role role, uint32_t layer, uint32_t row, float *out, struct err *e)
{
    struct hf *h = self;
    const struct model_shape *s = &h->config.shape;
    const struct matrix *m = role == ROLE_EMBED ? &h->embed : &h->head;
    uint32_t n = s->vocab, k = s->dim, at;

    if (role_is_layer(role)) {
        enum part p = part_of(s, role, &row);

        m = &h->layer[layer].part[p];
        part_size(s, p, &n, &k);
    }
    if (m->plain)
        plain_row(m->plain, row, k, out);
    else
        packed_row(h, m, row, out);
    if (!row_finite(out, k, &at))
        return 0;
    return err_set(e, EXIT_USAGE, "%s: layer %u, %s, row %u, column %u: not a finite number; fetch the snapshot "
                   "again", h->st.file[0].path, layer, role_name[role], row, at);
}

static int hf_gain(void *self, uint32_t layer, enum gain which, float *out, struct err *e)
{
    struct hf *h = self;
    const struct layer_files *y = &h->layer[layer];
    uint32_t n = gain_length(&h->config.shape, which), at = 0;

    if (which == GAIN_QKV_BIAS)
        for (int p = 0; p < 3; at += (uint32_t)y->bias[p++]->dim[0])
            plain_row(y->bias[p], 0, y->bias[p]->dim[0], out + at);
    else
        plain_row(which == GAIN_FINAL ? h->norm : y->gain[which], 0, n, out);
    if (!row_finite(out, n, &at))
        return 0;
    return err_set(e, EXIT_USAGE, "%s: layer %u, a norm's gain or a bias, entry %u: not a finite number; fetch the "
                   "snapshot again", h->st.file[0].path, layer, at);
}

static void describe(const struct hf *h, char *out, size_t n)
{
    const struct model_shape *s = &h->config.shape;
    const char *type = st_type_name[h->embed.plain->type];

    if (h->config.packing == HF_PLAIN)
        snprintf(out, n, "%s: safetensors, %s", s->name,
                 st_type_name[h->layer[0].part[PART_Q].plain->type]);
    else
        snprintf(out, n, "%s: safetensors, %s 4-bit, groups of %u (already quantised, decoded here), rest %s",
                 s->name, h->config.packing == HF_AWQ ? "AWQ" : "GPTQ", h->config.group, type);
}

static void name_of(const char *folder, char out[64])
{
    size_t n = strlen(folder);
    const char *from;
    char shown[MAP_SHOW];

    while (n > 1 && folder[n - 1] == '/')
        n--;
    for (from = folder + n; from > folder && from[-1] != '/'; from--)
        ;
    map_show(from, (uint64_t)(folder + n - from), shown);
    snprintf(out, 64, "%.63s", shown);
}

static int open_all(struct hf *h, const char *folder, struct err *e)
{
    const struct model_shape *s = &h->config.shape;
    uint32_t k = max_u32(max_u32(s->dim, s->ffn), s->n_head * s->head_dim);

    if (safetensors_open(&h->st, folder, e) || find_all(h, e))
        return -1;
    if (h->config.packing != HF_PLAIN && !(h->panel = ARENA_NEW(&h->arena, float, (size_t)PANEL * k)))
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    return 0;
}

int load_hf(const char *folder, struct model_shape *shape, struct weight_source *src, struct err *e)
{
    struct hf *h = calloc(1, sizeof *h);
    char path[4096];

    if (!h)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    if ((size_t)snprintf(path, sizeof path, "%s/config.json", folder) >= sizeof path) {
        free(h);
        return err_set(e, EXIT_USAGE, "path is too long: '%.80s...'", folder);
    }
    if (hf_config_read(&h->config, path, e) || open_all(h, folder, e)) {
        load_hf_close(h);
        return -1;
    }
    name_of(folder, h->config.shape.name);
    *shape = h->config.shape;
    *src = (struct weight_source){ .row = hf_row, .gain = hf_gain, .self = h };
    describe(h, src->about, sizeof src->about);
    return 0;
}

void load_hf_close(void *self)
{
    struct hf *h = self;

    if (!h)
        return;
    safetensors_close(&h->st);
    arena_free(&h->arena);
    free(h);
}
