/* bench_log.c - logging speed: what a row costs the caller while a run is timed, and rows per second until
 * the run's last row is safely in the file. */
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "harness/roof.h"
#include "harness/scratch_store.h"
#include "harness/verb.h"

extern const struct bench bench_log;

enum { TOKENS = 32 };

static int feed(struct recorder *rec, bool steps, int64_t n, struct err *e)
{
    uint32_t delta[TOKENS];

    for (int i = 0; i < TOKENS; i++)
        delta[i] = 1000u + (uint32_t)i;
    for (int64_t i = 0; i < n; i++) {
        struct step_row s = { .step_index = i, .start_ns = i * 1000, .end_ns = i * 1000 + 900,
                              .decode_tokens = 8, .decode_seqs = 8, .running = 8,
                              .kv_blocks_used = 10, .kv_blocks_total = 100, .kv_slots_total = 1600,
                              .kv_slots_held = 160, .kv_tokens_stored = 150, .device_ns = 900 };
        struct request_row r = { .request_id = i, .trace_request_id = "1", .arrival_ns = i,
                                 .injected_ns = i, .admitted_ns = i, .first_token_ns = i + 1000,
                                 .finish_ns = i + 50000, .prompt_tokens = 100,
                                 .output_tokens = TOKENS, .target_output_tokens = TOKENS,
                                 .status = "finished", .finish_reason = "length",
                                 .delta_us = delta, .n_delta = TOKENS };

        if (steps ? recorder_step(rec, &s, e) : recorder_request(rec, &r, e))
            return -1;
    }
    return 0;
}

static int one(const char *what, bool steps, bool keep, int64_t n, struct err *e)
{
    struct scratch_store store;
    struct run_end end = { .status = "done", .validity = "valid", .reasons = "" };
    double t0, t1, t2;
    int rc = scratch_store_open(&store, keep, e);

    t0 = bench_seconds();
    rc = rc || feed(store.rec, steps, n, e);
    t1 = bench_seconds();
    rc = rc || recorder_run_end(store.rec, &end, e);
    t2 = bench_seconds();
    if (!rc)
        printf("%-34s %-10s %9lld rows %8.0f ns/row in the caller %10.0f rows/s in all\n", what,
               keep ? "in memory" : "streamed", (long long)n, (t1 - t0) * 1e9 / (double)n,
               (double)n / (t2 - t0));
    scratch_store_close(&store);
    return rc ? -1 : 0;
}

static const char help[] =
    "usage: servelab bench log [--rows N]\n\nWrites N step rows, then N request rows with the times of 32 "
    "tokens each (default 200000), held in\nmemory until the run ends (real clocks) and streamed (virtual "
    "clocks).\n";
static const struct option options[] = { { "rows", 1, NULL, 'n' }, { 0 } };

static int run(int argc, char **argv, struct err *e)
{
    const struct verb me = { .name = "bench log", .help = help };
    int64_t n = 200000;
    bool done;
    int opt;

    while ((opt = verb_option(&me, argc, argv, options, &done, e)) != -1)
        if (opt == '?' || parse_int(optarg, 1, 100000000, &n))
            return err_set(e, EXIT_USAGE, "--rows: expected a whole number from 1");
    if (done)
        return 0;
    return one("step rows", true, true, n, e) || one("step rows", true, false, n, e) ||
           one("request rows with token times", false, true, n, e) ||
           one("request rows with token times", false, false, n, e) ? -1 : 0;
}

const struct bench bench_log = {
    .name = "log", .about = "logging speed: cost of a row to the timed loop, rows per second", .run = run,
};
