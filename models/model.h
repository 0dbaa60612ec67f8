/* model.h - a Llama-family model: shape, weights on a device, one forward pass.
 *
 * The pass is the same on every device: embed, then per layer norm -> QKV -> RoPE+store -> attend -> O ->
 * norm -> gate_up -> SwiGLU -> down, then norm -> gather -> head -> pick (greedy). */
#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include "base/arena.h"
#include "kernels/device.h"

struct model_shape {
    char name[64];
    uint32_t n_layer, dim, n_head, n_kv_head, head_dim, ffn, vocab, max_context;
    float rope_theta, norm_eps;
    bool tied;                     /* the head is the embedding */
    bool qkv_bias;                 /* Qwen2: a bias after the QKV product */
    bool qk_norm;                  /* Qwen3: RMSNorm over each head of q and k before rotation */
    /* Frequencies beyond theta: as they are, all divided by factor, or Llama 3's rule (slow ones divided). */
    enum rope_scaling { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3 } rope_scaling;
    float rope_factor, rope_low, rope_high;    /* LLAMA3: low and high frequency factors */
    uint32_t rope_context;                     /* LLAMA3: original_max_position_embeddings */
};

/* The small vectors of a layer (FINAL: of the model, layer 0) and how many values each has. */
enum gain { GAIN_ATTENTION, GAIN_FFN, GAIN_FINAL, GAIN_Q, GAIN_K, GAIN_QKV_BIAS, GAIN_N };
uint32_t gain_length(const struct model_shape *s, enum gain which);

/* Where weights come from: a loader fills this. Rows of ROLE_QKV are q, then k, then v;
 * of ROLE_GATE_UP gate, then up. Pairs of q and k that rotate together are (i, i + head_dim / 2). */
struct weight_source {
    int (*row)(void *self, enum role role, uint32_t layer, uint32_t row, float *out, struct err *e);
    int (*gain)(void *self, uint32_t layer, enum gain which, float *out, struct err *e);
    void *self;
    bool is_synthetic;
    char about[160];               /* "synthetic weights, seed 1": stands in every output */
};
/* Seeded synthetic weights for a shape (models/load_synth.c). The source lives in `a`. */
int source_synth(struct weight_source *src, const struct model_shape *shape, uint64_t seed,
                 struct arena *a, struct err *e);

struct layer {
    struct weight qkv, o, gate_up, down;
    void *gain[GAIN_N];                    /* act [gain_length]; NULL: this model has none */
    struct rope rope;
    uint32_t n_same;                       /* this and how many following layers have equal formats */
};

struct model {
    struct model_shape shape;
    struct device *dev;
    struct layer *layer;
    struct weight head, embed;             /* tied: embed is a copy of the struct, same data */
    void *norm_final;                      /* act [dim] */
    uint64_t weight_bytes;                 /* exact, scales included */
    bool is_synthetic;
    char about[160];
    /* activations for up to max_tok rows and max_row picked rows */
    uint32_t max_tok, max_row;
    void *x, *y, *qkv, *att, *gate_up, *ffn, *picked, *logits;
    /* Sees the input of every product, before it (calibration); NULL: nobody does. act [n_tok, inputs of the role],
     * layer 0 for the head. Steps launched as graphs are not to be watched. */
    void (*watch)(void *self, enum role role, uint32_t layer, const void *act, uint32_t n_tok);
    void *watch_self;
    struct arena arena;
};

/* Reads a shape from models/shapes/NAME.json or a path to such a file. */
int shape_load(struct model_shape *s, const char *name, struct err *e);

/* fmt[layer * ROLE_N + role] names each matrix's format (head and embed: layer 0). */
int  model_open(struct model *m, struct device *d, const struct model_shape *s,
                const struct wfmt *fmt, const struct weight_source *src, struct err *e);
/* What model_open would take of a device whose activations have act_bytes: weights and small vectors, exactly. */
uint64_t model_weight_bytes(const struct model_shape *s, const struct wfmt *fmt, uint32_t act_bytes);
/* Makes room for steps of up to max_tok tokens and max_row yielding rows. May be called again. */
int  model_room(struct model *m, uint32_t max_tok, uint32_t max_row, struct err *e);
void model_close(struct model *m);
/* One step. next[i] is the token picked at b->row[i] (untouched on a device that does not compute). */
int  model_step(struct model *m, struct kv_pool *kv, const struct batch *b, uint32_t *next,
                struct err *e);
uint64_t model_kv_token_bytes(const struct model_shape *s, enum fmt kv);
/* Angular frequency of each rotating pair [head_dim / 2], with the shape's scaling. */
void shape_frequencies(const struct model_shape *s, double *freq);

#endif
