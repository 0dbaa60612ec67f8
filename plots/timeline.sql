-- title: Batch over time
-- about: Slots of the batch (orange prefill, blue decode, white idle), requests running and waiting, and KV memory held, for two strategies on one time axis.
-- rank: 2
-- Long runs are cut when the 80th request has ended in both; steps are put into 400 columns
-- of time, each given by its two ends.
SELECT x.i AS series, r.label, r.color_index
FROM (SELECT 1 AS i, :a AS run_id UNION ALL SELECT 2, :b) x JOIN x_runs r USING (run_id) ORDER BY 1;

WITH x AS (SELECT 1 AS i, :a AS run_id UNION ALL SELECT 2, :b),
e AS (SELECT max(finish_ns) AS t FROM requests WHERE run_id IN (:a, :b) AND request_id < 80)
SELECT x.i AS series, q.slot + 0 AS slot, q.admitted_ns / 1e9 AS from_s,
       min(coalesce(q.first_token_ns, q.finish_ns), e.t) / 1e9 AS first_s,
       min(q.finish_ns, e.t) / 1e9 AS to_s
FROM x JOIN requests q USING (run_id), e
WHERE q.slot >= 0 AND q.admitted_ns < e.t AND q.finish_ns IS NOT NULL ORDER BY 1, 3;

-- Each column of time is given by its two ends and holds means over time; where nothing ran for a twentieth
-- of a column or longer, all is zero.
WITH x AS (SELECT 1 AS i, :a AS run_id UNION ALL SELECT 2, :b),
e AS (SELECT max(finish_ns) AS t FROM requests WHERE run_id IN (:a, :b) AND request_id < 80),
d AS (SELECT x.i AS series, s.*, s.start_ns / (e.t / 400 + 1) AS bucket, e.t / 8000 AS gap,
             s.end_ns - s.start_ns + 0.0 AS dt FROM x JOIN steps s USING (run_id), e WHERE s.start_ns <= e.t),
c AS (
  SELECT series, bucket, min(start_ns) AS from_ns, max(end_ns) AS to_ns, max(gap) AS gap,
         sum(running * dt) / max(max(end_ns) - min(start_ns), 1) AS running,
         sum(waiting * dt) / max(max(end_ns) - min(start_ns), 1) AS waiting,
         100.0 * sum(kv_slots_held * dt) / nullif(max(kv_slots_total), 0)
           / max(max(end_ns) - min(start_ns), 1) AS held_pct,
         100.0 * sum(kv_tokens_stored * dt) / nullif(max(kv_slots_total), 0)
           / max(max(end_ns) - min(start_ns), 1) AS stored_pct
  FROM d GROUP BY series, bucket),
n AS (SELECT *, lead(from_ns) OVER (PARTITION BY series ORDER BY bucket) - to_ns AS idle_ns FROM c)
SELECT series, t_ns / 1e9 AS t_s, running, waiting, held_pct, stored_pct FROM (
  SELECT series, bucket, 0 AS part, from_ns AS t_ns, running, waiting, held_pct, stored_pct FROM n
  UNION ALL SELECT series, bucket, 1, to_ns, running, waiting, held_pct, stored_pct FROM n
  UNION ALL SELECT series, bucket, 2, to_ns, 0, 0, 0, 0 FROM n WHERE idle_ns > gap
  UNION ALL SELECT series, bucket, 3, to_ns + idle_ns, 0, 0, 0, 0 FROM n WHERE idle_ns > gap)
ORDER BY series, bucket, part;
