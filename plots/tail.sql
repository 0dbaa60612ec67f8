-- title: Latency tails
-- about: Share of requests (reversed logarithmic axis) against latency, per strategy; up and left is better. A curve ends at the highest percentile that its number of requests carries.
-- rank: 5
-- p: that percentile, in permille, by the floors of v_latency.
-- Table 1 is the key: the strategies in the order of their colour. Others: one block per key entry.
SELECT row_number() OVER (ORDER BY color_index, strategy_id) AS series, label || iif(suspect, ' ?', '') AS label, color_index
FROM x_rows WHERE group_id = :group AND counted > 0 ORDER BY 1;

WITH r AS (SELECT row_number() OVER (ORDER BY color_index, strategy_id) AS series, run_id
           FROM x_rows WHERE group_id = :group AND counted > 0),
k AS (SELECT series, ms, row_number() OVER (PARTITION BY series ORDER BY ms) AS k,
             count(*) OVER (PARTITION BY series) AS n
      FROM r JOIN v_samples USING (run_id) WHERE metric = 'ttft'),
c AS (SELECT *, CASE WHEN n >= 3688 THEN 999 WHEN n >= 368 THEN 990 WHEN n >= 72 THEN 950
                     WHEN n >= 36 THEN 900 WHEN n >= 6 THEN 500 END AS p FROM k)
SELECT series, max(ms, 0.01) AS ms, min(1.0 * k / n, p / 1e3) AS q FROM c
WHERE (k - 1) * 1000 < n * p AND (k * 1000 >= n * p OR k % (n / 300 + 1) = 0 OR k * 100 >= n * 99) ORDER BY series, k;

WITH r AS (SELECT row_number() OVER (ORDER BY color_index, strategy_id) AS series, run_id
           FROM x_rows WHERE group_id = :group AND counted > 0),
k AS (SELECT series, ms, row_number() OVER (PARTITION BY series ORDER BY ms) AS k,
             count(*) OVER (PARTITION BY series) AS n
      FROM r JOIN v_samples USING (run_id) WHERE metric = 'tpot'),
c AS (SELECT *, CASE WHEN n >= 3688 THEN 999 WHEN n >= 368 THEN 990 WHEN n >= 72 THEN 950
                     WHEN n >= 36 THEN 900 WHEN n >= 6 THEN 500 END AS p FROM k)
SELECT series, max(ms, 0.01) AS ms, min(1.0 * k / n, p / 1e3) AS q FROM c
WHERE (k - 1) * 1000 < n * p AND (k * 1000 >= n * p OR k % (n / 300 + 1) = 0 OR k * 100 >= n * 99) ORDER BY series, k;

WITH r AS (SELECT row_number() OVER (ORDER BY color_index, strategy_id) AS series, run_id
           FROM x_rows WHERE group_id = :group AND counted > 0),
k AS (SELECT series, ms, row_number() OVER (PARTITION BY series ORDER BY ms) AS k,
             count(*) OVER (PARTITION BY series) AS n
      FROM r JOIN v_samples USING (run_id) WHERE metric = 'e2e'),
c AS (SELECT *, CASE WHEN n >= 3688 THEN 999 WHEN n >= 368 THEN 990 WHEN n >= 72 THEN 950
                     WHEN n >= 36 THEN 900 WHEN n >= 6 THEN 500 END AS p FROM k)
SELECT series, max(ms, 0.01) AS ms, min(1.0 * k / n, p / 1e3) AS q FROM c
WHERE (k - 1) * 1000 < n * p AND (k * 1000 >= n * p OR k % (n / 300 + 1) = 0 OR k * 100 >= n * 99) ORDER BY series, k;
