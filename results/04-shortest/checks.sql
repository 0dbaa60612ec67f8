-- Mean normalized latency (s per output token), P99 of the time to first token, and who pays: the worst 1 %.
CREATE TEMP TABLE x_order AS
WITH t AS (SELECT run_id, (first_token_ns - arrival_ns) / 1e9 AS s, (finish_ns - arrival_ns) / 1e9 / output_tokens AS n,
            row_number() OVER (PARTITION BY run_id ORDER BY first_token_ns - arrival_ns) AS k,
            count(*) OVER (PARTITION BY run_id) AS c FROM requests WHERE status = 'finished')
SELECT x.place, x.label, x.rate, avg(n) AS mean, min(s) FILTER (WHERE k * 100 >= c * 99) AS ttft_p99,
       min(s) FILTER (WHERE k * 2 >= c) AS ttft_p50, max(s) AS ttft_max
FROM x_run x JOIN t USING (run_id) GROUP BY x.run_id;
CREATE TEMP TABLE x_gain AS
SELECT b.place, b.label, b.rate, a.mean / b.mean AS gain, b.ttft_p99 / a.ttft_p99 AS p99_ratio, b.ttft_max / a.ttft_max AS max_ratio
FROM x_order a JOIN x_order b USING (rate) WHERE a.label = 'FCFS' AND b.label <> 'FCFS';

SELECT 'load 0.85: FCFS over oracle, mean normalized latency', gain, 1, 2.2, '1.1', NULL
FROM x_gain WHERE rate = 0.85 AND label = 'oracle';
SELECT 'load 1.15: FCFS over ' || label || ', mean normalized latency', gain,
       p / 2.0, p * 2.0, printf('%g', p), NULL
FROM x_gain JOIN (SELECT 'oracle' AS label, 10 AS p UNION ALL SELECT 'sigma 0.5', 9 UNION ALL SELECT 'sigma 1', 6.5
                  UNION ALL SELECT 'sigma 2', 3.7) USING (label) WHERE rate = 1.15 ORDER BY place;
SELECT 'load 1.15: gains in the order oracle > 0.5 > 1 > 2 (1: yes)', group_concat(place, '') = '2345', 1, 1, '1', NULL
FROM (SELECT place FROM x_gain WHERE rate = 1.15 ORDER BY gain DESC);
SELECT 'load 1.15: longest wait for a first token, ' || label || ' over FCFS', max_ratio, 1, NULL, 'starves', NULL
FROM x_gain WHERE rate = 1.15 ORDER BY place;
SELECT 'load 1.15: P99 of TTFT, sigma 2 over FCFS', p99_ratio, 1.1, 5, '1.1 to 5',
       'worse than in the reference simulation; the cause is not known (README)' FROM x_gain
WHERE rate = 1.15 AND label = 'sigma 2';
