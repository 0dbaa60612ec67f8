-- title: Latency tails
-- about: Share of requests (reversed logarithmic axis) against latency, per strategy; up and left is better.
-- rank: 5
-- Table 1 is the key: the strategies in the order of their colour. Others: one block per key entry.
SELECT row_number() OVER (ORDER BY color_index, strategy_id) AS series, label, color_index
FROM x_rows WHERE group_id = :group AND counted > 0 ORDER BY 1;

WITH r AS (SELECT row_number() OVER (ORDER BY color_index, strategy_id) AS series, run_id
           FROM x_rows WHERE group_id = :group AND counted > 0),
k AS (SELECT series, ms, row_number() OVER (PARTITION BY series ORDER BY ms) AS k,
             count(*) OVER (PARTITION BY series) AS n
      FROM r JOIN v_samples USING (run_id) WHERE metric = 'ttft')
SELECT series, max(ms, 0.01) AS ms, CASE k WHEN n THEN 1 - 0.5 / n ELSE 1.0 * k / n END AS q FROM k
WHERE k = n OR k % (n / 300 + 1) = 0 OR k * 100 >= n * 99 ORDER BY series, k;

WITH r AS (SELECT row_number() OVER (ORDER BY color_index, strategy_id) AS series, run_id
           FROM x_rows WHERE group_id = :group AND counted > 0),
k AS (SELECT series, ms, row_number() OVER (PARTITION BY series ORDER BY ms) AS k,
             count(*) OVER (PARTITION BY series) AS n
      FROM r JOIN v_samples USING (run_id) WHERE metric = 'tpot')
SELECT series, max(ms, 0.01) AS ms, CASE k WHEN n THEN 1 - 0.5 / n ELSE 1.0 * k / n END AS q FROM k
WHERE k = n OR k % (n / 300 + 1) = 0 OR k * 100 >= n * 99 ORDER BY series, k;

WITH r AS (SELECT row_number() OVER (ORDER BY color_index, strategy_id) AS series, run_id
           FROM x_rows WHERE group_id = :group AND counted > 0),
k AS (SELECT series, ms, row_number() OVER (PARTITION BY series ORDER BY ms) AS k,
             count(*) OVER (PARTITION BY series) AS n
      FROM r JOIN v_samples USING (run_id) WHERE metric = 'e2e')
SELECT series, max(ms, 0.01) AS ms, CASE k WHEN n THEN 1 - 0.5 / n ELSE 1.0 * k / n END AS q FROM k
WHERE k = n OR k % (n / 300 + 1) = 0 OR k * 100 >= n * 99 ORDER BY series, k;
