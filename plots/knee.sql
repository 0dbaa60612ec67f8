-- title: Throughput against latency
-- about: One marker per strategy and arrival rate, joined in the order of rates; right and down is better.
-- rank: 6
-- A whisker spans the repeats.
SELECT row_number() OVER (ORDER BY color_index, strategy_id) AS series, label, color_index FROM
  (SELECT strategy_id, max(label) || iif(max(suspect), ' ?', '') AS label, max(color_index) AS color_index FROM x_rows
   JOIN x_tails USING (group_id) WHERE family = :family AND counted > 0 GROUP BY strategy_id) ORDER BY 1;

WITH s AS (SELECT row_number() OVER (ORDER BY color_index, strategy_id) AS series, strategy_id FROM
  (SELECT strategy_id, max(color_index) AS color_index FROM x_rows
   JOIN x_tails USING (group_id) WHERE family = :family AND counted > 0 GROUP BY strategy_id))
SELECT s.series, r.tok_s, r.tok_s_min, r.tok_s_max, g.rate_scale,
       CASE :tail WHEN 'p99' THEN r.ttft_p99_ms WHEN 'p95' THEN r.ttft_p95_ms
                  WHEN 'p90' THEN r.ttft_p90_ms ELSE r.ttft_p50_ms END AS ttft_tail_ms,
       CASE :tail WHEN 'p99' THEN r.tpot_p99_ms WHEN 'p95' THEN r.tpot_p95_ms
                  WHEN 'p90' THEN r.tpot_p90_ms ELSE r.tpot_p50_ms END AS tpot_tail_ms
FROM x_rows r JOIN x_groups g ON g.rowid = r.group_id JOIN x_tails t USING (group_id)
     JOIN s USING (strategy_id)
WHERE t.family = :family AND r.counted > 0 AND r.ttft_p50_ms IS NOT NULL ORDER BY s.series, g.rate_scale;
