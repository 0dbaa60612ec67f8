-- title: How much load is borne
-- about: Share of the requests within the SLO, and how many per second that are, against the offered rate; one line per strategy. The dashed line is the share that is asked for; the highest measured rate above it is the capacity.
-- rank: 2
-- Drawn where a sweep has two rates or more and an SLO. A whisker spans the repeats.
WITH n AS (SELECT count(DISTINCT g.rate_scale) AS n FROM x_rows r JOIN x_tails w USING (group_id)
           JOIN x_groups g ON g.rowid = r.group_id JOIN traces t ON t.trace_id = g.trace_id
           WHERE w.family = :family AND r.counted > 0 AND r.attainment_pct IS NOT NULL AND t.duration_ns > 0)
SELECT row_number() OVER (ORDER BY color_index, strategy_id) AS series, label, color_index FROM
  (SELECT strategy_id, max(label) || iif(max(suspect), ' ?', '') AS label, max(color_index) AS color_index FROM x_rows
   JOIN x_tails USING (group_id) WHERE family = :family AND counted > 0 GROUP BY strategy_id)
WHERE (SELECT n FROM n) > 1 ORDER BY 1;

WITH s AS (SELECT row_number() OVER (ORDER BY color_index, strategy_id) AS series, strategy_id FROM
  (SELECT strategy_id, max(color_index) AS color_index FROM x_rows
   JOIN x_tails USING (group_id) WHERE family = :family AND counted > 0 GROUP BY strategy_id))
SELECT s.series, (t.request_count - 1) * 1e9 / t.duration_ns * g.rate_scale AS offered_rps, r.attainment_pct,
       r.attainment_pct_min, r.attainment_pct_max, g.rate_scale, r.goodput_rps
FROM x_rows r JOIN x_groups g ON g.rowid = r.group_id JOIN x_tails w USING (group_id)
     JOIN traces t ON t.trace_id = g.trace_id JOIN s USING (strategy_id)
WHERE w.family = :family AND r.counted > 0 AND r.attainment_pct IS NOT NULL ORDER BY s.series, g.rate_scale;

-- The rates, for the axis.
SELECT DISTINCT 1 AS series, (t.request_count - 1) * 1e9 / t.duration_ns * g.rate_scale AS offered_rps, g.rate_scale
FROM x_groups g JOIN x_tails w ON w.group_id = g.rowid JOIN traces t USING (trace_id)
WHERE w.family = :family ORDER BY 2;
