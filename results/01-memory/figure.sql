SELECT place AS series, label, place - 1 AS color_index FROM x_share ORDER BY place;
SELECT place AS series, tokens, reserved, internal, external, batch FROM x_share JOIN x_batch USING (place)
ORDER BY place;
SELECT place AS series, rate, s_per_token FROM x_latency ORDER BY place, rate;
SELECT place AS series, capacity FROM x_knee ORDER BY place;
