/* peer.c - see peer.h. */
#include "tests/peer.h"

#include <stdio.h>

#include "base/home.h"

enum { SLOTS = 128 };

int peer_open(struct peer *p, const char *model, const struct device_ops *ops, struct wfmt weights, enum fmt cache)
{
    const struct model_shape *s = &p->files.shape;
    struct wfmt *fmt;
    int rc;

    memset(p, 0, sizeof *p);
    if (model_find(&p->files, model, 1, &p->e))
        return -1;
    p->dev = open_on(ops, NULL, 1);
    fmt = calloc((size_t)ROLE_N * s->n_layer, sizeof *fmt);
    CU_ASSERT_PTR_NOT_NULL_FATAL(fmt);
    for (uint32_t i = 0; i < ROLE_N * s->n_layer; i++)
        fmt[i] = weights;
    rc = model_open(&p->model, &p->dev, s, fmt, &p->files.source, &p->e) ||
         model_room(&p->model, PEER_MOST, PEER_MOST, &p->e) ||
         dev_kv_open(&p->dev, &p->kv, s->n_layer, s->n_kv_head, s->head_dim, cache, SLOTS, &p->e)
         ? -1 : 0;
    free(fmt);
    return rc;
}

bool peer_exact(struct peer *p, const char *model)
{
    if (!peer_open(p, model, &device_ref, (struct wfmt){ FMT_F32, 0 }, FMT_F32))
        return true;
    test_note("%s", p->e.text);
    CU_FAIL("not loaded");
    return false;
}

void peer_close(struct peer *p)
{
    if (p->dev.ops) {
        model_close(&p->model);
        dev_kv_close(&p->dev, &p->kv);
        dev_close(&p->dev);
    }
    model_files_close(&p->files);
}

void peer_step(struct peer *p, const uint32_t *tok, uint32_t n, uint32_t from, uint32_t *next)
{
    static const uint32_t table[] = { 0 };
    uint32_t pos[PEER_MOST], row[PEER_MOST], seq[2] = { 0, n }, len = from + n, block = SLOTS, start[2] = { 0, 1 };
    struct batch b = { .n_tok = n, .n_seq = 1, .n_row = n, .n_table = 1, .tok = tok, .pos = pos,
                       .slot = pos, .seq_start = seq, .kv_len = &len, .block_tokens = &block,
                       .table_start = start, .table = table, .row = row };

    CU_ASSERT_FATAL(n <= PEER_MOST && len <= SLOTS);
    for (uint32_t i = 0; i < n; i++) {
        pos[i] = from + i;
        row[i] = i;
    }
    if (model_step(&p->model, &p->kv, &b, next, &p->e)) {
        test_note("%s", p->e.text);
        CU_FAIL_FATAL("step failed");
    }
}

float *peer_logits(struct peer *p, uint32_t i)
{
    uint32_t vocab = p->files.shape.vocab;
    float *x = malloc((size_t)vocab * sizeof *x);
    const char *at = p->model.logits;

    CU_ASSERT_PTR_NOT_NULL_FATAL(x);
    p->dev.ops->get(&p->dev, x, at + (size_t)i * vocab * p->dev.ops->act_bytes, vocab);
    return x;
}

/* ---- what was expected ---- */
json_t *expected(const char *name)
{
    char path[4096];
    json_t *j;

    snprintf(path, sizeof path, "%s/tests/fixtures/%s.json", home_dir(), name);
    j = json_load_file(path, 0, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(j);
    return j;
}

uint32_t token_list(json_t *list, uint32_t out[PEER_MOST])
{
    json_t *v;
    size_t i;

    CU_ASSERT_FATAL(json_array_size(list) > 0 && json_array_size(list) <= PEER_MOST);
    json_array_foreach(list, i, v)
        out[i] = (uint32_t)json_integer_value(v);
    return (uint32_t)json_array_size(list);
}

double peer_difference(struct peer *p, uint32_t i, json_t *list)
{
    uint32_t vocab = p->files.shape.vocab;
    float *x = peer_logits(p, i);
    double most = 0;

    CU_ASSERT_EQUAL_FATAL(json_array_size(list), vocab);
    for (uint32_t t = 0; t < vocab; t++) {
        double d = fabs((double)x[t] - json_number_value(json_array_get(list, t)));

        most = d > most || isnan(d) ? d : most;
    }
    free(x);
    return most;
}

void close_to(const char *what, double most, double limit)
{
    if (!(most < limit))
        test_note("%s: largest difference of a logit %.3g, limit %.3g", what, most, limit);
    CU_ASSERT(most < limit);
}

static void same_tokens(const char *name, const uint32_t *a, const uint32_t *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (a[i] != b[i]) {
            test_note("%s: token %u is %u; expected %u", name, i, a[i], b[i]);
            CU_FAIL("tokens differ");
            return;
        }
}

/* Prompt in one step, then one token a step. */
void peer_follow(struct peer *p, const char *name, json_t *want, double limit)
{
    uint32_t prompt[PEER_MOST], next[PEER_MOST], out[PEER_MOST], ref[PEER_MOST], last;
    uint32_t n = token_list(json_object_get(want, "prompt"), prompt);
    uint32_t n_out = token_list(json_object_get(want, "tokens"), ref);
    double most = 0;

    peer_step(p, prompt, n, 0, next);
    for (uint32_t i = 0; i < n; i++)
        most = fmax(most, peer_difference(p, i, json_array_get(json_object_get(want, "logits"), i)));
    close_to(name, most, limit);
    for (uint32_t i = 0; i < n_out; i++) {
        out[i] = last = i ? next[0] : next[n - 1];
        peer_step(p, &last, 1, n + i, next);
    }
    same_tokens(name, out, ref, n_out);
    close_to(name, peer_difference(p, 0, json_object_get(want, "last")), limit);
}

uint32_t peer_continues(struct peer *p, json_t *c, json_t *prompt_ids, uint32_t most)
{
    uint32_t prompt[PEER_MOST], next[PEER_MOST], ref[PEER_MOST], last, i;
    uint32_t n = token_list(prompt_ids, prompt), n_out = token_list(json_object_get(c, "tokens"), ref);

    peer_step(p, prompt, n, 0, next);
    last = next[n - 1];
    for (i = 0; i < n_out && i < most && last == ref[i]; i++) {
        peer_step(p, &last, 1, n + i, next);
        last = next[0];
    }
    return i;
}

double peer_top_difference(struct peer *p, json_t *c, json_t *prompt_ids)
{
    uint32_t prompt[PEER_MOST], next[PEER_MOST], n = token_list(prompt_ids, prompt);
    json_t *top = json_object_get(c, "top"), *logits = json_object_get(c, "logits");
    double most = 0;
    float *x;

    peer_step(p, prompt, n, 0, next);
    x = peer_logits(p, n - 1);
    CU_ASSERT(json_array_size(top) == 8);
    for (size_t i = 0; i < json_array_size(top); i++) {
        json_int_t id = json_integer_value(json_array_get(top, i));

        CU_ASSERT_FATAL(id >= 0 && id < p->files.shape.vocab);
        most = fmax(most, fabs((double)x[id] - json_number_value(json_array_get(logits, i))));
    }
    free(x);
    return most;
}

bool peer_real(struct peer *p, const struct device_ops *ops, struct wfmt weights, enum fmt cache)
{
    char path[4096];
    enum model_kind kind;

    memset(p, 0, sizeof *p);
    CU_ASSERT_FATAL(!model_locate("smollm2-135m", &kind, path, sizeof path, &p->e));
    if (kind == MODEL_SHAPE) {
        test_skip("SmolLM2-135M is not here; fetch it with: make model MODEL=smollm2-135m");
        return false;
    }
    if (peer_open(p, "smollm2-135m", ops, weights, cache)) {
        test_note("%s", p->e.text);
        CU_FAIL_FATAL("the real model does not load");
    }
    return true;
}
