-- Capacity: the highest rate at which 99 % of the gaps between tokens stay within the limit (0.1 s strict, 0.5 s
-- relaxed) and the median request waits at most 2 s to be scheduled, with all lower rates within it as well.
CREATE TEMP TABLE x_gap AS
WITH h AS (SELECT run_id, lo_us, hi_us, sum(count) OVER (PARTITION BY run_id ORDER BY lo_us) AS k,
                  sum(count) OVER (PARTITION BY run_id) AS n FROM itl_hist),
q AS (SELECT run_id, (admitted_ns - arrival_ns) / 1e6 AS ms,
             row_number() OVER (PARTITION BY run_id ORDER BY admitted_ns - arrival_ns) AS k,
             count(*) OVER (PARTITION BY run_id) AS n FROM requests WHERE admitted_ns IS NOT NULL),
t AS (SELECT run_id, (first_token_ns - arrival_ns) / 1e6 AS ms,
             row_number() OVER (PARTITION BY run_id ORDER BY first_token_ns - arrival_ns) AS k,
             count(*) OVER (PARTITION BY run_id) AS n FROM requests WHERE first_token_ns IS NOT NULL)
SELECT x.place, x.label, x.rate,
       (SELECT min(hi_us) / 1e3 FROM h WHERE h.run_id = x.run_id AND k * 100 >= n * 99) AS p99_ms,
       (SELECT min(ms) FROM q WHERE q.run_id = x.run_id AND k * 2 >= n) AS delay_ms,
       (SELECT min(ms) FROM t WHERE t.run_id = x.run_id AND k * 2 >= n) AS ttft_ms
FROM x_run x;
CREATE TEMP TABLE x_limit (name, ms);
INSERT INTO x_limit VALUES ('strict', 100), ('relaxed', 500);
CREATE TEMP TABLE x_capacity AS
SELECT l.name, g.place, g.label, max(g.rate) AS rate FROM x_gap g, x_limit l
WHERE NOT EXISTS (SELECT 1 FROM x_gap b WHERE b.place = g.place AND b.rate <= g.rate
                  AND (b.p99_ms > l.ms OR b.delay_ms > 2000))
GROUP BY l.name, g.place;

SELECT 'strict: capacity, stall-free (budget 512) over prefill first', a.rate / b.rate, 2.2, 4.5, '2.6 to 3.5', NULL
FROM x_capacity a, x_capacity b WHERE a.name = 'strict' AND b.name = 'strict' AND a.place = 3 AND b.place = 1;
SELECT 'strict: capacity, stall-free (budget 512) over whole prompts mixed', a.rate / b.rate, 1.8, NULL, '', NULL
FROM x_capacity a, x_capacity b WHERE a.name = 'strict' AND b.name = 'strict' AND a.place = 3 AND b.place = 2;
SELECT 'relaxed: capacity, stall-free (budget 2048) over prefill first', a.rate / b.rate, 1.1, 2.5, '1.65 to 2.15', NULL
FROM x_capacity a, x_capacity b WHERE a.name = 'relaxed' AND b.name = 'relaxed' AND a.place = 4 AND b.place = 1;
SELECT 'at stall-free''s strict capacity: P99 gap, whole prompts mixed over stall-free', a.p99_ms / b.p99_ms, 3, NULL,
       '4.9 (Yi-34B)', NULL
FROM x_gap a JOIN x_gap b USING (rate) JOIN x_capacity c ON c.rate = b.rate AND c.place = b.place
WHERE c.name = 'strict' AND a.place = 2 AND b.place = 3;
SELECT 'at stall-free''s strict capacity: P50 TTFT, stall-free over whole prompts mixed', b.ttft_ms / a.ttft_ms, 1, NULL,
       '1.4 (Yi-34B)', NULL
FROM x_gap a JOIN x_gap b USING (rate) JOIN x_capacity c ON c.rate = b.rate AND c.place = b.place
WHERE c.name = 'strict' AND a.place = 2 AND b.place = 3;
