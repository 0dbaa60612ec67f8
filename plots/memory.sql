-- title: Where the KV memory goes
-- about: Share of the KV memory over time that holds keys and values, is reserved and will be used, is held and never used, or is free; two memory managers.
-- rank: 3
SELECT x.i AS series, r.label || iif(r.validity = 'suspect', ' ?', '') AS label, r.color_index
FROM (SELECT 1 AS i, :c AS run_id UNION ALL SELECT 2, :d) x JOIN x_runs r USING (run_id) ORDER BY 1;

-- Stacked from below: stored, + future, + never used (= held), in percent of all slots.
-- Each column of time is given by its two ends and holds means over time; where nothing ran for a twentieth
-- of a column or longer, all is zero.
WITH x AS (SELECT 1 AS i, :c AS run_id UNION ALL SELECT 2, :d),
e AS (SELECT max(end_ns) AS t FROM steps WHERE run_id IN (:c, :d)),
d AS (SELECT x.i AS series, s.*, s.start_ns / (e.t / 400 + 1) AS bucket, e.t / 8000 AS gap,
             s.end_ns - s.start_ns + 0.0 AS dt FROM x JOIN steps s USING (run_id), e),
c AS (
  SELECT series, bucket, min(start_ns) AS from_ns, max(end_ns) AS to_ns, max(gap) AS gap,
         100.0 * sum(kv_tokens_stored * dt) / nullif(max(kv_slots_total), 0)
           / max(max(end_ns) - min(start_ns), 1) AS stored_pct,
         100.0 * sum(min(kv_tokens_stored + kv_slots_future, kv_slots_held) * dt) / nullif(max(kv_slots_total), 0)
           / max(max(end_ns) - min(start_ns), 1) AS future_pct,
         100.0 * sum(kv_slots_held * dt) / nullif(max(kv_slots_total), 0)
           / max(max(end_ns) - min(start_ns), 1) AS held_pct
  FROM d GROUP BY series, bucket),
n AS (SELECT *, lead(from_ns) OVER (PARTITION BY series ORDER BY bucket) - to_ns AS idle_ns FROM c)
SELECT series, t_ns / 1e9 AS t_s, stored_pct, future_pct, held_pct FROM (
  SELECT series, bucket, 0 AS part, from_ns AS t_ns, stored_pct, future_pct, held_pct FROM n
  UNION ALL SELECT series, bucket, 1, to_ns, stored_pct, future_pct, held_pct FROM n
  UNION ALL SELECT series, bucket, 2, to_ns, 0, 0, 0 FROM n WHERE idle_ns > gap
  UNION ALL SELECT series, bucket, 3, to_ns + idle_ns, 0, 0, 0 FROM n WHERE idle_ns > gap)
ORDER BY series, bucket, part;
