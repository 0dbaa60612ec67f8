-- title: Batch over time
-- about: Slots of the batch (orange prefill, blue decode, white idle), requests running and waiting, and KV memory held, for two strategies on one time axis. Of more than 80 requests the busiest stretch is shown: the 40 of each that were admitted closest to the fastest strategy's longest queue.
-- rank: 2
-- e: from f to t is shown; p: where most requests run and wait in :b. Steps are put into 400 columns
-- of time, each given by its two ends.
SELECT x.i AS series, r.label || iif(r.validity = 'suspect', ' ?', '') AS label, r.color_index
FROM (SELECT 1 AS i, :a AS run_id UNION ALL SELECT 2, :b) x JOIN x_runs r USING (run_id)
WHERE EXISTS (SELECT 1 FROM steps WHERE run_id = :a) ORDER BY 1;

WITH x AS (SELECT 1 AS i, :a AS run_id UNION ALL SELECT 2, :b),
p AS (SELECT start_ns AS t FROM steps WHERE run_id = coalesce(:b, :a) ORDER BY running + waiting DESC, start_ns LIMIT 1),
n AS (SELECT admitted_ns, finish_ns, row_number() OVER (PARTITION BY run_id ORDER BY
        abs(admitted_ns - coalesce((SELECT t FROM p), 0)), request_id) AS k
      FROM requests WHERE run_id IN (:a, :b) AND finish_ns IS NOT NULL AND admitted_ns IS NOT NULL),
e AS (SELECT CASE WHEN max(k) <= 80 THEN 0 ELSE min(admitted_ns) FILTER (WHERE k <= 40) END AS f,
             CASE WHEN max(k) <= 80 THEN max(finish_ns) ELSE max(finish_ns) FILTER (WHERE k <= 40) END AS t FROM n)
SELECT x.i AS series, q.slot + 0 AS slot, max(q.admitted_ns, e.f) / 1e9 AS from_s,
       max(min(coalesce(q.first_token_ns, q.finish_ns), e.t), e.f) / 1e9 AS first_s,
       min(q.finish_ns, e.t) / 1e9 AS to_s
FROM x JOIN requests q USING (run_id), e
WHERE q.slot >= 0 AND q.admitted_ns < e.t AND q.finish_ns > e.f ORDER BY 1, 3;

-- Each column of time is given by its two ends and holds means over time; where nothing ran for a twentieth
-- of a column or longer, all is zero.
WITH x AS (SELECT 1 AS i, :a AS run_id UNION ALL SELECT 2, :b),
p AS (SELECT start_ns AS t FROM steps WHERE run_id = coalesce(:b, :a) ORDER BY running + waiting DESC, start_ns LIMIT 1),
n AS (SELECT admitted_ns, finish_ns, row_number() OVER (PARTITION BY run_id ORDER BY
        abs(admitted_ns - coalesce((SELECT t FROM p), 0)), request_id) AS k
      FROM requests WHERE run_id IN (:a, :b) AND finish_ns IS NOT NULL AND admitted_ns IS NOT NULL),
e AS (SELECT CASE WHEN max(k) <= 80 THEN 0 ELSE min(admitted_ns) FILTER (WHERE k <= 40) END AS f,
             CASE WHEN max(k) <= 80 THEN max(finish_ns) ELSE max(finish_ns) FILTER (WHERE k <= 40) END AS t FROM n),
d AS (SELECT x.i AS series, s.*, (s.start_ns - e.f) / ((e.t - e.f) / 400 + 1) AS bucket, (e.t - e.f) / 8000 AS gap,
             s.end_ns - s.start_ns + 0.0 AS dt FROM x JOIN steps s USING (run_id), e WHERE s.start_ns <= e.t AND s.start_ns >= e.f),
c AS (
  SELECT series, bucket, min(start_ns) AS from_ns, max(end_ns) AS to_ns, max(gap) AS gap,
         sum(running * dt) / max(max(end_ns) - min(start_ns), 1) AS running,
         sum(waiting * dt) / max(max(end_ns) - min(start_ns), 1) AS waiting,
         100.0 * sum(kv_slots_held * dt) / nullif(max(kv_slots_total), 0)
           / max(max(end_ns) - min(start_ns), 1) AS held_pct,
         100.0 * sum(kv_tokens_stored * dt) / nullif(max(kv_slots_total), 0)
           / max(max(end_ns) - min(start_ns), 1) AS stored_pct
  FROM d GROUP BY series, bucket),
m AS (SELECT *, lead(from_ns) OVER (PARTITION BY series ORDER BY bucket) - to_ns AS idle_ns FROM c)
SELECT series, t_ns / 1e9 AS t_s, running, waiting, held_pct, stored_pct FROM (
  SELECT series, bucket, 0 AS part, from_ns AS t_ns, running, waiting, held_pct, stored_pct FROM m
  UNION ALL SELECT series, bucket, 1, to_ns, running, waiting, held_pct, stored_pct FROM m
  UNION ALL SELECT series, bucket, 2, to_ns, 0, 0, 0, 0 FROM m WHERE idle_ns > gap
  UNION ALL SELECT series, bucket, 3, to_ns + idle_ns, 0, 0, 0, 0 FROM m WHERE idle_ns > gap)
ORDER BY series, bucket, part;
