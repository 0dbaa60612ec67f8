SELECT row_number() OVER (ORDER BY p, place) AS series, part || ': ' || label AS label, p AS color_index
FROM (SELECT *, CASE part WHEN 'ample' THEN 0 WHEN 'pressure' THEN 1 WHEN 'thrash' THEN 2 ELSE 3 END AS p FROM x_cell)
ORDER BY 1;
SELECT row_number() OVER (ORDER BY p, place) AS series, tok_s, tpot_p99, preemptions
FROM (SELECT *, CASE part WHEN 'ample' THEN 0 WHEN 'pressure' THEN 1 WHEN 'thrash' THEN 2 ELSE 3 END AS p FROM x_cell)
ORDER BY 1;
