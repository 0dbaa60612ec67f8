-- title: What the workload looks like
-- about: Arrivals per second as replayed, lengths of prompts and outputs, and how the two lengths go together.
-- rank: 1
-- From the first run of the group; :r is its id. Half-octave bins: 2^(n/2).
SELECT 1 AS series, 'trace' AS label, 0 AS color_index;

WITH e AS (SELECT max(arrival_ns) AS t FROM requests WHERE run_id = :r),
b AS (SELECT CASE WHEN t <= 300000000000 THEN 1000000000 ELSE t / 300 + 1 END AS w FROM e)
SELECT 1 AS series, arrival_ns / w * w / 1e9 AS t_s, count(*) * 1e9 / w AS per_s
FROM requests, b WHERE run_id = :r GROUP BY arrival_ns / w ORDER BY 2;

WITH l AS (SELECT max(prompt_tokens, 1) AS n FROM requests WHERE run_id = :r)
SELECT 1 AS series, CAST(floor(2 * log2(n)) AS INTEGER) AS bin, count(*) AS requests FROM l
GROUP BY bin ORDER BY bin;

WITH l AS (SELECT max(target_output_tokens, 1) AS n FROM requests WHERE run_id = :r)
SELECT 1 AS series, CAST(floor(2 * log2(n)) AS INTEGER) AS bin, count(*) AS requests FROM l
GROUP BY bin ORDER BY bin;

SELECT 1 AS series, prompt_tokens, target_output_tokens FROM requests WHERE run_id = :r
  AND request_id % ((SELECT count(*) FROM requests WHERE run_id = :r) / 2000 + 1) = 0 ORDER BY request_id;
