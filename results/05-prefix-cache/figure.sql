SELECT 1 AS series, 'hash map of blocks, LRU (vLLM v1)' AS label, 0 AS color_index FROM x_hit WHERE place = 1;
SELECT 1 AS series, slots / 1e6 AS capacity_m, 100 * hit AS hit_pct, 100 * offline AS offline_pct FROM x_hit ORDER BY place;
