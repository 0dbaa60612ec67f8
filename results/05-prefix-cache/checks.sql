-- Prompt tokens found in the cache over all prompt tokens. What it is held to: an offline LRU over the same rows'
-- hash ids, in tokens (leading hits times 512 over prompt tokens); tests/test_experiments.c computes it anew.
CREATE TEMP TABLE x_offline (is_small, part, hit, paper);
INSERT INTO x_offline VALUES
 (0, '1M', 0.0539, 0.053),
 (0, '3M', 0.1372, 0.136),
 (0, '10M', 0.2844, 0.285),
 (0, '30M', 0.3548, 0.359),
 (0, '100M', 0.3578, 0.366),
 (1, '1M', 0.0365, 0.053),
 (1, '3M', 0.0463, 0.136);
CREATE TEMP TABLE x_hit AS
SELECT row_number() OVER (ORDER BY x.slots) AS place, x.part, x.slots, o.hit AS offline, o.paper,
       (SELECT 1.0 * sum(cached_tokens) / sum(prompt_tokens) FROM requests q WHERE q.run_id = x.run_id) AS hit
FROM x_run x JOIN x_offline o USING (part) WHERE o.is_small = (SELECT is_small FROM x_conf);

SELECT 'hit rate with ' || part || ' tokens', hit, offline - 0.003, offline + 0.003, printf('%.3f', paper),
       'blocks of running requests and of answers take room in a live cache (README)'
FROM x_hit ORDER BY place;
SELECT 'share of the ideal hits with 3M tokens (a local cache: below a half)', a.hit / b.hit, NULL, 0.5, '0.37',
       CASE (SELECT is_small FROM x_conf) WHEN 1 THEN 'fewer rows need less room' END
FROM x_hit a, x_hit b WHERE a.part = '3M' AND b.part = '100M';
SELECT 'a larger cache never hits less, pairs in order', count(*), n, n, '', NULL
FROM x_hit a JOIN x_hit b ON b.place = a.place + 1 AND b.hit >= a.hit, (SELECT count(*) - 1 AS n FROM x_hit);
