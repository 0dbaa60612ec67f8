-- Service received by each tenant: prompt tokens when the first token comes, twice the output tokens evenly from
-- then to the end. The gap between the tenants is taken every 10 s while both send.
CREATE TEMP TABLE x_until AS
SELECT min(t) / 1e9 AS s FROM (SELECT max(arrival_ns) AS t FROM requests
 GROUP BY substr(trace_request_id, 1, 4));
CREATE TEMP TABLE x_service AS
WITH RECURSIVE t(s) AS (SELECT 0 UNION ALL SELECT s + 10 FROM t WHERE s + 10 <= (SELECT s FROM x_until))
SELECT x.place, x.label, t.s, substr(q.trace_request_id, 1, 4) AS tenant,
       sum(CASE WHEN q.first_token_ns <= t.s * 1e9 THEN q.prompt_tokens + 2.0 * q.output_tokens *
           min(1, (t.s * 1e9 - q.first_token_ns) / max(q.finish_ns - q.first_token_ns, 1)) ELSE 0 END) AS service
FROM x_run x JOIN requests q USING (run_id), t GROUP BY 1, 2, 3, 4;
CREATE TEMP TABLE x_gap AS
SELECT a.place, a.label, a.s, b.service - a.service AS gap, a.service + b.service AS total
FROM x_service a JOIN x_service b USING (place, s) WHERE a.tenant = 'slow' AND b.tenant = 'fast';
CREATE TEMP TABLE x_last AS SELECT place, label, max(s) AS s FROM x_gap GROUP BY place;

SELECT 'FCFS: growth of the gap over (service rate x difference of arrival shares)',
       (g.gap / g.s) / (g.total / g.s * (3 - 1.5) / (3 + 1.5)), 0.85, 1.15, '1 (430 a second)', NULL
FROM x_gap g JOIN x_last USING (place, s) WHERE g.label = 'FCFS';
SELECT 'VTC: largest gap, service units (bound 2 max(input, 2 x pool) = 40000)', max(abs(gap)), NULL, 40000,
       '7.8k, bounded', NULL FROM x_gap WHERE label = 'VTC';
SELECT 'VTC: mean gap in the second half over the first (flat: no growth)',
       avg(abs(gap)) FILTER (WHERE s > h) / avg(abs(gap)) FILTER (WHERE s <= h AND s > h / 4), NULL, 1.5, 'flat', NULL
FROM x_gap, (SELECT s / 2 AS h FROM x_until) WHERE label = 'VTC';
SELECT 'FCFS: gap at the end over VTC''s', abs(a.gap) / max(abs(b.gap), 1), 5, NULL, '14 at 240 s', NULL
FROM x_gap a JOIN x_gap b USING (s) JOIN x_last l ON l.place = a.place AND l.s = a.s
WHERE a.label = 'FCFS' AND b.label = 'VTC';
SELECT 'VTC: service in all over FCFS''s', b.total / a.total, 0.98, 1.02, '1.003', NULL
FROM x_gap a JOIN x_gap b USING (s) JOIN x_last l ON l.place = a.place AND l.s = a.s
WHERE a.label = 'FCFS' AND b.label = 'VTC';
