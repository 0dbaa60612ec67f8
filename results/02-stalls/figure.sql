SELECT DISTINCT place AS series, label, place - 1 AS color_index FROM x_gap ORDER BY place;
SELECT place AS series, rate, p99_ms, ttft_ms FROM x_gap WHERE delay_ms <= 10000 ORDER BY place, rate;
SELECT place AS series, (SELECT rate FROM x_capacity c WHERE c.place = x.place AND name = 'strict') AS strict,
       (SELECT rate FROM x_capacity c WHERE c.place = x.place AND name = 'relaxed') AS relaxed
FROM (SELECT DISTINCT place FROM x_gap) x ORDER BY place;
