/* trace.c - what everyone asks of a trace in memory: where it lies, a row's id, a prompt's tokens.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/home.h"
#include "workloads/reader.h"

void trace_free(struct trace *t)
{
    if (t->cap)
        free(t->req);
    arena_free(&t->arena);
    t->req = NULL;
    t->n = t->cap = 0;
}

const char *trace_id(const struct trace *t, uint32_t row, char buf[24])
{
    if (t->req[row].id)
        return t->req[row].id;
    snprintf(buf, 24, "%" PRIu32, row);
    return buf;
}

/* As typed, then as a whole file name under workloads/, then without its ".json". */
int trace_find(const char *name, char *path, size_t n, struct err *e)
{
    char stem[256];
    size_t len = strlen(name);

    if (!strchr(name, '/') && access(name, R_OK) && len &&
        (size_t)snprintf(path, n, "%s/workloads/%s", home_dir(), name) < n && !access(path, R_OK))
        return 0;
    if (len > 5 && len < sizeof stem && !strcmp(name + len - 5, ".json")) {
        snprintf(stem, sizeof stem, "%.*s", (int)(len - 5), name);
        return home_find("trace", "workloads",
                         strchr(name, '/') || !access(name, R_OK) ? name : stem, ".json", path, n,
                         e);
    }
    return home_find("trace", "workloads", name, ".json", path, n, e);
}

/* Where a row's prompt takes its tokens from. */
struct prompt {
    const struct trace_req *q;
    uint64_t scope, own;           /* of shared and of private positions */
    uint32_t block_tokens, n_shared;
};

static struct prompt prompt_of(const struct trace *t, uint32_t row, uint64_t seed)
{
    struct prompt p = { .q = &t->req[row], .block_tokens = t->block_tokens };
    const struct trace_more *m = p.q->more;
    uint64_t shared = (uint64_t)p.q->n_block * t->block_tokens;

    p.own = hash64(hash64(seed, 0x726f77), row);
    if (m && m->prefix_group) {
        p.scope = hash64_bytes(0x67726f7570, m->prefix_group, strlen(m->prefix_group));
        shared = m->prefix_tokens;
    } else if (t->block_scope_session && m && m->session) {
        p.scope = hash64_bytes(0x73657373, m->session, strlen(m->session));
    }
    p.n_shared = shared < p.q->n_prompt ? (uint32_t)shared : p.q->n_prompt;
    return p;
}

static uint64_t token_hash(const struct prompt *p, uint32_t at)
{
    if (at >= p->n_shared)
        return hash64(p->own, at);
    if (!p->q->n_block)
        return hash64(p->scope, at);
    return hash64(hash64(p->scope, p->q->block[at / p->block_tokens]), at % p->block_tokens);
}

void trace_identities(const struct trace *t, uint32_t row, uint64_t seed, uint32_t from, uint32_t n,
                      uint64_t *out)
{
    struct prompt p = prompt_of(t, row, seed);
    const uint32_t *ids = p.q->more ? p.q->more->prompt_ids : NULL;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = from + i;

        out[i] = ids && at < p.q->n_prompt ? ids[at] : token_hash(&p, at);
    }
}

/* An id that the model does not have would read past its table: hence the modulo. */
void trace_tokens(const struct trace *t, uint32_t row, uint64_t seed, uint32_t vocab, uint32_t from,
                  uint32_t n, uint32_t *out)
{
    uint64_t id[256];

    for (uint32_t done = 0; done < n;) {
        uint32_t part = n - done < 256 ? n - done : 256;

        trace_identities(t, row, seed, from + done, part, id);
        for (uint32_t i = 0; i < part; i++)
            out[done + i] = (uint32_t)(id[i] % vocab);
        done += part;
    }
}
