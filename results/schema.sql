-- schema.sql - version 3 of what servelab remembers. Compiled into the binary; run in one transaction.
-- Rules: plural tables, *_id local integers, *_uid identities for merging, instants *_ns = ns since the
-- run's start, wall times *_at = ISO-8601 UTC text, ms only in views. NULL: not known, never "zero".
-- The numbers in application_id ('SVLB') and user_version are repeated in db.h; a test compares them.
PRAGMA application_id = 1398164546;
PRAGMA user_version = 3;

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE environments (
  environment_id INTEGER PRIMARY KEY,
  hostname TEXT, os TEXT, kernel TEXT, cpu_model TEXT, cpu_governor TEXT,
  compiler TEXT, build_flags TEXT, git_commit TEXT,
  cpu_cores INTEGER, ram_bytes INTEGER,
  is_dirty INTEGER NOT NULL CHECK (is_dirty IN (0, 1))
) STRICT;

CREATE TABLE models (
  model_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL, about TEXT, weight_dtype TEXT, kv_dtype TEXT,
  layers INTEGER, heads INTEGER, kv_heads INTEGER, d_model INTEGER, vocab_size INTEGER,
  weight_bytes INTEGER, kv_bytes_per_token INTEGER,
  is_synthetic INTEGER NOT NULL CHECK (is_synthetic IN (0, 1)),
  sha256 TEXT                             -- of the weights' file; of the shape when they are synthetic
) STRICT;

-- One file read with two limits is two rows with one sha256.
CREATE TABLE traces (
  trace_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL, sha256 TEXT, format TEXT, licence TEXT, source TEXT,
  request_count INTEGER NOT NULL CHECK (request_count >= 0),
  duration_ns INTEGER, prompt_tokens_total INTEGER, output_tokens_total INTEGER,
  prefix_share REAL,
  is_synthetic INTEGER NOT NULL CHECK (is_synthetic IN (0, 1))
) STRICT;

-- color_index belongs to the name for ever: rows of one name (config changed since) share it.
CREATE TABLE strategies (
  strategy_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL, config_json TEXT, scheduler TEXT, memory TEXT, weight_dtype TEXT, kv_dtype TEXT,
  kv_block_tokens INTEGER, max_batch INTEGER, token_budget INTEGER,
  color_index INTEGER NOT NULL CHECK (color_index >= 0)
) STRICT;

CREATE TABLE experiments (
  experiment_id INTEGER PRIMARY KEY,
  experiment_uid TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL, spec_json TEXT, command_line TEXT, note TEXT,
  created_at TEXT NOT NULL
) STRICT;

-- What `servelab quality` found: one row per precision of one call. loss, kl, top1 and agree are against the
-- first precision of the call (is_reference); *_lo and *_hi are 95 % intervals over windows (agree: over prompts).
-- source_quantised: the file's own weights were already quantised, so the reference is not the original model.
-- row_hash covers the rest of this row and the experiment, model and environment that it names.
CREATE TABLE quality (
  quality_id INTEGER PRIMARY KEY, row_hash INTEGER,
  experiment_id INTEGER NOT NULL REFERENCES experiments,
  model_id INTEGER NOT NULL REFERENCES models,
  environment_id INTEGER NOT NULL REFERENCES environments,
  device TEXT NOT NULL, text_name TEXT NOT NULL, text_sha256 TEXT NOT NULL,
  is_reference INTEGER NOT NULL CHECK (is_reference IN (0, 1)),
  source_quantised INTEGER NOT NULL CHECK (source_quantised IN (0, 1)),
  window INTEGER NOT NULL, stride INTEGER NOT NULL, scored_tokens INTEGER NOT NULL, windows INTEGER NOT NULL,
  ppl REAL NOT NULL, ppl_lo REAL, ppl_hi REAL,
  loss_pct REAL NOT NULL, loss_pct_lo REAL, loss_pct_hi REAL,
  kl REAL NOT NULL, kl_lo REAL, kl_hi REAL,
  top1_pct REAL NOT NULL, top1_pct_lo REAL, top1_pct_hi REAL,
  agree_tokens REAL NOT NULL, agree_tokens_lo REAL, agree_tokens_hi REAL,
  answers INTEGER NOT NULL, answers_same INTEGER NOT NULL, answer_tokens INTEGER NOT NULL,
  prefill_tok_s REAL NOT NULL, decode_tok_s REAL NOT NULL,
  weight_bytes INTEGER NOT NULL, scale_bytes INTEGER NOT NULL, kv_bytes_per_token INTEGER NOT NULL
) STRICT;

-- rows_hash covers the rows of requests, token_times, itl_hist and steps: equal for equal runs, so that
-- two virtual runs can be compared in one query. run_hash covers this row and the experiment, trace, model,
-- environment and strategy that it names. `db check` recomputes both.
CREATE TABLE runs (
  run_id INTEGER PRIMARY KEY,
  run_uid TEXT NOT NULL UNIQUE,
  experiment_id INTEGER NOT NULL REFERENCES experiments,
  trace_id INTEGER NOT NULL REFERENCES traces,
  model_id INTEGER NOT NULL REFERENCES models,
  environment_id INTEGER NOT NULL REFERENCES environments,
  strategy_id INTEGER NOT NULL REFERENCES strategies,
  backend TEXT NOT NULL,
  device TEXT NOT NULL CHECK (length(device) > 0),
  clock TEXT NOT NULL CHECK (clock IN ('monotonic', 'virtual')),
  pace TEXT NOT NULL CHECK (pace IN ('skip', 'wall', 'virtual')),
  loop TEXT NOT NULL CHECK (loop IN ('open', 'closed')),
  rate_scale REAL NOT NULL CHECK (rate_scale > 0),
  seed INTEGER NOT NULL, repeat_index INTEGER NOT NULL, order_index INTEGER NOT NULL,
  pair_key TEXT, slo_json TEXT, params_json TEXT,
  kv_bytes_asked INTEGER, kv_slots_obtained INTEGER, kv_blocks_total INTEGER, max_len INTEGER,
  started_at TEXT NOT NULL,
  -- known when the run is over
  status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed', 'aborted')),
  validity TEXT CHECK (validity IN ('valid', 'suspect', 'invalid')),
  reasons TEXT,
  window_start_ns INTEGER, window_end_ns INTEGER, duration_ns INTEGER,
  window_output_tokens INTEGER,          -- tokens emitted inside the window, counted from token times
  peak_host_bytes INTEGER, peak_device_bytes INTEGER,
  step_count INTEGER, idle_ns INTEGER, skipped_ns INTEGER,
  flops REAL, bytes REAL,
  rows_hash INTEGER, run_hash INTEGER,
  CHECK (status = 'running' OR validity IS NOT NULL),
  CHECK (window_end_ns >= window_start_ns)
) STRICT;
CREATE INDEX runs_by_experiment ON runs (experiment_id, strategy_id);

-- output_hash: 64 bits as two's complement; equal outputs are equal integers.
CREATE TABLE requests (
  run_id INTEGER NOT NULL REFERENCES runs,
  request_id INTEGER NOT NULL CHECK (request_id >= 0),
  trace_request_id TEXT, session_id TEXT, turn_index INTEGER NOT NULL,
  arrival_ns INTEGER NOT NULL, injected_ns INTEGER, admitted_ns INTEGER,
  first_token_ns INTEGER, finish_ns INTEGER,
  prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL CHECK (output_tokens >= 0),
  target_output_tokens INTEGER NOT NULL,
  slot INTEGER, preempt_count INTEGER NOT NULL, preempted_ns INTEGER NOT NULL,
  prefill_preempted_ns INTEGER NOT NULL,       -- the part of preempted_ns before the first token
  recomputed_tokens INTEGER NOT NULL, itl_max_ns INTEGER,
  status TEXT NOT NULL CHECK (status IN ('finished', 'rejected', 'failed', 'censored')),
  finish_reason TEXT,
  output_hash INTEGER,
  PRIMARY KEY (run_id, request_id)
) STRICT, WITHOUT ROWID;

-- delta_us: u32 little-endian per output token: gap before it; the first counts from the intended arrival.
CREATE TABLE token_times (
  run_id INTEGER NOT NULL,
  request_id INTEGER NOT NULL,
  delta_us BLOB NOT NULL CHECK (length(delta_us) % 4 = 0),
  PRIMARY KEY (run_id, request_id),
  FOREIGN KEY (run_id, request_id) REFERENCES requests
) STRICT, WITHOUT ROWID;

-- Gaps between tokens of one request, all requests of a run: log-linear buckets [lo_us, hi_us), exact
-- below 128 us, at most 1/64 wide above; sum_us keeps means exact. The plain sqlite3 shell can read it.
CREATE TABLE itl_hist (
  run_id INTEGER NOT NULL REFERENCES runs,
  lo_us INTEGER NOT NULL, hi_us INTEGER NOT NULL,
  count INTEGER NOT NULL CHECK (count > 0), sum_us INTEGER NOT NULL,
  PRIMARY KEY (run_id, lo_us)
) STRICT, WITHOUT ROWID;

-- kv_slots_*: token slots. held: owned by requests; stored: held with K and V in them; future: held,
-- empty, will be used; the rest of held is never used. wait_*: waiting requests by reason, in step order.
CREATE TABLE steps (
  run_id INTEGER NOT NULL REFERENCES runs,
  step_index INTEGER NOT NULL CHECK (step_index >= 0),
  start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
  prefill_tokens INTEGER NOT NULL, decode_tokens INTEGER NOT NULL,
  prefill_seqs INTEGER NOT NULL, decode_seqs INTEGER NOT NULL,
  running INTEGER NOT NULL, waiting INTEGER NOT NULL,
  kv_blocks_used INTEGER NOT NULL, kv_blocks_total INTEGER NOT NULL,
  kv_slots_total INTEGER NOT NULL, kv_slots_held INTEGER NOT NULL,
  kv_tokens_stored INTEGER NOT NULL, kv_slots_future INTEGER NOT NULL,
  preemptions INTEGER NOT NULL, host_ns INTEGER, device_ns INTEGER,
  kv_tokens_shared INTEGER NOT NULL,           -- stored once, used by several requests: counted beyond the first
  cache_hit_tokens INTEGER NOT NULL, evicted_blocks INTEGER NOT NULL,
  copied_tokens INTEGER NOT NULL, swapped_out_tokens INTEGER NOT NULL,
  swapped_in_tokens INTEGER NOT NULL,
  wait_no_kv INTEGER NOT NULL, wait_budget INTEGER NOT NULL, wait_seq_cap INTEGER NOT NULL,
  wait_batch_closed INTEGER NOT NULL, wait_order INTEGER NOT NULL,
  pad_rows INTEGER NOT NULL,                   -- computed for nothing: graphs are replayed at padded sizes
  CHECK (end_ns >= start_ns),
  PRIMARY KEY (run_id, step_index)
) STRICT, WITHOUT ROWID;
