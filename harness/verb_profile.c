/* verb_profile.c - times the operations of a device at a model's shapes and writes a sim profile of them.
 *
 * After Vidur (Agrawal et al. 2024) and LLMServingSim: measure operations, simulate steps. Every number of rows up to
 * 64 is measured, then the multiples that schedulers use, each tile edge and the row after it, and nothing is smoothed:
 * steps between tiles are real. What is not measured (moves to host memory) is marked in the profile's own text. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"
#include "harness/loaded.h"
#include "harness/measure.h"
#include "harness/replay.h"
#include "harness/report.h"
#include "harness/roof.h"
#include "harness/verb.h"
#include "kernels/sim/profile.h"

extern const struct verb verb_profile;

static const char help[] =
    "usage: servelab profile --out FILE [options]\n\n"
    "Times every operation of a device at a model's shapes and writes a profile for --device sim --profile FILE.\n"
    "Nothing else may run on the machine meanwhile.\n\n"
    "  --out FILE          where to write (JSON); kernels/sim/profiles/NAME.json makes it known by name\n"
    "  --name TEXT         the profile's name (default: the file's)\n"
    "  --device D          a device that computes (default cpu)\n"
    "  --model M           shapes to measure (default smollm2-135m)\n"
    "  --precision LIST    of weights: f16,int8,int4 ... with knobs (default f16)\n"
    "  --kv-format LIST    of cached K and V: f16,int8,fp8 (default f16)\n"
    "  --max-tokens N      most rows of a step (default 512)\n"
    "  --max-kv N          most cached tokens of a step (default 16384)\n"
    "  --threads N         of the cpu device (default: all)\n"
    "  --quick             few points, few rounds: to see that it works, not for figures\n"
    "  --quiet             only errors              --json   one object on stdout: the file, what is in it\n\n"
    "example: servelab profile --device cpu --precision f16,int4 --out my-laptop.json\n";

enum { O_OUT = 1, O_NAME, O_DEVICE, O_MODEL, O_PREC, O_KV, O_TOK, O_MAXKV, O_QUICK, O_THREADS, O_QUIET, O_JSON };
static const struct option options[] = {
    { "out", 1, NULL, O_OUT }, { "name", 1, NULL, O_NAME }, { "device", 1, NULL, O_DEVICE },
    { "model", 1, NULL, O_MODEL }, { "precision", 1, NULL, O_PREC }, { "kv-format", 1, NULL, O_KV },
    { "max-tokens", 1, NULL, O_TOK }, { "max-kv", 1, NULL, O_MAXKV }, { "quick", 0, NULL, O_QUICK },
    { "threads", 1, NULL, O_THREADS }, { "quiet", 0, NULL, O_QUIET }, { "json", 0, NULL, O_JSON }, { 0 }
};

struct args {
    const char *out, *name, *device, *model, *prec, *kv;
    int64_t max_tok, max_kv, threads;
    bool quick, quiet, json;
};
struct job {
    struct args a;
    struct device dev;
    struct model_shape shape;
    struct measure m;
    json_t *ops;
    double best_flops, best_bytes;         /* rates, for the roofline beside the tables */
    uint32_t n_done;
    struct err *e;
};

/* ---- tables ---- */

struct table { json_t *x, *ns; double last; };

static struct table table_new(struct job *j, enum op op, enum fmt fmt, uint32_t n, uint32_t k, enum sim_by by)
{
    struct table t = { json_array(), json_array(), 0 };

    json_array_append_new(j->ops, json_pack("{s:s, s:s, s:I, s:I, s:s, s:o, s:o}", "op", op_name[op], "fmt",
                                            fmt_name(fmt), "n", (json_int_t)n, "k", (json_int_t)k, "by",
                                            sim_by_name[by], "x", t.x, "ns", t.ns));
    return t;
}

static int table_add(struct job *j, struct table *t, double x, double ns)
{
    if (ns < 0)
        return -1;
    if (x > t->last) {                          /* points of equal x: the first one counts */
        json_array_append_new(t->x, json_integer((json_int_t)x));
        json_array_append_new(t->ns, json_integer((json_int_t)(ns + 0.5)));
        t->last = x;
    }
    j->n_done++;
    return 0;
}

/* The row counts to measure, ascending; 0 after the last. */
static uint32_t next_rows(uint32_t m, bool quick)
{
    if (quick)
        return m * 4;
    if (m < 64)
        return m + 1;
    if ((m & (m - 1)) == 0)
        return m + 1;                           /* the row behind a tile edge */
    return m < 256 ? (m / 16 + 1) * 16 : m < 1024 ? (m / 64 + 1) * 64 : (m / 256 + 1) * 256;
}

static int by_rows(struct job *j, struct table t, double (*one)(struct measure *, uint32_t, struct err *),
                   uint32_t most, double flops_a_row)
{
    for (uint32_t rows = 1; rows <= most; rows = next_rows(rows, j->a.quick)) {
        double ns = one(&j->m, rows, j->e);

        if (table_add(j, &t, rows, ns))
            return -1;
        if (flops_a_row * rows > j->best_flops * ns)
            j->best_flops = flops_a_row * rows / ns;
    }
    return 0;
}

static double embed(struct measure *m, uint32_t n, struct err *e) { return measure_rows(m, OP_EMBED, n, e); }
static double norm(struct measure *m, uint32_t n, struct err *e) { return measure_rows(m, OP_NORM, n, e); }
static double swiglu(struct measure *m, uint32_t n, struct err *e) { return measure_rows(m, OP_SWIGLU, n, e); }
static double gather(struct measure *m, uint32_t n, struct err *e) { return measure_rows(m, OP_GATHER, n, e); }
static double pick(struct measure *m, uint32_t n, struct err *e) { return measure_rows(m, OP_PICK, n, e); }

static int matrices(struct job *j, const char *name)
{
    const struct model_shape *s = &j->shape;
    uint32_t q = s->n_head * s->head_dim, kv = s->n_kv_head * s->head_dim, most = j->m.max_tok;
    const struct { enum role role; uint32_t n, k; } mat[] = {
        { ROLE_QKV, q + 2 * kv, s->dim }, { ROLE_O, s->dim, q }, { ROLE_GATE_UP, 2 * s->ffn, s->dim },
        { ROLE_DOWN, s->dim, s->ffn }, { ROLE_HEAD, s->vocab, s->dim },
    };
    struct strategy st;
    char text[160];

    snprintf(text, sizeof text, "continuous+paged+%.100s", name);
    if (strategy_parse(&st, text, j->e))
        return -1;
    for (size_t i = 0; i < sizeof mat / sizeof *mat; i++) {
        struct prec p = { st.prec, st.prec_params };
        struct wfmt f = p.ops->pick(&p, mat[i].role, s->n_layer / 2, s->n_layer);
        double bytes = (double)wfmt_bytes(f, mat[i].n, mat[i].k), ns;
        bool head = mat[i].role == ROLE_HEAD;

        if (measure_weight(&j->m, f, mat[i].n, mat[i].k, j->e) ||
            by_rows(j, table_new(j, OP_MATMUL, f.fmt, mat[i].n, mat[i].k, BY_ROWS), measure_matmul,
                    head ? min_u32(most, 64) : most, 2.0 * mat[i].n * mat[i].k) ||
            (head && by_rows(j, table_new(j, OP_EMBED, f.fmt, s->dim, 0, BY_ROWS), embed, most, 0)))
            return -1;
        ns = measure_matmul(&j->m, 1, j->e);
        if (ns > 0 && bytes / ns > j->best_bytes)
            j->best_bytes = bytes / ns;
    }
    return 0;
}

static int attention(struct job *j, enum fmt fmt)
{
    static const uint32_t decode[][2] = { { 1, 16 }, { 1, 128 }, { 1, 512 }, { 2, 512 }, { 4, 512 }, { 4, 1024 },
        { 8, 1024 }, { 16, 1024 }, { 16, 2048 }, { 32, 2048 }, { 32, 4096 }, { 64, 4096 }, { 128, 4096 } };
    static const uint32_t prefill[][2] = { { 2, 0 }, { 16, 0 }, { 64, 0 }, { 128, 0 }, { 256, 0 }, { 512, 0 },
        { 512, 512 }, { 512, 1536 }, { 512, 3584 }, { 2048, 2048 }, { 2048, 6144 }, { 2048, 14336 } };
    const struct model_shape *s = &j->shape;
    uint32_t q = s->n_head * s->head_dim, kv = s->n_kv_head * s->head_dim;
    struct table t;

    if (measure_pool(&j->m, fmt, (uint32_t)j->a.max_kv, j->e) ||
        by_rows(j, table_new(j, OP_ROPE_STORE, fmt, q, kv, BY_ROWS), measure_rope, j->m.max_tok, 0))
        return -1;
    t = table_new(j, OP_ATTEND_DECODE, fmt, q, kv, BY_BYTES);
    for (size_t i = 0; i < sizeof decode / sizeof *decode; i += j->a.quick ? 4 : 1) {
        struct measure_attend a = { .n_seq = decode[i][0], .prefix = decode[i][1] - 1, .rows = 1, .block = 16 };
        struct op_cost c;
        double ns;

        if (a.n_seq > j->m.max_tok || (uint64_t)a.n_seq * decode[i][1] > j->m.kv.n_slot)
            break;
        ns = measure_attend(&j->m, a, &c, j->e);
        if (table_add(j, &t, c.bytes, ns))
            return -1;
    }
    t = table_new(j, OP_ATTEND_PREFILL, fmt, q, kv, BY_FLOPS);
    for (size_t i = 0; i < sizeof prefill / sizeof *prefill; i += j->a.quick ? 4 : 1) {
        struct measure_attend a = { .n_seq = 1, .prefix = prefill[i][1], .rows = prefill[i][0], .block = 16 };
        struct op_cost c;
        double ns;

        if (a.rows > j->m.max_tok || a.rows + a.prefix > j->m.kv.n_slot)
            break;
        ns = measure_attend(&j->m, a, &c, j->e);
        if (table_add(j, &t, c.flops, ns))
            return -1;
    }
    return 0;
}

static int each(struct job *j, const char *list, int (*one)(struct job *, const char *))
{
    char copy[256], *save = NULL;

    if (snprintf(copy, sizeof copy, "%s", list) >= (int)sizeof copy)
        return err_set(j->e, EXIT_USAGE, "profile: a list that long: '%.40s...'", list);
    for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        if (!j->a.quiet)
            fprintf(stderr, "profile: %s ...\n", p);
        if (one(j, p))
            return -1;
    }
    return 0;
}

static int kv_format(struct job *j, const char *name)
{
    for (int f = 0; f < FMT_N; f++)
        if (!strcmp(name, fmt_name((enum fmt)f)) && kv_row_bytes((enum fmt)f, 32))
            return attention(j, (enum fmt)f);
    return err_set(j->e, EXIT_USAGE, "--kv-format %s: expected f16, int8 or fp8", name);
}

/* ---- what scheduling costs: the loop itself, on a machine that takes no time ---- */

static double loop_ns(uint32_t n_req, struct err *e)
{
    struct trace_req req[64] = { 0 };
    struct trace t = { .n = n_req, .req = req };
    struct device_conf conf = { .profile = "instant" };
    struct device d = { 0 };
    struct loaded_set models = { 0 };
    struct kv_pool kv = { 0 };
    struct model_shape shape;
    struct strategy st;
    struct replay_result r;
    struct replay_conf c = { .trace = &t, .strategy = &st, .kv_pool = &kv, .kv_slots = 1 << 18, .max_len = 8192,
                             .rate_scale = 1, .seed = 1, .log = LOG_SUMMARY };
    double t0, ns = -1;

    for (uint32_t i = 0; i < n_req; i++)
        req[i] = (struct trace_req){ .n_prompt = 128, .n_out = 2000 };
    if (shape_load(&shape, "tiny", e) || dev_open(&d, device_find("sim", e), &conf, e))
        return -1;
    shape.max_context = 8192;
    if (!loaded_open(&models, &d, &shape, 1, e) &&
        !dev_kv_open(&d, &kv, shape.n_layer, shape.n_kv_head, shape.head_dim, FMT_F16, 1 << 18, e) &&
        !strategy_parse(&st, "continuous+paged+f16", e) && (c.model = loaded_get(&models, &st, e))) {
        t0 = bench_seconds();
        if (!replay_run(&c, &r, e) && r.steps)
            ns = (bench_seconds() - t0) * 1e9 / (double)r.steps;
    }
    loaded_close(&models);
    dev_kv_close(&d, &kv);
    dev_close(&d);
    return ns;
}

/* ---- the file ---- */

/* The head as it is, then one table a line: such files are committed and read. */
static int dump(const struct job *j, const json_t *head)
{
    char *text = json_dumps(head, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    FILE *f = fopen(j->a.out, "w");
    bool good = f && text && fprintf(f, "%.*s,\n \"ops\": [\n", (int)strlen(text) - 2, text) > 0;

    for (size_t i = 0, n = json_array_size(j->ops); good && i < n; i++)
        good = fputs("  ", f) >= 0 && !json_dumpf(json_array_get(j->ops, i), f, JSON_COMPACT) &&
               fputs(i + 1 < n ? ",\n" : "\n ]\n}\n", f) >= 0;
    free(text);
    if (f && fclose(f))
        good = false;
    return good ? 0 : err_set(j->e, EXIT_RUN_FAILED, "%s: cannot be written", j->a.out);
}

static int write_profile(struct job *j)
{
    double one = loop_ns(1, j->e), many = loop_ns(64, j->e), launch, per_seq;
    const char *base = strrchr(j->a.out, '/') ? strrchr(j->a.out, '/') + 1 : j->a.out;
    uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    char name[48], about[200], day[16];
    struct exec graph = { .fused = true, .graph = true };
    struct err ignored = { 0 };
    time_t now = time(NULL);
    json_t *o;
    int rc;

    if (one < 0 || many < 0 || (launch = measure_launch(&j->m, j->e)) < 0)
        return -1;
    per_seq = many > one ? (many - one) / 63 : 0;
    strftime(day, sizeof day, "%Y-%m-%d", gmtime(&now));
    if (j->a.name)
        snprintf(name, sizeof name, "%s", j->a.name);
    else
        snprintf(name, sizeof name, "%.*s", (int)strcspn(base, "."), base);
    snprintf(about, sizeof about, "measured on %.60s, %s, shapes of %.30s%s; host link assumed 25 GB/s", j->dev.label,
             day, j->shape.name, j->a.quick ? " (quick: few points)" : "");
    o = json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I}", "schema", "sim-profile/1",
                  "name", name, "about", about, "flops", j->best_flops * 1e9, "bandwidth", j->best_bytes * 1e9,
                  "flop_efficiency", 1.0, "byte_efficiency", 1.0, "link_bandwidth", 25e9, "launch_ns", launch,
                  "host_step_ns", (json_int_t)(one - per_seq), "host_seq_ns", (json_int_t)per_seq,
                  "mem_bytes", (json_int_t)(j->dev.mem_bytes ? j->dev.mem_bytes : ram));
    if (o && !dev_exec(&j->dev, &graph, &ignored))
        json_object_set_new(o, "graph_launch_ns", json_real(1));       /* the gap is in the tables */
    rc = o ? dump(j, o) : err_set(j->e, EXIT_RUN_FAILED, "out of memory");
    json_decref(o);
    if (!rc && j->a.json)
        return report_print(json_pack("{s:s, s:o, s:o, s:I, s:i}", "profile", j->a.out, "name", report_text(name),
                                      "about", report_text(about), "tables",
                                      (json_int_t)json_array_size(j->ops), "points", (int)j->n_done), "--out", j->e);
    if (!rc && !j->a.quiet)
        printf("%s: %zu tables, %u points; try: servelab run --trace chat.json --device sim --profile %s\n", j->a.out,
               json_array_size(j->ops), j->n_done, j->a.out);
    return rc;
}

static int measure_all(struct job *j)
{
    const struct model_shape *s = &j->shape;
    uint32_t most = (uint32_t)j->a.max_tok;

    j->m.rounds = j->a.quick ? 3 : 7;
    if (!strcmp(j->dev.ops->name, "cuda"))
        j->m.cold_bytes = (uint64_t)256 << 20;  /* several times its L2 */
    if (each(j, j->a.prec, matrices) ||
        by_rows(j, table_new(j, OP_NORM, FMT_F16, s->dim, 0, BY_ROWS), norm, most, 0) ||
        by_rows(j, table_new(j, OP_SWIGLU, FMT_F16, s->ffn, 0, BY_ROWS), swiglu, most, 0) ||
        by_rows(j, table_new(j, OP_GATHER, FMT_F16, s->dim, 0, BY_ROWS), gather, min_u32(most, 64), 0) ||
        by_rows(j, table_new(j, OP_PICK, FMT_F16, s->vocab, 0, BY_ROWS), pick, min_u32(most, 64), 0) ||
        each(j, j->a.kv, kv_format))
        return -1;
    return write_profile(j);
}

static int read_args(struct args *a, int argc, char **argv, bool *done, struct err *e)
{
    int opt;

    while ((opt = verb_option(&verb_profile, argc, argv, options, done, e)) != -1)
        switch (opt) {
        case O_OUT: a->out = optarg; break;
        case O_NAME: a->name = optarg; break;
        case O_DEVICE: a->device = optarg; break;
        case O_MODEL: a->model = optarg; break;
        case O_PREC: a->prec = optarg; break;
        case O_KV: a->kv = optarg; break;
        case O_QUICK: a->quick = true; break;
        case O_QUIET: a->quiet = true; break;
        case O_JSON: a->json = true; break;
        case O_TOK:
            if (parse_int(optarg, 16, 65536, &a->max_tok))
                return err_set(e, EXIT_USAGE, "--max-tokens %s: expected 16 to 65536", optarg);
            break;
        case O_MAXKV:
            if (parse_int(optarg, 64, 1 << 24, &a->max_kv))
                return err_set(e, EXIT_USAGE, "--max-kv %s: expected 64 to %d", optarg, 1 << 24);
            break;
        case O_THREADS:
            if (parse_int(optarg, 1, 256, &a->threads))
                return err_set(e, EXIT_USAGE, "--threads %s: expected 1 to 256", optarg);
            break;
        default: return -1;
        }
    if (!*done && !a->out)
        return err_set(e, EXIT_USAGE, "profile: --out FILE is missing; 'servelab profile --help' has an example");
    return 0;
}

static int run(int argc, char **argv, struct err *e)
{
    struct job j = { .a = { .device = "cpu", .model = "smollm2-135m", .prec = "f16", .kv = "f16", .max_tok = 512,
                            .max_kv = 16384 }, .e = e };
    const struct device_ops *ops;
    struct device_conf conf = { 0 };
    bool done = false;
    int rc = -1;

    if (read_args(&j.a, argc, argv, &done, e))
        return -1;
    if (done)
        return 0;
    conf.n_thread = (int)j.a.threads;
    ops = device_find(j.a.device, e);
    if (!ops || shape_load(&j.shape, j.a.model, e) || dev_open(&j.dev, ops, &conf, e))
        return -1;
    j.ops = json_array();
    if (!measure_open(&j.m, &j.dev, &j.shape, (uint32_t)j.a.max_tok, e))
        rc = measure_all(&j);
    json_decref(j.ops);
    measure_close(&j.m);
    dev_close(&j.dev);
    return rc;
}

const struct verb verb_profile = {
    .name = "profile", .about = "time a device's operations: a profile for the simulator", .help = help,
    .rank = 6, .run = run,
};
