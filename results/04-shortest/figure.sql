SELECT DISTINCT place AS series, label, place - 1 AS color_index FROM x_order ORDER BY place;
SELECT place AS series, rate, mean, ttft_p50, ttft_p99, ttft_max FROM x_order ORDER BY place, rate;
