#include "harness/flatten.h"

#include <stdlib.h>
#include <string.h>

static uint32_t *ints(size_t n) { return malloc((n ? n : 1) * sizeof(uint32_t)); }

int flat_open(struct flat *f, uint32_t max_tok, uint32_t max_seq, bool with_tokens,
              const struct trace *t, uint64_t seed, uint32_t vocab, struct err *e)
{
    memset(f, 0, sizeof *f);
    f->max_tok = max_tok;
    f->max_seq = max_seq;
    f->with_tokens = with_tokens;
    f->trace = t;
    f->seed = seed;
    f->vocab = vocab;
    f->cap_table = 1024;
    if (with_tokens) {
        f->tok = ints(max_tok);
        f->pos = ints(max_tok);
        f->slot = ints(max_tok);
    }
    f->seq_start = ints((size_t)max_seq + 1);
    f->kv_len = ints(max_seq);
    f->block_tokens = ints(max_seq);
    f->table_start = ints((size_t)max_seq + 1);
    f->table = ints(f->cap_table);
    f->row = ints(max_seq);
    f->yields = malloc((max_seq ? max_seq : 1) * sizeof *f->yields);
    if ((with_tokens && (!f->tok || !f->pos || !f->slot)) || !f->seq_start || !f->kv_len ||
        !f->block_tokens || !f->table_start || !f->table || !f->row || !f->yields) {
        flat_close(f);
        return err_set(e, EXIT_RUN_FAILED, "out of memory for a batch of %u tokens", max_tok);
    }
    return 0;
}

void flat_close(struct flat *f)
{
    free(f->tok);
    free(f->pos);
    free(f->slot);
    free(f->seq_start);
    free(f->kv_len);
    free(f->block_tokens);
    free(f->table_start);
    free(f->table);
    free(f->row);
    free(f->yields);
    memset(f, 0, sizeof *f);
}

static int copy_table(struct flat *f, const struct request *r, uint32_t n_block, uint32_t *n_table)
{
    if (*n_table + n_block > f->cap_table) {
        uint32_t cap = (*n_table + n_block) * 2;
        uint32_t *table = realloc(f->table, cap * sizeof *table);

        if (!table)
            return -1;
        f->table = table;
        f->cap_table = cap;
    }
    memcpy(f->table + *n_table, r->block, n_block * sizeof *f->table);
    *n_table += n_block;
    return 0;
}

/* Ids, positions and slots of r's tokens n_kv .. n_kv + n: prompt first, then what it produced. */
static void put_tokens(struct flat *f, const struct request *r, uint32_t n, uint32_t at,
                       const uint32_t *out)
{
    uint32_t from = r->n_kv, prompt = from < r->n_prompt ? min_u32(n, r->n_prompt - from) : 0;
    uint32_t p = from, in_block = p % r->block_tokens, b = p / r->block_tokens;

    if (prompt)
        trace_tokens(f->trace, r->id, f->seed, f->vocab, from, prompt, f->tok + at);
    for (uint32_t i = prompt; i < n; i++)
        f->tok[at + i] = out[from + i - r->n_prompt];
    for (uint32_t i = 0; i < n; i++, p++) {
        f->pos[at + i] = p;
        f->slot[at + i] = r->block[b] + in_block;
        if (++in_block == r->block_tokens) {
            in_block = 0;
            b++;
        }
    }
}

int flatten(struct flat *f, const struct plan *p, const uint32_t *(*out_of)(const struct request *),
            struct err *e)
{
    uint32_t at = 0, n_table = 0, n_row = 0;

    for (uint32_t s = 0; s < p->n; s++) {
        struct request *r = p->slice[s].r;
        uint32_t n = p->slice[s].n, len = r->n_kv + n;

        f->seq_start[s] = at;
        f->table_start[s] = n_table;
        f->kv_len[s] = len;
        f->block_tokens[s] = r->block_tokens;
        if (copy_table(f, r, ceil_div_u32(len, r->block_tokens), &n_table))
            return err_set(e, EXIT_RUN_FAILED, "out of memory for block tables");
        if (f->with_tokens)
            put_tokens(f, r, n, at, out_of(r));
        at += n;
        if (n == req_todo(r)) {
            f->row[n_row] = at - 1;
            f->yields[n_row++] = r;
        }
    }
    f->seq_start[p->n] = at;
    f->table_start[p->n] = n_table;
    f->batch = (struct batch){
        .n_tok = at, .n_seq = p->n, .n_row = n_row, .n_table = n_table, .tok = f->tok,
        .pos = f->pos, .slot = f->slot, .seq_start = f->seq_start, .kv_len = f->kv_len,
        .block_tokens = f->block_tokens, .table_start = f->table_start, .table = f->table,
        .row = f->row,
    };
    return 0;
}
