#include "tests/results_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "results/db.h"
#include "results/recorder.h"
#include "tests/test.h"

enum { SEQS = 8, SLOTS = 2560, MAX_LEN = 512, BLOCK = 16, MAX_REQ = 4096, BUDGET = 96 };
enum sched { STATIC, CONTINUOUS, CHUNKED };

struct toy {                           /* one request of the toy loop */
    int64_t arrive, admit, first, finish, last, preempted, itl_max;
    uint32_t prompt, out, kv, made, deltas[400];
    int slot, seat;                    /* -1: waiting or done; seat: the slot it had */
};
struct world {
    enum sched sched;
    bool paged, int4;
    uint32_t n, held, arrived;
    int64_t now, idle;
    struct toy *req;
    struct step_row step;
};

static const char *const sched_names[] = {"static", "continuous", "chunked"};

static void make_requests(struct world *w, double rate)
{
    struct rng r;
    double t = 0;

    rng_seed(&r, 7);
    for (uint32_t i = 0; i < w->n; i++) {
        struct toy *q = &w->req[i];

        memset(q, 0, sizeof *q);
        t += rng_gamma(&r, 0.7) * 2.6e8 / rate;
        q->arrive = (int64_t)t;
        q->prompt = 16 + (uint32_t)(rng_gamma(&r, 1.2) * 60) % 240;
        q->out = 2 + (uint32_t)(rng_gamma(&r, 1.5) * 24) % 200;
        q->slot = -1;
    }
}

static uint32_t room(const struct world *w, uint32_t tokens)
{
    return w->paged ? (tokens + BLOCK - 1) / BLOCK * BLOCK : MAX_LEN;
}

static bool waits(const struct world *w, const struct toy *q)
{
    return q->slot < 0 && !q->finish && q->arrive <= w->now;
}

static int free_slot(const struct world *w)
{
    bool used[SEQS] = {false};

    for (uint32_t i = 0; i < w->n; i++)
        if (w->req[i].slot >= 0)
            used[w->req[i].slot] = true;
    for (int s = 0; s < SEQS; s++)
        if (!used[s])
            return s;
    return -1;
}

/* Lets requests in, in order, while there is a slot, memory and (static) an empty batch. */
static void admit(struct world *w)
{
    bool closed = false;

    for (uint32_t i = 0; i < w->n; i++)
        closed = closed || (w->sched == STATIC && w->req[i].slot >= 0);
    for (uint32_t i = 0; i < w->n; i++) {
        struct toy *q = &w->req[i];

        if (!waits(w, q))
            continue;
        if (closed)
            w->step.wait[3]++;
        else if (free_slot(w) < 0)
            w->step.wait[2]++;
        else if (w->held + room(w, q->prompt + q->out) > SLOTS)
            w->step.wait[0]++;
        else {
            q->slot = q->seat = free_slot(w);
            q->admit = w->now;
            w->held += room(w, q->prompt + q->out);
            continue;
        }
        w->step.waiting++;
    }
}

static void advance(struct world *w, struct toy *q, int64_t end)
{
    int64_t from = q->made ? q->last : q->arrive;

    q->deltas[q->made++] = (uint32_t)((end - from) / 1000);
    if (q->made > 1 && end - from > q->itl_max)
        q->itl_max = end - from;
    q->last = end;
    if (q->made == 1)
        q->first = end;
    if (q->made < q->out)
        return;
    q->finish = end;
    q->slot = -1;
    w->held -= room(w, q->prompt + q->out);
}

/* Chooses tokens for each running request; to_run[i] = 0 leaves it out of the step. */
static uint32_t choose(struct world *w, uint32_t *to_run)
{
    uint32_t budget = w->sched == CHUNKED ? BUDGET : 1u << 20, total = 0;

    for (int decode_first = 1; decode_first >= 0; decode_first--)
        for (uint32_t i = 0; i < w->n; i++) {
            struct toy *q = &w->req[i];
            uint32_t todo = q->prompt + q->made - q->kv;

            if (q->slot < 0 || (todo == 1) != decode_first || total >= budget)
                continue;
            to_run[i] = todo < budget - total ? todo : budget - total;
            total += to_run[i];
            *(todo == 1 ? &w->step.decode_tokens : &w->step.prefill_tokens) += to_run[i];
            *(todo == 1 ? &w->step.decode_seqs : &w->step.prefill_seqs) += 1;
        }
    return total;
}

static void count_memory(struct world *w)
{
    struct step_row *t = &w->step;

    t->kv_slots_total = SLOTS;
    t->kv_slots_held = w->held;
    t->kv_blocks_total = w->paged ? SLOTS / BLOCK : SLOTS / MAX_LEN;
    t->kv_blocks_used = w->held / (w->paged ? BLOCK : MAX_LEN);
    for (uint32_t i = 0; i < w->n; i++) {
        struct toy *q = &w->req[i];

        if (q->slot < 0)
            continue;
        t->running++;
        t->kv_tokens_stored += q->kv;
        t->kv_slots_future += q->prompt + q->out - 1 - q->kv;
    }
}

static int one_step(struct world *w, struct recorder *r, struct err *e)
{
    static uint32_t to_run[MAX_REQ];
    struct step_row *t = &w->step;
    int64_t index = t->step_index, cost;

    memset(t, 0, sizeof *t);
    memset(to_run, 0, w->n * sizeof *to_run);
    admit(w);
    choose(w, to_run);
    cost = (w->int4 ? 9 : 14) * 1000000 + t->prefill_tokens * (w->int4 ? 340000 : 300000) +
           t->decode_tokens * 900000;
    t->step_index = index;
    t->start_ns = w->now;
    t->end_ns = w->now += cost;
    t->host_ns = 20000;
    t->device_ns = NS_NONE;
    for (uint32_t i = 0; i < w->n; i++)
        w->req[i].kv += to_run[i];
    count_memory(w);
    for (uint32_t i = 0; i < w->n; i++)
        if (to_run[i] && w->req[i].kv == w->req[i].prompt + w->req[i].made)
            advance(w, &w->req[i], t->end_ns);
    if (recorder_step(r, t, e))
        return -1;
    t->step_index++;
    return 0;
}

static bool all_done(const struct world *w)
{
    for (uint32_t i = 0; i < w->n; i++)
        if (!w->req[i].finish)
            return false;
    return true;
}

/* Skips to the next arrival when nothing is running. */
static void skip_idle(struct world *w)
{
    int64_t next = INT64_MAX;

    for (uint32_t i = 0; i < w->n; i++) {
        if (w->req[i].slot >= 0 || waits(w, &w->req[i]))
            return;
        if (!w->req[i].finish && w->req[i].arrive < next)
            next = w->req[i].arrive;
    }
    w->idle += next - w->now;
    w->now = next;
}

static int record_requests(struct world *w, const struct fixture *f, bool last, struct recorder *r,
                           struct err *e)
{
    for (uint32_t i = 0; i < w->n; i++) {
        const struct toy *q = &w->req[i];
        char id[24];
        struct request_row row = {.request_id = i,
                                  .trace_request_id = id,
                                  .arrival_ns = q->arrive,
                                  .injected_ns = q->arrive,
                                  .admitted_ns = q->admit,
                                  .first_token_ns = q->first,
                                  .finish_ns = q->finish,
                                  .prompt_tokens = q->prompt,
                                  .output_tokens = q->made,
                                  .target_output_tokens = q->out,
                                  .slot = q->seat,
                                  .itl_max_ns = q->out > 1 ? q->itl_max : NS_NONE,
                                  .status = "finished",
                                  .finish_reason = "length",
                                  .has_hash = !f->sim,
                                  .output_hash = hash64(w->int4, i),
                                  .delta_us = q->deltas,
                                  .n_delta = q->made};

        snprintf(id, sizeof id, "r%u", i);
        if (last && f->wrong_outputs && i == 0)
            row.output_hash ^= 1;
        if (recorder_request(r, &row, e))
            return -1;
    }
    return 0;
}

static int replay(struct world *w, const struct fixture *f, bool last, struct recorder *r,
                  struct err *e)
{
    while (!all_done(w)) {
        skip_idle(w);
        if (one_step(w, r, e))
            return -1;
    }
    return record_requests(w, f, last, r, e);
}

static int one_run(struct recorder *r, const struct fixture *f, const int64_t id[3],
                   uint32_t strategy, double rate, uint32_t rep, int64_t order, bool last,
                   struct err *e)
{
    struct world w = {.sched = (enum sched)(strategy / 2 % 3), .paged = strategy & 1,
                      .int4 = strategy >= 6, .n = f->n_request};
    const char *prec = w.int4 ? "int4" : "f16", *kv = w.paged ? "paged" : "contiguous";
    char name[160], config[240];
    struct model_row model = {
        "tiny-llama", "made from seed 1", prec, "f16", 2, 4, 2, 64, 256, 1 << 20, 512, true, NULL};
    struct strategy_row s = {name,
                             config,
                             sched_names[w.sched],
                             kv,
                             prec,
                             "f16",
                             w.paged ? BLOCK : MAX_LEN,
                             SEQS,
                             w.sched == CHUNKED ? BUDGET : 0};
    struct run_row run = {.experiment_id = id[0],
                          .trace_id = id[1],
                          .environment_id = id[2],
                          .backend = f->sim ? "sim h200 (roofline)" : "cpu avx512 2 threads",
                          .device = f->sim ? "sim" : "cpu",
                          .clock = f->sim ? "virtual" : "monotonic",
                          .pace = f->sim ? "virtual" : "skip",
                          .loop = "open",
                          .rate_scale = rate,
                          .seed = 1,
                          .repeat_index = rep,
                          .order_index = order,
                          .pair_key = "k",
                          .slo_json =
                              f->no_slo ? NULL : "{\"ttft_ms\":800,\"tpot_ms\":60,\"e2e_ms\":0}",
                          .params_json = "{}",
                          .kv_slots_obtained = SLOTS,
                          .max_len = MAX_LEN};
    struct run_end end = {.status = "done", .validity = "valid", .reasons = ""};
    int bad;

    snprintf(name, sizeof name, "%s%s+%s+%s", sched_names[w.sched],
             w.sched == CHUNKED ? ":budget=96" : "", kv, prec);
    snprintf(config, sizeof config, "{\"name\":\"%s\"}", name);
    run.model_id = recorder_model(r, &model, e);
    run.strategy_id = recorder_strategy(r, &s, e);
    if (!(w.req = calloc(f->n_request + 1, sizeof *w.req)))
        return err_set(e, EXIT_RUN_FAILED, "out of memory");
    make_requests(&w, rate);
    bad = recorder_run_begin(r, &run, !f->sim, e) < 0 || replay(&w, f, last, r, e);
    free(w.req);
    end.window_end_ns = end.duration_ns = w.now;
    end.steps = w.step.step_index;
    end.idle_ns = w.idle;
    if (order == 1 && f->validity) {
        end.validity = f->validity;
        end.reasons = f->reasons;
    }
    if (bad || (last && f->killed))
        return bad ? -1 : 0;
    return recorder_run_end(r, &end, e);
}

static int all_runs(struct recorder *r, const struct fixture *f, struct err *e)
{
    static const double one[] = {1};
    const double *rates = f->rates ? f->rates : one;
    uint32_t n_rate = f->rates ? f->n_rate : 1, n_run = n_rate * f->repeats * f->n_strategy;
    struct environment_row env = {.hostname = "host", .os = "Linux", .cpu_model = "an invented cpu",
                                  .compiler = "cc", .git_commit = "0123abc", .cpu_cores = 2};
    struct trace_row trace = {.name = f->trace ? f->trace : "chat.json",
                              .format = "serving-trace/1",
                              .licence = "CC-BY-4.0",
                              .sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0"
                                        "f00a08",
                              .request_count = f->n_request,
                              .duration_ns = 20000000000,
                              .is_synthetic = true};
    struct experiment_row exp = {f->name ? f->name : "fixture", "{}",
                                 "servelab run --trace chat.json --strategy all", ""};
    int64_t id[3] = {recorder_experiment(r, &exp, e), recorder_trace(r, &trace, e),
                     recorder_environment(r, &env, e)};

    struct fixture again = *f;

    again.sim = true;
    for (uint32_t i = 0; i < n_run; i++)
        if (one_run(r, f, id, i % f->n_strategy, rates[i / f->n_strategy % n_rate],
                    i / f->n_strategy / n_rate, i, i + 1 == n_run, e) ||
            (f->also_sim && one_run(r, &again, id, i % f->n_strategy,
                                    rates[i / f->n_strategy % n_rate], i / f->n_strategy / n_rate,
                                    n_run + i, false, e)))
            return -1;
    return 0;
}

int fixture_make(const char *db, const struct fixture *f, struct err *e)
{
    struct recorder *r = recorder_open(db, e);
    int bad = !r || all_runs(r, f, e);

    recorder_close(r);
    return bad ? -1 : 0;
}

const char *fixture_path(const char *name)
{
    static char path[4][600];
    static int turn;
    char *p = path[turn++ % 4];

    snprintf(p, sizeof path[0], "%s/%s", test_dir(), name);
    return p;
}

sqlite3 *fixture_reader(const char *path)
{
    struct err e = {0};
    sqlite3 *db = db_open_read(path, 0, &e);

    if (!db)
        test_note("%s", e.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(db);
    return db;
}
