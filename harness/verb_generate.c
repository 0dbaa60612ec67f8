/* verb_generate.c - `servelab generate TEXT`: a real model continues a text, or answers it, as one
 * sequence.
 *
 * The ten-second proof that the loader, the tokenizer and the forward pass belong together: what
 * they make is English. Tokens are picked greedily; the text is written as it is produced, never
 * half a character. It is no benchmark: one sequence, no scheduler; the rates are printed for
 * orientation. Text goes to stdout, everything else to stderr. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "harness/choice.h"
#include "harness/loaded.h"
#include "harness/texts.h"
#include "harness/verb.h"
#include "models/load.h"
#include "models/tokenizer_gguf.h"

extern const struct verb verb_generate;

enum { CHUNK = 512, MAX_NEW = 1 << 20 };

struct generate {
    const char *model, *device, *precision, *scales, *prompt, *system;
    struct device_conf conf;
    uint32_t n_new;
    bool chat, ignore_eos, quiet;
    struct model_files files;
    struct tokenizer *t;
    struct token_ids ids;          /* prompt, then what was picked */
    struct device dev;
    struct loaded_set set;
    struct model *m;
    struct kv_pool kv;
    bool has_files, has_dev;
};

static int open_model(struct generate *g, struct err *e)
{
    if (model_find(&g->files, g->model, 1, e))
        return -1;
    g->has_files = true;
    if (g->files.kind == MODEL_SHAPE)
        return err_set(
            e, EXIT_USAGE,
            "generate: of %.100s only the shape is here: synthetic weights write no text; "
            "make model MODEL=%.100s fetches the model, or give a snapshot's folder or a .gguf "
            "file",
            g->model, g->model);
    return tokenizer_open(&g->t, g->files.path, e);
}

static int encode_prompt(struct generate *g, struct err *e)
{
    struct prompt_form form = { g->chat, g->system, ENCODE_SPECIAL | ENCODE_ENDS };
    uint32_t vocab = g->files.shape.vocab;

    if (prompt_ids(g->t, &form, g->prompt, &g->ids, e))
        return -1;
    if (!g->ids.n)
        return err_set(e, EXIT_USAGE, "generate: the text has no tokens; give at least a word");
    if (g->ids.n + g->n_new > g->files.shape.max_context)
        return err_set(e, EXIT_USAGE,
                       "generate: %zu tokens and %" PRIu32 " to come are more than the context of "
                       "%" PRIu32 "; shorten the text or give a smaller --n",
                       g->ids.n, g->n_new, g->files.shape.max_context);
    for (size_t i = 0; i < g->ids.n; i++)
        if (g->ids.id[i] >= vocab)
            return err_set(e, EXIT_USAGE,
                           "generate: the tokenizer gives id %" PRIu32
                           ", but the model has %" PRIu32 " tokens; they are not of one model",
                           g->ids.id[i], vocab);
    return 0;
}

/* Scales are read where they are asked for, and asked for where they are given. */
static int open_scales(struct generate *g, const struct strategy *st, struct err *e)
{
    char sha256[SHA256_HEX];

    if (!g->scales)
        return 0;                                  /* loaded_get refuses awq=on without them */
    if (!loaded_wants_scales(st))
        return err_set(e, EXIT_USAGE, "--scales %s: precision %s has no awq=on, such as int4:awq=on", g->scales,
                       g->precision);
    return model_files_sha256(&g->files, sha256, e) || loaded_scales(&g->set, g->scales, sha256, e) ? -1 : 0;
}

static int open_device(struct generate *g, struct err *e)
{
    const struct device_ops *ops = device_find(g->device, e);
    uint32_t need = (uint32_t)g->ids.n + g->n_new, n_slot = ceil_div_u32(need, KV_TILE) * KV_TILE;
    const struct model_shape *s = &g->files.shape;
    struct strategy st;
    char text[256];

    if (!ops)
        return -1;
    if (!ops->computes)
        return err_set(e, EXIT_USAGE,
                       "generate: device %s computes nothing, so it writes no text; use cpu or ref",
                       ops->name);
    snprintf(text, sizeof text, "continuous+paged+%.200s", g->precision);
    if (strategy_parse(&st, text, e) || dev_open(&g->dev, ops, &g->conf, e))
        return -1;
    g->has_dev = true;
    if (loaded_open_from(&g->set, &g->dev, s, &g->files.source) || open_scales(g, &st, e) ||
        !(g->m = loaded_get(&g->set, &st, e)) || model_room(g->m, CHUNK, 1, e) ||
        dev_kv_open(&g->dev, &g->kv, s->n_layer, s->n_kv_head, s->head_dim,
                    choice_kv(&st), n_slot, e))
        return -1;
    return g->kv.n_slot >= n_slot
               ? 0
               : err_set(e, EXIT_RUN_FAILED,
                         "generate: no memory for %" PRIu32 " tokens of context", n_slot);
}

/* Tokens [from, from + n) of the sequence; its KV lies in one piece from slot 0. */
static int step(struct generate *g, uint32_t from, uint32_t n, uint32_t *next, struct err *e)
{
    uint32_t pos[CHUNK], start[2] = { 0, n }, len = from + n, all = g->kv.n_slot, table = 0;
    uint32_t tstart[2] = { 0, 1 }, row = n - 1;
    struct batch b = { .n_tok = n, .n_seq = 1, .n_row = 1, .n_table = 1, .tok = g->ids.id + from,
                       .pos = pos, .slot = pos, .seq_start = start, .kv_len = &len,
                       .block_tokens = &all, .table_start = tstart, .table = &table, .row = &row };

    for (uint32_t i = 0; i < n; i++)
        pos[i] = from + i;
    if (model_step(g->m, &g->kv, &b, next, e))
        return -1;
    if (*next >= g->files.shape.vocab)
        return err_set(e, EXIT_RUN_FAILED,
                       "generate: the logits after token %" PRIu32 " are not finite", from + n);
    return 0;
}

static int write_text(struct text_out *out, struct err *e)
{
    bool bad;

    texts_printable(out);
    bad = out->n && (fwrite(out->p, 1, out->n, stdout) != out->n || fflush(stdout));

    out->n = 0;
    return bad ? err_set(e, EXIT_IO, "generate: cannot write to stdout") : 0;
}

static int keep(struct generate *g, uint32_t id, struct err *e)
{
    if (g->ids.n == g->ids.cap) {
        size_t cap = g->ids.cap * 2 + 64;
        uint32_t *p = realloc(g->ids.id, cap * sizeof *p);

        if (!p)
            return err_set(e, EXIT_RUN_FAILED, "generate: out of memory");
        g->ids.id = p;
        g->ids.cap = cap;
    }
    g->ids.id[g->ids.n++] = id;
    return 0;
}

/* Picks until the model ends or n_new are there; writes as it goes. */
static int decode(struct generate *g, uint32_t next, struct text_out *out, struct err *e)
{
    struct decode_stream s;
    uint32_t i = 0;

    decode_start(&s, g->t, 0);
    while (!tokenizer_ends(g->t, next) || g->ignore_eos) {
        if (keep(g, next, e) || decode_push(&s, next, out, e) || write_text(out, e))
            return -1;
        if (++i == g->n_new)
            break;
        if (step(g, (uint32_t)g->ids.n - 1, 1, &next, e))
            return -1;
    }
    return decode_end(&s, out, e) || write_text(out, e) ? -1 : 0;
}

static double rate(uint64_t n, uint64_t ns)
{
    return ns ? (double)n * 1e9 / (double)ns : 0;
}

static int produce(struct generate *g, struct err *e)
{
    uint32_t n = (uint32_t)g->ids.n, next = 0;
    struct text_out out = { 0 };
    uint64_t t0 = dev_now(&g->dev), t1, t2;
    int rc = 0;

    for (uint32_t at = 0; at < n && !rc; at += CHUNK)
        rc = step(g, at, min_u32(CHUNK, n - at), &next, e);
    t1 = dev_now(&g->dev);
    if (!rc && !g->chat && (fputs(g->prompt, stdout) < 0 || fflush(stdout)))
        rc = err_set(e, EXIT_IO, "generate: cannot write to stdout");
    if (!rc)
        rc = decode(g, next, &out, e);
    t2 = dev_now(&g->dev);
    text_out_free(&out);
    if (rc)
        return -1;
    putchar('\n');
    if (!g->quiet)
        fprintf(stderr,
                "%s (%s), %s, %s\nprompt %" PRIu32
                " tokens, %.0f/s; produced %zu tokens, %.1f/s%s\n",
                g->files.shape.name, g->m->about, g->precision, g->dev.label, n, rate(n, t1 - t0),
                g->ids.n - n, rate(g->ids.n - n, t2 - t1),
                g->ids.n - n < g->n_new ? "; the model ended here" : "");
    return 0;
}

static void close_all(struct generate *g)
{
    if (g->has_dev) {
        loaded_close(&g->set);
        dev_kv_close(&g->dev, &g->kv);
        dev_close(&g->dev);
    }
    token_ids_free(&g->ids);
    tokenizer_free(g->t);
    if (g->has_files)
        model_files_close(&g->files);
}

static const struct option options[] = {
    { "model", 1, NULL, 'm' },     { "n", 1, NULL, 'n' },
    { "precision", 1, NULL, 'p' }, { "device", 1, NULL, 'd' },
    { "chat", 0, NULL, 'c' },      { "system", 1, NULL, 's' },
    { "threads", 1, NULL, 't' },   { "ignore-eos", 0, NULL, 'i' },
    { "scales", 1, NULL, 'S' },    { "quiet", 0, NULL, 'q' },
    { 0 },
};

static int take_number(const char *option, int64_t max, int64_t *out, struct err *e)
{
    if (!parse_int(optarg, 1, max, out))
        return 0;
    return err_set(e, EXIT_USAGE,
                   "generate: --%s %.60s: expected a whole number from 1 to %" PRId64, option,
                   optarg, max);
}

static int take_option(struct generate *g, int c, struct err *e)
{
    int64_t v = 0;
    int rc = 0;

    switch (c) {
    case 'm': g->model = optarg; break;
    case 'p': g->precision = optarg; break;
    case 'd': g->device = optarg; break;
    case 'c': g->chat = true; break;
    case 's': g->system = optarg; break;
    case 'S': g->scales = optarg; break;
    case 'i': g->ignore_eos = true; break;
    case 'q': g->quiet = true; break;
    case 'n': rc = take_number("n", MAX_NEW, &v, e); g->n_new = (uint32_t)v; break;
    case 't': rc = take_number("threads", 1024, &v, e); g->conf.n_thread = (int)v; break;
    default: rc = -1;
    }
    return rc;
}

static int run(int argc, char **argv, struct err *e)
{
    struct generate g = { .model = "smollm2-135m", .device = "cpu", .precision = "f16", .n_new = 64,
                          .conf = { .pace = PACE_SKIP } };
    bool done;
    int c, rc;

    while ((c = verb_option(&verb_generate, argc, argv, options, &done, e)) >= 0)
        if (c == '?' || take_option(&g, c, e))
            return -1;
    if (done)
        return 0;
    if (argc - optind != 1)
        return err_set(
            e, EXIT_USAGE,
            "generate: expected one text, in quotes: servelab generate \"Once upon a time\"");
    if (g.system && !g.chat)
        return err_set(e, EXIT_USAGE, "generate: --system is for --chat");
    g.prompt = argv[optind];
    rc = open_model(&g, e) || encode_prompt(&g, e) || open_device(&g, e) || produce(&g, e) ? -1 : 0;
    close_all(&g);
    return rc;
}

const struct verb verb_generate = {
    .name = "generate",
    .about = "a real model continues a text, or answers it",
    .rank = 45,
    .run = run,
    .help = "usage: servelab generate TEXT [options]\n"
            "\n"
            "Loads a model with its own weights and tokenizer and continues TEXT greedily, one "
            "sequence on one device,\n"
            "writing the text as it is produced. Special tokens in TEXT count as such (not with "
            "--chat).\n"
            "\n"
            "  --model M           a name, a Hugging Face snapshot's folder, or a .gguf file "
            "(default smollm2-135m)\n"
            "  --n N               at most N tokens (default 64)\n"
            "  --chat              TEXT is a user's question, put into the model's chat form\n"
            "  --system S          with --chat: the system text, instead of the form's own\n"
            "  --precision P       weight format, and of K and V: f16 (default), int4:group=32, "
            "int8:kv=int8 ...\n"
            "  --scales F          AWQ scales of 'servelab calibrate', for precisions with awq=on\n"
            "  --device D          cpu (default), ref, cuda\n"
            "  --threads N         cpu: threads\n"
            "  --ignore-eos        go on where the model would end\n"
            "  --quiet             the text only\n"
            "\n"
            "example: servelab generate \"Once upon a time\" --precision int4\n"
            "         servelab generate \"What is the capital of France?\" --chat\n",
};
