/* recorder.h - plain rows in, SQLite out.
 *
 * One writer. A run's row is inserted as `running` and committed, its request, token and step rows are
 * kept in memory and written off the timed path in batched transactions, and the run row is flipped to
 * its final status last: a killed run never counts. Rollback journal, never WAL: the file can be copied
 * at any time. Rows given here are copied. All times are ns since the run's start. */
#ifndef RESULTS_RECORDER_H
#define RESULTS_RECORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define NS_NONE INT64_MIN              /* becomes NULL */

struct recorder;

/* How much of a run is recorded; each includes the ones before. GAPS: the histogram of gaps between tokens; TOKEN:
 * every token's time. `db check` reads it from the run's params_json ("log"; all when it is not there). */
enum log_level { LOG_SUMMARY, LOG_REQUEST, LOG_GAPS, LOG_STEP, LOG_TOKEN };

struct environment_row {
    const char *hostname, *os, *kernel, *cpu_model, *cpu_governor, *compiler, *build_flags, *git_commit;
    int64_t cpu_cores, ram_bytes;
    bool is_dirty;
};
struct model_row {
    const char *name, *about, *weight_dtype, *kv_dtype;   /* about: source of weights */
    int64_t layers, heads, kv_heads, d_model, vocab_size, weight_bytes, kv_bytes_per_token;
    bool is_synthetic;
    const char *sha256;            /* of the weights' file, or of the shape when they are synthetic */
};
struct quality_row {
    int64_t experiment_id, model_id, environment_id;
    const char *device, *text_name, *text_sha256;
    bool is_reference, source_quantised;
    int64_t window, stride, scored_tokens, windows, answers, answers_same, answer_tokens;
    double ppl[3], loss_pct[3], kl[3], top1_pct[3], agree_tokens[3];   /* mean, low, high; not finite: not known */
    double prefill_tok_s, decode_tok_s;
    int64_t weight_bytes, scale_bytes, kv_bytes_per_token;
};
struct trace_row {
    const char *name, *sha256, *format, *licence, *source;
    int64_t request_count, duration_ns, prompt_tokens_total, output_tokens_total;
    double prefix_share;
    bool is_synthetic;
};
struct strategy_row {
    const char *name, *config_json, *scheduler, *memory, *weight_dtype, *kv_dtype;
    int64_t kv_block_tokens, max_batch, token_budget;
};
struct experiment_row { const char *name, *spec_json, *command_line, *note; };

struct run_row {
    int64_t experiment_id, trace_id, model_id, environment_id, strategy_id;
    const char *backend;               /* device label: "cpu avx512 2 threads" */
    const char *device;                /* cpu, sim, ref, cuda */
    const char *clock;                 /* monotonic, virtual */
    const char *pace;                  /* skip, wall, virtual */
    const char *loop;                  /* open */
    double rate_scale;
    int64_t seed, repeat_index, order_index;
    const char *pair_key, *slo_json, *params_json;
    bool gaps_only;                    /* of token times only the histogram of gaps is written */
    int64_t kv_bytes_asked, kv_slots_obtained, kv_blocks_total, max_len;
};
struct run_end {                       /* what is known when a run is over */
    const char *status;                /* done, failed, aborted */
    const char *validity;              /* valid, suspect, invalid */
    const char *reasons;               /* "" or reasons joined by "; " */
    int64_t window_start_ns, window_end_ns, duration_ns, peak_host_bytes, peak_device_bytes;
    int64_t steps, idle_ns, skipped_ns;
    double flops, bytes;               /* charged by device.c */
};
struct request_row {
    int64_t request_id;                /* row in the trace, from 0 */
    const char *trace_request_id, *session_id;           /* session_id may be NULL */
    int64_t turn_index;                                  /* 0: none */
    int64_t arrival_ns, injected_ns, admitted_ns, first_token_ns, finish_ns;   /* NS_NONE: NULL */
    int64_t prompt_tokens, cached_tokens, output_tokens, target_output_tokens;
    int64_t slot, preempt_count, preempted_ns, prefill_preempted_ns, recomputed_tokens, itl_max_ns;
    const char *status;                /* finished, rejected, failed, censored */
    const char *finish_reason;         /* length, or the reason of refusal or failure */
    bool has_hash;
    uint64_t output_hash;
    const uint32_t *delta_us;          /* [n_delta] gap before each output token; NULL: not logged */
    uint32_t n_delta;                  /* the first is counted from the intended arrival */
};
enum { WHY_COLUMNS = 5 };              /* no KV room, token budget, sequence cap, batch closed, ordering */
struct step_row {
    int64_t step_index, start_ns, end_ns;
    int64_t prefill_tokens, decode_tokens, prefill_seqs, decode_seqs, running, waiting;
    int64_t kv_blocks_used, kv_blocks_total;
    int64_t kv_slots_total, kv_slots_held;               /* token slots; held = owned by requests */
    int64_t kv_tokens_stored, kv_slots_future;           /* future: held, empty, will be used */
    int64_t preemptions, host_ns, device_ns;
    int64_t kv_tokens_shared;          /* used by several requests, counted beyond the first */
    int64_t cache_hit_tokens, evicted_blocks;            /* prefix cache: spared, given up */
    int64_t copied_tokens, swapped_out_tokens, swapped_in_tokens;   /* K and V moved before the step */
    int64_t pad_rows;
    int64_t wait[WHY_COLUMNS];
};

/* Opens or creates the database; refuses another application's or a newer schema's file. */
struct recorder *recorder_open(const char *path, struct err *e);
void recorder_close(struct recorder *r);

/* Each returns the row's id, or -1 with *e filled. An equal row that stands there is used again, but an
 * experiment is always a new one: what was run twice can be told apart. */
int64_t recorder_environment(struct recorder *r, const struct environment_row *row, struct err *e);
int64_t recorder_model(struct recorder *r, const struct model_row *row, struct err *e);
int64_t recorder_trace(struct recorder *r, const struct trace_row *row, struct err *e);
int64_t recorder_strategy(struct recorder *r, const struct strategy_row *row, struct err *e);
int64_t recorder_quality(struct recorder *r, const struct quality_row *row, struct err *e);
int64_t recorder_experiment(struct recorder *r, const struct experiment_row *row, struct err *e);

/* run_begin commits a row with status 'running'. keep_in_memory: hold rows until run_end (real clocks);
 * otherwise they are flushed in batches as they come (virtual clocks). */
int64_t recorder_run_begin(struct recorder *r, const struct run_row *row, bool keep_in_memory,
                           struct err *e);
int recorder_request(struct recorder *r, const struct request_row *row, struct err *e);
int recorder_step(struct recorder *r, const struct step_row *row, struct err *e);
int recorder_run_end(struct recorder *r, const struct run_end *row, struct err *e);

/* integrity_check, foreign_key_check, schema version, and conservation of requests and tokens in SQL.
 * Writes findings to `out` as lines; returns the number of problems, or -1. */
int recorder_check(const char *path, char *out, size_t n, struct err *e);

#endif
