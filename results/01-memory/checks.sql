-- The four kinds of memory, in percent of all slots, weighted by time, while requests wait and still arrive.
CREATE TEMP TABLE x_share AS
SELECT x.place, x.label,
       100.0 * sum(kv_tokens_stored * dt) / sum(slots * dt) AS tokens,
       100.0 * sum(kv_slots_future * dt) / sum(slots * dt) AS reserved,
       100.0 * sum((kv_slots_held - kv_tokens_stored - kv_slots_future) * dt) / sum(slots * dt) AS internal,
       100.0 * sum((slots - kv_slots_held) * dt) / sum(slots * dt) AS external
FROM x_run x JOIN (SELECT *, 1.0 * (end_ns - start_ns) AS dt FROM steps) s USING (run_id)
WHERE x.part = 'share' AND s.waiting > 0 AND s.start_ns <= x.last_arrival_ns
GROUP BY x.run_id;
-- Requests in a step, over the time in which requests arrive.
CREATE TEMP TABLE x_batch AS
SELECT x.place, x.label, sum(running * dt) / sum(dt) AS batch, max(running) AS most,
       sum(preemptions) AS preemptions
FROM x_run x JOIN (SELECT *, 1.0 * (end_ns - start_ns) AS dt FROM steps) s USING (run_id)
WHERE x.part = 'share' AND s.start_ns <= x.last_arrival_ns GROUP BY x.run_id;
-- Mean normalized latency (s per output token) against the rate; the knee: where it crosses 0.5 s.
CREATE TEMP TABLE x_latency AS
SELECT x.place, x.label, x.rate, avg(1e-9 * (finish_ns - arrival_ns) / output_tokens) AS s_per_token
FROM x_run x JOIN requests q USING (run_id) WHERE x.part = 'knee' AND q.status = 'finished'
GROUP BY x.run_id;
CREATE TEMP TABLE x_knee AS
WITH n AS (SELECT *, lag(rate) OVER w AS r0, lag(s_per_token) OVER w AS l0 FROM x_latency
           WINDOW w AS (PARTITION BY place ORDER BY rate))
SELECT place, label, min(r0 + (rate - r0) * (0.5 - l0) / (s_per_token - l0)) AS capacity
FROM n WHERE l0 < 0.5 AND s_per_token >= 0.5 GROUP BY place;

CREATE TEMP TABLE x_paper (label, tokens, batch);
INSERT INTO x_paper VALUES ('Orca (Max)', 20.4, 7.00), ('Orca (Pow2)', 26.8, 9.81),
                           ('Orca (Oracle)', 38.2, 13.62), ('paged', 96.3, 30.42);
SELECT 'token share, ' || label || ', % (Fig. 2)', s.tokens, p.tokens - 4, p.tokens + 4,
       printf('%.1f', p.tokens),
       NULL
FROM x_share s JOIN x_paper p USING (label) ORDER BY place;
SELECT 'mean batch at 2 req/s, ' || label || ' (Fig. 13a)', b.batch, p.batch * 0.85, p.batch * 1.15,
       printf('%.2f', p.batch),
       NULL
FROM x_batch b JOIN x_paper p USING (label) ORDER BY place;
SELECT 'largest batch, Orca (Max): pool / longest sequence', most, 7, 7, '7', NULL FROM x_batch
WHERE label = 'Orca (Max)';
SELECT 'the four kinds add up, worst distance from 100 %', max(abs(tokens + reserved + internal + external - 100)),
       NULL, 1e-6, '', NULL FROM x_share;
SELECT 'capacity at 0.5 s/token, paged over Orca (Oracle)', a.capacity / b.capacity, 1.7, 2.7, '1.7 to 2.7', NULL
FROM x_knee a, x_knee b WHERE a.label = 'paged' AND b.label = 'Orca (Oracle)';
SELECT 'capacity at 0.5 s/token, paged over Orca (Max)', a.capacity / b.capacity, 2.7, 8, '2.7 to 8', NULL
FROM x_knee a, x_knee b WHERE a.label = 'paged' AND b.label = 'Orca (Max)';
SELECT 'capacity at 0.5 s/token, paged over static', a.capacity / b.capacity, 8, 22, 'up to 22', NULL
FROM x_knee a, x_knee b WHERE a.label = 'paged' AND b.label = 'static';
SELECT 'capacities in the order static < Max < Pow2 < Oracle < paged (1: yes)', group_concat(place, '') = '51234',
       1, 1, '1', NULL FROM (SELECT place FROM x_knee ORDER BY capacity) HAVING count(*) = 5;
