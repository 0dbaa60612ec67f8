CREATE TEMP TABLE x_cell AS
WITH t AS (SELECT run_id, (finish_ns - first_token_ns) / 1e6 / (output_tokens - 1) AS ms,
             row_number() OVER (PARTITION BY run_id ORDER BY 1.0 * (finish_ns - first_token_ns) / (output_tokens - 1)) AS k,
             count(*) OVER (PARTITION BY run_id) AS n FROM requests WHERE output_tokens > 1),
f AS (SELECT run_id, (first_token_ns - arrival_ns) / 1e9 AS s,
             row_number() OVER (PARTITION BY run_id ORDER BY first_token_ns - arrival_ns) AS k,
             count(*) OVER (PARTITION BY run_id) AS n FROM requests),
h AS (SELECT run_id, hi_us, sum(count) OVER (PARTITION BY run_id ORDER BY lo_us) AS k,
             sum(count) OVER (PARTITION BY run_id) AS n FROM itl_hist),
q AS (SELECT run_id, sum(preempt_count) AS preemptions, sum(recomputed_tokens) AS recomputed, sum(output_tokens) AS tokens
      FROM requests GROUP BY run_id)
SELECT x.part, x.place, x.label, q.tokens * 1e9 / x.duration_ns AS tok_s, q.preemptions, q.recomputed,
       (SELECT min(ms) FROM t WHERE t.run_id = x.run_id AND k * 100 >= n * 99) AS tpot_p99,
       (SELECT min(s) FROM f WHERE f.run_id = x.run_id AND k * 2 >= n) AS ttft_p50,
       (SELECT min(hi_us) / 1e3 FROM h WHERE h.run_id = x.run_id AND k * 100 >= n * 99) AS itl_p99
FROM x_run x JOIN q USING (run_id);

SELECT 'ample memory: throughput, max utilisation over no evict', b.tok_s / a.tok_s, 0.98, 1.02, '1', NULL
FROM x_cell a JOIN x_cell b USING (part) WHERE part = 'ample' AND a.place = 1 AND b.place = 2;
SELECT 'no evict: preemptions, all parts', sum(preemptions), 0, 0, '0', NULL FROM x_cell WHERE label = 'no evict';
SELECT 'pressure: P99 of TPOT, max utilisation over no evict', b.tpot_p99 / a.tpot_p99, 1.8, NULL, '9.1', NULL
FROM x_cell a JOIN x_cell b USING (part) WHERE part = 'pressure' AND a.place = 1 AND b.place = 2;
SELECT 'pressure: median TTFT, max utilisation over no evict', b.ttft_p50 / a.ttft_p50, 0.6, 0.95, '0.76', NULL
FROM x_cell a JOIN x_cell b USING (part) WHERE part = 'pressure' AND a.place = 1 AND b.place = 2;
SELECT 'pressure: throughput, max utilisation over no evict', b.tok_s / a.tok_s, 0.4, 0.8, '0.594',
       'the policy alone does not explain the loss (README)'
FROM x_cell a JOIN x_cell b USING (part) WHERE part = 'pressure' AND a.place = 1 AND b.place = 2;
SELECT 'thrash: throughput, full gate over first chunk', b.tok_s / a.tok_s, 1.5, NULL, 'many times', NULL
FROM x_cell a JOIN x_cell b USING (part) WHERE part = 'thrash' AND a.place = 1 AND b.place = 2;
SELECT 'thrash: preemptions, first chunk over full gate', 1.0 * a.preemptions / max(b.preemptions, 1), 10, NULL, 'a loop', NULL
FROM x_cell a JOIN x_cell b USING (part) WHERE part = 'thrash' AND a.place = 1 AND b.place = 2;
SELECT 'growth: preemptions, watermark 5 % over full gate', 1.0 * b.preemptions / a.preemptions, NULL, 0.35, '0.18', NULL
FROM x_cell a JOIN x_cell b USING (part) WHERE part = 'growth' AND a.place = 1 AND b.place = 2;
SELECT 'growth: P99 gap between tokens, watermark 5 % over full gate', b.itl_p99 / a.itl_p99, NULL, 0.8, '0.44',
       'steps with prompts, not preemptions, make the worst gaps here (README)'
FROM x_cell a JOIN x_cell b USING (part) WHERE part = 'growth' AND a.place = 1 AND b.place = 2;
SELECT 'growth: throughput, watermark 5 % over full gate', b.tok_s / a.tok_s, 0.97, 1.2, 'slightly above 1', NULL
FROM x_cell a JOIN x_cell b USING (part) WHERE part = 'growth' AND a.place = 1 AND b.place = 2;
