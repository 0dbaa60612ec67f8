-- views.sql - the statistics, in plain SQL (SQLite 3.37 or later, no extension functions).
-- Definitions: docs/METRICS.md and results/README.md. Percentiles are nearest rank: the smallest x with at
-- least q*n values <= x, in integers (k*1000 >= n*permille). A percentile is NULL below its floor, the
-- smallest n at which an order-statistic interval of 95 % has both ends: p50 6, p90 36, p95 72, p99 368,
-- p99.9 3688. Every statement starts with CREATE VIEW: tools also create them as TEMP views over a part of
-- the runs. The views in a file are replaced when a newer binary opens it.

-- One row per request. A request belongs to the window when its intended arrival does.
CREATE VIEW v_requests AS
WITH limits AS (
  SELECT run_id, window_start_ns, window_end_ns,
         nullif(json_extract(slo_json, '$.ttft_ms'), 0) AS ttft,
         nullif(json_extract(slo_json, '$.tpot_ms'), 0) AS tpot,
         nullif(json_extract(slo_json, '$.e2e_ms'), 0) AS e2e
  FROM runs),
times AS (
  SELECT q.*, l.ttft AS slo_ttft, l.tpot AS slo_tpot, l.e2e AS slo_e2e,
         coalesce(q.arrival_ns BETWEEN l.window_start_ns AND l.window_end_ns, 1) AS is_in_window,
         (q.injected_ns - q.arrival_ns) / 1e6 AS lateness_ms,
         (q.admitted_ns - q.arrival_ns) / 1e6 AS queue_ms,
         (q.first_token_ns - q.arrival_ns) / 1e6 AS ttft_ms,
         CASE WHEN q.output_tokens >= 2 AND q.status = 'finished'
              THEN (q.finish_ns - q.first_token_ns) / 1e6 / (q.output_tokens - 1) END AS tpot_ms,
         CASE WHEN q.status = 'finished' THEN (q.finish_ns - q.arrival_ns) / 1e6 END AS e2e_ms
  FROM requests q JOIN limits l USING (run_id))
SELECT *,
       CASE WHEN coalesce(slo_ttft, slo_tpot, slo_e2e) IS NULL THEN NULL
            WHEN status <> 'finished' THEN 0
            ELSE coalesce(ttft_ms <= slo_ttft, 1) AND coalesce(tpot_ms <= slo_tpot, 1)
                 AND coalesce(e2e_ms <= slo_e2e, 1) END AS is_slo_met
FROM times;

CREATE VIEW v_samples AS
  SELECT run_id, 'queue' AS metric, queue_ms AS ms, 1 AS n FROM v_requests
   WHERE is_in_window AND queue_ms IS NOT NULL
  UNION ALL SELECT run_id, 'ttft', ttft_ms, 1 FROM v_requests
   WHERE is_in_window AND ttft_ms IS NOT NULL
  UNION ALL SELECT run_id, 'tpot', tpot_ms, 1 FROM v_requests
   WHERE is_in_window AND tpot_ms IS NOT NULL
  UNION ALL SELECT run_id, 'e2e', e2e_ms, 1 FROM v_requests
   WHERE is_in_window AND e2e_ms IS NOT NULL
  UNION ALL SELECT run_id, 'lateness', lateness_ms, 1 FROM v_requests
   WHERE is_in_window AND lateness_ms IS NOT NULL
  UNION ALL SELECT run_id, 'itl', sum_us / 1e3 / count, count FROM itl_hist;

-- Long: one row per run and metric. Gaps between tokens (itl) come from buckets: within 1/64.
CREATE VIEW v_latency AS
WITH ranked AS (
  SELECT run_id, metric, ms, n,
         sum(n) OVER (PARTITION BY run_id, metric ORDER BY ms
                      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS k,
         sum(n) OVER (PARTITION BY run_id, metric) AS total
  FROM v_samples)
SELECT run_id, metric, max(total) AS n, sum(ms * n) / sum(n) AS mean,
       CASE WHEN max(total) >= 6    THEN min(ms) FILTER (WHERE k * 1000 >= total * 500) END AS p50,
       CASE WHEN max(total) >= 36   THEN min(ms) FILTER (WHERE k * 1000 >= total * 900) END AS p90,
       CASE WHEN max(total) >= 72   THEN min(ms) FILTER (WHERE k * 1000 >= total * 950) END AS p95,
       CASE WHEN max(total) >= 368  THEN min(ms) FILTER (WHERE k * 1000 >= total * 990) END AS p99,
       CASE WHEN max(total) >= 3688 THEN min(ms) FILTER (WHERE k * 1000 >= total * 999) END AS p999,
       max(ms) AS max
FROM ranked GROUP BY run_id, metric;

-- Per run: what became of the requests that arrived inside the window.
CREATE VIEW v_outcomes AS
SELECT run_id, count(*) AS arrived,
       sum(status = 'finished') AS finished, sum(status = 'rejected') AS rejected,
       sum(status = 'failed') AS failed, sum(status = 'censored') AS censored,
       sum(is_slo_met) AS slo_met,
       sum(preempt_count) AS preemptions, sum(recomputed_tokens) AS recomputed_tokens
FROM v_requests WHERE is_in_window GROUP BY run_id;

-- Per run: memory and batch, weighted by time. waste = 1 - stored / held; unusable leaves out the slots
-- that are empty now and will be used.
CREATE VIEW v_memory AS
SELECT run_id, count(*) AS steps,
       100.0 * max(kv_slots_held) / nullif(max(kv_slots_total), 0) AS kv_peak_pct,
       100.0 * (1 - 1.0 * sum(kv_tokens_stored * dt) / nullif(sum(kv_slots_held * dt), 0))
         AS kv_waste_pct,
       100.0 * sum((kv_slots_held - kv_tokens_stored - kv_slots_future) * dt)
         / nullif(sum(kv_slots_held * dt), 0) AS kv_unusable_pct,
       1.0 * sum((prefill_seqs + decode_seqs) * dt) / nullif(sum(dt), 0) AS mean_batch,
       1.0 * sum(waiting * dt) / nullif(sum(dt), 0) AS mean_waiting,
       sum(dt) AS busy_ns
FROM (SELECT *, 1.0 * (end_ns - start_ns) AS dt FROM steps) GROUP BY run_id;

-- Wide: one row per run, whatever its status. tok_s: tokens emitted inside the window / window.
CREATE VIEW v_runs AS
WITH lat AS (
  SELECT run_id,
         max(p50) FILTER (WHERE metric = 'queue') AS queue_p50_ms,
         max(p50) FILTER (WHERE metric = 'ttft') AS ttft_p50_ms,
         max(p90) FILTER (WHERE metric = 'ttft') AS ttft_p90_ms,
         max(p95) FILTER (WHERE metric = 'ttft') AS ttft_p95_ms,
         max(p99) FILTER (WHERE metric = 'ttft') AS ttft_p99_ms,
         max(max) FILTER (WHERE metric = 'ttft') AS ttft_max_ms,
         max(p50) FILTER (WHERE metric = 'tpot') AS tpot_p50_ms,
         max(p90) FILTER (WHERE metric = 'tpot') AS tpot_p90_ms,
         max(p95) FILTER (WHERE metric = 'tpot') AS tpot_p95_ms,
         max(p99) FILTER (WHERE metric = 'tpot') AS tpot_p99_ms,
         max(max) FILTER (WHERE metric = 'tpot') AS tpot_max_ms,
         max(p50) FILTER (WHERE metric = 'e2e') AS e2e_p50_ms,
         max(p90) FILTER (WHERE metric = 'e2e') AS e2e_p90_ms,
         max(p95) FILTER (WHERE metric = 'e2e') AS e2e_p95_ms,
         max(p99) FILTER (WHERE metric = 'e2e') AS e2e_p99_ms,
         max(p50) FILTER (WHERE metric = 'itl') AS itl_p50_ms,
         max(p99) FILTER (WHERE metric = 'itl') AS itl_p99_ms,
         max(max) FILTER (WHERE metric = 'itl') AS itl_max_ms,
         max(p99) FILTER (WHERE metric = 'lateness') AS lateness_p99_ms
  FROM v_latency GROUP BY run_id)
SELECT r.run_id, r.run_uid, r.experiment_id, r.trace_id, t.name AS trace, t.request_count,
       t.is_synthetic AS trace_is_synthetic, r.model_id, m.name AS model,
       m.is_synthetic AS model_is_synthetic, r.environment_id, r.strategy_id, s.name AS strategy,
       CASE WHEN json_valid(s.config_json) THEN nullif(json_extract(s.config_json, '$.preset'), '') END AS preset,
       s.scheduler, s.memory, s.weight_dtype, s.kv_dtype, s.color_index,
       r.backend, r.device, r.clock, r.pace, r.rate_scale, r.seed, r.repeat_index, r.order_index,
       r.pair_key, r.slo_json, r.status, r.validity, r.reasons,
       r.status = 'done' AND r.validity <> 'invalid' AS is_counted,
       (r.window_end_ns - r.window_start_ns) / 1e9 AS window_s,
       o.arrived, o.finished, o.rejected, o.failed, o.censored,
       r.window_output_tokens * 1e9 / nullif(r.window_end_ns - r.window_start_ns, 0) AS tok_s,
       o.slo_met * 1e9 / nullif(r.window_end_ns - r.window_start_ns, 0) AS goodput_rps,
       100.0 * o.slo_met / nullif(o.arrived, 0) AS attainment_pct,
       lat.queue_p50_ms, lat.ttft_p50_ms, lat.ttft_p90_ms, lat.ttft_p95_ms, lat.ttft_p99_ms,
       lat.ttft_max_ms, lat.tpot_p50_ms, lat.tpot_p90_ms, lat.tpot_p95_ms, lat.tpot_p99_ms,
       lat.tpot_max_ms, lat.e2e_p50_ms, lat.e2e_p90_ms, lat.e2e_p95_ms, lat.e2e_p99_ms,
       lat.itl_p50_ms, lat.itl_p99_ms, lat.itl_max_ms, lat.lateness_p99_ms,
       k.steps, k.kv_peak_pct, k.kv_waste_pct, k.kv_unusable_pct, k.mean_batch, k.mean_waiting,
       100.0 * k.busy_ns / nullif(r.duration_ns, 0) AS busy_pct,
       o.preemptions, o.recomputed_tokens,
       r.kv_slots_obtained, r.peak_host_bytes, r.peak_device_bytes, r.flops, r.bytes, r.rows_hash
FROM runs r JOIN traces t USING (trace_id) JOIN models m USING (model_id)
     JOIN strategies s USING (strategy_id)
     LEFT JOIN v_outcomes o USING (run_id) LEFT JOIN v_memory k USING (run_id)
     LEFT JOIN lat USING (run_id);

-- Median (nearest rank), smallest and largest over the repeats that count: done and not invalid.
CREATE VIEW v_cell_metrics AS
WITH r AS MATERIALIZED (SELECT * FROM v_runs WHERE is_counted),
long AS (
  SELECT run_id, 'tok_s' AS metric, tok_s AS value FROM r
  UNION ALL SELECT run_id, 'goodput_rps', goodput_rps FROM r
  UNION ALL SELECT run_id, 'attainment_pct', attainment_pct FROM r
  UNION ALL SELECT run_id, 'ttft_p50_ms', ttft_p50_ms FROM r
  UNION ALL SELECT run_id, 'ttft_p90_ms', ttft_p90_ms FROM r
  UNION ALL SELECT run_id, 'ttft_p95_ms', ttft_p95_ms FROM r
  UNION ALL SELECT run_id, 'ttft_p99_ms', ttft_p99_ms FROM r
  UNION ALL SELECT run_id, 'tpot_p50_ms', tpot_p50_ms FROM r
  UNION ALL SELECT run_id, 'tpot_p90_ms', tpot_p90_ms FROM r
  UNION ALL SELECT run_id, 'tpot_p95_ms', tpot_p95_ms FROM r
  UNION ALL SELECT run_id, 'tpot_p99_ms', tpot_p99_ms FROM r
  UNION ALL SELECT run_id, 'e2e_p50_ms', e2e_p50_ms FROM r
  UNION ALL SELECT run_id, 'e2e_p90_ms', e2e_p90_ms FROM r
  UNION ALL SELECT run_id, 'itl_p99_ms', itl_p99_ms FROM r
  UNION ALL SELECT run_id, 'kv_peak_pct', kv_peak_pct FROM r
  UNION ALL SELECT run_id, 'kv_waste_pct', kv_waste_pct FROM r
  UNION ALL SELECT run_id, 'mean_batch', mean_batch FROM r
  UNION ALL SELECT run_id, 'preemptions', preemptions FROM r),
ranked AS (
  SELECT r.experiment_id, r.trace_id, r.model_id, r.backend, r.device, r.clock, r.rate_scale,
         r.strategy_id, long.metric, long.value,
         row_number() OVER w AS k, count(*) OVER (PARTITION BY r.experiment_id, r.trace_id,
           r.model_id, r.backend, r.device, r.clock, r.rate_scale, r.strategy_id, long.metric) AS n
  FROM long JOIN r USING (run_id) WHERE long.value IS NOT NULL
  WINDOW w AS (PARTITION BY r.experiment_id, r.trace_id, r.model_id, r.backend, r.device, r.clock,
               r.rate_scale, r.strategy_id, long.metric ORDER BY long.value))
SELECT experiment_id, trace_id, model_id, backend, device, clock, rate_scale, strategy_id, metric,
       max(n) AS n, min(value) FILTER (WHERE k * 2 >= n) AS median, min(value) AS min,
       max(value) AS max
FROM ranked
GROUP BY experiment_id, trace_id, model_id, backend, device, clock, rate_scale, strategy_id, metric;

-- Wide: one row per cell (experiment, trace, model, backend, rate, strategy); medians over repeats.
CREATE VIEW v_cells AS
SELECT c.experiment_id, c.trace_id, t.name AS trace, c.model_id, m.name AS model, c.backend, c.device,
       c.clock, c.rate_scale, c.strategy_id, s.name AS strategy, s.scheduler, s.memory, s.weight_dtype,
       s.kv_dtype, s.color_index, max(c.n) AS repeats,
       max(median) FILTER (WHERE metric = 'tok_s') AS tok_s,
       max(c.min) FILTER (WHERE metric = 'tok_s') AS tok_s_min,
       max(c.max) FILTER (WHERE metric = 'tok_s') AS tok_s_max,
       max(median) FILTER (WHERE metric = 'goodput_rps') AS goodput_rps,
       max(median) FILTER (WHERE metric = 'attainment_pct') AS attainment_pct,
       max(c.min) FILTER (WHERE metric = 'attainment_pct') AS attainment_pct_min,
       max(c.max) FILTER (WHERE metric = 'attainment_pct') AS attainment_pct_max,
       max(median) FILTER (WHERE metric = 'ttft_p50_ms') AS ttft_p50_ms,
       max(median) FILTER (WHERE metric = 'ttft_p90_ms') AS ttft_p90_ms,
       max(median) FILTER (WHERE metric = 'ttft_p95_ms') AS ttft_p95_ms,
       max(median) FILTER (WHERE metric = 'ttft_p99_ms') AS ttft_p99_ms,
       max(median) FILTER (WHERE metric = 'tpot_p50_ms') AS tpot_p50_ms,
       max(median) FILTER (WHERE metric = 'tpot_p90_ms') AS tpot_p90_ms,
       max(median) FILTER (WHERE metric = 'tpot_p95_ms') AS tpot_p95_ms,
       max(median) FILTER (WHERE metric = 'tpot_p99_ms') AS tpot_p99_ms,
       max(median) FILTER (WHERE metric = 'e2e_p50_ms') AS e2e_p50_ms,
       max(median) FILTER (WHERE metric = 'e2e_p90_ms') AS e2e_p90_ms,
       max(median) FILTER (WHERE metric = 'itl_p99_ms') AS itl_p99_ms,
       max(median) FILTER (WHERE metric = 'kv_peak_pct') AS kv_peak_pct,
       max(median) FILTER (WHERE metric = 'kv_waste_pct') AS kv_waste_pct,
       max(median) FILTER (WHERE metric = 'mean_batch') AS mean_batch,
       max(median) FILTER (WHERE metric = 'preemptions') AS preemptions
FROM v_cell_metrics c JOIN traces t USING (trace_id) JOIN models m USING (model_id)
     JOIN strategies s USING (strategy_id)
GROUP BY c.experiment_id, c.trace_id, c.model_id, c.backend, c.device, c.clock, c.rate_scale,
         c.strategy_id;

-- Are the tokens the same whatever the scheduler and memory manager, at one precision? One row per trace,
-- device, precision and seed. compared: requests whose output two or more runs hashed.
CREATE VIEW v_equality AS
WITH per AS (
  SELECT r.experiment_id, r.trace_id, r.model_id, r.device, s.weight_dtype, s.kv_dtype, r.seed,
         q.request_id, count(*) AS runs, count(DISTINCT q.output_hash) AS hashes
  FROM requests q JOIN runs r USING (run_id) JOIN strategies s USING (strategy_id)
  WHERE q.output_hash IS NOT NULL AND q.status = 'finished'
    AND r.status = 'done' AND r.validity <> 'invalid'
  GROUP BY 1, 2, 3, 4, 5, 6, 7, 8),
who AS (
  SELECT r.experiment_id, r.trace_id, r.model_id, r.device, s.weight_dtype, s.kv_dtype, r.seed,
         count(DISTINCT r.strategy_id) AS strategies
  FROM runs r JOIN strategies s USING (strategy_id)
  WHERE r.status = 'done' AND r.validity <> 'invalid'
    AND EXISTS (SELECT 1 FROM requests q WHERE q.run_id = r.run_id AND q.output_hash IS NOT NULL)
  GROUP BY 1, 2, 3, 4, 5, 6, 7)
SELECT per.experiment_id, per.trace_id, per.model_id, per.device, per.weight_dtype, per.kv_dtype,
       per.seed, who.strategies, sum(runs >= 2) AS compared, sum(runs >= 2 AND hashes = 1) AS equal,
       sum(hashes > 1) AS different
FROM per JOIN who ON per.experiment_id = who.experiment_id AND per.trace_id = who.trace_id
     AND per.model_id = who.model_id AND per.device = who.device
     AND per.weight_dtype IS who.weight_dtype AND per.kv_dtype IS who.kv_dtype
     AND per.seed = who.seed
GROUP BY 1, 2, 3, 4, 5, 6, 7;
