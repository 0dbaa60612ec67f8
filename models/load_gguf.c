/* load_gguf.c - weights of a GGUF file of a Llama-family model.
 *
 * Rows of Q and K in files of architecture "llama" (Llama, Mistral, SmolLM2) are stored in another order: llama.cpp
 * rotates neighbours (2 i, 2 i + 1) there, Hugging Face and this program halves (i, i + head_dim / 2). Reading row
 * (half p, pair i) of a head from row 2 i + p undoes it. Qwen's files keep the halves. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/gguf.h"
#include "models/gguf_config.h"
#include "models/load.h"
#include "models/parts.h"
#include "models/quants.h"

static const char *const part_name[PART_LAYER_N] = {
    "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"
};
static const char *const gain_name[GAIN_N] = {
    [GAIN_ATTENTION] = "attn_norm", [GAIN_FFN] = "ffn_norm", [GAIN_Q] = "attn_q_norm",
    [GAIN_K] = "attn_k_norm",
};

struct layer_files {
    const struct gguf_tensor *part[PART_LAYER_N], *gain[GAIN_N], *bias[3];
};
struct gguf_model {
    struct gguf g;
    struct model_shape shape;
    bool paired;                       /* Q and K are stored for neighbours that rotate together */
    struct layer_files *layer;
    const struct gguf_tensor *embed, *head, *norm;
    bool *used;                        /* [g.n_tensor] */
};

static const struct gguf_tensor *want(struct gguf_model *m, const char *name, uint64_t k, uint64_t n,
                                      struct err *e)
{
    const struct gguf_tensor *t = gguf_find_tensor(&m->g, name);

    if (!t) {
        err_set(e, EXIT_USAGE, "%s: tensor '%s' is missing; expected it by the metadata, convert the model again",
                m->g.map.path, name);
        return NULL;
    }
    m->used[t - m->g.tensor] = true;
    if (t->dim[0] == k && t->dim[1] == n && t->dim[2] == 1 && t->dim[3] == 1)
        return t;
    err_set(e, EXIT_USAGE, "%s: tensor '%s': %llu x %llu values; expected %llu x %llu by the metadata", m->g.map.path,
            name, (unsigned long long)t->dim[0], (unsigned long long)t->dim[1], (unsigned long long)k,
            (unsigned long long)n);
    return NULL;
}

static int find_layer(struct gguf_model *m, uint32_t l, struct err *e)
{
    const struct model_shape *s = &m->shape;
    struct layer_files *y = &m->layer[l];
    char name[64];
    uint32_t n, k;

    for (int p = 0; p < PART_LAYER_N; p++) {
        part_size(s, (enum part)p, &n, &k);
        snprintf(name, sizeof name, "blk.%u.%s.weight", l, part_name[p]);
        if (!(y->part[p] = want(m, name, k, n, e)))
            return -1;
        snprintf(name, sizeof name, "blk.%u.%s.bias", l, part_name[p]);
        if (p <= PART_V && s->qkv_bias && !(y->bias[p] = want(m, name, n, 1, e)))
            return -1;
    }
    for (int g = 0; g < GAIN_N; g++) {
        if (!gain_name[g] || ((g == GAIN_Q || g == GAIN_K) && !s->qk_norm))
            continue;
        snprintf(name, sizeof name, "blk.%u.%s.weight", l, gain_name[g]);
        if (!(y->gain[g] = want(m, name, gain_length(s, (enum gain)g), 1, e)))
            return -1;
    }
    return 0;
}

static int find_all(struct gguf_model *m, struct err *e)
{
    const struct model_shape *s = &m->shape;
    const struct gguf_tensor *freqs = gguf_find_tensor(&m->g, "rope_freqs.weight");
    char shown[MAP_SHOW];

    m->used = ARENA_NEW(&m->g.arena, bool, m->g.n_tensor);
    m->layer = ARENA_NEW(&m->g.arena, struct layer_files, s->n_layer);
    if (!m->used || !m->layer)
        return err_set(e, EXIT_RUN_FAILED, "out of memory for %u layers", s->n_layer);
    if (freqs)
        m->used[freqs - m->g.tensor] = true;    /* gguf_config has read it */
    if (!(m->embed = want(m, "token_embd.weight", s->dim, s->vocab, e)))
        return -1;
    m->head = s->tied ? m->embed : want(m, "output.weight", s->dim, s->vocab, e);
    if (!m->head || !(m->norm = want(m, "output_norm.weight", s->dim, 1, e)))
        return -1;
    for (uint32_t l = 0; l < s->n_layer; l++)
        if (find_layer(m, l, e))
            return -1;
    for (uint64_t i = 0; i < m->g.n_tensor; i++)
        if (!m->used[i])
            return err_set(e, EXIT_USAGE, "%s: tensor '%s' has no place in this model of %u layers; expected only "
                           "what its architecture has", m->g.map.path,
                           map_show(m->g.tensor[i].name.p, m->g.tensor[i].name.n, shown), s->n_layer);
    return 0;
}

/* Row of the file that holds row `row` of Q or K. */
static uint32_t stored_row(const struct gguf_model *m, uint32_t row)
{
    uint32_t hd = m->shape.head_dim, in = row % hd;

    return m->paired ? row - in + in % (hd / 2) * 2 + in / (hd / 2) : row;
}

static void read_row(const struct gguf_tensor *t, uint32_t row, float *out)
{
    quant_row((enum quant)t->type, t->data + t->bytes / t->dim[1] * row, t->dim[0], out);
}

static int gguf_row(void *self, enum role role, uint32_t layer, uint32_t row, float *out, struct err *e)
{
    struct gguf_model *m = self;
    const struct gguf_tensor *t = role == ROLE_EMBED ? m->embed : m->head;
    uint32_t in_file = row, at;
    char shown[MAP_SHOW];

    if (role_is_layer(role)) {
        enum part p = part_of(&m->shape, role, &in_file);

        t = m->layer[layer].part[p];
        if (p == PART_Q || p == PART_K)
            in_file = stored_row(m, in_file);
    }
    read_row(t, in_file, out);
    if (!row_finite(out, (uint32_t)t->dim[0], &at))
        return 0;
    return err_set(e, EXIT_USAGE, "%s: tensor '%s', row %u, column %u: not a finite number; fetch the file again",
                   m->g.map.path, map_show(t->name.p, t->name.n, shown), in_file, at);
}

/* The three biases one behind the other, those of Q and K in the order of their rows. */
static void read_bias(const struct gguf_model *m, const struct layer_files *y, float *out)
{
    for (int p = 0; p < 3; p++) {
        const struct gguf_tensor *t = y->bias[p];
        uint32_t n = (uint32_t)t->dim[0];

        for (uint32_t i = 0; i < n; i++, out++) {
            uint32_t from = p == PART_V ? i : stored_row(m, i);

            quant_row((enum quant)t->type, t->data + t->bytes / n * from, 1, out);
        }
    }
}

static int gguf_gain(void *self, uint32_t layer, enum gain which, float *out, struct err *e)
{
    struct gguf_model *m = self;
    const struct layer_files *y = &m->layer[layer];
    uint32_t at;

    if (which == GAIN_QKV_BIAS)
        read_bias(m, y, out);
    else
        read_row(which == GAIN_FINAL ? m->norm : y->gain[which], 0, out);
    if (!row_finite(out, gain_length(&m->shape, which), &at))
        return 0;
    return err_set(e, EXIT_USAGE, "%s: layer %u, a norm's gain or a bias, entry %u: not a finite number; fetch the "
                   "file again", m->g.map.path, layer, at);
}

/* Biases are read value by value. */
static int check_types(const struct gguf_model *m, struct err *e)
{
    char shown[MAP_SHOW];

    for (uint64_t i = 0; i < m->g.n_tensor; i++) {
        const struct gguf_tensor *t = &m->g.tensor[i];

        if (t->dim[1] == 1 && quant_find(t->type, NULL)->block > 1)
            return err_set(e, EXIT_USAGE, "%s: tensor '%s': a vector of type %s; expected F32, F16 or BF16",
                           m->g.map.path, map_show(t->name.p, t->name.n, shown),
                           quant_find(t->type, NULL)->name);
    }
    return 0;
}

/* Unless it is there: whole, for F16 is a part of BF16. */
static void add_name(char *list, size_t n, const char *name)
{
    size_t len = strlen(list), m = strlen(name);

    for (const char *at = list; (at = strstr(at, name)); at += m)
        if ((at == list || at[-1] == '+') && (!at[m] || at[m] == '+'))
            return;
    snprintf(list + len, n - len, "%s%s", len ? "+" : "", name);
}

/* "NAME: GGUF, Q4_1, embedding Q8_0 (already quantised in the file)" */
static void describe(const struct gguf_model *m, char *out, size_t n)
{
    char list[64] = "", embed[16], with[40];
    bool quantised = quant_find(m->embed->type, NULL)->block > 1 || quant_find(m->head->type, NULL)->block > 1;

    snprintf(embed, sizeof embed, "%s", quant_find(m->embed->type, NULL)->name);
    for (uint32_t l = 0; l < m->shape.n_layer; l++)
        for (int p = 0; p < PART_LAYER_N; p++) {
            const struct quant_info *q = quant_find(m->layer[l].part[p]->type, NULL);

            add_name(list, sizeof list, q->name);
            quantised |= q->block > 1;
        }
    snprintf(with, sizeof with, ", embedding %s", embed);
    snprintf(out, n, "%s: GGUF, %s%s%s", m->shape.name, list, strcmp(list, embed) ? with : "",
             quantised ? " (already quantised in the file)" : "");
}

static void name_of(const char *path, char out[64])
{
    const char *slash = strrchr(path, '/'), *from = slash ? slash + 1 : path;
    size_t n = strlen(from);
    char shown[MAP_SHOW];

    n -= n > 5 && !strcmp(from + n - 5, ".gguf") ? 5 : 0;
    map_show(from, n, shown);
    snprintf(out, 64, "%.63s", shown);
}

int load_gguf(const char *path, struct model_shape *shape, struct weight_source *src, struct err *e)
{
    struct gguf_model *m = calloc(1, sizeof *m);

    if (!m)
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    if (gguf_open(&m->g, path, e) || gguf_config(&m->g, &m->shape, &m->paired, e) || find_all(m, e) ||
        check_types(m, e)) {
        load_gguf_close(m);
        return -1;
    }
    name_of(path, m->shape.name);
    *shape = m->shape;
    *src = (struct weight_source){ .row = gguf_row, .gain = gguf_gain, .self = m };
    describe(m, src->about, sizeof src->about);
    return 0;
}

void load_gguf_close(void *self)
{
    struct gguf_model *m = self;

    if (!m)
        return;
    gguf_close(&m->g);
    free(m);
}
