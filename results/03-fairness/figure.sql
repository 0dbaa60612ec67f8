SELECT place AS series, label, place - 1 AS color_index FROM x_last ORDER BY place;
SELECT place AS series, s, gap / 1000 AS gap_k FROM x_gap ORDER BY place, s;
SELECT (place - 1) * 2 + (tenant = 'slow') + 1 AS series, s, service / 1000 AS service_k, label || ', ' || tenant AS what
FROM x_service ORDER BY series, s;
