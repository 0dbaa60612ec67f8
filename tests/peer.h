/* peer.h - one sequence through a model's forward pass, and what another program said it should give (JSON). */
#ifndef TESTS_PEER_H
#define TESTS_PEER_H

#include <jansson.h>

#include "models/load.h"
#include "tests/kernels.h"

enum { PEER_MOST = 128 };              /* tokens of the sequence */

struct peer {
    struct model_files files;
    struct device dev;
    struct model model;
    struct kv_pool kv;
    struct err e;
};
/* 0, or -1 with p->e: every weight in `weights`, K and V in `cache`. Close it in both cases. */
int  peer_open(struct peer *p, const char *model, const struct device_ops *ops, struct wfmt weights, enum fmt cache);
/* All in F32 on the reference device; false: the test has failed, and says why. Close it in both cases. */
bool peer_exact(struct peer *p, const char *model);
void peer_close(struct peer *p);
/* n tokens from position `from`; picks after each; their logits stay in the model. */
void peer_step(struct peer *p, const uint32_t *tok, uint32_t n, uint32_t from, uint32_t *next);
/* Row i of the last step's logits, [vocab], to be freed. */
float *peer_logits(struct peer *p, uint32_t i);
/* Largest difference of that row from a list of as many numbers. */
double peer_difference(struct peer *p, uint32_t i, json_t *list);
/* Prompt and tokens of c; how many of the tokens are picked, at most `most`. */
uint32_t peer_continues(struct peer *p, json_t *c, json_t *prompt, uint32_t most);
/* The largest difference of the logits after the prompt from those that c lists (top: ids, logits). */
double peer_top_difference(struct peer *p, json_t *c, json_t *prompt);
/* Opens SmolLM2-135M; false: skipped, since it is not here. */
bool peer_real(struct peer *p, const struct device_ops *ops, struct wfmt weights, enum fmt cache);

/* tests/fixtures/NAME.json; fails when it is not there. */
json_t *expected(const char *name);
/* A list of token ids; how many. */
uint32_t token_list(json_t *list, uint32_t out[PEER_MOST]);
/* Logits of all of a prompt, picked tokens and the logits after the last, as the fixture has them. */
void peer_follow(struct peer *p, const char *name, json_t *want, double limit);
void close_to(const char *what, double most, double limit);

#endif
