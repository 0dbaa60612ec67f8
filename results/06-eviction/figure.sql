SELECT row_number() OVER (ORDER BY p, place) AS series, part || iif(base = part, ': ', '/' || base || ': ') || label AS label, p AS color_index
FROM x_cell JOIN x_part USING (part) ORDER BY 1;
SELECT row_number() OVER (ORDER BY p, c.place) AS series, c.tok_s / b.tok_s AS tok, c.tpot_p99 / b.tpot_p99 AS tpot, c.preemptions
FROM x_cell c JOIN x_part USING (part) JOIN x_cell b ON b.part = x_part.base AND b.place = 1 ORDER BY 1;
