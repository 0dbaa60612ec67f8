-- title: Where the time goes
-- about: Mean time per finished request in the queue (waiting for the running step included), in prefill, in decode and preempted, and the mean number of requests that wait while a step runs: for that step, if they arrived during it, else left waiting by it, by the reason why.
-- rank: 4
-- Sorted: the strategy with the shortest mean is on top.
WITH m AS (
  SELECT run_id, avg(admitted_ns - arrival_ns) / 1e6 AS queue_ms,
         avg(first_token_ns - admitted_ns - prefill_preempted_ns) / 1e6 AS prefill_ms,
         avg(finish_ns - first_token_ns - (preempted_ns - prefill_preempted_ns)) / 1e6 AS decode_ms,
         avg(preempted_ns) / 1e6 AS preempted_ms
  FROM v_requests WHERE status = 'finished' AND is_in_window GROUP BY run_id),
w AS (
  SELECT run_id, sum(wait_no_kv * dt) / sum(dt) AS no_kv, sum(wait_budget * dt) / sum(dt) AS budget,
         sum(wait_seq_cap * dt) / sum(dt) AS seq_cap, sum(wait_batch_closed * dt) / sum(dt) AS closed,
         sum(wait_order * dt) / sum(dt) AS in_order
  FROM (SELECT *, 1.0 * (end_ns - start_ns) AS dt FROM steps) GROUP BY run_id),
-- All waiting is from arrival (or preemption) to admission; what no step gave a reason for was spent on a step that ran.
a AS (
  SELECT run_id, (SELECT sum(admitted_ns - arrival_ns + preempted_ns) FROM requests q WHERE q.run_id = s.run_id
                  AND admitted_ns IS NOT NULL) / (1.0 * sum(end_ns - start_ns))
           - sum(1.0 * waiting * (end_ns - start_ns)) / sum(end_ns - start_ns) AS running
  FROM steps s GROUP BY run_id)
SELECT row_number() OVER (ORDER BY queue_ms + prefill_ms + decode_ms + preempted_ms DESC, color_index)
         AS series, r.label || iif(r.suspect, ' ?', '') AS label, r.color_index, queue_ms, prefill_ms, decode_ms, preempted_ms,
       no_kv, budget, seq_cap, closed, in_order, max(a.running, 0) AS running
FROM x_rows r JOIN m USING (run_id) LEFT JOIN w USING (run_id) LEFT JOIN a USING (run_id)
WHERE r.group_id = :group AND r.counted > 0 ORDER BY 1;
